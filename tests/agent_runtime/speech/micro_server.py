"""The transcription API over micro-whisper, as a process of its own: `python -m ...micro_server PORT`."""

from __future__ import annotations

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django
import uvicorn
from numpy.typing import NDArray

from agent_runtime.speech.http_api import Limits, SpeechAPI
from agent_runtime.speech.transcript import SAMPLE_RATE, Segment, Transcript, Word

MICRO_WHISPER = Path(__file__).parents[2] / "fixtures" / "micro-whisper"
SECRET = "open-sesame"
LIMITS = Limits(max_bytes=200_000_000, max_seconds=3600)


class MicroRecogniser:
    """A `Recogniser` on faster-whisper, one call at a time."""

    def __init__(self) -> None:
        from faster_whisper import WhisperModel

        self._whisper = WhisperModel(str(MICRO_WHISPER), device="cpu", compute_type="int8", cpu_threads=1)
        self._executor = ThreadPoolExecutor(1)

    @property
    def models(self) -> tuple[str, ...]:
        return ("micro-whisper",)

    async def transcribe(self, samples: NDArray[Any], **wish: Any) -> Transcript:
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: self._transcribe(samples, **wish)
        )

    def _transcribe(
        self,
        samples: NDArray[Any],
        *,
        language: str | None = None,
        prompt: str = "",
        hotwords: str = "",
        words: bool = False,
        temperature: float = 0.0,
    ) -> Transcript:
        found, info = self._whisper.transcribe(
            samples,
            language=language,
            initial_prompt=prompt or None,
            hotwords=hotwords or None,
            word_timestamps=words,
            temperature=temperature,
            condition_on_previous_text=False,
            beam_size=1,
        )
        segments = tuple(
            Segment(
                start=segment.start,
                end=segment.end,
                text=segment.text,
                words=tuple(Word(word.start, word.end, word.word, word.probability) for word in segment.words or ()),
                avg_logprob=segment.avg_logprob,
                no_speech_prob=segment.no_speech_prob,
                compression_ratio=segment.compression_ratio,
                temperature=segment.temperature or 0.0,
                tokens=tuple(segment.tokens),
            )
            for segment in found
        )
        return Transcript(info.language, info.language_probability, len(samples) / SAMPLE_RATE, segments)


if __name__ == "__main__":
    django.setup()
    logging.getLogger("faster_whisper").setLevel(logging.WARNING)
    app = SpeechAPI(MicroRecogniser(), secret=SECRET, limits=LIMITS)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), lifespan="off", log_level="warning")
