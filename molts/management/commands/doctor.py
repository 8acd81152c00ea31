"""`manage.py doctor`: is every part well, and if not, what to do."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from molts.doctor import Row, examine
from molts.doctor_checks.findings import Level

COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "red"}


class Command(BaseCommand):
    help = "Check every part and say how to mend what is wrong. Exit status 1 when something required fails."
    requires_system_checks = ()  # it must be able to speak when everything is broken

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = examine()
        well = all(row.level != Level.FAILED for row in rows)
        if options["json"]:
            self.stdout.write(json.dumps({"ok": well, "checks": [row.as_dict() for row in rows]}, indent=2))
        elif self.stdout.isatty():
            show_table(rows)
        else:
            self.stdout.write(as_text(rows))
        if not well:
            sys.exit(1)


def as_text(rows: list[Row]) -> str:
    """One line a row, for files and pipes."""
    lines = []
    for row in rows:
        lines.append(f"{row.level.value:<8} {row.name + ':':<15} {row.text}")
        if row.fix:
            lines.append(f"{'':<8} {'':<15} -> {row.fix}")
    return "\n".join(lines)


def show_table(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    for heading in ("", "part", "what was seen", "what to do"):
        table.add_column(heading)
    for row in rows:
        # Text objects: square brackets in a path or an error are not markup.
        table.add_row(Text(row.level.value, style=COLOURS[row.level]), Text(row.name), Text(row.text), Text(row.fix))
    Console().print(table)
