"""Languages that an agent can be set to. Which of them are heard and spoken well depends on its pipeline."""

from __future__ import annotations

from django.conf.locale import LANG_INFO

CODES = [
    "en",
    "en-GB",
    "ar",
    "bg",
    "ca",
    "cs",
    "da",
    "de",
    "el",
    "es",
    "es-MX",
    "et",
    "fa",
    "fi",
    "fr",
    "fr-CA",
    "he",
    "hi",
    "hr",
    "hu",
    "id",
    "it",
    "ja",
    "ko",
    "lt",
    "lv",
    "ms",
    "nl",
    "no",
    "pl",
    "pt",
    "pt-BR",
    "ro",
    "ru",
    "sk",
    "sl",
    "sr",
    "sv",
    "th",
    "tr",
    "uk",
    "ur",
    "vi",
    "zh",
]
_NAMES = {"fr-CA": "French (Canada)", "ms": "Malay", "no": "Norwegian", "zh": "Chinese"}


def language_choices(current: str = "") -> list[tuple[str, str]]:
    """(tag, English name) by name; a tag that an agent has already stays a choice."""
    codes = [*CODES, *([current] if current and current not in CODES else [])]
    return sorted(((code, language_name(code)) for code in codes), key=lambda choice: choice[1])


def language_name(code: str) -> str:
    if code in _NAMES:
        return _NAMES[code]
    info = LANG_INFO.get(code.lower())
    return str(info["name"]) if info and "name" in info else code
