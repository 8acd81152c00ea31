"""`manage.py make_video`: a video of an agent that says a script, made here and now."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from avatars.models import Agent
from avatars.services import open_rungs
from avatars.videos.ordering import plan_video, scene_of
from avatars.videos.report import VideoReport
from avatars.videos.spec import ASPECTS, RESOLUTIONS
from molts.errors import MoltsError

SHOWN_SECONDS = 0.2


class Command(BaseCommand):
    help = "Make a video of an agent that says a script, with the pipeline that serves POST /api/v1/videos."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--agent", required=True, help="Slug or id of the agent.")
        parser.add_argument("--script", required=True, help="A text file of what is to be said; - reads the input.")
        parser.add_argument("--out", required=True, help="The MP4 to write.")
        parser.add_argument("--resolution", choices=list(RESOLUTIONS), default="512p", help="Of the shorter side.")
        parser.add_argument("--aspect", choices=list(ASPECTS), default="1:1", help="Width to height.")
        parser.add_argument("--fps", type=int, choices=(25, 30), default=25, help="Pictures a second.")

    def handle(self, *args: Any, **options: Any) -> None:
        from avatars.videos.pipeline import SceneVoices, make_video  # heavy: not for a question of --help

        agent = _find(options["agent"])
        try:
            scene = scene_of(agent=agent, script=_read(options["script"]))
            names = ("resolution", "aspect", "fps")
            spec = plan_video(scenes=[scene], **{name: options[name] for name in names})
            voices = [SceneVoices(open_rungs(project_id=agent.project_id, rungs=scene.voices))]
            report = VideoReport()
            with tempfile.TemporaryDirectory(prefix="molts-video-") as folder, _shown(report):
                made = make_video(spec=spec, voices=voices, folder=Path(folder), report=report)
                out = Path(options["out"])
                part = out.with_name(f"{out.name}.part")
                shutil.copyfile(made.file, part)
                part.replace(out)
        except (MoltsError, OSError, UnicodeDecodeError) as error:
            raise CommandError(getattr(error, "detail", None) or str(error)) from error
        self.stdout.write(f"{out}: {made.composed.duration:.1f} s, {spec.width}x{spec.height}")


def _find(reference: str) -> Agent:
    agents = list(Agent.objects.filter(slug=reference)[:2])
    if not agents:
        agents = [agent for agent in Agent.objects.all() if str(agent.pk) == reference]
    if not agents:
        known = ", ".join(sorted(set(Agent.objects.values_list("slug", flat=True)))) or "none yet"
        raise CommandError(f"There is no agent {reference!r}. There are: {known}.")
    if len(agents) > 1:
        raise CommandError(f"Several projects have an agent {reference!r}. Use its id.")
    return agents[0]


def _read(name: str) -> str:
    return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")


@contextmanager
def _shown(report: VideoReport) -> Iterator[None]:
    """A bar that follows the report, on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    over = threading.Event()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("Waiting", total=1.0)

        def follow() -> None:
            while not over.wait(SHOWN_SECONDS):
                bar.update(task, description=report.text, completed=report.progress)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
            bar.update(task, description="Done", completed=1.0)
        finally:
            over.set()
            follower.join(5)
