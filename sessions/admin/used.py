"""What a conversation used of its providers, in words."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from projects.providers import provider_label
from projects.providers.base import Kind
from projects.usage.models import UsageRecord

UNITS = {
    "tokens_in": "tokens read",
    "tokens_out": "tokens written",
    "characters": "characters spoken",
    "audio_seconds": "seconds of sound",
}


def cost_in_words(cost: Decimal | None, currency: str) -> str:
    return "not priced" if cost is None else f"{cost.normalize():f} {currency}"


@dataclass(frozen=True)
class UsageRow:
    """A line of the table: what a provider did, how much of it, and what that cost."""

    part: str
    provider: str
    model: str
    amount: str
    cost: str

    @classmethod
    def of(cls, record: UsageRecord) -> UsageRow:
        return cls(
            part=Kind(record.kind).label if record.kind in set(Kind) else record.kind,
            provider=provider_label(record.provider),
            model=record.model,
            amount=f"{record.quantity.normalize():,f} {UNITS.get(record.unit, record.unit)}",
            cost=cost_in_words(record.cost, record.currency),
        )
