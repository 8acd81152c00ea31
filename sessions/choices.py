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


PART_NAMES = {
    "endpointing": "Waiting for silence",
    "stt": "Speech recognition",
    "llm": "Language model",
    "tts": "Voice",
    "avatar": "Avatar",
    "total": "Whole answer",
}
"""What the wait for an answer is made of, as people read it, and the whole of it."""
TOLD = {
    "agent_late": "The agent was late",
    "agent_lost": "The agent was lost",
    "avatar_lost": "The avatar was lost",
    "stt_fallback": "Another speech recognition took over",
    "llm_fallback": "Another language model took over",
    "tts_fallback": "Another voice took over",
    "stt_lost": "No speech recognition answered",
    "llm_lost": "No language model answered",
    "tts_lost": "No voice spoke",
    "offline_recogniser": "Only the offline recogniser could listen",
    "too_fast": "The visitor typed too much at once",
    "limit_near": "The time was nearly over",
}
WARNINGS = ("warning", "error")
"""Levels of notices that somebody should look into."""
