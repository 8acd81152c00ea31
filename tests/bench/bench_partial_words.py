"""How far behind the voice the page shows words: a whole copy of molts, Chromium with a microphone, micro-whisper.

For each word, the time from its end in the sound (espeak-ng knows it) until the transcript on the page holds it in its
place. Both are read from the page's clock. See README.md in this folder.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from tests.e2e.browser import Visitor
from tests.e2e.conftest import running
from tests.e2e.rooms import MEETING, PRICE, TABLE, make_rooms
from tests.e2e.speech import microphone, speak_with_times
from tests.e2e.stack import MICRO_WHISPER, Molts
from tests.e2e.words_shown import watch, watched

SENTENCES = (
    TABLE[0],
    "can you tell me the price of the video please",
    MEETING[0],
    "i would like to order a table for two",
    PRICE[0],
    "please show me the weather for tomorrow morning",
)
FIRST_SECONDS, APART_SECONDS = 10, 10
GOAL_SECONDS = 0.6


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_words_follow_the_voice_on_the_page(tmp_path: Path) -> None:
    spoken = [speak_with_times(sentence) for sentence in SENTENCES]
    timed = [(FIRST_SECONDS + APART_SECONDS * number, each) for number, each in enumerate(spoken)]
    for molts in running(Molts(tmp_path / "up", env={"MOLTS_WHISPER_MODEL": str(MICRO_WHISPER)})):
        rooms = make_rooms(molts)
        with sync_playwright() as playwright:
            visitor = Visitor(playwright, "visitor", microphone=microphone(tmp_path / "voice.wav", *timed))
            try:
                watch(visitor.page)
                visitor.talk(rooms.quiet)
                visitor.wait_for_line("user", SENTENCES[-1].split()[-1], seconds=APART_SECONDS * len(timed) + 30)
                seen = watched(visitor.page)
                visitor.leave()
            finally:
                visitor.close()
    assert len(seen.onsets) == len(spoken), "a sentence was not played"
    delays = [delay for number, each in enumerate(spoken) for delay in seen.delays(number, each)]
    shown = sorted(delay for delay in delays if delay is not None)
    print(
        f"\n{len(delays)} words in {len(spoken)} sentences: on the page {statistics.median(shown) * 1000:.0f} ms after"
        f" the voice (median; quickest tenth {np.quantile(shown, 0.1) * 1000:.0f} ms, slowest tenth"
        f" {np.quantile(shown, 0.9) * 1000:.0f} ms), {len(delays) - len(shown)} never in their place;"
        f" load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
    )
    assert statistics.median(shown) <= GOAL_SECONDS
