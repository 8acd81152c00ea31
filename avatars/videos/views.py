"""Files behind signed links, whole or in part, so that a player can seek."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from django.core.files.storage import default_storage
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.http import require_safe

from avatars.videos.links import open_link
from molts.errors import NotFound

CHUNK = 256 << 10
MEDIA_TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg"}
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})$", re.ASCII)


@dataclass(frozen=True)
class ByteRange:
    """From `start` up to, and without, `end`."""

    start: int
    end: int

    @classmethod
    def read(cls, header: str, size: int) -> ByteRange | None:
        """The one range that is asked for; None for what is none, or several. Empty where it lies behind the end."""
        match = RANGE.match(header.strip())
        if match is None or not (match[1] or match[2]):
            return None
        if not match[1]:
            return cls(max(0, size - int(match[2])), size)
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        return cls(start, end) if end > start or start >= size else None


@require_safe
def signed_file(request: HttpRequest, token: str, shown_as: str) -> HttpResponseBase:
    """Raises Http404 for a link that opens nothing (any more)."""
    try:
        name = open_link(token, shown_as=shown_as)
        path = Path(default_storage.path(name))
        file = path.open("rb")
    except (NotFound, FileNotFoundError) as error:
        raise Http404(str(error)) from error
    status = path.stat()
    size, etag = status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    wanted = None
    if request.headers.get("If-Range", etag) == etag:
        wanted = ByteRange.read(request.headers.get("Range", ""), size)
    part = wanted or ByteRange(0, size)
    if part.start >= part.end:
        file.close()
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "Content-Disposition": f'inline; filename="{shown_as}"',
        "Content-Length": str(part.end - part.start),
        "ETag": etag,
    }
    if wanted:
        headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{size}"
    media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    if request.method == "HEAD":
        file.close()
        return HttpResponse(headers=headers, content_type=media_type, status=206 if wanted else 200)
    return StreamingHttpResponse(
        SentBytes(file, part), headers=headers, content_type=media_type, status=206 if wanted else 200
    )


class SentBytes:
    """A part of a file, read off the event loop as fast as it is taken. Django closes it with the answer."""

    def __init__(self, file: IO[bytes], part: ByteRange) -> None:
        self._file, self._part = file, part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await asyncio.to_thread(self._file.seek, self._part.start)
        left = self._part.end - self._part.start
        while left > 0 and (chunk := await asyncio.to_thread(self._file.read, min(CHUNK, left))):
            left -= len(chunk)
            yield chunk

    def close(self) -> None:
        self._file.close()
