from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from avatars.models import Agent
from avatars.snapshots import TurnSettings
from avatars.turn_taking import CUSTOM, FIELDS, PRESETS, TurnPreset, describe_turn_taking, preset_of, preset_values


def defaults() -> dict[str, object]:
    agent = Agent()
    return {name: getattr(agent, name) for name in FIELDS}


def test_a_new_agent_is_balanced() -> None:
    assert preset_of(defaults()) == "balanced"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.key)
def test_every_preset_is_one_that_an_agent_may_have(preset: TurnPreset) -> None:
    values = preset_values(preset.key)
    assert values is not None
    assert preset_of(values) == preset.key
    for name, value in values.items():
        try:
            Agent._meta.get_field(name).clean(value, None)  # type: ignore[union-attr]
        except ValidationError as error:
            pytest.fail(f"{name}: {error}")


def test_any_other_values_are_custom() -> None:
    assert preset_of(defaults() | {"min_endpointing_ms": 401}) == CUSTOM
    assert preset_values(CUSTOM) is None


def test_patience_grows_from_preset_to_preset() -> None:
    for name in ("min_endpointing_ms", "max_endpointing_ms"):
        waits = [getattr(preset.values, name) for preset in PRESETS]
        assert waits == sorted(set(waits))


def test_it_says_the_values_in_words() -> None:
    text = describe_turn_taking(TurnSettings.model_validate(defaults() | {"allow_interruptions": False}))
    assert text == "Answers after 0.4 s of silence, at most 2.5 s; visitors cannot cut in."
