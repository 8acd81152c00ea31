"""`manage.py rotate_keys`: encrypt every stored secret again with the first of MOLTS_FIELD_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from projects.services import rotate_provider_secrets


class Command(BaseCommand):
    help = (
        "Encrypt all stored secrets again with the first of MOLTS_FIELD_KEYS. Put the new key first, keep the old one "
        "behind it, restart, run this, and then the old key can go. Safe to repeat and to break off."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        rotation = rotate_provider_secrets()
        self.stdout.write(
            f"{rotation.rotated} secrets encrypted with the first key, {rotation.current} had been already, "
            f"{len(rotation.unreadable)} cannot be decrypted."
        )
        if rotation.unreadable:
            names = ", ".join(rotation.unreadable)
            raise CommandError(
                f"No key in MOLTS_FIELD_KEYS opens the secret of: {names}. Put the key back that encrypted it, or type "
                "the secret again in the admin."
            )
