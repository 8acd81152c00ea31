"""`manage.py reset_password <user>`: a new password for somebody who has forgotten theirs."""

from __future__ import annotations

import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from projects.audit import record
from projects.choices import AuditAction
from projects.sign_in import forget_failures


class Command(BaseCommand):
    help = (
        "Give a user a new random password and print it, once; or the one that stands in a file. It asks nothing, and "
        "signs that user out everywhere."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="the name that they sign in with")
        parser.add_argument("--password-file", type=Path, help="take the password from the first line of this file")

    def handle(self, *args: Any, **options: Any) -> None:
        user = get_user_model()._default_manager.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['user']!r}.{_who_there_is()}")
        file: Path | None = options["password_file"]
        password = _read(file) if file else secrets.token_urlsafe(15)
        try:
            validate_password(password, user)
        except ValidationError as error:
            raise CommandError(f"{file} holds no usable password: {' '.join(error.messages)}") from error
        user.set_password(password)  # browser sessions carry a mark of the old one, so all of them end
        user.save(update_fields=["password"])
        forget_failures(name=user.get_username())
        record(user=None, objects=[user], action=AuditAction.ACT, text="Got a new password.")
        if file is None:
            self.stdout.write(f"new password of {options['user']}: {password}")
        else:
            self.stdout.write(f"{options['user']} has the password that stands in {file}.")
        if not user.is_active:
            self.stdout.write("This user may not sign in: make them active again under Users in the admin.")


def _read(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}.") from error
    return lines[0].strip() if lines else ""


def _who_there_is() -> str:
    names = list(get_user_model()._default_manager.order_by("pk").values_list("username", flat=True)[:10])
    if not names:
        return " There is nobody yet: `manage.py createsuperuser` makes the first."
    return f" There is: {', '.join(names)}."
