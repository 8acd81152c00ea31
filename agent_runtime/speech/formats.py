"""A transcript in the shapes of OpenAI's transcription API."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from agent_runtime.speech.languages import WRITTEN_WITHOUT_SPACES, language_name
from agent_runtime.speech.transcript import RecognisedSegment, Transcription
from sessions.captions import Cue, break_up


def plain_text(transcript: Transcription) -> str:
    return "".join(text_pieces(transcript.segments, transcript.language)).strip()


def text_pieces(segments: Iterable[RecognisedSegment], language: str) -> Iterable[str]:
    """The text of each segment, with a space before it where the language writes one."""
    space = "" if language in WRITTEN_WITHOUT_SPACES else " "
    for segment in segments:
        if text := segment.text.strip():
            yield space + text


def as_json(transcript: Transcription) -> dict[str, Any]:
    return {"text": plain_text(transcript), "usage": usage(transcript)}


def as_verbose_json(transcript: Transcription, *, segments: bool = True, words: bool = False) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "task": "transcribe",
        "language": language_name(transcript.language),
        "duration": round(transcript.duration, 3),
        "text": plain_text(transcript),
        "usage": usage(transcript),
    }
    if words:
        answer["words"] = [
            {"word": word.text.strip(), "start": seconds(word.start), "end": seconds(word.end)}
            for segment in transcript.segments
            for word in segment.words
        ]
    if segments:
        answer["segments"] = [_segment(index, segment) for index, segment in enumerate(transcript.segments)]
    return answer


def _segment(index: int, segment: RecognisedSegment) -> dict[str, Any]:
    return {
        "id": index,
        "seek": round(segment.start * 100),
        "start": seconds(segment.start),
        "end": seconds(segment.end),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }


def usage(transcript: Transcription) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration)}


def as_text(transcript: Transcription) -> str:
    return plain_text(transcript) + "\n"


def as_srt(transcript: Transcription) -> str:
    cues = (
        f"{number}\n{clock(cue.start_ms / 1000, ',')} --> {clock(cue.end_ms / 1000, ',')}\n{_one_line(cue.text)}\n"
        for number, cue in enumerate(_cues(transcript), start=1)
    )
    return "\n".join(cues)


def as_vtt(transcript: Transcription) -> str:
    cues = (
        f"{clock(cue.start_ms / 1000, '.')} --> {clock(cue.end_ms / 1000, '.')}\n{_vtt_text(cue.text)}\n"
        for cue in _cues(transcript)
    )
    return "\n".join(["WEBVTT\n", *cues])


def _cues(transcript: Transcription) -> Iterable[Cue]:
    for segment in _spoken(transcript):
        yield from break_up(Cue(segment.text, round(max(segment.start, 0.0) * 1000), round(_end(segment) * 1000)))


def _spoken(transcript: Transcription) -> list[RecognisedSegment]:
    return [segment for segment in transcript.segments if segment.text.strip()]


def _end(segment: RecognisedSegment) -> float:
    return max(segment.end, segment.start + 0.001)  # players drop a cue that takes no time


def _one_line(text: str) -> str:
    """Text that cannot end its cue: a blank line or an arrow would."""
    return " ".join(text.split()).replace("-->", "->")


def _vtt_text(text: str) -> str:
    return _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clock(at: float, decimal_mark: str) -> str:
    """`HH:MM:SS.mmm`"""
    milliseconds = round(max(at, 0.0) * 1000)
    hours, milliseconds = divmod(milliseconds, 3_600_000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{hours:02d}:{minutes:02d}:{whole:02d}{decimal_mark}{milliseconds:03d}"


def seconds(at: float) -> float:
    return round(at, 3)


def delta_event(text: str) -> bytes:
    return event({"type": "transcript.text.delta", "delta": text})


def done_event(text: str) -> bytes:
    return event({"type": "transcript.text.done", "text": text})


def error_body(message: str, *, kind: str, code: str, param: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
