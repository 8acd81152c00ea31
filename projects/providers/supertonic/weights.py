"""The weights of the Supertonic voice: their terms, where they lie, how they are fetched."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path

from molts.errors import BadConfiguration
from projects.providers.shared.hub import FetchProgress, data_dir, fetch_snapshot
from projects.providers.supertonic.options import MODEL

TERMS = (
    "The natural voice uses the Supertonic weights by Supertone. They are licensed under OpenRAIL-M: free to use, also "
    "commercially, but not for the uses its attachment forbids, among them deceiving or impersonating people, "
    "harassment, and breaking the law; and you must pass these limits on to your users. Full text: "
    "https://huggingface.co/Supertone/supertonic-3/blob/main/LICENSE"
)
INSTALL = "Install it: uv sync --extra supertonic."
FETCH = "Let `manage.py up` fetch the weights: set MOLTS_ACCEPT_VOICE_TERMS=1 to accept their terms."
_FILES = ["onnx/*", "voice_styles/*", "config.json", "LICENSE*"]
_ACCEPTED = "terms-accepted.txt"


def model_path() -> Path | None:
    """Folder with the weights, or None when they have not been fetched."""
    folder = _download_folder()
    needed = ("onnx/tts.json", "onnx/vocoder.onnx", "onnx/vector_estimator.onnx", "voice_styles")
    return folder if all((folder / name).exists() for name in needed) else None


def terms_accepted() -> bool:
    """Whether the operator has accepted the terms of the weights, in the environment or on a terminal earlier."""
    from django.conf import settings

    return bool(getattr(settings, "MOLTS_ACCEPT_VOICE_TERMS", False)) or _acceptance().is_file()


def ask_terms() -> bool:
    """Show the terms and ask on the terminal; the answer yes is remembered. False at once without a terminal."""
    if terms_accepted():
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    print(TERMS)
    if input("Accept these terms and fetch the voice? [y/N] ").strip().lower() not in ("y", "yes"):
        return False
    _acceptance().parent.mkdir(parents=True, exist_ok=True)
    _acceptance().write_text(f"{TERMS}\nAccepted on {datetime.now(UTC).isoformat(timespec='seconds')}\n")
    return True


def download(progress: FetchProgress | None = None) -> Path:
    """Fetch the weights into the data folder and return their folder; what is there already is not fetched again.

    Raises BadConfiguration when the package is missing or the terms are not accepted, Unavailable when the hub cannot
    be reached (noticed within 5 s) or stops sending; a later call goes on from there.
    """
    if found := model_path():
        return found
    if not importlib.util.find_spec("supertonic"):
        raise BadConfiguration(f"Supertonic is not installed. {INSTALL}")
    if not terms_accepted():
        raise BadConfiguration(f"The terms of the voice are not accepted. {TERMS} Accept: MOLTS_ACCEPT_VOICE_TERMS=1.")
    from supertonic.config import get_model_repo, get_model_revision

    return fetch_snapshot(
        get_model_repo(MODEL),
        revision=get_model_revision(MODEL),
        target=_download_folder(),
        patterns=_FILES,
        progress=progress,
        fix="Check the network; until then the espeak-ng voice speaks.",
    )


def _download_folder() -> Path:
    return data_dir() / "models" / "supertonic" / MODEL


def _acceptance() -> Path:
    return data_dir() / "models" / "supertonic" / _ACCEPTED
