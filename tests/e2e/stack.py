"""molts as a stranger runs it: `manage.py up` on a data folder of its own, and eyes on what it leaves behind.

The database is read from outside, read-only; rows are made with `manage.py shell`, as an operator would. Nothing here
shares a process with molts.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
from livekit import api

from molts.env import read_env_file

ROOT = Path(__file__).resolve().parents[2]
MICRO_WHISPER = ROOT / "tests" / "fixtures" / "micro-whisper"
POSES = ROOT / "var" / "faces"
READY_SECONDS = 120.0
STOP_SECONDS = 40.0
T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, look: Callable[[], T | None], *, seconds: float) -> T:
    """What `look` returns as soon as that is true. Raises AssertionError naming `what`."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"waited {seconds:.0f} s in vain for: {what}"
        time.sleep(0.1)
    return found


def stranger_environment() -> dict[str, str]:
    """What a new terminal has: nothing that configures molts."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER")
    plain = {name: os.environ[name] for name in kept if name in os.environ}
    return {**plain, "PATH": os.pathsep.join([str(ROOT / "var" / "bin"), plain.get("PATH", "/usr/bin:/bin")])}


@dataclass(frozen=True)
class Row:
    """A settled line as the database has it."""

    seq: int
    role: str
    text: str
    segment_id: str


class Program:
    """A child whose output is read line by line while it runs, and kept in `log`."""

    def __init__(self, *arguments: str, env: Mapping[str, str], log: Path | None = None) -> None:
        self._log = log
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with suppress(ValueError):
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))
                if self._log is not None:
                    with self._log.open("a") as log:
                        log.write(line)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for_line(self, pattern: str, *, seconds: float) -> re.Match[str]:
        """The first line that matches, whenever it was printed."""

        def look() -> re.Match[str] | None:
            for line in self.lines:
                if found := re.search(pattern, line):
                    return found
            assert self.process.poll() is None, (
                f"ended with {self.process.returncode} before {pattern!r}:\n{self.output}"
            )
            return None

        return wait_for(f"a line like {pattern!r}", look, seconds=seconds)

    def terminate(self, *, seconds: float) -> int:
        """SIGTERM, then the exit status. What does not end by itself fails the test, and is killed."""
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise AssertionError(f"did not end within {seconds:.0f} s of SIGTERM:\n{self.output[-3000:]}") from error
        finally:
            self._reader.join(2)

    def kill(self) -> None:
        family = descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()


class Molts:
    """One running copy."""

    def __init__(
        self, folder: Path, *arguments: str, port: int | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        # Drawing a face takes ten seconds of a core. The files are named after what they show: all copies share them.
        POSES.mkdir(parents=True, exist_ok=True)
        if not (folder / "faces").exists():
            (folder / "faces").symlink_to(POSES)
        self.env = {
            **stranger_environment(),
            "MOLTS_DATA_DIR": str(folder),
            "MOLTS_PORT": str(self.port),
            **(env or {}),
        }
        self.started_at = time.monotonic()
        # No test here looks at previews; who makes them is tested where they are.
        self.up = Program("up", *arguments, "--without", "render", env=self.env)
        self.url = f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self, line: str = r"^molts is ready: ") -> float:
        """Seconds from the start to the line."""
        self.up.wait_for_line(line, seconds=READY_SECONDS)
        return time.monotonic() - self.started_at

    def stop(self) -> None:
        """Ask it to end, and see that nothing of it is left."""
        status = self.up.terminate(seconds=STOP_SECONDS)
        left = [f"{process.pid} {' '.join(process.cmdline())[:120]}" for process in self.processes()]
        assert status == 0, f"`up` ended with {status}:\n{self.up.output[-3000:]}"
        assert not left, f"`up` left processes behind: {left}"

    def kill(self) -> None:
        """The last resort of a broken test."""
        self.up.kill()
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    # -- what it said --------------------------------------------------------------------------------------------------
    @property
    def demo_rooms(self) -> list[str]:
        return re.findall(r"^demo room: (\S+) \(.+\)$", self.up.output, re.MULTILINE)

    @property
    def admin(self) -> tuple[str, str]:
        """Name and password, as printed on the first start."""
        found = re.search(r"^admin login: (\S+) / (\S+)", self.up.output, re.MULTILINE)
        assert found, "no admin login was printed"
        return found[1], found[2]

    # -- its processes -------------------------------------------------------------------------------------------------
    def processes(self) -> list[psutil.Process]:
        """Every process that works on this data folder, wherever it hangs in the tree."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                mine = process.environ().get("MOLTS_DATA_DIR") == str(self.folder)
                inside = str(self.folder) in " ".join(process.cmdline())
                if (mine or inside) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def shell(self, code: str) -> Any:
        """Run `code` with Django set up for this copy; returns what it assigns to `result`."""
        done = subprocess.run(
            [
                sys.executable,
                "manage.py",
                "shell",
                "-v",
                "0",
                "-c",
                f"result = None\n{code}\nimport json\nprint('=>' + json.dumps(result))",
            ],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.rsplit("=>", 1)[1])

    def log(self, part: str) -> str:
        path = self.folder / "logs" / f"{part}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def setting(self, name: str) -> str:
        """A setting of the running copy, as another terminal finds it."""
        given = {**read_env_file(self.folder / "run" / "up.env"), **self.env}
        secret = self.folder / "secrets" / name.lower()
        return given.get(name) or secret.read_text().strip()

    # -- its database --------------------------------------------------------------------------------------------------
    def query(self, sql: str, *values: object) -> list[dict[str, Any]]:
        with closing(
            sqlite3.connect(f"file:{self.folder / 'molts.sqlite3'}?mode=ro", uri=True, timeout=10)
        ) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(sql, values)]

    def session(self, session_id: str) -> dict[str, Any]:
        (row,) = self.query("SELECT * FROM live_sessions_livesession WHERE id = ?", uuid.UUID(session_id).hex)
        return row

    def rows(self, session_id: str) -> list[Row]:
        """The conversation in the order of `seq`."""
        found = self.query(
            "SELECT seq, role, text, segment_id FROM live_sessions_segment WHERE session_id = ? ORDER BY seq",
            uuid.UUID(session_id).hex,
        )
        return [Row(**row) for row in found]

    def related(self, table: str, session_id: str) -> list[dict[str, Any]]:
        """Rows of `turn`, `sessionnotice` or `participant`."""
        sql = f"SELECT * FROM live_sessions_{table} WHERE session_id = ? ORDER BY id"  # noqa: S608 - names of ours
        return self.query(sql, uuid.UUID(session_id).hex)

    def usage(self, session_id: str) -> list[dict[str, Any]]:
        return self.query("SELECT * FROM usage_usagerecord WHERE owner_id = ?", uuid.UUID(session_id).hex)

    # -- its media server ----------------------------------------------------------------------------------------------
    def ask_media_server(self, ask: Callable[[api.LiveKitAPI], Any]) -> Any:
        """The answer of the media server's API to what `ask` requests of it."""

        async def run() -> Any:
            key, secret = self.setting("LIVEKIT_API_KEY"), self.setting("LIVEKIT_API_SECRET")
            async with api.LiveKitAPI(self.setting("LIVEKIT_URL"), key, secret) as server:
                return await ask(server)

        # Playwright's loop runs in this thread.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, run()).result(20)

    def rooms(self) -> set[str]:
        answer = self.ask_media_server(lambda server: server.room.list_rooms(api.ListRoomsRequest()))
        return {room.name for room in answer.rooms}


def descendants(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def agent_processes(pid: int) -> list[psutil.Process]:
    """An agent worker (its process id) with everything that it started."""
    return [psutil.Process(pid), *descendants(pid)]


def job_processes(pid: int, media_port: int) -> list[psutil.Process]:
    """Processes of this worker that are in a conversation: connected to the media server, and not the worker itself."""
    found = []
    for process in descendants(pid):
        with suppress(psutil.Error):
            connections = process.net_connections(kind="tcp")
            if any(
                item.raddr and item.raddr.port == media_port and item.status == "ESTABLISHED" for item in connections
            ):
                found.append(process)
    return found


def send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
