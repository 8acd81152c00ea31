"""A multipart form whose file goes to disk as it comes, however large it is.

python-multipart takes the form apart, in a thread of the upload's own: neither its work nor a slow disk keeps the event
loop from the conversations. At most one part of the body is in memory, and the text fields.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from python_multipart.decoders import Base64Decoder
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from molts.errors import BadInput, MoltsError, Unavailable

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks
    from starlette.datastructures import Headers
    from starlette.requests import Request

FILE_FIELD = "file"
PARTS_AT_MOST = 200
TEXT_BYTES_AT_MOST = 1_000_000  # of all text fields together
FORM_WANTED = "Send the audio as multipart/form-data with the fields `file` and `model`."


class UploadTooLarge(BadInput):
    code = "file_too_large"
    http_status = 413


class UploadTooSlow(MoltsError):
    code = "upload_timeout"
    http_status = 408
    retryable = True


@dataclass(frozen=True)
class UploadForm:
    """The fields of a form, as (name, value) in their order, and the file of its field `file`, if there was one."""

    fields: list[tuple[str, str]]
    file: Path | None
    file_bytes: int

    def text(self, name: str, default: str = "") -> str:
        """The value of a field; the default when it is empty, as if it had not been sent."""
        values = [value.strip() for key, value in self.fields if key == name]
        return (values[-1] if values else "") or default

    def list(self, name: str) -> list[str]:
        """Values of a repeated field, which clients call `name`, `name[]` or `name[0]`; empty ones do not count."""
        called = re.compile(rf"{re.escape(name)}(\[\d*\])?")
        return [value.strip() for key, value in self.fields if called.fullmatch(key) and value.strip()]


@contextlib.asynccontextmanager
async def receive_form(
    request: Request, *, max_bytes: int, stall_seconds: float, total_seconds: float, folder: Path | None = None
) -> AsyncIterator[UploadForm]:
    """The request's form; its file, written into `folder` (None: the system's), is gone at the end of the block.

    Raises TooLarge, TooSlow, BadInput or Unavailable, and ClientDisconnect when the client hangs up in the middle.
    """
    length = request.headers.get("content-length", "0")
    reader = _Reader(_boundary(request.headers), folder)
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    loop = asyncio.get_running_loop()
    own_thread = ThreadPoolExecutor(1, thread_name_prefix="upload")
    try:
        try:
            async with asyncio.timeout(total_seconds):
                async with contextlib.aclosing(_body(request, max_bytes, stall_seconds)) as body:
                    async for part in body:
                        await loop.run_in_executor(own_thread, reader.feed, part)
                await loop.run_in_executor(own_thread, reader.finish)
        except TimeoutError:
            raise UploadTooSlow(f"The upload took longer than {total_seconds:.0f} s.") from None
        yield reader.form
    finally:
        closing = own_thread.submit(reader.close)  # behind a part that it may still be at
        own_thread.shutdown(wait=False)
        await asyncio.wrap_future(closing)


async def _body(request: Request, max_bytes: int, stall_seconds: float) -> AsyncGenerator[bytes, None]:
    passed = 0
    async with contextlib.aclosing(request.stream()) as stream:
        while True:
            try:
                async with asyncio.timeout(stall_seconds):
                    part = await anext(stream, None)
            except TimeoutError:
                raise UploadTooSlow(f"Nothing came for {stall_seconds:.0f} s; the upload was given up.") from None
            if part is None:
                return
            passed += len(part)
            if passed > max_bytes:
                raise _too_large(max_bytes)
            yield part


def _too_large(max_bytes: int) -> UploadTooLarge:
    return UploadTooLarge(
        f"The upload is larger than {max_bytes / 1e6:.0f} MB. Send less, or compress it.", attr=FILE_FIELD
    )


def _boundary(headers: Headers) -> bytes:
    kind, options = parse_options_header(headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise BadInput(FORM_WANTED)
    if not (boundary := options.get(b"boundary")):
        raise BadInput("The form cannot be read: its content type has no boundary.")
    return boundary


@dataclass
class _Part:
    """One part of the body, while it comes. `sink` takes its bytes; None: nobody wants them."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: str = ""
    text: io.BytesIO | None = None
    sink: IO[bytes] | Base64Decoder | None = None


class _Reader:
    """Takes a body apart. Its methods block; they are called by one thread, one after the other."""

    def __init__(self, boundary: bytes, folder: Path | None) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._fields: list[tuple[str, str]] = []
        self._part = _Part()
        self._parts = 0
        self._text_bytes = 0
        self._header_name, self._header_value = bytearray(), bytearray()
        self._ended = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        with _told():
            self._parser = MultipartParser(boundary, callbacks)

    def feed(self, data: bytes) -> None:
        with _told():
            self._parser.write(data)

    def finish(self) -> None:
        with _told():
            self._parser.finalize()
            if self._file is not None:
                self._file.flush()
        if not self._ended:
            raise BadInput("The form cannot be read: it ends too early.")

    @property
    def form(self) -> UploadForm:
        if self._file is None:
            return UploadForm(self._fields, None, 0)
        return UploadForm(self._fields, Path(self._file.name), self._file.tell())

    def close(self) -> None:
        """Removes the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what a full disk did not take
                self._file.close()

    def _begin_part(self) -> None:
        self._part = _Part()
        self._parts += 1
        if self._parts > PARTS_AT_MOST:
            raise BadInput(f"The form has more than {PARTS_AT_MOST} fields.")

    def _end_header(self) -> None:
        self._part.headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name, self._header_value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        """Now it is known what the part is. What is called `file` is the file, whatever it says of a file name."""
        part = self._part
        _, options = parse_options_header(part.headers.get(b"content-disposition"))
        if b"name" not in options:
            raise BadInput("The form cannot be read: one of its parts has no name.")
        part.name = _decoded(options[b"name"])
        if part.name == FILE_FIELD:
            if self._file is not None:
                raise BadInput("The form has more than one file; send them one by one.", attr=FILE_FIELD)
            part.sink = self._file = _new_file(_decoded(options.get(b"filename", b"")), self._folder)
        elif b"filename" not in options:
            part.sink = part.text = io.BytesIO()
        if part.sink is not None and part.headers.get(b"content-transfer-encoding", b"").strip().lower() == b"base64":
            part.sink = Base64Decoder(part.sink)

    def _take(self, data: bytes, start: int, end: int) -> None:
        part, piece = self._part, data[start:end]
        if part.text is not None:
            self._text_bytes += len(piece)
            if self._text_bytes > TEXT_BYTES_AT_MOST:
                raise BadInput("The form has too long fields; send the audio as a file.")
        if isinstance(part.sink, Base64Decoder):
            piece = b"".join(piece.split())  # it comes in lines
        if part.sink is not None:
            part.sink.write(piece)

    def _end_part(self) -> None:
        part = self._part
        if isinstance(part.sink, Base64Decoder):
            part.sink.finalize()
        if part.text is not None:
            self._fields.append((part.name, _decoded(part.text.getvalue())))

    def _end(self) -> None:
        self._ended = True


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Errors of the form and of the disk, as what they mean to the client."""
    try:
        yield
    except FormParserError as error:
        raise BadInput(f"The form cannot be read: {error}.") from error
    except OSError as error:
        raise Unavailable(f"There is no room for the upload ({error.strerror}). Try again later.") from error


def _decoded(text: bytes) -> str:
    """UTF-8, or else what Windows writes in the West: a name or a field in it is no reason to refuse the form."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("cp1252", errors="replace")


def _new_file(name: str, folder: Path | None) -> IO[bytes]:
    """A file on disk that goes when it is closed. Of the client's name only the ending is kept: it may be a hint."""
    ending = re.sub(r"[^A-Za-z0-9.]", "", Path(name).suffix)[:20]
    return tempfile.NamedTemporaryFile(suffix=f".upload{ending}", dir=folder)
