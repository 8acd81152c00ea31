"""The faces of this installation, as engines take them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import uuid
from collections.abc import Iterator

from django.conf import settings
from django.db.models import Count, Max

from avatars.engines import ENGINES, get_engine
from avatars.engines.base import Face, VideoFormat
from avatars.faces import keep_still, local_portrait, make_face
from avatars.models import Avatar
from molts.errors import MoltsError
from sessions.spec import FaceSpec, load_face

PREPARE: tuple[str, ...] = (sys.executable, str(settings.BASE_DIR / "manage.py"), "prepare_faces")


def video_format() -> VideoFormat:
    """What live faces are shown in on this machine."""
    return VideoFormat(
        width=settings.MOLTS_AVATAR_WIDTH, height=settings.MOLTS_AVATAR_HEIGHT, fps=float(settings.MOLTS_AVATAR_FPS)
    )


def resolve(spec: FaceSpec) -> Face:
    """Reads the storage: call it in a thread. Raises BadInput when the picture is gone."""
    return make_face(engine=spec.engine, options=spec.options, portrait=local_portrait(spec.portrait), name=spec.name)


def prepare_faces() -> Iterator[tuple[str, str | None]]:
    """Prepare every avatar whose engine runs here, those of the demo first; yields its name, and why it cannot be
    shown, if it cannot."""
    for avatar in Avatar.objects.filter(engine__in=ENGINES).order_by("created_at"):
        try:
            engine = get_engine(avatar.engine)
            if not engine.live:
                continue
            portrait = local_portrait(avatar.portrait.name or "")
            face = make_face(engine=avatar.engine, options=avatar.options, portrait=portrait, name=avatar.name)
            _prepare(face, engine=avatar.engine, portrait=avatar.portrait.name or "")
        except MoltsError as error:
            yield avatar.name, error.detail
        except ImportError as error:
            yield avatar.name, f"{error}"
        else:
            yield avatar.name, None


def prepare_face_of(session_id: uuid.UUID) -> None:
    """Prepare the face of one conversation. Raises NotFound without the session, and as its engine does."""
    spec = load_face(session_id)
    if spec is not None:
        _prepare(resolve(spec), engine=spec.engine, portrait=spec.portrait)


def _prepare(face: Face, *, engine: str, portrait: str) -> None:
    get_engine(engine).prepare(face, video_format())
    keep_still(face, engine=engine, portrait=portrait, video=video_format())


def newest_change() -> object:
    """Something that is another when an avatar was made, changed or deleted."""
    return Avatar.objects.aggregate(Count("pk"), Max("updated_at"))


async def prepare_apart(*arguments: str) -> bool:
    """Run `manage.py prepare_faces` and wait; whether it could. Drawing a face computes for many seconds, which belongs
    in no process that carries a conversation. Cancelling ends it; what it makes is put in place whole or not at all."""
    process = await asyncio.create_subprocess_exec(*PREPARE, *arguments, stdin=asyncio.subprocess.DEVNULL)
    try:
        return await process.wait() == 0
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
