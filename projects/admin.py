"""Projects with their members and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from molts.errors import BadInput
from molts.http import check_url
from projects import (
    services,
    user_admin,  # noqa: F401  # registers the pages of users
)
from projects.choices import Action, AuditAction, MemberRole
from projects.models import ApiKey, AuditEntry, Member, Project, ProviderKey
from projects.providers import PROVIDERS, get_provider
from projects.providers.base import Provider
from projects.scoped_admin import (
    ScopedAdmin,
    ScopedForm,
    ScopedRelatedFilter,
    ScopedTabularInline,
    add_form_error,
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
    list_display = ("name", "max_concurrent_sessions", "created_at")
    search_fields = ("name",)
    fields = ("name", "max_concurrent_sessions", "created_at")
    readonly_fields = ("created_at",)
    inlines = (MemberInline,)
    add_action = None
    change_action = delete_action = Action.MANAGE

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)


@admin.register(ApiKey)
class ApiKeyAdmin(ScopedAdmin):
    """The key itself is in one message, after it was made; nothing shows it again."""

    list_display = ("name", "project", "shown", "is_usable", "last_used_at", "created_by", "created_at")
    list_select_related = ("project", "created_by")
    list_filter = (("project", ScopedRelatedFilter), ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "prefix")
    fields = ("project", "name", "shown", "created_by", "created_at", "last_used_at", "revoked_at")
    readonly_fields = ("shown", "created_by", "created_at", "last_used_at", "revoked_at")
    actions = ("revoke",)
    add_action = change_action = delete_action = Action.MANAGE

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fields if obj else ("project", "name")

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
        made, plain = services.create_api_key(project=obj.project, name=obj.name, created_by=request.user)
        obj.__dict__.update(made.__dict__)  # the rest of the request speaks of the row that was made
        messages.warning(request, f"The new key is {plain} . Copy it now: it is shown this once.")

    @admin.action(description="Revoke selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        revoked = sum(services.revoke_api_key(key=key) for key in self.may_change(request, queryset))
        messages.info(request, f"{revoked} keys revoked.")


def _takes_credentials(provider: Provider) -> bool:
    return provider.needs_key or not provider.local or hasattr(provider, "default_base_url")


def _provider_choices() -> list[tuple[str, str]]:
    providers = [provider for provider in map(get_provider, PROVIDERS) if _takes_credentials(provider)]
    return [("", "---------"), *((provider.key, provider.label) for provider in providers)]


class ProviderKeyForm(ScopedForm):
    provider = forms.ChoiceField(choices=_provider_choices)
    secret = forms.CharField(
        required=False,
        strip=True,
        max_length=4000,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "size": 60}),
        help_text="Stored encrypted, never shown again. Leave empty to keep the stored one.",
    )

    class Meta:
        model = ProviderKey
        fields = ("project", "name", "provider", "base_url")
        widgets = {"base_url": forms.URLInput(attrs={"size": 60, "placeholder": "https://"})}
        help_texts = {
            "base_url": "Leave empty for the vendor's own address. A change of host asks for the secret again."
        }

    def clean_base_url(self) -> str:
        url: str = self.cleaned_data["base_url"].strip()
        try:
            return check_url(url, attr="base_url") if url else ""
        except BadInput as error:
            raise forms.ValidationError(error.detail) from error

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if self.errors:
            return cleaned
        provider = get_provider(cleaned["provider"])
        if provider.needs_key and not cleaned["secret"] and not self.instance.secret_cipher:
            self.add_error("secret", f"{provider.label} needs a secret.")
        if getattr(provider, "default_base_url", None) == "" and not cleaned["base_url"]:
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
    form = ProviderKeyForm
    list_display = ("name", "project", "provider", "base_url", "stored_secret", "updated_at")
    list_select_related = ("project",)
    list_filter = (("project", ScopedRelatedFilter), "provider")
    search_fields = ("name", "provider")
    fields = ("project", "name", "provider", "base_url", "stored_secret", "secret", "updated_at")
    readonly_fields = ("stored_secret", "updated_at")
    add_action = change_action = delete_action = Action.MANAGE

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("project", "name", "provider", "base_url", "secret")
        if not self.has_change_permission(request, obj):
            return [name for name in self.fields if name != "secret"]
        return self.fields

    @admin.display(description="stored secret")
    def stored_secret(self, key: ProviderKey) -> str:
        return key.masked

    def save_model(self, request: HttpRequest, obj: ProviderKey, form: Any, change: bool) -> None:
        services.save_provider_key(key=obj, secret=form.cleaned_data["secret"])


@admin.register(AuditEntry)
class AuditEntryAdmin(ScopedAdmin):
    """Who did what when. Nobody changes it."""

    list_display = ("created_at", "user_name", "what", "object_link", "kind", "project")
    list_display_links = None
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
