"""Webhooks: endpoints with their secrets, a test, and every delivery with what was sent and answered."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from molts.errors import BadInput, Conflict, MoltsError
from projects import addresses, one_time
from projects.admin_cells import chip, short
from projects.audit import record_action
from projects.choices import Action
from projects.probes import check_probe_rate
from projects.scoped_admin import (
    NextStep,
    ScopedAdmin,
    ScopedForm,
    ScopedRelatedFilter,
    chosen_project,
    counted,
    may_do,
    my_projects,
    runs_server,
)
from projects.webhooks import sending, services
from projects.webhooks.choices import DeliveryState, EndpointKind, EventType
from projects.webhooks.models import WebhookDelivery, WebhookEndpoint

TONES = {
    DeliveryState.WAITING: "busy",
    DeliveryState.SENDING: "busy",
    DeliveryState.DELIVERED: "good",
    DeliveryState.FAILED: "bad",
}
DELIVERIES = "admin:webhooks_webhookdelivery_changelist"


class EndpointForm(ScopedForm):
    event_types = forms.MultipleChoiceField(
        label="Tell it when",
        choices=EventType.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Choose none to tell it everything, also what is added in later versions.",
    )

    is_for_operator = False
    """Whether who fills it in runs this server: they see the setting that would allow a refused address."""

    class Meta:
        model = WebhookEndpoint
        fields = ("project", "url", "description", "event_types", "enabled")
        widgets = {"url": forms.URLInput(attrs={"size": 60, "placeholder": "https://"})}
        help_texts = {"description": "For you: which program listens there."}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "url" in self.fields:  # blank in the one row that has none, which no form shows
            self.fields["url"].required = True

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if "url" in self.errors or "url" not in self.fields:
            return cleaned
        try:
            services.check_callback_url(cleaned["url"], attr="url")
        except BadInput as error:
            self.add_error("url", addresses.with_setting(error.detail, cleaned["url"], shown=self.is_for_operator))
        project = cleaned.get("project")
        if project is not None and self.instance._state.adding:
            try:
                services.check_room(project_id=project.pk)
            except Conflict as error:
                self.add_error(None, error.detail)
        return cleaned


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ScopedAdmin):
    """A secret stands on one page, right after it was made; nothing shows it again."""

    form = EndpointForm
    list_display = ("name", "address", "project", "told_of", "state_chip", "latest")
    list_select_related = ("project",)
    list_filter = (("project", ScopedRelatedFilter), "enabled")
    search_fields = ("url", "description")
    search_help_text = "Search in addresses and descriptions."
    fields = ("project", "url", "description", "event_types", "enabled", "state", "created_at")
    readonly_fields = ("state", "told_of", "created_at")
    list_before_template = "admin/webhooks/webhookendpoint/callbacks.html"
    change_form_after_template = "admin/projects/apikey/once.html"
    change_form_outer_after_template = "admin/webhooks/webhookendpoint/after.html"
    empty_text = (
        "A webhook tells a program of yours what happens here: it gets a signed request when a conversation starts or "
        "ends, or a video is ready."
    )

    class Media:
        css = {"all": ("src/admin/talks.css",)}
        js = ("admin/copy.js",)

    # -- Lists and forms ----------------------------------------------------------------------------------------------
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        latest = WebhookDelivery.objects.filter(endpoint=OuterRef("pk")).order_by("-created_at")
        mine: QuerySet[Any] = super().get_queryset(request).annotate(latest_state=Subquery(latest.values("state")[:1]))
        return mine

    def get_fields(self, request: HttpRequest, obj: WebhookEndpoint | None = None) -> Any:
        if obj is not None and not obj.is_listener:
            return ("project", "created_at")
        if obj is not None and not self.has_change_permission(request, obj):
            return ("project", "url", "description", "told_of", "enabled", "state", "created_at")
        return self.fields

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)  # a class of this request's own
        form.is_for_operator = runs_server(request)
        return form

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """That of callbacks has nothing to set; its secret is rotated by `may_rotate`."""
        return super().has_change_permission(request, obj) and (obj is None or obj.is_listener)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.is_listener)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        chosen = chosen_project(request)
        mine = [chosen] if chosen else my_projects(request)
        editable = [project for project in mine if may_do(request, Action.EDIT, project.pk)]
        return super().changelist_view(request, {"callback_projects": editable, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        endpoint = self.get_object(request, object_id)
        shown = {
            "may_rotate": may_do(request, Action.EDIT, endpoint.project_id),
            "secret_version": _version(endpoint),
            "deliveries_url": f"{reverse(DELIVERIES)}?endpoint__id__exact={endpoint.pk}",
        }
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    @admin.display(description="name", ordering="description")
    def name(self, endpoint: WebhookEndpoint) -> SafeString:
        return short(str(endpoint))

    @admin.display(description="URL", ordering="url")
    def address(self, endpoint: WebhookEndpoint) -> SafeString:
        return short(endpoint.url)

    @admin.display(description="told of")
    def told_of(self, endpoint: WebhookEndpoint) -> str:
        if not endpoint.is_listener:
            return "what jobs name it for"
        return ", ".join(endpoint.event_types) or "everything"

    @admin.display(description="state")
    def state(self, endpoint: WebhookEndpoint) -> SafeString:
        return format_html("{} {}", self.state_chip(endpoint), endpoint.disabled_reason)

    @admin.display(description="state", ordering="enabled")
    def state_chip(self, endpoint: WebhookEndpoint) -> SafeString:
        if endpoint.enabled:
            return chip("On", "good")
        return chip("Off", "bad" if endpoint.disabled_reason else "quiet")

    @admin.display(description="latest delivery")
    def latest(self, endpoint: Any) -> SafeString | str:
        if endpoint.latest_state is None:
            return "none yet"
        url = f"{reverse(DELIVERIES)}?endpoint__id__exact={endpoint.pk}"
        state = DeliveryState(endpoint.latest_state)
        return format_html('<a href="{}">{}</a>', url, chip(str(state.label), TONES[state]))

    # -- Adding -------------------------------------------------------------------------------------------------------
    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        """A form makes one endpoint, however often it is sent."""
        try:
            endpoint_id = one_time.read(request)
            return super().add_view(request, form_url, {"once": one_time.issue(request), **(extra_context or {})})
        except IntegrityError:
            mine = WebhookEndpoint.objects.for_actor(request.user, Action.EDIT)
            if endpoint_id is None or not mine.filter(pk=endpoint_id).exists():
                raise
        messages.info(request, "This endpoint was made already. If its secret was not copied, rotate it.")
        return redirect("admin:webhooks_webhookendpoint_change", endpoint_id)

    def save_model(self, request: HttpRequest, obj: WebhookEndpoint, form: Any, change: bool) -> None:
        if change:
            services.change_endpoint(endpoint=obj, changed=form.changed_data)
            return
        _, plain = services.create_endpoint(endpoint=obj, endpoint_id=one_time.read(request))
        request.__dict__["_molts_plain_secret"] = plain

    def response_add(
        self, request: HttpRequest, obj: WebhookEndpoint, post_url_continue: str | None = None
    ) -> HttpResponse:
        return self._show_secret(request, obj, request.__dict__.pop("_molts_plain_secret"), title="Your new webhook")

    def _show_secret(self, request: HttpRequest, endpoint: WebhookEndpoint, plain: str, *, title: str) -> HttpResponse:
        """The secret is in this answer alone: no message, session or address holds it."""
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "endpoint": endpoint,
            "plain": plain,
        }
        return TemplateResponse(request, "admin/webhooks/webhookendpoint/secret.html", context)

    # -- Secrets and tests --------------------------------------------------------------------------------------------
    def get_urls(self) -> list[Any]:
        def post(view: Any) -> Any:
            return self.admin_site.admin_view(require_POST(view))

        return [
            path("callback-secret/", post(self.callback_secret_view), name="webhooks_callback_secret"),
            path("<uuid:endpoint_id>/rotate/", post(self.rotate_view), name="webhooks_webhookendpoint_rotate"),
            path("<uuid:endpoint_id>/test/", post(self.test_view), name="webhooks_webhookendpoint_test"),
            *super().get_urls(),
        ]

    def rotate_view(self, request: HttpRequest, endpoint_id: uuid.UUID) -> HttpResponse:
        endpoint = self._editable(request, endpoint_id)
        if request.POST.get("version") != _version(endpoint):  # this page was sent before
            messages.info(request, "The secret was rotated already and shown once. If it was not copied, do it again.")
            return redirect("admin:webhooks_webhookendpoint_change", endpoint.pk)
        return self._rotate(request, endpoint)

    def callback_secret_view(self, request: HttpRequest) -> HttpResponse:
        """To the page of the secret that signs what is sent to callback addresses; the first time it is made."""
        chosen = request.POST.get("project", "")
        project = next((each for each in my_projects(request) if str(each.pk) == chosen), None)
        if project is None or not may_do(request, Action.EDIT, project.pk):
            raise PermissionDenied
        existing = WebhookEndpoint.objects.filter(project=project, kind=EndpointKind.CALLBACKS).first()
        if existing is not None:
            return redirect("admin:webhooks_webhookendpoint_change", existing.pk)
        return self._rotate(request, services.callback_endpoint(project=project))

    def _rotate(self, request: HttpRequest, endpoint: WebhookEndpoint) -> HttpResponse:
        try:
            plain = services.rotate_secret(endpoint=endpoint)
        except MoltsError as error:
            messages.error(request, error.detail)
            return redirect("admin:webhooks_webhookendpoint_change", endpoint.pk)
        record_action(request_user=request.user, obj=endpoint, text="Made a new secret.")
        return self._show_secret(request, endpoint, plain, title="Your new secret")

    def test_view(self, request: HttpRequest, endpoint_id: uuid.UUID) -> HttpResponse:
        """Send a test now, and show its delivery."""
        endpoint = self._editable(request, endpoint_id)
        if not endpoint.is_listener:
            raise PermissionDenied
        try:
            check_probe_rate(request)
            delivery = sending.send_now(delivery=services.create_test(endpoint=endpoint))
        except MoltsError as error:
            messages.error(request, error.detail)
            return redirect("admin:webhooks_webhookendpoint_change", endpoint.pk)
        arrived = delivery.state == DeliveryState.DELIVERED
        said = "it was taken." if arrived else delivery.outcome
        record_action(request_user=request.user, obj=endpoint, text=f"Tested: {said}")
        (messages.success if arrived else messages.error)(request, f"Test sent: {said}")
        return redirect("admin:webhooks_webhookdelivery_change", delivery.pk)

    def _editable(self, request: HttpRequest, endpoint_id: uuid.UUID) -> WebhookEndpoint:
        endpoint: WebhookEndpoint = self.get_object(request, str(endpoint_id))
        if not may_do(request, Action.EDIT, endpoint.project_id):
            raise PermissionDenied
        return endpoint


def _version(endpoint: WebhookEndpoint) -> str:
    """Which secret a page speaks of, without telling anything of it."""
    return hashlib.sha256(endpoint.secret_cipher.encode()).hexdigest()[:16]


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ScopedAdmin):
    """What was sent, what was answered, how long it took. Nobody changes it."""

    list_display = ("made", "type", "endpoint", "state_chip", "attempts", "outcome", "next_try_at")
    list_select_related = ("event", "endpoint")
    list_filter = ("state", ("endpoint", ScopedRelatedFilter), ("project", ScopedRelatedFilter), "created_at")
    search_fields = ("event__type", "endpoint__url", "endpoint__description")
    search_help_text = "Search in types and endpoints."
    list_per_page = 50
    fields = (
        "type",
        "state_chip",
        "outcome",
        "endpoint",
        "address",
        "webhook_id",
        "created_at",
        "next_try_at",
        "ended_at",
    )
    readonly_fields = (*fields, "made")
    actions = ("replay",)
    add_action = change_action = delete_action = None
    change_form_outer_after_template = "admin/webhooks/webhookdelivery/tries.html"
    empty_text = "Whatever is sent to your endpoints is listed here, with each try, its answer and how long it took."

    class Media:
        css = {"all": ("src/admin/talks.css",)}

    def get_empty_link(self, request: HttpRequest) -> NextStep | None:
        if not may_do(request, Action.EDIT):
            return None
        if WebhookEndpoint.objects.for_actor(request.user).exists():
            return NextStep("Send a test from an endpoint", reverse("admin:webhooks_webhookendpoint_changelist"))
        return NextStep("Add an endpoint", reverse("admin:webhooks_webhookendpoint_add"))

    @admin.display(description="made", ordering="created_at")
    def made(self, delivery: WebhookDelivery) -> Any:
        return delivery.created_at

    @admin.display(description="type", ordering="event__type")
    def type(self, delivery: WebhookDelivery) -> str:
        return delivery.event.type

    @admin.display(description="webhook-id")
    def webhook_id(self, delivery: WebhookDelivery) -> str:
        return str(delivery.event_id)

    @admin.display(description="URL")
    def address(self, delivery: WebhookDelivery) -> str:
        return delivery.url

    @admin.display(description="state", ordering="state")
    def state_chip(self, delivery: WebhookDelivery) -> SafeString:
        state = DeliveryState(delivery.state)
        return chip(str(state.label), TONES[state])

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        delivery = self.get_object(request, object_id)
        shown = {
            "tries": delivery.tries.all(),
            "body": json.dumps(json.loads(delivery.event.body), indent=2, ensure_ascii=False),
            "may_replay": may_do(request, Action.EDIT, delivery.project_id),
            "is_over": delivery.state in (DeliveryState.DELIVERED, DeliveryState.FAILED),
        }
        return super().change_view(request, object_id, form_url, {**shown, **(extra_context or {})})

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(require_POST(self.replay_view))
        return [path("<uuid:delivery_id>/replay/", view, name="webhooks_webhookdelivery_replay"), *super().get_urls()]

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return may_do(request, Action.EDIT)

    def replay_view(self, request: HttpRequest, delivery_id: uuid.UUID) -> HttpResponse:
        delivery = self.get_object(request, str(delivery_id))
        if not may_do(request, Action.EDIT, delivery.project_id):
            raise PermissionDenied
        try:
            self._replay(request, delivery)
            messages.success(request, "It is sent again. Load this page again to see how it went.")
        except MoltsError as error:
            messages.error(request, error.detail)
        return redirect("admin:webhooks_webhookdelivery_change", delivery.pk)

    @admin.action(description="Replay selected deliveries", permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        sent, refused = 0, 0
        for delivery in self.may_change(request, queryset):
            try:
                self._replay(request, delivery)
                sent += 1
            except MoltsError:
                refused += 1
        messages.info(request, f"{sent} sent again.")
        if refused:
            messages.warning(request, f"{counted(refused, 'delivery')} left: under way, or the endpoint is off.")

    def _replay(self, request: HttpRequest, delivery: WebhookDelivery) -> None:
        services.replay_delivery(delivery=delivery)
        record_action(request_user=request.user, obj=delivery, text="Replayed.")
