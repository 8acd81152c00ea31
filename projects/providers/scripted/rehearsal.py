"""Asking an agent's scripted answers one question, before any visitor does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from projects.providers.base import Persona
from projects.providers.scripted.meaning import Matcher
from projects.providers.scripted.responder import Responder, Said
from projects.providers.scripted.small_talk import understand


@dataclass(frozen=True)
class Rehearsed:
    """What would be said. `sure` is 0 to 100, and 0 when nothing that was written fits; `source` says from where."""

    answer: str
    sure: int
    source: str
    question: str = ""


def rehearse(*, persona: Persona, question: str, now: datetime) -> Rehearsed:
    """The answer of the scripted model to `question` as the first one of a conversation."""
    answer = Responder(persona).reply([Said("user", question)], now)
    matcher = Matcher(persona.answers, persona.knowledge, persona.language)
    best = next((match for match in matcher.ranked(understand(question).core) if match.text in answer), None)
    if best is None:
        return Rehearsed(answer, 0, "small talk" if understand(question).intent else "nothing fits")
    sure = round(best.score * 100)
    if best.source == "answer":
        return Rehearsed(answer, sure, "a question and answer", persona.answers[best.index][0].splitlines()[0])
    return Rehearsed(answer, sure, "what it knows")
