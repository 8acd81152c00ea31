"""What tests of videos put in the place of engines, voices and workers."""

from __future__ import annotations

import io
import json
import subprocess
import uuid
import wave
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from django.db import connections

from avatars.engines.base import Face
from avatars.videos.models import VideoJob
from avatars.videos.runner import run_job

FACE = Face(key="round", options={})


def tone(seconds: float = 1.0, rate: int = 22_050) -> bytes:
    output = io.BytesIO()
    with wave.open(output, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        time = np.arange(int(seconds * rate)) / rate
        file.writeframes((8_000 * np.sin(2 * np.pi * 220 * time)).astype(np.int16).tobytes())
    return output.getvalue()


def probe(clip: bytes, folder: Path) -> dict[str, Any]:
    """Streams of a clip by their kind, as FFmpeg reads them."""
    file = folder / "probed"
    file.write_bytes(clip)
    command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(file)]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=20)
    return {stream["codec_type"]: stream for stream in json.loads(answer.stdout)["streams"]}


class Worker:
    """The queue and its one worker in this process: a job is made as soon as the one before is over."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._sent: list[Future[None]] = []

    def send(self, job_id: uuid.UUID) -> None:
        self._sent.append(self._pool.submit(self._run, job_id))

    def close(self) -> None:
        """Drop what is in the making and wait for its end. Raises what the worker has raised."""
        VideoJob.objects.update(state="cancelled")
        self._pool.shutdown()
        for each in self._sent:
            each.result()

    def _run(self, job_id: uuid.UUID) -> None:
        try:
            run_job(job_id=job_id, worker="test")
        finally:
            connections.close_all()
