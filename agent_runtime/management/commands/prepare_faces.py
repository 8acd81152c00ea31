"""`manage.py prepare_faces`: make what the faces of all avatars need, so that no conversation waits for it."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand

LOWEST_PRIORITY = 19


class Command(BaseCommand):
    help = "Prepare the faces of all avatars for conversations on this machine. What is there already costs nothing."
    requires_system_checks: tuple[str, ...] = ()

    def handle(self, *args: Any, **options: Any) -> None:
        from agent_runtime.avatar.faces import prepare_faces

        os.nice(LOWEST_PRIORITY)  # conversations come first
        failed = 0
        for name, error in prepare_faces():
            failed += error is not None
            self.stdout.write(f"{name}: {error or 'ready'}")
        if failed:
            self.stderr.write(f"{failed} faces cannot be shown.")
