"""`python -m molts_engine_adapter MODEL --listen ADDRESS`: serve a model, and start it anew when it crashes."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
import threading
from typing import Any

from . import protocol, supervise
from .model import Model
from .server import Host

MODELS = {
    "wav2lip": "wav2lip.Wav2Lip",
    "synctalk": "synctalk.SyncTalk",
    "synctalk_2d": "synctalk_2d.SyncTalk2D",
    "ditto": "ditto.Ditto",
    "musetalk": "musetalk.MuseTalk",
    "sadtalker": "sadtalker.SadTalker",
}


def read_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="molts_engine_adapter", description=__doc__)
    parser.add_argument("model", help="one of {}, or a class of your own as module:Class".format(", ".join(MODELS)))
    parser.add_argument("--listen", required=True, metavar="ADDRESS", help="unix:/path/to/socket or host:port")
    parser.add_argument("--slots", type=int, default=0, help="conversations at once; default: measured at the start")
    parser.add_argument("--idle-seconds", type=float, default=0, help="end when nobody was there for so long")
    parser.add_argument("--parent", type=int, default=0, metavar="PID", help="end with this process")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the model")
    parser.add_argument("--mark", default="", help="told back in HEALTH; says what it was started with")
    parser.add_argument("--once", action="store_true", help="do not start it anew when it crashes")
    arguments = parser.parse_args(words)
    try:
        place = protocol.parse_address(arguments.listen)
    except ValueError as error:
        parser.error(str(error))
    beyond = not isinstance(place, str) and place[0] not in ("127.0.0.1", "localhost", "::1")
    if beyond and not os.environ.get("MOLTS_ENGINE_SECRET"):
        parser.error("set MOLTS_ENGINE_SECRET (the same for molts) to let other machines connect")
    if any("=" not in pair for pair in arguments.set):
        parser.error("--set takes NAME=VALUE")
    if arguments.model not in MODELS and ":" not in arguments.model:
        parser.error("unknown model {!r}: one of {}, or module:Class".format(arguments.model, ", ".join(MODELS)))
    return arguments


def make_model(name: str, settings: dict[str, str]) -> Model:
    """The model's class, given its settings: environment first, then what was --set."""
    if name in MODELS:
        module_name, class_name = MODELS[name].split(".")
        module = importlib.import_module("." + module_name, __package__)
    else:
        module_name, class_name = name.split(":", 1)
        module = importlib.import_module(module_name)
    kind: Any = getattr(module, class_name)
    values = dict(getattr(kind, "defaults", {}))
    for setting, variable in getattr(kind, "environment", {}).items():
        if os.environ.get(variable):
            values[setting] = os.environ[variable]
    values.update(settings)
    model: Model = kind(values)
    return model


async def serve(arguments: argparse.Namespace) -> None:
    model = make_model(arguments.model, dict(pair.split("=", 1) for pair in arguments.set))
    host = Host(
        model,
        slots=arguments.slots,
        idle_seconds=arguments.idle_seconds,
        secret=os.environ.get("MOLTS_ENGINE_SECRET", ""),
        mark=arguments.mark,
    )
    loop = asyncio.get_event_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, host.stop)
    if not arguments.once:  # the supervisor holds the other end
        threading.Thread(target=supervise.end_with_input, daemon=True).start()
    await host.run(arguments.listen)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    words = sys.argv[1:]
    arguments = read_arguments([word for word in words if word != supervise.CHILD])
    if arguments.once or supervise.CHILD in words:
        # The model's own folder comes first, as when its scripts are run; what it prints must not fail.
        sys.path.insert(0, os.getcwd())
        asyncio.run(serve(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # a model's threads keep nobody waiting
    return supervise.keep_running(words, arguments.listen, parent=arguments.parent, mark=arguments.mark)


if __name__ == "__main__":
    sys.exit(main())
