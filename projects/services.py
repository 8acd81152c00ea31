"""What can be done with projects, members and keys."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from molts import crypto
from molts.errors import BadConfiguration, BadInput, Conflict
from projects.addresses import check_base_url
from projects.choices import MemberRole
from projects.models import ApiKey, IdempotencyKey, Member, Project, ProviderKey

API_KEY_PREFIX = "molts_"
ABANDONED_AFTER = timedelta(seconds=60)  # no request of ours runs longer


def create_project(*, name: str, owner: AbstractBaseUser | None = None) -> Project:
    """A project, owned by `owner`."""
    with transaction.atomic():
        project = Project(name=name.strip())
        project.full_clean()
        project.save()
        if owner is not None:
            add_member(project=project, user=owner, role=MemberRole.OWNER)
    return project


def add_member(*, project: Project, user: AbstractBaseUser, role: MemberRole) -> Member:
    """Give `user` a role in the project and the right to sign in to the admin.

    What they see there is decided by their memberships alone. Raises Conflict when they have a role already.
    """
    with transaction.atomic():
        member, made = Member.objects.get_or_create(project=project, user_id=user.pk, defaults={"role": role})
        if not made:
            raise Conflict(f"{user} is a member of this project already: change the role instead.")
        admit_to_admin(user=user)
    return member


def projects_that_need(*, users: Iterable[AbstractBaseUser]) -> list[Project]:
    """Projects that would have no owner who may sign in without these users, by name."""
    theirs = Member.objects.filter(role=MemberRole.OWNER, user__in=[user.pk for user in users])
    others = Member.objects.filter(role=MemberRole.OWNER, user__is_active=True).exclude(pk__in=theirs.values("pk"))
    return list(Project.objects.filter(pk__in=theirs.values("project_id")).exclude(pk__in=others.values("project_id")))


def admit_to_admin(*, user: AbstractBaseUser) -> None:
    """Let `user` sign in to the admin."""
    get_user_model()._default_manager.filter(pk=user.pk, is_staff=False).update(is_staff=True)


def digest_api_key(plain: str) -> str:
    """Keys are 256 random bits, so a plain digest cannot be guessed back; no slow hash is needed."""
    return hashlib.sha256(plain.encode()).hexdigest()


def create_api_key(
    *, project: Project, name: str, created_by: AbstractBaseUser | None = None, key_id: uuid.UUID | None = None
) -> tuple[ApiKey, str]:
    """A key row and the plain key, which is known only here and now. The same `key_id` twice is an IntegrityError."""
    plain = API_KEY_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey.objects.create(
        pk=key_id or uuid.uuid4(),
        project=project,
        name=name,
        prefix=plain[:10],
        digest=digest_api_key(plain),
        created_by_id=created_by.pk if created_by else None,
    )
    return key, plain


def revoke_api_key(*, key: ApiKey) -> bool:
    """True when it was usable until now."""
    return ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()) > 0


def save_provider_key(*, key: ProviderKey, secret: str | None) -> ProviderKey:
    """Save `key`; `secret` None or empty keeps the stored one.

    Raises BadInput for an unusable base URL and as `check_secret_stays` does.
    """
    if key.base_url:
        check_base_url(provider=key.provider, url=key.base_url)
    check_secret_stays(key=key, secret=secret)
    if secret:
        key.set_secret(secret.strip())
    key.full_clean()
    key.save()
    return key


def check_secret_stays(*, key: ProviderKey, secret: str | None) -> None:
    """Raise BadInput when `key` moves to another host or vendor without its secret being typed again.

    Otherwise whoever may edit the URL could have the secret sent to a host of their own.
    """
    before = ProviderKey.objects.filter(pk=key.pk).exclude(secret_cipher="").first()
    if before is None or secret:
        return
    if _host(before.base_url) != _host(key.base_url) or before.provider != key.provider:
        raise BadInput("Type the secret again: it is not sent to another host or vendor unseen.", attr="secret")


def _host(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


@dataclass(frozen=True)
class Rotation:
    """What `rotate_ciphers` did: counts, and the names of the keys whose secret nothing opens."""

    rotated: int
    current: int
    unreadable: tuple[str, ...]


def rotate_ciphers(rows: QuerySet[Any], *, names: Sequence[str]) -> Rotation:
    """Encrypt what these fields of `rows` hold with the first field key. Safe to repeat and to break off."""
    rotated = current = 0
    unreadable = []
    for row in rows.select_related("project").iterator():
        for name in names:
            cipher = getattr(row, name)
            if not cipher:
                continue
            if crypto.is_current(cipher):
                current += 1
                continue
            try:
                fresh = crypto.rotate(cipher)
            except BadConfiguration:
                unreadable.append(f"{row} in {row.project}")
                continue
            # Only over the value that was read: one made meanwhile is newer, and encrypted with the first key anyway.
            stored = rows.model._default_manager.filter(pk=row.pk, **{name: cipher})
            rotated += stored.update(**{name: fresh})
    return Rotation(rotated=rotated, current=current, unreadable=tuple(unreadable))


def rotate_provider_secrets() -> Rotation:
    """Encrypt all provider secrets with the first field key."""
    return rotate_ciphers(ProviderKey.objects.exclude(secret_cipher=""), names=["secret_cipher"])


def run_once(
    *, project_id: uuid.UUID, operation: str, key: str, body: bytes, make: Callable[[], uuid.UUID]
) -> tuple[uuid.UUID, bool]:
    """Id of the object that `make` made for this idempotency key, and whether this call made it.

    Raises Conflict when the key was used with another body, or its first request is still running.
    """
    if not 1 <= len(key) <= 255:
        raise BadInput("Idempotency-Key must have 1 to 255 characters.", attr="Idempotency-Key")
    digest = hashlib.sha256(body).hexdigest()
    _drop_abandoned(project_id=project_id, operation=operation, key=key)
    try:
        with transaction.atomic():
            record = IdempotencyKey.objects.create(
                project_id=project_id, operation=operation, key=key, body_digest=digest
            )
    except IntegrityError:
        return _replay(project_id=project_id, operation=operation, key=key, digest=digest), False
    try:
        object_id = make()
    except BaseException:
        record.delete()  # nothing was made: the client may try again with the same key
        raise
    IdempotencyKey.objects.filter(pk=record.pk).update(object_id=object_id)
    return object_id, True


def _drop_abandoned(*, project_id: uuid.UUID, operation: str, key: str) -> None:
    """A first request whose process died in the middle must not keep its key for ever."""
    IdempotencyKey.objects.filter(
        project_id=project_id,
        operation=operation,
        key=key,
        object_id=None,
        created_at__lt=timezone.now() - ABANDONED_AFTER,
    ).delete()


def _replay(*, project_id: uuid.UUID, operation: str, key: str, digest: str) -> uuid.UUID:
    record = IdempotencyKey.objects.filter(project_id=project_id, operation=operation, key=key).first()
    if record is None or record.object_id is None:
        raise Conflict("The first request with this Idempotency-Key is still running.", code="idempotency_in_flight")
    if record.body_digest != digest:
        raise Conflict("This Idempotency-Key was used with another body.", code="idempotency_mismatch")
    return record.object_id
