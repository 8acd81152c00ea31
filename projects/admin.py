"""Projects with their members and keys."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.utils import quote, unquote
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from molts.errors import BadInput, MoltsError
from projects import (
    addresses,
    one_time,
    services,
    user_admin,  # noqa: F401  # registers the pages of users
)
from projects.audit import record_action
from projects.choices import Action, AuditAction, MemberRole
from projects.models import ApiKey, AuditEntry, Member, Project, ProviderKey
from projects.offers import offers_view
from projects.probes import KindProbe, check_probe_rate, probe_connection
from projects.providers import PROVIDERS, get_provider
from projects.providers.base import Credentials
from projects.scoped_admin import (
    CHOSEN_PROJECT,
    ScopedAdmin,
    ScopedForm,
    ScopedRelatedFilter,
    ScopedTabularInline,
    add_form_error,
    counted,
    dress,
    may_do,
)

if TYPE_CHECKING:
    MemberFormBase = forms.ModelForm[Member]
    MemberFormSetBase = forms.BaseInlineFormSet[Member, Project, "MemberForm"]
else:
    MemberFormBase = forms.ModelForm
    MemberFormSetBase = forms.BaseInlineFormSet


class MemberForm(MemberFormBase):
    """A member is named by sign-in name: a list to choose from would show every tenant's people."""

    username = forms.CharField(label="User name", max_length=150)

    class Meta:
        model = Member
        fields = ("role",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.fields["username"].initial = self.instance.user.get_username()
            self.fields["username"].disabled = True
        dress(self)

    def clean_username(self) -> str:
        name: str = self.cleaned_data["username"]
        if self.instance._state.adding:
            user = get_user_model()._default_manager.filter(username=name, is_active=True).first()
            if user is None:
                raise forms.ValidationError("There is no user of this name. An administrator can add one under Users.")
            if Member.objects.filter(project_id=self.instance.project_id, user_id=user.pk).exists():
                raise forms.ValidationError("This user is a member already.")
            self.instance.user_id = user.pk
        return name


class ProjectForm(ScopedForm):
    class Meta:
        model = Project
        fields = ("name", "max_concurrent_sessions")
        labels = {"max_concurrent_sessions": "Conversations at once"}


class MemberFormSet(MemberFormSetBase):
    def clean(self) -> None:
        super().clean()
        kept = [form for form in self.forms if form.cleaned_data and not form.cleaned_data.get("DELETE")]
        names = [form.cleaned_data.get("username") for form in kept]
        if len(set(names)) < len(names):
            raise forms.ValidationError("Name each user once.")
        if kept and not any(form.cleaned_data.get("role") == MemberRole.OWNER for form in kept):
            raise forms.ValidationError("A project needs an owner: make another member one first.")
        if self.initial_forms and not kept:
            raise forms.ValidationError("A project needs an owner: it cannot do without all its members.")

    def save_new(self, form: MemberForm, commit: bool = True) -> Member:
        role = MemberRole(form.cleaned_data["role"])
        return services.add_member(project=self.instance, user=form.instance.user, role=role)


class MemberInline(ScopedTabularInline):
    model = Member
    form = MemberForm
    formset = MemberFormSet  # type: ignore[assignment]  # the stubs want it for any model
    fields = ("username", "role", "created_at")
    readonly_fields = ("created_at",)
    verbose_name_plural = "members"
    add_action = change_action = delete_action = Action.MANAGE

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Without the right to change there is no form, so the name comes from the row itself.
        return self.fields if self.has_change_permission(request, obj) else ("user", "role", "created_at")


class KindFilter(admin.RelatedFieldListFilter):
    """Only kinds that have pages here."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        kinds = ContentType.objects.get_for_models(*model_admin.admin_site._registry).values()
        return sorted(((kind.pk, kind.name) for kind in kinds), key=lambda choice: choice[1])


@admin.register(Project)
class ProjectAdmin(ScopedAdmin):
    form = ProjectForm
    list_display = ("name", "at_once", "created_at")
    search_fields = ("name", "members__user__username")
    search_help_text = "Search in names of projects and members."
    fields = ("name", "max_concurrent_sessions", "created_at")
    readonly_fields = ("created_at",)
    inlines = (MemberInline,)
    change_form_after_template = "admin/projects/project/roles.html"
    empty_text = "A project holds agents, keys, links and conversations, and the people who may see them."
    add_action = None
    change_action = delete_action = Action.MANAGE

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return runs_server(request)

    @admin.display(description="conversations at once", ordering="max_concurrent_sessions")
    def at_once(self, project: Project) -> int:
        return project.max_concurrent_sessions

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if not change and not form.instance.members.exists():
            assert request.user.is_authenticated
            services.add_member(project=form.instance, user=request.user, role=MemberRole.OWNER)

    def response_add(self, request: HttpRequest, obj: Project, post_url_continue: str | None = None) -> HttpResponse:
        """Go where the next steps are: into the new project, and to its checklist."""
        if IS_POPUP_VAR in request.POST:
            return super().response_add(request, obj, post_url_continue)
        request.session[CHOSEN_PROJECT] = str(obj.pk)
        answer = super().response_add(request, obj, post_url_continue)
        stays = {"_continue", "_addanother"} & set(request.POST)
        return answer if stays else redirect("admin:index")


@admin.register(ApiKey)
class ApiKeyAdmin(ScopedAdmin):
    """The key itself stands on one page, right after it was made; nothing shows or keeps it."""

    list_display = ("name", "project", "shown", "is_usable", "last_used_at", "created_by", "created_at")
    list_select_related = ("project", "created_by")
    list_filter = (("project", ScopedRelatedFilter), ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "prefix")
    search_help_text = "Search in names and in how keys begin."
    fields = ("project", "name", "shown", "created_by", "created_at", "last_used_at", "revoked_at")
    readonly_fields = ("shown", "created_by", "created_at", "last_used_at", "revoked_at")
    actions = ("revoke",)
    change_form_after_template = "admin/projects/apikey/once.html"
    change_form_outer_after_template = "admin/projects/apikey/revoke.html"
    add_action = change_action = delete_action = Action.MANAGE
    empty_text = "Programs use an API key to start conversations and read transcripts. Each opens one project."

    class Media:
        js = ("admin/copy.js",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else ("project", "name")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        """A form makes one key, however often it is sent: a page that is loaded again sends it again."""
        try:
            key_id = one_time.read(request)
            return super().add_view(request, form_url, {"once": one_time.issue(request), **(extra_context or {})})
        except IntegrityError:
            if key_id is None or not ApiKey.objects.for_actor(request.user, Action.MANAGE).filter(pk=key_id).exists():
                raise
        messages.info(
            request, "This key was made already and shown once. If it was not copied, revoke it and add another."
        )
        return redirect("admin:projects_apikey_change", key_id)

    @admin.display(description="key")
    def shown(self, key: ApiKey) -> str:
        return f"{key.prefix}…"

    @admin.display(description="usable", boolean=True)
    def is_usable(self, key: ApiKey) -> bool:
        return key.is_usable

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            obj.save(update_fields=["name"])
            return
        assert request.user.is_authenticated
        made, plain = services.create_api_key(
            project=obj.project, name=obj.name, created_by=request.user, key_id=one_time.read(request)
        )
        obj.__dict__.update(made.__dict__)  # the rest of the request speaks of the row that was made
        request.__dict__["_molts_plain_key"] = plain

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """The key is in this answer alone: no message, session or address holds it."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Your new API key",
            "opts": self.opts,
            "key": obj,
            "plain": request.__dict__.pop("_molts_plain_key"),
            "agents_url": f"{settings.MOLTS_PUBLIC_URL}/api/v1/agents",
        }
        return TemplateResponse(request, "admin/projects/apikey/made.html", context)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_POST(self.revoke_view))
        return [path("<uuid:key_id>/revoke/", view, name="projects_apikey_revoke"), *super().get_urls()]

    def revoke_view(self, request: HttpRequest, key_id: uuid.UUID) -> HttpResponse:
        key = self.get_object(request, str(key_id))
        if not self.has_change_permission(request, key):
            raise PermissionDenied
        if self._revoke(request, key):
            messages.success(request, "The API key is revoked: it is refused from the next request on.")
        return redirect("admin:projects_apikey_change", key.pk)

    @admin.action(description="Revoke selected API keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        revoked = sum(self._revoke(request, key) for key in self.may_change(request, queryset))
        messages.info(request, f"{counted(revoked, 'API key')} revoked.")

    def _revoke(self, request: HttpRequest, key: ApiKey) -> bool:
        revoked = services.revoke_api_key(key=key)
        if revoked:
            record_action(request_user=request.user, obj=key, text="Revoked.")
        return revoked


def runs_server(request: HttpRequest) -> bool:
    return bool(request.user.is_active and request.user.is_superuser)


def _provider_choices() -> list[tuple[str, str]]:
    providers = [provider for provider in map(get_provider, PROVIDERS) if provider.takes_key]
    return [("", "Choose a provider"), *((provider.key, provider.label) for provider in providers)]


class ProviderKeyForm(ScopedForm):
    provider = forms.ChoiceField(choices=_provider_choices)
    secret = forms.CharField(
        required=False,
        strip=True,
        max_length=4000,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "size": 60}),
        help_text="Stored encrypted, never shown again.",
    )

    is_for_operator = False
    """Whether who fills it in runs this server: they see the setting that would allow a refused address."""

    class Meta:
        model = ProviderKey
        fields = ("project", "name", "provider", "base_url")
        widgets = {"base_url": forms.URLInput(attrs={"size": 60, "placeholder": "https://"})}
        help_texts = {
            "base_url": "Leave empty for the vendor's own address. A change of host asks for the secret again. "
            "Addresses on private networks are called where this server allows them: "
            f'<a href="{addresses.DOCUMENTED}">how</a>.'
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.secret_cipher and "secret" in self.fields:
            self.fields["secret"].help_text = "Stored encrypted, never shown again. Leave empty to keep the stored one."

    def clean_base_url(self) -> str:
        url: str = self.cleaned_data["base_url"].strip()
        provider = self.cleaned_data.get("provider")
        if not url or not provider:
            return url
        try:
            return addresses.check_base_url(provider=provider, url=url)
        except BadInput as error:
            raise forms.ValidationError(
                addresses.with_setting(error.detail, url, shown=self.is_for_operator)
            ) from error

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if self.errors:
            return cleaned
        provider = get_provider(cleaned["provider"])
        if provider.needs_key and not cleaned["secret"] and not self.instance.secret_cipher:
            self.add_error("secret", f"{provider.label} needs a secret.")
        if provider.takes_base_url and not provider.default_base_url and not cleaned["base_url"]:
            self.add_error("base_url", f"{provider.label} has no address of its own: give its base URL.")
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if not self.errors:
            try:
                services.check_secret_stays(key=self.instance, secret=self.cleaned_data["secret"])
            except BadInput as error:
                add_form_error(self, error)


@admin.register(ProviderKey)
class ProviderKeyAdmin(ScopedAdmin):
    """A key can be tried before it is saved, after, and from the list."""

    form = ProviderKeyForm
    list_display = ("name", "project", "provider_label", "address", "stored_secret", "updated_at", "test_button")
    list_select_related = ("project",)
    list_filter = (("project", ScopedRelatedFilter), "provider")
    search_fields = ("name", "provider", "base_url")
    search_help_text = "Search in names, providers and addresses."
    fields = ("project", "name", "provider", "base_url", "stored_secret", "secret", "updated_at")
    readonly_fields = ("stored_secret", "updated_at")
    list_before_template = "admin/projects/providerkey/results.html"
    change_form_after_template = "admin/projects/providerkey/connection.html"
    add_action = change_action = delete_action = Action.MANAGE
    empty_text = (
        "A provider key opens an account with a vendor, or a server of your own, that listens, thinks or speaks for "
        "your agents. Agents talk without any, on this machine alone."
    )

    class Media:
        js = ("src/admin/keys.js",)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.test_view)
        return [
            path("test/", view, name="projects_providerkey_test_new"),
            path("offers/", self.admin_site.admin_view(offers_view), name="projects_providerkey_offers"),
            path("<path:object_id>/test/", view, name="projects_providerkey_test"),
            *super().get_urls(),
        ]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("project", "name", "provider", "base_url", "secret")
        if not self.has_change_permission(request, obj):
            shown = {"provider": "provider_label"}  # without a form nothing turns the key into a name
            return [shown.get(name, name) for name in self.fields if name != "secret"]
        return self.fields

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)  # a class of this request's own
        form.is_for_operator = runs_server(request)
        return form

    def get_list_display(self, request: HttpRequest) -> Any:
        shown = super().get_list_display(request)
        return shown if may_do(request, Action.MANAGE) else [name for name in shown if name != "test_button"]

    @admin.display(description="provider", ordering="provider")
    def provider_label(self, key: ProviderKey) -> str:
        return get_provider(key.provider).label if key.provider in PROVIDERS else key.provider

    @admin.display(description="base URL", ordering="base_url")
    def address(self, key: ProviderKey) -> SafeString:
        """May go on in the next line after a slash, as browsers do nowhere in an address but in the midst of a word."""
        return format_html_join(SafeString("/<wbr>"), "{}", ((part,) for part in key.base_url.split("/")))

    @admin.display(description="stored secret")
    def stored_secret(self, key: ProviderKey) -> str:
        return key.masked

    @admin.display(description="connection")
    def test_button(self, key: ProviderKey) -> SafeString:
        url = reverse("admin:projects_providerkey_test", args=[key.pk])
        return format_html(
            '<button type="submit" class="plain-button" formaction="{}" formmethod="post" data-test-url="{}" '
            'data-name="{}" aria-label="Test connection of {}">Test</button>',
            url,
            url,
            key.name,
            key.name,
        )

    def save_model(self, request: HttpRequest, obj: ProviderKey, form: Any, change: bool) -> None:
        services.save_provider_key(key=obj, secret=form.cleaned_data["secret"])

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return super().response_add(self._tested(request, obj), obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return super().response_change(self._tested(request, obj), obj)

    def _tested(self, request: HttpRequest, key: ProviderKey) -> HttpRequest:
        """Without scripts the button saves, tests what was saved, and stays on the page."""
        if "_test" in request.POST:
            data: Any = request.POST.copy()
            data["_continue"] = "1"
            request.POST = data
            _tell(request, _try_connection(request, lambda: (key, _stored(key))))
        return request

    def test_view(self, request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        """Try what the form holds, or the stored key when no form was sent."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        key = self.get_object(request, unquote(object_id)) if object_id else None
        if not (self.has_change_permission(request, key) if key else self.has_add_permission(request)):
            raise PermissionDenied
        outcome = _try_connection(request, lambda: self._credentials(request, key))
        if "application/json" in request.headers.get("Accept", ""):
            return JsonResponse(outcome.as_json())
        _tell(request, outcome)
        return redirect("admin:projects_providerkey_changelist")

    def _credentials(self, request: HttpRequest, key: ProviderKey | None) -> tuple[ProviderKey, Credentials]:
        """The key that is tried, and with what. Raises BadInput for a form that could not be saved either."""
        if key is not None and "provider" not in request.POST:
            return key, _stored(key)
        data = request.POST.copy()
        data["name"] = data.get("name") or "unnamed"  # a key can be tried before it has a name
        form = self.get_form(request, key, change=key is not None)(data, instance=key)
        if not form.is_valid():
            raise BadInput(" ".join(str(text) for texts in form.errors.values() for text in texts))
        typed = form.cleaned_data["secret"]
        stored = form.instance.reveal() if form.instance.secret_cipher else ""
        return form.instance, Credentials(api_key=typed or stored, base_url=form.instance.base_url)


@dataclass(frozen=True)
class Outcome:
    """Of a connection test: what each call gave, or why none was made."""

    probes: Sequence[KindProbe] = ()
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error and all(probe.result.ok for probe in self.probes)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "error": self.error,
            "results": [
                {
                    "label": probe.label,
                    "verdict": probe.verdict,
                    "ok": probe.result.ok,
                    "text": probe.result.text,
                    "latency_ms": probe.result.latency_ms,
                }
                for probe in self.probes
            ],
        }


def _stored(key: ProviderKey) -> Credentials:
    return Credentials(api_key=key.reveal() if key.secret_cipher else "", base_url=key.base_url)


def _try_connection(request: HttpRequest, choose: Callable[[], tuple[ProviderKey, Credentials]]) -> Outcome:
    try:
        check_probe_rate(request)
        key, credentials = choose()
        probes = probe_connection(provider=get_provider(key.provider), credentials=credentials)
    except MoltsError as error:
        return Outcome(error=error.detail)
    if not key._state.adding:
        said = ", ".join(f"{probe.label.lower()} {probe.verdict}" for probe in probes)
        record_action(request_user=request.user, obj=key, text=f"Tested the connection: {said}.")
    url = addresses.called_address(key.provider, credentials)
    shown = runs_server(request)
    return Outcome([probe.retold(addresses.with_setting(probe.result.text, url, shown=shown)) for probe in probes])


def _tell(request: HttpRequest, outcome: Outcome) -> None:
    if outcome.error:
        messages.error(request, outcome.error)
    for probe in outcome.probes:
        messages.add_message(request, messages.SUCCESS if probe.result.ok else messages.ERROR, str(probe))


@admin.register(AuditEntry)
class AuditEntryAdmin(ScopedAdmin):
    """Who did what when. Nobody changes it."""

    list_display = ("created_at", "user_name", "what", "object_link", "kind", "project")
    list_select_related = ("content_type", "project")
    list_filter = (
        "action",
        "created_at",
        ("content_type", KindFilter),
        ("project", ScopedRelatedFilter),
    )
    date_hierarchy = "created_at"
    search_fields = ("user_name", "object_name", "text")
    search_help_text = "Search in names and in what was done."
    counted_as = "audit entries"
    list_per_page = 50
    fields = ("created_at", "user_name", "project", "kind", "object_link", "action", "text")
    readonly_fields = fields
    add_action = change_action = delete_action = None
    empty_text = "Whatever somebody changes, tests, revokes or deletes in the admin is listed here."

    @admin.display(description="what", ordering="text")
    def what(self, entry: AuditEntry) -> str:
        return entry.text

    @admin.display(description="kind", ordering="content_type")
    def kind(self, entry: AuditEntry) -> str:
        return str(entry.content_type.name) if entry.content_type else ""

    @admin.display(description="of", ordering="object_name")
    def object_link(self, entry: AuditEntry) -> SafeString | str:
        model = entry.content_type.model_class() if entry.content_type else None
        if model is None or entry.action == AuditAction.DELETE or not self.admin_site.is_registered(model):
            return entry.object_name
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[quote(entry.object_id)])
        return format_html('<a href="{}">{}</a>', url, entry.object_name)
