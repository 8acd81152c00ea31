"""How the OpenAPI schema is made where drf-spectacular needs to be told: keys, errors, strict input."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiSerializerFieldExtension,
)
from drf_spectacular.openapi import AutoSchema as SpectacularSchema
from drf_spectacular.utils import OpenApiResponse

from molts.api import ErrorBody, Input, Text


class AutoSchema(SpectacularSchema):
    """Adds the error answers, all of one shape. A view names those that are its own in `error_codes`."""

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        bodies = super()._get_response_bodies(direction=direction)
        if direction == "response":
            for code in self._error_codes():
                answer = OpenApiResponse(ErrorBody, description=HTTPStatus(int(code)).phrase)
                bodies.setdefault(code, self._get_response_for_code(answer, code))  # type: ignore[no-untyped-call]
        return dict(sorted(bodies.items()))

    def _error_codes(self) -> list[str]:
        codes = {"400", "401", "404", "405", "406", "429"}
        if self.method not in ("GET", "HEAD"):
            codes |= {"403", *getattr(self.view, "error_codes", ())}
        if self.method not in ("GET", "HEAD") and self.get_request_serializer() is not None:
            codes |= {"411", "413", "415"}
        return sorted(codes)


class ProjectKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "projects.authentication.ProjectKeyAuthentication"
    name = "projectKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A project's API key, made in the admin."}


class TextExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Says in the schema which characters a text may not hold."""

    target_class = Text
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer_field(self.target, direction, bypass_extensions=True)
        return {**schema, "pattern": f"^[^{self.target.refused}]+$"} if direction == "request" else schema


class InputExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Says of every `Input` that it takes no other fields."""

    target_class = Input
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        return {**schema, "additionalProperties": False}
