"""What went wrong lately with the parts of an agent, by what conversations noted."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from django.utils.formats import date_format

from avatars.models import Agent
from projects.providers.base import PIPELINE, Kind
from sessions.choices import NoticeLevel
from sessions.models import LiveSession, SessionNotice

RECENT = timedelta(days=1)


def recent_troubles(*, agent: Agent) -> dict[str, str]:
    """By kind of the pipeline: what went wrong with it in a conversation of the last day, if none went well since."""
    found = {kind.value: _recent_trouble(agent, kind) for kind in PIPELINE}
    return {kind: trouble for kind, trouble in found.items() if trouble}


def _recent_trouble(agent: Agent, kind: Kind) -> str:
    codes = [f"{kind.value}_{what}" for what in ("lost", "back", "fallback")]
    notices = SessionNotice.objects.filter(session__agent=agent.pk, code__in=codes)
    last = notices.filter(created_at__gte=timezone.now() - RECENT).order_by("-pk").first()
    if last is None or last.level == NoticeLevel.INFO:
        return ""
    later = LiveSession.objects.filter(agent=agent.pk, created_at__gt=last.created_at, turns__isnull=False)
    if later.exclude(notices__code__in=codes).exists():
        return ""
    return f"{date_format(timezone.localtime(last.created_at), 'j M, H:i')}: {last.reason or last.text}"
