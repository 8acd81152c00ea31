"""Checks of the way between visitors and molts: addresses, ports, the page's server and its WebSocket."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from urllib.parse import urlsplit

import aiohttp
import httpx2
from asgiref.sync import async_to_sync
from django.conf import settings

from molts.doctor_checks.findings import PATIENCE_SECONDS, START_IT, Finding, failed, ok, short, warning
from molts.http import EVERY_NETWORK, ResponseLimits, fetch
from sessions import rooms, tokens

PATIENCE = ResponseLimits(PATIENCE_SECONDS, PATIENCE_SECONDS, PATIENCE_SECONDS, max_bytes=1_000_000)


def check_media_ports() -> Finding:
    host = urlsplit(settings.LIVEKIT_URL).hostname or "127.0.0.1"
    udp, tcp = settings.MOLTS_MEDIA_UDP_PORT, settings.MOLTS_MEDIA_TCP_PORT
    if not udp and not tcp:
        return warning(
            "not known: the media server is not ours", "To prove that media flows: manage.py check_conversation"
        )
    seen = []
    if udp:
        if not udp_is_open(host, udp):
            return failed(f"nothing listens on UDP {host}:{udp}", f"{START_IT}; let no firewall block UDP {udp}")
        seen.append(f"UDP {udp}")
    if tcp:
        if not tcp_is_open(host, tcp):
            return failed(f"nothing listens on TCP {host}:{tcp}", f"{START_IT}; let no firewall block TCP {tcp}")
        seen.append(f"TCP {tcp}")
    return ok(f"{host}: {' and '.join(seen)} open")


def check_web() -> Finding:
    from molts.supervisor.given import local_url

    url = f"{local_url(settings.MOLTS_HOST, settings.MOLTS_PORT)}/readyz"
    try:
        answer = ask_own_part(url, headers={"Host": urlsplit(settings.MOLTS_PUBLIC_URL).netloc})
    except httpx2.HTTPError as error:
        return failed(f"{url}: {short(error)}", START_IT)
    if answer.is_success:
        return ok(settings.MOLTS_PUBLIC_URL)
    return failed(f"{url} answers {answer.status_code}", "Mend the other rows; the web part waits for them")


def check_public_address() -> Finding:
    """Browsers give the microphone to https pages and to pages of their own machine, and to no others."""
    url = settings.MOLTS_PUBLIC_URL
    if url.startswith("https://"):
        return ok(f"{url}: encrypted")
    if _is_loopback(urlsplit(url).hostname):
        return ok(f"{url}: this machine only")
    return warning(
        f"{url} is not encrypted: browsers give it no microphone, visitors can only type",
        "Put a proxy with TLS in front and set MOLTS_PUBLIC_URL to its https:// address",
    )


def check_media_address() -> Finding:
    """The media server's address as browsers are told it must fit the page's own."""
    url, page = settings.LIVEKIT_PUBLIC_URL, settings.MOLTS_PUBLIC_URL
    place = urlsplit(url)
    host, port = place.hostname or "", place.port or (443 if place.scheme == "wss" else 80)
    if _is_loopback(host) and not _is_loopback(urlsplit(page).hostname):
        return failed(
            f"{url} leads visitors of {page} to their own machine",
            "Set LIVEKIT_PUBLIC_URL to an address that visitors reach, or MOLTS_HOST=0.0.0.0",
        )
    if page.startswith("https://") and place.scheme == "ws" and not _is_loopback(host):
        return failed(
            f"{url} is not encrypted: browsers refuse it on the page {page}",
            "Put the media server behind TLS too and set LIVEKIT_PUBLIC_URL to its wss:// address",
        )
    if tcp_is_open(host, port):
        return ok(url)
    if url == settings.LIVEKIT_URL:
        return failed(f"nothing answers at {url}", f"{START_IT}, or check LIVEKIT_PUBLIC_URL")
    return warning(
        f"{url} does not answer from this machine",
        f"Some routers allow no way back in: open {page}/check from outside. Else open TCP {port}",
    )


def check_node_ip() -> Finding:
    """The addresses for voice that the media server tells visitors."""
    told = sorted({each.address for each in _offer().candidates})
    page = urlsplit(settings.MOLTS_PUBLIC_URL).hostname
    text = f"visitors are told {', '.join(told)}"
    fix = "Set MOLTS_NODE_IP to the address at which visitors reach the media server, and start again"
    if not told:
        return failed("visitors are told no address for voice", f"{fix}; look into the media server's logs")
    if _is_loopback(page):
        return ok(f"{text}: this machine only")
    if all(_is_loopback(address) for address in told):
        return failed(f"{text}, which is their own machine", fix)
    if settings.MOLTS_NODE_IP and settings.MOLTS_NODE_IP not in told:
        return warning(f"{text}, not MOLTS_NODE_IP={settings.MOLTS_NODE_IP}", START_IT)
    if all(_is_private(address) for address in told) and not _is_private(page):
        return warning(f"{text}: reachable from the same network only", fix)
    return ok(text)


def check_turn() -> Finding:
    relays = _offer().relays
    if relays:
        return ok(f"offered: {', '.join(relays)}")
    if _is_loopback(urlsplit(settings.MOLTS_PUBLIC_URL).hostname):
        return ok("not set up; not needed on this machine")
    return warning(
        "not set up: visitors whose network lets only web pages through cannot talk",
        "Use a media server with TURN on TLS port 443 (LIVEKIT_URL); all others are served by UDP and TCP",
    )


def check_websocket() -> Finding:
    from molts.supervisor.given import local_url

    url = f"{local_url(settings.MOLTS_HOST, settings.MOLTS_PORT).replace('http', 'ws', 1)}/ws/check/"
    public = urlsplit(settings.MOLTS_PUBLIC_URL)
    try:
        word = async_to_sync(_first_word)(url, {"Host": public.netloc, "Origin": f"{public.scheme}://{public.netloc}"})
    except aiohttp.WSServerHandshakeError as error:
        return failed(f"{url} refuses ({error.status})", "Check MOLTS_PUBLIC_URL and CSRF_TRUSTED_ORIGINS")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return failed(f"{url}: {short(error)}", START_IT)
    return ok("answers") if word else failed(f"{url} closes without a word", "Look into the logs of this part")


# -- Small questions --------------------------------------------------------------------------------------------------
def _offer() -> rooms.Offer:
    """What the media server tells a visitor who enters."""
    room_name = rooms.new_check_room_name()
    token = tokens.check_token(room_name=room_name, identity=f"doctor-{secrets.token_urlsafe(9)}")

    async def ask() -> rooms.Offer:
        await rooms.open_check_room(room_name)
        try:
            return await rooms.ask_offer(token)
        finally:
            await rooms.close_room(room_name)

    return async_to_sync(ask)()


def ask_own_part(url: str, headers: dict[str, str] | None = None) -> httpx2.Response:
    """The answer of a part of this installation. Raises httpx2.HTTPError."""
    return fetch(url, headers=headers, limits=PATIENCE, allowed_networks=EVERY_NETWORK)


async def _first_word(url: str, headers: dict[str, str]) -> str:
    timeout = aiohttp.ClientTimeout(total=PATIENCE_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as client, client.ws_connect(url, headers=headers) as socket:
        message = await socket.receive(PATIENCE_SECONDS)
        return str(message.data) if message.type == aiohttp.WSMsgType.TEXT else ""


def _is_loopback(host: str | None) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host or "").is_loopback)


def _is_private(host: str | None) -> bool:
    """Whether this is an address that only its own network reaches. Names are taken for public ones."""
    return _is_address(host) and not ipaddress.ip_address(host or "").is_global


def _is_address(host: str | None) -> bool:
    try:
        ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return True


def tcp_is_open(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=PATIENCE_SECONDS):
            return True
    except OSError:
        return False


def udp_is_open(host: str, port: int) -> bool:
    """False when the other side says that nobody listens. Silence counts as open: UDP servers ignore strangers."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.5)
        try:
            probe.connect((host, port))
            probe.send(b"\0")
            probe.recv(1)
        except TimeoutError:
            return True
        except OSError:
            return False
    return True
