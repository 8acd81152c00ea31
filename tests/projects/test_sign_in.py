"""Signing in to the admin: guesses end, the rightful go on."""

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
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # a quick one
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()


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


def test_guesses_at_one_name_end_and_the_right_password_with_them(boss: User) -> None:
    fail(sign_in.MOST_BY_NAME)
    for _ in range(3):
        words = error(attempt(password=PASSWORD))
        assert words == "Too many tries. Wait 10 minutes, or reset the password with manage.py reset_password."
    assert "Too many" in error(attempt(name="BOSS", REMOTE_ADDR="203.0.113.9")), "from elsewhere, spelt otherwise"

    entry = AuditEntry.objects.get()
    assert (entry.user_name, entry.object_name, entry.project) == ("somebody at 127.0.0.1", "boss", None)
    assert entry.text == "8 failed sign-ins within 10 minutes: sign-in blocked for this name."


def test_guesses_at_many_names_end_at_their_address(boss: User) -> None:
    for number in range(sign_in.MOST_BY_ADDRESS):
        fail(1, name=f"name-{number}")
    for _ in range(2):
        assert error(attempt(password=PASSWORD)) == "Too many tries from your address. Wait 10 minutes."
    assert AuditEntry.objects.get().object_name == "127.0.0.1"
    assert attempt(password=PASSWORD, REMOTE_ADDR="203.0.113.9").status_code == 302, "elsewhere nobody tried"


def test_a_made_up_name_is_not_written_down(db: None) -> None:
    fail(sign_in.MOST_BY_NAME, name="my-secret-typed-here")
    assert "Too many tries" in error(attempt(name="my-secret-typed-here"))
    assert not AuditEntry.objects.exists()


def test_success_starts_anew_for_the_name_alone(boss: User) -> None:
    for _ in range(3):
        fail(sign_in.MOST_BY_NAME - 1)
        assert attempt(password=PASSWORD).status_code == 302
    for number in range(sign_in.MOST_BY_ADDRESS - 3 * (sign_in.MOST_BY_NAME - 1) - 1):
        fail(1, name=f"name-{number}")
    assert attempt(password=PASSWORD).status_code == 302, "that one did not fail"
    fail(1, name="another")
    assert "your address" in error(attempt(password=PASSWORD))


def test_a_new_password_opens_again(boss: User, capsys: pytest.CaptureFixture[str]) -> None:
    fail(sign_in.MOST_BY_NAME)
    call_command("reset_password", "boss")
    password = capsys.readouterr().out.strip().rpartition(": ")[2]
    assert attempt(password=password).status_code == 302


def test_the_block_ends_by_itself(boss: User, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(sign_in.MOST_BY_NAME)
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
    fail(sign_in.MOST_BY_NAME + 1)
    assert attempt(password=PASSWORD).status_code == 302
    call_command("reset_password", "boss")
