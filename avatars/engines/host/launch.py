"""Starts the engine host of this machine when it is first needed. One supervisor for each address holds a lock, so it
does not matter how many processes ask at once; it ends by itself when nobody was there for a while."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avatars.engines.adapters.molts_engine_adapter import protocol, supervise
from avatars.engines.base import EngineFailed, EngineHealth
from avatars.engines.config import engine_config
from molts.errors import BadConfiguration

PACKAGE_DIR = Path(__file__).resolve().parent.parent / "adapters"
START_SECONDS = 60.0
AGAIN_SECONDS = 5.0  # a host that crashed is waited for no longer
SPAWN_SECONDS = 1.0
IDLE_SECONDS = 180.0
LONGEST_SOCKET = 100  # the kernel's limit for a socket's path is 108 bytes

_started: list[subprocess.Popen[bytes]] = []


def socket_path(name: str) -> Path:
    """Where the host `name` of this installation listens; made shorter where the data folder is too deep for it."""
    path = engine_config().run_dir / f"{name}.sock"
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        digest = hashlib.sha256(os.fsencode(path.parent)).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"molts-{os.getuid()}-{digest}" / f"{name}.sock"
    return path


def make_private(folder: Path) -> None:
    """Raises BadConfiguration when the folder is not ours alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = folder.stat()
    if state.st_uid != os.getuid() or state.st_mode & 0o022:
        raise BadConfiguration(f"{folder} can be written by others: engines keep their sockets there. Remove it.")


def address_of(key: str) -> str:
    """Where the host of engine `key` is: what the operator said, else its socket in the data folder."""
    return engine_config().addresses.get(key) or f"unix:{socket_path(key)}"


def ask(key: str, *, seconds: float = 1.0) -> dict[str, Any] | None:
    """The health of the host of engine `key`; None when nobody answers. Raises EngineFailed for a stranger there."""
    try:
        return protocol.ask_health(address_of(key), secret=engine_config().secret, seconds=seconds)
    except protocol.EngineProtocolError as error:
        raise EngineFailed(f"{address_of(key)}: {error}.") from error
    except (OSError, ValueError):
        return None


def as_health(state: Mapping[str, Any]) -> EngineHealth:
    slots = state.get("slots")
    return EngineHealth(
        ready=bool(state.get("ready")),
        text=str(state.get("text", "")),
        fix="Try again in a moment." if state.get("loading") else "",
        slots=slots if isinstance(slots, int) else None,
    )


def mark_of(settings: Mapping[str, str]) -> str:
    """Another one for other settings, and for another file, or folder of files, that one of them names."""
    stamps: list[Any] = []
    for name, value in sorted(settings.items()):
        stamps.append((name, value))
        path = Path(value).expanduser()
        if value:
            with contextlib.suppress(OSError):
                files = sorted(path.iterdir()) if path.is_dir() else [path]
                stamps += [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    return hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]


def trouble(key: str, settings: Mapping[str, str], state: Mapping[str, Any] | None) -> str:
    """Why the host of engine `key`, of this health, will not serve as it is; "" when it may. What happened with other
    settings or files is no trouble any more."""
    if state is not None:
        return str(state.get("text")) if state.get("code") and state.get("mark") == mark_of(settings) else ""
    crash = supervise.last_crash(address_of(key))
    if crash is None or crash.again_in < AGAIN_SECONDS or crash.mark != mark_of(settings):
        return ""
    log = socket_path(key).with_suffix(".log")
    return f"{crash.text}; it is tried again in {crash.again_in:.0f} s. {log} says why"


def start(key: str, settings: Mapping[str, str]) -> None:
    """Start the host of engine `key` unless it runs, and wait until its model is loaded. Blocking.

    One that failed is left alone until its own time has come, or a setting or file is another.

    Raises EngineFailed when that takes longer than START_SECONDS, or the model cannot be loaded.
    """
    deadline = time.monotonic() + START_SECONDS
    spawned: subprocess.Popen[bytes] | None = None
    spawn_at = 0.0
    while time.monotonic() < deadline:
        state = ask(key)
        if why := trouble(key, settings, state):
            raise EngineFailed(why if why.endswith(".") else f"{why}.")
        if state is not None and state.get("code"):
            _end(state.get("pid"))
        elif state is not None and not state.get("loading"):
            return
        elif state is None and (spawned is None or spawned.poll() is not None) and time.monotonic() >= spawn_at:
            crash = supervise.last_crash(address_of(key))
            if crash is not None and crash.mark != mark_of(settings):
                _end(crash.pid)
            spawned, spawn_at = _spawn(key, settings), time.monotonic() + SPAWN_SECONDS
        time.sleep(0.1)
    raise EngineFailed(f"The engine host of {key} did not start within {START_SECONDS:.0f} s; its log says why.")


def _end(pid: Any) -> None:
    """End a host that was started for what is no more; its supervisor ends with it."""
    if isinstance(pid, int) and pid > 1:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)


def _spawn(key: str, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    path = socket_path(key)
    make_private(path.parent)
    words = [sys.executable, "-m", "molts_engine_adapter", key, "--listen", f"unix:{path}"]
    words += ["--idle-seconds", str(IDLE_SECONDS), "--mark", mark_of(settings)]
    for name, value in settings.items():
        words += ["--set", f"{name}={value}"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE_DIR), os.environ.get("PYTHONPATH", "")])),
        "MOLTS_ENGINE_SECRET": engine_config().secret,
    }
    _started[:] = [process for process in _started if process.poll() is None]  # no zombies
    with open(path.with_suffix(".log"), "ab") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    _started.append(process)
    return process
