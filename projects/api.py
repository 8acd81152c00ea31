"""The base of all REST doors: who asks, which of the project's objects they may have, and what was asked already."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import models
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from molts.api import Input, NumberedPages
from molts.errors import BadInput, NotAllowed, NotFound
from molts.parsers import LengthRequired
from projects import services
from projects.access import action_of, actor_of, may
from projects.choices import Action
from projects.models import ScopedQuerySet

if TYPE_CHECKING:
    from projects.models import Actor

M = TypeVar("M", bound=models.Model)

IDEMPOTENCY_HEADER = "Idempotency-Key"
IDEMPOTENCY_PARAMETER = OpenApiParameter(
    IDEMPOTENCY_HEADER,
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    OpenApiParameter.HEADER,
    description="1 to 255 printable characters of ASCII, no spaces. A repeat with the same key and body finds what the "
    "first one made instead of making another; with another body, or while the first still runs, it is refused (409).",
)


class ProjectView(APIView):
    """Reads through `read_*`, finds objects through `find`, and answers with one serializer."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if "Transfer-Encoding" in request.headers and not request.META.get("CONTENT_LENGTH"):
            raise LengthRequired  # REST framework would take such a body for an empty one

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "no-store"  # tokens and words of visitors
        return response

    @property
    def actor(self) -> Actor:
        actor = actor_of(self.request)
        assert actor is not None  # IsProjectActor let nobody else in
        return actor

    def read_body(self, shape: type[Input]) -> dict[str, Any]:
        """The validated body. Raises what REST framework raises for a bad one."""
        return _validated(shape, self.request.data)

    def read_query(self, shape: type[Input]) -> dict[str, Any]:
        return _validated(shape, self.request.query_params.dict())

    def find(self, objects: ScopedQuerySet[M], object_id: uuid.UUID) -> M:
        """The object, if it exists for the actor. Raises NotFound, or NotAllowed when a viewer wants to change it."""
        found = objects.for_actor(self.actor).filter(pk=object_id).first()
        if found is None:
            raise NotFound("There is no such object in your project.")
        self.require_allowed(getattr(found, "project_id"))  # noqa: B009  M is any model of a project
        return found

    def require_allowed(self, project_id: uuid.UUID) -> None:
        """Raises NotAllowed when the actor, who sees this project, may not do there what the request wants."""
        action = action_of(self.request)
        if action != Action.VIEW and not may(self.actor, action, project_id):
            raise NotAllowed("You may look, but not change anything in this project. Ask an owner for the role Editor.")

    def paginate(self, objects: models.QuerySet[M], as_data: Callable[[list[M]], Any]) -> Response:
        pages = NumberedPages()
        page = pages.paginate_queryset(objects, self.request, view=self)
        assert page is not None  # only without a page size
        return pages.get_paginated_response(as_data(page))

    def run_once(
        self, *, project_id: uuid.UUID, operation: str, body: Mapping[str, Any], make: Callable[[], uuid.UUID]
    ) -> tuple[uuid.UUID, bool]:
        """`make()`, once for the request's Idempotency-Key: (id of what was made, whether it was made now)."""
        key = self.request.headers.get(IDEMPOTENCY_HEADER)
        if key is None:
            return make(), True
        if not all("!" <= character <= "~" for character in key):
            raise BadInput(f"{IDEMPOTENCY_HEADER} must be printable ASCII without spaces.", attr=IDEMPOTENCY_HEADER)
        text = json.dumps(body, sort_keys=True).encode()
        return services.run_once(project_id=project_id, operation=operation, key=key, body=text, make=make)


def _validated(shape: type[Input], data: Any) -> dict[str, Any]:
    reader = shape(data=data)
    reader.is_valid(raise_exception=True)
    validated: dict[str, Any] = reader.validated_data
    return validated
