"""`manage.py rotate_keys`: encrypt every stored secret again with the first of MOLTS_FIELD_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from projects.services import rotate_provider_secrets
from projects.webhooks.services import rotate_stored_secrets


class Command(BaseCommand):
    help = (
        "Encrypt all stored secrets again with the first of MOLTS_FIELD_KEYS. Put the new key first, keep the old one "
        "behind it, restart, run this, and then the old key can go. Safe to repeat and to break off."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        rotations = (rotate_provider_secrets(), rotate_stored_secrets())
        unreadable = [name for rotation in rotations for name in rotation.unreadable]
        self.stdout.write(
            f"{sum(each.rotated for each in rotations)} secrets encrypted with the first key, "
            f"{sum(each.current for each in rotations)} had been already, {len(unreadable)} cannot be decrypted."
        )
        if unreadable:
            names = ", ".join(unreadable)
            raise CommandError(
                f"No key in MOLTS_FIELD_KEYS opens the secret of: {names}. Put the key back that encrypted it, or type "
                "the secret again in the admin."
            )
