"""What a provider is: one vendor or local program that can hear, think or speak for an agent.

A provider is a small object without state. It describes itself (kinds, options, prices) for forms and documentation and
builds LiveKit Agents components from an option set and credentials. Heavy imports happen inside the `build_*` methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from molts.errors import BadConfiguration
from molts.redact import remember_here
from molts.text import clean_text

if TYPE_CHECKING:
    from livekit.agents import llm, stt, tts
    from livekit.agents.voice.avatar import AvatarSession


class Kind(StrEnum):
    """What a provider does: the first three are a pipeline's, an avatar is the face in front of it."""

    STT = "stt"
    LLM = "llm"
    TTS = "tts"
    AVATAR = "avatar"

    @property
    def label(self) -> str:
        """Its name for people."""
        return _LABELS[self]


_LABELS = {
    Kind.STT: "Speech recognition",
    Kind.LLM: "Language model",
    Kind.TTS: "Voice",
    Kind.AVATAR: "Avatar",
}


PIPELINE = (Kind.STT, Kind.LLM, Kind.TTS)
"""The kinds of which every conversation has a chain."""


class Options(BaseModel):
    """Base of every option schema: unknown names are refused, so a typing error cannot pass silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Credentials:
    """Decrypted credentials of one ProviderKey. They live in memory only and never print themselves."""

    api_key: str = field(default="", repr=False)
    base_url: str = ""

    def __post_init__(self) -> None:
        remember_here(self.api_key)  # be it stored, which is known everywhere, or typed to be tried


@dataclass(frozen=True)
class Persona:
    """What a component may need to know about the agent it works for, as plain text."""

    name: str = ""
    language: str = "en"
    instructions: str = ""
    greeting: str = ""
    knowledge: str = ""
    answers: tuple[tuple[str, str], ...] = ()  # (question, answer) pairs

    def __post_init__(self) -> None:
        for name in ("name", "instructions", "greeting", "knowledge"):
            object.__setattr__(self, name, clean_text(getattr(self, name)))
        answers = tuple((clean_text(question), clean_text(answer)) for question, answer in self.answers)
        object.__setattr__(self, "answers", answers)


@dataclass(frozen=True)
class KeyedRung:
    """One step of a chain with its key opened, which a component is built from; it lives in memory only. Chains fall to
    the next one when one fails."""

    provider: str
    options: Mapping[str, Any] = field(default_factory=dict)
    credentials: Credentials = field(default_factory=Credentials)


@dataclass(frozen=True)
class UnitPrice:
    """List price of one unit (`tokens_in`, `tokens_out`, `characters`, `audio_seconds`) of a model, in USD."""

    kind: Kind
    model: str
    unit: str
    price: Decimal


@dataclass(frozen=True)
class Readiness:
    """Whether a provider could serve right now, in words for `doctor`, the admin and the room page."""

    ready: bool
    text: str
    fix: str = ""  # what to do when it is not ready


@dataclass(frozen=True)
class ProbeResult:
    """Outcome of one small real call (`manage.py probe_providers`, "Test connection")."""

    ok: bool
    text: str
    latency_ms: int | None = None
    tried: bool = True
    """False where the server answered, and what it is wanted for could not be tried."""


@dataclass(frozen=True)
class Weights:
    """What a provider lacks on this machine before it can serve, and how to get it."""

    name: str  # for people
    fetch: Callable[[Callable[[int, int], None]], object]
    """Brings them here; tells how many bytes are there, of how many. Raises MoltsError when it cannot."""
    terms: str = ""  # shown before anything is fetched under them
    accepted: bool = True
    ask: Callable[[], bool] | None = None
    """Shows the terms and asks for a yes; False at once without a terminal."""


@dataclass(frozen=True)
class ServerHere:
    """A server of a provider that was found on this machine, though nobody named it."""

    models: Sequence[str]
    first_model: str  # the command that fetches one, where there is none


class Provider:
    """Base class. Subclasses set the class attributes and override the `build_*` methods of the kinds they serve."""

    key: ClassVar[str]
    label: ClassVar[str]
    kinds: ClassVar[frozenset[Kind]]
    options: ClassVar[Mapping[Kind, type[Options]]] = {}
    prices: ClassVar[tuple[UnitPrice, ...]] = ()
    needs_key: ClassVar[bool] = False
    """Whether a ProviderKey must be chosen for it."""
    required: ClassVar[tuple[str, ...]] = ()
    """Options that have no default: without them nothing can be built."""
    local: ClassVar[bool] = False
    """Runs on this box without an account; costs nothing by the minute."""
    last_resort: ClassVar[bool] = False
    """Needs nothing that must be fetched or found, and serves less well than others: the end of a chain."""
    takes_base_url: ClassVar[bool] = False
    """Whether a ProviderKey may name the address that is called."""
    default_base_url: ClassVar[str] = ""
    """The address that is called where the key names none; empty: one must be named."""
    looks_here: ClassVar[bool] = False
    """Whether `find_here` knows where to look."""

    @property
    def takes_key(self) -> bool:
        """Whether a ProviderKey means anything to it: programs on this machine have neither secret nor address."""
        return self.needs_key or self.takes_base_url or not self.local

    @property
    def short_label(self) -> str:
        """The label without what it says in brackets."""
        return self.label.partition(" (")[0]

    def parse_options(self, kind: Kind, options: Mapping[str, Any]) -> Options:
        """Check `options` against the schema of `kind`.

        Raises BadConfiguration naming the provider, the field (also as `attr`) and the reason.
        """
        if kind not in self.kinds:
            raise BadConfiguration(f"{self.label} cannot be used for {kind.value}.")
        try:
            return self.options.get(kind, Options).model_validate(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "options"
            raise BadConfiguration(f"{self.label} ({kind.value}): {where}: {first['msg']}.", attr=where) from error

    def missing(self, options: Options) -> list[str]:
        """Names of the required options that are not set. A connection can be tested without them."""
        return [name for name in self.required if not getattr(options, name)]

    def build_stt(self, *, options: Options, credentials: Credentials, persona: Persona) -> stt.STT[Any]:
        """Speech recogniser. It need not stream: if it does not, the pipeline cuts utterances out for it."""
        raise NotImplementedError

    def build_llm(self, *, options: Options, credentials: Credentials, persona: Persona) -> llm.LLM[Any]:
        """Language model."""
        raise NotImplementedError

    def build_tts(self, *, options: Options, credentials: Credentials, persona: Persona) -> tts.TTS[Any]:
        """Voice."""
        raise NotImplementedError

    async def build_avatar(self, *, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        """A face that a vendor renders; it joins the room as `identity`."""
        raise NotImplementedError

    async def end_avatar(self, avatar: AvatarSession[Any], *, credentials: Credentials) -> None:
        """Put the face out of the room, and end what the vendor charges for. May raise whatever a call can."""
        await avatar.aclose()

    def readiness(self, kind: Kind, options: Options) -> Readiness:
        """Whether it can serve `kind` now, without touching the network. Local providers check their models here."""
        return Readiness(True, "ready")

    def check(self, kind: Kind, *, options: Options, credentials: Credentials) -> Readiness:
        """As `readiness`, and whether the credentials have what a call of `kind` needs. Touches no network either."""
        if self.needs_key and not credentials.api_key:
            return Readiness(False, "its key is not set", "Add a provider key of this vendor and choose it here.")
        return self.readiness(kind, options)

    def own_address(self, url: str) -> str | None:
        """The address behind `url` when it is one that this provider calls without anybody's leave, else None."""
        return None

    def libraries(self) -> Sequence[str]:
        """Modules that the processes of conversations share: imported once, before they are forked."""
        return ()

    def prewarm(self) -> None:
        """Load what the first use would wait for. Blocks; called before a conversation is assigned to a process."""

    def missing_weights(self) -> Weights | None:
        """What is chosen and not on this machine yet; None when nothing needs to be fetched."""
        return None

    def find_here(self) -> ServerHere | None:
        """A server of this provider on this machine, or None when none answers. Blocks for half a second at most."""
        return None

    def defaults(self, kind: Kind) -> Mapping[str, str]:
        """What is taken for options of `kind` that are left empty, where the schema's own default does not say it."""
        return {}

    async def offers(self, kind: Kind, *, credentials: Credentials) -> Mapping[str, Sequence[str]]:
        """What may be chosen for options of `kind`, by their names. May ask a server, and raise whatever that can."""
        return {}

    async def probe(self, kind: Kind, *, options: Options, credentials: Credentials) -> ProbeResult:
        """Make one small real call of `kind`, within 10 s."""
        raise NotImplementedError
