"""`manage.py speech_models [list|download NAME]`: the Whisper models there are, and fetching one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from molts.errors import MoltsError
from molts.management.commands.fetch_models import Report, fetch
from projects.providers.faster_whisper import weights
from projects.providers.faster_whisper.options import default_model

# Megabytes to fetch (and roughly to hold in memory as int8: half of it), from small to large.
SIZES = {
    "tiny": 75,
    "base": 145,
    "small": 484,
    "medium": 1530,
    "large-v3-turbo": 1620,
    "large-v3": 3090,
    "tiny.en": 75,
    "base.en": 145,
    "small.en": 484,
    "medium.en": 1530,
    "distil-small.en": 332,
    "distil-medium.en": 789,
    "distil-large-v3.5": 1510,
}


class Command(BaseCommand):
    help = "List the speech recognition models, or fetch one. What was broken off goes on where it was."
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="list | download NAME")
        listing = actions.add_parser("list", help="what there is and what is here (the default)")
        download = actions.add_parser("download", help="fetch a model into the data folder")
        download.add_argument("name", help="a name from the list, or a repository with a CTranslate2 Whisper model")
        for action in (listing, download):
            action.add_argument("--json", action="store_true", help="print JSON, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "download":
            self._download(options["name"], as_json=options["json"])
        elif options.get("json"):
            self.stdout.write(json.dumps(known_models(), indent=2))
        else:
            self._list()

    def _list(self) -> None:
        self.stdout.write(f"{'model':<18} {'size':>8}   here")
        for model in known_models():
            marks = ["in use"] if model["chosen"] else []
            marks += ["on the ladder"] if model["on_ladder"] else []
            size = f"{model['megabytes']} MB" if model["megabytes"] else ""
            here = "yes" if model["here"] else "no"
            self.stdout.write(f"{model['name']:<18} {size:>8}   {here:<4} {', '.join(marks)}".rstrip())
        self.stdout.write("\nFetch one: manage.py speech_models download NAME   Choose one: MOLTS_WHISPER_MODEL=NAME")

    def _download(self, name: str, *, as_json: bool) -> None:
        report = Report(self.stdout.write, as_json=as_json)
        try:
            found = weights.model_path(name)
            if found is None:
                weights.repository(name)
        except MoltsError as error:
            raise CommandError(error.detail) from error
        if found is not None:
            report.done(name, f"is here already, in {found}")
        elif not fetch(name, lambda progress: weights.download(name, progress), report):
            sys.exit(1)


def known_models() -> list[dict[str, Any]]:
    """Every model with a name, those in the data folder, and the chosen one; from small to large."""
    chosen = default_model()
    names = list(dict.fromkeys([*SIZES, *_fetched(), chosen]))
    return [
        {
            "name": name,
            "megabytes": SIZES.get(name),
            "here": weights.model_path(name) is not None,
            "chosen": name == chosen,
            "on_ladder": name in settings.MOLTS_SPEECH_LADDER,
        }
        for name in names
    ]


def _fetched() -> list[str]:
    """Names of the models in the data folder."""
    folder = Path(settings.MOLTS_DATA_DIR) / "models" / "whisper"
    if not folder.is_dir():
        return []
    whole = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(path.name.replace("--", "/") for path in whole)
