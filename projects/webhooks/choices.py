from django.db import models


class EventType(models.TextChoices):
    """What may be told. A new type is one line here; whoever makes it happen calls `services.publish`."""

    SESSION_STARTED = "session.started", "A conversation started"
    SESSION_ENDED = "session.ended", "A conversation ended"
    VIDEO_COMPLETED = "video.completed", "A video is ready"
    VIDEO_FAILED = "video.failed", "A video failed"


TEST_TYPE = "webhook.test"
"""Sent by the test button alone, so it is not among the types that an endpoint can ask for."""


class EndpointKind(models.TextChoices):
    LISTENER = "listener", "Endpoint"
    CALLBACKS = "callbacks", "Callback addresses"


class DeliveryState(models.TextChoices):
    WAITING = "waiting", "Waiting"
    SENDING = "sending", "Being sent"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Given up"


OPEN_STATES = (DeliveryState.WAITING, DeliveryState.SENDING)
