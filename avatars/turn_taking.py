"""Named ways of taking turns: how long the agent waits before it answers, and who may cut in.

The shortest wait counts from the visitor's last sound. The longest is waited when the visitor seems not to have
finished, which only the end-of-turn model can tell: without it the shortest decides. The voice activity detector
itself needs a quarter of a second, so a shorter wait gains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIELDS = ("end_of_turn_model", "min_endpointing_ms", "max_endpointing_ms", "allow_interruptions")
CUSTOM = "custom"


@dataclass(frozen=True)
class TurnPreset:
    """`values` has one value for each of FIELDS."""

    key: str
    label: str
    purpose: str
    values: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """The values in words, for the choice in the form."""
        return describe_turn_taking(self.values)


def _preset(key: str, label: str, purpose: str, *values: Any) -> TurnPreset:
    return TurnPreset(key, label, purpose, dict(zip(FIELDS, values, strict=True)))


PRESETS = (
    _preset(
        "snappy", "Snappy", "Short questions and answers; may cut in when a visitor pauses.", False, 250, 1200, True
    ),
    _preset("balanced", "Balanced", "Right for most conversations.", False, 400, 2500, True),
    _preset("patient", "Patient", "For visitors who think aloud, spell or dictate numbers.", True, 700, 4500, True),
)


def preset_of(values: Mapping[str, Any]) -> str:
    """Key of the preset with exactly these values, or "custom"."""
    return next(
        (preset.key for preset in PRESETS if all(values.get(name) == preset.values[name] for name in FIELDS)), CUSTOM
    )


def preset_values(key: str) -> dict[str, Any] | None:
    """The values of a preset; None for "custom" and what is no preset."""
    return next((dict(preset.values) for preset in PRESETS if preset.key == key), None)


def describe_turn_taking(values: Mapping[str, Any]) -> str:
    """ "Answers after 0.4 s of silence; visitors may cut in"."""
    shortest, longest = (f"{values[name] / 1000:g} s" for name in ("min_endpointing_ms", "max_endpointing_ms"))
    if values["end_of_turn_model"]:
        waits = f"Answers after {shortest} of silence, after {longest} when the sentence seems unfinished"
    else:
        waits = f"Answers after {shortest} of silence, at most {longest}"
    return f"{waits}; visitors {'may' if values['allow_interruptions'] else 'cannot'} cut in."
