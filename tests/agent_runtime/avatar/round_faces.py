"""`run_avatar` with one engine more: a face that is drawn in a second instead of a minute, and moves like the others.

Started as a program. LiveKit's job processes import it too, so that they know the engine.
"""

from __future__ import annotations

import os
import sys
import time
from typing import ClassVar

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")

import django
from django.apps import apps

if not apps.ready:
    django.setup()

from agent_runtime.avatar import prepare
from avatars.engines import ENGINES
from avatars.engines.base import Face, Progress, VideoFormat
from avatars.engines.poses import Artist
from avatars.engines.puppet import PuppetEngine
from tests.avatars.engines.artist import RoundFace

DRAWING_SECONDS = 12.0


class Round(PuppetEngine):
    key: ClassVar[str] = "round"

    def _artist(self, face: Face) -> Artist:
        return RoundFace()


class Slow(Round):
    """One that takes as long to draw as a real face on a slow machine, whenever it is asked to draw."""

    key: ClassVar[str] = "slow"

    def _artist(self, face: Face) -> Artist:
        return RoundFace(key="slow")

    def prepare(self, face: Face, video: VideoFormat, progress: Progress | None = None) -> None:
        if not self.is_prepared(face, video):
            time.sleep(DRAWING_SECONDS)
        super().prepare(face, video, progress)


ENGINES["round"] = "tests.agent_runtime.avatar.round_faces.Round"
ENGINES["slow"] = "tests.agent_runtime.avatar.round_faces.Slow"
prepare.PREPARE = (sys.executable, "-m", "tests.agent_runtime.avatar.round_faces", "prepare_faces")

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line([sys.argv[0], *(sys.argv[1:] or ["run_avatar"])])
