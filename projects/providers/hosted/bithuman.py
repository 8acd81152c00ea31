"""A face of bitHuman."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from molts.errors import Unavailable
from projects.providers.base import Credentials, Kind, Options
from projects.providers.hosted.face import HostedFaceProvider, given

if TYPE_CHECKING:
    from livekit.agents.voice.avatar import AvatarSession


class BitHumanOptions(Options):
    """Settings of a bitHuman face."""

    avatar_id: str = Field(default="", max_length=100, description="the code of an agent made in the vendor's studio")
    model: Literal["", "essence", "expression", "essence-2", "expression-2"] = Field(
        default="", description="empty: the one that the avatar was made for"
    )


class BitHuman(HostedFaceProvider):
    key = "bithuman"
    label = "bitHuman"
    options = {Kind.AVATAR: BitHumanOptions}
    required = ("avatar_id",)
    plugin = "livekit.plugins.bithuman"
    default_base_url = "https://api.bithuman.ai"
    key_header = "api-secret"
    token_path = "/v1/runtime-tokens/mint"  # noqa: S105 - an address
    start_path = "/v1/runtime-tokens/request"

    @property
    def install(self) -> str:
        return "Install it on the agents' machines (about 200 MB): pip install 'molts[bithuman]'."

    async def make(self, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        token = await self.mint(credentials)
        bithuman = import_module(self.plugin)  # not on every machine
        assert isinstance(options, BitHumanOptions)
        # bitHuman's auth host takes the start of a session, its API host all else.
        start = credentials.base_url.rstrip("/") if credentials.base_url else "https://auth.api.bithuman.ai"
        session: AvatarSession[Any] = bithuman.AvatarSession(
            api_secret=token,
            api_url=start + self.start_path,
            avatar_id=options.avatar_id,
            avatar_participant_identity=identity,
            **given(model=options.model),
        )
        return session

    async def mint(self, credentials: Credentials) -> str:
        """A token for an hour: the plugin shows what it is given to everybody in the room, so never the secret itself.

        Raises Unavailable when the vendor gives none.
        """
        async with self.client(credentials) as client:
            answer = await client.post(self.url(credentials) + self.token_path, json={"scope": "livekit-cloud"})
        try:
            body = answer.json() if answer.status_code < 300 else {}
        except ValueError:
            body = {}
        token = body.get("token") if isinstance(body, dict) else None
        if not isinstance(token, str) or not token:
            why = answer.text[:200] if answer.status_code >= 300 else "the answer holds none"
            raise Unavailable(f"{answer.status_code}: no token for the room: {why}")
        return token

    async def _call(self, credentials: Credentials) -> str:
        await self.mint(credentials)
        return "the vendor takes the key"
