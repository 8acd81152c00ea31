# ruff: noqa: RUF001 - the marks of other scripts look like Latin ones
"""Where a text may be cut: the one rule by which answers are spoken piece by piece and captions are broken.

A piece ends with a sentence, by the marks of whatever script it is written in. A sentence that is too long is cut at a
clause, then at a space, and in scripts that write none at a syllable. What decides is the script of the text and not a
language that somebody chose: answers mix languages. Full stops are left to blingfire, which LiveKit brings and which
knows most abbreviations. It knows neither all other marks nor where a long sentence may be cut.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate

_CLOSING = r"""["'”’»›)\]}」』）】〉》〕］｝*_]*"""
_STEPS = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
_UNSPACED = rf"[{_STEPS}\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
"""Letters of the scripts that write no spaces between words. Those of _STEPS write one between clauses."""

_STEP = re.compile(f"[{_STEPS}]")

SENTENCE_END = re.compile(rf"(?:[。！？｡؟۔।॥༎།။៕។።፧፨։‼⁇⁈⁉]+{_CLOSING}|(?<![!?])[!?]+{_CLOSING}(?={_UNSPACED})|\n)\s*")
# A comma of Latin scripts also stands inside numbers, and the colon inside times: there no space follows.
CLAUSE_END = re.compile(
    rf"(?:[、，；：،؛၊፣፤]|…{{2,}}){_CLOSING}\s*|[,;:…]{_CLOSING}\s+|\s+[–—-]\s+|—|(?<={_UNSPACED})\s+"
)
SPACE = re.compile(r"\s+")
_AFTER_END = re.compile(rf"{_CLOSING}\s*")
_SYLLABIC = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\uac00-\ud7af]")
_KANA = re.compile(r"[\u3040-\u30ff\uff66-\uff9f]")
DENSE = re.compile(rf"{_UNSPACED}|[\uac00-\ud7af]")  # where a letter is about a token: those, and Korean
# Where syllables are known to meet: before the vowels that Thai and Lao write in front of theirs, after those that end
# one, and after what ends one in Burmese.
SYLLABLE = re.compile(
    r"(?=[\u0e40-\u0e44\u0ec0-\u0ec4])|(?<=[\u0e30\u0e33\u0e45\u0e46\u0eb0\u0eb3\u0ec6])|(?<=[\u1038\u103a])"
)
NOT_FIRST = (
    "、。，．！？；：・ー々ゝゞぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ」』）】〉》〕］｝"
    "\u0e2f\u0e30\u0e32\u0e33\u0e45\u0e46"  # what in Thai belongs to the letter before
    "\u0eaf\u0eb0\u0eb2\u0eb3\u0ebd\u0ec6"  # in Lao
    "\u17d4\u17d5\u17d6\u17d7"  # in Khmer
    "\u104a\u104b"  # in Burmese
    "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"  # colours of a skin
)
_NOT_LAST = re.compile(
    r"(?:[\u0e40-\u0e44\u0ec0-\u0ec4]"  # vowels of Thai and Lao that are written in front of their consonant
    r"|[\u0e31\u0e37\u0e47][\u0e48-\u0e4b]?"  # those of Thai inside a syllable, which another letter ends
    r"|[\u0eb1\u0ebb][\u0ec8-\u0ecb]?)$"  # and of Lao
)
_ENDS_SYLLABLE = re.compile(
    r"[\u0e01-\u0e2e][\u0e34\u0e38]?\u0e4c"  # a letter that is silent in Thai
    r"|[\u1780-\u17a2][\u17cb\u17cd]"  # one that is short or silent in Khmer
    r"|[\u1000-\u1021\u103f][\u1037]?[\u103a\u1039]"  # the last consonant of a syllable in Burmese
)
_VIRAMA = 9  # the class of the marks that tie the next consonant to the one before
_ASAT = "\u103a"  # is of that class, yet ends a syllable
ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:(?:[^\W\d_]|\d{1,2}|e\.g|i\.e|etc|mr|mrs|ms|dr|prof|st|approx|vs|bzw|z\.\s?b|d\.\s?h|ca|str|sra?"
    r"|srta|uds?|mme|mlle|tzn|np|ul|tp|ул|डॉ|श्री)\.\s*\S?|(?:no|nr)\.\s*\d)$",
    re.IGNORECASE,
)
MOST_FLAGS = 100  # letters of flags in a row that are told apart
LONGEST_ABBREVIATION = 20  # with the space before it and those inside


@dataclass(frozen=True)
class Lengths:
    """How long a piece may be. What is shorter than `shortest` waits for the next sentence. A sentence longer than
    `long` is cut at a clause, one longer than `longest` at any space."""

    shortest: int
    long: int
    longest: int


FIRST = Lengths(shortest=24, long=72, longest=120)
"""Of the first piece of an answer, for which somebody waits."""
LATER = Lengths(shortest=24, long=160, longest=240)
"""Of those after it: a voice that speaks already has time, and sounds better in whole sentences."""

Size = Callable[[str], int]


def spoken_size(text: str) -> int:
    """How much is said, in bytes of UTF-8: of those a model writes about as many in a token, and a voice speaks about
    as many in a second, whatever the script. Counted in letters, the scripts would differ by five times."""
    return len(text.strip().encode("utf-8", "replace"))


def spoken_length(text: str) -> float:
    """How long it takes to say `text`, in letters of an alphabet. A Chinese character or a Korean block is a syllable,
    for which an alphabet takes about three letters; a kana is a short one."""
    text = text.strip()
    return len(text) + 2 * len(_SYLLABIC.findall(text)) + len(_KANA.findall(text))


def _length_up_to(text: str) -> list[float]:
    """For each letter of `text` the length of all up to it, space included."""
    return list(accumulate(1 + spoken_length(letter) - bool(letter.strip()) for letter in text))


def split_sentences(text: str) -> list[str]:
    """All sentences of `text`, however short or long."""
    return _between(text, sentence_ends(text))


def split_pieces(text: str, *, first: Lengths = FIRST, later: Lengths = LATER, size: Size = spoken_size) -> list[str]:
    """`text` in the pieces in which it is spoken."""
    ends: list[int] = []
    start, lengths = 0, first
    while end := piece_end(text[start:], lengths, size):
        start += end
        ends.append(start)
        lengths = later
    return _between(text, ends)


def piece_end(text: str, lengths: Lengths, size: Size = spoken_size) -> int:
    """Where the first piece of `text` ends, whatever may still come after `text`; 0 while that is not known."""
    text = text[: lengths.longest * 4]  # what comes later cannot matter, and would be read anew for every piece
    sentences = sentence_ends(text)
    first = next((end for end in sentences if size(text[:end]) >= lengths.shortest), 0)
    if first and size(text[:first]) <= lengths.long:
        return first
    known = text[:-2] if _STEP.search(text[-2:]) else text  # which letters a syllable has, the next ones tell
    if size(known) <= lengths.long:
        return 0
    clauses = [*sentences, *(match.end() for match in CLAUSE_END.finditer(text))]
    if end := _last(text, clauses, lengths.shortest, lengths.long, size):
        return end
    if end := _last_if_dense(text, lengths, size):
        return end
    if first and size(text[:first]) <= lengths.longest:
        return first
    if size(known) <= lengths.longest:
        return 0
    spaces = [*clauses, *(match.end() for match in SPACE.finditer(text))]
    return _last(text, spaces, lengths.shortest, lengths.longest, size) or _last(
        text, _characters(text), 1, lengths.longest, size
    )


def sentence_ends(text: str) -> list[int]:
    """Where sentences end before the end of `text`, each with its closing marks and the space after it."""
    found = {match.end() for match in SENTENCE_END.finditer(text)} | _full_stops(text)
    first = len(text) - len(text.lstrip())
    return sorted(end for end in found if first < end < len(text))


def _full_stops(text: str) -> set[int]:
    """Ends by `.`, `!` and `?`, which do not always end a sentence."""
    from livekit import blingfire  # loads its tables, and many who import this never cut a text

    if not text.strip():
        return set()
    plain = text.encode("utf-8", "replace").decode().replace("\0", " ")  # as long as `text`, with all that it can read
    _, offsets = blingfire.text_to_sentences_with_offsets(plain)
    after = (_AFTER_END.match(text, end) for _, end in offsets)
    return {match.end() for match in after if match and not _abbreviates(text, match)}


def _abbreviates(text: str, after: re.Match[str]) -> bool:
    """Whether the full stop before `after` belongs to a word. Only that word is looked at, however long the text."""
    return bool(ABBREVIATION.search(text, max(0, after.start() - LONGEST_ABBREVIATION), after.end() + 1))


def _last_if_dense(text: str, lengths: Lengths, size: Size) -> int:
    """The last place for a cut in a text whose letters take long to come, after a space or syllable; else 0."""
    places = _characters(text)
    most = _last(text, places, lengths.shortest, lengths.long, size)
    if not DENSE.search(text[:most]):
        return 0
    syllables = {match.start() for match in SYLLABLE.finditer(text)}
    words = [place for place in places if place in syllables or text[place - 1].isspace()]
    return _last(text, words, lengths.shortest, lengths.long, size) or most


def word_at(text: str, length: float) -> int:
    """Where the word of `text` begins of which a voice that has said `length` of it (`spoken_length`) is speaking; its
    end when it has said all of it. In scripts without spaces: the last place for a cut."""
    if spoken_length(text) <= length:
        return len(text)
    places = {match.end() for match in SPACE.finditer(text)} | (set(_characters(text)) if DENSE.search(text) else set())
    lengths = _length_up_to(text)
    return max((place for place in places if lengths[place - 1] <= length), default=0)


def _characters(text: str) -> list[int]:
    """Where two characters meet that a reader sees as two and that may stand apart: never inside a letter with its
    marks, and inside no syllable as far as its letters tell. A word in Thai, Lao or Khmer may still be cut."""
    return [place for place in range(1, len(text)) if _may_stand_apart(text, place)]


def _may_stand_apart(text: str, place: int) -> bool:
    before, after = text[place - 1], text[place]
    if unicodedata.category(after).startswith("M") or after in NOT_FIRST or "\u200d" in (before, after):
        return False
    if unicodedata.combining(before) == _VIRAMA and before != _ASAT:
        return False
    if "\u1160" <= after <= "\u11ff" or _is_half_flag(text, place):  # a Korean letter in parts
        return False
    return not _NOT_LAST.search(text[max(0, place - 2) : place]) and not _ENDS_SYLLABLE.match(text, place)


def _is_half_flag(text: str, place: int) -> bool:
    """Whether two letters that make a flag meet here."""
    flag = range(0x1F1E6, 0x1F200)
    count = 0
    if ord(text[place]) not in flag:
        return False
    while count < min(place, MOST_FLAGS) and ord(text[place - 1 - count]) in flag:
        count += 1
    return count % 2 == 1


def _last(text: str, places: Iterable[int], shortest: int, most: int, size: Size) -> int:
    """The last of `places` that makes a piece of `shortest` to `most`, else 0."""
    fitting = (place for place in sorted(places, reverse=True) if place < len(text) and size(text[:place]) <= most)
    best = next(fitting, 0)
    return best if size(text[:best]) >= shortest else 0


def _between(text: str, ends: list[int]) -> list[str]:
    pieces = (text[start:end].strip() for start, end in zip([0, *ends], [*ends, len(text)], strict=True))
    return [piece for piece in pieces if piece]
