"""`manage.py reset_password`."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from projects.models import AuditEntry


def reset(*arguments: str) -> str:
    out = StringIO()
    call_command("reset_password", *arguments, stdout=out)
    return out.getvalue().strip()


def test_it_prints_a_new_password_once_and_signs_out(root: User, sign_in: Callable[[User], Client]) -> None:
    browser = sign_in(root)
    assert browser.get("/admin/").status_code == 200

    name, _, password = reset("root").rpartition(": ")

    assert name == "new password of root"
    assert len(password) >= 20
    assert browser.get("/admin/").status_code == 302, "the old session is over"
    again = Client().post("/admin/login/", {"username": "root", "password": password})
    assert (again.status_code, again["Location"]) == (302, "/admin/")
    entry = AuditEntry.objects.get()
    assert (entry.user_name, entry.object_name, entry.project) == ("command line", "root", None)
    assert password not in entry.text


def test_it_takes_a_password_from_a_file(root: User, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("correct-horse-battery\n")
    assert "correct-horse" not in reset("root", "--password-file", str(file))
    root.refresh_from_db()
    assert root.check_password("correct-horse-battery")


@pytest.mark.parametrize("content", ["", "short", "12345678901234"])
def test_it_refuses_a_weak_password(root: User, tmp_path: Path, content: str) -> None:
    file = tmp_path / "password"
    file.write_text(content)
    with pytest.raises(CommandError, match="holds no usable password"):
        reset("root", "--password-file", str(file))


def test_it_says_what_is_wrong(root: User, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"no user 'rot'. There is: root\."):
        reset("rot")
    with pytest.raises(CommandError, match="cannot be read"):
        reset("root", "--password-file", str(tmp_path / "nothing"))
    User.objects.filter(pk=root.pk).update(is_active=False)
    assert "may not sign in" in reset("root")


def test_the_sign_in_page_names_it(client: Client, db: None) -> None:
    assert "manage.py reset_password" in client.get("/admin/login/").content.decode()
