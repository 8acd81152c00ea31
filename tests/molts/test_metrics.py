"""`/metrics`: it says what it always said, and many processes that count leave nothing behind.

The recording is from the time when the text was put together by hand.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from avatars.models import Agent
from avatars.videos.models import VideoJob
from molts import beats
from molts.beats import WorkerInfo, WorkerKind
from sessions import presence
from tests.molts.test_speech_figures import StandIn, speech_server  # noqa: F401 - a fixture
from tests.servers import MediaServer
from tests.sessions.factories import make_session

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "tests" / "fixtures" / "metrics.txt"


def read(client: Client) -> list[Metric]:
    return list(text_string_to_metric_families(client.get("/metrics").content.decode()))


@pytest.fixture
def at_work(agent: Agent, live_servers: MediaServer, request: pytest.FixtureRequest) -> None:
    """Conversations, agents, faces and a speech server that all have something to tell."""
    stand_in: StandIn = request.getfixturevalue("speech_server")
    for state in ("waiting", "active", "active", "ended"):
        make_session(agent, state=state)
    beats.beat_worker(WorkerInfo("one", "host", 1, 4, 1))
    beats.beat_worker(WorkerInfo("two", "host", 2, 8, 2))
    beats.beat_worker(WorkerInfo("three", "host", 3, 2, 1), WorkerKind.AVATAR)
    beats.beat_worker(WorkerInfo("four", "host", 4, 1, 1), WorkerKind.RENDER)
    for state in ("queued", "queued", "running", "done"):
        VideoJob.objects.create(kind="preview", state=state, order={})
    presence.beat_avatar("avatar-1", {"frames": 900, "dropped": 2, "gaps": 1, "interval_p99_ms": 44.5})
    presence.beat_avatar("avatar-2", {"frames": 100, "interval_p99_ms": 52, "skew_p99_ms": 7.25})
    presence.count_avatar(joins=2, join_seconds=2.5, answers=1, playback_seconds=0.3)
    presence.beat_clock()
    stand_in.state["busy_seconds"] = 12.34
    stand_in.state["model"] = 'a "large"\\model\n'
    stand_in.state["ladder"]["load"] = 0.91


@pytest.mark.django_db
def test_names_types_labels_help_and_values_are_those_of_the_recording(at_work: None, client: Client) -> None:
    recorded = list(text_string_to_metric_families(RECORDING.read_text()))
    assert len(recorded) > 30
    assert read(client) == recorded
    assert client.get("/metrics").headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


CONVERSATIONS = """
import gc, os
from django.conf import settings
settings.configure(MOLTS_INSTANCE=os.environ["MOLTS_INSTANCE"], REDIS_URL=os.environ["REDIS_URL"])
from sessions import presence
gc.freeze()
for _ in range(int(os.environ["TENS"])):
    children = []
    for _ in range(10):
        child = os.fork()
        if not child:
            presence.count_avatar(joins=1, join_seconds=0.5)
            os._exit(0)
        children.append(child)
    assert all(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 for child in children)
"""


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("tens", [5, pytest.param(50, marks=pytest.mark.soak)])
def test_conversations_leave_their_sums_and_no_files(
    live_servers: MediaServer, client: Client, settings: Settings, tmp_path: Path, tens: int
) -> None:
    """Each is a process of its own, which ends: files of counters would pile up."""
    env = {
        **os.environ,
        "MOLTS_INSTANCE": settings.MOLTS_INSTANCE,
        "REDIS_URL": settings.REDIS_URL,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),  # where prometheus_client would put them
        "TMPDIR": str(tmp_path),
        "TENS": str(tens),
    }
    subprocess.run([sys.executable, "-c", CONVERSATIONS], cwd=ROOT, env=env, check=True, timeout=100)

    values = {sample.name: sample.value for metric in read(client) for sample in metric.samples}
    assert (values["molts_avatar_joins_total"], values["molts_avatar_join_seconds_total"]) == (10 * tens, 5 * tens)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) <= 5


def test_only_who_is_asked_for_metrics_loads_their_library() -> None:
    code = (
        "import sys, django; django.setup(); import molts.urls, molts.celery, molts.admin.start_page\n"
        "print('prometheus_client' in sys.modules)"
    )
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
