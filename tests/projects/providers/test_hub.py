"""Fetching against a server that speaks the hub's protocol; all of huggingface_hub is real."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from molts.errors import BadConfiguration, Unavailable
from projects.providers.faster_whisper import weights as whisper_weights
from projects.providers.shared import hub
from projects.providers.supertonic import weights as voice_weights

COMMIT = "a" * 40
REPO = "someone/model"


@dataclass
class FakeHub:
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)  # files with a hash, as the hub has for weights
    break_after: int | None = None  # bytes of a body until the connection is cut
    ranges: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def listing(self) -> dict[str, Any]:
        siblings = [
            {
                "rfilename": name, "size": len(data), "blobId": "b",
                "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}
                if name in self.large else None,
            }
            for name, data in self.files.items()
        ]  # fmt: skip
        return {"_id": "1", "id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": siblings, "tags": [],
                "private": False, "downloads": 0, "likes": 0}  # fmt: skip


@pytest.fixture
def fake_hub(own_data_folder: Path) -> Iterator[FakeHub]:
    import json

    fake = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if path == f"/api/models/{REPO}/revision/main":
                return self.answer(200, json.dumps(fake.listing()).encode(), "application/json")
            name = path.removeprefix(f"/{REPO}/resolve/{COMMIT}/")
            if name not in fake.files:
                return self.answer(404, b"{}", "application/json", {"X-Error-Code": "RepoNotFound"})
            fake.fetched.append(name)
            return self.send_file(fake.files[name])

        def send_file(self, data: bytes) -> None:
            start = 0
            if wanted := self.headers.get("Range"):
                fake.ranges.append(wanted)
                start = int(wanted.removeprefix("bytes=").split("-")[0])
            body = data[start:]
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
            if fake.break_after is not None and len(body) > fake.break_after:
                self.answer(206 if start else 200, body, "application/octet-stream", headers, cut=fake.break_after)
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.answer(206 if start else 200, body, "application/octet-stream", headers)

        def answer(
            self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None, cut: int | None = None
        ) -> None:
            self.send_response(status)
            for header, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(body[:cut])

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    yield fake
    server.shutdown()
    server.server_close()


def fetch(fake_hub: FakeHub, target: Path, **options: Any) -> Path:
    return hub.fetch_snapshot(
        REPO, target=target, patterns=["*.bin", "*.json"], fix="Mend it so.", endpoint=fake_hub.url, **options
    )


def test_it_fetches_what_is_asked_for_and_reports_progress(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.files = {"model.bin": b"x" * 100_000, "config.json": b"{}", "README.md": b"no", "onnx/tts.json": b"[]"}
    fake_hub.large = {"model.bin"}
    seen: list[tuple[int, int]] = []

    folder = fetch(fake_hub, tmp_path / "models" / "m", progress=lambda done, total: seen.append((done, total)))

    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "model.bin", "config.json", "onnx/tts.json",
    }  # fmt: skip
    assert (folder / "model.bin").read_bytes() == b"x" * 100_000
    assert seen[-1] == (100_004, 100_004)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_it_goes_on_where_it_broke_off(fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    data = bytes(range(256)) * 1000
    fake_hub.files = {"model.bin": data}
    fake_hub.large = {"model.bin"}
    fake_hub.break_after = 0
    target = tmp_path / "m"
    with pytest.raises(Unavailable, match=r"broke off.*Start again.*Mend it so"):
        fetch(fake_hub, target)
    assert not target.exists()
    incomplete = tmp_path / ".m.partial" / "model.bin.incomplete"
    incomplete.write_bytes(data[:100_000])  # as after a kill in the middle
    fake_hub.break_after = None
    fake_hub.ranges.clear()

    fetch(fake_hub, target)

    assert (target / "model.bin").read_bytes() == data
    assert fake_hub.ranges[0] == "bytes=100000-"


def test_what_does_not_fit_on_the_disk_is_not_begun(
    fake_hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.files = {"model.bin": b"x" * 5_000_000}
    (tmp_path / ".m.partial").mkdir()
    (tmp_path / ".m.partial" / "model.bin.incomplete").write_bytes(b"x" * 2_000_000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2_999_999))

    with pytest.raises(Unavailable, match=r"needs 3 MB more, and .* has 3 MB left\. Make room there"):
        fetch(fake_hub, tmp_path / "m")

    assert fake_hub.fetched == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3_000_000))
    assert fetch(fake_hub, tmp_path / "m").is_dir()


def test_a_disk_that_fills_up_is_told(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.files = {"model.bin": b"x" * 100_000}
    (tmp_path / ".m.partial").mkdir()
    (tmp_path / ".m.partial" / "model.bin.incomplete").symlink_to("/dev/full")

    with pytest.raises(Unavailable, match=r"No space left on device\. Start again to go on there\. Make room in"):
        fetch(fake_hub, tmp_path / "m")


def test_a_folder_that_cannot_be_made_is_told(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.files = {"model.bin": b"x"}
    (tmp_path / "models").write_text("a file")

    with pytest.raises(Unavailable, match=r"cannot be stored in .*/models: (Not a directory|File exists)"):
        fetch(fake_hub, tmp_path / "models" / "m")


def test_of_two_that_want_the_same_model_one_fetches(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.files = {"model.bin": b"x"}
    (tmp_path / ".m.partial").mkdir()
    other = os.open(tmp_path / ".m.partial", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)

    with pytest.raises(Unavailable, match="is being fetched by another process"):
        fetch(fake_hub, tmp_path / "m")

    os.close(other)
    assert fetch(fake_hub, tmp_path / "m").is_dir()


def test_it_does_not_keep_damaged_files(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.files = {"model.bin": b"good weights"}
    fake_hub.large = {"model.bin"}
    partial = tmp_path / ".m.partial"
    partial.mkdir()
    (partial / "model.bin.incomplete").write_bytes(b"evil")

    with pytest.raises(Unavailable, match="damaged"):
        fetch(fake_hub, tmp_path / "m")

    assert not (tmp_path / "m").exists()
    assert fetch(fake_hub, tmp_path / "m").joinpath("model.bin").read_bytes() == b"good weights"


def test_it_notices_within_5_s_that_the_hub_is_silent(own_data_folder: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # accepts into the backlog and never answers
        started = time.monotonic()
        with pytest.raises(Unavailable, match=r"out of reach.*Mend it so"):
            fetch(FakeHub(url=f"http://127.0.0.1:{silent.getsockname()[1]}"), own_data_folder / "m")
    assert time.monotonic() - started < 5.5


def test_it_notices_within_5_s_that_names_do_not_resolve(
    own_data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: Any, **__: Any) -> None:
        time.sleep(8)
        raise socket.gaierror("late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()

    with pytest.raises(Unavailable, match="MOLTS_WHISPER_MODEL to a folder"):
        whisper_weights.download("base")

    assert time.monotonic() - started < 5.5


def test_it_says_that_a_repository_does_not_exist(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.files = {}
    with pytest.raises(BadConfiguration, match="holds none of"):
        fetch(fake_hub, tmp_path / "m")
    with pytest.raises(BadConfiguration, match="has no model someone/other"):
        hub.fetch_snapshot("someone/other", target=tmp_path / "m", patterns=["*"], fix="", endpoint=fake_hub.url)


def test_it_fetches_nothing_when_offline(fake_hub: FakeHub, settings: Settings, tmp_path: Path) -> None:
    settings.MOLTS_OFFLINE = True
    with pytest.raises(Unavailable, match="MOLTS_OFFLINE"):
        fetch(fake_hub, tmp_path / "m")
    assert fake_hub.fetched == []


def test_it_leaves_the_folder_when_it_holds_paths_outside(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.files = {"../evil.bin": b"x", "model.bin": b"y"}
    fetch(fake_hub, tmp_path / "models" / "m")
    assert not (tmp_path / "models" / "evil.bin").exists()


def test_whisper_is_fetched_into_the_data_folder(
    fake_hub: FakeHub, own_data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.files = {
        "model.bin": b"m",
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "vocabulary.txt": b"v",
        "x.md": b"",
    }
    real = hub.fetch_snapshot
    monkeypatch.setattr(whisper_weights, "fetch_snapshot", lambda repo, **kw: real(repo, endpoint=fake_hub.url, **kw))

    folder = whisper_weights.download(REPO)

    assert folder == own_data_folder / "models" / "whisper" / "someone--model"
    assert {path.name for path in folder.iterdir()} == {"model.bin", "config.json", "tokenizer.json", "vocabulary.txt"}
    fake_hub.fetched.clear()
    assert whisper_weights.download(REPO) == folder
    assert fake_hub.fetched == []


def test_the_voice_is_not_fetched_before_its_terms_are_accepted(
    own_data_folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("supertonic")
    calls: list[str] = []

    def fetch(repo: str, **_: Any) -> Path:
        calls.append(repo)
        return Path("there")

    monkeypatch.setattr(voice_weights, "fetch_snapshot", fetch)

    with pytest.raises(BadConfiguration, match=r"OpenRAIL-M.*MOLTS_ACCEPT_VOICE_TERMS=1"):
        voice_weights.download()
    assert calls == []

    settings.MOLTS_ACCEPT_VOICE_TERMS = True
    assert voice_weights.download() == Path("there")
    assert calls == ["Supertone/supertonic-3"]


async def test_fetching_in_a_thread_leaves_the_loop_free(fake_hub: FakeHub, tmp_path: Path) -> None:
    fake_hub.files = {"model.bin": b"x" * 1000}
    folder = await asyncio.to_thread(fetch, fake_hub, tmp_path / "m")
    assert (folder / "model.bin").stat().st_size == 1000
