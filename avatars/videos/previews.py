"""Clips of a face that speaks, made while somebody waits.

A page asks for a clip and gets a ticket, the id of a job; what becomes of it stands in the job's row, so any web
process can answer. One person has one clip in the making at a time: asking again drops the one before.
"""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.core.files.base import ContentFile
from django.db import IntegrityError
from django.utils import timezone
from pydantic import BaseModel, ConfigDict

from avatars.engines.base import Face
from avatars.listening import speak_sample
from avatars.models import Avatar
from avatars.services import default_pipeline
from avatars.snapshots import Rung
from avatars.videos import services
from avatars.videos.choices import LIVE_STATES, JobKind, JobState
from avatars.videos.clips import DROPPED, render_clip
from avatars.videos.models import VideoJob
from avatars.videos.queue import RENDER_COMMAND
from avatars.videos.work import Made, Work
from molts import beats
from molts.errors import Busy, MoltsError, NotFound, Unavailable
from projects.models import ProviderKey
from projects.providers.base import Kind

MOST_WAITING = 6
MOST_TRIES = 10
UNSERVED_AFTER = timedelta(seconds=10)
"""Since it was sent to the workers: one that is started anew is back by then."""
UNSERVED = (
    f"No worker makes previews: the part `render` does not run. Start it with `make up`, or by itself: {RENDER_COMMAND}"
)
STATES = {
    JobState.QUEUED: "waiting",
    JobState.RUNNING: "rendering",
    JobState.DONE: "done",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "failed",
}


@dataclass(frozen=True)
class PreviewState:
    """What became of a ticket. `state` is "waiting", "rendering", "done" or "failed"; `progress` 0 to 1."""

    state: str
    stage: str = "Waiting"
    progress: float = 0.0
    error: str = ""
    attr: str = ""
    media_type: str = ""


class PreviewOrder(BaseModel):
    """What is to be made, as the job's row keeps it. `keep_for` is the avatar whose preview it becomes."""

    model_config = ConfigDict(frozen=True)

    engine: str
    face_key: str
    face_name: str
    options: dict[str, Any]
    text: str
    language: str
    voice: Rung | None
    sound: bool
    keep_for: uuid.UUID | None


# -- Asking for one ---------------------------------------------------------------------------------------------------
def start_preview(
    *,
    user_id: int,
    engine: str,
    face: Face,
    text: str,
    language: str = "en",
    voice: tuple[Rung, ProviderKey | None] | None = None,
    sound: bool = True,
    keep_for: uuid.UUID | None = None,
    project_id: uuid.UUID | None = None,
) -> str:
    """Begin a clip of `face` (checked before) saying `text`; returns the ticket to ask for it.

    Without `voice`, the best voice of this server speaks. The picture is copied: the caller's file may go.
    Raises Busy when too many wait, and Unavailable when no worker can be told of it.
    """
    order = PreviewOrder(
        engine=engine,
        face_key=face.key,
        face_name=face.name,
        options=dict(face.options),
        text=text,
        language=language,
        voice=_rung(voice),
        sound=sound,
        keep_for=keep_for,
    )
    job = _replace_job(user_id, order, face.portrait, project_id)
    services.send_job(job=job)
    return job.pk.hex


def _rung(voice: tuple[Rung, ProviderKey | None] | None) -> Rung | None:
    """The voice with the key that was found for it, by its id."""
    if voice is None:
        return None
    rung, key = voice
    return rung.model_copy(update={"provider_key": str(key.pk) if key else None})


def _replace_job(user_id: int, order: PreviewOrder, portrait: Path | None, project_id: uuid.UUID | None) -> VideoJob:
    """A new job of this person, in the place of the one that may be in the making.

    That there is one is the database's to keep; of two that ask at the same moment, the later replaces the earlier.
    """
    live = VideoJob.objects.filter(kind=JobKind.PREVIEW, state__in=LIVE_STATES)
    for _ in range(MOST_TRIES):
        services.cancel_jobs(live.filter(ordered_by=user_id))
        if live.exclude(ordered_by=user_id).count() >= MOST_WAITING:
            raise Busy("Many previews are being made right now. Try again in a minute.")
        picture = ContentFile(portrait.read_bytes(), name=f"{uuid.uuid4().hex}{portrait.suffix}") if portrait else None
        with suppress(IntegrityError):
            return services.create_job(
                kind=JobKind.PREVIEW,
                user_id=user_id,
                project_id=project_id,
                order=order.model_dump(mode="json"),
                picture=picture,
            )
    raise Busy("Another preview of yours was asked for at the same moment. Try again.")


def preview_state(*, user_id: int, ticket: str) -> PreviewState:
    """Raises NotFound for another person's ticket, and for one that is over for long."""
    job = _job_of(user_id, ticket)
    error = DROPPED if job.state == JobState.CANCELLED else job.error
    return PreviewState(
        STATES[JobState(job.state)], job.stage, job.progress, error, job.error_attr, media_type=job.media_type
    )


def preview_clip(*, user_id: int, ticket: str) -> tuple[bytes, str]:
    """(bytes, media type) of a clip that is done."""
    job = _job_of(user_id, ticket)
    try:
        if job.state != JobState.DONE:
            raise FileNotFoundError
        with job.output.open() as file:
            return file.read(), job.media_type
    except FileNotFoundError:
        raise NotFound("This preview is not there (any more). Ask for it again.") from None


def _job_of(user_id: int, ticket: str) -> VideoJob:
    """The job as it is now: whoever waits for it need not wait for what will not come."""
    try:
        job = VideoJob.objects.get(pk=uuid.UUID(ticket), ordered_by=user_id)
    except (ValueError, VideoJob.DoesNotExist):
        raise NotFound("This preview was interrupted. Ask for it again.") from None
    if job.state == JobState.QUEUED and timezone.now() - job.sent_at > UNSERVED_AFTER and not _has_worker():
        services.give_up_waiting(job=job, error=Unavailable(UNSERVED, code="no_worker"))
        job.refresh_from_db()
    elif job.lease_until is not None and job.lease_until < timezone.now():
        services.take_back_expired()
        job.refresh_from_db()
    return job


def _has_worker() -> bool:
    return bool(beats.workers(beats.WorkerKind.RENDER))


def preview_name(avatar: Avatar, face_key: str, suffix: str) -> str:
    """A file name that tells of which version of the face the clip is."""
    return f"{avatar.pk.hex}-{face_key[:12]}{suffix}"


def preview_is_current(avatar: Avatar, face: Face) -> bool:
    """Whether the stored clip shows the face as it is now."""
    return face.key[:12] in (avatar.preview.name or "")


# -- Making it --------------------------------------------------------------------------------------------------------
def make_preview(work: Work) -> Made:
    """Speak and render."""
    order = PreviewOrder.model_validate(work.job.order)
    work.tell("Making the voice")
    clip, media_type = render_clip(
        engine=order.engine,
        face=_face(work, order),
        speech=_speech(order),
        sound=order.sound,
        folder=work.folder,
        tell=work.tell,
        dropped=work.dropped,
    )
    made = Made(clip, ".webm" if media_type == "video/webm" else ".mp4", media_type)
    if order.keep_for is not None and not work.dropped.is_set():
        _keep(order.keep_for, order.face_key, made)
    return made


def _face(work: Work, order: PreviewOrder) -> Face:
    portrait = None
    if picture := work.job.picture.name:
        portrait = work.folder / f"portrait{Path(picture).suffix}"
        with work.job.picture.open() as stored, portrait.open("wb") as copy:
            shutil.copyfileobj(stored, copy)
    return Face(key=order.face_key, name=order.face_name, portrait=portrait, options=order.options)


def _speech(order: PreviewOrder) -> bytes:
    """The text as a WAV file, by the voice of the order or what this server has instead."""
    if order.voice is not None:
        key_id = order.voice.provider_key
        return speak_sample(
            provider=order.voice.provider,
            options=order.voice.options,
            provider_key=ProviderKey.objects.filter(pk=key_id).first() if key_id else None,
            text=order.text,
            language=order.language,
        )
    return _default_speech(order.text, order.language)


@lru_cache(maxsize=16)
def _default_speech(text: str, language: str) -> bytes:
    *better, last = default_pipeline()[Kind.TTS]
    for rung in better:
        with suppress(MoltsError):
            return speak_sample(
                provider=rung.provider, options=rung.options, provider_key=None, text=text, language=language
            )
    return speak_sample(provider=last.provider, options=last.options, provider_key=None, text=text, language=language)


def _keep(avatar_id: uuid.UUID, face_key: str, made: Made) -> None:
    """Store the clip as the avatar's preview; the one before is deleted."""
    avatar = Avatar.objects.filter(pk=avatar_id).first()
    if avatar is None:
        return
    before = avatar.preview.name
    # Not `avatar.save()`: whoever edits the avatar meanwhile must find it as it was.
    stored = avatar.preview.storage.save(
        f"previews/{preview_name(avatar, face_key, made.suffix)}", ContentFile(made.clip)
    )
    Avatar.objects.filter(pk=avatar.pk).update(preview=stored)
    if before and before != stored:
        avatar.preview.storage.delete(before)
