"""Whisper's weights: where they lie and how they are fetched."""

from __future__ import annotations

from pathlib import Path

from molts.errors import BadConfiguration
from projects.providers.shared.hub import FetchProgress, data_dir, fetch_snapshot

MEND = "Set MOLTS_WHISPER_MODEL to a folder with a CTranslate2 Whisper model, or let `manage.py up` fetch one."
_MODEL_FILES = ["config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*"]


def model_path(name: str) -> Path | None:
    """Folder of the model `name` (a folder, or a name fetched earlier), or None when it is not on this machine."""
    for folder in (Path(name).expanduser(), _download_folder(name)):
        if (folder / "model.bin").is_file() and (folder / "config.json").is_file():
            return folder.resolve()
    return None


def at_hand(name: str) -> str:
    """`name`, or while it is not on this machine the next smaller size that is; `name` again when there is none."""
    from django.conf import settings

    sizes = list(settings.MOLTS_SPEECH_LADDER)
    smaller = reversed(sizes[: sizes.index(name)]) if name in sizes else ()
    return next((each for each in (name, *smaller) if model_path(each)), name)


def require_model(name: str) -> Path:
    """Folder of the model `name`. Raises BadConfiguration, saying what to do, when it is not on this machine."""
    if folder := model_path(name):
        return folder
    raise BadConfiguration(f"Whisper model {name} is not on this machine. {MEND}")


def download(name: str, progress: FetchProgress | None = None) -> Path:
    """Fetch the model `name` into the data folder and return its folder; what is there already is not fetched again.

    `progress(done_bytes, total_bytes)` is called from a worker thread. Raises BadConfiguration for an unknown name,
    Unavailable when the hub cannot be reached (noticed within 5 s) or stops sending; a later call goes on from there.
    """
    if found := model_path(name):
        return found
    return fetch_snapshot(
        repository(name),
        target=_download_folder(name),
        patterns=_MODEL_FILES,
        progress=progress,
        fix="Check the network, or set MOLTS_WHISPER_MODEL to a folder with a CTranslate2 Whisper model.",
    )


def repository(name: str) -> str:
    """Hub repository of a model name: "base" -> "Systran/faster-whisper-base"."""
    from faster_whisper.utils import _MODELS, available_models

    if name in _MODELS:
        return str(_MODELS[name])
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name
    known = ", ".join(available_models())
    raise BadConfiguration(f"Whisper model {name!r} is neither a folder with a model nor a known name ({known}).")


def _download_folder(name: str) -> Path:
    return data_dir() / "models" / "whisper" / name.replace("/", "--")
