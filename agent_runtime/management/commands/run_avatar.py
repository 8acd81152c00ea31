"""`manage.py run_avatar`: show the faces of conversations on this machine."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Run the avatar worker: shows the faces of conversations until it is stopped."
    requires_system_checks: tuple[str, ...] = ()  # they would import the whole web side, which a worker never needs

    def handle(self, *args: Any, **options: Any) -> None:
        # One thread a library: job processes share the cores, and pools of threads would fight over them.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        from agent_runtime.avatar.worker import AvatarWorker

        try:
            asyncio.run(AvatarWorker().run())
        except KeyboardInterrupt:
            pass
        except (RuntimeError, ValueError, OSError) as error:
            raise CommandError(f"The avatar worker stopped: {error}") from error
