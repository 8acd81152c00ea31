from __future__ import annotations

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_django import Settings

from agent_runtime import worker as worker_module
from agent_runtime.worker import AgentWorker
from molts import beats
from sessions import tasks
from tests.agent_runtime.stack import wait_for


class Job:
    def __init__(self, metadata: str) -> None:
        self.metadata = metadata


class Request:
    """A job request as far as the worker looks at it; notes the answer."""

    def __init__(self, metadata: str) -> None:
        self.job = Job(metadata)
        self.answer: tuple[str, dict[str, str]] | None = None

    async def accept(self, **given: str) -> None:
        self.answer = ("accepted", given)

    async def reject(self) -> None:
        self.answer = ("rejected", {})


class BusyServer:
    def __init__(self, jobs: int) -> None:
        self.active_jobs = [object()] * jobs
        self.told: list[str] = []

    async def _refresh_worker_load(self) -> None:
        self.told.append("load")

    async def _update_worker_status(self) -> None:
        self.told.append("status")


@pytest.fixture
def worker(settings: Settings) -> AgentWorker:
    settings.MOLTS_AGENT_SLOTS = 4
    settings.LIVEKIT_URL = "ws://127.0.0.1:1"
    return AgentWorker()


async def ask(worker: AgentWorker, metadata: str) -> tuple[str, dict[str, str]]:
    request = Request(metadata)
    await worker._take(request)  # type: ignore[arg-type]
    assert request.answer is not None
    return request.answer


@pytest.mark.usefixtures("own_redis")
async def test_it_takes_a_session_under_a_name_that_tells_nothing(worker: AgentWorker) -> None:
    worker.server = BusyServer(0)  # type: ignore[assignment]
    session_id = str(uuid.uuid4())
    answer, given = await ask(worker, session_id)
    assert answer == "accepted"
    assert given["identity"].startswith("agent-")
    assert session_id not in given["identity"]
    assert (await ask(worker, session_id))[1]["identity"] != given["identity"]


@pytest.mark.parametrize("metadata", ["", "hello", '{"session": 1}', "x" * 100_000])
async def test_it_refuses_a_job_that_names_no_session(
    worker: AgentWorker, metadata: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await ask(worker, metadata) == ("rejected", {})
    assert "without a session id" in caplog.text
    assert metadata == "" or metadata not in caplog.text


@pytest.mark.usefixtures("own_redis")
async def test_it_refuses_one_more_than_it_has_slots_for(worker: AgentWorker) -> None:
    worker.server = BusyServer(3)  # type: ignore[assignment]
    assert (await ask(worker, str(uuid.uuid4())))[0] == "accepted"
    worker.server = BusyServer(4)  # type: ignore[assignment]
    assert (await ask(worker, str(uuid.uuid4())))[0] == "rejected"


@pytest.mark.parametrize(("jobs", "load"), [(0, 0.0), (1, 0.25), (4, 1.0)])
def test_its_load_is_the_share_of_its_slots(worker: AgentWorker, jobs: int, load: float) -> None:
    assert worker.server._load_fnc(BusyServer(jobs)) == load  # type: ignore[call-arg, arg-type, misc]


def test_calls_that_come_at_the_same_moment_to_an_idle_worker_are_all_taken(worker: AgentWorker) -> None:
    server = worker.server
    server._proc_pool = SimpleNamespace(processes=[])  # type: ignore[assignment]
    server._devmode = server._simulation = False
    for reserved, is_available in ((0, True), (1, True), (3, True), (4, False)):
        server._worker_load, server._reserved_slots = 0.0, reserved
        assert server._is_available() is is_available


def test_it_listens_on_the_loopback_only(worker: AgentWorker) -> None:
    assert worker.server._host == "127.0.0.1"


@pytest.mark.usefixtures("own_redis")
async def test_it_says_that_it_is_there_and_signs_off(worker: AgentWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[None] = []
    monkeypatch.setattr(worker_module, "_wake_reconciler", lambda: woken.append(None))
    worker.server = BusyServer(0)  # type: ignore[assignment]
    worker._on_registered()
    worker._on_registered()  # after a lost connection, for example
    await asyncio.to_thread(wait_for, "a beat", beats.workers, seconds=10)
    (info,) = beats.workers()
    assert (info.id, info.slots, info.used) == (worker.id, 4, 0)
    assert len(woken) == 1  # conversations may have been waiting for it
    await worker._sign_off()
    assert beats.workers() == []


async def test_it_reports_which_job_of_which_session_ended_and_that_a_slot_is_free(
    worker: AgentWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = BusyServer(0)
    worker.server = server  # type: ignore[assignment]
    reported: list[tuple[str, ...]] = []
    monkeypatch.setattr(tasks.report_agent_exit, "apply_async", lambda arguments, **_: reported.append(arguments))

    class Ended:
        class running_job:  # noqa: N801 - LiveKit's name
            job = Job("a-session")

            class accept_arguments:  # noqa: N801 - LiveKit's name
                identity = "agent-one"

    class Idle:
        running_job = None

    worker._on_process_closed(Ended())
    worker._on_process_closed(Idle())
    await asyncio.to_thread(wait_for, "a report", lambda: reported, seconds=10)
    assert reported == [("a-session", "agent-one")]
    assert server.told == ["load", "status"]  # in this order: the status is computed from the load


def test_a_broker_that_is_away_costs_only_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(tasks.report_agent_exit, "apply_async", away)
    monkeypatch.setattr(tasks.reconcile, "apply_async", away)
    worker_module._wake_reconciler("a-session", "agent-one")
    worker_module._wake_reconciler()
    assert caplog.text.count("reconciler not woken") == 2
