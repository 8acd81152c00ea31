"""A caller of the REST API: by project key, by login, or by nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

TestAnswer = Any  # django.test.client's response class is private


@dataclass
class Caller:
    """`caller.post("sessions", {"agent": "ada"})` below `/api/v1/`. Headers are those of every request."""

    headers: dict[str, str] = field(default_factory=dict)
    client: Client = field(default_factory=lambda: Client(raise_request_exception=False))

    def get(self, path: str, **query: Any) -> TestAnswer:
        return self.client.get(f"/api/v1/{path}", query, headers=self.headers)

    def post(self, path: str, body: Any = None, **headers: str) -> TestAnswer:
        """`headers` are written with underscores: `Idempotency_Key="..."`."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        content_type = more.pop("Content-Type", "application/json")
        data = "" if body is None else body
        return self.client.post(
            f"/api/v1/{path}", data=data, content_type=content_type, headers={**self.headers, **more}
        )

    def patch(self, path: str, body: Any) -> TestAnswer:
        return self.client.patch(f"/api/v1/{path}", data=body, content_type="application/json", headers=self.headers)

    def delete(self, path: str) -> TestAnswer:
        return self.client.delete(f"/api/v1/{path}", headers=self.headers)


def by_key(plain: str) -> Caller:
    return Caller(headers={"Authorization": f"Bearer {plain}"})


def by_login(user: User) -> Caller:
    caller = Caller()
    caller.client.force_login(user)
    return caller


def error_of(answer: TestAnswer) -> dict[str, Any]:
    """The first error of an answer in the one shape; fails when it has another."""
    body = answer.json()
    assert set(body) == {"type", "errors"}, body
    assert body["type"] in ("validation_error", "client_error", "server_error")
    assert all(set(error) == {"code", "detail", "attr"} and error["detail"] for error in body["errors"])
    error: dict[str, Any] = body["errors"][0]
    return error
