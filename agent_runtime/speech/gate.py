"""Where in a recording there is speech, by the voice detector that the conversations use too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from agent_runtime.speech.transcript import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Span = tuple[int, int]

FRAME = 512  # samples that the detector takes at once, 32 ms
BEGINS, GOES_ON = 0.5, 0.35  # probability of speech: more to begin than to go on
FRAMES_A_SECOND = SAMPLE_RATE / FRAME
SILENCE = round(0.3 * FRAMES_A_SECOND)  # frames of it end a span
SHORTEST = round(0.1 * FRAMES_A_SECOND)
LONGEST, SEARCH = round(25 * FRAMES_A_SECOND), round(10 * FRAMES_A_SECOND)
PAD = round(0.2 * FRAMES_A_SECOND)  # soft sounds at both ends belong to the words


def speech_spans(samples: NDArray[np.float32]) -> list[Span]:
    """(first, past the last) sample of each stretch of speech, in order, at most 25 s each. Blocks, 2 ms a second."""
    probabilities = speech_probabilities(samples)
    spans = [part for span in stretches(probabilities) for part in cut_long(span, probabilities)]
    return [(first * FRAME, min(last * FRAME, len(samples))) for first, last in pad(spans, len(probabilities))]


def speech_probabilities(samples: NDArray[np.float32]) -> list[float]:
    """One for each frame; the last frame is filled up with silence."""
    from livekit.local_inference import VAD

    pcm = (np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
    frames = np.pad(pcm, (0, -len(pcm) % FRAME)).reshape(-1, FRAME)
    with VAD() as detector:
        return [detector.predict(frame) for frame in frames]


def stretches(probabilities: Sequence[float]) -> list[Span]:
    """Spans of frames with speech, silences of less than SILENCE included."""
    spans: list[Span] = []
    first, last = -1, -1
    for index, probability in enumerate(probabilities):
        if probability >= (GOES_ON if first >= 0 else BEGINS):
            first, last = (first if first >= 0 else index), index
        elif first >= 0 and index - last >= SILENCE:
            spans.append((first, last + 1))
            first = -1
    if first >= 0:
        spans.append((first, last + 1))
    return [span for span in spans if span[1] - span[0] >= SHORTEST]


def cut_long(span: Span, probabilities: Sequence[float]) -> list[Span]:
    """A span in parts of at most LONGEST frames, cut where speech is least likely."""
    parts: list[Span] = []
    first, last = span
    while last - first > LONGEST:
        search = range(first + LONGEST - SEARCH, first + LONGEST)
        cut = min(search, key=lambda index: probabilities[index])
        parts.append((first, cut))
        first = cut
    return [*parts, (first, last)]


def pad(spans: Sequence[Span], frames: int) -> list[Span]:
    """The spans with up to PAD frames more at both ends; between two of them, at most half of what is there."""
    padded = []
    for index, (first, last) in enumerate(spans):
        before = (spans[index - 1][1] + first + 1) // 2 if index else 0
        after = (last + spans[index + 1][0] + 1) // 2 if index + 1 < len(spans) else frames
        padded.append((max(first - PAD, before), min(last + PAD, after)))
    return padded
