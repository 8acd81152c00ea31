"""Provider keys: entered, stored encrypted, and tried before and after."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from molts.errors import BadInput
from projects import addresses, services
from projects.admin.connection import stored_credentials, tell, try_connection
from projects.choices import Action
from projects.models import ProviderKey
from projects.offers import offers_view
from projects.providers import PROVIDERS, get_provider, provider_label
from projects.providers.base import Credentials
from projects.scoped_admin import (
    ScopedAdmin,
    ScopedForm,
    ScopedRelatedFilter,
    add_form_error,
    may_do,
    runs_server,
)


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
        if obj is not None and not self.has_change_permission(request, obj):
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
        return provider_label(key.provider)

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
            tell(request, try_connection(request, lambda: (key, stored_credentials(key))))
        return request

    def test_view(self, request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        """Try what the form holds, or the stored key when no form was sent."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        key = self.get_object(request, unquote(object_id)) if object_id else None
        if not (self.has_change_permission(request, key) if key else self.has_add_permission(request)):
            raise PermissionDenied
        outcome = try_connection(request, lambda: self._credentials(request, key))
        if "application/json" in request.headers.get("Accept", ""):
            return JsonResponse(outcome.as_json())
        tell(request, outcome)
        return redirect("admin:projects_providerkey_changelist")

    def _credentials(self, request: HttpRequest, key: ProviderKey | None) -> tuple[ProviderKey, Credentials]:
        """The key that is tried, and with what. Raises BadInput for a form that could not be saved either."""
        if key is not None and "provider" not in request.POST:
            return key, stored_credentials(key)
        data = request.POST.copy()
        data["name"] = data.get("name") or "unnamed"  # a key can be tried before it has a name
        form = self.get_form(request, key, change=key is not None)(data, instance=key)
        if not form.is_valid():
            raise BadInput(" ".join(str(text) for texts in form.errors.values() for text in texts))
        typed = form.cleaned_data["secret"]
        stored = form.instance.reveal() if form.instance.secret_cipher else ""
        return form.instance, Credentials(api_key=typed or stored, base_url=form.instance.base_url)
