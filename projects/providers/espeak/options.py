"""What may be set of the espeak-ng voice."""

from __future__ import annotations

from pydantic import Field

from projects.providers.base import Options

KEY = "espeak"


class EspeakOptions(Options):
    """Settings of the espeak-ng voice."""

    voice: str = Field(
        "", pattern=r"^[A-Za-z0-9_+-]*$", description="espeak-ng voice such as en-us; empty: by language"
    )
    rate: int = Field(default=165, ge=80, le=400, description="words per minute")
    pitch: int = Field(default=50, ge=0, le=99, description="0 is lowest")
