"""What every REST door shares: pages, input that refuses what it does not know, and the one error shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http.multipartparser import MultiPartParserError
from drf_standardized_errors.handler import exception_handler as standardized
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response

from molts.database import unavailable
from molts.errors import MoltsError, TooLarge, encodable
from molts.parsers import MAX_BODY


# -- Reading ----------------------------------------------------------------------------------------------------------
class Text(serializers.CharField):
    """A string. REST framework would also take a number or a truth value for one.

    `refused`: characters that make it a 400, as the schema says them (in a class of a regular expression).
    """

    refused = r"\x00"

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


# No docstrings on these two: the schema would repeat them as the description of everything made from them.
class Input(serializers.Serializer[Any]):
    # What a door reads. A field it does not know is refused by name: a misspelt one must not be lost in silence.
    unknown_field = "There is no such field."

    def to_internal_value(self, data: Any) -> Any:
        unknown = [str(name)[:100] for name in data if name not in self.fields] if isinstance(data, Mapping) else []
        if unknown:
            refused = ErrorDetail(self.unknown_field, code="unknown_field")
            raise ValidationError({name: [refused] for name in unknown[:20]})
        return super().to_internal_value(data)


class Output(serializers.Serializer[Any]):
    # What a door answers.
    pass


class NumberedPages(PageNumberPagination):
    """`?page=2&page_size=100`; `{count, next, previous, results}`."""

    page_size_query_param = "page_size"
    max_page_size = 200

    def get_paginated_response_schema(self, schema: Any) -> dict[str, Any]:
        neighbour = {"type": ["string", "null"], "format": "uri"}
        properties = {"count": {"type": "integer"}, "next": neighbour, "previous": neighbour}
        return {
            "type": "object",
            "required": [*properties, "results"],
            "properties": {**properties, "results": schema},
        }


class PageQuery(Input):
    """The query of every list. Refuses what `NumberedPages` would silently replace by its defaults."""

    page = serializers.IntegerField(required=False, min_value=1, max_value=1_000_000)
    page_size = serializers.IntegerField(required=False, min_value=1, max_value=NumberedPages.max_page_size)


class ErrorItem(Output):
    code = serializers.CharField(help_text="For programs; stable.")
    detail = serializers.CharField(help_text="For people; says what to do.")
    attr = serializers.CharField(allow_null=True, help_text="The field it is about; dots lead into nested ones.")


class ErrorBody(Output):
    """Every answer that is not a success."""

    type = serializers.ChoiceField(choices=["validation_error", "client_error", "server_error"])

    def get_fields(self) -> dict[str, Any]:
        # `errors` as an attribute would hide the serializer's own.
        return {**super().get_fields(), "errors": ErrorItem(many=True)}


# -- Answering --------------------------------------------------------------------------------------------------------
def error_body(error: MoltsError) -> dict[str, Any]:
    """`{"type", "errors": [{"code", "detail", "attr"}]}`."""
    kind = "server_error" if error.http_status >= 500 else "client_error"
    if error.http_status == 400:
        kind = "validation_error"
    attr = error.attr if error.attr is None else encodable(error.attr)
    return {"type": kind, "errors": [{"code": error.code, "detail": encodable(error.detail), "attr": attr}]}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """MoltsError and REST framework errors become the same shape; anything else stays a server error."""
    if isinstance(error, RequestDataTooBig):
        error = TooLarge(f"The request is too large: at most {MAX_BODY} bytes.")
    error = unavailable(error) or error
    if isinstance(error, MoltsError):
        headers = {"Retry-After": "5"} if error.retryable else None
        return Response(error_body(error), status=error.http_status, headers=headers)
    if isinstance(error, SuspiciousOperation | BadRequest | MultiPartParserError):
        # Django answers these with 400 where it handles them itself; here they would be taken for errors of ours.
        error = ParseError("The request cannot be read.")
    answer: Response | None = standardized(error, context)  # type: ignore[arg-type]
    if answer is not None:
        # Names of fields and values that were sent come back in it.
        answer.data["errors"] = [
            {name: encodable(text) if text else text for name, text in one.items()} for one in answer.data["errors"]
        ]
    return answer
