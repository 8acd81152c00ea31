"""What may be set of the scripted answers."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from projects.providers.base import Options

KEY = "scripted"


class ScriptedOptions(Options):
    """Settings of the scripted answers."""

    timezone: str = Field(
        default="", description="zone for the time and date, such as Europe/Berlin; empty: the server's"
    )
    delay_ms: int = Field(
        default=0, ge=0, le=2000, description="pause before each piece of an answer, to mimic a model"
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value:
            try:
                ZoneInfo(value)
            except (ZoneInfoNotFoundError, ValueError) as error:
                raise ValueError(f"{value!r} is not a time zone such as Europe/Berlin") from error
        return value
