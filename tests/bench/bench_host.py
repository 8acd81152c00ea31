"""What the engine host costs for each frame against calling the model directly, and what batches gain.

The model is a stand-in with Wav2Lip's inputs and output and the weight of a small network (a few convolutions), on ONNX
Runtime with one thread. Both sides make the same frames of the same portrait from the same spectrogram windows.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from avatars.engines.adapters.molts_engine_adapter.model import Face, Video
from avatars.engines.adapters.molts_engine_adapter.wav2lip import Wav2Lip, Wav2LipSession
from avatars.engines.base import VideoFormat, VideoFrame
from avatars.engines.host.stream import open_host_stream
from tests.avatars.engines.contract import push
from tests.avatars.engines.hosts import HostProcess, running, speech

RUNS = int(os.environ.get("MOLTS_BENCH_RUNS", "5"))
SECONDS = 4.0
SIZE = 512
BOX = [0.25, 0.2, 0.75, 0.9]


def network(path: Path, *, channels: int) -> Path:
    """Wav2Lip's inputs and output around four convolutions at half size."""
    random = np.random.default_rng(1)

    def weights(name: str, out: int, into: int, side: int) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array((random.normal(0, 0.05, (out, into, side, side))).astype(np.float32), name)

    initializers = [
        weights("w0", channels, 6, 3),
        *(weights(f"w{n}", channels, channels, 3) for n in range(1, 4)),
        weights("w4", 12, channels, 1),
        onnx.numpy_helper.from_array(np.array(0.001, np.float32), "small"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["mel_spectrogram"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "small"], ["sound"]),
        helper.make_node("Add", ["video_frames", "sound"], ["x"]),
        helper.make_node("Conv", ["x", "w0"], ["c0"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
    ]
    for n in range(1, 4):
        nodes.append(helper.make_node("Conv", [f"r{n - 1}", f"w{n}"], [f"c{n}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{n}"], [f"r{n}"]))
    nodes += [
        helper.make_node("Conv", ["r3", "w4"], ["c4"]),
        helper.make_node("DepthToSpace", ["c4"], ["up"], blocksize=2),
        helper.make_node("Sigmoid", ["up"], ["predicted_frames"]),
    ]
    inputs = [
        helper.make_tensor_value_info("mel_spectrogram", TensorProto.FLOAT, ["n", 1, 80, 16]),
        helper.make_tensor_value_info("video_frames", TensorProto.FLOAT, ["n", 6, 96, 96]),
    ]
    output = helper.make_tensor_value_info("predicted_frames", TensorProto.FLOAT, ["n", 3, 96, 96])
    graph = helper.make_graph(nodes, "network", inputs, [output], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def direct(model: Wav2Lip, portrait: bytes) -> float:
    """CPU seconds for a frame, calling the model with what one conversation gives: two frames a call, as the host."""
    speaker = model.open(Face(portrait=portrait, options={"box": BOX}), Video(SIZE, SIZE, 25))
    assert isinstance(speaker, Wav2LipSession)
    started, frames = time.process_time(), 0
    speaker.push(speech([0.1], seconds=SECONDS).astype(np.float32) / 32768)
    speaker.finish()
    while True:
        jobs = [(speaker, job) for job in (speaker.next_job(), speaker.next_job()) if job is not None]
        if not jobs:
            break
        frames += len(model.render(jobs))
    return (time.process_time() - started) / frames


async def through_host(host: HostProcess, portrait: bytes, streams: int) -> tuple[float, float, float]:
    """CPU seconds for a frame in the host and here, and frames in a call, all streams read as fast as they come."""
    server, me = psutil.Process(host.health()["pid"]), psutil.Process()
    opened = [
        await open_host_stream(
            host.address,
            label="Wav2Lip",
            video=VideoFormat(SIZE, SIZE),
            portrait=portrait,
            options={"box": BOX},
        )
        for _ in range(streams)
    ]
    before = host.health()
    server_time, my_time = sum(server.cpu_times()[:2]), sum(me.cpu_times()[:2])

    async def talk(stream: object) -> None:
        assert hasattr(stream, "flush")
        await push(stream, speech([0.1], seconds=SECONDS))  # type: ignore[arg-type]
        await stream.flush()
        count = 0
        async for item in stream:  # type: ignore[attr-defined]
            count += isinstance(item, VideoFrame)
            if count >= SECONDS * 25:
                break

    await asyncio.gather(*map(talk, opened))
    server_time, my_time = sum(server.cpu_times()[:2]) - server_time, sum(me.cpu_times()[:2]) - my_time
    after = host.health()
    for stream in opened:
        await stream.aclose()
    frames = after["frames"] - before["frames"]
    return server_time / frames, my_time / frames, frames / (after["calls"] - before["calls"])


@pytest.mark.bench
@pytest.mark.timeout(600)
@pytest.mark.parametrize("channels", [8, 32], ids=["light model", "heavier model"])
def test_what_the_host_costs_and_what_batches_gain(tmp_path: Path, channels: int) -> None:
    graph = network(tmp_path / "network.onnx", channels=channels)
    noise = np.random.default_rng(1).integers(0, 255, (SIZE, SIZE, 3), np.uint8)
    portrait = cv2.imencode(".png", cv2.GaussianBlur(noise, (31, 31), 0))[1].tobytes()
    model = Wav2Lip({"model": str(graph), "threads": "1"})
    model.load()
    direct(model, portrait)
    rows = []
    env = {"MOLTS_WAV2LIP_MODEL": str(graph), "MOLTS_WAV2LIP_THREADS": "1"}
    with running(tmp_path, "wav2lip", "--slots", "4", env=env) as host:
        asyncio.run(through_host(host, portrait, 1))
        for _ in range(RUNS):
            alone = direct(model, portrait)
            one = asyncio.run(through_host(host, portrait, 1))
            four = asyncio.run(through_host(host, portrait, 4))
            rows.append((alone, *one, *four))
    alone, one_host, one_here, one_batch, four_host, four_here, four_batch = (
        statistics.median(column) for column in zip(*rows, strict=True)
    )
    milliseconds = 1000.0
    print(f"\n{SIZE}x{SIZE}, CPU milliseconds a frame, medians of {RUNS} runs")
    print(f"model called directly      {alone * milliseconds:6.2f}")
    print(f"host, one conversation     {one_host * milliseconds:6.2f}  + {one_here * milliseconds:.2f} in the client")
    print(f"host, four conversations   {four_host * milliseconds:6.2f}  + {four_here * milliseconds:.2f} in the client")
    print(f"frames in a call           {one_batch:6.2f}  alone, {four_batch:.2f} with four conversations")
    print(f"the host's share           {(one_host + one_here - alone) * milliseconds:6.2f}")
    print(f"gain of batches            {one_host / four_host:6.2f}x frames for the CPU second")
