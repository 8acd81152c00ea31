"""`manage.py fetch_models`: brings the speech models of this installation onto this machine.

`manage.py up` runs it in the background; run it by hand to prepare a machine that will have no network.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from molts.errors import MoltsError
from projects.providers import PROVIDERS, get_provider
from projects.providers.base import Weights

REPORT_EVERY_SECONDS = 1.0


class Command(BaseCommand):
    help = "Fetch the speech models that are chosen and not here yet. What was broken off goes on where it was."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object a line, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        report = Report(self.stdout.write, as_json=options["json"])
        say_terms(report, may_ask=not options["json"])
        wanted = missing_models()
        if not wanted:
            report.done("speech", "every chosen model is here")
        results = [fetch(name, download, report) for name, download in wanted.items()]
        if not all(results):
            sys.exit(1)


def say_terms(report: Report, *, may_ask: bool) -> None:
    """The terms before anything is fetched under them; without a yes, how to see and accept them."""
    for weights in _missing():
        if not weights.terms:
            continue
        accepted = weights.ask() if may_ask and weights.ask else weights.accepted
        refused = "not fetched. `manage.py fetch_models` on a terminal shows its terms and asks"
        report.note(weights.name, weights.terms if accepted else refused)


Download = Callable[[Callable[[int, int], None]], object]


def missing_models() -> dict[str, Download]:
    """What is chosen and not on this machine: a name for people, and the function that fetches it."""
    return {weights.name: weights.fetch for weights in _missing() if weights.accepted}


def _missing() -> list[Weights]:
    return [weights for key in PROVIDERS if (weights := get_provider(key).missing_weights())]


def fetch(name: str, download: Download, report: Report) -> bool:
    try:
        download(lambda done, total: report.progress(name, done, total))
    except MoltsError as error:
        report.failed(name, error.detail)
        return False
    except KeyboardInterrupt:
        report.failed(name, "broken off. Start again to go on there.")
        sys.exit(1)
    report.done(name, "fetched")
    return True


class Report:
    """Progress at most once a second, for people or for programs."""

    def __init__(self, write: Callable[[str], object], *, as_json: bool) -> None:
        self._write = write
        self._as_json = as_json
        self._last = 0.0

    def progress(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last < REPORT_EVERY_SECONDS:
            return
        self._last = now
        self._say(name, "progress", progress_bar(done, total), done=done, total=total)

    def note(self, name: str, text: str) -> None:
        self._say(name, "note", text)

    def done(self, name: str, text: str) -> None:
        self._say(name, "done", text)

    def failed(self, name: str, text: str) -> None:
        self._say(name, "failed", text)

    def _say(self, name: str, state: str, text: str, **numbers: int) -> None:
        line = (
            json.dumps({"name": name, "state": state, "text": text, **numbers}) if self._as_json else f"{name}: {text}"
        )
        self._write(line)
        sys.stdout.flush()


def progress_bar(done: int, total: int) -> str:
    """`[######..............]  31 % of 145 MB`"""
    share = min(1.0, done / total) if total else 0.0
    filled = round(share * 20)
    return f"[{'#' * filled}{'.' * (20 - filled)}] {share * 100:3.0f} % of {total / 1e6:.0f} MB"
