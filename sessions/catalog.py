"""The words of the pages' scripts in the visitor's language: English text to translation."""

from __future__ import annotations

import gettext
from functools import lru_cache

from django.conf import settings
from django.utils.translation import get_language

DOMAIN = "djangojs"  # what the templates and views say is in `django`


def page_words() -> dict[str, str]:
    """The catalog that a page carries for its scripts; empty where English is spoken."""
    return _words(get_language() or settings.LANGUAGE_CODE)


@lru_cache(maxsize=16)
def _words(language: str) -> dict[str, str]:
    translation = gettext.translation(DOMAIN, str(settings.LOCALE_PATHS[0]), [language], fallback=True)
    found: dict[str, str] = getattr(translation, "_catalog", {})
    return {text: words for text, words in found.items() if text and isinstance(text, str)}
