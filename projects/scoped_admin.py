"""The base of every admin page: what a staff user may see and do there is decided by project membership alone.

Django's own model permissions are not asked. Another project's object answers 404, wherever it is named: an owner of
one project must not learn which ids exist in another.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from django import forms
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.filters import RelatedFieldListFilter
from django.core.paginator import InvalidPage
from django.db import models
from django.forms.utils import pretty_name
from django.forms.widgets import Input
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.text import capfirst
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin as UnfoldModelAdmin
from unfold.admin import TabularInline as UnfoldTabularInline
from unfold.dataclasses import SearchResult
from unfold.sites import UnfoldAdminSite
from unfold.widgets import (
    CHECKBOX_CLASSES,
    FILE_CLASSES,
    INPUT_CLASSES,
    SELECT_CLASSES,
    TEXTAREA_CLASSES,
    UnfoldAdminSelectWidget,
)

from molts.errors import MoltsError
from projects.access import project_id_of
from projects.audit import Audited
from projects.choices import Action
from projects.in_use import uses_of
from projects.list_lookups import DeclaredLookups
from projects.models import Project, ScopedQuerySet, project_ids
from projects.sign_in import SignInForm

if TYPE_CHECKING:
    # The stubs' classes take the model as a parameter, the real ones do not.
    ModelAdmin = admin.ModelAdmin[Any]
    InlineBase = admin.options.InlineModelAdmin[Any, Any]
    OptionsBase = admin.options.BaseModelAdmin[Any]
    ModelFormBase = forms.ModelForm[Any]
    ModelChoiceField = forms.ModelChoiceField[Any]
else:
    ModelAdmin = UnfoldModelAdmin
    InlineBase = UnfoldTabularInline
    OptionsBase = object
    ModelFormBase = forms.ModelForm
    ModelChoiceField = forms.ModelChoiceField

LOOKS: tuple[tuple[type[forms.Widget], list[str]], ...] = (
    (forms.CheckboxInput, CHECKBOX_CLASSES),
    (forms.Textarea, TEXTAREA_CLASSES),
    (forms.Select, SELECT_CLASSES),
    (forms.FileInput, FILE_CLASSES),
    (Input, INPUT_CLASSES),
)
CHOSEN_PROJECT = "molts_project"
"""Where the browser session remembers the chosen project."""
MOST_TO_CHOOSE = 200
MOST_OF_A_KIND = 20


def allowed_projects(request: HttpRequest, action: Action) -> frozenset[Any] | None:
    """Ids of the projects in which the user may do `action`; None means all. Asked once a request."""
    known: dict[Action, frozenset[Any] | None] = request.__dict__.setdefault("_molts_projects", {})
    if action not in known:
        ids = project_ids(request.user, action)
        known[action] = None if ids is None else frozenset(ids.values_list("pk", flat=True))
    return known[action]


def may_do(request: HttpRequest, action: Action | None, project_id: Any = None) -> bool:
    """Whether the user may do `action` in that project; without one, in any. No action: nobody may."""
    if action is None:
        return False
    allowed = allowed_projects(request, action)
    if allowed is None:
        return True
    return bool(allowed) if project_id is None else project_id in allowed


def runs_server(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)


def my_projects(request: HttpRequest) -> list[Project]:
    """The projects that whoever is signed in may look into, for choosing one. Asked once a request."""
    if "_molts_my_projects" not in request.__dict__:
        mine = Project.objects.for_actor(request.user).only("name").order_by("name", "pk")
        request.__dict__["_molts_my_projects"] = list(mine[:MOST_TO_CHOOSE])
    found: list[Project] = request.__dict__["_molts_my_projects"]
    return found


def chosen_project(request: HttpRequest) -> Project | None:
    """The project that lists and the start page are narrowed to; None for all of one's own."""
    chosen = request.session.get(CHOSEN_PROJECT)
    return next((project for project in my_projects(request) if str(project.pk) == chosen), None) if chosen else None


def in_chosen_project(request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
    """Narrow `queryset` to the project that was chosen in the sidebar."""
    project = chosen_project(request)
    if project is None:
        return queryset
    return queryset.filter(**{getattr(queryset.model, "project_path", "project"): project.pk})


def shown_projects(request: HttpRequest) -> frozenset[Any] | None:
    """Ids of the projects whose objects this request shows, in a list those of the chosen one; None means all."""
    project = chosen_project(request) if _in_list(request) else None
    return allowed_projects(request, Action.VIEW) if project is None else frozenset({project.pk})


def is_scoped(model: type[models.Model]) -> bool:
    return isinstance(model._default_manager.all(), ScopedQuerySet)


class ScopedChoiceField(ModelChoiceField):
    """Names the project beside each choice where choices of several projects stand together."""

    show_project = False
    """Whether the form still chooses its project: until then choices say whose they are."""

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj} ({obj.project})" if self.show_project else str(obj)


class OwnPartSelect(UnfoldAdminSelectWidget):  # type: ignore[misc]  # untyped
    """Says with each choice whose it is, so that the page can offer those of the chosen project alone."""

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        part = getattr(value, "instance", None)
        if part is not None:
            option["attrs"]["data-project"] = str(project_id_of(part))
        return option


def dress(form: forms.BaseForm) -> None:
    """Give fields that a form declares itself the look of those that the admin makes."""
    for field in form.fields.values():
        for kind, classes in LOOKS:
            if isinstance(field.widget, kind) and "class" not in field.widget.attrs:
                field.widget.attrs["class"] = " ".join(classes)
                if type(field.widget) is forms.Select:
                    field.widget.template_name = UnfoldAdminSelectWidget.template_name  # with an arrow
                break


class ScopedForm(ModelFormBase):
    """Refuses parts of another project, and checks uniqueness within the project although it is not asked again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dress(self)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        project = cleaned.get("project") or getattr(self.instance, "project_id", None)
        if project is not None:
            refuse_foreign_parts(self, getattr(project, "pk", project))
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        if getattr(self.instance, "project_id", None) is not None:
            excluded.discard("project")
        return excluded


def refuse_foreign_parts(form: forms.BaseForm, project_id: uuid.UUID) -> None:
    """Add an error to every chosen object that belongs to another project than the form's."""
    for name, value in list(form.cleaned_data.items()):
        if name == "project" or not isinstance(value, models.Model) or not is_scoped(type(value)):
            continue
        if project_id_of(value) != project_id:
            form.add_error(name, "This belongs to another project.")


def counted(number: int, noun: str) -> str:
    """ "1 link", "2 links"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def add_form_error(form: forms.BaseForm, error: MoltsError) -> None:
    """Show `error` at the field that it names."""
    form.add_error(error.attr if error.attr in form.fields else None, error.detail)


def say_what_was_lost(form: forms.BaseForm) -> None:
    """Name the fields of a refused form that come back empty: browsers are sent no secret and keep no chosen file."""
    if not form.is_bound or not form.errors:
        return
    for name, field in form.fields.items():
        if name in form.errors:
            continue
        if isinstance(field.widget, forms.PasswordInput) and form.data.get(form.add_prefix(name)):
            form.add_error(name, "What you typed here was not kept: type it again.")
        elif isinstance(field.widget, forms.FileInput) and form.files.get(form.add_prefix(name)):
            form.add_error(name, "The chosen file was not kept: choose it again.")


class Scope(OptionsBase):
    """Which role may do what. None: nobody, not even a superuser."""

    view_action: Action | None = Action.VIEW
    add_action: Action | None = Action.EDIT
    change_action: Action | None = Action.EDIT
    delete_action: Action | None = Action.EDIT
    owner_field = "project"
    """The field that decides whose a new object will be: it offers only where the user may add."""

    # `obj` is the object itself for a ModelAdmin, its parent for an inline: both belong to the project that decides.
    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_do(request, self.view_action, _decided(obj))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_do(request, self.add_action, _decided(obj))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_do(request, self.change_action, _decided(obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_do(request, self.delete_action, _decided(obj))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_do(request, self.view_action)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        found: models.QuerySet[Any] = super().get_queryset(request)
        assert isinstance(found, ScopedQuerySet), f"{found.model.__name__} cannot be told apart by project"
        mine = found.for_actor(request.user, self.view_action or Action.VIEW)
        return in_chosen_project(request, mine) if _in_list(request) else mine

    def formfield_for_foreignkey(
        self, db_field: models.ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField | None:
        model = db_field.related_model
        if not is_scoped(model):
            return super().formfield_for_foreignkey(db_field, request, **kwargs)
        given = kwargs.pop("queryset", None)
        choices = self._choices(db_field, request, model._default_manager.all() if given is None else given)
        mixed = "project" in {field.name for field in model._meta.fields} and _fixed_project(request) is None
        several = mixed and (allowed_projects(request, Action.VIEW) is None or len(_ids(request)) > 1)
        if several:
            choices = choices.select_related("project")
            kwargs.setdefault("widget", OwnPartSelect())
            kwargs.setdefault("empty_label", "Select value")
        field = super().formfield_for_foreignkey(
            db_field, request, queryset=choices, form_class=ScopedChoiceField, **kwargs
        )
        if isinstance(field, ScopedChoiceField):
            field.show_project = several
            if db_field.name == "project":
                field.initial = self._likely_project(request, choices)
        return field

    def _likely_project(self, request: HttpRequest, choices: models.QuerySet[Any]) -> Any:
        """The one that was chosen in the sidebar, or the only one there is."""
        project = chosen_project(request)
        if project is not None and choices.filter(pk=project.pk).exists():
            return project.pk
        only = list(choices[:2])
        return only[0].pk if len(only) == 1 else None

    def _choices(self, db_field: Any, request: HttpRequest, choices: Any) -> models.QuerySet[Any]:
        action = (self.add_action if db_field.name == self.owner_field else None) or Action.VIEW
        scoped: models.QuerySet[Any] = choices.for_actor(request.user, action)
        fixed = _fixed_project(request)
        if fixed is None or db_field.name == "project":
            return scoped
        return scoped.filter(**{getattr(scoped.model, "project_path", "project"): fixed})


def _decided(obj: Any) -> Any:
    return None if obj is None else project_id_of(obj)


def _ids(request: HttpRequest) -> frozenset[Any]:
    return allowed_projects(request, Action.VIEW) or frozenset()


def _fix_project(request: HttpRequest, obj: Any) -> None:
    """Remember whose choices a form on this request may offer."""
    request.__dict__["_molts_fixed_project"] = _decided(obj)


def _fixed_project(request: HttpRequest) -> Any:
    return request.__dict__.get("_molts_fixed_project")


@dataclass(frozen=True)
class NextStep:
    """A link to what should be done next."""

    label: str
    url: str


def _in_list(request: HttpRequest) -> bool:
    """Whether this request shows a list; an object's own page opens whatever project is chosen."""
    return bool(request.__dict__.get("_molts_in_list"))


def without_fields(fieldsets: Any, left_out: Collection[str]) -> list[tuple[Any, dict[str, Any]]]:
    """`fieldsets` without these fields, and without those in which none is left."""
    kept = []
    for title, options in fieldsets:
        lines = [
            [name for name in (line if isinstance(line, list | tuple) else [line]) if name not in left_out]
            for line in options["fields"]
        ]
        fields = [line[0] if len(line) == 1 else tuple(line) for line in lines if line]
        if fields:
            kept.append((title, {**options, "fields": fields}))
    return kept


OWN_PARTS = forms.Script("src/admin/own-parts.js", type="module")


class ScopedAdmin(DeclaredLookups, Audited, Scope, ModelAdmin):
    """A ModelAdmin whose objects, choices, actions and history end at the user's projects."""

    form = ScopedForm
    view_on_site = False
    warn_unsaved_form = True
    search_from = 1
    """How many letters the search over everything needs before it looks here."""
    counted_as = ""
    """What the list below counts, where the title of the page is no plural."""
    empty_text = ""
    """Shown where the list would be while there is nothing in it: what this is and what it is good for."""
    empty_link: tuple[str, str] | None = None
    """Label and URL name of another next step, for example `("Make an agent", "admin:avatars_agent_add")`."""

    @property
    def media(self) -> forms.Media:
        return super().media + forms.Media(js=[OWN_PARTS])  # type: ignore[list-item]  # Django takes it

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        obj = super().get_object(request, object_id, from_field)
        if obj is None:
            # Before any question of permission: what is not there must answer as another project's does.
            raise Http404(f"There is no {self.opts.verbose_name} with this id.")
        return obj

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        _fix_project(request, obj)
        return super().get_form(request, obj, change, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """An object stays in its project: what hangs on it would be left behind."""
        fields = tuple(str(name) for name in super().get_readonly_fields(request, obj))
        has_project = any(field.name == "project" for field in self.opts.fields)
        return (*fields, "project") if obj is not None and has_project and "project" not in fields else fields

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """A new object has no facts yet: what the form only shows is left out until there is an object."""
        fieldsets = super().get_fieldsets(request, obj)
        return fieldsets if obj is not None else without_fields(fieldsets, self.get_readonly_fields(request))

    def get_empty_link(self, request: HttpRequest) -> NextStep | None:
        """The next step when the list is empty; to be overridden where it depends on what is there."""
        return NextStep(self.empty_link[0], reverse(self.empty_link[1])) if self.empty_link else None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        request.__dict__["_molts_in_list"] = True
        return super().changelist_view(request, extra_context)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes: Any = super().get_changelist_instance(request)
        if not changes.result_count:
            changes.empty_link = self.get_empty_link(request)  # for the template
        return changes

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[Any], list[Any]]:
        """Whoever may delete an object may delete what hangs on it: that is of the same project.

        Each object is asked for by itself: a bulk action may hold objects of projects where the role is another.
        """
        to_delete, counts, _, protected = super().get_deleted_objects(objs, request)
        refused = {str(self.opts.verbose_name) for obj in objs if not self.has_delete_permission(request, obj)}
        return to_delete, counts, refused, uses_of(objs) if protected else []

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        say_what_was_lost(context["adminform"].form)
        return super().render_change_form(request, context, *args, **kwargs)

    def search_title(self, obj: Any) -> str:
        """How the search over everything names an object."""
        return str(obj)

    def may_change(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Iterable[Any]:
        """Those of an action's objects that the user may change."""
        assert isinstance(queryset, ScopedQuerySet)
        return queryset.for_actor(request.user, self.change_action or Action.EDIT)


class ScopedTabularInline(Scope, InlineBase):
    """An inline of a ScopedAdmin; its rows are the parent's."""

    extra = 0

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        _fix_project(request, obj)
        formset = super().get_formset(request, obj, **kwargs)
        for name, field in formset.form.base_fields.items():  # a column's head labels none of its fields
            field.widget.attrs.setdefault("aria-label", str(field.label or pretty_name(name)))
        return formset


class ScopedRelatedFilter(RelatedFieldListFilter):
    """A filter whose choices are the user's own."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        choices = field.related_model.objects.for_actor(request.user)
        return [(choice.pk, str(choice)) for choice in in_chosen_project(request, choices)]


class ScopedAdminSite(UnfoldAdminSite):  # type: ignore[misc]  # untyped
    """The admin site without its short cut from any object's id to its page, which asks nobody's permission."""

    login_form = SignInForm

    def get_urls(self) -> list[Any]:
        return [
            path("r/<path:content_type_id>/<path:object_id>/", self.admin_view(_nowhere), name="view_on_site"),
            path("choose-project/", self.admin_view(choose_project), name="choose_project"),
            *super().get_urls(),
        ]

    def extra_context(self, context: dict[str, Any], request: HttpRequest) -> dict[str, Any]:
        if self.has_permission(request):
            context |= {"my_projects": my_projects(request), "chosen_project": chosen_project(request)}
        return context

    def _search_apps(self, app_list: Any, search_term: str) -> list[SearchResult]:
        """Nothing: pages are found by their titles in the sidebar (`molts.admin.frame.search_pages`)."""
        return []

    def _search_models(
        self, request: HttpRequest, app_list: Any, search_term: str, allowed_models: Any = None
    ) -> list[SearchResult]:
        """The first few of each kind: whoever wants all of them has the list's own search."""
        found = []
        for label in allowed_models or ():
            pages: Any = self._registry[apps.get_model(label)]
            if not pages.has_view_permission(request) or len(search_term) < getattr(pages, "search_from", 1):
                continue
            results, _ = pages.get_search_results(request, pages.get_queryset(request), search_term)
            name = getattr(pages, "search_title", str)
            for obj in dict.fromkeys(results[:MOST_OF_A_KIND]):
                address = reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[obj.pk])
                found.append(
                    SearchResult(str(name(obj)), str(capfirst(obj._meta.verbose_name)), address, "arrow_outward")
                )
        return found

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        page = request.GET.get("page", "1")
        if not page.isdecimal() or len(page) > 9:
            raise Http404("Pages are numbered.")
        try:
            return super().search(request, extra_context)
        except InvalidPage as error:
            raise Http404("There are fewer pages.") from error


@require_POST
def choose_project(request: HttpRequest) -> HttpResponse:
    """Remember the project that lists and the start page are narrowed to; none for all."""
    chosen = request.POST.get("project", "")
    if chosen and not any(str(project.pk) == chosen for project in my_projects(request)):
        raise Http404("There is no such project.")
    request.session[CHOSEN_PROJECT] = chosen
    back = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}, require_https=request.is_secure())
    return redirect(back if safe else "admin:index")


def _nowhere(request: HttpRequest, content_type_id: str, object_id: str) -> NoReturn:
    raise Http404("There is nothing here.")
