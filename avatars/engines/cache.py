"""Where engines keep what they make once. Whoever knows the data folder sets it; engines know no settings."""

from __future__ import annotations

from pathlib import Path

from molts.errors import BadConfiguration

_folder: Path | None = None


def keep_in(folder: Path | None) -> None:
    """Everything that engines keep goes below `folder`. It may be deleted at any time: it is made anew when needed."""
    global _folder
    _folder = folder


def cache_folder(name: str) -> Path:
    """The folder of this part of the cache, made when it is not there. Raises BadConfiguration before `keep_in`."""
    if _folder is None:
        raise BadConfiguration("The engines were not told where to keep files: call avatars.engines.cache.keep_in.")
    path = _folder / name
    path.mkdir(parents=True, exist_ok=True)
    return path
