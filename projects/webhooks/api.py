"""`/api/v1/webhook-endpoints`: where a project's events are sent, and how that went."""

from __future__ import annotations

import uuid

from django.urls import reverse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from molts.api import NumberedPages, PageQuery
from molts.errors import BadInput, Conflict, NotFound
from projects.api import IDEMPOTENCY_PARAMETER, ProjectView
from projects.models import Project, ScopedQuerySet
from projects.throttling import ActorRateThrottle
from projects.webhooks import sending, services
from projects.webhooks.models import WebhookDelivery, WebhookEndpoint
from projects.webhooks.serializers import (
    CallbackSecretRequest,
    DeliveryQuery,
    DeliverySerializer,
    EndpointChanges,
    EndpointSerializer,
    NewEndpoint,
    NewSecret,
    Replayed,
)

TAGS = ["webhooks"]


class EndpointTestThrottle(ActorRateThrottle):
    """A test calls an address now, and keeps a thread of this server until it answers."""

    scope = "webhook_test"
    rate = "20/min"


class EndpointView(ProjectView):
    """Base of the doors to endpoints."""

    def endpoint(self, endpoint_id: uuid.UUID) -> WebhookEndpoint:
        return self.find(WebhookEndpoint.objects.select_related("project"), endpoint_id)

    def listener(self, endpoint_id: uuid.UUID) -> WebhookEndpoint:
        """One with an address. Raises Conflict for the one that only holds the secret of callback addresses."""
        endpoint = self.endpoint(endpoint_id)
        if not endpoint.is_listener:
            raise Conflict("This one holds the secret of callback addresses: there is nothing else to set or test.")
        return endpoint

    def own_project(self, project_id: uuid.UUID | None) -> Project:
        """The project that the request means. Raises BadInput when the actor has several, or none of this id."""
        projects = Project.objects.for_actor(self.actor)
        if project_id is not None:
            projects = projects.filter(pk=project_id)
        found = list(projects[:2])
        if not found:
            raise BadInput("There is no such project.", attr="project")
        if len(found) > 1:
            raise BadInput("You have several projects: name one.", attr="project")
        self.require_allowed(found[0].pk)
        return found[0]

    def deliveries(self, endpoint: WebhookEndpoint) -> ScopedQuerySet[WebhookDelivery]:
        return (
            WebhookDelivery.objects.filter(endpoint=endpoint)
            .select_related("event", "endpoint")
            .prefetch_related("tries")
        )


class EndpointList(EndpointView):
    error_codes = ("409",)
    pagination_class = NumberedPages

    @extend_schema(
        operation_id="webhook_endpoints_list",
        tags=TAGS,
        parameters=[PageQuery],
        responses=EndpointSerializer(many=True),
    )
    def get(self, request: Request) -> Response:
        """Your endpoints, the newest first."""
        self.read_query(PageQuery)
        endpoints = WebhookEndpoint.objects.for_actor(self.actor).order_by("-created_at", "pk")
        return self.paginate(endpoints, lambda page: EndpointSerializer(page, many=True).data)

    @extend_schema(
        operation_id="webhook_endpoints_create",
        tags=TAGS,
        parameters=[IDEMPOTENCY_PARAMETER],
        request=NewEndpoint,
        responses={201: NewSecret},
    )
    def post(self, request: Request) -> Response:
        """Add an endpoint. Its secret is in this answer alone."""
        asked = self.read_body(NewEndpoint)
        body = {name: str(value) if name == "project" else value for name, value in asked.items()}
        project = self.own_project(asked.pop("project", None))
        secrets: list[str] = []

        def make() -> uuid.UUID:
            endpoint, plain = services.create_endpoint(endpoint=WebhookEndpoint(project=project, **asked))
            secrets.append(plain)
            return endpoint.pk

        endpoint_id, made = self.run_once(project_id=project.pk, operation="webhook-endpoints", body=body, make=make)
        answer = NewSecret(self.endpoint(endpoint_id), context={"secret": secrets[0] if made else None})
        headers = {"Location": reverse("api-webhook-endpoint", args=[endpoint_id])}
        if not made:
            headers["Idempotent-Replayed"] = "true"
        return Response(answer.data, status=201, headers=headers)


class EndpointDetail(EndpointView):
    error_codes = ("409",)

    @extend_schema(operation_id="webhook_endpoints_get", tags=TAGS, responses=EndpointSerializer)
    def get(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """One endpoint."""
        return Response(EndpointSerializer(self.endpoint(endpoint_id)).data)

    @extend_schema(
        operation_id="webhook_endpoints_change", tags=TAGS, request=EndpointChanges, responses=EndpointSerializer
    )
    def patch(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """Change what is named."""
        endpoint = self.listener(endpoint_id)
        asked = self.read_body(EndpointChanges)
        for name, value in asked.items():
            setattr(endpoint, name, value)
        return Response(EndpointSerializer(services.change_endpoint(endpoint=endpoint, changed=asked.keys())).data)

    @extend_schema(operation_id="webhook_endpoints_delete", tags=TAGS, request=None, responses={204: None})
    def delete(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """Delete an endpoint with its deliveries; what waits for it is not sent."""
        self.listener(endpoint_id).delete()
        return Response(status=204)


class EndpointSecret(EndpointView):
    error_codes = ("409",)

    @extend_schema(operation_id="webhook_endpoints_rotate_secret", tags=TAGS, request=None, responses={200: NewSecret})
    def post(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """A new secret, in this answer alone. The one before it signs too for a day."""
        endpoint = self.endpoint(endpoint_id)
        plain = services.rotate_secret(endpoint=endpoint)
        return Response(NewSecret(endpoint, context={"secret": plain}).data)


class CallbackSecret(EndpointView):
    error_codes = ("409",)

    @extend_schema(
        operation_id="webhook_endpoints_callback_secret",
        tags=TAGS,
        request=CallbackSecretRequest,
        responses={200: NewSecret},
    )
    def post(self, request: Request) -> Response:
        """A new secret for what is sent to the `callback_url`s of jobs. The one before it signs too for a day."""
        project = self.own_project(self.read_body(CallbackSecretRequest).get("project"))
        endpoint = services.callback_endpoint(project=project)
        plain = services.rotate_secret(endpoint=endpoint)
        return Response(NewSecret(endpoint, context={"secret": plain}).data)


class EndpointTest(EndpointView):
    error_codes = ("409",)

    def get_throttles(self) -> list[BaseThrottle]:
        return [*super().get_throttles(), EndpointTestThrottle()]

    @extend_schema(operation_id="webhook_endpoints_test", tags=TAGS, request=None, responses={200: DeliverySerializer})
    def post(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """Send an event of the type `webhook.test` now, once, and answer how it went."""
        delivery = services.create_test(endpoint=self.listener(endpoint_id))
        return Response(DeliverySerializer(sending.send_now(delivery=delivery)).data)


class DeliveryList(EndpointView):
    pagination_class = NumberedPages

    @extend_schema(
        operation_id="webhook_deliveries_list",
        tags=TAGS,
        parameters=[DeliveryQuery],
        responses=DeliverySerializer(many=True),
    )
    def get(self, request: Request, endpoint_id: uuid.UUID) -> Response:
        """What was sent to an endpoint, the latest first: each try with its request, answer and time."""
        query = self.read_query(DeliveryQuery)
        deliveries = self.deliveries(self.endpoint(endpoint_id)).order_by("-created_at", "pk")
        if "state" in query:
            deliveries = deliveries.filter(state=query["state"])
        return self.paginate(deliveries, lambda page: DeliverySerializer(page, many=True).data)


class DeliveryReplay(EndpointView):
    error_codes = ("409",)

    @extend_schema(
        operation_id="webhook_deliveries_replay",
        tags=TAGS,
        request=None,
        responses={202: OpenApiResponse(Replayed, description="It is sent again, under the same `webhook-id`.")},
    )
    def post(self, request: Request, endpoint_id: uuid.UUID, delivery_id: uuid.UUID) -> Response:
        """Send a delivery that is over once more."""
        delivery = self.deliveries(self.endpoint(endpoint_id)).filter(pk=delivery_id).first()
        if delivery is None:
            raise NotFound("There is no such delivery to this endpoint.")
        services.replay_delivery(delivery=delivery)
        return Response(Replayed({"id": delivery.pk}).data, status=202)
