"""Clips of a face: what the child process makes, and how it is bounded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from avatars.videos.clips import render_clip
from molts.errors import BadInput, Unavailable
from tests.avatars.videos.stand_ins import FACE, probe, tone

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


def test_a_clip_has_picture_and_sound_of_the_same_length(engine: Callable[[str], None], tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []

    clip, media_type = render_clip(
        engine="puppet", face=FACE, speech=tone(1.2), folder=tmp_path, tell=lambda *news: told.append(news)
    )

    streams = probe(clip, tmp_path)
    assert media_type in ("video/mp4", "video/webm")
    assert (streams["video"]["width"], streams["video"]["height"]) == (512, 512)
    assert float(streams["video"]["duration"]) == pytest.approx(0.6 + 1.2 + 1.0, abs=0.2)
    assert float(streams["audio"]["duration"]) == pytest.approx(0.6 + 1.2, abs=0.2), "silence until it speaks"
    assert {"Preparing the face", "Rendering"} == {stage for stage, _ in told}
    assert told[-1][1] == pytest.approx(1, abs=0.05)


def test_what_is_wrong_with_the_face_is_told_with_its_field(engine: Callable[[str], None], tmp_path: Path) -> None:
    engine("Faceless")

    with pytest.raises(BadInput, match="No face was found") as caught:
        render_clip(engine="puppet", face=FACE, speech=tone(), folder=tmp_path)

    assert caught.value.attr == "portrait"


def test_an_engine_that_crashes_takes_nothing_with_it(engine: Callable[[str], None], tmp_path: Path) -> None:
    engine("Crashing")

    with pytest.raises(Unavailable, match="crashed"):
        render_clip(engine="puppet", face=FACE, speech=tone(), folder=tmp_path)


def test_an_engine_that_never_ends_is_ended(engine: Callable[[str], None], tmp_path: Path) -> None:
    engine("Endless")
    started = time.monotonic()

    with pytest.raises(Unavailable, match="within 2 s"):
        render_clip(engine="puppet", face=FACE, speech=tone(), folder=tmp_path, seconds=2)

    assert time.monotonic() - started < 30


def test_a_clip_that_nobody_wants_any_more_is_ended(engine: Callable[[str], None], tmp_path: Path) -> None:
    engine("Endless")
    dropped = threading.Event()
    threading.Timer(1, dropped.set).start()

    with pytest.raises(Unavailable, match="Another preview"):
        render_clip(engine="puppet", face=FACE, speech=tone(), folder=tmp_path, dropped=dropped)


ASK = """
import sys, django
django.setup()
from pathlib import Path
from avatars.engines import ENGINES
from avatars.videos.clips import render_clip
from tests.avatars.stand_in import HERE
from tests.avatars.videos.stand_ins import FACE, tone
ENGINES["puppet"] = f"{HERE}.Endless"
render_clip(engine="puppet", face=FACE, speech=tone(), folder=Path(sys.argv[1]))
"""


def test_a_clip_is_ended_with_the_worker_that_wanted_it(tmp_path: Path) -> None:
    """Also when the worker is killed, and can end nothing."""
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "molts.settings", "MOLTS_DATA_DIR": str(tmp_path)}
    worker = subprocess.Popen([sys.executable, "-c", ASK, str(tmp_path)], cwd=ROOT, env=env)
    try:
        while not (clips := psutil.Process(worker.pid).children()):
            time.sleep(0.05)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)

    gone, _ = psutil.wait_procs(clips, timeout=60)

    assert gone == clips
