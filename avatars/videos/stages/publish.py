"""A finished file into the storage: whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage

from molts.errors import Unavailable


@contextmanager
def uploaded(file: Path, name: str) -> Iterator[Upload]:
    """The file lies in the storage, but not under `name` before `Upload.publish`. What was not published is gone
    afterwards. Raises Unavailable when it cannot be stored."""
    upload = Upload(name)
    try:
        upload.bring(file)
        yield upload
    except OSError as error:
        raise Unavailable(f"The video could not be stored: {error.strerror or error}.", code="storage") from error
    finally:
        upload.forget()


class Upload:
    """One file on its way. `publish` is quick, so that it can be done in a transaction."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._place: Path | None = None  # where it is to be, in a folder of this machine
        self._part: Path | None = None

    def bring(self, file: Path) -> None:
        """Copy it beside its place. A storage elsewhere shows an upload when all of it is there, and at once."""
        try:
            self._place = Path(default_storage.path(self.name))
        except NotImplementedError:
            default_storage.delete(self.name)
            with file.open("rb") as source:
                default_storage.save(self.name, File(source))
            return
        self._place.parent.mkdir(parents=True, exist_ok=True)
        self._part = self._place.with_name(f".{self._place.name}.{uuid.uuid4().hex}.part")
        with file.open("rb") as source, self._part.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        if mode := settings.FILE_UPLOAD_PERMISSIONS:
            self._part.chmod(mode)

    def publish(self) -> None:
        if self._part is not None and self._place is not None:
            self._part.replace(self._place)
            self._part = None

    def forget(self) -> None:
        if self._part is not None:
            self._part.unlink(missing_ok=True)
