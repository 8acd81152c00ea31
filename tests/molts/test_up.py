"""`manage.py up` as a person runs it: a program in a terminal, its printed lines, its signals."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import psutil
import pytest

from molts.supervisor.console import Console
from molts.supervisor.guardian import MARK

BASE_DIR = Path(__file__).resolve().parents[2]
WHISPER = BASE_DIR / "tests" / "fixtures" / "micro-whisper"
LIGHT = ("--without", "jobs,clock,render,agent,avatar")


class RunningUp:
    """A started `up` and what it has printed so far."""

    def __init__(self, data_dir: Path, *arguments: str, **environment: str) -> None:
        self.data_dir = data_dir
        self.lines: list[str] = []
        self.port = int(environment.get("MOLTS_PORT") or free_port())
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "up", *arguments],
            cwd=BASE_DIR,
            env=environment_of(data_dir, MOLTS_PORT=str(self.port), **environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, *, seconds: float = 90.0) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in self.lines:
                if match := re.search(pattern, line):
                    return match
            assert self.process.poll() is None or re.search(pattern, self.text), f"up ended:\n{self.text}"
            time.sleep(0.05)
        raise AssertionError(f"{pattern!r} was not printed within {seconds:.0f} s:\n{self.text}")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def part(self, *words: str) -> psutil.Process:
        """The child whose command line holds all these words."""
        for child in psutil.Process(self.process.pid).children():
            try:
                line = " ".join(child.cmdline())
            except psutil.Error:  # it has just ended
                continue
            if all(word in line for word in words):
                return child
        raise AssertionError(f"no part with {words}")

    def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = 40.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


def environment_of(data_dir: Path, **changes: str) -> dict[str, str]:
    """A stranger's environment: nothing of ours but what the test says."""
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("MOLTS_", "LIVEKIT_", "DJANGO_"))
    }
    for name in ("REDIS_URL", "DATABASE_URL", "SECRET_KEY", "DEBUG"):
        plain.pop(name, None)
    return {**plain, "MOLTS_DATA_DIR": str(data_dir), "MOLTS_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **changes}


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_up(data_dir: Path, *arguments: str, **environment: str) -> Iterator[RunningUp]:
    up = RunningUp(data_dir, *arguments, **environment)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait(10)


def manage(data_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=BASE_DIR,
        env=environment_of(data_dir, **environment),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def wait_until_gone(processes: list[psutil.Process], *, seconds: float = 10.0) -> None:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert not alive, f"still there: {[' '.join(process.cmdline()) for process in alive]}"


def all_log_text(data_dir: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in (data_dir / "logs").rglob("*.log*"))


# -- start-up errors: one line, no traceback ---------------------------------------------------------------------------
def test_a_taken_port_is_one_line_with_its_mend(tmp_path: Path) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        result = manage(tmp_path, "up", MOLTS_PORT=str(port))

    assert result.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in result.stderr
    assert f"MOLTS_PORT={port + 1} make up" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MOLTS_PORT": "eighty"}, "MOLTS_PORT='eighty' is not valid"),
        ({"MOLTS_PORT": "70000"}, "at most 65535"),
        (
            {"DATABASE_URL": "sqlite:////dev/null/molts.sqlite3"},
            "choose another place with MOLTS_DATA_DIR or DATABASE_URL",
        ),
        ({"MOLTS_DATA_DIR": "/dev/null/molts"}, "choose another place with MOLTS_DATA_DIR"),
        ({"DATABASE_URL": "postgres://molts:db-password@127.0.0.1:1/molts"}, "check DATABASE_URL"),
        ({"LOG_LEVEL": "chatty"}, "LOG_LEVEL='chatty' is not valid"),
        ({"MOLTS_API_RATE": "lots"}, "MOLTS_API_RATE='lots' is not valid: expected a rate such as 30/min"),
        ({"MOLTS_ALLOWED_NETWORKS": "home"}, "MOLTS_ALLOWED_NETWORKS='home' is not valid"),
        ({"MOLTS_HOST": "hello_world"}, "MOLTS_HOST='hello_world' is not valid"),
        ({"MOLTS_INSTANCE": "\u00e9"}, "MOLTS_INSTANCE="),
        ({"MOLTS_NODE_IP": "router.example"}, "MOLTS_NODE_IP='router.example' is not valid: expected an IP address"),
        (
            {"MOLTS_STUN_SERVERS": "stun.example.org"},
            "MOLTS_STUN_SERVERS='stun.example.org' is not valid: expected addr",
        ),
        ({"MOLTS_STUN_SERVERS": "a.example:3478,stun:b.example:3478"}, "='stun:b.example:3478' is not valid"),
        ({"MOLTS_STUN_SERVERS": "2001:db8::7:3478"}, "='2001:db8::7:3478' is not valid"),
        ({"MOLTS_STUN_SERVERS": "stun.example.org:70000"}, "='stun.example.org:70000' is not valid"),
        ({"MOLTS_NODE_IP": "0.0.0.0"}, "MOLTS_NODE_IP='0.0.0.0' is not valid"),
        ({"CSRF_TRUSTED_ORIGINS": "foo"}, "CSRF_TRUSTED_ORIGINS='foo' is not valid"),
        ({"LIVEKIT_URL": "ws://127.0.0.1:1"}, "LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be set too"),
    ],
)
def test_a_bad_value_is_one_line_that_names_it(tmp_path: Path, environment: dict[str, str], words: str) -> None:
    result = manage(tmp_path, "up", **{"MOLTS_PORT": str(free_port()), **environment})

    assert result.returncode == 1
    assert words in result.stderr
    assert "db-password" not in result.stderr + result.stdout
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--without", "agents"), "--without agents: there is no such part. Parts: redis, media, web"),
        (("--without", "agent", "--without", "redis"), "redis can only be left out when REDIS_URL says"),
    ],
)
def test_a_part_that_cannot_be_left_out_is_named(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    result = manage(tmp_path, "up", *arguments, MOLTS_PORT=str(free_port()))

    assert result.returncode == 1
    assert words in result.stderr


# -- a light copy: Redis, media server, web ---------------------------------------------------------------------------
@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningUp]:
    """One copy without agent, faces, jobs and clock for the tests that only look at it."""
    with running_up(tmp_path_factory.mktemp("light"), *LIGHT) as up:
        up.wait_for("^molts runs without")
        yield up
        up.stop()


def test_it_comes_up_without_the_agent_and_never_calls_that_ready(light: RunningUp) -> None:
    assert light.lines[-1] == f"molts runs without agent: http://127.0.0.1:{light.port}"
    assert "conversations wait: agent is left out" in light.text
    assert "molts is ready" not in light.text
    assert re.search(rf"^demo room: http://127\.0\.0\.1:{light.port}/r/\S+ \(.+\)$", light.text, re.M)


def test_another_terminal_talks_to_the_running_copy(light: RunningUp) -> None:
    result = manage(light.data_dir, "doctor", "--json")  # told nothing but the data folder

    levels = {check["name"]: check["level"] for check in json.loads(result.stdout)["checks"]}
    for name in ("database", "migrations", "Redis", "media server", "media ports", "web", "clock skew", "secrets"):
        assert levels[name] == "ok", result.stdout
    for name in ("agent workers", "jobs", "clock"):  # left out
        assert levels[name] == "failed"
    assert levels["render"] == "warning"
    assert result.returncode == 1


def test_a_second_up_on_the_same_data_folder_refuses(light: RunningUp) -> None:
    result = manage(light.data_dir, "up", MOLTS_PORT=str(free_port()))

    assert result.returncode == 1
    assert f"process {light.process.pid} already runs on the data folder" in result.stderr
    assert "MOLTS_DATA_DIR=... MOLTS_PORT=... make up" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_what_it_makes_is_for_its_user_alone(light: RunningUp) -> None:
    paths = list(light.data_dir.rglob("*"))

    assert {"up.env", "redis.conf", "livekit.yaml", "web.log", "molts.sqlite3"} <= {path.name for path in paths}
    assert [path for path in paths if stat.S_IMODE(path.lstat().st_mode) & 0o077] == []


def test_every_part_carries_the_mark_of_its_up(light: RunningUp) -> None:
    marks = {light.part(name).environ()[MARK] for name in ("livekit-server", "uvicorn")}

    assert len(marks) == 1


def test_a_killed_part_is_running_again_soon(light: RunningUp) -> None:
    for name, program in {"redis": "redis-server", "media": "livekit-server", "web": "uvicorn"}.items():
        light.part(program).kill()
        light.wait_for(rf"{name} +ended by itself \(killed by SIGKILL\)")
        light.wait_for(rf"{name} +running again")


@pytest.mark.soak
def test_two_copies_run_side_by_side_and_end_when_asked(light: RunningUp, tmp_path: Path) -> None:
    with running_up(tmp_path, "--without", "jobs,clock,render,agent") as other:
        other.wait_for("^molts runs without")
        assert other.part("run_avatar").is_running()
        with pytest.raises(AssertionError, match="no part"):
            light.part("run_avatar")
        children = other.children()
        assert len(children) >= 4
        assert other.stop(signal.SIGTERM) == 0

    wait_until_gone(children)
    assert not (tmp_path / "run" / "up.env").exists()
    assert manage(light.data_dir, "migrate", "--check").returncode == 0
    assert light.process.poll() is None


def test_a_killed_up_leaves_no_orphan_no_secret_and_starts_again(tmp_path: Path) -> None:
    canary = "sk-canary-0123456789abcdef"
    with running_up(tmp_path, *LIGHT, OPENAI_API_KEY=canary) as up:
        login = up.wait_for(r"^admin login: admin / (\S+)")
        up.wait_for("^molts runs without")
        redis_password = re.search(r"redis://:(\w+)@", (tmp_path / "run" / "up.env").read_text())
        assert redis_password is not None
        children = up.children()

        up.process.kill()
        up.process.wait(10)

    wait_until_gone(children)
    assert (tmp_path / "run" / "up.env").exists()  # nobody was left to remove it
    with running_up(tmp_path, *LIGHT) as again:
        again.wait_for(rf"^molts runs without agent: http://127\.0\.0\.1:{again.port}$")
        assert "admin login" not in again.text
        assert again.stop(signal.SIGINT) == 0
    secrets = [login[1], canary, redis_password[1]]
    secrets += [path.read_text().strip() for path in (tmp_path / "secrets").iterdir()]
    assert len(secrets) >= 6
    for secret in secrets:
        assert secret not in all_log_text(tmp_path)
    assert all(secret not in up.text for secret in secrets[1:])


# -- all of it ---------------------------------------------------------------------------------------------------------
@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_ready_means_that_it_has_talked_and_it_talks_again_after_kills(tmp_path: Path) -> None:
    with running_up(tmp_path, MOLTS_WHISPER_MODEL=str(WHISPER)) as up:
        up.wait_for(rf"^molts is ready: http://127\.0\.0\.1:{up.port}$", seconds=120)
        printed = up.text.splitlines()
        at = {
            name: next(i for i, line in enumerate(printed) if re.search(name, line))
            for name in (
                "was heard after",
                r"^demo room: http://127\.0\.0\.1:\d+/r/[\w-]+ \(.+\)$",
                "^admin login: ",
                "^molts is ready: ",
            )
        }
        assert sorted(at.values()) == list(at.values())

        for words in (
            ("redis-server",),
            ("livekit-server",),
            ("run_agent",),
            ("worker", "default"),
            ("celery", "beat"),
        ):
            up.part(*words).kill()
        deadline = time.monotonic() + 90
        while (check := manage(tmp_path, "check_conversation")).returncode:
            assert time.monotonic() < deadline, check.stderr + up.text

        children = up.children()
        started = time.monotonic()
        assert up.stop(signal.SIGINT) == 0
        assert time.monotonic() - started < 30
    wait_until_gone(children)


# -- the terminal ------------------------------------------------------------------------------------------------------
class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours_and_a_moving_progress_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    console = Console(terminal)

    console.progress("models", "[#...] 10 %")
    console.progress("models", "[##..] 50 %")
    console.line("molts is ready: http://127.0.0.1:8000")

    shown = terminal.getvalue()
    assert "\033[94mmodels" in shown
    assert shown.count("\n") == 1
    assert shown.endswith("\r\033[Kmolts is ready: http://127.0.0.1:8000\n")


def test_a_file_gets_plain_lines() -> None:
    file = io.StringIO()
    console = Console(file)

    console.progress("models", "[#...] 10 %")
    console.event("web", "ended by itself", trouble=True)

    assert "\033" not in file.getvalue()
    assert [line[9:] for line in file.getvalue().splitlines()] == ["models  [#...] 10 %", "web     ended by itself"]


def test_a_closed_terminal_stops_nobody() -> None:
    file = io.StringIO()
    console = Console(file)
    file.close()

    console.event("web", "ready")
