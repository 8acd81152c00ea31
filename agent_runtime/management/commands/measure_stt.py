"""`manage.py measure_stt DIR`: how exact, costly and quick recognition is here, with different settings."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from molts.errors import MoltsError

if TYPE_CHECKING:
    from agent_runtime.speech.measure import Decode, WindowResult

NOTES = """\
* the default on a processor; on a GPU all windows are full.
Work is in seconds of decoding for a second of sound: sent as a file, and live with its partial words.
Lag is from the end of speech to its words, while nobody else speaks."""


class Command(BaseCommand):
    help = "Measure word error rate, real-time factor and lag of speech recognition on recordings of your own."
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, metavar="DIR", help="sound files, each with its text beside it (.txt)")
        parser.add_argument("--model", default="", help="name or folder; default: MOLTS_WHISPER_MODEL")
        parser.add_argument("--language", default="", help="language code; default: detect it")
        parser.add_argument("--limit", type=int, default=0, help="measure only the first so many recordings")
        parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        from agent_runtime.speech import measure

        try:
            recordings = measure.find_recordings(options["folder"], limit=options["limit"])
            name, decode = load_decoder(options["model"], options["language"])
            tell = self._progress if sys.stderr.isatty() else lambda done, total: None
            results = asyncio.run(measure.measure(recordings, decode, tell=tell))
        except MoltsError as error:
            raise CommandError(error.detail) from error
        if options["json"]:
            answer = {"model": name, "results": [result.as_json() for result in results]}
            self.stdout.write(json.dumps(answer, indent=2))
        else:
            self.stdout.write(self._report(name, len(recordings), results))

    def _progress(self, done: int, total: int) -> None:
        self.stderr.write(f"\r{done} of {total} recordings", ending="" if done < total else "\n")

    def _report(self, name: str, recordings: int, results: list[WindowResult]) -> str:
        from agent_runtime.speech.measure import as_table

        first = results[0]
        return (
            f"{name}: {recordings} recordings, {first.sound_seconds:.0f} s, {first.words} words\n\n"
            f"{as_table(results)}\n\n{NOTES}"
        )


def load_decoder(model: str, language: str) -> tuple[str, Decode]:
    """The engine's own decoding, one request at a time, warmed up."""
    from agent_runtime.speech.engine import Engine, Task, Window
    from agent_runtime.speech.languages import language_code
    from molts.errors import BadInput
    from projects.providers.faster_whisper.options import WhisperOptions, model_key

    code = language_code(language) if language else None
    if language and code is None:
        raise BadInput(f"Whisper does not know the language {language!r}; give a code such as en.")
    name, device, compute_type, threads = model_key(WhisperOptions(model=model))
    engine = Engine(device=device, compute_type=compute_type, threads=threads)
    loaded = asyncio.run(engine.load(name))
    label = f"{Path(loaded.name).name} ({loaded.device}, {loaded.compute_type})"
    return label, lambda samples, floor: loaded.decode([Task(samples, Window(floor), language=code)])[0]
