"""A face of D-ID."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from projects.providers.base import Credentials, Kind, Options
from projects.providers.hosted.face import HostedFaceProvider

if TYPE_CHECKING:
    from livekit.agents.voice.avatar import AvatarSession


class DIDOptions(Options):
    """Settings of a D-ID face."""

    agent_id: str = Field(default="", max_length=100, description="the id of an agent made in the vendor's studio")


class DID(HostedFaceProvider):
    key = "did"
    label = "D-ID"
    options = {Kind.AVATAR: DIDOptions}
    required = ("agent_id",)
    plugin = "livekit.plugins.did"
    default_base_url = "https://api.d-id.com"
    probe_path = "/credits"
    key_header = "Authorization"
    key_prefix = "Basic "

    async def make(self, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        from livekit.plugins import did

        assert isinstance(options, DIDOptions)
        return did.AvatarSession(
            agent_id=options.agent_id,
            api_key=credentials.api_key,
            api_url=self.url(credentials),
            avatar_participant_identity=identity,
        )
