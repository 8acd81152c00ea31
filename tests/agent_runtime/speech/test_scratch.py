"""What an upload leaves behind when the server is killed in the middle of it: nothing, once another one starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from agent_runtime.speech.scratch import PREFIX, scratch_folder
from tests.agent_runtime.speech import micro_server
from tests.agent_runtime.stack import ROOT, end, free_port, wait_for


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_removes_what_nobody_holds_and_nothing_else(folder: Path) -> None:
    abandoned, foreign, link = folder / f"{PREFIX}abandoned", folder / "something else", folder / f"{PREFIX}link"
    for each in (abandoned, foreign):
        each.mkdir()
        (each / "file.upload").write_bytes(b"sound")
    link.symlink_to(foreign)
    (folder / f"{PREFIX}file").touch()
    with scratch_folder() as first:
        (first / "mine.upload").touch()
        with scratch_folder() as second:
            assert (first / "mine.upload").exists()
            assert second != first
            assert not abandoned.exists()
        assert not second.exists()
    assert sorted(each.name for each in folder.iterdir()) == [f"{PREFIX}file", f"{PREFIX}link", "something else"]
    assert (foreign / "file.upload").exists()


def start(port: int, folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "TMPDIR": str(folder)}
    command = [sys.executable, "-m", micro_server.__name__, str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        wait_for("the speech server", lambda: process.poll() is not None or _listens(port), seconds=60)
    except BaseException:
        end(process)
        raise
    return process


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def begin_upload(port: int) -> socket.socket:
    """A form that stops in the middle of its file."""
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + bytes(200_000)
    head = (
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: speech\r\nContent-Length: 900000\r\n"
        f"Authorization: Bearer {micro_server.SECRET}\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(head.encode() + part)
    return connection


def test_a_killed_servers_upload_is_removed_by_the_next_one(folder: Path) -> None:
    port = free_port()
    server = start(port, folder)
    try:
        with begin_upload(port):
            wait_for("the upload's file", lambda: list(folder.rglob("*.upload.wav")), seconds=10)
            server.kill()
            server.wait()
        assert list(folder.rglob("*.upload.wav"))  # else this shows nothing
    finally:
        end(server)
    end(start(port, folder))
    assert list(folder.rglob("*.upload.wav")) == []
    assert list(folder.glob(f"{PREFIX}*")) == []
