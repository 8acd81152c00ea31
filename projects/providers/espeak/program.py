"""The espeak-ng program: where it is, how it is called, what it can be given to read."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

SAMPLE_RATE = 22050
MEND = "Install the program (Debian: apt install espeak-ng) or the extra: uv sync --extra espeak."
_CHILD = Path(__file__).with_name("child.py")
_DEFAULT_VOICES = {"en": "en-us"}


def espeak_command(*, voice: str, rate: int, pitch: int) -> list[str]:
    """Command that reads text on stdin and writes a WAV stream to stdout; [] when espeak-ng is not on this machine."""
    settings = ["-v", voice, "-s", str(rate), "-p", str(pitch)]
    if program := shutil.which("espeak-ng"):
        return [program, "--stdin", "--stdout", "-b", "1", *settings]
    if importlib.util.find_spec("espeakng_loader"):
        # -I: the folder of the script must not shadow installed packages with modules of the same name
        return [sys.executable, "-I", str(_CHILD), *settings]
    return []


def default_voice(language: str) -> str:
    """espeak-ng voice for a language tag: "en" -> "en-us", "pt-BR" -> "pt-br"."""
    tag = language.strip().lower().replace("_", "-") or "en"
    return _DEFAULT_VOICES.get(tag, tag)


def speakable(text: str) -> str:
    """Text without what espeak-ng would read as phoneme commands (`[[...]]`) or as the end of its input (NUL)."""
    return text.replace("[[", "[ [").replace("\0", " ")
