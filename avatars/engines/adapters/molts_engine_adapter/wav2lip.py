"""Wav2Lip on ONNX Runtime (CPU or CUDA): frames of all conversations in one call.

Facts of the model (K R Prajwal et al., 2020): two inputs, the sound as (n, 1, 80, 16) and two pictures of the face
stacked as (n, 6, 96, 96), BGR, 0 to 1: first with its lower half black, then whole; one output, (n, 3, 96, 96). Some
exports are larger than 96 or fixed to n = 1; both are read from the graph.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .mel import BANDS, PER_SECOND, STEP, StreamingMel
from .model import SAMPLE_RATE, Face, Model, ModelError, Session, Video
from .pictures import crop_to_fit, decode

SIZE = 96
FEATHER = 0.12  # of the box: how softly the new face goes over into the portrait
GET = (
    "Get the Wav2Lip weights from their authors (for research and personal use only), export them to ONNX with the "
    "inputs (n, 1, 80, 16) and (n, 6, 96, 96), and set MOLTS_WAV2LIP_MODEL to the file."
)


class Wav2Lip(Model):
    """Settings: `model`, the ONNX file or a folder of them; `threads`, 0 for ONNX Runtime's own choice."""

    name = "wav2lip"
    label = "Wav2Lip"
    pixels = "i420"
    lookahead = STEP / PER_SECOND + 0.05
    batch = 16
    jobs_at_once = 2
    environment = {"model": "MOLTS_WAV2LIP_MODEL", "threads": "MOLTS_WAV2LIP_THREADS"}

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._run: Any = None
        self._sound_input = self._face_input = ""
        self.size = SIZE
        self._single = False

    def load(self) -> None:
        path = find_model(self.settings.get("model", ""))
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError(
                "ONNX Runtime is missing: pip install onnxruntime (or onnxruntime-gpu).", "missing"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(self.settings.get("threads") or 0)
        options.log_severity_level = 3
        here = onnxruntime.get_available_providers()
        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in here]
        try:
            session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:
            raise ModelError(f"{path} is no ONNX model that can be loaded: {str(error)[:200]}", "missing") from error
        for given in session.get_inputs():
            shape = given.shape
            if len(shape) == 4 and shape[1] == 6:
                self._face_input = given.name
                self.size = shape[2] if isinstance(shape[2], int) else SIZE
                self._single = shape[0] == 1
            elif len(shape) == 4 and shape[2] == BANDS and shape[3] == STEP:
                self._sound_input = given.name
        if not self._face_input or not self._sound_input:
            shapes = ", ".join(f"{given.name} {given.shape}" for given in session.get_inputs())
            raise ModelError(f"{path} is no Wav2Lip: its inputs are {shapes}.", "missing")
        self._run = session.run

    def open(self, face: Face, video: Video) -> Session:
        return Wav2LipSession(face, video, self.size)

    def render(self, jobs: Sequence[tuple[Session, Any]]) -> list[Sequence[Any]]:
        speakers: list[Any] = [session for session, _ in jobs]
        sound = np.stack([window for _, window in jobs])[:, None]
        faces = np.stack([speaker.input for speaker in speakers])
        return [[speaker.paste(face)] for speaker, face in zip(speakers, self.infer(sound, faces))]

    def infer(self, sound: Any, faces: Any) -> Any:
        """(n, 1, 80, 16) and (n, 6, size, size), float32 -> (n, size, size, 3), uint8, BGR."""
        parts = [slice(n, n + 1) for n in range(len(faces))] if self._single else [slice(None)]
        made = [self._run(None, {self._sound_input: sound[part], self._face_input: faces[part]})[0] for part in parts]
        output = np.concatenate(made)
        if output.shape != (len(faces), 3, self.size, self.size):
            raise ModelError(f"Wav2Lip's graph gave {output.shape}; expected {(len(faces), 3, self.size, self.size)}.")
        if not np.isfinite(output).all():
            raise ModelError("Wav2Lip's graph gave values that are no numbers.")
        return (np.clip(output, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)

    def measure(self) -> float:
        sound = np.full((self.batch, 1, BANDS, STEP), -4, np.float32)
        faces = np.zeros((self.batch, 6, self.size, self.size), np.float32)
        self.infer(sound, faces)
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < 1.0:
            self.infer(sound, faces)
            count += self.batch
        return count / (time.perf_counter() - started)


class Wav2LipSession(Session):
    """One portrait that speaks: its base picture in I420, and where the face is pasted into it."""

    def __init__(self, face: Face, video: Video, size: int) -> None:
        import cv2

        self._cv2 = cv2
        portrait = decode(face.portrait)
        box = face.options.get("box")
        if not isinstance(box, (list, tuple)) or len(box) != 4:
            raise ModelError(
                "Wav2Lip needs to know where the face is: options.box, four numbers from 0 to 1.", "bad_face"
            )
        picture, edges = place(portrait, [float(side) for side in box], video)
        left, top, right, bottom = edges
        self._rows, self._columns = slice(top, bottom), slice(left, right)
        self._base = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
        self._under = cv2.cvtColor(picture[self._rows, self._columns], cv2.COLOR_RGB2BGR).astype(np.float32)
        small = cv2.resize(self._under, (size, size), interpolation=cv2.INTER_AREA) / 255
        hidden = small.copy()
        hidden[size // 2 :] = 0
        self.input = np.concatenate([hidden, small], axis=2).transpose(2, 0, 1).astype(np.float32)
        self._mask = soft_mask(bottom - top, right - left)
        self._fps = video.fps
        self.idle = [self._base]
        self.reset()

    def reset(self) -> None:
        self._mel = StreamingMel()
        self._samples = 0
        self._next = 0
        self._finished = False

    def push(self, samples: Any) -> None:
        self._samples += len(samples)
        self._mel.push(samples)

    def finish(self) -> None:
        self._finished = True
        self._mel.finish()

    def next_job(self) -> Any:
        start = int(self._next * PER_SECOND / self._fps)
        if self._finished:
            if self._next >= self._samples * self._fps / SAMPLE_RATE:
                return None
        elif start + STEP > len(self._mel.frames):
            return None
        self._next += 1
        return self._mel.window(start)

    def paste(self, face: Any) -> Any:
        """The portrait, in I420, with `face` (BGR) laid over its box. Only the box is converted."""
        cv2 = self._cv2
        height, width = self._under.shape[:2]
        new = cv2.resize(face, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        blended = (self._under + (new - self._under) * self._mask).astype(np.uint8)
        part = cv2.cvtColor(blended, cv2.COLOR_BGR2YUV_I420)
        frame = self._base.copy()
        put_i420(frame, part, self._columns.start, self._rows.start)
        return frame


def find_model(setting: str) -> str:
    """The ONNX file that `setting` names; in a folder the first by name. Raises ModelError that says how to get one."""
    if not setting:
        raise ModelError("Wav2Lip has no weights. " + GET, "missing")
    path = os.path.expanduser(setting)
    if os.path.isdir(path):
        inside = sorted(name for name in os.listdir(path) if name.endswith(".onnx"))
        if not inside:
            raise ModelError(f"There is no .onnx file in {path}. {GET}", "missing")
        path = os.path.join(path, inside[0])
    if not os.path.isfile(path):
        raise ModelError(f"There is no file {path}. {GET}", "missing")
    return path


def place(portrait: Any, box: Sequence[float], video: Video) -> tuple[Any, tuple[int, int, int, int]]:
    """The portrait as the video shows it, and the face in it as (left, top, right, bottom), even numbers. `box` is
    left, top, right, bottom as shares of the whole portrait. Raises ModelError."""
    import cv2

    height, width = portrait.shape[:2]
    left, top, right, bottom = crop_to_fit(width, height, video.width, video.height)
    scale_x, scale_y = video.width / (right - left), video.height / (bottom - top)
    edges = [
        (box[0] * width - left) * scale_x,
        (box[1] * height - top) * scale_y,
        (box[2] * width - left) * scale_x,
        (box[3] * height - top) * scale_y,
    ]
    low = [max(0, int(edge) // 2 * 2) for edge in edges[:2]]
    high = [min(most, (int(edge) + 1) // 2 * 2) for edge, most in zip(edges[2:], (video.width, video.height))]
    if high[0] - low[0] < 16 or high[1] - low[1] < 16:
        raise ModelError("The face is too small, or outside what the video shows of the portrait.", "bad_face")
    picture = cv2.resize(portrait[top:bottom, left:right], (video.width, video.height), interpolation=cv2.INTER_AREA)
    return picture, (low[0], low[1], high[0], high[1])


def soft_mask(height: int, width: int) -> Any:
    """(height, width, 1), 0 to 1: whole in the middle, soft at the sides, and from the eyes down only. The model gives
    the upper half back as it was, at less sharpness."""
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(0, 1, width, dtype=np.float32)[None, :]
    sides = np.minimum(columns, 1 - columns) / FEATHER
    below = np.minimum((rows - 0.42) / FEATHER, (1 - rows) / FEATHER)
    mask = np.clip(sides, 0, 1) * np.clip(below, 0, 1)
    smooth: Any = (mask * mask * (3 - 2 * mask))[:, :, None]
    return smooth


def put_i420(frame: Any, part: Any, left: int, top: int) -> None:
    """Copy the I420 picture `part` into the I420 picture `frame` at an even place."""
    for big, small, at_x, at_y in zip(
        planes(frame), planes(part), (left, left // 2, left // 2), (top, top // 2, top // 2)
    ):
        big[at_y : at_y + small.shape[0], at_x : at_x + small.shape[1]] = small


def planes(picture: Any) -> tuple[Any, Any, Any]:
    """Views of Y, U and V of an I420 picture (height * 3 / 2, width)."""
    height, width = picture.shape[0] * 2 // 3, picture.shape[1]
    flat = picture.reshape(-1)
    luma, chroma = height * width, height * width // 4
    return (
        flat[:luma].reshape(height, width),
        flat[luma : luma + chroma].reshape(height // 2, width // 2),
        flat[luma + chroma :].reshape(height // 2, width // 2),
    )
