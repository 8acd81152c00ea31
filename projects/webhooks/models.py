"""Endpoints, the events they are told of, and each try to tell them."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone

from molts import crypto
from projects.models import Project, ScopedQuerySet
from projects.webhooks.choices import DeliveryState, EndpointKind

MAX_URL = 500
MAX_ANSWER = 1000
"""So many characters of an answer are kept."""


class WebhookEndpoint(models.Model):
    """An address that a project's events are sent to, and the secret that signs them.

    Each project may also have one of the kind `callbacks`: it holds the secret that signs what is sent to the
    `callback_url`s of jobs, and it has no address of its own.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="webhook_endpoints")
    kind = models.CharField(max_length=10, choices=EndpointKind.choices, default=EndpointKind.LISTENER, editable=False)
    # No URLField: it refuses names without a dot, as in http://receiver:9000. `check_url` checks it instead.
    url = models.CharField("URL", max_length=MAX_URL, blank=True)
    description = models.CharField(max_length=200, blank=True)
    event_types = models.JSONField(default=list, blank=True)
    enabled = models.BooleanField(default=True, help_text="Events that happen while it is off are not sent to it.")
    disabled_reason = models.CharField(max_length=300, blank=True, editable=False)
    secret_cipher = models.TextField(editable=False)
    previous_cipher = models.TextField(blank=True, editable=False)
    previous_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ScopedQuerySet["WebhookEndpoint"].as_manager()

    class Meta:
        verbose_name = "webhook endpoint"
        ordering = ("-created_at",)
        constraints = (
            models.UniqueConstraint(
                fields=("project",), condition=Q(kind=EndpointKind.CALLBACKS), name="one_callback_secret_per_project"
            ),
        )

    def __str__(self) -> str:
        return self.description or self.url or "Callback addresses"

    @property
    def is_listener(self) -> bool:
        return self.kind == EndpointKind.LISTENER

    def wants(self, event_type: str) -> bool:
        """Whether it asked for events of this type; an empty list asks for all."""
        return not self.event_types or event_type in self.event_types

    def secrets(self, now: datetime) -> list[str]:
        """The plain secrets that are valid at `now`, the newest first."""
        ciphers = [self.secret_cipher]
        if self.previous_cipher and self.previous_until is not None and now < self.previous_until:
            ciphers.append(self.previous_cipher)
        return [crypto.decrypt(cipher) for cipher in ciphers]


class WebhookEvent(models.Model):
    """Something that happened. Written in the transaction in which it happened; its id goes out as `webhook-id`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="webhook_events")
    type = models.CharField(max_length=60)
    body = models.TextField()  # to the byte what is sent and signed, in every try
    created_at = models.DateTimeField("happened", default=timezone.now)

    objects = ScopedQuerySet["WebhookEvent"].as_manager()

    class Meta:
        ordering = ("-created_at",)
        indexes = (models.Index(fields=("created_at",), name="webhook_event_old"),)

    def __str__(self) -> str:
        return self.type


class WebhookDelivery(models.Model):
    """An event on its way to one address.

    A sender claims what is due for a lease. `attempts` counts the tries and is the fence: only whoever made the latest
    claim may write how it ended.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="webhook_deliveries")
    event = models.ForeignKey(WebhookEvent, on_delete=models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    callback_url = models.CharField(max_length=MAX_URL, blank=True)
    # What waits for the same receiver: one that hangs delays only these.
    lane = models.CharField(max_length=300)
    state = models.CharField(max_length=10, choices=DeliveryState.choices, default=DeliveryState.WAITING)
    attempts = models.PositiveIntegerField("tries", default=0)
    tries_left = models.PositiveSmallIntegerField()
    next_try_at = models.DateTimeField("next try", null=True, default=timezone.now)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField("made", default=timezone.now)
    ended_at = models.DateTimeField("ended", null=True)
    outcome = models.CharField(max_length=300, blank=True)

    objects = ScopedQuerySet["WebhookDelivery"].as_manager()

    class Meta:
        verbose_name = "webhook delivery"
        verbose_name_plural = "webhook deliveries"
        ordering = ("-created_at",)
        constraints = (models.UniqueConstraint(fields=("endpoint", "event"), name="one_delivery_of_event_to_endpoint"),)
        indexes = (
            models.Index(fields=("state", "next_try_at"), name="webhook_delivery_due"),
            models.Index(fields=("endpoint", "-created_at"), name="webhook_delivery_latest"),
            models.Index(fields=("project", "-created_at"), name="webhook_delivery_project"),
        )

    def __str__(self) -> str:
        return f"{self.event.type} to {self.url}"

    @property
    def url(self) -> str:
        return self.callback_url or self.endpoint.url


class WebhookAttempt(models.Model):
    """One try: what was sent and what came back. It is written before it is sent; without an answer or an error its
    sender was interrupted, or is still waiting."""

    project_path = "delivery__project"

    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="tries")
    number = models.PositiveIntegerField()
    url = models.CharField(max_length=MAX_URL)
    started_at = models.DateTimeField()
    request_headers = models.JSONField(default=dict)
    status = models.PositiveSmallIntegerField(null=True)
    answer = models.TextField(blank=True)
    error = models.CharField(max_length=300, blank=True)
    duration_ms = models.PositiveIntegerField(null=True)

    objects = ScopedQuerySet["WebhookAttempt"].as_manager()

    class Meta:
        ordering = ("number",)
        constraints = (models.UniqueConstraint(fields=("delivery", "number"), name="each_try_once"),)

    def __str__(self) -> str:
        return f"Try {self.number}"
