"""When the page shows a word, measured against when the voice had said it: both by the page's own clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page

from tests.e2e.speech import LOUD, Spoken

PAUSE_SECONDS = 1.0  # between two sentences
# The microphone is listened to where the page opens it. A callback is late when the page is busy, so the clock of the
# sound is set by the one that came soonest after its samples.
WATCH = """
(() => {
  const watched = { rate: 0, samples: 0, zero: Infinity, loud: [], lines: [], context: null };
  window.watched = watched;
  const media = navigator.mediaDevices;
  const open = media.getUserMedia.bind(media);
  media.getUserMedia = async (constraints) => {
    const stream = await open(constraints);
    if (stream.getAudioTracks().length && !watched.context) {
      watched.context = new AudioContext();
      watched.rate = watched.context.sampleRate;
      const listener = watched.context.createScriptProcessor(1024, 1, 1);
      listener.onaudioprocess = (event) => {
        const sound = event.inputBuffer.getChannelData(0);
        for (let index = 0; index < sound.length; index += 1)
          if (Math.abs(sound[index]) > LEVEL) {
            watched.loud.push(watched.samples + index);
            break;
          }
        watched.samples += sound.length;
        watched.zero = Math.min(watched.zero, performance.now() - (watched.samples / watched.rate) * 1000);
      };
      watched.context.createMediaStreamSource(stream).connect(listener);
      listener.connect(watched.context.destination);
    }
    return stream;
  };
  const look = () => {
    const line = [...document.querySelectorAll("#transcript li.segment[data-role=user]")].at(-1);
    const text = line?.querySelector(".text")?.textContent ?? "";
    const last = watched.lines.at(-1);
    const final = line?.classList.contains("final") ?? false;
    if (line && (text !== last?.text || final !== last.final))
      watched.lines.push({ at: performance.now(), text, final });
  };
  const options = { subtree: true, childList: true, characterData: true, attributes: true };
  new MutationObserver(look).observe(document, options);
})();
""".replace("LEVEL", str(LOUD / 32768))


@dataclass(frozen=True)
class Shown:
    """A text that the page showed, and when, in seconds of the page's clock."""

    at: float
    text: str
    final: bool


@dataclass(frozen=True)
class Watched:
    """What the microphone and the transcript did."""

    onsets: list[float]
    """When each sentence began, in seconds of the page's clock."""
    lines: list[Shown]

    def delays(self, number: int, spoken: Spoken) -> list[float | None]:
        """Seconds from the end of each word of sentence `number` until it was shown in its place; None: never."""
        words = [word for word, _ in spoken.words]
        began = self.onsets[number]
        until = self.onsets[number + 1] if number + 1 < len(self.onsets) else float("inf")
        mine = [line for line in self.lines if began <= line.at < until]
        shown = [self._shown(mine, words[: count + 1]) for count in range(len(words))]
        return [at - began - end if at is not None else None for at, (_, end) in zip(shown, spoken.words, strict=True)]

    @staticmethod
    def _shown(lines: list[Shown], words: list[str]) -> float | None:
        place = len(words) - 1
        return next((line.at for line in lines if line.text.split()[place : place + 1] == words[-1:]), None)


def _first(lines: list[Shown], place: int, word: str) -> float | None:
    return next((line.at for line in lines if line.text.split()[place : place + 1] == [word]), None)


def watch(page: Page) -> None:
    """From the next address on."""
    page.add_init_script(WATCH)


def watched(page: Page) -> Watched:
    seen: dict[str, Any] = page.evaluate("() => { const { context, ...seen } = window.watched; return seen; }")
    loud = [sample / seen["rate"] for sample in seen["loud"]]
    begun = [at for before, at in zip([-PAUSE_SECONDS, *loud], loud, strict=False) if at - before >= PAUSE_SECONDS]
    lines = [Shown(line["at"] / 1000, line["text"], line["final"]) for line in seen["lines"]]
    return Watched([seen["zero"] / 1000 + at for at in begun], lines)
