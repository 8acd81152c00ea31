from django.db import models


class SessionState(models.TextChoices):
    WAITING = "waiting", "Waiting for the agent"
    ACTIVE = "active", "Active"
    ENDED = "ended", "Ended"
    FAILED = "failed", "Failed"


LIVE_STATES = (SessionState.WAITING, SessionState.ACTIVE)


class EndReason(models.TextChoices):
    VISITOR_LEFT = "visitor_left", "The visitor left"
    ENDED_BY_USER = "ended_by_user", "Ended by the visitor"
    ENDED_BY_API = "ended_by_api", "Ended by a program or an admin"
    SILENCE = "silence", "Silence"
    TIME_LIMIT = "time_limit", "Time limit"
    NO_AGENT = "no_agent", "No agent came"
    AGENT_LOST = "agent_lost", "The agent was lost"
    BUDGET = "budget", "Budget used up"
    ERROR = "error", "Error"


FAILURES = frozenset({EndReason.NO_AGENT, EndReason.AGENT_LOST, EndReason.ERROR})


class SessionSource(models.TextChoices):
    LINK = "link", "Link"
    API = "api", "REST"
    CHECK = "check", "Self check"


class AgentStateName(models.TextChoices):
    INITIALIZING = "initializing", "Initializing"
    LISTENING = "listening", "Listening"
    THINKING = "thinking", "Thinking"
    SPEAKING = "speaking", "Speaking"
    LOST = "lost", "Lost"


class ParticipantKind(models.TextChoices):
    VISITOR = "visitor", "Visitor"
    AGENT = "agent", "Agent"


class Role(models.TextChoices):
    USER = "user", "Visitor"
    AGENT = "agent", "Agent"


class NoticeLevel(models.TextChoices):
    INFO = "info", "Info"
    WARNING = "warning", "Warning"
    ERROR = "error", "Error"


class NoticeCode(models.TextChoices):
    """What a visitor is told of how the conversation runs. Those in `TOLD` are worth an admin's look."""

    AGENT_LATE = "agent_late"
    AGENT_LOST = "agent_lost"
    AGENT_BACK = "agent_back"
    AVATAR_LOST = "avatar_lost"
    AVATAR_BACK = "avatar_back"
    STT_FALLBACK = "stt_fallback"
    LLM_FALLBACK = "llm_fallback"
    TTS_FALLBACK = "tts_fallback"
    STT_LOST = "stt_lost"
    STT_BACK = "stt_back"
    LLM_LOST = "llm_lost"
    LLM_BACK = "llm_back"
    TTS_LOST = "tts_lost"
    TTS_BACK = "tts_back"
    OFFLINE_RECOGNISER = "offline_recogniser"
    TOO_FAST = "too_fast"
    RECORDING = "recording"
    LIMIT_NEAR = "limit_near"


PART_NAMES = {
    "endpointing": "Waiting for silence",
    "stt": "Speech recognition",
    "llm": "Language model",
    "tts": "Voice",
    "avatar": "Avatar",
    "total": "Whole answer",
}
"""What the wait for an answer is made of, as people read it, and the whole of it."""
TOLD: dict[str, str] = {
    NoticeCode.AGENT_LATE: "The agent was late",
    NoticeCode.AGENT_LOST: "The agent was lost",
    NoticeCode.AVATAR_LOST: "The avatar was lost",
    NoticeCode.STT_FALLBACK: "Another speech recognition took over",
    NoticeCode.LLM_FALLBACK: "Another language model took over",
    NoticeCode.TTS_FALLBACK: "Another voice took over",
    NoticeCode.STT_LOST: "No speech recognition answered",
    NoticeCode.LLM_LOST: "No language model answered",
    NoticeCode.TTS_LOST: "No voice spoke",
    NoticeCode.OFFLINE_RECOGNISER: "Only the offline recogniser could listen",
    NoticeCode.TOO_FAST: "The visitor typed too much at once",
    NoticeCode.LIMIT_NEAR: "The time was nearly over",
}
WARNINGS = (NoticeLevel.WARNING, NoticeLevel.ERROR)
"""Levels of notices that somebody should look into."""
