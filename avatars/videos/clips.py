"""Renders a clip of a face that speaks, in a child process that is bounded in time and ended when nobody wants it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings

from avatars.engines import ENGINES
from avatars.engines.base import Face
from avatars.engines.config import engine_config
from avatars.videos.children import child_environment
from molts.errors import BadInput, Unavailable

RENDER_SECONDS = 300.0  # a new face is prepared within it, on a slow machine that is busy
DROPPED = "Another preview was asked for."


def render_clip(
    *,
    engine: str,
    face: Face,
    speech: bytes,
    folder: Path,
    sound: bool = True,
    tell: Callable[[str, float], None] = lambda stage, done: None,
    dropped: threading.Event | None = None,
    seconds: float = RENDER_SECONDS,
) -> tuple[bytes, str]:
    """(bytes, media type) of the face saying `speech` (a WAV file), rendered in a child process.

    Raises BadInput for a face that cannot be used (with `attr`), and Unavailable with the engine's reason, or when it
    is not done within `seconds` or is `dropped`.
    """
    wav, output = folder / "speech.wav", folder / "clip"
    wav.write_bytes(speech)
    config = engine_config()
    request = {
        "engine": ENGINES[engine],
        "face_key": face.key,
        "portrait": str(face.portrait) if face.portrait else "",
        "options": face.options,
        "speech": str(wav),
        "output": str(output),
        "cache": str(settings.MOLTS_DATA_DIR / "faces"),
        "config": {**asdict(config), "run_dir": str(config.run_dir), "addresses": dict(config.addresses)},
        "sound": sound,
    }
    last = _watch(request, tell, dropped or threading.Event(), seconds)
    if "type" in last:
        return output.read_bytes(), str(last["type"])
    if last.get("attr"):
        raise BadInput(str(last["error"]), attr=str(last["attr"]))
    raise Unavailable(str(last.get("error") or "The engine stopped before the clip was done."))


def _watch(
    request: Mapping[str, Any], tell: Callable[[str, float], None], dropped: threading.Event, seconds: float
) -> dict[str, Any]:
    """The child's last line. It is ended when it takes too long or is wanted no more."""
    child = subprocess.Popen(
        [sys.executable, "-m", "avatars.engines.clip"],
        cwd=settings.BASE_DIR,
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # a signal to the worker is not the child's; it is ended below
    )
    assert child.stdin is not None
    assert child.stdout is not None
    over = threading.Event()
    watcher = threading.Thread(target=_end_in_time, args=(child, dropped, over, seconds), daemon=True)
    watcher.start()
    last: dict[str, Any] = {}
    try:
        with suppress(BrokenPipeError), child.stdin as given:
            given.write(json.dumps(request))
        for line in child.stdout:
            last = json.loads(line)
            if "stage" in last:
                tell(last["stage"], last["progress"])
        child.wait(timeout=5)
    finally:
        over.set()
        if child.poll() is None:
            child.kill()
            child.wait(timeout=5)
        child.stdout.close()
        watcher.join(timeout=5)
    if child.returncode and "error" not in last:
        if dropped.is_set():
            return {"error": DROPPED}
        return {"error": f"The preview was not done within {seconds:.0f} s, or its engine crashed."}
    return last


def _end_in_time(child: subprocess.Popen[str], dropped: threading.Event, over: threading.Event, seconds: float) -> None:
    waited = 0.0
    while not over.wait(0.2):
        waited += 0.2
        if dropped.is_set() or waited > seconds:
            child.kill()
            return
