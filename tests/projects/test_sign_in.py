"""Signing in to the admin: guesses become slow, the rightful go on."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings

from projects import sign_in
from projects.models import AuditEntry

PASSWORD = "quiet-harbour-9"


@pytest.fixture(autouse=True)
def _cache_in_memory(settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each try was held back. Nobody waits here."""
    seconds: list[float] = []
    monkeypatch.setattr("projects.sign_in.time.sleep", seconds.append)
    return seconds


@pytest.fixture
def boss(db: None) -> User:
    return User.objects.create_superuser("boss", password=PASSWORD)


def attempt(name: str = "boss", password: str = "", **headers: Any) -> Any:
    return Client(**headers).post("/admin/login/", {"username": name, "password": password or "wrong"})


def error(response: Any) -> str:
    assert response.status_code == 200, "signed in"
    return " ".join(response.context["form"].non_field_errors())


def fail(times: int, **arguments: Any) -> None:
    for _ in range(times):
        assert "Too many tries" not in error(attempt(**arguments))


def test_all_addresses_of_one_subscriber_count_as_one(boss: User, waits: list[float]) -> None:
    for number in range(sign_in.MOST_BY_ADDRESS):
        fail(1, name=f"user {number}", REMOTE_ADDR=f"2001:db8:1:2::{number:x}")

    assert "Too many tries" in error(attempt(REMOTE_ADDR="2001:db8:1:2:ffff::1"))
    assert attempt(password=PASSWORD, REMOTE_ADDR="2001:db8:1:3::1").status_code == 302, "their neighbour"


def test_guesses_at_one_name_become_slow(boss: User, waits: list[float]) -> None:
    fail(10)
    assert waits == [0, 0, 0, 1, 2, 4, 8, 8, 8, 8]

    entry = AuditEntry.objects.get()
    assert (entry.user_name, entry.object_name, entry.project) == ("somebody at 127.0.0.1", "boss", None)
    assert entry.text == "8 failed sign-ins within 10 minutes with this name: each further one is held back."


def test_nobody_locks_another_out(boss: User, waits: list[float]) -> None:
    for number in range(40):
        fail(5, name="boss" if number % 2 else "BOSS", REMOTE_ADDR=f"203.0.113.{number}")
    assert waits[-1] == sign_in.LONGEST_WAIT, "from wherever, however spelt"

    assert attempt(password=PASSWORD).status_code == 302
    assert waits.pop() == sign_in.LONGEST_WAIT
    assert attempt(password=PASSWORD).status_code == 302
    assert waits.pop() == 0, "success starts anew"


def test_one_name_is_not_slow_for_another(boss: User, waits: list[float]) -> None:
    fail(6, name="somebody")
    assert attempt(password=PASSWORD).status_code == 302
    assert waits.pop() == 0


def test_guesses_at_many_names_end_at_their_address(boss: User) -> None:
    for number in range(sign_in.MOST_BY_ADDRESS):
        fail(1, name=f"name-{number}")
    for _ in range(2):
        assert error(attempt(password=PASSWORD)) == "Too many tries from your address. Wait 10 minutes."
    assert AuditEntry.objects.get().object_name == "127.0.0.1"
    assert attempt(password=PASSWORD, REMOTE_ADDR="203.0.113.9").status_code == 302, "elsewhere nobody tried"


def test_a_made_up_name_is_not_written_down(db: None) -> None:
    fail(sign_in.NOTED_BY_NAME + 2, name="my-secret-typed-here")
    assert not AuditEntry.objects.exists()


def test_success_starts_anew_for_the_name_alone(boss: User) -> None:
    for _ in range(3):
        fail(7)
        assert attempt(password=PASSWORD).status_code == 302
    for number in range(sign_in.MOST_BY_ADDRESS - 3 * 7 - 1):
        fail(1, name=f"name-{number}")
    assert attempt(password=PASSWORD).status_code == 302, "that one did not fail"
    fail(1, name="another")
    assert "your address" in error(attempt(password=PASSWORD))


def test_a_new_password_is_not_held_back(boss: User, capsys: pytest.CaptureFixture[str], waits: list[float]) -> None:
    fail(6)
    call_command("reset_password", "boss")
    password = capsys.readouterr().out.strip().rpartition(": ")[2]
    assert attempt(password=password).status_code == 302
    assert waits.pop() == 0


def test_an_address_is_let_in_again_after_a_while(boss: User, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(sign_in.MOST_BY_ADDRESS):
        fail(1, name=f"name-{number}")
    assert "your address" in error(attempt(password=PASSWORD))
    later = time.time() + sign_in.WINDOW + 1
    monkeypatch.setattr("time.time", lambda: later)
    assert attempt(password=PASSWORD).status_code == 302


def test_behind_a_proxy_the_visitors_address_counts(boss: User, settings: Settings) -> None:
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    for number in range(sign_in.MOST_BY_ADDRESS):
        fail(1, name=f"name-{number}", HTTP_X_FORWARDED_FOR="198.51.100.7")
    assert "your address" in error(attempt(HTTP_X_FORWARDED_FOR="1.1.1.1, 198.51.100.7")), (
        "what they claim is not asked"
    )
    assert attempt(password=PASSWORD, HTTP_X_FORWARDED_FOR="198.51.100.8").status_code == 302


def test_without_redis_people_get_in(boss: User, settings: Settings) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    }
    fail(6)
    assert attempt(password=PASSWORD).status_code == 302
    call_command("reset_password", "boss")
