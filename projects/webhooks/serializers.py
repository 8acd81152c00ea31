"""Endpoints and deliveries as REST reads and shows them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from molts.api import Input, Output, PageQuery, Text
from projects.webhooks.choices import DeliveryState, EventType
from projects.webhooks.models import MAX_URL, WebhookAttempt, WebhookDelivery, WebhookEndpoint


# -- In ---------------------------------------------------------------------------------------------------------------
def _event_types(**options: Any) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.ChoiceField(choices=EventType.choices),
        max_length=100,
        help_text="What it is told of; an empty list: everything.",
        **options,
    )


class NewEndpoint(Input):
    url = Text(max_length=MAX_URL, help_text="Where events are sent, by POST.")
    description = Text(max_length=200, allow_blank=True, default="")
    event_types = _event_types(default=list)
    enabled = serializers.BooleanField(default=True)
    project = serializers.UUIDField(
        required=False, help_text="For whoever has several projects; that of an API key is its own."
    )


class EndpointChanges(Input):
    url = Text(max_length=MAX_URL, required=False)
    description = Text(max_length=200, allow_blank=True, required=False)
    event_types = _event_types(required=False)
    enabled = serializers.BooleanField(required=False, help_text="Switching it off ends what still waits for it.")


class CallbackSecretRequest(Input):
    project = serializers.UUIDField(
        required=False, help_text="For whoever has several projects; that of an API key is its own."
    )


class DeliveryQuery(PageQuery):
    state = serializers.ChoiceField(choices=DeliveryState.choices, required=False)


# -- Out --------------------------------------------------------------------------------------------------------------
class EndpointSerializer(serializers.ModelSerializer[WebhookEndpoint]):
    event_types = _event_types(read_only=True)
    previous_secret_until = serializers.DateTimeField(
        source="previous_until",
        read_only=True,
        allow_null=True,
        help_text="Until then the secret before the last rotation signs too.",
    )

    class Meta:
        model = WebhookEndpoint
        fields: tuple[str, ...] = (
            *("id", "project", "kind", "url", "description", "event_types", "enabled", "disabled_reason"),
            *("previous_secret_until", "created_at"),
        )
        read_only_fields: tuple[str, ...] = fields


class NewSecret(EndpointSerializer):
    """An endpoint with its secret, which is shown this once."""

    secret = serializers.SerializerMethodField(help_text="Null when a request is repeated: it was shown already.")

    class Meta(EndpointSerializer.Meta):
        fields = (*EndpointSerializer.Meta.fields, "secret")
        read_only_fields = fields

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_secret(self, endpoint: WebhookEndpoint) -> str | None:
        secret: str | None = self.context["secret"]
        return secret


class AttemptSerializer(serializers.ModelSerializer[WebhookAttempt]):
    request_headers = serializers.DictField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = WebhookAttempt
        fields = ("number", "url", "started_at", "request_headers", "status", "answer", "error", "duration_ms")
        read_only_fields = fields


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    event_id = serializers.UUIDField(read_only=True, help_text="Sent as `webhook-id`, the same in every try.")
    type = serializers.CharField(source="event.type", read_only=True)
    body = serializers.CharField(source="event.body", read_only=True, help_text="What is sent, as text.")
    url = serializers.CharField(read_only=True)
    tries = AttemptSerializer(many=True, read_only=True)

    class Meta:
        model = WebhookDelivery
        fields = (
            *("id", "event_id", "type", "url", "state", "outcome", "created_at", "next_try_at", "ended_at"),
            *("body", "tries"),
        )
        read_only_fields = fields


class Replayed(Output):
    id = serializers.UUIDField(help_text="Of the delivery that is sent once more.")
