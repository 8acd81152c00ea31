from __future__ import annotations

import json

import pytest
from django.core.management import call_command
from pytest_django import Settings

from projects.models import Project, ProviderKey
from projects.services import save_provider_key
from tests.agent_runtime.stack import MICRO_WHISPER

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_tries_local_programs_for_real(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    settings.MOLTS_WHISPER_MODEL = str(MICRO_WHISPER)
    call_command("probe_providers", "espeak", "faster_whisper", "--json")
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["espeak tts"]["ok"]
    assert rows["faster_whisper stt"]["ok"]
    assert rows["espeak tts"]["latency_ms"] > 0


def test_it_fails_for_a_key_that_does_not_work_and_never_shows_it(
    project: Project, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    settings.MOLTS_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    key = ProviderKey(project=project, name="Mine", provider="openai", base_url="http://127.0.0.1:1/v1")
    save_provider_key(key=key, secret="sk-canary-of-this-very-test")
    with pytest.raises(SystemExit):
        call_command("probe_providers", "openai")
    shown = capsys.readouterr().out
    assert "FAILED  openai llm (Project A: Mine):" in shown
    assert "canary" not in shown
