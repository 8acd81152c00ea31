"""Languages as Whisper calls them."""

from __future__ import annotations

# What Whisper calls languages that others call otherwise: Bokmål, Tagalog, Javanese, Mandarin; and codes of old.
_CODES = {"nb": "no", "fil": "tl", "jv": "jw", "cmn": "zh", "iw": "he", "in": "id", "ji": "yi"}


def plain_language(language: str) -> str:
    """The language of a tag as Whisper writes it ("en-US" -> "en", "nb" -> "no"); "" for "auto"."""
    code = language.strip().lower().replace("_", "-").split("-")[0]
    return "" if code == "auto" else _CODES.get(code, code)


def whisper_language(language: str, supported: list[str]) -> str | None:
    """Whisper's code of a language tag ("en-US" -> "en"), or None: let the model detect it."""
    code = plain_language(language)
    return code if code in supported else None
