"""What providers were used for."""

from __future__ import annotations

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models

from projects.models import Project, ScopedQuerySet


class UsageRecord(models.Model):
    """What a provider was used for. `cost` is null until priced.

    The owner is what the provider worked for: a conversation, later a video. Owners belong to apps above this one, so
    they name their records (`GenericRelation`), not the other way round; that also deletes records with their owner.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="usage_records")
    owner_type = models.ForeignKey(ContentType, on_delete=models.CASCADE, related_name="+")
    owner_id = models.UUIDField()
    owner = GenericForeignKey("owner_type", "owner_id")
    source_id = models.CharField(max_length=120)
    kind = models.CharField(max_length=10)
    provider = models.CharField(max_length=50)
    model = models.CharField(max_length=100, blank=True)
    unit = models.CharField(max_length=20)
    quantity = models.DecimalField(max_digits=18, decimal_places=4)
    cost = models.DecimalField(max_digits=18, decimal_places=8, null=True)
    currency = models.CharField(max_length=3, default="USD")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ScopedQuerySet["UsageRecord"].as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("owner_type", "owner_id", "source_id"), name="usage_once_in_owner"),
        )
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.provider} {self.quantity} {self.unit}"
