"""`manage.py run_agent`: hold conversations on this machine."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Run the agent worker: takes conversations from the media server until it is stopped."
    requires_system_checks: tuple[str, ...] = ()  # they would import the whole web side, which a worker never needs

    def handle(self, *args: Any, **options: Any) -> None:
        # One thread a library: job processes share the cores, and pools of threads would fight over them.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        from agent_runtime.worker import AgentWorker

        try:
            asyncio.run(AgentWorker().run())
        except KeyboardInterrupt:
            pass
        except (RuntimeError, ValueError, OSError) as error:
            raise CommandError(f"The agent worker stopped: {error}") from error
