"""A face of Tavus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import Field

from projects.providers.base import Credentials, Kind, Options
from projects.providers.hosted.face import HostedFaceProvider, given

if TYPE_CHECKING:
    from livekit.agents.voice.avatar import AvatarSession


class TavusOptions(Options):
    """Settings of a Tavus face."""

    face_id: str = Field(default="", max_length=100, description="empty: the persona's own, or a stock face")
    persona_id: str = Field(default="", max_length=100, description="a persona (PAL) of the vendor; empty: a stock one")


class Tavus(HostedFaceProvider):
    key = "tavus"
    label = "Tavus"
    options = {Kind.AVATAR: TavusOptions}
    plugin = "livekit.plugins.tavus"
    default_base_url = "https://tavusapi.com"
    probe_path = "/v2/faces?limit=1"

    async def make(self, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        from livekit.plugins import tavus

        assert isinstance(options, TavusOptions)
        return tavus.AvatarSession(
            api_key=credentials.api_key,
            api_url=f"{self.url(credentials)}/v2",
            avatar_participant_identity=identity,
            **given(face_id=options.face_id, pal_id=options.persona_id),
        )

    async def end_avatar(self, avatar: Any, *, credentials: Credentials) -> None:
        """The plugin leaves the end to the vendor, which waits for a while."""
        await super().end_avatar(avatar, credentials=credentials)
        if avatar.conversation_id is not None:
            async with self.client(credentials) as client:
                await client.post(f"{self.url(credentials)}/v2/conversations/{quote(avatar.conversation_id)}/end")
