"""`manage.py check_conversation`: does this installation hold a conversation?"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from molts import beats
from molts.errors import MoltsError, Unavailable
from sessions.selfcheck import check_conversation


class Command(BaseCommand):
    help = "Start a conversation, join it as a visitor would, and wait until the agent's greeting is heard."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seconds", type=float, default=20.0, help="how long to wait for the greeting")
        parser.add_argument(
            "--wait", type=float, default=0.0, help="how long to wait for an agent worker first (0: not at all)"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["wait"]:
                wait_for_worker(options["wait"])
            result = check_conversation(seconds=options["seconds"])
        except MoltsError as error:
            raise CommandError(error.detail) from error
        if options["json"]:
            self.stdout.write(
                json.dumps({"agent": result.agent_name, "joined_s": result.joined, "heard_s": result.heard})
            )
            return
        self.stdout.write(
            f"{result.agent_name} joined after {result.joined:.1f} s and was heard after {result.heard:.1f} s."
        )


def wait_for_worker(seconds: float) -> None:
    """Returns once an agent worker beats. Everything is loaded by then, so the check begins without delay."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if beats.workers():
                return
        except Unavailable:
            pass  # Redis restarts: it counts as nobody there yet
        if time.monotonic() > deadline:
            raise Unavailable(f"No agent worker came within {seconds:.0f} s.")
        time.sleep(0.1)
