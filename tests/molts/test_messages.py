"""Every text that visitors see is there in every language, and nobody can forget one."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages.catalog import Message

from molts.settings import BASE_DIR


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("molts_messages", BASE_DIR / "scripts" / "messages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


messages = load()


def test_no_text_is_missing_in_any_language() -> None:
    assert messages.check() == []


def test_it_reads_templates_python_and_scripts() -> None:
    pages, scripts = messages.texts("django"), messages.texts("djangojs")
    assert "templates/room/room.html" in pages["Talk with %(name)s"]
    assert "sessions/summary.py" in pages["%(seconds)d s"]
    assert "static/src/room/words.ts" in scripts["Waiting for {name}"]
    assert "static/src/check/media.ts" in scripts["Open TCP port {port} in the firewall and the router."]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources of a project that says one thing more."""
    shutil.copytree(messages.LOCALE, tmp_path / "locale")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "new.html").write_text(
        '{% load i18n %}{% translate "Said for the first time" %}'
        "{% blocktranslate with name=x %}Meet {{ name }}{% endblocktranslate %}"
    )
    monkeypatch.setattr(messages, "ROOT", tmp_path)
    monkeypatch.setattr(messages, "LOCALE", tmp_path / "locale")
    return tmp_path


def test_a_text_without_translation_is_named(copy: Path) -> None:
    problems = messages.check()
    assert "locale/de/LC_MESSAGES/django.po: 'Said for the first time' is not translated" in problems
    assert "locale/ar/LC_MESSAGES/django.po: 'Meet %(name)s' is not translated" in problems


def test_renewing_keeps_what_is_translated_and_drops_what_is_gone(copy: Path) -> None:
    messages.write()
    path = messages.po_path("de", "django")
    path.write_text(
        path.read_text().replace('msgid "Meet %(name)s"\nmsgstr ""', 'msgid "Meet %(name)s"\nmsgstr "Das ist %(name)s"')
    )
    messages.write()
    found = {message.id: message.string for message in messages.read_catalog("de", "django") if message.id}
    assert found == {"Meet %(name)s": "Das ist %(name)s", "Said for the first time": ""}
    assert [problem for problem in messages.check() if "/de/" in problem] == [
        "locale/de/LC_MESSAGES/django.po: 'Said for the first time' is not translated"
    ]


@pytest.mark.parametrize(
    ("text", "translation", "fine"),
    [
        ("{name} is late", "{name} kommt spät", True),
        ("{name} is late", "{nam} kommt spät", False),
        ("%(seconds)s s", "%(seconds)s Sek.", True),
        ("%(seconds)s s", "Sekunden", False),
        ("OK", "", False),
    ],
)
def test_a_translation_fills_in_the_same_values(text: str, translation: str, fine: bool) -> None:
    assert (not list(messages.faults(Message(text, translation)))) == fine
