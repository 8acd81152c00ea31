"""A multipart form whose file goes to disk as it comes, however large it is.

The form is taken apart by Django's parser, which reads a blocking file: it runs in a thread of its own, and each of
its reads waits for the event loop to hand over the next part of the body.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, TemporaryFileUploadHandler
from django.http.multipartparser import MultiPartParser, MultiPartParserError

from molts.errors import BadInput, MoltsError, Unavailable

if TYPE_CHECKING:
    from django.http import QueryDict
    from django.utils.datastructures import MultiValueDict

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGoneError(Exception):
    """Whoever asked has hung up; nobody is there to be answered."""


class TooLarge(BadInput):
    code = "file_too_large"
    http_status = 413


class TooSlow(MoltsError):
    code = "upload_timeout"
    http_status = 408
    retryable = True


@dataclass(frozen=True)
class Form:
    """The fields of a form and the file of its field `file`, if there was one."""

    fields: QueryDict
    file: Path | None
    file_bytes: int

    def text(self, name: str, default: str = "") -> str:
        return str(self.fields.get(name) or default).strip()

    def list(self, name: str) -> list[str]:
        """Values of a repeated field, which clients call `name` or `name[]`."""
        return [str(value) for key in (name, f"{name}[]") for value in self.fields.getlist(key)]


@contextlib.asynccontextmanager
async def receive_form(
    headers: Mapping[str, str],
    receive: Receive,
    *,
    max_bytes: int,
    stall_seconds: float,
    total_seconds: float,
    folder: Path | None = None,
) -> AsyncIterator[Form]:
    """The request's form; its file, written into `folder` (None: the system's), is gone at the end of the block.

    Raises TooLarge, TooSlow or BadInput, and ClientGoneError when the client hangs up in the middle.
    """
    content_type = headers.get("content-type", "")
    if not content_type.lower().startswith("multipart/form-data"):
        raise BadInput("Send the audio as multipart/form-data with the fields `file` and `model`.")
    if headers.get("content-length", "0").isdigit() and int(headers.get("content-length", "0")) > max_bytes:
        raise _too_large(max_bytes)
    body = _Body(receive, asyncio.get_running_loop(), max_bytes=max_bytes, stall_seconds=stall_seconds)
    try:
        async with asyncio.timeout(total_seconds):
            fields, files = await _in_thread(lambda: _parse(content_type, body, folder))
    except TimeoutError:
        raise TooSlow(f"The upload took longer than {total_seconds:.0f} s.") from None
    finally:
        body.give_up()
    try:
        yield _form(fields, files)
    finally:
        for file in _all_files(files):
            file.close()  # removes it


async def _in_thread(call: Callable[[], Any]) -> Any:
    """Like `asyncio.to_thread`, in a thread of its own: a slow upload must not hold one that others wait for."""
    executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="upload")
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, call)
    finally:
        executor.shutdown(wait=False)


def _parse(
    content_type: str, body: _Body, folder: Path | None
) -> tuple[QueryDict, MultiValueDict[str, TemporaryUploadedFile]]:
    # The parser only asks whether the length is 0, which a body sent in chunks would seem to be.
    meta = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": "1"}
    to_disk = _ToFolder(folder)
    try:
        with contextlib.ExitStack() as when_broken_off:
            when_broken_off.callback(to_disk.upload_interrupted)  # the half-written file goes at once
            parsed = MultiPartParser(meta, body, [to_disk]).parse()  # type: ignore[arg-type]
            when_broken_off.pop_all()
            return parsed
    except MultiPartParserError as error:
        raise BadInput(f"The form cannot be read: {error}.") from error
    except SuspiciousOperation as error:
        raise BadInput("The form has too many or too long fields; send the audio as a file.") from error
    except OSError as error:
        raise Unavailable(f"There is no room for the upload ({error.strerror}). Try again later.") from error


def _form(fields: QueryDict, files: MultiValueDict[str, TemporaryUploadedFile]) -> Form:
    file = files.get("file")
    if file is None:
        return Form(fields, None, 0)
    return Form(fields, Path(file.temporary_file_path()), int(file.size or 0))


def _all_files(files: MultiValueDict[str, TemporaryUploadedFile]) -> list[TemporaryUploadedFile]:
    return [file for _, several in files.lists() for file in several]


class _ToFolder(TemporaryFileUploadHandler):
    """Writes uploads into a folder of our choice instead of the one that the settings give all of Django."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        self._folder = folder

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        FileUploadHandler.new_file(self, *args, **kwargs)
        self.file = _Upload(self.file_name or "", self.content_type or "", self.charset, self._folder)


class _Upload(TemporaryUploadedFile):
    def __init__(self, name: str, content_type: str, charset: str | None, folder: Path | None) -> None:
        file = tempfile.NamedTemporaryFile(suffix=f".upload{Path(name).suffix[:20]}", dir=folder)  # noqa: SIM115 - `close`
        UploadedFile.__init__(self, file, name, content_type, 0, charset)


class _Body:
    """The body as a blocking file. At most one part of it is in memory."""

    def __init__(
        self, receive: Receive, loop: asyncio.AbstractEventLoop, *, max_bytes: int, stall_seconds: float
    ) -> None:
        self._receive = receive
        self._loop = loop
        self._max_bytes = max_bytes
        self._stall_seconds = stall_seconds
        self._rest = b""
        self._passed = 0
        self._more = True
        self._given_up = False
        self._waiting: concurrent.futures.Future[bytes] | None = None

    def read(self, size: int) -> bytes:
        while self._more and not self._rest:
            self._rest = self._next()
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

    def give_up(self) -> None:
        """Called by the event loop: ends the wait of the thread that reads."""
        self._given_up = True
        if self._waiting is not None:
            self._waiting.cancel()

    def _next(self) -> bytes:
        if self._given_up:
            raise ClientGoneError
        self._waiting = asyncio.run_coroutine_threadsafe(self._next_part(), self._loop)
        try:
            return self._waiting.result()
        except concurrent.futures.CancelledError:
            raise ClientGoneError from None

    async def _next_part(self) -> bytes:
        if self._given_up:
            raise asyncio.CancelledError  # the reading thread has ended, or learns of it by that
        try:
            async with asyncio.timeout(self._stall_seconds):
                message = await self._receive()
        except TimeoutError:
            raise TooSlow(f"Nothing came for {self._stall_seconds:.0f} s; the upload was given up.") from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = bytes(message.get("body", b""))
        self._more = bool(message.get("more_body", False))
        self._passed += len(part)
        if self._passed > self._max_bytes:
            raise _too_large(self._max_bytes)
        return part


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The upload is larger than {max_bytes / 1e6:.0f} MB. Send less, or compress it.", attr="file")
