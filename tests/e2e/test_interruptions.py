"""What a browser shows when something breaks: the WebSocket, the visitor's own side, the agent, the speech model."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import partial

import psutil
import pytest

from tests.e2e.browser import Visitor
from tests.e2e.conftest import Enter, running
from tests.e2e.proxy import Proxy
from tests.e2e.rooms import LONG, MEETING, PRICE, TABLE, Rooms, make_rooms
from tests.e2e.stack import MICRO_WHISPER, Molts, Program, agent_processes, descendants, job_processes, send, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]

CUT_SECONDS = 10.0
STOPPED_SECONDS = 12.0
NOTICED_SECONDS = 10.0  # a late or lost agent is said by then
BACK_SECONDS = 20.0  # and the conversation goes on by then, once the agent is there again


# -- the page's line to the server ------------------------------------------------------------------------------------
@pytest.fixture
def proxy(molts: Molts) -> Iterator[Proxy]:
    proxy = Proxy(molts.port)
    yield proxy
    proxy.close()


@pytest.mark.soak
def test_it_misses_nothing_while_its_socket_is_cut(molts: Molts, rooms: Rooms, enter: Enter, proxy: Proxy) -> None:
    # The page keeps its address; only the bytes take another way.
    visitor = enter(flags=(f"--host-resolver-rules=MAP 127.0.0.1:{molts.port} 127.0.0.1:{proxy.port}",))
    session = visitor.talk(rooms.quiet)
    visitor.wait_for_chip("listening", seconds=15)
    assert proxy.open_sockets
    visitor.type(LONG[0])
    visitor.page.wait_for_selector("li.segment.partial[data-role=agent] .text", timeout=30_000)

    proxy.cut()
    cut_at = time.monotonic()
    known = max(line.seq or 0 for line in visitor.lines)
    for question in (MEETING[0], TABLE[0], PRICE[0]):
        visitor.type(question)
        visitor.page.wait_for_timeout(2_500)
    visitor.page.wait_for_selector(".notice[data-key=words]", timeout=30_000)
    written = molts.rows(session)[known:]
    assert len(written) >= 5
    visitor.page.wait_for_timeout(max(0.0, CUT_SECONDS - (time.monotonic() - cut_at)) * 1000)
    assert proxy.refused, "the page tried to come back while it was cut"
    before = len(visitor.sockets)
    proxy.fix()

    visitor.page.wait_for_selector("#room[data-socket=open]", timeout=30_000)
    visitor.page.wait_for_selector(".notice[data-key=words]", state="detached", timeout=30_000)
    back = next(socket for socket in visitor.sockets[before - 1 :] if socket.events)
    snapshot, *later = back.events
    assert f"after={known}" in back.url
    assert [segment["seq"] for segment in snapshot["segments"]] == list(range(known + 1, snapshot["last_seq"] + 1))
    assert snapshot["last_seq"] >= known + 5
    assert all(event["seq"] > snapshot["last_seq"] for event in later if event["type"] == "transcript.final")
    wait_for("the last answer", lambda: molts.rows(session)[-1].text == PRICE[1], seconds=10)
    visitor.page.wait_for_timeout(500)
    rows = [(row.seq, row.role, row.text, row.segment_id) for row in molts.rows(session)]
    assert [(line.seq, line.role, line.text, line.segment_id) for line in visitor.lines] == rows
    visitor.leave()


# -- the visitor's own side -------------------------------------------------------------------------------------------
@pytest.mark.soak
def test_it_ends_the_conversations_of_visitors_who_go(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    leaving, closing, crashing = visitors = [enter(), enter(), enter()]
    sessions = [visitor.talk(rooms.quiet) for visitor in visitors]
    room_names = [molts.session(session)["room_name"] for session in sessions]
    for visitor in visitors:
        visitor.wait_for_chip("listening", seconds=30)
    assert set(room_names) <= molts.rooms()

    gone_at = time.monotonic()
    crash(crashing)
    closing.page.close()
    leaving.leave()
    expected = (("ended_by_user", 10), ("visitor_left", 10), ("visitor_left", 30))
    for session, room, (reason, seconds) in zip(sessions, room_names, expected, strict=True):
        is_over = partial(_is_over, molts, session, room)
        wait_for(f"the end of {reason}", is_over, seconds=seconds - (time.monotonic() - gone_at))
        assert molts.session(session)["reason"] == reason


def _is_over(molts: Molts, session: str, room: str) -> bool:
    return molts.session(session)["state"] == "ended" and room not in molts.rooms()


@pytest.mark.soak
def test_it_offers_a_new_talk_to_a_laptop_that_has_slept(molts: Molts, rooms: Rooms, enter: Enter) -> None:
    visitor = enter()
    session = visitor.talk(rooms.quiet)
    visitor.wait_for_chip("listening", seconds=15)
    asleep = browser_processes(visitor)
    send(asleep, signal.SIGSTOP)
    try:
        wait_for("the end", lambda: molts.session(session)["state"] == "ended", seconds=120)
    finally:
        send(asleep, signal.SIGCONT)
    assert molts.session(session)["reason"] == "visitor_left"
    visitor.wait_for_phase("ended", seconds=15)
    visitor.page.wait_for_selector("#summary-text:has-text('away for too long')", timeout=15_000)
    visitor.page.click("#again")
    visitor.wait_for_chip("listening", seconds=20)
    assert visitor.session_id != session
    visitor.type(TABLE[0])
    visitor.wait_for_line("agent", TABLE[1], seconds=15)
    visitor.leave()


def crash(visitor: Visitor) -> None:
    """Kill the whole browser, as a power cut would."""
    send(browser_processes(visitor), signal.SIGKILL)


def browser_processes(visitor: Visitor) -> list[psutil.Process]:
    mine = [process for process in psutil.process_iter() if _runs_with(process, str(visitor.microphone))]
    assert mine
    return [child for process in mine for child in descendants(process.pid)] + mine


def _runs_with(process: psutil.Process, marker: str) -> bool:
    try:
        return marker in " ".join(process.cmdline())
    except psutil.Error:
        return False


# -- the agent --------------------------------------------------------------------------------------------------------
class HandStarted:
    """A copy without its agent part, and that part started by hand."""

    def __init__(self, molts: Molts, rooms: Rooms) -> None:
        self.molts, self.rooms = molts, rooms
        self.agent: Program | None = None

    def start_agent(self) -> None:
        """`manage.py run_agent` in another terminal."""
        log = self.molts.folder / "logs" / "agent.log"
        self.agent = Program("run_agent", env={**self.molts.env, "MOLTS_AGENT_DRAIN_SECONDS": "0"}, log=log)

    def wait_for_agent(self) -> None:
        assert self.agent is not None
        self.agent.wait_for_line("worker registered", seconds=60)

    def stop_agent(self) -> None:
        if self.agent is not None:
            agent, self.agent = self.agent, None
            agent.terminate(seconds=30)

    def processes(self) -> list[psutil.Process]:
        assert self.agent is not None
        return agent_processes(self.agent.process.pid)

    def jobs(self) -> list[psutil.Process]:
        assert self.agent is not None
        return job_processes(self.agent.process.pid, int(self.molts.setting("LIVEKIT_URL").rsplit(":", 1)[1]))


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HandStarted]:
    copy = Molts(
        tmp_path_factory.mktemp("by-hand"), "--without", "agent", env={"MOLTS_WHISPER_MODEL": str(MICRO_WHISPER)}
    )
    for molts in running(copy, r"^molts runs without agent: "):
        stack = HandStarted(molts, make_rooms(molts))
        try:
            yield stack
            stack.stop_agent()
        finally:
            if stack.agent is not None:
                stack.agent.kill()


@pytest.mark.soak
def test_it_says_that_the_agent_is_late_and_goes_on_with_the_first_words(by_hand: HandStarted, enter: Enter) -> None:
    question, answer, words = MEETING
    visitor = enter((1, question))
    talked_at = time.monotonic()
    session = visitor.talk(by_hand.rooms.quiet)
    visitor.wait_for_notice("agent_late", seconds=NOTICED_SECONDS - (time.monotonic() - talked_at))
    assert "late" in visitor.page.inner_text("#state-text")

    by_hand.start_agent()
    by_hand.wait_for_agent()
    visitor.wait_for_line("agent", answer, seconds=BACK_SECONDS)
    assert [(row.role, row.text) for row in by_hand.molts.rows(session)] == [("user", question), ("agent", answer)]
    assert not visitor.page.is_visible(".notice[data-key=agent_late]")
    visitor.page.wait_for_timeout(500)
    assert set(words) <= set(visitor.heard_words.split())
    visitor.leave()


@pytest.mark.soak
def test_it_says_that_the_agent_stands_still_and_goes_on_with_it(by_hand: HandStarted, enter: Enter) -> None:
    visitor, session = talking(by_hand, enter)
    visitor.type(LONG[0])
    visitor.page.wait_for_selector("li.segment.partial[data-role=agent] .text", timeout=30_000)

    stopped = by_hand.processes()
    send(stopped, signal.SIGSTOP)
    stopped_at = time.monotonic()
    try:
        visitor.wait_for_notice("agent_lost", seconds=NOTICED_SECONDS)
        assert visitor.page.get_attribute("#state", "data-agent-state") == "lost"
        visitor.page.wait_for_timeout(max(0.0, STOPPED_SECONDS - (time.monotonic() - stopped_at)) * 1000)
    finally:
        send(stopped, signal.SIGCONT)
    goes_on(by_hand, visitor, session)


@pytest.mark.soak
def test_it_brings_another_agent_when_one_is_killed(by_hand: HandStarted, enter: Enter) -> None:
    visitor, session = talking(by_hand, enter)
    wait_for("the job of this conversation alone", lambda: len(by_hand.jobs()) == 1, seconds=BACK_SECONDS)
    (job,) = by_hand.jobs()
    generation = by_hand.molts.session(session)["claimed_generation"]
    job.kill()
    wait_for(
        "another agent",
        lambda: by_hand.molts.session(session)["claimed_generation"] > generation and by_hand.jobs(),
        seconds=BACK_SECONDS,
    )
    assert job.pid not in {process.pid for process in by_hand.jobs()}
    goes_on(by_hand, visitor, session)


def talking(by_hand: HandStarted, enter: Enter) -> tuple[Visitor, str]:
    """A visitor whose first question was answered."""
    if by_hand.agent is None:
        by_hand.start_agent()
        by_hand.wait_for_agent()
    visitor = enter()
    session = visitor.talk(by_hand.rooms.quiet)
    visitor.wait_for_chip("listening", seconds=20)
    visitor.type(TABLE[0])
    visitor.wait_for_line("agent", TABLE[1], seconds=15)
    return visitor, session


def goes_on(by_hand: HandStarted, visitor: Visitor, session: str) -> None:
    """The next question is answered, once, by the same conversation."""
    visitor.wait_for_chip("listening", "thinking", "speaking", seconds=BACK_SECONDS)
    visitor.type(MEETING[0])
    visitor.wait_for_line("agent", MEETING[1], seconds=BACK_SECONDS)
    visitor.page.wait_for_timeout(500)
    rows = by_hand.molts.rows(session)
    assert [row.text for row in rows].count(MEETING[1]) == 1
    assert [(line.seq, line.text) for line in visitor.settled] == [(row.seq, row.text) for row in rows]
    assert not visitor.page.is_visible(".notice[data-key=agent_lost]")
    visitor.leave()


# -- no model ---------------------------------------------------------------------------------------------------------
def test_it_talks_without_any_model_and_says_what_that_means(bare: Molts, enter: Enter) -> None:
    visitor = enter((8, MEETING[0]))
    session = visitor.talk(bare.demo_rooms[0])
    visitor.wait_for_line("agent", "Mira", seconds=20)
    visitor.wait_for_notice("offline_recogniser", seconds=30)
    assert "Typing works better" in visitor.page.inner_text(".notice[data-key=offline_recogniser]")
    wait_for("words that were heard", lambda: [row for row in bare.rows(session) if row.role == "user"], seconds=25)
    visitor.type("Is there parking?")
    visitor.wait_for_line("agent", "park behind the house", seconds=15)
    visitor.leave()
