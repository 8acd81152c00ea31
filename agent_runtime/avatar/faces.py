"""The faces of this installation, as engines take them."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings

from avatars.engines import ENGINES, get_engine
from avatars.engines.base import Face, VideoFormat
from avatars.faces import local_portrait, make_face
from avatars.models import Avatar
from molts.errors import MoltsError
from sessions.spec import FaceSpec


def video_format() -> VideoFormat:
    """What live faces are shown in on this machine."""
    return VideoFormat(
        width=settings.MOLTS_AVATAR_WIDTH, height=settings.MOLTS_AVATAR_HEIGHT, fps=float(settings.MOLTS_AVATAR_FPS)
    )


def resolve(spec: FaceSpec) -> Face:
    """Reads the storage: call it in a thread. Raises BadInput when the picture is gone."""
    return make_face(engine=spec.engine, options=spec.options, portrait=local_portrait(spec.portrait), name=spec.name)


def prepare_faces() -> Iterator[tuple[str, str | None]]:
    """Prepare every avatar whose engine runs here; yields its name, and why it cannot be shown, if it cannot."""
    for avatar in Avatar.objects.filter(engine__in=ENGINES):
        try:
            engine = get_engine(avatar.engine)
            if not engine.live:
                continue
            portrait = local_portrait(avatar.portrait.name or "")
            face = make_face(engine=avatar.engine, options=avatar.options, portrait=portrait, name=avatar.name)
            engine.prepare(face, video_format())
        except MoltsError as error:
            yield avatar.name, error.detail
        except ImportError as error:
            yield avatar.name, f"{error}"
        else:
            yield avatar.name, None
