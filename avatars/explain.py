"""What an agent runs on, in words: one rung, and which rungs a conversation would use right now."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from avatars.models import Agent
from avatars.services import resolve_pipeline, snapshot_agent
from avatars.snapshots import AgentSnapshot, Rung
from molts.errors import MoltsError
from projects.models import ProviderKey
from projects.providers import get_provider, provider_label
from projects.providers.base import PIPELINE, Credentials, Kind

KeyNames = Mapping[str, str]
"""Name of each provider key by its id as text."""

OPERATOR_MENDS = "Ask whoever runs this server to set it up."
GONE = "a key that no longer exists"


@dataclass(frozen=True)
class RungState:
    """One rung of a chain right now. `state` is "serves", "next" (waits for the one before to fail) or "skipped"."""

    label: str
    details: str
    state: str
    reason: str = ""
    fix: str = ""


@dataclass(frozen=True)
class ChainState:
    """One kind of a pipeline right now. `why` says where the chain comes from."""

    kind: str
    label: str
    why: str
    rungs: tuple[RungState, ...]

    @property
    def serves(self) -> bool:
        return any(rung.state == "serves" for rung in self.rungs)

    @property
    def skips(self) -> bool:
        return any(rung.state == "skipped" for rung in self.rungs)


def explain_pipeline(*, agent: Agent) -> list[ChainState]:
    """What a conversation that starts now would use, by what is installed here. Calls no vendor."""
    snapshot = snapshot_agent(agent)
    chains = resolve_pipeline(snapshot=snapshot)
    keys = {str(key.pk): key for key in ProviderKey.objects.filter(project_id=agent.project_id)}
    return [
        ChainState(
            kind=kind.value,
            label=kind.label,
            why=_why(kind, snapshot),
            rungs=tuple(_states(kind, chains[kind], keys)),
        )
        for kind in PIPELINE
    ]


def _why(kind: Kind, snapshot: AgentSnapshot) -> str:
    chosen = bool(snapshot.steps(kind))
    if kind is Kind.TTS and snapshot.voice:
        below = "then the rows below" if chosen else "then this server's simplest voice"
        return f"The voice {snapshot.voice.name} speaks first, {below}."
    return (
        "The rows below, in their order." if chosen else "No row is chosen: these are the usual parts of this server."
    )


def _states(kind: Kind, rungs: Iterable[Rung], keys: Mapping[str, ProviderKey]) -> Iterable[RungState]:
    names = {key_id: key.name for key_id, key in keys.items()}
    served = False
    for rung in rungs:
        reason, fix = _trouble(kind, rung, keys)
        state = "skipped" if reason else "next" if served else "serves"
        served = served or state == "serves"
        yield RungState(provider_label(rung.provider), rung_details(kind, rung, names), state, reason, fix)


def _trouble(kind: Kind, rung: Rung, keys: Mapping[str, ProviderKey]) -> tuple[str, str]:
    """Why this rung cannot serve and how to mend it; ("", "") when it can."""
    try:
        provider = get_provider(rung.provider)
        options = provider.parse_options(kind, rung.options)
        readiness = provider.check(kind, options=options, credentials=_credentials(rung, keys))
    except MoltsError as error:
        return error.detail.rstrip("."), ""
    if readiness.ready:
        return "", ""
    # What a program on this machine lacks is in the operator's hands, and `manage.py doctor` has the words for them.
    on_this_machine = provider.local and not provider.takes_base_url
    return readiness.text, OPERATOR_MENDS if on_this_machine else readiness.fix


def _credentials(rung: Rung, keys: Mapping[str, ProviderKey]) -> Credentials:
    key = keys.get(rung.provider_key or "")
    return (
        Credentials(api_key=key.reveal() if key.secret_cipher else "", base_url=key.base_url) if key else Credentials()
    )


# -- In words ---------------------------------------------------------------------------------------------------------
def key_names(*, project_id: uuid.UUID) -> dict[str, str]:
    return {str(pk): name for pk, name in ProviderKey.objects.filter(project_id=project_id).values_list("pk", "name")}


def rung_details(kind: Kind, rung: Rung, names: KeyNames) -> str:
    """ "model small, temperature 0.5, key Vendor": what is chosen, and the model or voice that is taken otherwise."""
    options = dict(rung.options)
    try:
        defaults = get_provider(rung.provider).defaults(kind)
    except MoltsError:
        defaults = {}
    shown = {name: options.pop(name, "") or defaults.get(name, "") for name in ("model", "voice")} | options
    parts = [
        f"{option_label(name).lower()} {_value(value)}" for name, value in shown.items() if value not in ("", None)
    ]
    if rung.provider_key:
        parts.append(f"key {names.get(rung.provider_key, GONE)}")
    return ", ".join(parts)


def describe_rung(kind: Kind, rung: Rung, names: KeyNames) -> str:
    details = rung_details(kind, rung, names)
    return f"{provider_label(rung.provider)}: {details}" if details else provider_label(rung.provider)


def option_label(name: str) -> str:
    """ "first_chunk_timeout" -> "First chunk timeout"."""
    return name.replace("_", " ").capitalize()


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    text = str(value)
    return text.rstrip("/").rsplit("/", 1)[-1] if text.startswith("/") else text  # of a folder its name is enough
