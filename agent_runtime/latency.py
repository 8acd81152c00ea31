"""Splits the wait between a visitor's last word and the agent's first sound into disjoint parts.

LiveKit's figures overlap: the transcription delay lies inside the end-of-turn delay, and a model that started before
the turn was decided reports a time that was partly hidden behind the decision. Here each moment is counted once:

    last word ── recogniser waits, decision waits ── decision ── model ── voice ── face ── first sound
              └─ endpointing + stt ────────────────┘└─ llm ────┘└─ tts ─┘└ avatar ┘

so the parts add up to the total. What was not measured is unknown (None), never zero; then the others stay below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessions.services import Latency


def split_spoken_turn(
    *, user: Mapping[str, Any], agent: Mapping[str, Any], silence_seen_at: float | None, has_avatar: bool
) -> Latency:
    """Parts of a spoken turn from the two messages' metrics reports (seconds, epoch times).

    `silence_seen_at` is when voice activity detection reported the end of speech: before it the wait is endpointing's,
    between it and the transcript it is the recogniser's.
    """
    total = _wait(user, agent)
    if total is None or total < 0:
        return Latency()
    delay: float | None = user.get("end_of_turn_delay")
    if delay is None:
        # Without the moment of the decision nothing before the voice can be told apart.
        _, voice, face = _answer_parts(agent, total, has_avatar)
        return _in_ms(total=total, tts=voice, avatar=face)
    decided = min(max(delay, 0.0), total)
    recogniser = _recogniser_part(user, silence_seen_at, decided)
    model, voice, face = _answer_parts(agent, total - decided, has_avatar)
    waited = decided - (recogniser or 0.0)
    return _in_ms(total=total, endpointing=waited, stt=recogniser, llm=model, tts=voice, avatar=face)


def split_typed_turn(*, agent: Mapping[str, Any], typed_at: float, has_avatar: bool) -> Latency:
    """Parts of a turn that was typed: nothing to hear, so endpointing and recogniser are unknown."""
    started = agent.get("started_speaking_at")
    if started is None or started < typed_at:
        return Latency()
    total = started - typed_at
    model, voice, face = _answer_parts(agent, total, has_avatar)
    return _in_ms(total=total, llm=model, tts=voice, avatar=face)


def _wait(user: Mapping[str, Any], agent: Mapping[str, Any]) -> float | None:
    """Seconds from the last word to the first sound: LiveKit's figure, or else from its two ends."""
    measured: float | None = agent.get("e2e_latency")
    stopped, started = user.get("stopped_speaking_at"), agent.get("started_speaking_at")
    if measured is not None or stopped is None or started is None:
        return measured
    return float(started - stopped)


def _recogniser_part(user: Mapping[str, Any], silence_seen_at: float | None, decided: float) -> float | None:
    """The recogniser's share of the wait for the decision; None when it was not measured and counts as endpointing."""
    stopped: float | None = user.get("stopped_speaking_at")
    delay: float | None = user.get("transcription_delay")
    if stopped is None or delay is None or silence_seen_at is None:
        return None
    transcribed = stopped + delay
    return min(max(transcribed - max(silence_seen_at, stopped), 0.0), decided)


def _answer_parts(
    agent: Mapping[str, Any], rest: float, has_avatar: bool
) -> tuple[float | None, float | None, float | None]:
    """Model, voice and face, out of the time after the decision.

    The model's part lasts until the voice has its first sentence, so it is what the others leave: the time to the first
    token says less (a model may think ahead of the decision, or be slow after its first word). When the voice's part
    was not measured, the model's is unknown too.
    """
    face = min(max(agent.get("playback_latency") or 0.0, 0.0), rest) if has_avatar else None
    first_sound: float | None = agent.get("tts_node_ttfb")
    if first_sound is None:
        return None, None, face
    voice = min(max(first_sound, 0.0), rest - (face or 0.0))
    return rest - (face or 0.0) - voice, voice, face


def _in_ms(
    *,
    total: float,
    endpointing: float | None = None,
    stt: float | None = None,
    llm: float | None = None,
    tts: float | None = None,
    avatar: float | None = None,
) -> Latency:
    def ms(seconds: float | None) -> int | None:
        return None if seconds is None else round(seconds * 1000)

    return Latency(
        endpointing_ms=ms(endpointing),
        stt_ms=ms(stt),
        llm_ms=ms(llm),
        tts_ms=ms(tts),
        avatar_ms=ms(avatar),
        total_ms=ms(total),
    )
