"""How smoothly Chromium plays a face that speaks: a whole copy of molts, its own page, and the browser's own count.

pytest tests/bench/bench_face_in_browser.py -m bench -s          BENCH_SECONDS=30 is the length of the measurement
"""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from tests.e2e.browser import Visitor
from tests.e2e.conftest import running
from tests.e2e.stack import MICRO_WHISPER, Molts

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]
SECONDS = float(os.environ.get("BENCH_SECONDS", "30"))
QUESTION = "tell me about the weather"
ANSWER = "The weather is good today, it was good yesterday, and it will be good tomorrow at noon and in the evening. "
# A frame that was skipped has no callback: the browser's own counter says how many there were.
WATCH = """
(seconds) => new Promise((done) => {
  const video = document.querySelector("#avatar");
  const shown = [];
  const note = (now, frame) => {
    shown.push([now, frame.presentedFrames]);
    if (now - shown[0][0] > seconds * 1000) done(shown);
    else video.requestVideoFrameCallback(note);
  };
  video.requestVideoFrameCallback(note);
})
"""


def make_room(molts: Molts) -> str:
    """Address of a room whose agent has a drawn face and one long answer."""
    code = f"""
        from avatars.models import Avatar
        from avatars.services import save_agent_revision
        from django.contrib.auth import get_user_model
        from projects.services import create_project
        owner = get_user_model().objects.get(username="admin")
        project = create_project(name="Faces", owner=owner)
        face = Avatar.objects.create(project=project, name="Mira", engine="puppet", options={{"character": "mira"}})
        agent = Agent.objects.create(project=project, name="Mira", slug="mira", avatar=face)
        answer = {ANSWER * round(SECONDS / 4)!r}
        AgentAnswer.objects.create(agent=agent, position=0, question={QUESTION!r}, answer=answer)
        save_agent_revision(agent=agent)
        result = RoomLink.objects.create(project=project, agent=agent).url
    """
    return str(molts.shell(dedent(code)))


def test_a_face_plays_smoothly_in_the_browser(tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    for molts in running(Molts(tmp_path / "up", env={"MOLTS_WHISPER_MODEL": str(MICRO_WHISPER)})):
        address = make_room(molts)
        with sync_playwright() as playwright:
            visitor = Visitor(playwright, "visitor")
            try:
                visitor.talk(address)
                visitor.wait_for_chip("listening", seconds=20)
                visitor.page.wait_for_selector("#face[data-moving]", timeout=60_000)
                visitor.type(QUESTION)
                visitor.wait_for_chip("speaking", seconds=20)
                visitor.page.set_default_timeout((SECONDS + 30) * 1000)
                shown = np.array(visitor.page.evaluate(WATCH, SECONDS))
                visitor.page.screenshot(path=tmp_path / "speaking.png")
                speaks = visitor.page.get_attribute("#state", "data-chip")
                visitor.leave()
            finally:
                visitor.close()
    at, counted = shown.T
    took = (at[-1] - at[0]) / 1000
    intervals = np.diff(at) / np.maximum(np.diff(counted), 1)
    print(
        f"\nChromium for {took:.0f} s: {(counted[-1] - counted[0]) / took:.1f} frames a second (at least 20), "
        f"apart p50 {np.median(intervals):.0f} p99 {np.percentile(intervals, 99):.0f} ms; state at the end {speaks!r}; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; picture: {tmp_path / 'speaking.png'}"
    )
