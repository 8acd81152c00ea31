"""The parts of molts that hold conversations, as real processes of their own on free loopback ports.

Redis, media server, database file, Celery with its clock, and the agent worker. The database is not pytest's: several
processes use it, and nothing is rolled back.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from cryptography.fernet import Fernet
from django.db import connections
from django.test import override_settings
from redis import Redis, RedisError

from molts.supervisor.given import Keys
from molts.supervisor.servers import find_livekit_server, find_redis_server, livekit_config

ROOT = Path(__file__).resolve().parents[2]
MICRO_WHISPER = ROOT / "tests" / "fixtures" / "micro-whisper"
START_SECONDS = 180.0
STOP_SECONDS = 15.0
RUN_AVATAR = ("manage.py", "run_avatar")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, check: Callable[[], object], *, seconds: float = START_SECONDS) -> None:
    """Until `check` returns something true. Raises TimeoutError naming `what`."""
    until = time.monotonic() + seconds
    while not check():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {seconds:.0f} s in vain for: {what}")
        time.sleep(0.05)


class RedisServer:
    """A redis-server of one's own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        program = find_redis_server()
        assert program is not None, "redis-server is missing: run `make setup`"
        self._process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for("redis-server", self._answers, seconds=15)
        except TimeoutError:
            self.stop()
            raise

    def _answers(self) -> bool:
        with suppress(RedisError), Redis.from_url(self.url) as client:
            return bool(client.ping())
        return False

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It stands still: connections stand, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        end(self._process)


def end(process: subprocess.Popen[bytes], *, terms: int = 1) -> None:
    """End a child and whatever it started: politely, then not."""
    family = _family(process.pid)
    for _ in range(terms):
        if process.poll() is None:
            process.terminate()
            time.sleep(0.05)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for left in family:
        with suppress(psutil.NoSuchProcess):
            left.kill()


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


class Stack:
    """Everything a conversation needs, running. `stop()` ends all of it."""

    def __init__(self, folder: Path, *, redis_url: str, slots: int = 8) -> None:
        program = find_livekit_server(ROOT)
        assert program is not None, "livekit-server is missing: run `make setup`"
        self.folder = folder
        self.media_port, udp_port = free_port(), free_port(socket.SOCK_DGRAM)
        keys = Keys("testkey", secrets.token_urlsafe(36))
        self.env = {
            **_clean_environment(),
            "MOLTS_DATA_DIR": str(folder),
            "DATABASE_URL": f"sqlite:///{folder / 'molts.sqlite3'}",
            "REDIS_URL": redis_url,
            "LIVEKIT_URL": f"ws://127.0.0.1:{self.media_port}",
            "LIVEKIT_API_KEY": keys.key,
            "LIVEKIT_API_SECRET": keys.secret,
            "SECRET_KEY": secrets.token_urlsafe(50),
            "MOLTS_FIELD_KEYS": Fernet.generate_key().decode(),
            "MOLTS_INSTANCE": f"t{secrets.token_hex(3)}",
            "MOLTS_PORT": str(free_port()),
            "MOLTS_WHISPER_MODEL": str(MICRO_WHISPER),
            "MOLTS_SPEECH_URL": f"unix://{folder / 'speech.sock'}",
            "MOLTS_SPEECH_LISTEN": f"unix://{folder / 'speech.sock'}",
            "MOLTS_AGENT_SLOTS": str(slots),
            "MOLTS_AGENT_DRAIN_SECONDS": "0",
            "MOLTS_AVATAR_DRAIN_SECONDS": "0",
            "MOLTS_OFFLINE": "1",
            "MOLTS_ALLOWED_NETWORKS": "127.0.0.0/8",
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        config = livekit_config(
            host="127.0.0.1",
            port=self.media_port,
            udp_port=udp_port,
            tcp_port=0,
            keys=keys,
            redis_url=redis_url,
            webhook_url=f"http://127.0.0.1:{self.env['MOLTS_PORT']}/webhooks/livekit",
        )
        try:
            self._spawn("media", [program, "--config-body", config])
            self._run("manage.py", "migrate", "--no-input", "--skip-checks", "--verbosity", "0")
            wait_for("livekit-server", self._media_answers)
        except BaseException:
            self.stop()
            raise

    # -- the parts that are started when they are wanted ---------------------------------------------------------------
    def start_worker(self, name: str = "agent") -> None:
        """`manage.py run_agent`, and `run_speech` before the first; returns when it takes conversations."""
        if "speech" not in self._processes:
            self.start_speech()
        before = len(self.workers())
        self._spawn(name, [sys.executable, "manage.py", "run_agent"])
        wait_for("an agent worker", lambda: len(self.workers()) > before or self._died(name))
        # One process is warm before the first conversation comes, as on a machine that has been up for a while.
        wait_for("a warm job process", lambda: self.job_processes(name) or self._died(name))

    def start_avatars(self, name: str = "avatar", *, slots: int = 1, command: Sequence[str] = RUN_AVATAR) -> None:
        """An avatar worker; returns when it takes calls and has a process waiting for one."""
        before = len(self.workers("avatar-worker"))
        self._spawn(name, [sys.executable, *command], {"MOLTS_AVATAR_SLOTS": str(slots)})
        wait_for("an avatar worker", lambda: len(self.workers("avatar-worker")) > before or self._died(name))
        wait_for("a warm avatar process", lambda: self.job_processes(name) or self._died(name))

    def start_speech(self) -> None:
        """`manage.py run_speech`; returns when it has its model."""
        self._spawn("speech", [sys.executable, "manage.py", "run_speech"])
        wait_for("the speech server", lambda: self.speech_state().get("ready") or self._died("speech"))

    def speech_state(self) -> dict[str, Any]:
        """What the speech server says of itself; nothing while it does not answer."""
        return speech_state(self.env["MOLTS_SPEECH_URL"])

    def start_program(self, name: str, command: list[str], env: Mapping[str, str] | None = None) -> None:
        """Another program in the same surroundings."""
        self._spawn(name, command, env)

    def start_celery(self) -> None:
        """One worker that also keeps the clock."""
        celery = [sys.executable, "-m", "celery", "-A", "molts"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]
        self._spawn("jobs", [*celery, "worker", "--pool", "threads", "--concurrency", "2", "-n", "jobs@test", *quiet])
        beat = ["beat", "--pidfile", "", "--schedule", str(self.folder / "schedule"), "--loglevel", "WARNING"]
        self._spawn("clock", [*celery, *beat])
        wait_for("Celery", lambda: "ready." in self.log("jobs") or self._died("jobs"))

    def stop(self) -> None:
        for name in reversed(list(self._processes)):
            self.stop_part(name)

    def stop_part(self, name: str) -> None:
        if name in self._processes:
            # The media server's first SIGTERM waits for everybody to leave; the second ends it.
            end(self._processes.pop(name), terms=2 if name == "media" else 1)

    # -- looking into them ---------------------------------------------------------------------------------------------
    def log(self, name: str) -> str:
        """All that the part has printed so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def workers(self, kind: str = "worker") -> list[str]:
        with Redis.from_url(self.env["REDIS_URL"], decode_responses=True) as client:
            return list(client.scan_iter(f"{self.env['MOLTS_INSTANCE']}:{kind}:*"))

    def has_part(self, name: str) -> bool:
        return name in self._processes

    def pid(self, name: str = "agent") -> int:
        return self._processes[name].pid

    def job_processes(self, name: str = "agent") -> list[psutil.Process]:
        """Processes for conversations, warm ones included."""
        return [process for process in _family(self.pid(name)) if _is_job(process)]

    def busy_jobs(self, name: str = "agent") -> list[psutil.Process]:
        """Job processes that are connected to the media server, that is: in a conversation."""
        return [process for process in self.job_processes(name) if self._is_in_room(process)]

    def _is_in_room(self, process: psutil.Process) -> bool:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            return any(
                connection.raddr and connection.raddr.port == self.media_port and connection.status == "ESTABLISHED"
                for connection in process.net_connections(kind="tcp")
            )
        return False

    # -- this process ----------------------------------------------------------------------------------------------
    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Point this process's Django at the stack: settings, keys and database. Tests that want the database unblock
        it themselves."""
        env = self.env
        instance = env["MOLTS_INSTANCE"]
        layer = {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [env["REDIS_URL"]], "prefix": f"{instance}.channels"},
        }
        settings = override_settings(
            REDIS_URL=env["REDIS_URL"],
            CELERY_BROKER_URL=env["REDIS_URL"],
            CHANNEL_LAYERS={"default": layer},
            LIVEKIT_URL=env["LIVEKIT_URL"],
            LIVEKIT_API_KEY=env["LIVEKIT_API_KEY"],
            LIVEKIT_API_SECRET=env["LIVEKIT_API_SECRET"],
            SECRET_KEY=env["SECRET_KEY"],
            MOLTS_FIELD_KEYS=[env["MOLTS_FIELD_KEYS"]],
            MOLTS_INSTANCE=instance,
            MOLTS_ALLOWED_NETWORKS=["127.0.0.0/8"],
            MOLTS_AGENT_NAME=f"{instance}-agent",
            MOLTS_AVATAR_NAME=f"{instance}-avatar",
            MOLTS_WHISPER_MODEL=env["MOLTS_WHISPER_MODEL"],
        )
        with settings, _database_file(Path(urlsplit(env["DATABASE_URL"]).path)):
            yield

    # -- inside --------------------------------------------------------------------------------------------------------
    def _spawn(self, name: str, command: list[str], env: Mapping[str, str] | None = None) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, cwd=ROOT, env={**self.env, **(env or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _died(self, name: str) -> bool:
        code = self._processes[name].poll()
        assert code is None, f"{name} ended with {code}:\n{self.log(name)[-2000:]}"
        return False

    def _media_answers(self) -> bool:
        self._died("media")
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.media_port}", timeout=1):
            return True
        return False


def speech_state(url: str) -> dict[str, Any]:
    """What the speech server at `unix:///path` says of itself; nothing while it does not answer."""
    try:
        with socket.socket(socket.AF_UNIX) as place:
            place.settimeout(2)
            place.connect(urlsplit(url).path)
            place.sendall(b"GET /healthz HTTP/1.0\r\nHost: speech\r\n\r\n")
            with place.makefile("rb") as answer:
                state = json.loads(answer.read().partition(b"\r\n\r\n")[2])
    except (OSError, ValueError):
        return {}
    return dict(state)


def _clean_environment() -> dict[str, str]:
    """What a process needs of ours: nothing that configures molts."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "VIRTUAL_ENV")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return {**environment, "PATH": os.pathsep.join([str(ROOT / "var" / "bin"), environment.get("PATH", "")])}


def _is_job(process: psutil.Process) -> bool:
    """Job processes are forked from LiveKit's fork server: its children, and no helper of multiprocessing."""
    with suppress(psutil.NoSuchProcess):
        parent = process.parent()
        return parent is not None and "forkserver" in " ".join(parent.cmdline())
    return False


@contextmanager
def _database_file(path: Path) -> Iterator[None]:
    """Let the default connection, in every thread, mean the SQLite file `path`."""
    stored = dict(connections.settings["default"])
    options = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL;"}
    connections["default"].close()
    connections.settings["default"].update(ENGINE="django.db.backends.sqlite3", NAME=str(path), OPTIONS=options)
    kept = connections["default"]
    del connections["default"]  # made again, of the right kind, when it is next asked for
    try:
        yield
    finally:
        connections.close_all()
        connections.settings["default"].clear()
        connections.settings["default"].update(stored)
        connections["default"] = kept


def kill(process: psutil.Process, number: int = signal.SIGKILL) -> None:
    """A signal to a process that may have gone meanwhile."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@contextmanager
def running_stack(folder: Path, *, slots: int = 8) -> Iterator[Stack]:
    """A stack with a Redis of its own. Whatever is started in it ends with it."""
    redis = RedisServer(folder)
    try:
        stack = Stack(folder, redis_url=redis.url, slots=slots)
        try:
            yield stack
        finally:
            stack.stop()
    finally:
        redis.stop()
