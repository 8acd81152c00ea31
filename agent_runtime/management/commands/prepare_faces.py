"""`manage.py prepare_faces`: make what the faces of all avatars need, so that no conversation waits for it."""

from __future__ import annotations

import os
import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from molts.errors import MoltsError

LOWEST_PRIORITY = 19


class Command(BaseCommand):
    help = "Prepare the faces of all avatars for conversations on this machine. What is there already costs nothing."
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--session", type=uuid.UUID, help="Only the face of this conversation.")

    def handle(self, *args: Any, **options: Any) -> None:
        from agent_runtime.avatar.prepare import prepare_face_of, prepare_faces

        os.nice(LOWEST_PRIORITY)  # conversations come first
        if options["session"]:
            try:
                prepare_face_of(options["session"])
            except MoltsError as error:
                raise CommandError(error.detail) from error
            return
        failed = 0
        for name, problem in prepare_faces():
            failed += problem is not None
            self.stdout.write(f"{name}: {problem or 'ready'}")
        if failed:
            self.stderr.write(f"{failed} faces cannot be shown.")
