from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from molts.errors import BadConfiguration, BadInput, Conflict
from projects.choices import MemberRole
from projects.models import ApiKey, IdempotencyKey, Member, Project, ProviderKey
from projects.services import (
    ABANDONED_AFTER,
    add_member,
    create_api_key,
    create_project,
    digest_api_key,
    run_once,
    save_provider_key,
)
from tests.conftest import make_user
from tests.projects.world import SECRET, make_provider_key

pytestmark = pytest.mark.django_db


# -- Projects and members ---------------------------------------------------------------------------------------------
def test_a_project_belongs_to_whoever_made_it() -> None:
    user = make_user("dora")

    project = create_project(name="  Garden  ", owner=user)

    user.refresh_from_db()
    assert project.name == "Garden"
    assert Member.objects.get(project=project, user=user).role == MemberRole.OWNER
    assert user.is_staff


@pytest.mark.parametrize("name", ["", "   ", "x" * 101])
def test_a_project_needs_a_name_that_fits(name: str) -> None:
    with pytest.raises(ValidationError):
        create_project(name=name)
    assert not Project.objects.exists()


def test_nobody_is_a_member_twice(project: Project, alice: User) -> None:
    with pytest.raises(Conflict, match="change the role"):
        add_member(project=project, user=alice, role=MemberRole.VIEWER)
    assert Member.objects.get(project=project, user=alice).role == MemberRole.OWNER


# -- Keys -------------------------------------------------------------------------------------------------------------
def test_an_api_key_is_stored_as_a_digest(project: Project) -> None:
    key, plain = create_api_key(project=project, name="Robot")

    stored = ApiKey.objects.filter(pk=key.pk).values().get()
    assert plain.startswith("molts_")
    assert len(plain) >= 48
    assert plain not in str(stored)
    assert stored["digest"] == digest_api_key(plain)
    assert plain.startswith(stored["prefix"])


def test_a_short_secret_shows_nothing_of_itself(project: Project) -> None:
    key = save_provider_key(key=ProviderKey(project=project, name="Box", provider="vllm"), secret=" hunter2 ")

    assert key.reveal() == "hunter2"
    assert key.masked == "••••"
    assert "hunter2" not in repr(key.__dict__)


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ("", "https://api.example.org/v1", True),
        ("https://api.example.org/v1", "https://api.example.org/v2", False),
        ("https://api.example.org/v1", "https://API.example.org/v1", False),
        ("https://api.example.org/v1", "http://api.example.org/v1", True),
        ("https://api.example.org/v1", "https://api.example.org:8443/v1", True),
        ("https://api.example.org/v1", "https://api.example.org.evil.example/v1", True),
        ("https://api.example.org/v1", "", True),
    ],
)
def test_a_secret_stays_with_its_host(project: Project, before: str, after: str, moved: bool) -> None:
    key = make_provider_key(project)
    ProviderKey.objects.filter(pk=key.pk).update(base_url=before)
    key.base_url = after

    if moved:
        with pytest.raises(BadInput) as caught:
            save_provider_key(key=key, secret="")
        assert caught.value.attr == "secret"
        assert ProviderKey.objects.get(pk=key.pk).base_url == before
    else:
        save_provider_key(key=key, secret="")
        assert ProviderKey.objects.get(pk=key.pk).base_url == after


def test_a_key_without_a_secret_may_move(project: Project) -> None:
    key = save_provider_key(key=ProviderKey(project=project, name="Box", provider="vllm"), secret=None)
    key.base_url = "http://vllm:8000/v1"

    assert save_provider_key(key=key, secret=None).base_url == "http://vllm:8000/v1"


def test_an_address_that_may_not_be_called_is_not_saved(project: Project) -> None:
    key = ProviderKey(project=project, name="Metadata", provider="vllm", base_url="http://169.254.169.254/v1")

    with pytest.raises(BadInput):
        save_provider_key(key=key, secret=None)
    assert not ProviderKey.objects.exists()


# -- Once -------------------------------------------------------------------------------------------------------------
def once(project: Project, make: Any, *, key: str = "abc", body: bytes = b"{}") -> tuple[uuid.UUID, bool]:
    return run_once(project_id=project.pk, operation="op", key=key, body=body, make=make)


def test_a_repeat_finds_what_the_first_made(project: Project) -> None:
    made = uuid.uuid4()

    assert once(project, lambda: made) == (made, True)
    assert once(project, lambda: pytest.fail("made again")) == (made, False)


def test_another_project_or_operation_is_another_key(project: Project, other_project: Project) -> None:
    first, second, third = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()

    assert once(project, lambda: first)[0] == first
    assert once(other_project, lambda: second)[0] == second
    assert run_once(project_id=project.pk, operation="other", key="abc", body=b"", make=lambda: third) == (third, True)


def test_a_key_is_good_for_one_body(project: Project) -> None:
    once(project, uuid.uuid4)

    with pytest.raises(Conflict) as caught:
        once(project, uuid.uuid4, body=b'{"other": 1}')
    assert caught.value.code == "idempotency_mismatch"


def test_a_failure_leaves_the_key_free(project: Project) -> None:
    def fail() -> uuid.UUID:
        raise BadInput("No.")

    with pytest.raises(BadInput):
        once(project, fail)
    assert not IdempotencyKey.objects.exists()
    assert once(project, uuid.uuid4)[1]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_a_length(project: Project, key: str) -> None:
    with pytest.raises(BadInput, match="1 to 255"):
        once(project, uuid.uuid4, key=key)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_a_time_one_makes(project: Project) -> None:
    made: list[uuid.UUID] = []
    results: list[str] = []
    barrier = threading.Barrier(6)

    def make() -> uuid.UUID:
        made.append(uuid.uuid4())
        return made[-1]

    def ask() -> None:
        try:
            barrier.wait(timeout=10)
            results.append(str(once(project, make)[0]))
        except Conflict as error:
            results.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert len(made) == 1
    assert len(results) == 6
    assert set(results) <= {str(made[0]), "idempotency_in_flight"}


# -- Rotation ---------------------------------------------------------------------------------------------------------
def rotate() -> str:
    out = StringIO()
    call_command("rotate_keys", stdout=out)
    return out.getvalue()


def test_secrets_move_from_the_old_field_key_to_the_new(project: Project, settings: Any) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.MOLTS_FIELD_KEYS = [old]
    keys = [make_provider_key(project) for _ in range(3)]
    save_provider_key(key=ProviderKey(project=project, name="Bare", provider="vllm"), secret=None)

    settings.MOLTS_FIELD_KEYS = [new, old]
    newer = make_provider_key(project)
    assert rotate().startswith("3 secrets encrypted with the first key, 1 had been already, 0 cannot")
    assert rotate().startswith("0 secrets encrypted with the first key, 4 had been already, 0 cannot")

    settings.MOLTS_FIELD_KEYS = [new]
    for key in (*keys, newer):
        key.refresh_from_db()
        assert key.reveal() == SECRET


def test_a_secret_that_no_key_opens_is_named_and_left_alone(project: Project, settings: Any) -> None:
    settings.MOLTS_FIELD_KEYS = [Fernet.generate_key().decode()]
    lost = make_provider_key(project)
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.MOLTS_FIELD_KEYS = [old]
    known = make_provider_key(project)
    settings.MOLTS_FIELD_KEYS = [new, old]

    with pytest.raises(CommandError, match="Vendor of Project A"):
        rotate()

    settings.MOLTS_FIELD_KEYS = [new]
    known.refresh_from_db()
    assert known.reveal() == SECRET
    before = lost.secret_cipher
    lost.refresh_from_db()
    assert lost.secret_cipher == before
    with pytest.raises(BadConfiguration, match="MOLTS_FIELD_KEYS"):
        lost.reveal()


def test_a_key_is_free_again_after_its_request_died(project: Project) -> None:
    begun = timezone.now() - ABANDONED_AFTER - timedelta(seconds=1)
    IdempotencyKey.objects.create(
        project=project, operation="op", key="dead", body_digest="of another body", created_at=begun
    )
    made = uuid.uuid4()
    assert run_once(project_id=project.pk, operation="op", key="dead", body=b"", make=lambda: made) == (made, True)
