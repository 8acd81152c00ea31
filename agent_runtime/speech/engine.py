"""Whisper models in memory, and decoding with them.

faster-whisper hands the encoder thirty seconds whatever was said; here the window fits the audio (`Window`), and
several requests go through the model in one call. Nothing is conditioned on earlier text, a decode is as long as
people can talk in that time and no longer, and what looks invented is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agent_runtime.speech.transcript import SAMPLE_RATE, RecognisedSegment, Transcription, Word
from molts.errors import BadConfiguration, Unavailable
from projects.providers.faster_whisper.credibility import Gates, is_credible
from projects.providers.faster_whisper.languages import whisper_language
from projects.providers.faster_whisper.model import prompt_tokens
from projects.providers.faster_whisper.weights import require_model
from projects.providers.shared.audio import is_silent

if TYPE_CHECKING:
    import ctranslate2
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

FRAMES_PER_SECOND = 100
MAX_FRAMES = 3000
ROOM_FRAMES = 100  # after the audio: Whisper expects some silence there
STEP_FRAMES = 250  # windows come in few sizes, so that requests meet in one call
TIMESTAMP_SECONDS = 0.02
TOKENS_PER_SECOND, TOKENS_AT_LEAST = 15, 24
WARM_UP_SECONDS = 1.0
LOAD_SECONDS = 300.0  # the longest that a model may take to load
# Marks that belong to the word before or behind them.
OPENING_MARKS, CLOSING_MARKS = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Window:
    """How much the encoder looks at: all thirty seconds, or the audio and a little more but at least `floor`."""

    floor: float = 30.0

    def frames(self, samples: int) -> int:
        wanted = samples * FRAMES_PER_SECOND // SAMPLE_RATE + ROOM_FRAMES
        fitted = math.ceil(wanted / STEP_FRAMES) * STEP_FRAMES
        return min(MAX_FRAMES, max(fitted, round(self.floor * FRAMES_PER_SECOND)))


FULL = Window(30.0)


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of audio (at most thirty seconds, 16 kHz) and how to hear it."""

    samples: NDArray[np.float32]
    window: Window = FULL
    language: str | None = None
    prompt: str = ""
    hotwords: str = ""
    words: bool = False
    beam_size: int = 1
    temperature: float = 0.0
    gates: Gates = field(default_factory=Gates)

    @property
    def kin(self) -> tuple[object, ...]:
        """Tasks of the same kin can go through the model together."""
        frames = self.window.frames(self.samples.size)
        return (frames, self.language, self.prompt, self.hotwords, self.words, self.beam_size, self.temperature)


@dataclass(frozen=True, slots=True)
class LoadedWhisper:
    """A loaded Whisper and what it runs on. Its methods block; they are called from the engine's one thread."""

    name: str
    folder: Path
    device: str
    compute_type: str
    whisper: WhisperModel = field(repr=False)

    def decode(self, tasks: Sequence[Task]) -> list[Transcription]:
        """What was said in each of `tasks`, which are of one kin."""
        heard = [task for task in tasks if not is_silent(task.samples)]
        found = iter(self._decode(heard) if heard else [])
        return [_nothing(task) if is_silent(task.samples) else next(found) for task in tasks]

    def _decode(self, tasks: Sequence[Task]) -> list[Transcription]:
        first = tasks[0]
        frames = first.window.frames(first.samples.size)
        encoded = self.whisper.encode(np.stack([self._features(task.samples, frames) for task in tasks]))
        languages = self._languages(encoded, tasks)
        tokenizers = [self._tokenizer(code) for code, _ in languages]
        prompts = [self._prompt(task, tokenizer) for task, tokenizer in zip(tasks, tokenizers, strict=True)]
        results = self._generate(encoded, prompts, tasks)
        transcripts = []
        for task, tokenizer, (code, probability), result in zip(tasks, tokenizers, languages, results, strict=True):
            segments = tuple(_segments(result, tokenizer, task))
            transcripts.append(Transcription(code, probability, task.samples.size / SAMPLE_RATE, segments))
        if first.words:
            transcripts = self._with_words(encoded, tasks, tokenizers, transcripts)
        return transcripts

    def _features(self, samples: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
        features = self.whisper.feature_extractor(samples)[:, : min(frames, samples.size // 160)]
        return np.pad(features, ((0, 0), (0, frames - features.shape[1]))).astype(np.float32, copy=False)

    def _languages(self, encoded: ctranslate2.StorageView, tasks: Sequence[Task]) -> list[tuple[str, float]]:
        if not self.whisper.model.is_multilingual:
            return [("en", 1.0)] * len(tasks)
        if known := whisper_language(tasks[0].language or "", self.whisper.supported_languages):
            return [(known, 1.0)] * len(tasks)
        best = [result[0] for result in self.whisper.model.detect_language(encoded)]
        return [(token[2:-2], float(probability)) for token, probability in best]

    def _tokenizer(self, language: str) -> Tokenizer:
        from faster_whisper.tokenizer import Tokenizer

        multilingual = self.whisper.model.is_multilingual
        return Tokenizer(self.whisper.hf_tokenizer, multilingual, task="transcribe", language=language)

    def _prompt(self, task: Task, tokenizer: Tokenizer) -> list[int]:
        told = prompt_tokens(self.whisper, task.prompt, task.hotwords)
        prompt: list[int] = self.whisper.get_prompt(tokenizer, told, hotwords=task.hotwords.strip() or None)
        return prompt

    def _generate(
        self, encoded: ctranslate2.StorageView, prompts: list[list[int]], tasks: Sequence[Task]
    ) -> list[ctranslate2.models.WhisperGenerationResult]:
        from faster_whisper.transcribe import get_suppressed_tokens

        first = tasks[0]
        longest = max(task.samples.size for task in tasks) / SAMPLE_RATE
        said = TOKENS_AT_LEAST + int(longest * TOKENS_PER_SECOND)
        sampling: dict[str, Any] = {"sampling_topk": 0, "sampling_temperature": first.temperature, "beam_size": 1}
        results: list[ctranslate2.models.WhisperGenerationResult] = self.whisper.model.generate(
            encoded,
            prompts,
            max_length=min(self.whisper.max_length, max(map(len, prompts)) + said),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=get_suppressed_tokens(self._tokenizer("en"), [-1]),
            max_initial_timestamp_index=round(1.0 / TIMESTAMP_SECONDS),
            **(sampling if first.temperature > 0 else {"beam_size": first.beam_size}),
        )
        return results

    def _with_words(
        self,
        encoded: ctranslate2.StorageView,
        tasks: Sequence[Task],
        tokenizers: Sequence[Tokenizer],
        transcripts: Sequence[Transcription],
    ) -> list[Transcription]:
        """The same with a time for every word, from where the decoder looked when it said it."""
        from faster_whisper.transcribe import merge_punctuations

        texts = [[token for segment in transcript.segments for token in segment.tokens] for transcript in transcripts]
        if not any(texts):
            return list(transcripts)
        ends = [task.samples.size // 160 for task in tasks]
        aligned = self.whisper.find_alignment(tokenizers[0], texts, encoded, ends)
        timed = []
        for task, transcript, words in zip(tasks, transcripts, aligned, strict=True):
            merge_punctuations(words, OPENING_MARKS, CLOSING_MARKS)
            timed.append(_timed(transcript, words, task.samples.size / SAMPLE_RATE))
        return timed


def _nothing(task: Task) -> Transcription:
    return Transcription("", 0.0, task.samples.size / SAMPLE_RATE, ())


def _segments(
    result: ctranslate2.models.WhisperGenerationResult, tokenizer: Tokenizer, task: Task
) -> Iterator[RecognisedSegment]:
    """Pieces between two timestamps, without those that were made up."""
    from faster_whisper.transcribe import get_compression_ratio

    tokens = result.sequences_ids[0]
    likelihood = result.scores[0] * len(tokens) / (len(tokens) + 1)
    if result.no_speech_prob > task.gates.no_speech_threshold and likelihood < task.gates.log_prob_threshold:
        return
    duration = task.samples.size / SAMPLE_RATE
    for start, end, said in _pieces(tokens, tokenizer.timestamp_begin, tokenizer.eot, duration):
        text = tokenizer.decode(said)
        segment = RecognisedSegment(
            start=start,
            end=min(max(start, end), duration),
            text=text,
            avg_logprob=likelihood,
            no_speech_prob=result.no_speech_prob,
            compression_ratio=get_compression_ratio(text),
            temperature=task.temperature,
            tokens=tuple(said),
        )
        if is_credible(segment, task.gates):
            yield segment


def _pieces(
    tokens: Sequence[int], first_timestamp: int, end_of_text: int, duration: float
) -> Iterator[tuple[float, float, list[int]]]:
    """Start, end and text tokens of what stands between the timestamps."""
    start, said = 0.0, list[int]()
    for is_time, group in itertools.groupby(tokens, lambda token: token >= first_timestamp):
        if not is_time:
            said = [token for token in group if token < end_of_text]
            continue
        times = [(token - first_timestamp) * TIMESTAMP_SECONDS for token in group]
        if said:
            yield start, times[0], said
        start, said = times[-1], []
    if said:
        yield start, duration, said


def _timed(transcript: Transcription, words: Sequence[dict[str, Any]], duration: float) -> Transcription:
    """`transcript` with `words` given out to its segments, by the tokens that each has."""
    remaining = iter(word for word in words if word["word"])
    segments = []
    for segment in transcript.segments:
        mine, tokens = list[Word](), 0
        while tokens < len(segment.tokens) and (word := next(remaining, None)) is not None:
            tokens += len(word["tokens"])
            start, end = min(float(word["start"]), duration), min(float(word["end"]), duration)
            mine.append(Word(round(start, 2), round(end, 2), word["word"], round(float(word["probability"]), 3)))
        segments.append(
            RecognisedSegment(
                start=segment.start,
                end=segment.end,
                text=segment.text,
                words=tuple(mine),
                avg_logprob=segment.avg_logprob,
                no_speech_prob=segment.no_speech_prob,
                compression_ratio=segment.compression_ratio,
                temperature=segment.temperature,
                tokens=segment.tokens,
            )
        )
    return Transcription(transcript.language, transcript.language_probability, transcript.duration, tuple(segments))


class Engine:
    """The models of this process and the one thread that they all run in: calls queue instead of fighting for cores."""

    def __init__(self, *, device: str = "auto", compute_type: str = "auto", threads: int = 0) -> None:
        self._device = device
        self._compute_type = compute_type
        self._threads = threads
        self._loaded: dict[str, LoadedWhisper] = {}
        self._held: Counter[str] = Counter()
        self._active = ""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="whisper")
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="whisper-load")
        self.busy_seconds = 0.0

    @property
    def active(self) -> LoadedWhisper | None:
        """The model that serves who names none."""
        return self._loaded.get(self._active)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of what is in memory, the active one first."""
        return tuple(sorted(self._loaded, key=lambda name: name != self._active))

    def get(self, name: str) -> LoadedWhisper | None:
        return self._loaded.get(name) if name else self.active

    async def load(self, name: str) -> LoadedWhisper:
        """Have the model `name` in memory, tried out. Conversations go on meanwhile.

        Raises BadConfiguration when it is not on this machine or cannot be used, Unavailable when it takes for ever.
        """
        if name not in self._loaded:
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(LOAD_SECONDS):
                    self._loaded[name] = await loop.run_in_executor(self._loader, self._load, name)
            except TimeoutError:
                raise Unavailable(f"Whisper model {name} took too long to load.") from None
        return self._loaded[name]

    def use(self, name: str) -> None:
        """Serve with the loaded model `name` from the next call on."""
        if name not in self._loaded:
            raise BadConfiguration(f"Whisper model {name} is not loaded.")
        self._active = name

    def drop(self, name: str) -> None:
        """Give the memory of `name` back; the active model stays, and one that is held."""
        if name != self._active and not self._held[name]:
            self._loaded.pop(name, None)

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Let nobody drop the model `name` within the block."""
        self._held[name] += 1
        try:
            yield
        finally:
            self._held[name] -= 1

    async def decode(self, model: LoadedWhisper, tasks: Sequence[Task]) -> list[Transcription]:
        """Run `tasks`, which are of one kin, in the model thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._timed_decode, model, tasks)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _timed_decode(self, model: LoadedWhisper, tasks: Sequence[Task]) -> list[Transcription]:
        began = time.perf_counter()
        try:
            return model.decode(tasks)
        finally:
            self.busy_seconds += time.perf_counter() - began

    def _load(self, name: str) -> LoadedWhisper:
        from faster_whisper import WhisperModel

        folder = require_model(name)
        try:
            whisper = WhisperModel(
                str(folder),
                device=self._device,
                compute_type=self._compute_type,
                cpu_threads=self._threads,
                local_files_only=True,
            )
            model = LoadedWhisper(name, folder, str(whisper.model.device), str(whisper.model.compute_type), whisper)
            noise = np.random.default_rng(0).normal(0, 0.01, int(WARM_UP_SECONDS * SAMPLE_RATE)).astype(np.float32)
            model.decode([Task(noise, Window(10.0), language="en", words=True)])
        except Exception as error:  # a damaged tokenizer.json comes as nothing more definite
            raise BadConfiguration(f"Whisper model {folder} cannot be loaded: {error}") from error
        return model
