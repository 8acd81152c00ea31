"""Small pieces of which lists and pages of the admin are made."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString


def chip(text: str, tone: str) -> SafeString:
    """A short state as a coloured word. Tones: good, busy, bad, quiet."""
    return format_html('<span class="chip chip-{}">{}</span>', tone, text)


def moment(value: datetime) -> SafeString:
    """A date and a time that stay on one line."""
    return format_html('<span class="nowrap">{}</span>', date_format(timezone.localtime(value), "DATETIME_FORMAT"))


def short(text: str) -> SafeString:
    """A name that is cut where it would push the other columns away; all of it shows on pointing."""
    return format_html('<span class="short" title="{}">{}</span>', text, text)
