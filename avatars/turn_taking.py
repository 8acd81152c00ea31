"""Named ways of taking turns: how long the agent waits before it answers, and who may cut in.

The shortest wait counts from the visitor's last sound. The longest is waited when the visitor seems not to have
finished, which only the end-of-turn model can tell: without it the shortest decides. The voice activity detector
itself needs a quarter of a second, so a shorter wait gains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avatars.snapshots import TurnSettings

FIELDS = tuple(TurnSettings.model_fields)
CUSTOM = "custom"


@dataclass(frozen=True)
class TurnPreset:
    key: str
    label: str
    purpose: str
    values: TurnSettings

    @property
    def summary(self) -> str:
        """The values in words, for the choice in the form."""
        return describe_turn_taking(self.values)


PRESETS = (
    TurnPreset(
        "snappy",
        "Snappy",
        "Short questions and answers; may cut in when a visitor pauses.",
        TurnSettings(min_endpointing_ms=250, max_endpointing_ms=1200),
    ),
    TurnPreset(
        "balanced",
        "Balanced",
        "Right for most conversations.",
        TurnSettings(min_endpointing_ms=400, max_endpointing_ms=2500),
    ),
    TurnPreset(
        "patient",
        "Patient",
        "For visitors who think aloud, spell or dictate numbers.",
        TurnSettings(end_of_turn_model=True, min_endpointing_ms=700, max_endpointing_ms=4500),
    ),
)


def preset_of(values: Mapping[str, Any]) -> str:
    """Key of the preset with exactly these values, or "custom"."""
    given = {name: values.get(name) for name in FIELDS}
    return next((preset.key for preset in PRESETS if dict(preset.values) == given), CUSTOM)


def preset_values(key: str) -> dict[str, Any] | None:
    """The values of a preset; None for "custom" and what is no preset."""
    return next((dict(preset.values) for preset in PRESETS if preset.key == key), None)


def describe_turn_taking(turn: TurnSettings) -> str:
    """ "Answers after 0.4 s of silence; visitors may cut in"."""
    shortest, longest = (f"{wait / 1000:g} s" for wait in (turn.min_endpointing_ms, turn.max_endpointing_ms))
    if turn.end_of_turn_model:
        waits = f"Answers after {shortest} of silence, after {longest} when the sentence seems unfinished"
    else:
        waits = f"Answers after {shortest} of silence, at most {longest}"
    return f"{waits}; visitors {'may' if turn.allow_interruptions else 'cannot'} cut in."
