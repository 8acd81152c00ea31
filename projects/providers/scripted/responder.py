"""What the scripted model says: small talk, answers by meaning, and openly that it does not know."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from projects.providers.base import Persona
from projects.providers.scripted.meaning import Match, Matcher, terms
from projects.providers.scripted.phrases import date_in_words, phrases_for, time_in_words
from projects.providers.scripted.small_talk import Intent, Understanding, listed, told_name, topic_of, understand

_CERTAIN = 0.85  # an answer that matches so well goes before small talk ("who are you" may be in the list)
_CLAUSES = re.compile(
    r"[?!.;]+\s+|\s+and\s+(?=(?:what|when|where|who|how|do|does|can|could|is|are|which)\b)", re.IGNORECASE
)
_POINTERS = frozenset(["it", "that", "this", "they", "them", "those", "there", "he", "she", "one", "then"])
_TOPICS_AT_ONCE = 3


@dataclass(frozen=True)
class Said:
    """One message of the conversation so far. `role` is "user" or "assistant"."""

    role: str
    text: str


class Responder:
    """Decides what to say. Holds what the agent knows, but nothing of a conversation."""

    def __init__(self, persona: Persona) -> None:
        self._persona = persona
        self._phrases = phrases_for(persona.language)
        self._matcher = Matcher(persona.answers, persona.knowledge, persona.language)
        self._topics = _topics(persona, self._matcher)

    def reply(self, history: Sequence[Said], now: datetime) -> str:
        """The next thing to say after `history` (oldest first)."""
        asked = _unanswered(history)
        if not asked:
            return self._unasked(history)
        heard = understand(asked[-1])
        match = self._matcher.best(heard.core)
        if match is None or match.score < _CERTAIN:
            if heard.intent is not None:
                return self._small_talk(heard, history, now)
            return self._match(heard.core, asked, history) or self._unknown(history)
        return match.text

    def _unasked(self, history: Sequence[Said]) -> str:
        if any(said.role == "assistant" for said in history):
            return self._phrases.still_there
        return self._persona.greeting or self._phrases.hello

    def _match(self, core: str, asked: Sequence[str], history: Sequence[Said]) -> str | None:
        """Answer to `core`: to each question in it, else read together with what was said before."""
        if answers := self._each_clause(core, asked[-1]):
            return " ".join(answers)
        if len(asked) > 1 and (match := self._matcher.best(" ".join(asked))):  # one question, cut in two by a pause
            return match.text
        earlier = _earlier_question(history, len(asked))
        if (
            earlier
            and _points_back(core, self._persona.language)
            and (match := self._matcher.best(f"{earlier} {core}"))
        ):
            return match.text
        return None

    def _each_clause(self, core: str, original: str) -> list[str]:
        whole = self._matcher.best(core)
        parts = [part for part in _CLAUSES.split(original) if part and part.strip()]
        found = [match for part in parts if (match := self._matcher.best(understand(part).core))]
        distinct: dict[str, Match] = {match.text: match for match in found}
        if len(distinct) > 1:
            return list(distinct)[:2]
        best = max([*found, *([whole] if whole else [])], key=lambda match: match.score, default=None)
        return [best.text] if best else []

    def _small_talk(self, heard: Understanding, history: Sequence[Said], now: datetime) -> str:
        phrases = self._phrases
        match heard.intent:
            case Intent.GREETING:
                spoken_before = any(said.role == "assistant" for said in history)
                return phrases.hello if spoken_before else self._persona.greeting or phrases.hello
            case Intent.TIME:
                return time_in_words(now, self._persona.language)
            case Intent.DATE:
                return date_in_words(now, self._persona.language)
            case Intent.WHO_ARE_YOU:
                name = self._persona.name
                return phrases.who.format(name=name) if name else phrases.who_nameless
            case Intent.NAME:
                return phrases.nice_to_meet.format(name=told_name(heard.core))
            case Intent.REPEAT:
                return next(
                    (said.text for said in reversed(history) if said.role == "assistant"), phrases.nothing_to_repeat
                )
            case Intent.MORE:
                return self._more(history)
            case Intent.HELP:
                return self._offer(0) or phrases.go_ahead
            case Intent.YES:
                return phrases.go_ahead
            case Intent.HOW_ARE_YOU:
                return phrases.how_are_you
            case Intent.THANKS:
                return phrases.thanks
            case Intent.GOODBYE:
                return phrases.goodbye
            case Intent.ARE_YOU_HUMAN:
                return phrases.not_human
            case Intent.NO:
                return phrases.no
            case Intent.WAIT:
                return phrases.wait
            case _:
                return phrases.nothing

    def _more(self, history: Sequence[Said]) -> str:
        """Something about the last subject that has not been said yet."""
        told = " ".join(said.text for said in history if said.role == "assistant")
        if subject := _earlier_question(history, len(_unanswered(history))):
            matches = self._matcher.ranked(understand(subject).core)
            following = [
                self._matcher.sentences[match.index + 1].text
                for match in matches
                if match.source == "knowledge" and match.index + 1 < len(self._matcher.sentences)
                and self._matcher.sentences[match.index + 1].paragraph == self._matcher.sentences[match.index].paragraph
            ]  # fmt: skip
            for text in [*(match.text for match in matches), *following]:
                if text not in told:
                    return text
        return f"{self._phrases.no_more} {self._offer(0)}".strip()

    def _unknown(self, history: Sequence[Said]) -> str:
        """Say openly that it is not known, and what is; another few topics each time."""
        times = sum(said.role == "assistant" and said.text.startswith(self._phrases.unknown) for said in history)
        return f"{self._phrases.unknown} {self._offer(times * _TOPICS_AT_ONCE)}".strip()

    def _offer(self, start: int) -> str:
        if self._topics:
            count = min(_TOPICS_AT_ONCE, len(self._topics))
            chosen = [self._topics[(start + step) % len(self._topics)] for step in range(count)]
            return self._phrases.topics.format(topics=listed(chosen, self._phrases.joiner))
        if self._persona.answers:
            return self._phrases.example.format(example=self._persona.answers[0][0])
        return ""


def _topics(persona: Persona, matcher: Matcher) -> list[str]:
    asked = [topic_of(question) for question, _ in persona.answers] if persona.language.lower().startswith("en") else []
    headings = [sentence.heading for sentence in matcher.sentences]
    return list(dict.fromkeys(topic for topic in [*asked, *headings] if topic))


def _unanswered(history: Sequence[Said]) -> list[str]:
    """What the user said since the agent last spoke, oldest first."""
    texts: list[str] = []
    for said in reversed(history):
        if said.role != "user":
            break
        texts.insert(0, said.text)
    return texts


def _earlier_question(history: Sequence[Said], skip: int) -> str:
    """The last thing the user asked before the newest `skip` messages that was no small talk."""
    for said in reversed(history[: len(history) - skip]):
        if said.role == "user" and understand(said.text).intent is None:
            return said.text
    return ""


def _points_back(core: str, language: str) -> bool:
    """Whether a question needs the one before it: "how much is it", "and tomorrow", "what about children"."""
    spoken = core.split()
    strong = [term for term in terms(core, language) if not term.weak]
    return bool(_POINTERS & set(spoken)) or core.startswith(("what about", "how about")) or len(strong) <= 1
