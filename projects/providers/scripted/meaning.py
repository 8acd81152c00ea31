"""Finding the answer that a question means, without a model.

A question and the texts it is compared with become *terms*: words without endings, numbers as digits, and shared
concepts ("cost", "price" and "how much" are one). Rare terms weigh more than common ones, a term that appears nowhere
weighs most, and what stays under a threshold is not matched at all: an honest "I do not know" is better than a wrong
answer.

Pure functions and data; knows neither Django nor LiveKit. The word lists are English; other languages are compared by
their words (or by character pairs where a script has no spaces) alone.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from projects.providers.scripted.lexicon import (
    CONCEPTS,
    CONTRACTION_ENDINGS,
    CONTRACTIONS,
    ENDINGS,
    IRREGULAR,
    NUMBERS,
    STOP_WORDS,
    TENS,
    WEAK_WORDS,
)
from projects.providers.shared.sentences import split_sentences

# --- from text to terms -------------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_VOWEL = re.compile(r"[aeiouy]")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def words(text: str) -> list[str]:
    """Lower-case words of `text` without accents and punctuation, contractions written out."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    plain = "".join(c for c in unicodedata.normalize("NFD", plain) if not unicodedata.combining(c))
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFC", plain)):
        found.extend(_written_out(word).split())
    return found


def _written_out(word: str) -> str:
    if word in CONTRACTIONS:
        return CONTRACTIONS[word]
    for ending, full in CONTRACTION_ENDINGS:
        if word.endswith(ending) and len(word) > len(ending):
            return word.removesuffix(ending) + full
    return word.replace("'", " ")


def with_digits(tokens: Sequence[str]) -> list[str]:
    """Number words as digits: ["twenty", "one", "tables"] -> ["21", "tables"]."""
    result: list[str] = []
    index = 0
    while index < len(tokens):
        word = tokens[index]
        if word in TENS:
            value = TENS[word]
            if index + 1 < len(tokens) and 0 < NUMBERS.get(tokens[index + 1], 0) < 10:
                index += 1
                value += NUMBERS[tokens[index]]
            result.append(str(value))
        else:
            result.append(str(NUMBERS[word]) if word in NUMBERS else word)
        index += 1
    return result


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """The word without its English ending: "bookings" -> "book", "cancellation" -> "cancel", "parties" -> "party"."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 3 or not word.isascii() or word.isdigit():
        return word
    if word.endswith("ies"):
        word = word[:-3] + "y"
    elif word.endswith(("sses", "xes", "zes", "ches", "shes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending, replacement in ENDINGS:
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= 3 and _VOWEL.search(rest):
            word = rest + replacement
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lse":
                word = word[:-1]  # "stopp" -> "stop"
            elif word.endswith("ll") and ending in ("ation", "ed", "ing"):
                word = word[:-1]  # "cancell" -> "cancel"
            break
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def _parse_concepts(source: str) -> tuple[dict[str, str], dict[tuple[str, ...], str]]:
    single: dict[str, str] = {}
    phrases: dict[tuple[str, ...], str] = {}
    for line in source.strip().splitlines():
        name, _, members = line.partition(":")
        for member in members.strip().split("|"):
            parts = tuple(member.split())
            if len(parts) == 1:
                single.setdefault(stem(parts[0]), name)
            else:
                phrases.setdefault(parts, name)
    return single, phrases


_CONCEPT_OF_STEM, _CONCEPT_OF_PHRASE = _parse_concepts(CONCEPTS)
_LONGEST_PHRASE = max(map(len, _CONCEPT_OF_PHRASE))


@dataclass(frozen=True)
class Term:
    """One unit of meaning. `concept` is "" when the word belongs to none, `word` is "" for a phrase."""

    word: str
    concept: str = ""
    weak: bool = False


def terms(text: str, language: str = "en") -> list[Term]:
    """Terms of `text` in order, without stop words."""
    if not is_english(language):
        return [Term(token) for token in _neutral_tokens(text)]
    tokens = with_digits(words(text))
    found: list[Term] = []
    index = 0
    while index < len(tokens):
        length, concept = _phrase_at(tokens, index)
        if concept:
            found.append(Term("", concept))
            index += length
            continue
        token = tokens[index]
        index += 1
        if token in STOP_WORDS:
            continue
        stemmed = stem(token)
        weak = stemmed in _weak_stems() or token.isdigit()
        found.append(Term(stemmed, _CONCEPT_OF_STEM.get(stemmed, ""), weak))
    return found


@cache
def _weak_stems() -> frozenset[str]:
    return frozenset(stem(word) for word in WEAK_WORDS)


def is_english(language: str) -> bool:
    return language.casefold().split("-")[0].split("_")[0] in ("", "en")


def _phrase_at(tokens: Sequence[str], index: int) -> tuple[int, str]:
    for length in range(min(_LONGEST_PHRASE, len(tokens) - index), 1, -1):
        if concept := _CONCEPT_OF_PHRASE.get(tuple(tokens[index : index + length])):
            return length, concept
    return 0, ""


def _neutral_tokens(text: str) -> list[str]:
    """Words of any language; in scripts without spaces, pairs of characters."""
    tokens: list[str] = []
    for word in words(text):
        if _UNSPACED.search(word):
            tokens.extend(word[i : i + 2] for i in range(max(1, len(word) - 1)))
        elif len(word) > 1 or word.isdigit():
            tokens.append(word)
    return tokens


# --- comparing ----------------------------------------------------------------------------------------------------


def likeness(one: Term, other: Term) -> float:
    """How much two terms mean the same: 1 the same word, 0 nothing in common."""
    if one.word and one.word == other.word:
        return 1.0
    if one.concept and one.concept == other.concept:
        return 0.9
    if len(one.word) >= 5 and len(other.word) >= 5 and one.word[0] == other.word[0]:
        if abs(len(one.word) - len(other.word)) <= 1 and _one_edit_apart(one.word, other.word):
            return 0.8  # a typing error, or a recogniser's
        if len(_common_prefix(one.word, other.word)) >= max(5, 0.75 * max(len(one.word), len(other.word))):
            return 0.8  # an ending the stemmer does not know
    return 0.0


def _common_prefix(one: str, other: str) -> str:
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return one[:index]
    return min(one, other, key=len)


def _one_edit_apart(one: str, other: str) -> bool:
    """Whether one replaced, added, dropped or swapped letter turns one word into the other."""
    start = len(_common_prefix(one, other))
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a == b[1:] or a[1:] == b or (len(a) > 1 and a[1::-1] + a[2:] == b)


@dataclass(frozen=True)
class Match:
    """A found answer. `source` tells from where: "answer" (question and answer list) or "knowledge"."""

    text: str
    score: float
    source: str
    index: int


@dataclass(frozen=True)
class _Candidate:
    text: str
    source: str
    index: int
    question: tuple[Term, ...]  # what must be asked for; for knowledge the sentence itself
    support: tuple[Term, ...]  # what may also be asked for, and counts less
    literal: tuple[str, ...]  # the question word by word


THRESHOLD = 0.5
_KNOWLEDGE_WEIGHT = 0.8  # an answer that was written for the question goes before a sentence that fits as well
_SUPPORT_WEIGHT = 0.6
_WEAK_WEIGHT = 0.35
_UNKNOWN_WEIGHT = 1.1  # of a word that no candidate has, relative to the rarest one they have
_UNKNOWN_WEAK_WEIGHT = 0.15


class Matcher:
    """Finds the entry of a question-and-answer list or the sentence of a knowledge text that a question means."""

    def __init__(self, answers: Iterable[tuple[str, str]], knowledge: str = "", language: str = "en") -> None:
        self._language = language
        self._candidates: list[_Candidate] = []
        for index, (question, answer) in enumerate(answers):
            support = tuple(terms(answer, language))
            self._candidates += [
                _Candidate(
                    text=answer,
                    source="answer",
                    index=index,
                    question=tuple(terms(variant, language)),
                    support=support,
                    literal=tuple(words(variant)),
                )
                for variant in _variants(question)
            ]
        self.sentences = knowledge_sentences(knowledge)
        for index, sentence in enumerate(self.sentences):
            self._candidates.append(
                _Candidate(
                    text=sentence.text,
                    source="knowledge",
                    index=index,
                    question=tuple(terms(sentence.text, language)),
                    support=tuple(terms(sentence.heading, language)),
                    literal=tuple(words(sentence.text)),
                )
            )
        self._weights = self._count_weights()
        self._rarest = max(self._weights.values(), default=1.0)

    def ranked(self, text: str) -> list[Match]:
        """All matches above the threshold, best first, each answer once."""
        asked = tuple(terms(text, self._language))
        literal = tuple(words(text))
        best: dict[tuple[str, int], Match] = {}
        for candidate in self._candidates:
            score = self._score(asked, literal, candidate)
            key = (candidate.source, candidate.index)
            if score >= THRESHOLD and (key not in best or best[key].score < score):
                best[key] = Match(candidate.text, score, candidate.source, candidate.index)
        return sorted(best.values(), key=lambda match: -match.score)

    def best(self, text: str) -> Match | None:
        """The best match, or None when nothing is meant well enough."""
        matches = self.ranked(text)
        return matches[0] if matches else None

    def knows_any(self, text: str) -> bool:
        """Whether any content word of `text` occurs in what this matcher knows."""
        return any(
            likeness(term, other) >= 0.8
            for term in terms(text, self._language)
            if not term.weak
            for candidate in self._candidates
            for other in (*candidate.question, *candidate.support)
        )

    def _score(self, asked: tuple[Term, ...], literal: tuple[str, ...], candidate: _Candidate) -> float:
        if literal and literal == candidate.literal:
            return 1.0
        if not asked or not candidate.question:
            return _literal_overlap(literal, candidate.literal) if not asked and not candidate.question else 0.0
        asked_covered = self._coverage(asked, candidate.question, candidate.support)
        if candidate.source == "knowledge":
            return _KNOWLEDGE_WEIGHT * asked_covered if self._enough_in_common(asked, candidate) else 0.0
        return float(asked_covered**0.6 * self._coverage(candidate.question, asked, ()) ** 0.4)

    def _coverage(self, of: tuple[Term, ...], by: tuple[Term, ...], support: tuple[Term, ...]) -> float:
        """Share of the weight of `of` that `by` (fully) and `support` (partly) have too, in [0, 1]."""
        total = covered = 0.0
        for term in of:
            weight = self._weight(term)
            total += weight
            likest = max((likeness(term, other) for other in by), default=0.0)
            if likest < 1 and support:
                likest = max(likest, _SUPPORT_WEIGHT * max(likeness(term, other) for other in support))
            covered += weight * likest
        return covered / total if total else 0.0

    def _enough_in_common(self, asked: tuple[Term, ...], candidate: _Candidate) -> bool:
        """A sentence must share two strong terms with a question that has several, else a chance word would do."""
        strong = {term for term in asked if not term.weak}
        shared = [
            term
            for term in strong
            if any(likeness(term, other) >= 0.8 for other in (*candidate.question, *candidate.support))
        ]
        return len(shared) >= min(2, len(strong)) > 0

    def _weight(self, term: Term) -> float:
        known = self._weights.get(term.concept or term.word)
        if known is None:
            return self._rarest * (_UNKNOWN_WEAK_WEIGHT if term.weak else _UNKNOWN_WEIGHT)
        return known * (_WEAK_WEIGHT if term.weak else 1.0)

    def _count_weights(self) -> dict[str, float]:
        """Inverse document frequency of every concept or word over all candidates, at least 0.4."""
        documents: Counter[str] = Counter()
        for candidate in self._candidates:
            documents.update({term.concept or term.word for term in (*candidate.question, *candidate.support)})
        count = len(self._candidates)
        return {name: max(0.4, math.log(1 + count / (seen + 0.5))) for name, seen in documents.items()}


def _variants(question: str) -> list[str]:
    """A question may list several wordings, one a line or parted by "|"."""
    return [part.strip() for part in re.split(r"[|\n]", question) if part.strip()]


def _literal_overlap(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """Share of common words of two texts that consist of stop words alone ("who are you")."""
    if not one or not other:
        return 0.0
    return len(set(one) & set(other)) / len(set(one) | set(other))


# --- knowledge ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sentence:
    """A sentence of a knowledge text with the heading it stands under ("" if none) and its paragraph's number."""

    text: str
    heading: str
    paragraph: int


_BULLET = re.compile(r"^(?:[-*•]|\d+[.)])\s+")
_EMPHASIS = re.compile(r"[*_`]{1,2}(\S.{0,200}?\S|\S)[*_`]{1,2}")  # a mark alone has its end sought no farther


def knowledge_sentences(text: str) -> list[Sentence]:
    """Sentences of a plain or Markdown text. Headings are kept as context; bullet points are sentences."""
    sentences: list[Sentence] = []
    heading = ""
    paragraph = 0
    for line in text.splitlines():
        line = line.strip()
        if not line:
            paragraph += 1
            continue
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
            paragraph += 1
            continue
        line = _EMPHASIS.sub(r"\1", _BULLET.sub("", line))
        sentences.extend(Sentence(part, heading, paragraph) for part in split_sentences(line))
    return sentences
