"""Which parts molts has on one machine, how each is started, and what it needs to know.

`plan_stack` turns the environment into a `Stack`: addresses, ports and passwords chosen once per start. `Stack.parts`
are ready for the supervisor, in the order in which they are to be started.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from molts.life import life_folder
from molts.supervisor.given import GivenEnvironment, Keys, local_url
from molts.supervisor.names import AGENT, AVATAR, CLOCK, JOBS, MEDIA, PART_NAMES, REDIS, RENDER, SPEECH, WEB
from molts.supervisor.ports import NoFreePort, PortBook, is_free
from molts.supervisor.process import Part, PartFailed
from molts.supervisor.servers import own_media_server, own_redis, redis_lives
from molts.supervisor.signs import Touched, answering, http_answers, speech_answers

# Without these no conversation can be held, whatever else runs.
NEEDED_TO_TALK = (REDIS, MEDIA, WEB, AGENT)
# The longest path that a socket may have on every system.
LONGEST_SOCKET_PATH = 100
# A worker touches its file from a thread, once a second; its conversations wait for it to be replaced.
WORKER_SILENT_SECONDS = 5
# uvicorn's arguments that bound what a connection may take; a page sends nothing over its WebSocket but pings.
FRONT_DOOR = (
    *("--http", "molts.front_door:FrontDoor", "--ws", "molts.front_door:BoundedWebSocket"),
    *("--ws-max-size", "16384"),
)
SECRET_NAME = re.compile(r"KEY|SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|_DSN$|_URL$")


@dataclass(frozen=True)
class Stack:
    """One start of molts, decided in full."""

    base_dir: Path
    data_dir: Path
    host: str
    port: int
    public_url: str
    redis_url: str
    livekit_url: str
    env: Mapping[str, str]
    parts: tuple[Part, ...]
    without: frozenset[str]
    notes: tuple[str, ...] = ()

    @property
    def run_folder(self) -> Path:
        return self.data_dir / "run"

    @property
    def log_folder(self) -> Path:
        return self.data_dir / "logs"

    @property
    def cannot_talk_without(self) -> list[str]:
        """Parts left out without which no conversation can be held."""
        return [name for name in NEEDED_TO_TALK if name in self.without]

    def command(self, *arguments: str) -> tuple[str, ...]:
        """`manage.py` with these arguments, under the Python that runs us."""
        return (sys.executable, str(self.base_dir / "manage.py"), *arguments)


def plan_stack(
    *,
    base_dir: Path,
    data_dir: Path,
    given: GivenEnvironment,
    keys: Keys,
    host: str,
    port: int,
    public_url: str,
    without: frozenset[str],
) -> Stack:
    """Chooses ports and passwords, writes the servers' own configuration files, and lays out the parts.

    Raises PartFailed with one line for people when something needed is missing or taken.
    """
    run_folder = data_dir / "run"
    run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    run_folder.chmod(0o700)
    _check_left_out(without, given)
    if WEB not in without:
        _check_port(host, port)
    book = PortBook(run_folder / "ports.json")
    parts: dict[str, Part] = {}
    livekit_env: dict[str, str] = {}
    try:
        redis_url = given.text("REDIS_URL") or own_redis(parts, data_dir, given, book)
        livekit_url = given.text("LIVEKIT_URL")
        if not livekit_url:
            livekit_url, livekit_env = own_media_server(
                parts, base_dir, run_folder, given, keys, book, redis_url, host, port, public_url
            )
        speech_env = {} if SPEECH in without else _own_speech_server(run_folder, given, book)
    except NoFreePort as error:
        raise PartFailed(f"{error}. Stop some other servers and try again") from error
    book.save()
    shutil.rmtree(life_folder(data_dir), ignore_errors=True)  # of processes that were killed
    env = {
        "MOLTS_DATA_DIR": str(data_dir),
        "MOLTS_HOST": host,
        "MOLTS_PORT": str(port),
        "MOLTS_PUBLIC_URL": public_url,
        "REDIS_URL": redis_url,
        "LIVEKIT_URL": livekit_url,
        **livekit_env,
        **speech_env,
    }
    stack = Stack(base_dir, data_dir, host, port, public_url, redis_url, livekit_url, env, (), without)
    for part in _django_parts(stack, given):
        parts[part.name] = part
    ordered = tuple(parts[name] for name in PART_NAMES if name in parts and name not in without)
    return Stack(base_dir, data_dir, host, port, public_url, redis_url, livekit_url, env, ordered, without)


def secrets_to_hide(stack: Stack, given: GivenEnvironment, secrets_folder: Path) -> set[str]:
    """Every secret value this start knows: from the environment, the secrets folder and what it made up itself."""
    known = set()
    for name, value in {**given.values, **stack.env}.items():
        if not SECRET_NAME.search(name):
            continue
        parts = urlsplit(value) if "://" in value else None
        if parts is not None:
            known |= {parts.password or ""}
        elif not value.startswith("/"):
            known |= {value, *value.split(",")}
    for file in secrets_folder.iterdir() if secrets_folder.is_dir() else []:
        if file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace").strip()
            known |= {text, *text.split(",")}
    return {value.strip() for value in known if value.strip()}


# -- Speech server ---------------------------------------------------------------------------------------------------
def _own_speech_server(run_folder: Path, given: GivenEnvironment, book: PortBook) -> dict[str, str]:
    """Where ours listens and how conversations find it; nothing when another one is given."""
    if given.has("MOLTS_SPEECH_URL"):
        return {}
    listen = given.text("MOLTS_SPEECH_LISTEN") or f"127.0.0.1:{book.choose('speech')}"
    path = run_folder / "speech.sock"
    if len(str(path)) <= LONGEST_SOCKET_PATH:
        return {"MOLTS_SPEECH_URL": f"unix://{path}", "MOLTS_SPEECH_LISTEN": f"unix://{path},{listen}"}
    return {"MOLTS_SPEECH_URL": f"ws://{listen.split(',')[0]}", "MOLTS_SPEECH_LISTEN": listen}


# -- Our own processes -----------------------------------------------------------------------------------------------
def _django_parts(stack: Stack, given: GivenEnvironment) -> list[Part]:
    # Bytecode that nobody may keep would be compiled anew by every part at every start.
    kept = {name: value for name, value in given.values.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env = {**kept, **stack.env, "PYTHONUNBUFFERED": "1", "DJANGO_SETTINGS_MODULE": "molts.settings"}
    # Idle threads of numeric libraries would only spin in processes that never compute.
    light = {**env, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    drain = given.number("MOLTS_AGENT_DRAIN_SECONDS", 0)
    avatar_drain = given.number("MOLTS_AVATAR_DRAIN_SECONDS", 0)
    lives = redis_lives(stack.redis_url)

    async def web_answers(path: str) -> bool:
        where, name = local_url(stack.host, stack.port), urlsplit(stack.public_url).netloc
        return await http_answers(f"{where}{path}", status=200, host=name)

    python = sys.executable
    celery = (python, "-m", "celery", "-A", "molts")
    return [
        Part(
            WEB,
            (
                python,
                "-m",
                "uvicorn",
                "molts.asgi:application",
                "--host",
                stack.host,
                "--port",
                str(stack.port),
                "--no-server-header",
                # Whom to believe about a visitor's address is MOLTS_NUM_PROXIES' and MOLTS_BEHIND_PROXY's to say.
                "--no-proxy-headers",
                *FRONT_DOOR,
                "--timeout-graceful-shutdown",
                "3",
            ),
            env=light,
            ready=lambda: web_answers("/readyz"),
            alive=answering(lambda: web_answers("/healthz")),
            silent_seconds=6,
            hopeless={"address already in use": port_taken(stack.host, stack.port)},
            stop_seconds=5,
            layer=2,
        ),
        Part(
            JOBS,
            (*celery, "worker", *_worker_arguments(JOBS, queue="default", pool="threads", slots=4)),
            env=light,
            alive=Touched(stack.data_dir, JOBS, needs=lives),
            stop_seconds=5,
            layer=3,
        ),
        Part(
            RENDER,
            (*celery, "worker", *_worker_arguments(RENDER, queue="media", pool="prefork", slots=1)),
            env=light,
            alive=Touched(stack.data_dir, RENDER, needs=lives),
            stop_seconds=3,
            layer=3,
        ),
        Part(
            CLOCK,
            (
                *celery,
                "beat",
                "--loglevel",
                "WARNING",
                "--pidfile",
                "",
                "--schedule",
                str(stack.run_folder / "clock-schedule"),
                "--scheduler",
                "molts.celery:Clock",
            ),
            env=light,
            alive=Touched(stack.data_dir, CLOCK, needs=lives),
            stop_seconds=3,
            layer=3,
        ),
        *([_speech_part(stack, light)] if "MOLTS_SPEECH_LISTEN" in stack.env else []),
        # Who stops a whole copy does not want to wait for conversations, unless they said so.
        Part(
            AGENT,
            stack.command("run_agent"),
            env={**env, "MOLTS_AGENT_DRAIN_SECONDS": str(drain)},
            alive=Touched(stack.data_dir, AGENT),
            silent_seconds=WORKER_SILENT_SECONDS,
            stop_seconds=drain + 8,
            layer=3,
        ),
        Part(
            AVATAR,
            stack.command("run_avatar"),
            env={**light, "MOLTS_AVATAR_DRAIN_SECONDS": str(avatar_drain)},
            alive=Touched(stack.data_dir, AVATAR),
            silent_seconds=WORKER_SILENT_SECONDS,
            stop_seconds=avatar_drain + 8,
            layer=3,
        ),
    ]


def _worker_arguments(name: str, *, queue: str, pool: str, slots: int) -> tuple[str, ...]:
    """What Celery is told of a worker that takes one queue and asks nothing of other workers."""
    return (
        *("-Q", queue, "--pool", pool, "--concurrency", str(slots), "-n", f"{name}@%h", "--loglevel", "INFO"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    )


def _speech_part(stack: Stack, env: Mapping[str, str]) -> Part:
    url = stack.env["MOLTS_SPEECH_URL"]

    async def answers() -> bool:
        return await speech_answers(url)

    return Part(
        SPEECH, stack.command("run_speech"), env=env, ready=answers, alive=answering(answers), stop_seconds=8, layer=2
    )


# -- Small questions -------------------------------------------------------------------------------------------------
def port_taken(host: str, port: int) -> str:
    return (
        f"port {port} on {host} is taken by another program: "
        f"stop it, or choose another port: MOLTS_PORT={port + 1} make up"
    )


def _check_left_out(without: frozenset[str], given: GivenEnvironment) -> None:
    for part, name in ((REDIS, "REDIS_URL"), (MEDIA, "LIVEKIT_URL")):
        if part in without and not given.has(name):
            raise PartFailed(f"{part} can only be left out when {name} says where another one runs")
    if given.has("LIVEKIT_URL") and not (given.has("LIVEKIT_API_KEY") and given.has("LIVEKIT_API_SECRET")):
        raise PartFailed("LIVEKIT_URL is set, so that server's LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be set too")


def _check_port(host: str, port: int) -> None:
    if not is_free(host, port):
        raise PartFailed(port_taken(host, port))
