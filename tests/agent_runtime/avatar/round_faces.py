"""`run_avatar` with one engine more: a face that is drawn in a second instead of a minute, and moves like the others.

Started as a program. LiveKit's job processes import it too, so that they know the engine.
"""

from __future__ import annotations

import os
import sys
from typing import ClassVar

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "molts.settings")

from avatars.engines import ENGINES
from avatars.engines.poses import Artist
from avatars.engines.puppet import Puppet, PuppetOptions
from tests.avatars.engines.artist import RoundFace


class Round(Puppet):
    key: ClassVar[str] = "round"

    def _artist(self, options: PuppetOptions) -> Artist:
        return RoundFace()


ENGINES["round"] = "tests.agent_runtime.avatar.round_faces.Round"

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line([sys.argv[0], "run_avatar"])
