"""Fetching model weights from the Hugging Face hub into the data folder.

A fetch can be broken off at any time: what has come stays and the next call goes on from there. A model's folder
appears under its final name only when it is whole. Of several processes that want it, one fetches.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from molts.errors import BadConfiguration, Unavailable

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

FetchProgress = Callable[[int, int], None]
"""Called with (bytes there, bytes in all)."""

REACH_SECONDS = 4.5  # a hub that has not answered by then is called out of reach
_T = TypeVar("_T")


def data_dir() -> Path:
    """The data folder of this installation."""
    from django.conf import settings

    return Path(settings.MOLTS_DATA_DIR)


@dataclass(frozen=True)
class RemoteFile:
    name: str
    size: int
    sha256: str  # "" for small files, which the hub does not hash


def fetch_snapshot(
    repo_id: str,
    *,
    target: Path,
    patterns: Sequence[str],
    fix: str,
    revision: str = "main",
    progress: FetchProgress | None = None,
    endpoint: str | None = None,
) -> Path:
    """Fetch the files of `repo_id` that match `patterns` into the folder `target` and return it.

    Raises Unavailable (with `mend`) when the hub is out of reach, breaks off or sends damaged files, and when there is
    no room for them or another process fetches them already; BadConfiguration when the repository does not exist or
    holds none of the files.
    """
    _refuse_when_offline(repo_id, fix)
    commit, files = _list_files(repo_id, revision, patterns, endpoint, fix)
    partial = target.with_name(f".{target.name}.partial")
    report = _Reporter(sum(file.size for file in files), progress)
    with _alone_in(partial, repo_id):
        if target.exists():  # another process was quicker
            return target
        _require_room(repo_id, files, partial)
        for file in files:
            destination = partial / file.name
            if not (destination.is_file() and destination.stat().st_size == file.size):
                _fetch_file(repo_id, commit, file, destination, report, endpoint, fix)
            report.file_done(file.size)
        os.replace(partial, target)
    return target


@contextlib.contextmanager
def _alone_in(folder: Path, repo_id: str) -> Iterator[None]:
    """Make the folder and hold it: two that write to the same files would spoil them. The lock goes with its process.

    Raises Unavailable when somebody else holds it, or there is no room for it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise Unavailable(f"{repo_id} cannot be stored in {folder.parent}: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"{repo_id} is being fetched by another process. Wait for that one.") from None
        yield
    finally:
        os.close(held)


def _require_room(repo_id: str, files: Sequence[RemoteFile], partial: Path) -> None:
    """Raises Unavailable when the disk has no room for what is still to come."""
    there = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    wanted, free = sum(file.size for file in files) - there, shutil.disk_usage(partial).free
    if wanted > free:
        raise Unavailable(
            f"{repo_id} needs {wanted / 1e6:,.0f} MB more, and {partial.parent} has {free / 1e6:,.0f} MB left. "
            "Make room there, then start again."
        )


def _refuse_when_offline(repo_id: str, fix: str) -> None:
    from django.conf import settings

    if getattr(settings, "MOLTS_OFFLINE", False):
        raise Unavailable(f"{repo_id} is not on this machine, and MOLTS_OFFLINE forbids fetching it. {fix}")


def _list_files(
    repo_id: str, revision: str, patterns: Sequence[str], endpoint: str | None, fix: str
) -> tuple[str, list[RemoteFile]]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    def ask_hub() -> tuple[str, list[RepoSibling]]:
        info = HfApi(endpoint=endpoint).model_info(
            repo_id, revision=revision, files_metadata=True, timeout=REACH_SECONDS
        )
        return info.sha or revision, list(info.siblings or [])

    try:
        commit, siblings = _within(REACH_SECONDS, ask_hub)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise BadConfiguration(f"The hub has no model {repo_id} at revision {revision}. {fix}") from error
    except HfHubHTTPError as error:
        raise Unavailable(f"The Hugging Face hub refused {repo_id}: {_first_line(error)}. {fix}") from error
    except Exception as error:
        raise Unavailable(f"The Hugging Face hub is out of reach, so {repo_id} cannot be fetched. {fix}") from error
    files = [
        RemoteFile(entry.rfilename, entry.size or 0, (entry.lfs.sha256 if entry.lfs else "") or "")
        for entry in siblings
        if any(fnmatch(entry.rfilename, pattern) for pattern in patterns) and ".." not in Path(entry.rfilename).parts
    ]
    if not files:
        raise BadConfiguration(f"The repository {repo_id} holds none of {', '.join(patterns)}. {fix}")
    return commit, files


def _fetch_file(
    repo_id: str,
    commit: str,
    file: RemoteFile,
    destination: Path,
    report: _Reporter,
    endpoint: str | None,
    fix: str,
) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public by its documentation

    destination.parent.mkdir(parents=True, exist_ok=True)
    incomplete = destination.with_name(destination.name + ".incomplete")
    there = incomplete.stat().st_size if incomplete.exists() else 0
    if there > file.size:
        incomplete.unlink()
        there = 0
    try:
        with incomplete.open("ab") as out:
            http_get(
                hf_hub_url(repo_id, file.name, revision=commit, endpoint=endpoint),
                out,
                resume_size=there,
                headers=build_hf_headers(),
                expected_size=file.size,
                displayed_filename=file.name,
                tqdm_class=report.bar,  # type: ignore[arg-type]  # any callable that makes a bar will do
            )
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            fix = f"Make room in {destination.parent}."
        raise Unavailable(
            f"Fetching {file.name} of {repo_id} broke off: {_first_line(error)}. Start again to go on there. {fix}"
        ) from error
    if file.sha256 and _sha256(incomplete) != file.sha256:
        incomplete.unlink()
        raise Unavailable(f"{file.name} of {repo_id} arrived damaged. Start again to fetch it anew. {fix}")
    os.replace(incomplete, destination)


class _Reporter:
    """Adds up the bytes of all files for the caller's progress callback."""

    def __init__(self, total: int, progress: FetchProgress | None) -> None:
        self._total = total
        self._progress = progress
        self._finished = 0

    def bar(self, *, initial: int = 0, **_: Any) -> _Bar:
        return _Bar(initial, self._show)

    def file_done(self, size: int) -> None:
        self._finished += size
        self._show(0)

    def _show(self, of_this_file: int) -> None:
        if self._progress is not None:
            self._progress(min(self._finished + of_this_file, self._total), self._total)


class _Bar:
    """The part of a progress bar that the hub's download function uses."""

    def __init__(self, done: int, show: Callable[[int], None]) -> None:
        self._done = done
        self._show = show
        show(done)

    def update(self, count: float | None = 1) -> None:
        self._done += int(count or 0)
        self._show(self._done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _within(seconds: float, call: Callable[[], _T]) -> _T:
    """Result of `call`, or TimeoutError after `seconds`.

    Name resolution has no time limit of its own, so `call` runs in a thread, which is left behind when it is late.
    """
    result: list[_T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="hub", daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not result:
        raise TimeoutError(f"no answer within {seconds} s")
    return result[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:200].rstrip(".")
