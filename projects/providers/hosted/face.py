"""Faces that a vendor renders: the agent's voice goes to the vendor, which joins the room with picture and sound.

Each is a LiveKit plugin. `HostedFaceProvider` gives them one form: options for the admin, a connection test and
`build_avatar`.
A vendor joins through the internet, so the media server must be reachable there (LIVEKIT_PUBLIC_URL).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from molts.errors import BadConfiguration
from molts.http import ResponseLimits, guarded_async_client
from projects.providers.base import Credentials, Kind, Options, ProbeResult, Provider, Readiness
from projects.providers.shared.probing import timed_probe

if TYPE_CHECKING:
    import httpx2
    from livekit.agents.voice.avatar import AvatarSession


LIMITS = ResponseLimits(connect_seconds=5, read_seconds=8, total_seconds=8, max_bytes=2_000_000)
INSTALL = "Install the plugin on the agents' machines: pip install 'molts[hosted-faces]'."


class HostedFaceProvider(Provider):
    """Base: what one vendor's face needs besides its options."""

    kinds = frozenset({Kind.AVATAR})
    needs_key = True
    takes_base_url = True
    options: ClassVar[Mapping[Kind, type[Options]]] = {}

    plugin: ClassVar[str]
    """Module of the vendor's LiveKit plugin."""
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
        return (credentials.base_url or self.default_base_url).rstrip("/")

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


def given(**values: Any) -> dict[str, Any]:
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
