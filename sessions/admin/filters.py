"""By what the list of conversations is narrowed."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.utils import parse_date_str

from sessions.choices import LIVE_STATES, TOLD, WARNINGS, SessionState
from sessions.models import HELD_BY_VISITORS, RoomLink, SessionNotice
from sessions.services import failed_talks


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", "Running now"), ("ended", "Ended"), ("failed", "Failed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "live":
                return queryset.filter(state__in=LIVE_STATES)
            case "ended":
                return queryset.filter(state=SessionState.ENDED)
            case "failed":
                return queryset.filter(failed_talks())
            case _:
                return queryset


class HeldFilter(admin.SimpleListFilter):
    """The figures of the first page count what visitors held; the list shows editors' trials and self checks too."""

    title = "held"
    parameter_name = "held"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("visitors", "By visitors"), ("trials", "As trials and checks")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "visitors":
                return queryset.filter(HELD_BY_VISITORS)
            case "trials":
                return queryset.exclude(HELD_BY_VISITORS)
            case _:
                return queryset


class NoticeFilter(admin.SimpleListFilter):
    """What visitors were warned of, of any kind or of one."""

    title = "had notices"
    parameter_name = "notices"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("any", "Any warning"), *TOLD.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        code = self.value()
        if not code:
            return queryset
        told = SessionNotice.objects.filter(session=OuterRef("pk"), level__in=WARNINGS).order_by()
        return queryset.filter(Exists(told if code == "any" else told.filter(code=code)))


class DayFilter(RangeDateFilter):  # type: ignore[misc]  # untyped
    """From one day to another, both of them whole. Half a range is one too; what is no date is left out."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        first, last = (self._midnight(f"{self.parameter_name}_{end}") for end in ("from", "to"))
        if first:
            queryset = queryset.filter(created_at__gte=first)
        if last:
            queryset = queryset.filter(created_at__lt=last + timedelta(days=1))
        return queryset

    def _midnight(self, name: str) -> datetime | None:
        day = parse_date_str(self.used_parameters.get(name) or "")
        return timezone.make_aware(datetime(day.year, day.month, day.day)) if day else None


class FollowedFilter(admin.SimpleListFilter):
    """A filter that a link of another page sets. It is shown while it is set, and can be taken back."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        value = self.value()
        return [] if value is None else [(value, self.name_of(request, value))]

    def name_of(self, request: HttpRequest, value: str) -> str:
        """What the value means to people. Raises IncorrectLookupParameters for one that means nothing."""
        raise NotImplementedError


class SinceFilter(FollowedFilter):
    """From one moment on: the first page looks back by hours, the list's own filter by days."""

    title = "began"
    parameter_name = "created_at__gte"

    def name_of(self, request: HttpRequest, value: str) -> str:
        return f"Since {date_format(timezone.localtime(_moment(value)), 'j M Y, H:i')} UTC"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset if value is None else queryset.filter(created_at__gte=_moment(value))


class LinkFilter(FollowedFilter):
    """Those that came by one link."""

    title = "link"
    parameter_name = "link__id__exact"

    def name_of(self, request: HttpRequest, value: str) -> str:
        try:
            link = RoomLink.objects.for_actor(request.user).filter(pk=uuid.UUID(value)).first()
        except ValueError as error:
            raise IncorrectLookupParameters(error) from error
        if link is None:
            raise IncorrectLookupParameters("There is no such link.")
        return str(link)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset if value is None else queryset.filter(link=uuid.UUID(value))


def _moment(value: str) -> datetime:
    try:
        moment = parse_datetime(value)
    except ValueError as error:
        raise IncorrectLookupParameters(error) from error
    if moment is None:
        raise IncorrectLookupParameters("This is no moment.")
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment
