"""Faces that a vendor renders: the agent's voice goes to the vendor, which joins the room with picture and sound.

Each is a LiveKit plugin; this module gives them one form: options for the admin, a connection test, and `build_avatar`.
A vendor joins through the internet, so the media server must be reachable there (LIVEKIT_PUBLIC_URL).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field

from molts.errors import BadConfiguration, Unavailable
from molts.http import Limits, guarded_async_client
from projects.providers.base import Credentials, Kind, Options, ProbeResult, Provider, Readiness
from projects.providers.shared.livekit_private import close_liveavatar
from projects.providers.shared.probing import timed_probe

if TYPE_CHECKING:
    import httpx2
    from livekit.agents.voice.avatar import AvatarSession

LIMITS = Limits(connect_seconds=5, read_seconds=8, total_seconds=8, max_bytes=2_000_000)
END_SECONDS = 2.0
INSTALL = "Install the plugin on the agents' machines: pip install 'molts[hosted-faces]'."


class HeyGenOptions(Options):
    """Settings of a HeyGen LiveAvatar face."""

    avatar_id: str = Field(default="", max_length=100, description="the avatar's id in the vendor's studio")
    video_quality: Literal["", "very_high", "high", "medium", "low"] = Field(
        default="", description="empty: the vendor's own"
    )
    sandbox: bool = Field(default=False, description="free of charge, ends after a minute")


class TavusOptions(Options):
    """Settings of a Tavus face."""

    face_id: str = Field(default="", max_length=100, description="empty: the persona's own, or a stock face")
    persona_id: str = Field(default="", max_length=100, description="a persona (PAL) of the vendor; empty: a stock one")


class SimliOptions(Options):
    """Settings of a Simli face."""

    face_id: str = Field(default="", max_length=100, description="the face's id")
    emotion_id: str = Field(default="", max_length=100, description="for Trinity faces; empty: happy")
    max_minutes: int = Field(default=60, ge=1, le=600, description="the vendor ends the face after so long")


class AnamOptions(Options):
    """Settings of an Anam face."""

    avatar_id: str = Field(default="", max_length=100, description="the avatar's id")
    avatar_model: str = Field(default="", max_length=100, description="empty: the vendor's own choice")


class BeyOptions(Options):
    """Settings of a Beyond Presence face."""

    avatar_id: str = Field(default="", max_length=100, description="empty: a stock avatar")


class DIDOptions(Options):
    """Settings of a D-ID face."""

    agent_id: str = Field(default="", max_length=100, description="the id of an agent made in the vendor's studio")


class BitHumanOptions(Options):
    """Settings of a bitHuman face."""

    avatar_id: str = Field(default="", max_length=100, description="the code of an agent made in the vendor's studio")
    model: Literal["", "essence", "expression", "essence-2", "expression-2"] = Field(
        default="", description="empty: the one that the avatar was made for"
    )


class HostedFace(Provider):
    """Base: what one vendor's face needs besides its options."""

    kinds = frozenset({Kind.AVATAR})
    needs_key = True
    options: ClassVar[Mapping[Kind, type[Options]]] = {}

    plugin: ClassVar[str]
    """Module of the vendor's LiveKit plugin."""
    api_url: ClassVar[str]
    probe_path: ClassVar[str] = ""
    """A GET that costs nothing and fails for a wrong key; unused where `_call` asks otherwise."""
    key_header: ClassVar[str] = "x-api-key"
    key_prefix: ClassVar[str] = ""

    def readiness(self, kind: Kind, options: Options) -> Readiness:
        if not _is_installed(self.plugin):
            return Readiness(False, "its plugin is not installed", self.install)
        if private := _private_media_server():
            return Readiness(
                False,
                f"{self.label} cannot reach the media server at {private}",
                "Set LIVEKIT_PUBLIC_URL to an address that is open to the internet.",
            )
        return Readiness(True, "ready")

    @property
    def install(self) -> str:
        return INSTALL

    def check(self, kind: Kind, *, options: Options, credentials: Credentials) -> Readiness:
        if missing := self.missing(options):
            return Readiness(False, f"{missing[0]} is not set", "Copy it from the vendor's studio.")
        if credentials.base_url and credentials.api_key and _is_installed(self.plugin):
            return Readiness(True, "ready")  # a server of somebody's own may well be near
        return super().check(kind, options=options, credentials=credentials)

    async def build_avatar(self, *, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        """The vendor's session, to be started in the agent's job; it joins the room as `identity`.

        Raises BadConfiguration when the plugin is missing or refuses what it is given.
        """
        if missing := self.missing(options):
            raise BadConfiguration(f"{self.label}: {missing[0]} is not set.", attr=missing[0])
        if not _is_installed(self.plugin):
            raise BadConfiguration(f"{self.label}: its plugin is not installed. {self.install}")
        try:
            return await self.make(options, credentials, identity)
        except (ValueError, TypeError) as error:
            raise BadConfiguration(f"{self.label}: {error}.") from error

    async def make(self, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        raise NotImplementedError

    def url(self, credentials: Credentials) -> str:
        return (credentials.base_url or self.api_url).rstrip("/")

    async def probe(self, kind: Kind, *, options: Options, credentials: Credentials) -> ProbeResult:
        return await timed_probe(lambda: self._call(credentials))

    async def _call(self, credentials: Credentials) -> str:
        async with self.client(credentials) as client:
            answer = await client.get(self.url(credentials) + self.probe_path)
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code}: {answer.text[:200]}")
        return "the vendor takes the key"

    def client(self, credentials: Credentials) -> httpx2.AsyncClient:
        headers = {self.key_header: f"{self.key_prefix}{credentials.api_key}"}
        return guarded_async_client(limits=LIMITS, headers=headers)


class HeyGen(HostedFace):
    key = "heygen"
    label = "HeyGen LiveAvatar"
    options = {Kind.AVATAR: HeyGenOptions}
    required = ("avatar_id",)
    plugin = "livekit.plugins.liveavatar"
    api_url = "https://api.liveavatar.com"
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
            **_given(video_quality=options.video_quality),
        )

    async def end_avatar(self, avatar: Any, *, credentials: Credentials) -> None:
        await close_liveavatar(avatar, seconds=END_SECONDS)
        await super().end_avatar(avatar, credentials=credentials)


class Tavus(HostedFace):
    key = "tavus"
    label = "Tavus"
    options = {Kind.AVATAR: TavusOptions}
    plugin = "livekit.plugins.tavus"
    api_url = "https://tavusapi.com"
    probe_path = "/v2/faces?limit=1"

    async def make(self, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        from livekit.plugins import tavus

        assert isinstance(options, TavusOptions)
        return tavus.AvatarSession(
            api_key=credentials.api_key,
            api_url=f"{self.url(credentials)}/v2",
            avatar_participant_identity=identity,
            **_given(face_id=options.face_id, pal_id=options.persona_id),
        )

    async def end_avatar(self, avatar: Any, *, credentials: Credentials) -> None:
        """The plugin leaves the end to the vendor, which waits for a while."""
        await super().end_avatar(avatar, credentials=credentials)
        if avatar.conversation_id is not None:
            async with self.client(credentials) as client:
                await client.post(f"{self.url(credentials)}/v2/conversations/{quote(avatar.conversation_id)}/end")


class Simli(HostedFace):
    key = "simli"
    label = "Simli"
    options = {Kind.AVATAR: SimliOptions}
    required = ("face_id",)
    plugin = "livekit.plugins.simli"
    api_url = "https://api.simli.ai"
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
            **_given(emotion_id=options.emotion_id),
        )
        return simli.AvatarSession(
            simli_config=config, api_url=self.url(credentials), avatar_participant_identity=identity
        )


class Anam(HostedFace):
    key = "anam"
    label = "Anam"
    options = {Kind.AVATAR: AnamOptions}
    required = ("avatar_id",)
    plugin = "livekit.plugins.anam"
    api_url = "https://api.anam.ai"
    probe_path = "/v1/avatars?perPage=1"
    key_header = "Authorization"
    key_prefix = "Bearer "

    async def make(self, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        from livekit.plugins import anam

        assert isinstance(options, AnamOptions)
        _share_session_with_anam()
        persona = anam.PersonaConfig(
            name="avatar", avatarId=options.avatar_id, **_given(avatarModel=options.avatar_model)
        )
        return anam.AvatarSession(
            persona_config=persona,
            api_key=credentials.api_key,
            api_url=self.url(credentials),
            avatar_participant_identity=identity,
        )


class BeyondPresence(HostedFace):
    key = "bey"
    label = "Beyond Presence"
    options = {Kind.AVATAR: BeyOptions}
    plugin = "livekit.plugins.bey"
    api_url = "https://api.bey.dev"
    probe_path = "/v1/auth/verify"

    async def make(self, options: Options, credentials: Credentials, identity: str) -> AvatarSession[Any]:
        from livekit.plugins import bey

        assert isinstance(options, BeyOptions)
        return bey.AvatarSession(
            api_key=credentials.api_key,
            api_url=self.url(credentials),
            avatar_participant_identity=identity,
            **_given(avatar_id=options.avatar_id),
        )


class DID(HostedFace):
    key = "did"
    label = "D-ID"
    options = {Kind.AVATAR: DIDOptions}
    required = ("agent_id",)
    plugin = "livekit.plugins.did"
    api_url = "https://api.d-id.com"
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


class BitHuman(HostedFace):
    key = "bithuman"
    label = "bitHuman"
    options = {Kind.AVATAR: BitHumanOptions}
    required = ("avatar_id",)
    plugin = "livekit.plugins.bithuman"
    api_url = "https://api.bithuman.ai"
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
            **_given(model=options.model),
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


def _share_session_with_anam() -> None:
    """The plugin opens an HTTP session of its own for its calls; give it the common one, as the other plugins have."""
    from livekit.agents.utils import http_context
    from livekit.plugins.anam import avatar
    from livekit.plugins.anam.api import AnamAPI

    class SharedSession(AnamAPI):
        def __init__(self, **given: Any) -> None:
            super().__init__(**{**given, "session": http_context.http_session()})

    vars(avatar)["AnamAPI"] = SharedSession


def _given(**values: Any) -> dict[str, Any]:
    """What is set: for everything else the plugins have their own defaults."""
    return {name: value for name, value in values.items() if value}


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _private_media_server() -> str:
    """The media server's address when no vendor could reach it, else ""."""
    import ipaddress

    from django.conf import settings

    url = settings.LIVEKIT_PUBLIC_URL or settings.LIVEKIT_URL
    host = urlsplit(url).hostname or ""
    try:
        return "" if ipaddress.ip_address(host).is_global else url
    except ValueError:
        return url if host == "localhost" or "." not in host else ""
