"""What may be set of the Supertonic voice."""

from __future__ import annotations

from pydantic import Field

from projects.providers.base import Options

KEY = "supertonic"
MODEL = "supertonic-3"


class SupertonicOptions(Options):
    """Settings of the Supertonic voice."""

    voice: str = Field(default="F1", pattern=r"^[FM][1-9][0-9]?$", description="F1 to F5 or M1 to M5")
    language: str = Field(default="", description="language code; empty: the agent's language")
    speed: float = Field(default=1.05, ge=0.7, le=2.0, description="1 is the voice's own pace")
    steps: int = Field(default=5, ge=1, le=32, description="more steps sound a little better and take longer")
