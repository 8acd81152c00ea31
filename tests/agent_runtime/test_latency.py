from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime.latency import split_spoken_turn, split_typed_turn
from sessions.services import Latency

seconds = st.floats(0, 30, allow_nan=False)
maybe_seconds = st.none() | st.floats(-1, 30, allow_nan=False)
PARTS = ("endpointing_ms", "stt_ms", "llm_ms", "tts_ms", "avatar_ms")


def parts_of(latency: Latency) -> list[int]:
    return [part for name in PARTS if (part := getattr(latency, name)) is not None]


def test_it_counts_each_moment_of_a_spoken_turn_once() -> None:
    user = {"stopped_speaking_at": 100.0, "transcription_delay": 0.35, "end_of_turn_delay": 0.40}
    agent = {"e2e_latency": 0.60, "tts_node_ttfb": 0.05, "playback_latency": 0.02}
    latency = split_spoken_turn(user=user, agent=agent, silence_seen_at=100.25, has_avatar=False)
    # 0.40 s until the decision, of which the recogniser took 0.10 s after silence was seen; then 0.20 s to the voice.
    assert latency == Latency(endpointing_ms=300, stt_ms=100, llm_ms=150, tts_ms=50, avatar_ms=None, total_ms=600)


def test_it_counts_the_way_through_a_face() -> None:
    agent = {"e2e_latency": 1.0, "tts_node_ttfb": 0.1, "playback_latency": 0.2}
    latency = split_spoken_turn(user={"end_of_turn_delay": 0.4}, agent=agent, silence_seen_at=None, has_avatar=True)
    assert latency == Latency(endpointing_ms=400, stt_ms=None, llm_ms=300, tts_ms=100, avatar_ms=200, total_ms=1000)


def test_it_gives_a_model_that_thought_ahead_only_the_time_it_was_waited_for() -> None:
    agent = {"e2e_latency": 0.45, "llm_node_ttft": 0.9, "tts_node_ttfb": 0.3}
    latency = split_spoken_turn(user={"end_of_turn_delay": 0.4}, agent=agent, silence_seen_at=None, has_avatar=False)
    assert (latency.endpointing_ms, latency.llm_ms, latency.tts_ms) == (400, 0, 50)


@pytest.mark.parametrize("agent", [{}, {"e2e_latency": None}, {"e2e_latency": -0.2}])
def test_it_knows_nothing_of_an_answer_that_was_not_heard(agent: dict[str, Any]) -> None:
    assert split_spoken_turn(user={}, agent=agent, silence_seen_at=None, has_avatar=False) == Latency()


def test_it_leaves_hearing_out_of_a_typed_turn() -> None:
    latency = split_typed_turn(
        agent={"started_speaking_at": 50.5, "tts_node_ttfb": 0.1}, typed_at=50.0, has_avatar=False
    )
    assert latency == Latency(endpointing_ms=None, stt_ms=None, llm_ms=400, tts_ms=100, total_ms=500)


@pytest.mark.parametrize("agent", [{}, {"started_speaking_at": 49.0}])
def test_it_knows_nothing_of_a_typed_turn_whose_answer_was_not_heard(agent: dict[str, Any]) -> None:
    assert split_typed_turn(agent=agent, typed_at=50.0, has_avatar=False) == Latency()


@given(
    total=seconds,
    end_of_turn=maybe_seconds,
    transcription=maybe_seconds,
    silence=maybe_seconds,
    voice=maybe_seconds,
    playback=maybe_seconds,
    has_avatar=st.booleans(),
    typed=st.booleans(),
)
def test_its_parts_never_overlap_and_sum_to_the_total(
    total: float,
    end_of_turn: float | None,
    transcription: float | None,
    silence: float | None,
    voice: float | None,
    playback: float | None,
    has_avatar: bool,
    typed: bool,
) -> None:
    stopped = 1_700_000_000.0
    agent = {"e2e_latency": total, "started_speaking_at": stopped + total, "tts_node_ttfb": voice}
    agent["playback_latency"] = playback
    if typed:
        latency = split_typed_turn(agent=agent, typed_at=stopped, has_avatar=has_avatar)
    else:
        user = {
            "stopped_speaking_at": stopped,
            "transcription_delay": transcription,
            "end_of_turn_delay": end_of_turn,
        }
        seen = None if silence is None else stopped + silence
        latency = split_spoken_turn(user=user, agent=agent, silence_seen_at=seen, has_avatar=has_avatar)
    assert latency.total_ms == round(total * 1000)
    assert all(part >= 0 for part in parts_of(latency))
    if None in (latency.llm_ms, latency.tts_ms):
        assert sum(parts_of(latency)) <= latency.total_ms + 50
    else:
        assert abs(sum(parts_of(latency)) - latency.total_ms) <= 50
    assert (latency.tts_ms is None) == (voice is None)
    assert typed or (latency.endpointing_ms is None) == (end_of_turn is None)
    assert (latency.avatar_ms is None) == (not has_avatar)


def test_it_calls_unknown_what_was_not_measured() -> None:
    unmeasured_decision = split_spoken_turn(
        user={}, agent={"e2e_latency": 0.6, "tts_node_ttfb": 0.1}, silence_seen_at=None, has_avatar=False
    )
    assert unmeasured_decision == Latency(tts_ms=100, total_ms=600)
    unmeasured_voice = split_spoken_turn(
        user={"end_of_turn_delay": 0.4}, agent={"e2e_latency": 0.6}, silence_seen_at=None, has_avatar=False
    )
    assert unmeasured_voice == Latency(endpointing_ms=400, total_ms=600)
