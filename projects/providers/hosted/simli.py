"""A face of Simli."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from projects.providers.base import Credentials, Kind, Options
from projects.providers.hosted.face import HostedFaceProvider, given

if TYPE_CHECKING:
    from livekit.agents.voice.avatar import AvatarSession


class SimliOptions(Options):
    """Settings of a Simli face."""

    face_id: str = Field(default="", max_length=100, description="the face's id")
    emotion_id: str = Field(default="", max_length=100, description="for Trinity faces; empty: happy")
    max_minutes: int = Field(default=60, ge=1, le=600, description="the vendor ends the face after so long")


class Simli(HostedFaceProvider):
    key = "simli"
    label = "Simli"
    options = {Kind.AVATAR: SimliOptions}
    required = ("face_id",)
    plugin = "livekit.plugins.simli"
    default_base_url = "https://api.simli.ai"
    probe_path = "/faces"
    key_header = "x-simli-api-key"

    async def make(self, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        from livekit.plugins import simli

        assert isinstance(options, SimliOptions)
        seconds = options.max_minutes * 60
        config = simli.SimliConfig(
            api_key=credentials.api_key,
            face_id=options.face_id,
            max_session_length=seconds,
            max_idle_time=seconds,  # a visitor who thinks for half a minute must not lose the face
            **given(emotion_id=options.emotion_id),
        )
        return simli.AvatarSession(
            simli_config=config, api_url=self.url(credentials), avatar_participant_identity=identity
        )
