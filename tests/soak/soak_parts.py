"""Every part of a running copy is frozen and killed while somebody talks: it is replaced, the page says so in time, and
nothing that was said is lost or answered twice. A table is printed at the end. `MOLTS_SOAK_PARTS` chooses (a comma list
of parts), `MOLTS_SOAK_ROUNDS` says how often each."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from molts.supervisor.names import AGENT, AVATAR, MEDIA, REDIS, WEB
from tests.e2e.browser import Visitor
from tests.e2e.conftest import Enter, enter, molts, playwright, pytest_runtest_makereport, rooms
from tests.e2e.rooms import MEETING, PRICE, TABLE, Rooms
from tests.e2e.stack import Molts, wait_for

__all__ = ["enter", "molts", "playwright", "pytest_runtest_makereport", "rooms"]  # fixtures and a hook

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]
COMMANDS = {
    "redis": "redis-server",
    "media": "livekit-server",
    "web": "molts.asgi:application",
    "jobs": "worker -Q default",
    "clock": "celery -A molts beat",
    "speech": "run_speech",
    "agent": "run_agent",
    "avatar": "run_avatar",
}
"""What stands in the command line of each part; `render` is left out of the tests' copies."""
PARTS = [name for name in os.environ.get("MOLTS_SOAK_PARTS", ",".join(COMMANDS)).split(",") if name]
ROUNDS = int(os.environ.get("MOLTS_SOAK_ROUNDS", "1"))
BACK_SECONDS = 20.0
TOLD_SECONDS = 10.0
# Without these nothing that is said is heard, or nothing that is answered is seen. The face has a notice of its own;
# jobs, clock and speech are missed by nobody who types.
MUST_BE_TOLD = (MEDIA, WEB, AGENT, AVATAR)


@dataclass
class Outcome:
    """Seconds since the signal; None for what did not happen."""

    part: str
    how: str
    told: float | None
    word: str
    replaced: float
    answered: float
    sent_again: int

    def __str__(self) -> str:
        told = "-" if self.told is None else f"{self.told:4.1f} s {self.word}"
        back = f"replaced {self.replaced:4.1f} s  answered {self.answered:4.1f} s"
        return f"{self.part:<7} {self.how:<8} {back}  sent again {self.sent_again}  told {told}"


OUTCOMES: list[Outcome] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    print("", *OUTCOMES, sep="\n")


def leader(molts: Molts, part: str) -> psutil.Process | None:
    """The process of this part that the supervisor started."""
    for process in psutil.Process(molts.up.process.pid).children():
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if COMMANDS[part] in command and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


class Sender:
    """Sends a line again when the page offers it, as its visitor would."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self.sent_again = 0

    def look(self, words: str) -> bool:
        """Whether the answer `words` is there."""
        offer = self._visitor.page.query_selector("button.resend")
        if offer is not None:
            offer.click()
            self.sent_again += 1
        return answers(self._visitor, words)

    def wait_for_answer(self, words: str, *, seconds: float) -> None:
        self._visitor.wait_for(f"agent: {words}", lambda: self.look(words), seconds=seconds)


def answers(visitor: Visitor, words: str) -> bool:
    return any(line.role == "agent" and line.text == words for line in visitor.settled)


def says(visitor: Visitor) -> str:
    """What the page tells of trouble: the key of a notice, or how its state is called."""
    return str(
        visitor.page.evaluate(
            """() => {
                const notice = [...document.querySelectorAll('.notice')].find((item) => item.checkVisibility());
                if (notice) return notice.dataset.key;
                const chip = document.querySelector('#state').dataset.chip;
                return ['listening', 'thinking', 'speaking', 'hearing'].includes(chip) ? '' : chip;
            }"""
        )
    )


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["frozen", "killed"])
@pytest.mark.parametrize("part", [part for part in PARTS for _ in range(ROUNDS)])
def test_a_part_comes_back_while_somebody_talks(
    part: str, how: signal.Signals, molts: Molts, rooms: Rooms, enter: Enter
) -> None:
    visitor = enter()
    session = visitor.talk(rooms.face if part == AVATAR else rooms.quiet)
    visitor.wait_for_chip("listening", seconds=30)
    if part == AVATAR:
        visitor.page.wait_for_selector("#room[data-face=live], video", timeout=60_000)
    visitor.type(TABLE[0])
    visitor.wait_for_line("agent", TABLE[1], seconds=20)
    victim = leader(molts, part)
    assert victim is not None

    victim.send_signal(how)
    began = time.monotonic()
    visitor.page.wait_for_timeout(500)
    visitor.type(MEETING[0])
    told, word, replaced, answered = None, "", 0.0, 0.0
    sender = Sender(visitor)
    while not (replaced and answered):
        now = time.monotonic() - began
        if told is None and (word := says(visitor)):
            told = now
        heir = leader(molts, part)
        if not replaced and heir is not None and heir.pid != victim.pid:
            replaced = now
        if sender.look(MEETING[1]) and not answered:
            answered = now
        assert now < 90, f"replaced {replaced:.1f} s, answered {answered:.1f} s, told {told} {word}: {says(visitor)}"
        visitor.page.wait_for_timeout(100)
    outcome = Outcome(part, how.name, told, word, replaced, answered, sender.sent_again)
    OUTCOMES.append(outcome)
    print(outcome, flush=True)

    visitor.wait_for("all is well again", lambda: not says(visitor), seconds=60)
    visitor.type(PRICE[0])
    sender.wait_for_answer(PRICE[1], seconds=60)
    visitor.page.wait_for_timeout(500)
    rows = molts.rows(session)
    said = [(row.role, row.text) for row in rows]
    for question, answer, _ in (TABLE, MEETING, PRICE):
        assert said.count(("user", question)) == 1, said
        assert said.count(("agent", answer)) == 1, said
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    stored = [(row.seq, row.text) for row in rows]
    visitor.wait_for(
        "the page to show what is stored",
        lambda: [(line.seq, line.text) for line in visitor.settled] == stored,
        seconds=10,
    )
    visitor.leave()
    wait_for("a whole copy", lambda: leader(molts, part), seconds=30)
    assert outcome.answered <= BACK_SECONDS, str(outcome)
    if part in MUST_BE_TOLD and outcome.answered > TOLD_SECONDS:
        assert outcome.told is not None, "the page said nothing"
        assert outcome.told <= TOLD_SECONDS, str(outcome)
    assert part != REDIS or outcome.replaced <= TOLD_SECONDS
