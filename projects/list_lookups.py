"""What the address of an admin list may ask for: the list's own filters, its search and its pages.

Django lets any lookup on any field stand in the address. A regular expression against what a visitor wrote would hold
the server for minutes, and many a lookup of a value that it cannot read is an error. Here whatever no filter of the
list takes is left out, and the page says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IS_POPUP_VAR, TO_FIELD_VAR, IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import DataError, models
from django.http import HttpRequest, HttpResponseRedirect, QueryDict
from unfold.views import ChangeList as UnfoldChangeList

if TYPE_CHECKING:
    from django.contrib.admin.views.main import ChangeList

    Base = admin.ModelAdmin[Any]
else:
    ChangeList = UnfoldChangeList
    Base = object

SEARCH = frozenset({SEARCH_VAR, IS_POPUP_VAR, TO_FIELD_VAR})
LONGEST_VALUE = 400
MOST_VALUES = 20
LONGEST_SEARCH = 200
UNREADABLE = (IncorrectLookupParameters, ValidationError, ValueError, OverflowError, DataError)
"""What a filter raises for a value that it cannot read, when it is made or when the database is asked."""


def cut_search(term: str) -> str:
    """What of `term` is searched for: databases take no NUL, and neither patterns nor numbers of words without end."""
    return term.replace("\0", "")[:LONGEST_SEARCH]


def _named(names: Iterable[str]) -> str:
    shown = sorted(name if len(name) <= 60 else f"{name[:60]}…" for name in names)
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return ", ".join(shown[:5]) + more


class DeclaredList(ChangeList):
    """A list that is narrowed by its declared filters alone; `ignored` names what else the address asked for."""

    ignored: frozenset[str] = frozenset()

    def get_filters(self, request: HttpRequest) -> Any:
        specs, has_filters, left, may_repeat, is_narrowed = super().get_filters(request)
        bounds = self._date_bounds() & set(left)
        self.ignored = frozenset(left) - bounds
        for name in self.ignored:
            self.params.pop(name, None)  # links on the page do not carry them on
            self.filter_params.pop(name, None)
        return specs, has_filters, {name: left[name] for name in bounds}, may_repeat, is_narrowed

    def _date_bounds(self) -> set[str]:
        """Lookups that Django made itself, of a year, month or day that was chosen above the list."""
        field = self.date_hierarchy
        return {f"{field}__gte", f"{field}__lt"} if field and f"{field}__year" in self.params else set()


class DeclaredLookups(Base):
    """Mixed into a ModelAdmin: its list takes its own filters and its search from the address, and no other lookup."""

    show_facets = admin.ShowFacets.NEVER  # each counts the whole table once more, and some tables have no end

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return DeclaredList

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return True  # Nothing is refused: what no filter takes is never asked of the database.

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        asked = request.GET
        readable = _readable(asked)
        # A page that there is not costs no filter; a value that a filter cannot read costs all of them.
        attempts = (readable, _only(readable, set(readable) - {PAGE_VAR}), _only(readable, SEARCH))
        for query in attempts:
            request.GET = query  # type: ignore[assignment]  # as Django's own, it is not to be changed
            try:
                changes = super().get_changelist_instance(request)
                break
            except UNREADABLE:
                if query is attempts[-1]:
                    raise
        ignored = (set(asked) - set(request.GET) - {ERROR_FLAG}) | getattr(changes, "ignored", set())
        self._say_what_was_left_out(request, ignored, asked.get(SEARCH_VAR, ""))
        return changes

    def _say_what_was_left_out(self, request: HttpRequest, ignored: set[str], term: str) -> None:
        if ignored:
            text = f"Not taken from the address: {_named(ignored)}. Use the filters and the search of this list."
            messages.warning(request, text)
        if len(term) > LONGEST_SEARCH:
            messages.warning(request, f"Only the first {LONGEST_SEARCH} characters were searched for.")

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        return super().get_search_results(request, queryset, cut_search(search_term))

    def response_action(self, request: HttpRequest, queryset: models.QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        try:
            for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(key)
        except ValidationError:
            messages.warning(request, "Some of the chosen rows are not there. Choose them in the list again.")
            return HttpResponseRedirect(request.get_full_path())
        return super().response_action(request, queryset, *args, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """What the address of an empty form fills in, without what its field cannot hold."""
        given = super().get_changeform_initial_data(request)
        return {name: value for name, value in given.items() if _fits(self.opts, name, value)}


def _readable(query: QueryDict) -> QueryDict:
    """`query` without values that no filter has: with NUL, too long or too many. A search is cut where it is made."""
    fits = {
        name
        for name, values in query.lists()
        if len(values) <= MOST_VALUES
        and (name == SEARCH_VAR or all(len(value) <= LONGEST_VALUE and "\0" not in value for value in values))
    }
    return _only(query, fits)


def _only(query: QueryDict, names: Set[str]) -> QueryDict:
    kept = QueryDict(mutable=True, encoding=query.encoding)
    for name, values in query.lists():
        if name in names:
            kept.setlist(name, values)
    kept._mutable = False
    return kept


def _fits(opts: Any, name: str, value: Any) -> bool:
    """Whether a field of the model can begin with `value`. Moments cannot: widgets want them made, not written."""
    try:
        field = opts.get_field(name)
        if isinstance(field, models.DateField):
            return False
        if isinstance(field, models.Field) and not field.many_to_many:
            field.to_python(value)
    except (FieldDoesNotExist, ValidationError, ValueError, OverflowError):
        return False
    return True
