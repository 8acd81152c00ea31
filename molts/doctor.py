"""Looks at every part of an installation and says what is wrong and how to mend it.

Each check is a function without arguments that returns a `Finding`. All run side by side, each with a deadline, so a
part that hangs delays nobody.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
import socket
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import redis
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import DatabaseError, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from molts import beats, crypto
from molts.beats import WorkerKind
from molts.database import DatabaseUnavailable, check_writable
from molts.errors import BadConfiguration, MoltsError
from projects.models import ProviderKey
from projects.providers import get_provider
from projects.providers.base import Kind, Readiness
from projects.providers.openai_compatible import find_ollama
from projects.providers.speech_state import SpeechServerSilent, read_state
from sessions import presence, rooms, tokens
from sessions.choices import TOLD, WARNINGS
from sessions.models import SessionNotice

DEADLINE_SECONDS = 8.0
PATIENCE_SECONDS = 3.0
RECENT_TROUBLE = timedelta(hours=6)
LITTLE_DISK = 2 * 1024**3
NO_DISK = 200 * 1024**2
SKEW_NOTICED, SKEW_HARMFUL = 2.0, 30.0
START_IT = "Start molts: make up"


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # works, but somebody should know
    FAILED = "failed"  # something required does not work


@dataclass(frozen=True)
class Finding:
    """What one check saw. `mend` says what to do about it, empty when nothing needs doing."""

    level: Level
    text: str
    mend: str = ""


@dataclass(frozen=True)
class Row:
    """A finding with the name of its check, as shown."""

    name: str
    level: Level
    text: str
    mend: str

    def as_dict(self) -> dict[str, str]:
        return {key: str(value) for key, value in asdict(self).items()}


def ok(text: str) -> Finding:
    return Finding(Level.OK, text)


def warning(text: str, mend: str) -> Finding:
    return Finding(Level.WARNING, text, mend)


def failed(text: str, mend: str) -> Finding:
    return Finding(Level.FAILED, text, mend)


def examine(*, deadline: float = DEADLINE_SECONDS) -> list[Row]:
    """Runs every check; the rows come in the order of CHECKS."""
    for provider in ("faster_whisper", "pocketsphinx", "supertonic", "espeak"):
        get_provider(provider)  # loads big libraries: not on the checks' time
    found: dict[str, Finding] = {}
    threads = []
    for name, check in CHECKS.items():
        thread = threading.Thread(target=_run, args=(name, check, found), daemon=True)
        thread.start()
        threads.append(thread)
    end = time.monotonic() + deadline
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    silent = failed(f"no answer within {deadline:.0f} s", "Look into the logs of this part, or start molts again")
    findings = {name: found.get(name, silent) for name in CHECKS}
    return [Row(name, finding.level, finding.text, finding.mend) for name, finding in findings.items()]


def _run(name: str, check: Callable[[], Finding], found: dict[str, Finding]) -> None:
    try:
        found[name] = check()
    except MoltsError as error:
        found[name] = failed(error.detail, START_IT)
    except Exception as error:
        found[name] = failed(f"{type(error).__name__}: {_short(error)}", "Look into the logs of this part")
    finally:
        connections.close_all()


# -- Data ------------------------------------------------------------------------------------------------------------
def check_database() -> Finding:
    place = _database_place()
    try:
        check_writable()
    except DatabaseUnavailable as error:
        return failed(f"{place}: {error.trouble}", error.mend)
    except Exception as error:
        return failed(f"{place}: {_short(error)}", "Check DATABASE_URL, and that the server runs and lets us in")
    return ok(place)


def check_migrations() -> Finding:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        return failed(f"{len(plan)} not applied", "Start molts again (make up migrates), or: manage.py migrate")
    return ok("all applied")


def check_redis() -> Finding:
    place = urlsplit(settings.REDIS_URL)
    shown = f"{place.hostname}:{place.port or 6379}" if place.hostname else place.path
    try:
        with _redis() as client:
            version = str(client.info("server")["redis_version"])
    except redis.AuthenticationError:
        return failed(f"{shown} refuses our password", "Check REDIS_URL")
    except redis.RedisError as error:
        return failed(f"{shown}: {_short(error)}", f"{START_IT}, or check REDIS_URL")
    return ok(f"{shown}, version {version}")


def check_disk() -> Finding:
    folder = _existing(settings.MOLTS_DATA_DIR)
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**3:.1f} GiB free in {folder}"
    mend = f"Make room in {folder}, or choose another folder with MOLTS_DATA_DIR"
    if not os.access(folder, os.W_OK):
        return failed(f"{folder} cannot be written", "Give the user that runs molts the right to write there")
    if free < NO_DISK:
        return failed(text, mend)
    return warning(text, mend) if free < LITTLE_DISK else ok(text)


def check_secrets() -> Finding:
    loose = [path for path in _private_paths() if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if loose:
        names = " ".join(str(path) for path in loose)
        return failed(f"{len(loose)} can be read by other users", f"chmod go-rwx {names}")
    if lost := [f"{key} in {key.project}" for key in _stored_keys() if not _opens(key)]:
        text = f"{len(lost)} of the stored provider keys cannot be read with MOLTS_FIELD_KEYS: {', '.join(lost[:3])}"
        return failed(
            text + (" and others" if len(lost) > 3 else ""),
            f"Put the old key back into {settings.MOLTS_SECRETS_DIR / 'molts_field_keys'} (with a comma, after the "
            "present one), or type these secrets again in the admin",
        )
    return ok(f"private to their owner ({settings.MOLTS_SECRETS_DIR})")


# -- Running parts ---------------------------------------------------------------------------------------------------
def check_media_server() -> Finding:
    try:
        async_to_sync(rooms.list_room_names)(settings.MOLTS_INSTANCE)
    except MoltsError as error:
        mend = f"{START_IT}, or check LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET"
        return failed(f"{settings.LIVEKIT_URL}: {error.detail}", mend)
    return ok(f"{settings.LIVEKIT_URL} takes our key")


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


# -- The way of visitors ---------------------------------------------------------------------------------------------
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
    mend = "Set MOLTS_NODE_IP to the address at which visitors reach the media server, and start again"
    if not told:
        return failed("visitors are told no address for voice", f"{mend}; look into the media server's logs")
    if _is_loopback(page):
        return ok(f"{text}: this machine only")
    if all(_is_loopback(address) for address in told):
        return failed(f"{text}, which is their own machine", mend)
    if settings.MOLTS_NODE_IP and settings.MOLTS_NODE_IP not in told:
        return warning(f"{text}, not MOLTS_NODE_IP={settings.MOLTS_NODE_IP}", START_IT)
    if all(_is_private(address) for address in told) and not _is_private(page):
        return warning(f"{text}: reachable from the same network only", mend)
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
        return failed(f"{url}: {_short(error)}", START_IT)
    return ok("answers") if word else failed(f"{url} closes without a word", "Look into the logs of this part")


def check_workers() -> Finding:
    workers = beats.workers()
    if not workers:
        return failed("no agent worker is registered", f"{START_IT}, or: manage.py run_agent")
    slots, used = sum(worker.slots for worker in workers), sum(worker.used for worker in workers)
    text = f"{len(workers)} registered, {used} of {slots} slots in use"
    return ok(text) if used < slots else warning(text, "All slots are taken: start another worker on another machine")


def check_avatar_workers() -> Finding:
    """Never a fault: conversations go on with voice only."""
    workers = beats.workers(WorkerKind.AVATAR)
    if not workers:
        return warning("no avatar worker is registered: voice only", f"{START_IT}, or: manage.py run_avatar")
    slots, used = sum(worker.slots for worker in workers), sum(worker.used for worker in workers)
    text = f"{len(workers)} registered, {used} of {slots} slots in use"
    mend = "All slots are taken, so new conversations have no moving face: start another worker on another machine"
    return ok(text) if used < slots else warning(text, mend)


def check_web() -> Finding:
    from molts.supervisor.given import local_url

    url = f"{local_url(settings.MOLTS_HOST, settings.MOLTS_PORT)}/readyz"
    host = urlsplit(settings.MOLTS_PUBLIC_URL).netloc
    request = urllib.request.Request(url, headers={"Host": host})  # noqa: S310 - always http, to ourselves
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS):  # noqa: S310
            return ok(settings.MOLTS_PUBLIC_URL)
    except urllib.error.HTTPError as error:
        return failed(f"{url} answers {error.code}", "Mend the other rows; the web part waits for them")
    except OSError as error:
        return failed(f"{url}: {_short(getattr(error, 'reason', error))}", START_IT)


def check_page() -> Finding:
    built = settings.BASE_DIR / "static" / "dist" / "room.js"
    return ok("built") if built.exists() else failed("the room page is not built", "make setup")


def check_jobs() -> Finding:
    from kombu.exceptions import OperationalError

    from molts.celery import app

    try:
        answers = app.control.ping(timeout=1.5)
    except OperationalError as error:
        return failed(f"their queue is out of reach ({_short(error)})", START_IT)
    if not answers:
        return failed("no job worker answers", f"{START_IT}, or: celery -A molts worker -Q default,media")
    return ok(", ".join(sorted(name for answer in answers for name in answer)))


def check_clock() -> Finding:
    if presence.clock_beats():
        return ok("beats")
    return failed("does not beat", f"{START_IT}, or: celery -A molts beat (and a job worker)")


def check_clock_skew() -> Finding:
    """Tokens carry times: a wrong clock makes the media server refuse everybody."""
    skews = [abs(skew) for skew in _clock_skews()]
    if not skews:
        return warning("nobody to compare with", START_IT)
    worst = max(skews)
    text = f"{worst:.1f} s at most"
    mend = "Let a time service (chrony, systemd-timesyncd) set the clock of every machine"
    if worst > SKEW_HARMFUL:
        return failed(text, mend)
    return warning(text, mend) if worst > SKEW_NOTICED else ok(text)


# -- Speech ----------------------------------------------------------------------------------------------------------
def check_recogniser() -> Finding:
    best, last = _readiness("faster_whisper", Kind.STT), _readiness("pocketsphinx", Kind.STT)
    if best.ready:
        return ok(f"Whisper: {best.text}")
    if last.ready:
        return warning(f"{best.text}; until then the offline recogniser serves, which often errs", best.mend)
    return failed(f"{best.text}; {last.text}", f"{best.mend} {last.mend}")


def check_speech_server() -> Finding:
    """Never a fault: without it every conversation hears by itself, with more memory and no words while one speaks."""
    if not settings.MOLTS_SPEECH_URL:
        return ok("none: each conversation loads the recogniser's model for itself")
    try:
        state = read_state(settings.MOLTS_SPEECH_URL, secret=settings.MOLTS_SPEECH_SECRET)
    except SpeechServerSilent as error:
        text = f"{settings.MOLTS_SPEECH_URL}: {_short(error)}; conversations load the model for themselves"
        return warning(text, f"{START_IT}, or: manage.py run_speech")
    if "model" not in state:
        return warning(f"{settings.MOLTS_SPEECH_URL} refuses our secret", "Give it and us the same MOLTS_SPEECH_SECRET")
    if not state["ready"]:
        return warning(f"runs, but its model {state.get('wanted')} is not loaded", "manage.py speech_models list")
    text = f"{state['model']} on {state['device']} ({state['compute_type']}), {state['streams']} conversations"
    ladder = state.get("ladder") or {}
    if moves := ladder.get("moves"):
        text += f", {moves} changes of size" if moves > 1 else ", 1 change of size"
    if ladder.get("error"):
        text += f", the last one failed: {ladder['error']}"
    if ladder.get("reason"):
        mend = (
            f"Let less run on this machine, choose a smaller model with MOLTS_WHISPER_MODEL, or, where it is not here: "
            f"manage.py speech_models download {state['wanted']}"
        )
        return warning(f"{text}; instead of {state['wanted']}: {ladder['reason']}", mend)
    return ok(text)


def check_voices() -> Finding:
    best, last = _readiness("supertonic", Kind.TTS), _readiness("espeak", Kind.TTS)
    if best.ready:
        return ok("Supertonic" + (" and espeak-ng" if last.ready else ""))
    if last.ready:
        return warning(f"{best.text}; espeak-ng speaks", best.mend)
    return failed(f"{best.text}; {last.text}", last.mend)


def check_language_models() -> Finding:
    """Never a fault: the scripted model needs nothing."""
    found = find_ollama()
    if found is None:
        return ok("scripted answers; no Ollama on this machine")
    return ok(f"Ollama with {', '.join(found[1]) or 'no models yet'}; scripted answers")


def check_conversations() -> Finding:
    """Never a fault of this machine's parts: what vendors and keys did to the conversations of the last hours."""
    since = timezone.now() - RECENT_TROUBLE
    told = SessionNotice.objects.filter(created_at__gte=since, level__in=WARNINGS).exclude(reason="")
    latest = list(told.select_related("session__agent").order_by("-pk")[:100])
    if not latest:
        return ok("no vendor failed lately")
    # Each trouble once, as it was last.
    troubles = {(str(notice.session.agent), notice.code): notice for notice in reversed(latest)}
    texts = [f"{agent}: {TOLD.get(code, code)} ({each.reason})" for (agent, code), each in troubles.items()]
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    mend = "Look at the agent's page in the admin, and use Test connection on the key"
    return warning(f"in the last hours: {'; '.join(texts[-3:])}{more}", mend)


def check_ffmpeg() -> Finding:
    found = shutil.which("ffmpeg")
    if found:
        return ok(found)
    return warning("missing: no videos can be made", "Install it (Debian, Ubuntu: sudo apt install ffmpeg)")


CHECKS: dict[str, Callable[[], Finding]] = {
    "database": check_database,
    "migrations": check_migrations,
    "Redis": check_redis,
    "media server": check_media_server,
    "media ports": check_media_ports,
    "web": check_web,
    "WebSocket": check_websocket,
    "public address": check_public_address,
    "media address": check_media_address,
    "node IP": check_node_ip,
    "TURN": check_turn,
    "room page": check_page,
    "agent workers": check_workers,
    "avatar workers": check_avatar_workers,
    "jobs": check_jobs,
    "clock": check_clock,
    "clock skew": check_clock_skew,
    "recogniser": check_recogniser,
    "speech server": check_speech_server,
    "voices": check_voices,
    "language models": check_language_models,
    "conversations": check_conversations,
    "ffmpeg": check_ffmpeg,
    "disk space": check_disk,
    "secrets": check_secrets,
}


# -- Small questions -------------------------------------------------------------------------------------------------
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


def _readiness(provider: str, kind: Kind) -> Readiness:
    found = get_provider(provider)
    return found.readiness(kind, found.parse_options(kind, {}))


def _clock_skews() -> Iterator[float]:
    """Seconds that other clocks are ahead of ours: of Redis, of the media server."""
    try:
        with _redis() as client:
            seconds, micros = client.time()
        yield seconds + micros / 1e6 - time.time()
    except redis.RedisError:
        pass
    url = (
        settings.LIVEKIT_URL.replace("ws", "http", 1) if settings.LIVEKIT_URL.startswith("ws") else settings.LIVEKIT_URL
    )
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310 - checked by the settings
            date = answer.headers.get("Date")
        if date:
            yield parsedate_to_datetime(date).timestamp() - int(time.time())
    except (OSError, ValueError):
        pass


@contextmanager
def _redis() -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS
    )
    try:
        yield client
    finally:
        client.close()


def _private_paths() -> Iterator[Path]:
    for path in (settings.MOLTS_SECRETS_DIR, settings.BASE_DIR / ".env", settings.MOLTS_RUN_ENV):
        if path.exists():
            yield path
    if settings.MOLTS_SECRETS_DIR.is_dir():
        yield from settings.MOLTS_SECRETS_DIR.iterdir()


def _stored_keys() -> Iterator[ProviderKey]:
    """Those with a secret; none while there is no database, which is another row's to say."""
    try:
        yield from ProviderKey.objects.exclude(secret_cipher="").select_related("project")
    except DatabaseError:
        return


def _opens(key: ProviderKey) -> bool:
    try:
        crypto.decrypt(key.secret_cipher)
    except BadConfiguration:
        return False
    return True


def _database_place() -> str:
    """Where the database is, without its password."""
    values = connection.settings_dict
    if values["ENGINE"].endswith("sqlite3"):
        return f"SQLite {values['NAME']}"
    return f"{connection.display_name} {values['HOST'] or 'localhost'}:{values['PORT'] or 5432}/{values['NAME']}"


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _short(error: object) -> str:
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__
