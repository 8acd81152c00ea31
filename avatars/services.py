"""What can be done with agents: check them, resolve what they run on, keep every change as a revision."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.utils.text import slugify

from avatars.models import Agent, AgentAnswer, AgentRevision, Avatar, PipelineStep, Voice
from avatars.snapshots import AgentSnapshot, AvatarSnapshot, ConversationLimits, Rung, TurnSettings, VoiceSnapshot
from molts.errors import BadConfiguration, BadInput
from projects.models import ProviderKey
from projects.providers import get_provider
from projects.providers.base import PIPELINE, Credentials, KeyedRung, Kind


def save_agent_revision(*, agent: Agent, user: AbstractBaseUser | None = None) -> AgentRevision:
    """Keep the agent as it is stored now, with answers, pipeline, voice and face.

    Returns the last revision when nothing differs from it, else a new one with the next number. Call it after every
    change of the agent or of what hangs on it.
    """
    with transaction.atomic():
        # The agent's row is the lock: two editors who save at once get two numbers, one after the other.
        stored = Agent.objects.select_for_update(of=("self",)).get(pk=agent.pk)
        snapshot = snapshot_agent(stored)
        last = stored.revisions.order_by("-number").first()
        if last is not None and last.agent_snapshot == snapshot:
            return last
        return AgentRevision.objects.create(
            agent=stored,
            number=last.number + 1 if last else 1,
            snapshot=snapshot.as_json(),
            created_by_id=user.pk if user else None,
        )


def edited_since(*, agent: Agent, number: int) -> AgentRevision | None:
    """The newest revision when the agent itself was changed after revision `number`; to be asked in a transaction.

    A voice or face that is set up anew under its name makes a revision too, but saving the agent does not undo that.
    """
    # The agent's row is the lock: of two editors who save at once the second is told.
    newest = Agent.objects.select_for_update(of=("self",)).get(pk=agent.pk).revisions.first()
    if newest is None or newest.number <= number:
        return None
    seen = agent.revisions.filter(number=number).first()
    return newest if seen is None or _without_parts(seen) != _without_parts(newest) else None


def _without_parts(revision: AgentRevision) -> tuple[AgentSnapshot, list[str]]:
    """The snapshot with the names alone of what has an editor of its own."""
    snapshot = revision.agent_snapshot
    names = [part.name if part else "" for part in (snapshot.voice, snapshot.avatar)]
    return snapshot.model_copy(update={"voice": None, "avatar": None}), names


def duplicate_agent(*, agent: Agent, user: AbstractBaseUser | None = None) -> Agent:
    """A copy in the same project, with answers and pipeline, under a name and slug of its own. Links stay behind."""
    with transaction.atomic():
        answers, steps = list(agent.answers.all()), list(agent.pipeline_steps.all())
        fields = {field.attname: getattr(agent, field.attname) for field in agent._meta.concrete_fields}
        for name in ("id", "created_at", "updated_at"):
            del fields[name]
        name = f"{agent.name} (copy)"[: Agent._meta.get_field("name").max_length]
        fields |= {"name": name, "slug": free_slug(project_id=agent.project_id, name=f"{agent.slug}-copy")}
        copy = Agent.objects.create(**fields)
        parts: list[AgentAnswer | PipelineStep] = [*answers, *steps]
        for part in parts:
            part.pk, part.agent, part._state.adding = None, copy, True
            part.save()
        save_agent_revision(agent=copy, user=user)
    return copy


def free_slug(*, project_id: uuid.UUID, name: str) -> str:
    """A slug made of `name` that no agent of the project has: "mira", "mira-2"."""
    longest = Agent._meta.get_field("slug").max_length or 60
    base = slugify(name)[: longest - 5].strip("-") or "agent"
    taken = set(Agent.objects.filter(project_id=project_id, slug__startswith=base).values_list("slug", flat=True))
    return next(slug for slug in (base, *(f"{base}-{count}" for count in range(2, 10_000))) if slug not in taken)


def snapshot_agent(agent: Agent) -> AgentSnapshot:
    """The agent with its answers, steps, voice and avatar as they are now."""
    pipeline: dict[str, list[Rung]] = {kind.value: [] for kind in PIPELINE}
    for step in agent.pipeline_steps.all():
        pipeline[step.kind].append(snapshot_step(step))
    return AgentSnapshot(
        name=agent.name,
        slug=agent.slug,
        description=agent.description,
        language=agent.language,
        instructions=agent.instructions,
        greeting=agent.greeting,
        knowledge=agent.knowledge,
        answers=tuple((answer.question, answer.answer) for answer in agent.answers.all()),
        voice=snapshot_voice(agent.voice) if agent.voice else None,
        avatar=snapshot_avatar(agent.avatar) if agent.avatar else None,
        pipeline={kind: tuple(rungs) for kind, rungs in pipeline.items()},
        turn=TurnSettings(**{name: getattr(agent, name) for name in TurnSettings.model_fields}),
        limits=ConversationLimits(**{name: getattr(agent, name) for name in ConversationLimits.model_fields}),
    )


def snapshot_step(step: PipelineStep) -> Rung:
    """One row of an agent's pipeline."""
    return Rung(provider=step.provider, options=step.options or {}, provider_key=_key_id(step))


def snapshot_voice(voice: Voice) -> VoiceSnapshot:
    """The voice as it is now."""
    return VoiceSnapshot(
        name=voice.name, provider=voice.provider, options=voice.options or {}, provider_key=_key_id(voice)
    )


def snapshot_avatar(avatar: Avatar) -> AvatarSnapshot:
    """The avatar as it is now."""
    return AvatarSnapshot(
        name=avatar.name,
        engine=avatar.engine,
        options=avatar.options,
        provider_key=_key_id(avatar),
        builtin=avatar.builtin,
        portrait=avatar.portrait.name or "",
    )


def _key_id(part: PipelineStep | Voice | Avatar) -> str | None:
    return str(part.provider_key_id) if part.provider_key_id else None


def default_pipeline() -> dict[Kind, tuple[Rung, ...]]:
    """What an agent runs on where nothing was chosen: local parts only, the plainest as the last rung."""
    return {
        Kind.STT: (Rung(provider="faster_whisper"), Rung(provider="pocketsphinx")),
        Kind.LLM: (Rung(provider="scripted"),),
        Kind.TTS: (Rung(provider="supertonic"), Rung(provider="espeak")),
    }


def resolve_pipeline(*, snapshot: AgentSnapshot) -> dict[Kind, tuple[Rung, ...]]:
    """The chains a snapshot runs on: its own steps, and the defaults for a kind without any. None is empty.

    The agent's voice always speaks first; steps of kind Voice are what takes over when it fails. Without any, that is
    the last default rung.
    """
    has_voice = snapshot.voice is not None
    chains = {kind: snapshot.steps(kind) or _default_rungs(kind, has_voice=has_voice) for kind in PIPELINE}
    if snapshot.voice:
        spoken = snapshot.voice.rung
        chains[Kind.TTS] = (spoken, *(rung for rung in chains[Kind.TTS] if not _repeats(rung, spoken)))
    return chains


def resolve_snapshot(snapshot: AgentSnapshot) -> AgentSnapshot:
    """The agent as a conversation with it starts: with the chains that it runs on."""
    chains = {kind.value: rungs for kind, rungs in resolve_pipeline(snapshot=snapshot).items()}
    return snapshot.model_copy(update={"pipeline": {**snapshot.pipeline, **chains}})


def credentials_of(*, project_id: uuid.UUID | None, key_id: str | None) -> Credentials:
    """The opened key of a rung. None of the project's: none, and the chain skips the rung and says so.

    Raises BadConfiguration when the stored secret cannot be decrypted.
    """
    # Fetched through the project: a snapshot that names another project's key must not open it.
    key = ProviderKey.objects.filter(pk=key_id, project_id=project_id).first() if key_id and project_id else None
    return Credentials(api_key=key.reveal(), base_url=key.base_url) if key else Credentials()


def open_rungs(*, project_id: uuid.UUID | None, rungs: Iterable[Rung]) -> tuple[KeyedRung, ...]:
    """The steps of a chain with their keys opened, to build it of."""
    return tuple(
        KeyedRung(
            provider=rung.provider,
            options=rung.options,
            credentials=credentials_of(project_id=project_id, key_id=rung.provider_key),
        )
        for rung in rungs
    )


def _default_rungs(kind: Kind, *, has_voice: bool) -> tuple[Rung, ...]:
    default = default_pipeline()[kind]
    # A chosen voice replaces the default one, not the last rung below it.
    return default[-1:] if kind is Kind.TTS and has_voice else default


def keep_default_rungs(*, agent: Agent, kinds: Iterable[Kind]) -> list[PipelineStep]:
    """Put what served while these kinds had no row below their first rows, as the fallback. Returns what was added.

    Rows replace the usual parts; without this, whoever adds a model would lose what answers when it fails.
    """
    made: list[PipelineStep] = []
    for kind in kinds:
        steps = list(agent.pipeline_steps.filter(kind=kind))
        chosen = [snapshot_step(step) for step in steps]
        defaults = _default_rungs(kind, has_voice=agent.voice_id is not None)
        below = [rung for rung in defaults if not any(_repeats(rung, one) for one in chosen)]
        last = max((step.position for step in steps), default=0)
        made += [
            PipelineStep(agent=agent, kind=kind, position=last + place, provider=rung.provider)
            for place, rung in enumerate(below, start=1)
        ]
    return PipelineStep.objects.bulk_create(made)


def validate_agent(agent: Agent) -> None:
    """Raise BadInput when the stored agent could not hold a conversation as it is set up."""
    if agent.max_endpointing_ms < agent.min_endpointing_ms:
        raise BadInput("The longest wait must not be shorter than the shortest.", attr="max_endpointing_ms")
    for name, part in (("voice", agent.voice), ("avatar", agent.avatar)):
        if part is not None and part.project_id != agent.project_id:
            raise BadInput(f"This {name} belongs to another project.", attr=name)
    if agent.voice:
        validate_rung(
            project_id=agent.project_id,
            kind=Kind.TTS,
            provider=agent.voice.provider,
            options=agent.voice.options,
            provider_key=agent.voice.provider_key,
        )
    for step in agent.pipeline_steps.select_related("provider_key"):
        validate_rung(
            project_id=agent.project_id,
            kind=Kind(step.kind),
            provider=step.provider,
            options=step.options,
            provider_key=step.provider_key,
        )


def validate_rung(
    *, project_id: uuid.UUID, kind: Kind, provider: str, options: Mapping[str, Any], provider_key: ProviderKey | None
) -> None:
    """Check one step or voice.

    Raises BadInput; `attr` is the field to mend: provider, provider_key, options, or `options.<name>` for one of them.
    """
    try:
        chosen = get_provider(provider)
    except BadConfiguration as error:
        raise BadInput(error.detail, attr="provider") from error
    if kind not in chosen.kinds:
        use = "a face" if kind is Kind.AVATAR else kind.label.lower()
        raise BadInput(f"{chosen.label} cannot be used for {use}.", attr="provider")
    if not isinstance(options, Mapping):
        raise BadInput('Options are a JSON object, for example {"voice": "..."}.', attr="options")
    try:
        chosen.parse_options(kind, options)
    except BadConfiguration as error:
        raise BadInput(error.detail, attr=f"options.{error.attr}" if error.attr else "options") from error
    validate_key(project_id=project_id, provider=provider, provider_key=provider_key)


def validate_key(*, project_id: uuid.UUID, provider: str, provider_key: ProviderKey | None) -> None:
    """Raise BadInput when the provider cannot be used with this key, or needs one."""
    chosen = get_provider(provider)
    if provider_key is None:
        if chosen.needs_key:
            raise BadInput(f"{chosen.label} needs a key: choose one, or add one first.", attr="provider_key")
    elif provider_key.project_id != project_id:
        raise BadInput("This key belongs to another project.", attr="provider_key")
    elif provider_key.provider != provider:
        raise BadInput(f"This key is for {provider_key.provider}, not for {provider}.", attr="provider_key")


def _repeats(rung: Rung, spoken: Rung) -> bool:
    # The same program with default options would fail for the same reason.
    bare = not rung.options and not rung.provider_key
    return rung == spoken or (bare and rung.provider == spoken.provider)
