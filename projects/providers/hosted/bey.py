"""A face of Beyond Presence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from projects.providers.base import Credentials, Kind, Options
from projects.providers.hosted.face import HostedFaceProvider, given

if TYPE_CHECKING:
    from livekit.agents.voice.avatar import AvatarSession


class BeyOptions(Options):
    """Settings of a Beyond Presence face."""

    avatar_id: str = Field(default="", max_length=100, description="empty: a stock avatar")


class BeyondPresence(HostedFaceProvider):
    key = "bey"
    label = "Beyond Presence"
    options = {Kind.AVATAR: BeyOptions}
    plugin = "livekit.plugins.bey"
    default_base_url = "https://api.bey.dev"
    probe_path = "/v1/auth/verify"

    async def make(self, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        from livekit.plugins import bey

        assert isinstance(options, BeyOptions)
        return bey.AvatarSession(
            api_key=credentials.api_key,
            api_url=self.url(credentials),
            avatar_participant_identity=identity,
            **given(avatar_id=options.avatar_id),
        )
