"""The table of what a conversation used."""

from __future__ import annotations

from decimal import Decimal

import pytest

from projects.usage.models import UsageRecord
from sessions.admin.used import UsageRow


@pytest.mark.parametrize(
    ("record", "row"),
    [
        (
            UsageRecord(
                kind="llm", provider="openai_compatible", model="gpt", unit="tokens_out", quantity=Decimal("12345.0000")
            ),
            UsageRow("Language model", "OpenAI-compatible server", "gpt", "12,345 tokens written", "not priced"),
        ),
        (
            UsageRecord(
                kind="stt",
                provider="faster_whisper",
                unit="audio_seconds",
                quantity=Decimal("2.5"),
                cost=Decimal("0.010"),
            ),
            UsageRow(
                "Speech recognition", "Whisper on this machine (faster-whisper)", "", "2.5 seconds of sound", "0.01 USD"
            ),
        ),
        (
            UsageRecord(kind="smell", provider="gone", unit="whiffs", quantity=Decimal(100), cost=Decimal(0)),
            UsageRow("smell", "gone", "", "100 whiffs", "0 USD"),  # of a release that knew more
        ),
    ],
)
def test_it_is_in_words(record: UsageRecord, row: UsageRow) -> None:
    assert UsageRow.of(record) == row
