"""The supervisor on real processes: small Python programs, a real Redis, a real media server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from django.conf import settings

from avatars.videos import queue
from molts.errors import HIDDEN
from molts.redact import Redactor
from molts.supervisor import guardian
from molts.supervisor.given import GivenEnvironment, Keys, is_loopback, local_url
from molts.supervisor.logs import LineSplitter, PartLog
from molts.supervisor.names import JOBS, RENDER
from molts.supervisor.ports import HIGHEST, LOWEST, PortBook, is_free
from molts.supervisor.process import MISSES_AT_MOST, Part, PartFailed, Supervisor
from molts.supervisor.servers import find_redis_server, livekit_config
from molts.supervisor.signs import answering, http_answers
from molts.supervisor.stack import Stack, plan_stack, secrets_to_hide

BASE_DIR = Path(__file__).resolve().parents[2]
KEYS = Keys("APItest", "media-server-secret-" * 2)


class Witness:
    """Remembers events and output, as a terminal would show them."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.lines: list[tuple[str, str]] = []

    def event(self, part: str, text: str, *, trouble: bool = False) -> None:
        self.events.append((part, text))

    def output(self, part: str, line: str) -> None:
        self.lines.append((part, line))

    def said(self, part: str, words: str) -> int:
        return sum(1 for name, text in self.events if name == part and words in text)


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
async def supervisor(tmp_path: Path, witness: Witness) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(
        log_folder=tmp_path / "logs", redact=Redactor(["hunter2-hunter2"]), reporter=witness, first_delay=0.1
    )
    yield supervisor
    await supervisor.stop()


def program(name: str, code: str, **extra: object) -> Part:
    """A part that runs this Python code."""
    return Part(name, (sys.executable, "-u", "-c", textwrap.dedent(code)), env={"PATH": os.environ["PATH"]}, **extra)  # type: ignore[arg-type]


async def until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def given(**values: str) -> GivenEnvironment:
    return GivenEnvironment({"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **values})


def make_stack(data_dir: Path, asked: GivenEnvironment | None = None, **changes: object) -> Stack:
    values: dict[str, object] = {
        "base_dir": BASE_DIR,
        "data_dir": data_dir,
        "given": asked or given(),
        "keys": KEYS,
        "host": "127.0.0.1",
        "port": PortBook(data_dir / "none").choose("web"),
        "public_url": "http://127.0.0.1:8000",
        "without": frozenset(),
        **changes,
    }
    return plan_stack(**values)  # type: ignore[arg-type]


def part_of(stack: Stack, name: str) -> Part:
    return next(part for part in stack.parts if part.name == name)


# -- life and death of one part --------------------------------------------------------------------------------------
async def test_it_starts_again_what_was_killed(supervisor: Supervisor, witness: Witness) -> None:
    await supervisor.start(program("web", "import time; time.sleep(60)"))
    await supervisor.wait_ready("web", deadline=5)
    first = supervisor.pid("web")
    assert first is not None

    os.kill(first, signal.SIGKILL)

    await until(lambda: supervisor.pid("web") not in (None, first))
    assert witness.said("web", "killed by SIGKILL") == 1


async def test_it_waits_longer_after_each_failure(supervisor: Supervisor, witness: Witness) -> None:
    await supervisor.start(program("web", "raise SystemExit(3)"))

    await until(lambda: witness.said("web", "exit status 3") >= 3)

    delays = [text.split("again in ")[1].split(" s")[0] for _, text in witness.events if "again in" in text]
    assert delays[:3] == ["0.1", "0.2", "0.4"]


async def test_it_starts_again_at_once_after_a_long_healthy_time(tmp_path: Path, witness: Witness) -> None:
    supervisor = Supervisor(
        log_folder=tmp_path, redact=Redactor(), reporter=witness, first_delay=0.05, healthy_seconds=0.2
    )
    try:
        await supervisor.start(program("web", "import time; time.sleep(0.4); raise SystemExit(1)"))
        await until(lambda: witness.said("web", "exit status 1") >= 3)
    finally:
        await supervisor.stop()
    assert witness.said("web", "again in 0.05 s") >= 3


async def test_it_never_waits_longer_than_the_longest_delay(tmp_path: Path, witness: Witness) -> None:
    supervisor = Supervisor(
        log_folder=tmp_path, redact=Redactor(), reporter=witness, first_delay=0.05, longest_delay=0.1
    )
    try:
        await supervisor.start(program("web", "raise SystemExit(1)"))
        await until(lambda: witness.said("web", "exit status 1") >= 4)
    finally:
        await supervisor.stop()
    assert witness.said("web", "again in 0.2 s") == 0


async def test_it_starts_again_what_stands_still(tmp_path: Path, witness: Witness) -> None:
    port = PortBook(tmp_path / "none").choose("web")

    async def answers() -> bool:
        return await http_answers(f"http://127.0.0.1:{port}/", status=200, seconds=0.5)

    supervisor = Supervisor(
        log_folder=tmp_path, redact=Redactor(), reporter=witness, first_delay=0.05, watch_seconds=0.05
    )
    serve = f"import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler).serve_forever()"
    try:
        await supervisor.start(program("web", serve, ready=answers, alive=answering(answers), silent_seconds=0.2))
        await supervisor.wait_ready("web", deadline=10)
        first = supervisor.pid("web")
        assert first is not None

        os.kill(first, signal.SIGSTOP)

        await until(lambda: witness.said("web", "running again"), seconds=20)
        assert not is_alive(first)
        assert witness.said("web", "gives no sign of life") == 1
    finally:
        await supervisor.stop()


async def test_it_leaves_alone_what_answers_again_in_time(tmp_path: Path, witness: Witness) -> None:
    asked = 0

    async def at_times(_: int) -> bool:
        nonlocal asked
        asked += 1
        return asked % MISSES_AT_MOST == 0

    supervisor = Supervisor(log_folder=tmp_path, redact=Redactor(), reporter=witness, watch_seconds=0.01)
    try:
        await supervisor.start(program("web", "import time; time.sleep(60)", alive=at_times, silent_seconds=0))
        await until(lambda: asked > 5 * MISSES_AT_MOST)
        assert witness.said("web", "gives no sign of life") == 0
    finally:
        await supervisor.stop()


async def test_it_starts_again_what_never_gave_a_sign_of_life(tmp_path: Path, witness: Witness) -> None:
    async def never(_: int) -> bool:
        return False

    supervisor = Supervisor(
        log_folder=tmp_path,
        redact=Redactor(),
        reporter=witness,
        first_delay=0.05,
        watch_seconds=0.01,
        start_seconds=0.3,
    )
    try:
        await supervisor.start(program("jobs", "import time; time.sleep(60)", alive=never))
        await until(lambda: witness.said("jobs", "starting again in") >= 2)
        assert witness.said("jobs", "gives no sign of life") >= 2
    finally:
        await supervisor.stop()


async def test_it_kills_what_does_not_end_when_asked(supervisor: Supervisor, witness: Witness) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    await supervisor.start(program("web", deaf, stop_seconds=0.3))
    await until(lambda: ("web", "deaf") in witness.lines)
    pid = supervisor.pid("web")
    assert pid is not None

    await supervisor.stop()

    assert not is_alive(pid)
    assert witness.said("web", "had to be killed") == 1


async def test_it_ends_the_upper_layers_first(supervisor: Supervisor, witness: Witness) -> None:
    for layer, name in enumerate(("redis", "web", "agent")):
        await supervisor.start(program(name, "import time; time.sleep(60)", layer=layer))
    await supervisor.wait_ready("agent", deadline=5)

    await supervisor.stop()

    assert [part for part, text in witness.events if text == "stopped"] == ["agent", "web", "redis"]


async def test_it_ends_one_layer_all_together(supervisor: Supervisor, witness: Witness) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    for name in ("jobs", "clock", "agent"):
        await supervisor.start(program(name, deaf, stop_seconds=1.0))
    await until(lambda: len(witness.lines) == 3)
    started = time.monotonic()

    await supervisor.stop()

    assert time.monotonic() - started < 2.5


async def test_it_ends_grandchildren_too(supervisor: Supervisor, witness: Witness) -> None:
    code = """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(60)"])
        print(child.pid)
        time.sleep(60)
    """
    await supervisor.start(program("agent", code))
    await until(lambda: witness.lines)
    grandchild = int(witness.lines[0][1])

    await supervisor.stop()

    await until(lambda: not is_alive(grandchild))


async def test_a_part_that_leaves_children_behind_is_cleared_before_it_starts_again(
    supervisor: Supervisor, witness: Witness
) -> None:
    code = """
        import subprocess, sys
        print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid)
        raise SystemExit(1)
    """
    await supervisor.start(program("agent", code))
    await until(lambda: witness.said("agent", "starting again"))

    assert not is_alive(int(witness.lines[0][1]))


async def test_it_gives_up_when_the_output_says_why_it_is_hopeless(supervisor: Supervisor) -> None:
    taken = program(
        "web", "print('address already in use'); raise SystemExit(1)", hopeless={"already in use": "mend it"}
    )
    await supervisor.start(taken)

    reason = await asyncio.wait_for(supervisor.failed, 10)

    assert str(reason) == "mend it"


async def test_it_gives_up_on_a_program_that_is_not_there(supervisor: Supervisor) -> None:
    await supervisor.start(Part("media", ("/nowhere/livekit-server",)))

    reason = await asyncio.wait_for(supervisor.failed, 10)

    assert "media cannot be started: /nowhere/livekit-server" in str(reason)


async def test_waiting_for_a_part_that_never_answers_names_its_log(supervisor: Supervisor) -> None:
    async def never() -> bool:
        return False

    await supervisor.start(program("web", "import time; time.sleep(60)", ready=never))

    with pytest.raises(PartFailed, match=r"web did not get ready within 0 s\. Log: .*web\.log"):
        await supervisor.wait_ready("web", deadline=0.3)


async def test_a_command_that_runs_too_long_is_ended(supervisor: Supervisor) -> None:
    started = time.monotonic()

    status, _ = await supervisor.run_once(program("check", "import time; time.sleep(60)"), deadline=0.5)

    assert status == 124
    assert time.monotonic() - started < 5


async def test_a_command_gives_its_status_and_last_words(supervisor: Supervisor) -> None:
    part = program("check", "print('one'); print('no agent joined'); raise SystemExit(1)")

    assert await supervisor.run_once(part, deadline=10) == (1, ["one", "no agent joined"])


# -- nothing survives ------------------------------------------------------------------------------------------------
ORPHAN_MAKER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {base!r})
from molts.redact import Redactor
from molts.supervisor.process import Part, Supervisor

class Quiet:
    def event(self, part, text, *, trouble=False): pass
    def output(self, part, line): print(part, line, flush=True)

CHILD = '''
import os, subprocess, sys, time
far = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
print(os.getpid(), far.pid, flush=True)
time.sleep(300)
'''

async def main():
    supervisor = Supervisor(log_folder=Path({logs!r}), redact=Redactor(), reporter=Quiet())
    await supervisor.start(Part("agent", (sys.executable, "-c", CHILD)))
    await asyncio.sleep(300)

asyncio.run(main())
"""


@pytest.mark.parametrize("guardian_dies_first", [False, True])
def test_it_leaves_no_orphan_when_the_supervisor_is_killed(tmp_path: Path, guardian_dies_first: bool) -> None:
    script = ORPHAN_MAKER.format(base=str(BASE_DIR), logs=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        pids = [int(words[1]), int(words[2])]  # the part, and its child in a session of its own
        guardians = guardians_of(process.pid)
        assert len(guardians) == 1
        if guardian_dies_first:
            os.kill(guardians[0], signal.SIGKILL)
            wait_until(lambda: guardians_of(process.pid) not in ([], guardians))
            guardians = guardians_of(process.pid)
        assert all(is_alive(pid) for pid in pids)

        process.kill()
        process.wait(10)

    wait_until(lambda: not any(is_alive(pid) for pid in [*pids, *guardians]))


def guardians_of(pid: int) -> list[int]:
    def is_guardian(child: psutil.Process) -> bool:
        try:
            return guardian.__file__ in child.cmdline()
        except psutil.Error:
            return False

    return [child.pid for child in psutil.Process(pid).children() if is_guardian(child)]


def wait_until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


# -- logs --------------------------------------------------------------------------------------------------------------
async def test_it_writes_what_a_part_prints_without_its_secrets(
    supervisor: Supervisor, witness: Witness, tmp_path: Path
) -> None:
    await supervisor.start(program("web", "print('password is hunter2-hunter2.'); import time; time.sleep(60)"))
    await until(lambda: witness.lines)

    text = (tmp_path / "logs" / "web.log").read_text()

    assert text == f"password is {HIDDEN}.\n"
    assert witness.lines == [("web", f"password is {HIDDEN}.")]
    assert stat.S_IMODE((tmp_path / "logs" / "web.log").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "line",
    [
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ2aXNpdG9yIn0.c2lnbmF0dXJlLWhlcmU",
        "Authorization: Bearer abcdef0123456789",
        "using sk-proj-abcdefghijklmnop",
        "connecting to redis://:some-password@127.0.0.1:6379/0",
        "connecting to postgres://molts:some-password@db/molts",
        "key=p%40ss%2Fword%3D1",
        "key=p@ss/word=1",
    ],
)
def test_it_hides_what_looks_like_a_secret_or_is_a_known_one_in_a_url(line: str) -> None:
    shown = Redactor(["p@ss/word=1"])(line)

    assert HIDDEN in shown
    for secret in ("eyJzdWIi", "abcdef0123456789", "abcdefghijklmnop", "some-password", "word"):
        assert secret not in shown.replace("password is", "")


def test_it_leaves_ordinary_lines_alone() -> None:
    line = "2026-11-20 INFO uvicorn Started server process [123] on http://127.0.0.1:8000 (Press CTRL+C)"
    assert Redactor(["hunter2-hunter2"])(line) == line


def test_it_does_not_let_a_secret_slip_through_a_piece_boundary() -> None:
    splitter, redact = LineSplitter(), Redactor(["hunter2-hunter2"])

    lines = splitter.push(b"the secret is hunter2-") + splitter.push(b"hunter2 indeed\nnext") + splitter.end()

    assert [redact(line) for line in lines] == [f"the secret is {HIDDEN} indeed", "next"]


def test_a_line_without_end_is_given_out_in_parts() -> None:
    splitter = LineSplitter()

    lines = [line for _ in range(40) for line in splitter.push(b"word " * 1000)] + splitter.end()

    assert len(lines) > 2
    assert "".join(lines) == "word " * 40_000


def test_logs_are_rotated_and_bounded(tmp_path: Path) -> None:
    log = PartLog(tmp_path, "web", Redactor(), limit=1000, keep=2)
    for number in range(200):
        log.write(f"line {number:04d} " + "x" * 40)
    log.close()

    files = sorted(path.name for path in tmp_path.iterdir())

    assert files == ["web.log", "web.log.1", "web.log.2"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000
    assert "line 0199" in (tmp_path / "web.log").read_text()


# -- ports -------------------------------------------------------------------------------------------------------------
def test_ports_stay_the_same_from_start_to_start(tmp_path: Path) -> None:
    book = PortBook(tmp_path / "ports.json")
    first = [book.choose("redis"), book.choose("media"), book.choose("media udp", kind="udp")]
    book.save()

    again = PortBook(tmp_path / "ports.json")

    assert [again.choose("redis"), again.choose("media"), again.choose("media udp", kind="udp")] == first
    assert len(set(first)) == 3
    assert all(LOWEST <= port < HIGHEST for port in first)


def test_a_taken_port_is_not_chosen_again(tmp_path: Path) -> None:
    book = PortBook(tmp_path / "ports.json")
    port = book.choose("redis")
    book.save()
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", port))
        other.listen()

        assert PortBook(tmp_path / "ports.json").choose("redis") != port


def test_a_damaged_port_file_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("{not json")
    assert PortBook(tmp_path / "ports.json").choose("redis") >= LOWEST


# -- the stack -------------------------------------------------------------------------------------------------------
async def test_redis_starts_on_loopback_and_wants_its_password(supervisor: Supervisor, tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    await supervisor.start(part_of(stack, "redis"))
    await supervisor.wait_ready("redis", deadline=10)

    assert redis.Redis.from_url(stack.redis_url).ping()
    place = stack.redis_url.split("@")[1]
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(f"redis://{place}").ping()
    pid = supervisor.pid("redis")
    assert pid is not None
    assert {c.laddr.ip for c in psutil.Process(pid).net_connections() if c.status == "LISTEN"} == {"127.0.0.1"}
    assert stack.redis_url.split(":")[2].split("@")[0] not in " ".join(psutil.Process(pid).cmdline())


async def test_the_media_server_opens_nothing_beyond_loopback(supervisor: Supervisor, tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    for name in ("redis", "media"):
        await supervisor.start(part_of(stack, name))
        await supervisor.wait_ready(name, deadline=20)

    pid = supervisor.pid("media")
    assert pid is not None
    open_here = [c for c in psutil.Process(pid).net_connections() if c.status in ("LISTEN", "NONE")]

    assert {c.laddr.ip for c in open_here} == {"127.0.0.1"}
    assert {c.laddr.port for c in open_here if c.type == socket.SOCK_DGRAM} == {int(stack.env["MOLTS_MEDIA_UDP_PORT"])}
    assert KEYS.secret not in " ".join(psutil.Process(pid).cmdline() + list(psutil.Process(pid).environ().values()))


def test_configuration_files_with_secrets_are_for_the_owner_alone(tmp_path: Path) -> None:
    make_stack(tmp_path)
    for name in ("redis.conf", "livekit.yaml"):
        assert stat.S_IMODE((tmp_path / "run" / name).stat().st_mode) == 0o600


def test_given_servers_are_used_instead_of_own_ones(tmp_path: Path) -> None:
    asked = given(
        REDIS_URL="redis://:there@redis.example:6380/3",
        LIVEKIT_URL="wss://media.example",
        LIVEKIT_API_KEY="key",
        LIVEKIT_API_SECRET="secret",
        MOLTS_SPEECH_URL="ws://speech.example:8010",
    )

    stack = make_stack(tmp_path, asked)

    assert "MOLTS_SPEECH_URL" not in stack.env
    assert [part.name for part in stack.parts] == ["web", "jobs", "clock", "render", "agent", "avatar"]
    assert stack.redis_url == "redis://:there@redis.example:6380/3"
    assert stack.livekit_url == "wss://media.example"


def test_renders_starve_nothing_else(tmp_path: Path) -> None:
    """Each worker has its queue."""
    stack = make_stack(tmp_path)
    taken = {name: part_of(stack, name).command for name in (JOBS, RENDER)}
    queues = {name: command[command.index("-Q") + 1] for name, command in taken.items()}

    assert queues == {JOBS: "default", RENDER: "media"}
    assert settings.CELERY_TASK_DEFAULT_QUEUE == "default"
    assert queue.QUEUE == "media"


def test_conversations_find_the_speech_server_on_a_socket_and_programs_on_loopback(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    socket_url, address = stack.env["MOLTS_SPEECH_LISTEN"].split(",")
    assert stack.env["MOLTS_SPEECH_URL"] == socket_url == f"unix://{tmp_path}/run/speech.sock"
    assert address.startswith("127.0.0.1:")
    assert part_of(stack, "speech").command[-1] == "run_speech"

    deep = tmp_path / ("x" * 100)  # longer than a socket's path may be
    env = make_stack(deep).env
    assert env["MOLTS_SPEECH_URL"] == f"ws://{env['MOLTS_SPEECH_LISTEN']}"

    assert "MOLTS_SPEECH_URL" not in make_stack(tmp_path, without=frozenset({"speech"})).env


def test_a_given_media_server_without_its_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PartFailed, match="LIVEKIT_API_KEY and LIVEKIT_API_SECRET"):
        make_stack(tmp_path, given(LIVEKIT_URL="wss://media.example"))


def test_a_server_of_ours_can_only_be_left_out_for_another_one(tmp_path: Path) -> None:
    with pytest.raises(PartFailed, match="REDIS_URL"):
        make_stack(tmp_path, without=frozenset({"redis"}))
    assert "agent" not in [part.name for part in make_stack(tmp_path, without=frozenset({"agent"})).parts]


def test_a_taken_web_port_is_named_with_its_mend(tmp_path: Path) -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(PartFailed, match=rf"port {port} on 127\.0\.0\.1 is taken.*MOLTS_PORT={port + 1} make up"):
            make_stack(tmp_path, port=port)


def test_a_missing_media_server_is_named_with_its_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PartFailed, match="livekit-server is missing: run `make setup`"):
        make_stack(tmp_path, base_dir=tmp_path)


def test_redis_comes_from_the_wheel_when_the_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    found = find_redis_server()

    assert found is not None
    assert "v=" in subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout


def test_the_media_server_is_told_who_may_connect() -> None:
    common = {
        "port": 1,
        "udp_port": 2,
        "keys": KEYS,
        "redis_url": "redis://:pw@127.0.0.1:6379/0",
        "webhook_url": "http://x",
    }

    here = json.loads(livekit_config(host="127.0.0.1", tcp_port=0, **common))  # type: ignore[arg-type]
    everywhere = json.loads(livekit_config(host="0.0.0.0", tcp_port=3, **common))  # type: ignore[arg-type]
    named = json.loads(livekit_config(host="0.0.0.0", tcp_port=3, node_ip="192.0.2.7", **common))  # type: ignore[arg-type]

    assert here["rtc"]["ips"] == {"includes": ["127.0.0.1/32"]}
    assert here["rtc"]["node_ip"] == "127.0.0.1"
    assert everywhere["rtc"] == {
        "udp_port": 2,
        "tcp_port": 3,
        "use_external_ip": False,
        "stun_servers": ["127.0.0.1:1"],
    }
    assert named["rtc"]["node_ip"] == "192.0.2.7"
    assert here["redis"] == {"address": "127.0.0.1:6379", "username": "", "password": "pw", "db": 0}
    assert here["webhook"] == {"api_key": KEYS.key, "urls": ["http://x"]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"host": "127.0.0.1"}, ["127.0.0.1:1"]),
        ({"host": "::1"}, ["[::1]:1"]),
        ({"host": "0.0.0.0", "seen_as": "talk.example.org"}, ["talk.example.org:1"]),
        ({"host": "0.0.0.0", "seen_as": "talk.example.org", "node_ip": "192.0.2.7"}, ["192.0.2.7:1"]),
        ({"host": "192.0.2.9", "seen_as": "talk.example.org"}, ["192.0.2.9:1"]),
        ({"host": "0.0.0.0", "stun_servers": ["stun.example.org:3478"]}, ["stun.example.org:3478"]),
    ],
)
def test_the_media_server_names_no_stun_server_of_others(given: dict[str, Any], expected: list[str]) -> None:
    config = livekit_config(
        port=1, udp_port=2, tcp_port=3, keys=KEYS, redis_url="redis://127.0.0.1:6379/0", webhook_url="http://x", **given
    )
    rtc = json.loads(config)["rtc"]
    assert rtc["stun_servers"] == expected
    assert not any(server.endswith(f":{rtc['udp_port']}") for server in expected), "sound from there would be dropped"


def test_it_knows_every_secret_that_must_not_reach_a_log(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "molts_field_keys").write_text("first-field-key,second-field-key\n")
    asked = given(SECRET_KEY="the-secret-key", OPENAI_API_KEY="vendor-key", DATABASE_URL="postgres://u:db-password@h/d")
    stack = make_stack(tmp_path, asked)

    known = secrets_to_hide(stack, asked, folder)

    redis_password = stack.redis_url.split(":")[2].split("@")[0]
    assert known >= {
        "the-secret-key",
        "vendor-key",
        "db-password",
        "first-field-key",
        "second-field-key",
        redis_password,
    }
    assert not known & {"127.0.0.1", "http://127.0.0.1:8000", os.environ["PATH"]}


@pytest.mark.parametrize(
    ("host", "url", "loopback"),
    [
        ("127.0.0.1", "http://127.0.0.1:80", True),
        ("0.0.0.0", "http://127.0.0.1:80", False),
        ("::", "http://[::1]:80", False),
        ("::1", "http://[::1]:80", True),
        ("localhost", "http://127.0.0.1:80", True),
        ("192.0.2.1", "http://192.0.2.1:80", False),
    ],
)
def test_it_knows_how_to_reach_what_it_binds(host: str, url: str, loopback: bool) -> None:
    assert local_url(host, 80) == url
    assert is_loopback(host) is loopback


def test_free_means_free_for_that_kind(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as first:
        port = first.getsockname()[1]  # nobody else's for TCP either
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
        other.bind(("127.0.0.1", port))
        assert not is_free("127.0.0.1", port, "udp")
        assert is_free("127.0.0.1", port, "tcp")
