"""A face of Anam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from projects.providers.base import Credentials, Kind, Options
from projects.providers.hosted.face import HostedFaceProvider, given

if TYPE_CHECKING:
    from livekit.agents.voice.avatar import AvatarSession


class AnamOptions(Options):
    """Settings of an Anam face."""

    avatar_id: str = Field(default="", max_length=100, description="the avatar's id")
    avatar_model: str = Field(default="", max_length=100, description="empty: the vendor's own choice")


class Anam(HostedFaceProvider):
    key = "anam"
    label = "Anam"
    options = {Kind.AVATAR: AnamOptions}
    required = ("avatar_id",)
    plugin = "livekit.plugins.anam"
    default_base_url = "https://api.anam.ai"
    probe_path = "/v1/avatars?perPage=1"
    key_header = "Authorization"
    key_prefix = "Bearer "

    async def make(self, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        from livekit.plugins import anam

        assert isinstance(options, AnamOptions)
        _share_session()
        persona = anam.PersonaConfig(
            name="avatar", avatarId=options.avatar_id, **given(avatarModel=options.avatar_model)
        )
        return anam.AvatarSession(
            persona_config=persona,
            api_key=credentials.api_key,
            api_url=self.url(credentials),
            avatar_participant_identity=identity,
        )


def _share_session() -> None:
    """The plugin opens an HTTP session of its own for its calls; give it the common one, as the other plugins have."""
    from livekit.agents.utils import http_context
    from livekit.plugins.anam import avatar
    from livekit.plugins.anam.api import AnamAPI

    class SharedSession(AnamAPI):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**{**settings, "session": http_context.http_session()})

    vars(avatar)["AnamAPI"] = SharedSession
