"""The speech server under the supervisor of `up`: it may freeze, and conversations go on."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pytest_django import Settings

from molts.redact import Redactor
from molts.supervisor.names import SPEECH
from molts.supervisor.process import Supervisor
from tests.agent_runtime.speech.live_server import until
from tests.agent_runtime.speech.speaker import make_clips, speaking
from tests.agent_runtime.stack import MICRO_WHISPER, speech_state
from tests.molts.test_supervisor import Witness, given, make_stack, part_of


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest_asyncio.fixture
async def supervisor(tmp_path: Path, settings: Settings, witness: Witness) -> AsyncIterator[Supervisor]:
    """Keeps a real speech server running, as `up` does, but looks more often."""
    settings.MOLTS_WHISPER_MODEL = str(MICRO_WHISPER)
    stack = make_stack(tmp_path, given(MOLTS_WHISPER_MODEL=str(MICRO_WHISPER), MOLTS_WHISPER_DEVICE="cpu"))
    settings.MOLTS_SPEECH_URL = stack.env["MOLTS_SPEECH_URL"]
    supervisor = Supervisor(log_folder=tmp_path / "logs", redact=Redactor(), reporter=witness, watch_seconds=0.1)
    await supervisor.start(part_of(stack, SPEECH))
    await supervisor.wait_ready(SPEECH, deadline=60)
    yield supervisor
    await supervisor.stop()


@pytest.mark.slow
async def test_a_frozen_server_is_replaced_and_every_utterance_is_heard(
    supervisor: Supervisor, witness: Witness, settings: Settings, tmp_path: Path
) -> None:
    clips = make_clips(3, tmp_path)
    await until(lambda: speech_state(settings.MOLTS_SPEECH_URL).get("ready"), seconds=60)
    async with speaking() as speaker:
        heard = [await speaker.say(clips[0])]
        frozen = supervisor.pid(SPEECH)
        assert frozen is not None
        os.kill(frozen, signal.SIGSTOP)
        heard.append(await speaker.say(clips[1]))
        await until(lambda: witness.said(SPEECH, "running again"), seconds=30)
        await until(lambda: speech_state(settings.MOLTS_SPEECH_URL).get("streams"), seconds=30)
        heard.append(await speaker.say(clips[2]))

    assert heard == [clip.said for clip in clips]
    state = speech_state(settings.MOLTS_SPEECH_URL)
    assert state["pid"] == supervisor.pid(SPEECH) != frozen
    assert state["utterances"] >= 1, "the new server heard nothing"
