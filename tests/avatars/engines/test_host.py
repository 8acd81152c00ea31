"""The engine host itself: places, fairness, look-ahead, and every way in which one of the two sides goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatars.engines.adapters.molts_engine_adapter import protocol, supervise
from avatars.engines.adapters.molts_engine_adapter.protocol import EngineProtocolError, MessageKind
from avatars.engines.base import (
    AudioChunk,
    EngineFailed,
    EngineFull,
    Face,
    LipSyncStream,
    StreamItem,
    VideoFormat,
    VideoFrame,
)
from avatars.engines.config import EngineConfig, configure, engine_config
from avatars.engines.host import launch
from avatars.engines.host.stream import HostStream, open_host_stream
from avatars.engines.wav2lip import Wav2LipEngine
from tests.avatars.engines.contract import push, read_utterance, take
from tests.avatars.engines.hosts import HostProcess, lay_out, running, speech, wav2lip_graph
from tests.avatars.engines.portraits import SMILING

VIDEO = VideoFormat(width=64, height=64)
ROOT = Path(__file__).resolve().parents[3]
# A class of the tests is imported as part of the repository: then the package has the repository's name for it.
PACKAGE = "avatars.engines.adapters.molts_engine_adapter"


@contextlib.contextmanager
def steady(folder: Path, *words: str, kind: str = "Steady", **more: Any) -> Iterator[HostProcess]:
    model = f"tests.avatars.engines.faulty:{kind}"
    with running(folder, model, *words, cwd=ROOT, package=PACKAGE, **more) as host:
        yield host


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """One with a single place, for tests that leave it as it was."""
    with steady(tmp_path_factory.mktemp("host"), "--slots", "1") as host:
        yield host


@pytest.fixture
def free_host(host: HostProcess) -> HostProcess:
    deadline = time.monotonic() + 10
    while host.health()["used"] and time.monotonic() < deadline:
        time.sleep(0.02)
    return host


async def open_at(host: HostProcess, **more: Any) -> HostStream:
    return await open_host_stream(host.address, label="Steady", video=more.pop("video", VIDEO), **more)


# -- Places ------------------------------------------------------------------------------------------------------------
async def test_places_are_measured_and_one_more_is_refused(tmp_path: Path) -> None:
    with steady(tmp_path, "--set", "speed=80") as host:  # 80 frames a second less headroom: two at 25
        assert host.health()["slots"] == 2
        first, second = await open_at(host), await open_at(host)
        assert host.health()["used"] == 2
        with pytest.raises(EngineFull, match="All 2 places of Steady are taken"):
            await open_at(host)
        await first.aclose()
        await until(lambda: host.health()["used"] == 1)
        third = await open_at(host)
        await second.aclose()
        await third.aclose()


async def test_a_machine_too_slow_for_conversations_says_so_and_still_makes_videos(tmp_path: Path) -> None:
    with steady(tmp_path, "--set", "speed=12") as host:
        state = host.health()
        assert (state["ready"], state["slots"]) == (False, 0)
        assert "12.0 frames a second" in state["text"]
        stream = await open_at(host)
        await push(stream, speech([0.1]))
        await stream.flush()
        assert len((await read_utterance(aiter(stream))).bright) == 5
        await stream.aclose()


async def test_the_place_of_a_client_that_was_killed_is_free_again(free_host: HostProcess) -> None:
    stream = await open_at(free_host)
    stream._writer.transport.abort()
    await until(lambda: free_host.health()["used"] == 0)
    await (await open_at(free_host)).aclose()
    await stream.aclose()


async def test_the_place_of_a_client_that_froze_is_free_again(free_host: HostProcess) -> None:
    stream = await open_at(free_host)
    for task in stream._tasks:
        task.cancel()
    await until(lambda: free_host.health()["used"] == 0, seconds=protocol.SILENCE_SECONDS + 3)
    await stream.aclose()


# -- Batches -----------------------------------------------------------------------------------------------------------
async def test_frames_of_several_conversations_are_made_in_one_call(tmp_path: Path) -> None:
    with steady(tmp_path, "--slots", "4", "--set", "seconds=0.01") as host:

        async def talk() -> list[float]:
            stream = await open_at(host)
            await push(stream, speech([0.1] * 10))
            await stream.flush()
            heard = await read_utterance(aiter(stream))
            await stream.aclose()
            return heard.bright

        told = await asyncio.gather(*(talk() for _ in range(4)))
        assert len({round(bright[0]) for bright in told}) == 4, "each its own"
        assert all(len(bright) == 50 and max(bright) - min(bright) < 1 for bright in told), "and nothing else"
        state = host.health()
        assert state["frames"] == 200
        assert state["calls"] < 120, "alone, each frame would be a call"


async def test_who_reads_fast_takes_nothing_from_the_others(tmp_path: Path) -> None:
    """Calls of one frame: a stream that is read as fast as it comes and one that is read at its pace share them."""
    with steady(tmp_path, "--slots", "2", "--set", "seconds=0.01", "--set", "batch=1") as host:
        job, live = await open_at(host), await open_at(host)
        await push(job, speech([0.1] * 20))
        await push(live, speech([0.1] * 5))
        await job.flush()
        await live.flush()
        reading = asyncio.create_task(read_utterance(aiter(job)))
        heard = await read_utterance(aiter(live))
        assert len(heard.bright) == 25
        assert not reading.done(), "25 frames among 125 were not made last"
        await reading
        await job.aclose()
        await live.aclose()


async def test_it_is_ahead_of_the_reader_by_a_few_frames_only(free_host: HostProcess) -> None:
    frames = free_host.health()["frames"]
    stream = await open_at(free_host)
    await push(stream, speech([0.1] * 20))
    await stream.flush()
    await asyncio.sleep(0.5)
    assert free_host.health()["frames"] - frames <= 2 * 8
    assert len((await read_utterance(aiter(stream))).bright) == 100
    await stream.aclose()


async def test_speech_waits_outside_when_much_of_it_is_queued(free_host: HostProcess) -> None:
    stream = await open_at(free_host)
    pushing = asyncio.create_task(push(stream, speech([0.1], seconds=15)))
    await asyncio.sleep(0.3)
    assert not pushing.done()
    items = aiter(stream)
    reading = asyncio.create_task(read_utterance(items))
    await asyncio.wait_for(pushing, 20)
    await stream.flush()
    assert len((await reading).bright) == 375
    await stream.aclose()


async def test_an_interruption_lets_go_whoever_waits_to_push(free_host: HostProcess) -> None:
    stream = await open_at(free_host)
    pushing = asyncio.create_task(stream_many(stream))
    await asyncio.sleep(0.2)
    stream.clear_buffer()
    await asyncio.wait_for(pushing, 2)
    await stream.aclose()


async def watch(items: AsyncIterator[StreamItem]) -> None:
    """A face at rest, at its pace."""
    async for item in items:
        assert isinstance(item, VideoFrame)
        await asyncio.sleep(item.duration)


async def stream_many(stream: LipSyncStream) -> None:
    """Eleven seconds, then one piece that has to wait."""
    await push(stream, speech([0.1], seconds=10.5), step=0.5)
    await stream.push_audio(AudioChunk(speech([0.1]), 16_000))


async def test_without_the_socket_s_machine_frames_come_through_the_connection(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with steady(tmp_path, "--slots", "1", address=f"127.0.0.1:{port}") as host:
        stream = await open_at(host)
        assert stream._memory is None
        await push(stream, speech([0.1] * 3))
        await stream.flush()
        assert len((await read_utterance(aiter(stream))).bright) == 15
        await stream.aclose()


async def test_nothing_stays_in_shared_memory(free_host: HostProcess) -> None:
    before = shared_files()
    stream = await open_at(free_host)
    assert stream._memory is not None
    assert shared_files() <= before, "the name is gone as soon as it is open"
    await stream.aclose()


def shared_files() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith("molts-engine-")}


# -- What goes wrong ---------------------------------------------------------------------------------------------------
async def test_a_model_that_hangs_is_given_up(tmp_path: Path) -> None:
    with steady(tmp_path, "--slots", "1", "--set", "seconds=3", "--set", "frame_seconds=1") as host:
        stream = await open_at(host)
        await push(stream, speech([0.1]))
        await stream.flush()
        with pytest.raises(EngineFailed, match="gave no frame for 1 s"):
            await read_utterance(aiter(stream))
        with pytest.raises(EngineFailed):
            await stream.push_audio(AudioChunk(speech([0.1]), 16_000))
        await stream.aclose()


async def test_a_host_that_stands_still_is_noticed_while_nobody_speaks(tmp_path: Path) -> None:
    with steady(tmp_path, "--slots", "1") as host:
        pid = host.health()["pid"]
        stream = await open_at(host)
        items = aiter(stream)
        await take(items, 3)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(EngineFailed, match="does not answer"):
                await asyncio.wait_for(watch(items), protocol.SILENCE_SECONDS + 3)
        finally:
            os.kill(pid, signal.SIGCONT)
        await stream.aclose()


async def test_a_model_that_gives_too_few_frames_is_named(tmp_path: Path) -> None:
    with steady(tmp_path, "--slots", "1", kind="TooFew") as host:
        stream = await open_at(host)
        await push(stream, speech([0.1] * 10))
        await stream.flush()
        with pytest.raises(EngineFailed, match="TooFew gave 25 frames of 50"):
            await read_utterance(aiter(stream))
        await stream.aclose()


async def test_a_failed_conversation_costs_no_other_a_frame_of_a_model_that_remembers(tmp_path: Path) -> None:
    with steady(tmp_path, "--slots", "2", "--set", "seconds=0.02", kind="Remembering") as host:
        good, bad = await open_at(host), await open_at(host)
        for stream in (good, bad):
            await push(stream, speech([0.1] * 4))
            await stream.flush()
        with pytest.raises(EngineFailed, match="CUDA out of memory"):
            await read_utterance(aiter(bad))
        # As luma of video, which goes from 16 to 235.
        jobs = [(luma - 16) / 219 * 255 / 5 for luma in (await read_utterance(aiter(good))).bright]
        assert jobs == pytest.approx(range(1, 21), abs=0.2)
        await good.aclose()
        await bad.aclose()


async def test_a_model_that_cannot_be_loaded_says_what_to_do(tmp_path: Path) -> None:
    with steady(tmp_path, kind="Unloadable") as host:
        assert host.health()["ready"] is False
        assert host.health()["text"] == "Unloadable has no weights: get them."
        with pytest.raises(EngineFailed, match="get them"):
            await open_at(host)


async def test_a_face_that_it_cannot_show_is_refused(free_host: HostProcess) -> None:
    with pytest.raises(EngineFailed, match="There is no such face"):
        await open_at(free_host, options={"bad": True})
    assert free_host.health()["used"] == 0


@pytest.mark.parametrize("video", [VideoFormat(65, 64), VideoFormat(8, 64), VideoFormat(64, 64, fps=1000)])
async def test_a_size_that_no_video_has_is_refused(free_host: HostProcess, video: VideoFormat) -> None:
    with pytest.raises(EngineFailed, match="cannot be made"):
        await open_at(free_host, video=video)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        os.urandom(4096),
        b"",
        protocol.hello() + struct.pack(">2sBxI", b"mE", MessageKind.OPEN, 2**31),
        protocol.hello() + protocol.pack(MessageKind.OPEN, struct.pack(">I", 2**30) + b"{}"),
        protocol.hello() + protocol.pack(MessageKind.OPEN, struct.pack(">I", 2) + b"[]"),
        protocol.hello() + protocol.pack(MessageKind.OPEN, struct.pack(">I", 2) + b"{}"),
        protocol.hello() + protocol.pack(MessageKind.AUDIO, b"\0" * 8),
        protocol.pack_json(MessageKind.HELLO, {"protocol": 99}),
    ],
    ids=["http", "random", "nothing", "too long", "too short", "no object", "no video", "no open", "version"],
)
async def test_a_stranger_is_refused_and_the_host_goes_on(free_host: HostProcess, garbage: bytes) -> None:
    reader, writer = await protocol.connect(free_host.address)
    writer.write(garbage)
    if not garbage:
        writer.close()
    answer = b""
    with contextlib.suppress(OSError):
        answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    if garbage:
        assert b'"code": "protocol"' in answer
    await (await open_at(free_host)).aclose()


async def test_the_secret_is_asked_for(tmp_path: Path) -> None:
    with steady(tmp_path, "--slots", "1", env={"MOLTS_ENGINE_SECRET": "right"}) as host:
        with pytest.raises(EngineFailed, match="secret is wrong"):
            await open_at(host, secret="wrong")
        with pytest.raises(EngineProtocolError, match="secret is wrong"):
            protocol.ask_health(host.address, secret="")
        await (await open_at(host, secret="right")).aclose()


async def test_another_program_at_the_address_is_no_engine(tmp_path: Path) -> None:
    async def chatter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")

    server = await asyncio.start_unix_server(chatter, tmp_path / "mail.sock")
    try:
        with pytest.raises(EngineFailed, match="this is not the engine protocol"):
            await open_host_stream(f"unix:{tmp_path / 'mail.sock'}", label="Engine", video=VIDEO)
    finally:
        server.close()


@contextlib.asynccontextmanager
async def stand_in(then: bytes = b"", *, shared: Path | None = None) -> AsyncIterator[str]:
    """The address of a host that opens every stream, sends `then`, and listens."""
    opened = {"width": 64, "height": 64, "fps": 25, "pixels": "i420", "ring": 4, "idle_frames": 1}
    idle = protocol.FRAME.pack(0, 0, protocol.IN_BAND) + bytes(64 * 96)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(protocol.hello())
        writer.write(protocol.pack_json(MessageKind.OPENED, {**opened, "shared": shared and str(shared)}))
        writer.write(protocol.pack(MessageKind.IDLE, idle) + then)
        while await reader.read(1000):
            pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_host_elsewhere_cannot_have_a_file_opened_and_deleted_here(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_bytes(bytes(4 * 64 * 96))
    async with stand_in(shared=file) as address:
        with pytest.raises(EngineFailed, match="shares memory that was not asked for"):
            await open_host_stream(address, label="Engine", video=VIDEO)
    assert file.exists()


@pytest.mark.parametrize(
    "more",
    [
        protocol.pack_number(MessageKind.END, 0),
        protocol.pack(MessageKind.FRAME, protocol.FRAME.pack(0, 0, protocol.IN_BAND) + bytes(64 * 96)),
    ],
)
async def test_a_host_that_sends_more_than_it_was_asked_for_is_named(more: bytes) -> None:
    async with stand_in(more) as address:
        stream = await open_host_stream(address, label="Engine", video=VIDEO)
        with pytest.raises(EngineFailed, match="sent more than the speech"):
            await asyncio.wait_for(watch(aiter(stream)), 5)
        await stream.aclose()


async def test_a_face_that_waits_for_the_rest_of_a_sentence_goes_to_rest_gently() -> None:
    """It is at rest where its picture may hold the head elsewhere."""
    white = protocol.FRAME.pack(0, 0, protocol.IN_BAND) + b"\xff" * (64 * 96)
    async with stand_in(protocol.pack(MessageKind.FRAME, white)) as address:
        stream = await open_host_stream(address, label="Engine", video=VIDEO)
        await stream.push_audio(AudioChunk(speech([0.1], seconds=0.04), 16_000))
        items = aiter(stream)
        shown = [item for item in await take(items, 8) if isinstance(item, VideoFrame)]
        await stream.aclose()
    levels = [int(np.frombuffer(frame.data, np.uint8)[0]) for frame in shown]
    assert levels[0] == 255
    assert levels == sorted(levels, reverse=True)
    assert len({level for level in levels if 0 < level < 255}) >= 3


async def test_nobody_at_the_address(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="nobody answers"):
        await open_host_stream(f"unix:{tmp_path / 'none.sock'}", label="Engine", video=VIDEO)


# -- Our own host ------------------------------------------------------------------------------------------------------
@pytest.fixture
def own_host(tmp_path: Path) -> Iterator[Path]:
    """The settings of an installation whose Wav2Lip model is a stand-in; its host ends with the test."""
    before = engine_config()
    _, env = lay_out("wav2lip", tmp_path)
    configure(EngineConfig(run_dir=tmp_path / "run", wav2lip_model=env["MOLTS_WAV2LIP_MODEL"], wav2lip_threads=1))
    yield tmp_path
    for process in launch._started:
        process.terminate()
        process.wait(10)
    configure(before)


FACE = Face(key="1", portrait=SMILING)


async def test_the_host_starts_with_the_first_conversation_and_is_shared(own_host: Path) -> None:
    engine, face = Wav2LipEngine(), FACE
    assert engine.health().text == "starts with the first conversation"
    streams = await asyncio.gather(*(engine.open_stream(face, VIDEO) for _ in range(3)))
    state = launch.ask("wav2lip")
    assert state is not None
    assert state["used"] == 3, "one host for all, however many asked at once"
    assert engine.health().slots == state["slots"] > 3
    for stream in streams:
        await stream.aclose()


async def test_a_host_killed_in_mid_sentence_is_started_anew(own_host: Path) -> None:
    engine, face = Wav2LipEngine(), FACE
    stream = await engine.open_stream(face, VIDEO)
    await push(stream, speech([0.1] * 5))
    state = launch.ask("wav2lip")
    assert state is not None
    os.kill(state["pid"], signal.SIGKILL)
    with pytest.raises(EngineFailed, match="Wav2Lip: the engine host is gone"):
        await read_utterance(aiter(stream))
    await stream.aclose()
    again = await engine.open_stream(face, VIDEO)
    await push(again, speech([0.1] * 5))
    await again.flush()
    assert len((await read_utterance(aiter(again))).bright) == 25
    await again.aclose()


async def test_the_host_ends_with_its_supervisor_however_that_ends(own_host: Path) -> None:
    engine = Wav2LipEngine()
    await asyncio.to_thread(engine.prepare, FACE, VIDEO)
    state = launch.ask("wav2lip")
    assert state is not None
    launch._started[-1].kill()
    await until(lambda: not alive(state["pid"]))


def test_without_weights_no_host_is_started(own_host: Path) -> None:
    for model, words in (("", "has no weights"), (str(own_host / "gone.onnx"), "there is no .*gone.onnx")):
        configure(dataclasses.replace(engine_config(), wav2lip_model=model))
        with pytest.raises(EngineFailed, match=f"Wav2Lip: {words}. Export the weights"):
            Wav2LipEngine().prepare(FACE, VIDEO)
    assert not engine_config().run_dir.exists()


def test_a_broken_model_is_named_and_tried_again_when_it_was_changed(own_host: Path) -> None:
    engine, model = Wav2LipEngine(), Path(engine_config().wav2lip_model)
    good = model.read_bytes()
    model.write_bytes(b"no model")
    assert engine.health().ready, "nobody has tried it"
    tried = set()
    for _ in range(3):
        with pytest.raises(EngineFailed, match="is no ONNX model that can be loaded"):
            engine.prepare(FACE, VIDEO)
        state = launch.ask("wav2lip")
        assert state is not None
        tried.add(state["pid"])
    assert len(tried) == 1
    health = engine.health()
    assert (health.ready, "is no ONNX model" in health.text) == (False, True)
    assert "MOLTS_WAV2LIP_MODEL" in health.fix

    model.write_bytes(good)
    assert engine.health().text == "starts with the first conversation"
    engine.prepare(FACE, VIDEO)
    assert engine.health().ready
    assert not alive(tried.pop())


def test_a_host_without_its_model_says_so_for_longer_than_one_that_is_idle(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.onnx")
    with running(tmp_path, "wav2lip", "--set", f"model={missing}", "--idle-seconds", "0.2") as host:
        time.sleep(1)
        assert host.health()["text"].startswith(f"There is no file {missing}")
    log = (tmp_path / "host.log").read_text()
    assert "Traceback" not in log


def test_a_host_that_crashes_again_and_again_is_left_alone_for_longer_and_longer(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'host.sock'}"
    words = [sys.executable, "-m", PACKAGE, "no_such_module:Model", "--listen", address, "--mark", "m1"]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    seen: dict[str, float] = {}
    try:
        deadline = time.monotonic() + 20
        while len(seen) < 3 and time.monotonic() < deadline:
            crash = supervise.last_crash(address)
            if crash is not None:
                assert (crash.pid, crash.mark) == (process.pid, "m1")
                seen.setdefault(crash.text, crash.again_in)
            time.sleep(0.02)
    finally:
        process.terminate()
        process.wait(10)
    assert list(seen) == [f"its host ended {count} times in a row (1)" for count in (1, 2, 3)]
    first, second, third = seen.values()
    assert first < second < third
    assert supervise.last_crash(address) is None, "nobody waits any more"


def test_a_conversation_does_not_start_what_waits_to_be_started_again(own_host: Path) -> None:
    settings = {"model": engine_config().wav2lip_model, "threads": "1"}
    lock = Path(supervise.lock_path(launch.address_of("wav2lip")))
    lock.parent.mkdir(mode=0o700)
    with subprocess.Popen(["sleep", "60"]) as supervisor:
        crash = {"pid": supervisor.pid, "text": "its host ended 9 times in a row (-11)", "again_at": time.time() + 100}
        lock.write_text(json.dumps(crash | {"mark": launch.mark_of(settings)}))
        health = Wav2LipEngine().health()
        assert not health.ready
        assert re.search(
            r"ended 9 times in a row \(-11\); it is tried again in \d+ s. .*wav2lip.log says why", health.text
        )
        before = list(launch._started)
        with pytest.raises(EngineFailed, match="ended 9 times"):
            launch.start("wav2lip", settings)
        assert launch._started == before

        lock.write_text(json.dumps(crash | {"mark": "another model"}))
        assert Wav2LipEngine().health().ready
        launch.start("wav2lip", settings)
        assert supervisor.wait(5) == -signal.SIGTERM, "it would go on with what is no more"


def test_the_host_ends_when_nobody_is_there_and_removes_its_socket(tmp_path: Path) -> None:
    with steady(tmp_path, "--slots", "1", "--idle-seconds", "0.5") as host:
        assert host.process.wait(10) == 0
    assert not (tmp_path / "host.sock").exists()


def test_the_host_ends_with_the_process_it_was_told(tmp_path: Path) -> None:
    with (
        subprocess.Popen(["sleep", "60"]) as parent,
        steady(tmp_path, "--slots", "1", "--parent", str(parent.pid)) as host,
    ):
        parent.kill()
        parent.wait()
        assert host.process.wait(10) == 0


# -- Wav2Lip's graph ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("graph", "text"),
    [
        (lambda path: wav2lip_graph(path, output_size=48), r"Wav2Lip's graph gave \(1, 3, 48, 48\)"),
        (lambda path: path.write_bytes(b"no model"), "is no ONNX model that can be loaded"),
        (lambda path: None, "There is no"),
    ],
    ids=["wrong shape", "no model", "no file"],
)
def test_a_wrong_graph_is_named(tmp_path: Path, graph: Any, text: str) -> None:
    from avatars.engines.adapters.molts_engine_adapter.model import ModelError
    from avatars.engines.adapters.molts_engine_adapter.wav2lip import Wav2Lip as Model

    graph(tmp_path / "wav2lip.onnx")
    model = Model({"model": str(tmp_path / "wav2lip.onnx"), "threads": "1"})

    def make_a_face() -> None:
        model.load()
        model.infer(np.zeros((1, 1, 80, 16), np.float32), np.zeros((1, 6, 96, 96), np.float32))

    with pytest.raises(ModelError, match=text):
        make_a_face()


@pytest.mark.parametrize(("size", "batch"), [(96, "n"), (96, 1), (192, "n")])
def test_other_exports_of_the_graph_serve_too(tmp_path: Path, size: int, batch: int | str) -> None:
    from avatars.engines.adapters.molts_engine_adapter.wav2lip import Wav2Lip as Model

    model = Model({"model": str(wav2lip_graph(tmp_path / "w.onnx", size=size, batch=batch)), "threads": "1"})
    model.load()
    assert model.size == size
    made = model.infer(np.full((3, 1, 80, 16), 4, np.float32), np.zeros((3, 6, size, size), np.float32))
    assert made.shape == (3, size, size, 3)
    assert made.min() == 255


# -- SyncTalk_2D's net -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("character", "text"),
    [("Shape", "net gave .*160"), ("Raise", "CUDA out of memory"), ("Nobody", "train the face"), ("../x", "no name")],
)
async def test_synctalk_2d_names_what_is_wrong_with_a_face(tmp_path: Path, character: str, text: str) -> None:
    cwd, env = lay_out("synctalk_2d", tmp_path)

    async def talk(address: str) -> None:
        stream = await open_host_stream(address, label="SyncTalk_2D", video=VIDEO, options={"character": character})
        try:
            await push(stream, speech([0.1] * 5))
            await stream.flush()
            await read_utterance(aiter(stream))
        finally:
            await stream.aclose()

    with (
        running(tmp_path, "synctalk_2d", "--slots", "2", cwd=cwd, env=env) as host,
        pytest.raises(EngineFailed, match=text),
    ):
        await talk(host.address)


# -- Helpers -----------------------------------------------------------------------------------------------------------
async def until(check: Any, *, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(check):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
