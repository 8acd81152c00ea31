"""Revisions as people read them: what changed from one to the next, and the way back to one."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction

from avatars.explain import KeyNames, describe_rung
from avatars.faces import describe_face
from avatars.languages import language_name
from avatars.models import Agent, AgentAnswer, AgentRevision, Avatar, PipelineStep, Voice
from avatars.services import save_agent_revision, snapshot_avatar, snapshot_voice, validate_agent
from avatars.snapshots import AgentSnapshot, AvatarSnapshot, VoiceSnapshot
from avatars.turn_taking import describe_turn_taking
from molts.errors import BadInput
from projects.models import ProviderKey
from projects.providers.base import PIPELINE, Kind

P = TypeVar("P", Voice, Avatar)

MOST_LINES = 2_000
TEXTS = ("name", "slug", "description", "language", "instructions", "greeting", "knowledge")


@dataclass(frozen=True)
class Line:
    """One line of a text that changed. `mark` is "+" (new), "-" (gone), " " (the same) or "…" (a remark of ours)."""

    mark: str
    text: str


@dataclass(frozen=True)
class Change:
    """One part that differs: `lines` for long texts, else `old` and `new`."""

    label: str
    old: str
    new: str
    lines: tuple[Line, ...] = ()


# -- Reading ----------------------------------------------------------------------------------------------------------
def describe_snapshot(*, snapshot: AgentSnapshot, names: KeyNames) -> dict[str, str]:
    """Everything in a snapshot by its label, as text; lists have one line for each part. "" is not set."""
    described = {name.capitalize(): str(getattr(snapshot, name)) for name in TEXTS}
    described["Language"] = language_name(described["Language"])
    described["Questions and answers"] = "\n".join(
        f"{question.replace(chr(10), ' | ')} → {answer}" for question, answer in snapshot.answers
    )
    voice, avatar = snapshot.voice, snapshot.avatar
    described["Voice"] = f"{voice.name} ({describe_rung(Kind.TTS, voice.rung, names)})" if voice else ""
    described["Avatar"] = f"{avatar.name} ({describe_face(avatar, names)})" if avatar else ""
    for kind in PIPELINE:
        described[f"Pipeline: {kind.label.lower()}"] = "\n".join(
            f"{place}. {describe_rung(kind, rung, names)}" for place, rung in enumerate(snapshot.steps(kind), 1)
        )
    described["Turn-taking"] = describe_turn_taking(snapshot.turn)
    described["Longest conversation"] = f"{snapshot.limits.max_minutes} minutes"
    silence = snapshot.limits.silence_seconds
    described["Ends after silence"] = f"{silence} seconds" if silence else "never"
    return described


def compare_snapshots(*, before: AgentSnapshot, after: AgentSnapshot, names: KeyNames) -> list[Change]:
    """What differs, in words, in the order of the editor."""
    old, new = (describe_snapshot(snapshot=snapshot, names=names) for snapshot in (before, after))
    changes = [_change(label, old[label], new[label]) for label in new if old[label] != new[label]]
    # The same words can hide another object: a portrait that was replaced, a key of the same name.
    hidden = {"avatar": "Avatar", "voice": "Voice", "pipeline": "Pipeline"}
    seen = {change.label.split(":")[0] for change in changes}
    return changes + [
        Change(label, "as before by name", "another one of the same name")
        for part, label in hidden.items()
        if getattr(before, part) != getattr(after, part) and label not in seen
    ]


def _change(label: str, old: str, new: str) -> Change:
    if "\n" not in old + new and len(old) + len(new) < 200:
        return Change(label, old, new)
    return Change(label, old, new, tuple(_compare_lines(old.splitlines(), new.splitlines())))


def _compare_lines(old: list[str], new: list[str]) -> Iterator[Line]:
    """Whole lines alone: to look for what changed within them takes minutes where many did."""
    before, after = old[:MOST_LINES], new[:MOST_LINES]
    for kind, start, end, new_start, new_end in difflib.SequenceMatcher(None, before, after).get_opcodes():
        if kind == "equal":
            yield from (Line(" ", text) for text in before[start:end])
        else:
            yield from (Line("-", text) for text in before[start:end])
            yield from (Line("+", text) for text in after[new_start:new_end])
    if max(len(old), len(new)) > MOST_LINES:
        yield Line("…", f"Only the first {MOST_LINES:,} lines are compared here.")


# -- Going back -------------------------------------------------------------------------------------------------------
def roll_back(*, revision: AgentRevision, user: AbstractBaseUser | None = None) -> AgentRevision:
    """Make the agent what it was in `revision`; returns the revision that says so, a new one if anything differs.

    Conversations keep pointing at the revision that answered them. Raises BadInput, and changes nothing, when a part
    of it is no longer there: a key, a voice or a face that was deleted or is another one now.
    """
    then = revision.agent_snapshot
    with transaction.atomic():
        agent = Agent.objects.select_for_update(of=("self",)).get(pk=revision.agent_id)
        for name in TEXTS:
            setattr(agent, name, getattr(then, name))
        for settings in (then.turn, then.limits):
            for name in type(settings).model_fields:
                setattr(agent, name, getattr(settings, name))
        voices = Voice.objects.filter(project_id=agent.project_id)
        avatars = Avatar.objects.filter(project_id=agent.project_id)
        agent.voice = _as_then(then.voice, voices, own=agent.voice_id, read=snapshot_voice, what="voice")
        agent.avatar = _as_then(then.avatar, avatars, own=agent.avatar_id, read=snapshot_avatar, what="face")
        _save_checked(agent)
        agent.answers.all().delete()
        AgentAnswer.objects.bulk_create(
            AgentAnswer(agent=agent, position=place, question=question, answer=answer)
            for place, (question, answer) in enumerate(then.answers, 1)
        )
        agent.pipeline_steps.all().delete()
        for kind in PIPELINE:
            for place, rung in enumerate(then.steps(kind), 1):
                PipelineStep.objects.create(
                    agent=agent,
                    kind=kind,
                    position=place,
                    provider=rung.provider,
                    options=rung.options,
                    provider_key=_key_of(agent, rung.provider_key, f"{kind.label}, row {place}"),
                )
        validate_agent(agent)
        return save_agent_revision(agent=agent, user=user)


def _save_checked(agent: Agent) -> None:
    try:
        agent.full_clean()
    except ValidationError as error:
        raise BadInput(f"This revision does not fit any more. {' '.join(error.messages)}") from error
    agent.save()


def _key_of(agent: Agent, key_id: str | None, where: str) -> ProviderKey | None:
    if key_id is None:
        return None
    key = ProviderKey.objects.filter(pk=key_id, project_id=agent.project_id).first()
    if key is None:
        raise BadInput(f"{where}: the key of this revision was deleted. Choose another key in the editor.")
    return key


def _as_then(
    then: VoiceSnapshot | AvatarSnapshot | None,
    parts: Iterable[P],
    *,
    own: uuid.UUID | None,
    read: Callable[[P], VoiceSnapshot | AvatarSnapshot],
    what: str,
) -> P | None:
    """The voice or face among `parts` that is today what the revision says; the agent's `own` goes first."""
    if then is None:
        return None
    same = [part for part in parts if read(part) == then]
    if not same:
        raise BadInput(
            f"The {what} {then.name} of this revision was deleted or changed since. "
            f"Choose a {what} in the editor, or set {then.name} up again as it was."
        )
    return next((part for part in same if part.pk == own), same[0])
