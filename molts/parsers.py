"""Reading JSON bodies. A module of its own: REST framework imports the classes its settings name before its views."""

from __future__ import annotations

import json
from typing import Any

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser
from rest_framework.utils.json import strict_constant

from molts.errors import TooLarge

MAX_BODY = 65_536  # bytes; the longest text anyone may send is far below


class LengthRequired(APIException):
    status_code = 411
    default_detail = "Send the length of the request (Content-Length) instead of chunks."
    default_code = "length_required"


class JSONBody(JSONParser):
    """JSON in UTF-8 of at most `MAX_BODY` bytes, whatever the client says of its length."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        raw = stream.read(MAX_BODY + 1)
        if len(raw) > MAX_BODY:
            raise TooLarge(f"The request is too large: at most {MAX_BODY} bytes.")
        try:
            return json.loads(raw.decode("utf-8"), parse_constant=strict_constant)
        except RecursionError as error:
            raise ParseError("The request body is nested too deeply.") from error
        except ValueError as error:
            raise ParseError(f"The request body is not JSON: {error}") from error
