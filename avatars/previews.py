"""Clips of a face that speaks, made while somebody waits: by a child process, bounded in time, watched by a ticket.

A page asks for a clip and gets a ticket; what becomes of it stands in the cache, so any web process can answer. One
person has one clip in the making at a time: asking again drops the one before.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.db import connections
from redis import RedisError

from avatars.engines import ENGINES
from avatars.engines.base import Face
from avatars.engines.config import engine_config
from avatars.listening import speak_sample
from avatars.models import Avatar
from avatars.services import default_pipeline
from avatars.snapshots import Rung
from molts.errors import BadInput, Busy, MoltsError, NotFound, Unavailable
from projects.models import ProviderKey
from projects.providers.base import Kind

log = logging.getLogger(__name__)

MOST_AT_ONCE = 2  # children of one web process
MOST_WAITING = 6
RENDER_SECONDS = 300.0  # a new face is prepared within it, on a slow machine that is busy
KEPT_SECONDS = 600
DROPPED = "Another preview was asked for."
BEAT_SECONDS = 20  # a ticket that is not renewed for so long belongs to a process that is gone


@dataclass(frozen=True)
class PreviewState:
    """What became of a ticket. `state` is "waiting", "rendering", "done" or "failed"; `progress` 0 to 1."""

    state: str
    stage: str = "Waiting"
    progress: float = 0.0
    error: str = ""
    attr: str = ""
    media_type: str = ""


@dataclass
class Job:
    """One clip in the making. Whoever wants it stopped sets `dropped`."""

    ticket: str
    user_id: int
    engine: str
    face: Face
    text: str
    language: str
    voice: tuple[Rung, ProviderKey | None] | None
    sound: bool
    keep_for: uuid.UUID | None
    """The avatar whose preview it becomes."""
    folder: tempfile.TemporaryDirectory[str]
    dropped: threading.Event = field(default_factory=threading.Event)


_pool = ThreadPoolExecutor(max_workers=MOST_AT_ONCE, thread_name_prefix="preview")
_jobs: dict[int, Job] = {}
_lock = threading.Lock()


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
) -> str:
    """Begin a clip of `face` (checked before) saying `text`; returns the ticket to ask for it.

    Without `voice`, the best voice of this server speaks. The picture is copied: the caller's file may go.
    Raises Busy when too many wait, and Unavailable when nothing can be kept.
    """
    folder = tempfile.TemporaryDirectory(prefix="molts-preview-", ignore_cleanup_errors=True)
    if face.portrait is not None:
        copy = Path(folder.name) / f"portrait{face.portrait.suffix}"
        copy.write_bytes(face.portrait.read_bytes())
        face = Face(key=face.key, name=face.name, portrait=copy, options=face.options)
    job = Job(uuid.uuid4().hex, user_id, engine, face, text, language, voice, sound, keep_for, folder)
    with _lock:
        if (before := _jobs.get(user_id)) is not None:
            before.dropped.set()
        if sum(not each.dropped.is_set() for each in _jobs.values()) >= MOST_WAITING:
            folder.cleanup()
            raise Busy("Many previews are being made right now. Try again in a minute.")
        _jobs[user_id] = job
    _note(job, PreviewState("waiting"))
    _pool.submit(_run, job)
    return job.ticket


def preview_state(*, user_id: int, ticket: str) -> PreviewState:
    """Raises NotFound for another person's ticket, and for one whose maker is gone."""
    stored = _read(_key(user_id, ticket))
    if stored is None:
        raise NotFound("This preview was interrupted. Ask for it again.")
    return PreviewState(**stored)


def preview_clip(*, user_id: int, ticket: str) -> tuple[bytes, str]:
    """(bytes, media type) of a clip that is done."""
    state = preview_state(user_id=user_id, ticket=ticket)
    clip = _read(f"{_key(user_id, ticket)}:clip")
    if state.state != "done" or clip is None:
        raise NotFound("This preview is not there (any more). Ask for it again.")
    return clip, state.media_type


def preview_name(avatar: Avatar, face: Face, media_type: str) -> str:
    """A file name that tells of which version of the face the clip is."""
    return f"{avatar.pk.hex}-{face.key[:12]}{'.webm' if media_type == 'video/webm' else '.mp4'}"


def preview_is_current(avatar: Avatar, face: Face) -> bool:
    """Whether the stored clip shows the face as it is now."""
    return face.key[:12] in (avatar.preview.name or "")


# -- Making it --------------------------------------------------------------------------------------------------------
def _run(job: Job) -> None:
    try:
        make_preview(job)
    except Exception:
        log.exception("a preview could not be made")
        _note(job, PreviewState("failed", error="The preview could not be made. The server's log says why."))
    finally:
        job.folder.cleanup()
        connections.close_all()
        with _lock:
            if _jobs.get(job.user_id) is job:
                del _jobs[job.user_id]


def make_preview(job: Job) -> None:
    """Speak, render, and put the clip where its ticket finds it."""
    try:
        _check_wanted(job)
        _note(job, PreviewState("rendering", "Making the voice"))
        clip, media_type = render_clip(
            engine=job.engine,
            face=job.face,
            speech=_speech(job),
            sound=job.sound,
            folder=Path(job.folder.name),
            tell=lambda stage, done: _note(job, PreviewState("rendering", stage, done)),
            dropped=job.dropped,
        )
        _check_wanted(job)
        if job.keep_for is not None:
            _keep(job, clip, media_type)
        _write(f"{_key(job.user_id, job.ticket)}:clip", clip, KEPT_SECONDS)
    except MoltsError as error:
        _note(job, PreviewState("failed", error=error.detail, attr=error.attr or ""))
    else:
        _note(job, PreviewState("done", "Done", 1.0, media_type=media_type))


def _check_wanted(job: Job) -> None:
    if job.dropped.is_set():
        raise Unavailable(DROPPED)


def _speech(job: Job) -> bytes:
    """The text as a WAV file, by the voice of the job or what this server has instead."""
    if job.voice is not None:
        rung, key = job.voice
        return speak_sample(
            provider=rung.provider,
            options=rung.options,
            provider_key=key,
            text=job.text,
            language=job.language,
        )
    return _usual_speech(job.text, job.language)


@lru_cache(maxsize=16)
def _usual_speech(text: str, language: str) -> bytes:
    *better, last = default_pipeline()[Kind.TTS]
    for rung in better:
        with suppress(MoltsError):
            return speak_sample(
                provider=rung.provider, options=rung.options, provider_key=None, text=text, language=language
            )
    return speak_sample(provider=last.provider, options=last.options, provider_key=None, text=text, language=language)


def render_clip(
    *,
    engine: str,
    face: Face,
    speech: bytes,
    folder: Path,
    sound: bool = True,
    tell: Callable[[str, float], None] = lambda stage, done: None,
    dropped: threading.Event | None = None,
    seconds: float = RENDER_SECONDS,
) -> tuple[bytes, str]:
    """(bytes, media type) of the face saying `speech` (a WAV file), rendered in a child process.

    Raises BadInput for a face that cannot be used (with `attr`), and Unavailable with the engine's reason, or when it
    is not done within `seconds` or is `dropped`.
    """
    wav, output = folder / "speech.wav", folder / "clip"
    wav.write_bytes(speech)
    config = engine_config()
    request = {
        "engine": ENGINES[engine],
        "face_key": face.key,
        "portrait": str(face.portrait) if face.portrait else "",
        "options": face.options,
        "speech": str(wav),
        "output": str(output),
        "cache": str(settings.MOLTS_DATA_DIR / "faces"),
        "config": {**asdict(config), "run_dir": str(config.run_dir), "addresses": dict(config.addresses)},
        "sound": sound,
    }
    last = _watch(request, tell, dropped or threading.Event(), seconds)
    if "type" in last:
        return output.read_bytes(), str(last["type"])
    if last.get("attr"):
        raise BadInput(str(last["error"]), attr=str(last["attr"]))
    raise Unavailable(str(last.get("error") or "The engine stopped before the clip was done."))


def _watch(
    request: Mapping[str, Any], tell: Callable[[str, float], None], dropped: threading.Event, seconds: float
) -> dict[str, Any]:
    """The child's last line. It is ended when it takes too long or is wanted no more."""
    child = subprocess.Popen(
        [sys.executable, "-m", "avatars.engines.clip"],
        cwd=settings.BASE_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # a signal to the web process is not the child's; it is ended below
    )
    assert child.stdin is not None
    assert child.stdout is not None
    over = threading.Event()
    watcher = threading.Thread(target=_end_in_time, args=(child, dropped, over, seconds), daemon=True)
    watcher.start()
    last: dict[str, Any] = {}
    try:
        with suppress(BrokenPipeError), child.stdin as given:
            given.write(json.dumps(request))
        for line in child.stdout:
            last = json.loads(line)
            if "stage" in last:
                tell(last["stage"], last["progress"])
        child.wait(timeout=5)
    finally:
        over.set()
        if child.poll() is None:
            child.kill()
            child.wait(timeout=5)
        child.stdout.close()
        watcher.join(timeout=5)
    if child.returncode and "error" not in last:
        if dropped.is_set():
            return {"error": DROPPED}
        return {"error": f"The preview was not done within {seconds:.0f} s, or its engine crashed."}
    return last


def _end_in_time(child: subprocess.Popen[str], dropped: threading.Event, over: threading.Event, seconds: float) -> None:
    waited = 0.0
    while not over.wait(0.2):
        waited += 0.2
        if dropped.is_set() or waited > seconds:
            child.kill()
            return


def _keep(job: Job, clip: bytes, media_type: str) -> None:
    """Store the clip as the avatar's preview; the one before is deleted."""
    avatar = Avatar.objects.filter(pk=job.keep_for).first() if job.keep_for else None
    if avatar is None:
        return
    before = avatar.preview.name
    name = preview_name(avatar, job.face, media_type)
    # Not `avatar.save()`: whoever edits the avatar meanwhile must find it as it was.
    stored = avatar.preview.storage.save(f"previews/{name}", ContentFile(clip))
    Avatar.objects.filter(pk=avatar.pk).update(preview=stored)
    if before and before != stored:
        avatar.preview.storage.delete(before)


# -- Where tickets are kept -------------------------------------------------------------------------------------------
def _key(user_id: int, ticket: str) -> str:
    return f"preview:{user_id}:{ticket}"


def _note(job: Job, state: PreviewState) -> None:
    settled = state.state in ("done", "failed")
    with suppress(Unavailable):
        _write(_key(job.user_id, job.ticket), asdict(state), KEPT_SECONDS if settled else _patience(state))


def _patience(state: PreviewState) -> int:
    """How long a ticket may stay without news: speaking and preparing tell nothing meanwhile."""
    return BEAT_SECONDS if state.stage == "Rendering" else int(RENDER_SECONDS)


def _write(key: str, value: object, seconds: int) -> None:
    try:
        cache.set(key, value, seconds)
    except (RedisError, OSError) as error:
        raise Unavailable("Redis is out of reach, so no preview can be shown.") from error


def _read(key: str) -> Any:
    try:
        return cache.get(key)
    except (RedisError, OSError) as error:
        raise Unavailable("Redis is out of reach, so no preview can be shown.") from error
