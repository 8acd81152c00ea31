"""Keeping account of what providers were used for."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Protocol

from django.contrib.contenttypes.models import ContentType

from projects.usage.models import UsageRecord


class Owner(Protocol):
    """A row of a project that providers work for."""

    pk: uuid.UUID
    project_id: uuid.UUID


@dataclass(frozen=True)
class Usage:
    """So much of a provider was used. `source_id` names who counted it, once in its owner."""

    source_id: str
    kind: str
    provider: str
    model: str
    unit: str
    quantity: Decimal


def record_usage(*, owner: Owner, usage: Usage) -> UsageRecord:
    """Write what a provider was used for. A later, larger sum of the same source replaces the earlier."""
    values = asdict(usage)
    record, _ = UsageRecord.objects.update_or_create(
        owner_type=ContentType.objects.get_for_model(owner),  # type: ignore[arg-type]  # a model, which no protocol says
        owner_id=owner.pk,
        source_id=values.pop("source_id"),
        defaults=values,
        create_defaults={**values, "project_id": owner.project_id},
    )
    return record
