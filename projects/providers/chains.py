"""Building one component out of a chain of rungs.

One usable rung gives the component itself; several give LiveKit's fallback adapter, which moves down when a rung fails
and up again when it recovers. Rungs that cannot be built (no model, no key) are left out with a reason.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from molts.errors import BadConfiguration, MoltsError
from molts.redact import remember_here
from projects.providers import get_provider, provider_label
from projects.providers.base import KeyedRung, Kind, Persona
from projects.providers.shared.livekit_private import (
    active_component,
    is_available,
    leave_metrics_to_wrapped,
    note_available,
    wrapped,
)
from projects.providers.shared.speaking import in_words

if TYPE_CHECKING:
    from livekit.agents import llm, stt, tts, vad

logger = logging.getLogger(__name__)

LLM_SOCKET_SECONDS = 60.0
"""Socket timeout of a language model in a chain. What matters sooner is its own deadline (`first_chunk_timeout`)."""

Component = Any
"""An stt.STT, llm.LLM or tts.TTS; which one follows from the kind."""


@dataclass(frozen=True)
class Skipped:
    """A rung that is not part of the chain, and why."""

    index: int
    provider: str
    reason: str


@dataclass(frozen=True)
class BuiltRung:
    """A rung that is part of the chain. `index` is its place in the list that was asked for."""

    index: int
    provider: str
    component: Component


@dataclass(frozen=True)
class AvailabilityChange:
    """A rung went out of service or came back; `active` serves from now on (None: none does). `reason` is for admins:
    the vendor's own words, without the key."""

    kind: Kind
    rung: BuiltRung
    available: bool
    active: BuiltRung | None
    reason: str = ""


@dataclass
class Chain:
    """The component to hand to the session and what is known about its rungs."""

    kind: Kind
    component: Component
    rungs: list[BuiltRung]
    skipped: list[Skipped] = field(default_factory=list)
    adapter: Component = None
    """LiveKit's fallback adapter, when there are several rungs."""
    _down: set[int] = field(default_factory=set)
    _reasons: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._callbacks: list[Callable[[AvailabilityChange], None]] = []
        for rung in self.rungs:
            rung.component.on("error", partial(self._note_error, rung))
        if self.adapter is not None:
            self.adapter.on(f"{self.kind.value}_availability_changed", self._availability_changed)

    @property
    def active(self) -> BuiltRung | None:
        """The rung that serves the next request: the first that is not out of service."""
        return next((rung for rung in self.rungs if rung.index not in self._down), None)

    @property
    def served_last(self) -> BuiltRung:
        """The rung whose words or sound came last."""
        if self.adapter is None:
            return self.rungs[0]
        return self._rung_of(active_component(self.adapter, self.kind)[1])

    @property
    def reason(self) -> str:
        """Why rungs of it do not serve, best rung first; "" while nothing is known."""
        known = {skip.index: f"{provider_label(skip.provider)}: {skip.reason}" for skip in self.skipped} | self._reasons
        return " ".join(f"{known[index].rstrip('.')}." for index in sorted(known))

    def note_served(self) -> None:
        """A request was answered. LiveKit's adapters go on taking a rung for lost that answered when all were lost."""
        if self.adapter is None:
            self._reasons.clear()
            return
        rung = self.served_last
        self._reasons.pop(rung.index, None)
        note_available(self.adapter, self._place_served_last)
        if rung.index in self._down:
            self._change(rung, available=True)

    def try_all_again(self) -> None:
        """Before a request: when no rung is left, each may serve again. LiveKit's adapters try them all then, but do
        not tell of one that fails once more."""
        if self.adapter is not None and self.active is None:
            for place in range(len(self.rungs)):
                note_available(self.adapter, place)

    @property
    def broke_off(self) -> bool:
        """Whether the rung that served last has failed since: an adapter ends its sound as if all were said."""
        return self.adapter is not None and not is_available(self.adapter, self._place_served_last)

    @property
    def _place_served_last(self) -> int:
        return active_component(self.adapter, self.kind)[0]

    @property
    def fell_back(self) -> bool:
        """Whether something else than the first rung asked for serves."""
        return self.active is None or self.active.index != 0

    def on_change(self, callback: Callable[[AvailabilityChange], None]) -> None:
        """Call `callback` from the event loop whenever a rung goes out of service or comes back."""
        self._callbacks.append(callback)

    async def aclose(self) -> None:
        """Close from the outside in; adapters leave what they wrap open."""
        opened = [self.component, self.adapter, *(rung.component for rung in self.rungs)]
        for part in {id(part): part for part in opened if part is not None}.values():
            await part.aclose()

    def _note_error(self, rung: BuiltRung, event: Any) -> None:
        text = in_words(event.error)
        self._reasons[rung.index] = f"{provider_label(rung.provider)}: {text}"

    def _availability_changed(self, event: Any) -> None:
        self._change(self._rung_of(getattr(event, self.kind.value)), available=event.available)

    def _change(self, rung: BuiltRung, *, available: bool) -> None:
        if available:
            self._down.discard(rung.index)
            self._reasons.pop(rung.index, None)
        else:
            self._down.add(rung.index)
        reason = "" if available else self._reasons.get(rung.index, "")
        change = AvailabilityChange(self.kind, rung, available, self.active, reason)
        logger.warning("provider availability changed", extra=_log_fields(change))
        for callback in self._callbacks:
            callback(change)

    def _rung_of(self, component: Component) -> BuiltRung:
        for rung in self.rungs:
            if rung.component in (component, wrapped(component)):
                return rung
        raise LookupError("the adapter reported a component that is not of this chain")


def build_chain(kind: Kind, rungs: Sequence[KeyedRung], persona: Persona, *, vad: vad.VAD | None = None) -> Chain:
    """Build `rungs` (best first) into one component of `kind`.

    `vad` wraps recognisers that do not stream. Raises BadConfiguration, with every reason, when no rung can be built.
    """
    built: list[BuiltRung] = []
    skipped: list[Skipped] = []
    for index, rung in enumerate(rungs):
        try:
            built.append(BuiltRung(index, rung.provider, _build(kind, rung, persona)))
        except (MoltsError, ImportError, OSError, ValueError) as error:
            reason = error.detail if isinstance(error, MoltsError) else f"{type(error).__name__}: {error}"
            skipped.append(Skipped(index, rung.provider, reason))
            logger.warning("provider skipped", extra={"kind": kind.value, "provider": rung.provider, "reason": reason})
    if not built:
        reasons = " ".join(f"{skip.provider}: {skip.reason}" for skip in skipped) or "Nothing is chosen."
        raise BadConfiguration(f"{kind.label}: nothing can serve. {reasons}", attr=kind.value)
    component, adapter = _combine(kind, [rung.component for rung in built], vad)
    return Chain(kind, component, built, skipped, adapter)


def _build(kind: Kind, rung: KeyedRung, persona: Persona) -> Component:
    provider = get_provider(rung.provider)
    options = provider.parse_options(kind, rung.options)
    if provider.needs_key and not rung.credentials.api_key:
        raise BadConfiguration(f"{provider.label} needs an API key. Add one to the project and choose it here.")
    remember_here(rung.credentials.api_key)  # it may have been opened in another thread
    build = {Kind.STT: provider.build_stt, Kind.LLM: provider.build_llm, Kind.TTS: provider.build_tts}[kind]
    return build(options=options, credentials=rung.credentials, persona=persona)


def _combine(kind: Kind, components: list[Component], vad: vad.VAD | None) -> tuple[Component, Component]:
    """The component for the session, and the fallback adapter in it (None for a single rung)."""
    match kind:
        case Kind.STT:
            return _combine_stt(components, vad)
        case Kind.LLM:
            return _combine_llm(components)
        case Kind.TTS:
            return _combine_tts(components)
        case Kind.AVATAR:
            raise ValueError("A face is no part of a pipeline.")


def _combine_stt(components: list[stt.STT[Any]], vad: vad.VAD | None) -> tuple[Component, Component]:
    from livekit.agents import stt

    from projects.providers.shared.live import LiveAdapter

    if len(components) == 1:
        only = components[0]
        return (LiveAdapter(stt=only, vad=vad) if vad and not only.capabilities.streaming else only), None
    if vad is None and any(not part.capabilities.streaming for part in components):
        raise BadConfiguration("A chain of recognisers that do not stream needs a voice activity detector.")
    for part in components[:-1]:
        if hurry := getattr(part, "hurry", None):  # somebody comes after it
            hurry()
    none_streams = not any(part.capabilities.streaming for part in components)
    adapter = stt.FallbackAdapter([_streaming(part, vad) for part in components], max_retry_per_stt=0)
    if vad is not None and none_streams:
        # Cut utterances out once, in front of the adapter: what one rung fails to hear is then given to the next.
        return LiveAdapter(stt=adapter, vad=vad), adapter
    return adapter, adapter


def _streaming(component: stt.STT[Any], vad: vad.VAD | None) -> stt.STT[Any]:
    from livekit.agents import stt

    if component.capabilities.streaming or vad is None:
        return component
    wrapper = stt.StreamAdapter(stt=component, vad=vad)
    leave_metrics_to_wrapped(wrapper)
    return wrapper


def _combine_llm(components: list[llm.LLM[Any]]) -> tuple[Component, Component]:
    from livekit.agents import llm

    if len(components) == 1:
        return components[0], None
    adapter = llm.FallbackAdapter(components, attempt_timeout=LLM_SOCKET_SECONDS)
    return adapter, adapter


def _combine_tts(components: list[tts.TTS[Any]]) -> tuple[Component, Component]:
    from livekit.agents import tts

    from projects.providers.shared.pieces import speaking_in_pieces

    voices = [speaking_in_pieces(component) for component in components]
    if len(voices) == 1:
        return voices[0], None
    adapter = tts.FallbackAdapter(voices, max_retry_per_tts=0)
    return adapter, adapter


def _log_fields(change: AvailabilityChange) -> dict[str, object]:
    return {
        "kind": change.kind.value,
        "provider": change.rung.provider,
        "available": change.available,
        "active": change.active.provider if change.active else None,
    }
