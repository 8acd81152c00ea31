"""The tenant: project, members, keys; and `for_actor`, by which all that belongs to a project is fetched."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.utils import timezone

from molts import crypto
from projects.choices import ROLES_THAT_MAY, Action, AuditAction, MemberRole

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Actor: TypeAlias = "AbstractBaseUser | AnonymousUser | ApiKey"

M = TypeVar("M", bound=models.Model)


def project_ids(actor: Actor, action: Action = Action.VIEW) -> models.QuerySet[Any, Any] | None:
    """Ids of the projects in which `actor` may do `action`; None means all of them (a superuser)."""
    if isinstance(actor, ApiKey):
        if not actor.is_usable or action not in (Action.VIEW, Action.EDIT):
            return Project.objects.none().values("pk")
        return Project.objects.filter(pk=actor.project_id).values("pk")
    if not actor.is_authenticated or not actor.is_active:
        return Project.objects.none().values("pk")
    if getattr(actor, "is_superuser", False):
        return None
    return Project.objects.filter(members__user_id=actor.pk, members__role__in=ROLES_THAT_MAY[action]).values("pk")


class ScopedQuerySet(models.QuerySet[M], Generic[M]):
    """QuerySet of a model that belongs to a project, directly or through `project_path`."""

    def for_actor(self, actor: Actor, action: Action = Action.VIEW) -> ScopedQuerySet[M]:
        """The rows with which `actor` may do `action`."""
        ids = project_ids(actor, action)
        if ids is None:
            return self
        path = getattr(self.model, "project_path", "project")
        return self.filter(**{f"{path}__in": ids})


class Project(models.Model):
    """The tenant. Everything else belongs to one."""

    project_path = "pk"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    max_concurrent_sessions = models.PositiveIntegerField(
        default=20, help_text="Most conversations at once in this project."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet["Project"].as_manager()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Member(models.Model):
    """A user's role in a project."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="members")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=MemberRole.choices, default=MemberRole.VIEWER)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet["Member"].as_manager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("project", "user"), name="one_role_per_project"),)
        ordering = ("project", "user")

    def __str__(self) -> str:
        return f"{self.user} ({self.get_role_display()})"


class ApiKey(models.Model):
    """A program's key to one project. Only a digest is stored; the key itself is shown once, when it is made."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, editable=False
    )
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ScopedQuerySet["ApiKey"].as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_usable(self) -> bool:
        return self.revoked_at is None

    # REST framework asks the "user" of a request for these.
    is_authenticated = True
    is_active = True


class ProviderKey(models.Model):
    """Credentials (and base URL) for one vendor. The secret is write-only: encrypted, shown as its last four."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="provider_keys")
    name = models.CharField(max_length=100)
    provider = models.CharField(max_length=50)
    # No URLField: it refuses names without a dot, as in http://vllm:8000/v1. `save_provider_key` checks it instead.
    base_url = models.CharField(
        "base URL", max_length=200, blank=True, help_text="Leave empty for the vendor's own address."
    )
    secret_cipher = models.TextField(blank=True, editable=False)
    last_four = models.CharField(max_length=4, blank=True, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ScopedQuerySet["ProviderKey"].as_manager()

    class Meta:
        verbose_name = "provider key"
        ordering = ("provider", "name")

    def __str__(self) -> str:
        from projects.providers import provider_label

        return f"{self.name} ({provider_label(self.provider)})"

    def set_secret(self, plain: str) -> None:
        """Encrypt `plain`. Short secrets show nothing of themselves: four of eight letters would be half of it."""
        self.secret_cipher = crypto.encrypt(plain)
        self.last_four = plain[-4:] if len(plain) >= 16 else ""

    def reveal(self) -> str:
        """The plain secret, for building a client in memory. Raises BadConfiguration when it cannot be decrypted."""
        return crypto.decrypt(self.secret_cipher)

    @property
    def masked(self) -> str:
        if not self.secret_cipher:
            return "not set"
        return f"••••{self.last_four}"


class IdempotencyKey(models.Model):
    """What a POST with this `Idempotency-Key` made, so that a repeat finds it instead of making another."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    operation = models.CharField(max_length=40)
    key = models.CharField(max_length=255)
    body_digest = models.CharField(max_length=64)
    object_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("project", "operation", "key"), name="one_result_per_idempotency_key"),
        )

    def __str__(self) -> str:
        return f"{self.operation} {self.key}"


class AuditEntry(models.Model):
    """Who did what when. It outlives the user, the object and the project that it speaks of: their names are copied."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, null=True, on_delete=models.SET_NULL, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    user_name = models.CharField("who", max_length=150)
    action = models.CharField(max_length=6, choices=AuditAction.choices)
    content_type = models.ForeignKey(ContentType, null=True, on_delete=models.SET_NULL, related_name="+")
    object_id = models.CharField(max_length=64)
    object_name = models.CharField(max_length=200)
    text = models.TextField("what was done")
    created_at = models.DateTimeField("when", default=timezone.now)

    objects = ScopedQuerySet["AuditEntry"].as_manager()

    class Meta:
        verbose_name = "audit entry"
        verbose_name_plural = "audit trail"
        ordering = ("-created_at",)
        indexes = (
            models.Index(fields=("project", "-created_at"), name="audit_by_project"),
            models.Index(fields=("content_type", "object_id"), name="audit_by_object"),
        )

    def __str__(self) -> str:
        return f"{self.object_name}: {self.text}"
