"""Links to videos that open for a while and for whoever has them: a player sends neither key nor cookie."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from django.conf import settings
from django.core import signing
from django.urls import reverse
from django.utils.text import slugify

from avatars.videos.models import VideoJob
from molts.errors import NotFound

OPEN_SECONDS = 24 * 3600
_SALT = "avatars.videos.links"


def signed_link(name: str, *, shown_as: str) -> str:
    """The address of a stored file for the next day. `shown_as` is how it ends, and the name of a download."""
    token = signing.dumps([name, shown_as, int(time.time()) + OPEN_SECONDS], salt=_SALT)
    return f"{settings.MOLTS_PUBLIC_URL}{reverse('signed-file', args=[token, shown_as])}"


def video_links(job: VideoJob, *, name: str = "") -> dict[str, str | None]:
    """Links to a video and to a picture of it, None until they are there. The files are called `name`, else by the
    video's title."""
    name = name or slugify(job.title) or str(job.pk)
    return {
        "video_url": signed_link(job.output.name, shown_as=f"{name}.mp4") if job.output.name else None,
        "thumbnail_url": signed_link(job.thumbnail.name, shown_as=f"{name}.jpg") if job.thumbnail.name else None,
    }


def open_link(token: str, *, shown_as: str) -> str:
    """The name of the file in the storage. Raises NotFound for a link that was not signed here, so, or is over."""
    try:
        name, as_signed, until = signing.loads(token, salt=_SALT)
    except (signing.BadSignature, ValueError):
        raise NotFound("There is no such file.") from None
    if shown_as != as_signed:
        raise NotFound("There is no such file.")
    if time.time() > until:
        raise NotFound("This link is over. Ask for the video again: that makes a new one.")
    return str(name)


def path_of(link: str) -> str:
    """The link for pages of this server, which may be open under another of its names."""
    return urlsplit(link).path
