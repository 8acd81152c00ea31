"""Engine hosts for tests: each model's adapter in a process of its own, on a stand-in with the real interface."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from avatars.engines.adapters.molts_engine_adapter import protocol
from avatars.engines.host.launch import PACKAGE_DIR

STANDINS = Path(__file__).resolve().parents[2] / "fixtures" / "engines"
START_SECONDS = 30.0


@dataclass
class HostProcess:
    """A running host. `supervisor` keeps it running when it was started with one."""

    address: str
    process: subprocess.Popen[bytes]
    secret: str = ""

    def health(self) -> dict[str, Any]:
        return protocol.ask_health(self.address, secret=self.secret)

    def kill(self) -> None:
        """kill -9 the process that serves, not its supervisor."""
        os.kill(self.health()["pid"], signal.SIGKILL)

    def wait_ready(self, *, not_pid: int = 0) -> dict[str, Any]:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                state = self.health()
                if not state["loading"] and state["pid"] != not_pid:
                    return state
            assert self.process.poll() is None, "the host ended"
            time.sleep(0.02)
        raise AssertionError("the host did not start")


@contextlib.contextmanager
def running(
    folder: Path,
    model: str,
    *words: str,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    name: str = "host",
    address: str = "",
    package: str = "molts_engine_adapter",
) -> Iterator[HostProcess]:
    """`python -m molts_engine_adapter MODEL WORDS` until the block ends."""
    address = address or f"unix:{folder / name}.sock"
    secret = (env or {}).get("MOLTS_ENGINE_SECRET", "")
    paths = [str(PACKAGE_DIR), str(STANDINS / "common"), str(STANDINS)]
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", package, model, "--listen", address, *words],
            cwd=cwd or folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    host = HostProcess(address, process, secret)
    try:
        host.wait_ready()
        yield host
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def wav2lip_graph(path: Path, *, size: int = 96, output_size: int | None = None, batch: int | str = "n") -> Path:
    """An ONNX graph with Wav2Lip's inputs and output: the face made is as bright as the middle of the sound is loud."""
    output_size = output_size or size
    sound = helper.make_tensor_value_info("mel_spectrogram", TensorProto.FLOAT, [batch, 1, 80, 16])
    face = helper.make_tensor_value_info("video_frames", TensorProto.FLOAT, [batch, 6, size, size])
    output = helper.make_tensor_value_info("predicted_frames", TensorProto.FLOAT, [batch, 3, "h", "w"])
    constants: dict[str, Any] = {
        "four": np.array(4, np.float32),
        "eighth": np.array(1 / 8, np.float32),
        "zero": np.array(0, np.float32),
        "starts": np.array([0, 0, 0], np.int64),
        "ends": np.array([3, output_size, output_size], np.int64),
        "face_axes": np.array([1, 2, 3], np.int64),
        "sound_start": np.array([0], np.int64),
        "sound_end": np.array([4], np.int64),
        "sound_axis": np.array([3], np.int64),
    }
    nodes = [
        helper.make_node("Slice", ["mel_spectrogram", "sound_start", "sound_end", "sound_axis"], ["now"]),
        helper.make_node("ReduceMean", ["now"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Add", ["mean", "four"], ["above"]),
        helper.make_node("Mul", ["above", "eighth"], ["loudness"]),
        helper.make_node("Slice", ["video_frames", "starts", "ends", "face_axes"], ["part"]),
        helper.make_node("Mul", ["part", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "loudness"], ["predicted_frames"]),
    ]
    initializers = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "wav2lip", [sound, face], [output], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def lay_out(model: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """What the stand-in of `model` expects to find on the disk. Returns its working folder and its environment."""
    cwd, env = folder, {"PYTHONPATH": ""}
    source = STANDINS / model
    paths = [str(PACKAGE_DIR), str(STANDINS / "common"), str(source)]
    if model == "wav2lip":
        env["MOLTS_WAV2LIP_MODEL"] = str(wav2lip_graph(folder / "wav2lip.onnx"))
        env["MOLTS_WAV2LIP_THREADS"] = "1"
    elif model == "synctalk":
        for name in ("May", "Tom"):
            (folder / "data" / name).mkdir(parents=True)
            (folder / "data" / name / "transforms_train.json").write_text("{}")
            (folder / "model" / f"trial_{name.lower()}").mkdir(parents=True)
        env |= {"SYNCTALK_DATA_PATH": "data/May", "SYNCTALK_WORKSPACE": "model/trial_may", "AVATAR_WIDTH": "128"}
        env |= {"AVATAR_HEIGHT": "128", "AVATAR_FPS": "25", "SYNCTALK_PORTRAIT": "true", "SYNCTALK_TORSO": "false"}
    elif model == "synctalk_2d":
        (folder / "model" / "checkpoints").mkdir(parents=True)
        (folder / "model" / "checkpoints" / "audio_visual_encoder.pth").write_bytes(pickle.dumps({"0.weight": 0}))
        for name, fault in (("May", ""), ("Shape", "shape"), ("Raise", "raise")):
            for part in ("full_body_img", "landmarks"):
                (folder / "dataset" / name / part).mkdir(parents=True)
            (folder / "checkpoint" / name).mkdir(parents=True)
            weights = pickle.dumps({"fault": fault})
            (folder / "checkpoint" / name / "9.pth").write_bytes(pickle.dumps({"fault": "old"}))
            (folder / "checkpoint" / name / "10.pth").write_bytes(weights)
            marks = np.zeros((110, 2), int)
            marks[1], marks[31], marks[52] = (64, 100), (192, 100), (128, 64)
            for number in range(3):
                picture = np.full((256, 256, 3), 60, np.uint8)
                cv2.imwrite(str(folder / "dataset" / name / "full_body_img" / f"{number}.jpg"), picture)
                np.savetxt(folder / "dataset" / name / "landmarks" / f"{number}.lms", marks, fmt="%d")
    elif model == "ditto":
        (folder / "cfg.pkl").write_bytes(b"")
        (folder / "trt").mkdir()
        env |= {"DITTO_CFG_PKL": "cfg.pkl", "DITTO_DATA_ROOT": "trt"}
    elif model == "musetalk":
        (folder / "unet.pth").write_bytes(b"")
        (folder / "whisper").mkdir()
        env |= {"MUSETALK_UNET": "unet.pth", "MUSETALK_WHISPER": "whisper", "MUSETALK_AVATAR": "anna"}
        env |= {"MUSETALK_VIDEO": "anna.mp4"}
    elif model == "sadtalker":
        (folder / "checkpoints").mkdir()
    env["PYTHONPATH"] = os.pathsep.join(paths)
    return cwd, env


def speech(levels: list[float], *, rate: int = 16_000, seconds: float = 0.2) -> NDArray[np.int16]:
    """Noise of the given loudness (root mean square), `seconds` for each."""
    noise = np.random.default_rng(7).normal(0, 1, (len(levels), round(rate * seconds))).clip(-3, 3)
    return (np.concatenate([part * level for part, level in zip(noise, levels, strict=True)]) * 32767).astype(np.int16)


def fault(level: float, *, seconds: float = 0.4) -> NDArray[np.int16]:
    """What makes a stand-in crash, raise, wait or give a wrong shape: see standins/common/faults.py."""
    return np.full(round(16_000 * seconds), round(level * 32767), np.int16)
