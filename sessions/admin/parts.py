"""What the pages of links and of conversations share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from projects.list_lookups import DeclaredList
from projects.scoped_admin import chosen_project, my_projects
from sessions.models import LiveSession

if TYPE_CHECKING:
    PaginatorBase = Paginator[Any]
else:
    PaginatorBase = Paginator

COUNT_NO_FURTHER_THAN = 10_000


class CappedPaginator(PaginatorBase):
    """Counts no further than anybody pages: a long list opens as fast as a short one."""

    template_name = "admin/live_sessions/pages.html"

    @cached_property
    def count(self) -> int:
        assert isinstance(self.object_list, QuerySet)
        return self.object_list.order_by()[:COUNT_NO_FURTHER_THAN].count()

    @property
    def is_capped(self) -> bool:
        return self.count == COUNT_NO_FURTHER_THAN


class CountedList(DeclaredList):
    """Figures beside each row are read for the rows of the page alone, by the admin's `add_figures`."""

    model_admin: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.query and not set(self.filter_params) - {ORDER_VAR, SEARCH_VAR}:
            self.full_result_count = self.result_count  # nothing is hidden
        self.result_list = list(self.result_list)  # read once, and only this page
        self.model_admin.add_figures(self.result_list)


def copy_button(text: str, *, label: str = "Copy", name: str = "") -> SafeString:
    """A button that puts `text` on the clipboard; `name` says what of, where several stand on one page."""
    return format_html(
        '<button type="button" class="copy" data-copy="{}" aria-label="{}">{}</button>',
        text,
        f"{label} {name}".strip(),
        label,
    )


def has_several_projects(request: HttpRequest) -> bool:
    """Whether it must be said which project a row belongs to."""
    return chosen_project(request) is None and len(my_projects(request)) > 1


def conversations_url(**query: Any) -> str:
    """The list of conversations, filtered."""
    address = reverse(f"admin:{LiveSession._meta.app_label}_{LiveSession._meta.model_name}_changelist")
    return f"{address}?{urlencode(query)}" if query else address
