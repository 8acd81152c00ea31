"""A face of HeyGen's LiveAvatar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from projects.providers.base import Credentials, Kind, Options
from projects.providers.hosted.face import HostedFaceProvider, given
from projects.providers.shared.livekit_private import close_liveavatar

if TYPE_CHECKING:
    from livekit.agents.voice.avatar import AvatarSession


END_SECONDS = 2.0


class HeyGenOptions(Options):
    """Settings of a HeyGen LiveAvatar face."""

    avatar_id: str = Field(default="", max_length=100, description="the avatar's id in the vendor's studio")
    video_quality: Literal["", "very_high", "high", "medium", "low"] = Field(
        default="", description="empty: the vendor's own"
    )
    sandbox: bool = Field(default=False, description="free of charge, ends after a minute")


class HeyGen(HostedFaceProvider):
    key = "heygen"
    label = "HeyGen LiveAvatar"
    options = {Kind.AVATAR: HeyGenOptions}
    required = ("avatar_id",)
    plugin = "livekit.plugins.liveavatar"
    default_base_url = "https://api.liveavatar.com"
    probe_path = "/v1/users/credits"
    key_header = "X-API-KEY"

    async def make(self, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        from livekit.plugins import liveavatar

        assert isinstance(options, HeyGenOptions)
        return liveavatar.AvatarSession(
            avatar_id=options.avatar_id,
            api_key=credentials.api_key,
            api_url=f"{self.url(credentials)}/v1/sessions",
            is_sandbox=options.sandbox,
            avatar_participant_identity=identity,
            **given(video_quality=options.video_quality),
        )

    async def end_avatar(self, avatar: Any, *, credentials: Credentials) -> None:
        await close_liveavatar(avatar, seconds=END_SECONDS)
        await super().end_avatar(avatar, credentials=credentials)
