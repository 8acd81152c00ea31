"""Chromium as a visitor uses it: a microphone that speaks a WAV file, a page, and ears for what comes back."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, Playwright, ViewportSize, WebSocket

from tests.e2e.speech import Samples, recognise

DESKTOP: ViewportSize = {"width": 1440, "height": 900}
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    "--disable-gpu",
)
POLL_MS = 100
# Everything that comes from the agent's audio track, as it reaches the page: 16-bit samples at 16 kHz.
EARS = """
(() => {
  const heard = { chunks: [], context: null, sink: null, known: new Set() };
  window.heard = heard;
  const listen = (track) => {
    if (!heard.context) {
      heard.context = new AudioContext({ sampleRate: 16000 });
      heard.sink = heard.context.createScriptProcessor(4096, 1, 1);
      heard.sink.onaudioprocess = (event) => {
        const samples = event.inputBuffer.getChannelData(0);
        const chunk = new Int16Array(samples.length);
        for (let index = 0; index < samples.length; index += 1)
          chunk[index] = Math.max(-1, Math.min(1, samples[index])) * 32767;
        heard.chunks.push(chunk);
      };
      heard.sink.connect(heard.context.destination);
    }
    heard.context.createMediaStreamSource(new MediaStream([track])).connect(heard.sink);
  };
  setInterval(() => {
    for (const participant of window.molts?.room?.remoteParticipants.values() ?? [])
      for (const publication of participant.audioTrackPublications.values()) {
        const track = publication.track?.mediaStreamTrack;
        if (!track || heard.known.has(track.id)) continue;
        heard.known.add(track.id);
        listen(track);
      }
  }, 20);
  window.takeHeard = () => {
    const bytes = heard.chunks.map((chunk) => new Uint8Array(chunk.buffer));
    let text = "";
    for (const part of bytes) text += String.fromCharCode(...part);
    return btoa(text);
  };
})();
"""


@dataclass(frozen=True)
class Line:
    """A line of the transcript as the page shows it. `seq` is None until it has settled."""

    seq: int | None
    role: str
    text: str
    segment_id: str


@dataclass
class Socket:
    """One WebSocket connection of the page: its address and what came through it."""

    url: str
    events: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False


class Visitor:
    """A browser of its own with one page."""

    def __init__(
        self, playwright: Playwright, name: str, *, microphone: Path | None = None, flags: Sequence[str] = ()
    ) -> None:
        self.name, self.microphone = name, microphone
        own = [*FLAGS, *flags]
        if microphone is not None:
            own.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        self.browser: Browser = playwright.chromium.launch(executable_path=program, args=own)
        self.context = self.browser.new_context(viewport=DESKTOP, permissions=["microphone"], reduced_motion="reduce")
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.add_init_script(EARS)
        self.sockets: list[Socket] = []
        self.console: list[str] = []
        self.page.on("websocket", self._on_socket)
        self.page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.console.append(f"error: {error}"))

    def _on_socket(self, socket: WebSocket) -> None:
        if "/ws/sessions/" not in socket.url:
            return
        mine = Socket(socket.url)
        self.sockets.append(mine)
        socket.on("framereceived", lambda frame: mine.events.append(json.loads(frame)))
        socket.on("close", lambda _: setattr(mine, "closed", True))

    # -- doing ---------------------------------------------------------------------------------------------------------
    def talk(self, url: str) -> str:
        """Open the room and press Talk; returns the session's id."""
        self.page.goto(url)
        self.page.click("#talk")
        self.wait_for("a session", lambda: self.page.evaluate("window.molts?.state().sessionId"), seconds=20)
        return self.session_id

    def type(self, text: str) -> None:
        self.page.fill("#say-text", text)
        self.page.press("#say-text", "Enter")

    def leave(self) -> None:
        self.page.click("#leave")
        self.wait_for_phase("ended", seconds=10)

    def close(self) -> None:
        self.browser.close()

    # -- seeing --------------------------------------------------------------------------------------------------------
    @property
    def session_id(self) -> str:
        return str(self.page.evaluate("window.molts.state().sessionId"))

    @property
    def lines(self) -> list[Line]:
        """Every line on the page, from top to bottom."""
        found = self.page.evaluate(
            """() => [...document.querySelectorAll('#transcript li.segment')].map((line) => ({
                seq: line.dataset.seq ? Number(line.dataset.seq) : null,
                role: line.dataset.role,
                text: line.querySelector('.text').textContent,
                segment_id: line.dataset.segmentId,
            }))"""
        )
        return [Line(**line) for line in found]

    @property
    def settled(self) -> list[Line]:
        return [line for line in self.lines if line.seq is not None]

    def wait_for(self, what: str, look: Callable[[], object], *, seconds: float) -> None:
        """Until `look` returns something true. Raises AssertionError naming `what`."""
        until = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < until, f"waited {seconds:.0f} s in vain for: {what}"
            self.page.wait_for_timeout(POLL_MS)

    def wait_for_line(self, role: str, words: str, *, seconds: float) -> None:
        """Until a settled line of `role` holds `words`."""

        def is_there() -> bool:
            return any(line.role == role and words.lower() in line.text.lower() for line in self.settled)

        self.wait_for(f"{role}: {words}", is_there, seconds=seconds)

    def wait_for_chip(self, *chips: str, seconds: float) -> None:
        selector = ", ".join(f"#state[data-chip={chip}]" for chip in chips)
        self.page.wait_for_selector(selector, timeout=seconds * 1000)

    def wait_for_phase(self, phase: str, *, seconds: float) -> None:
        self.page.wait_for_selector(f"#room[data-phase={phase}]", timeout=seconds * 1000)

    def wait_for_notice(self, key: str, *, seconds: float) -> None:
        self.page.wait_for_selector(f".notice[data-key={key}]", timeout=seconds * 1000)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Events of this type, in the order in which they came."""
        return [event for socket in self.sockets for event in socket.events if event["type"] == kind]

    # -- hearing -------------------------------------------------------------------------------------------------------
    @property
    def heard(self) -> Samples:
        """All that has come from the agent so far, 16 kHz."""
        return np.frombuffer(base64.b64decode(self.page.evaluate("window.takeHeard()")), dtype=np.int16)

    @property
    def heard_words(self) -> str:
        return recognise(self.heard)

    # -- when a test fails ---------------------------------------------------------------------------------------------
    def describe(self, folder: Path) -> None:
        """Leave a picture and what is known of the page in `folder`."""
        self.page.screenshot(path=folder / f"{self.name}.png", timeout=5_000)
        state = self.page.evaluate("JSON.stringify(window.molts?.state(), null, 1)")
        events = "\n".join(json.dumps(event)[:300] for socket in self.sockets for event in socket.events[-60:])
        (folder / f"{self.name}.txt").write_text(
            "\n\n".join([self.page.url, str(state), "\n".join(self.console[-60:]), events])
        )
