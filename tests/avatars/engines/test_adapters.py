"""The adapters run in environments that are not ours: what they may use, how they are started, and the spectrogram."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured

from avatars.engines.adapters.molts_engine_adapter import mel, pictures
from avatars.engines.adapters.molts_engine_adapter.model import ModelError
from avatars.engines.host.launch import PACKAGE_DIR
from molts.env import Env

FILES = sorted((PACKAGE_DIR / "molts_engine_adapter").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs_on_python_3_8_with_numpy_alone(path: Path) -> None:
    """Everything else is imported inside functions, by the model that brings it along."""
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    future = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    assert future or len(tree.body) == 1, "annotations are evaluated"
    for node in tree.body:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            assert top == "numpy" or top in sys.stdlib_module_names, f"{path.name}:{node.lineno} imports {name}"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["synctalk"], "--listen"),
        (["synctalk", "--listen", "somewhere"], "is no address"),
        (["synctalk", "--listen", "0.0.0.0:7411"], "set MOLTS_ENGINE_SECRET"),
        (["nonsense", "--listen", "unix:/tmp/x.sock"], "unknown model 'nonsense'"),
        (["synctalk", "--listen", "unix:/tmp/x.sock", "--set", "fps"], "--set takes NAME=VALUE"),
    ],
)
def test_a_wrong_command_line_is_named(words: list[str], text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "molts_engine_adapter", *words],
        env={"PYTHONPATH": str(PACKAGE_DIR)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert text in done.stderr


# -- The spectrogram ---------------------------------------------------------------------------------------------------
def by_definition(samples: np.ndarray) -> np.ndarray:
    """The same spectrogram, sample by sample as its definition reads: pre-emphasis, mirrored ends, a sum for each
    frequency, a triangle for each band."""
    emphasised = np.array([samples[n] - 0.97 * (samples[n - 1] if n else 0) for n in range(len(samples))])
    padded = np.concatenate([emphasised[400:0:-1], emphasised, emphasised[-2:-402:-1]])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 800)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(401), np.arange(800)) / 800)

    def to_mel(hertz: float) -> float:
        return hertz * 3 / 200 if hertz < 1000 else 15 + np.log(hertz / 1000) * 27 / np.log(6.4)

    def to_hertz(value: float) -> float:
        return value * 200 / 3 if value < 15 else 1000 * np.exp((value - 15) * np.log(6.4) / 27)

    edges = [to_hertz(value) for value in np.linspace(to_mel(55), to_mel(7600), 82)]
    triangles = np.zeros((80, 401))
    for band in range(80):
        low, middle, high = edges[band : band + 3]
        for n in range(401):
            hertz = n * 20
            height = min((hertz - low) / (middle - low), (high - hertz) / (high - middle))
            triangles[band, n] = max(0, height) * 2 / (high - low)
    spectra = []
    for start in range(0, len(padded) - 799, 200):
        loudness = triangles @ np.abs(turns @ (padded[start : start + 800] * window))
        spectra.append(np.clip(8 * (20 * np.log10(np.maximum(1e-5, loudness)) - 20 + 100) / 100 - 4, -4, 4))
    return np.array(spectra)


@pytest.mark.parametrize("piece", [160, 1000, 16_000])
def test_the_spectrogram_is_what_the_models_were_trained_on(piece: int) -> None:
    samples = np.random.default_rng(3).normal(0, 0.1, 5_000).astype(np.float32)
    stream = mel.StreamingMel()
    for start in range(0, len(samples), piece):
        stream.push(samples[start : start + piece])
    stream.finish()
    expected = by_definition(samples)
    assert stream.frames.shape == expected.shape
    assert np.abs(stream.frames - expected).max() < 1e-3


def test_silence_is_the_lowest_value() -> None:
    stream = mel.StreamingMel()
    stream.push(np.zeros(4000, np.float32))
    stream.finish()
    assert (stream.frames == mel.SILENCE).all()
    assert stream.window(0).shape == (80, 16)


@pytest.mark.parametrize("count", [1, 399, 400, 401, 3000])
def test_a_window_is_whole_however_short_the_sound(count: int) -> None:
    stream = mel.StreamingMel()
    stream.push(np.full(count, 0.1, np.float32))
    stream.finish()
    assert stream.window(0).shape == (80, 16)
    assert stream.window(1000).shape == (80, 16)
    assert np.isfinite(stream.window(0)).all()


# -- Pictures and settings ---------------------------------------------------------------------------------------------
def test_a_picture_is_cut_to_the_video_s_shape_not_squeezed() -> None:
    assert pictures.crop_to_fit(400, 200, 100, 100) == (100, 0, 300, 200)
    assert pictures.crop_to_fit(100, 400, 64, 64) == (0, 150, 100, 250)
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 200
    assert (pictures.fit(wide, 64, 64) == 200).all()


@pytest.mark.parametrize(
    "frame", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32), np.zeros((64, 64, 4), np.uint8), 7, None]
)
def test_what_is_no_frame_is_refused_by_its_shape(frame: object) -> None:
    with pytest.raises(ModelError, match="expected height x width x 3 of uint8"):
        pictures.check(frame, "Model")


def test_the_operator_s_addresses_are_read() -> None:
    env = Env({"A": "synctalk=unix:/run/s.sock, ditto=gpu-box:7411"})
    assert env.addresses("A") == {"synctalk": "unix:/run/s.sock", "ditto": "gpu-box:7411"}


@pytest.mark.parametrize("value", ["synctalk", "synctalk=/run/s.sock", "x=host", "x=host:0", "X Y=host:1"])
def test_an_address_that_is_none_stops_the_start(value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"A=.*expected pairs"):
        Env({"A": value}).addresses("A")
