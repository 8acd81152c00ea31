"""Which words of a growing utterance are settled: those that decodes in a row have in common.

What is compared are `units`: words, or single characters of scripts that are written without spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Thai, Lao, Tibetan, Burmese, Khmer, kana and Chinese characters: nothing stands between their words.
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_MARK = re.compile(rf"[{_UNSPACED}]")
_UNIT = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\s{_UNSPACED}]+)")


class Agreement:
    """Takes the units of one partial decode after the other. Agreed ones never change again."""

    def __init__(self, *, needed: int = 2) -> None:
        self._needed = needed
        self._earlier: list[list[str]] = []
        self.agreed: list[str] = []

    def update(self, units: Sequence[str]) -> list[str]:
        """Take the newest units and return what to show: what is agreed, then the rest of the newest."""
        newest = list(units)
        if len(self._earlier) >= self._needed - 1:
            rivals = self._earlier[len(self._earlier) - self._needed + 1 :]
            common = _common_length([newest, *rivals])
            if common > len(self.agreed) and _same(newest[: len(self.agreed)], self.agreed):
                self.agreed = [*self.agreed, *newest[len(self.agreed) : common]]
        self._earlier = [*self._earlier[-self._needed :], newest]
        return [*self.agreed, *newest[len(self.agreed) :]]

    def revised_by(self, final: Sequence[str]) -> int:
        """How many agreed units are not in the final ones, in their place."""
        return _missing([plain(unit) for unit in self.agreed], [plain(unit) for unit in final])


def units(text: str) -> list[str]:
    """The words of a text, each with the space before it; where words have no spaces, its characters.

    Joined without anything between they are the text again. Signs and marks stay with the character they follow.
    """
    parts: list[str] = []
    for part in _UNIT.findall(" ".join(text.split())):
        if parts and _belongs_to_the_one_before(part, parts[-1]):
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def joined(texts: Sequence[str]) -> str:
    """The texts one after the other, with a space between two unless both are written without."""
    whole = ""
    for text in filter(None, (each.strip() for each in texts)):
        close = not whole or (_is_unspaced(whole[-1]) and _is_unspaced(text[0]))
        whole += text if close else f" {text}"
    return whole


def plain(unit: str) -> str:
    """A unit as far as agreement goes: case and punctuation may change."""
    bare = "".join(each for each in unit.casefold() if each.isalnum() or unicodedata.category(each).startswith("M"))
    return bare or unit.strip()


def _belongs_to_the_one_before(part: str, before: str) -> bool:
    """Vowel and tone signs, and punctuation behind a character."""
    return _is_unspaced(before[-1]) and not any(each.isalnum() or each.isspace() for each in part)


def _is_unspaced(character: str) -> bool:
    """Whether no space is written beside it: the wide punctuation of those scripts counts too."""
    is_wide_sign = unicodedata.east_asian_width(character) in "WF" and not character.isalnum()
    return is_wide_sign or bool(_MARK.match(character))


def _same(units: Sequence[str], others: Sequence[str]) -> bool:
    return [plain(unit) for unit in units] == [plain(unit) for unit in others]


def _common_length(lists: Sequence[Sequence[str]]) -> int:
    count = 0
    for together in zip(*lists, strict=False):
        if len({plain(unit) for unit in together}) > 1:
            break
        count += 1
    return count


def _missing(agreed: Sequence[str], final: Sequence[str]) -> int:
    """The fewest changes that make `agreed` a beginning of `final`."""
    row = list(range(len(final) + 1))
    for done, unit in enumerate(agreed, 1):
        before, row = row, [done]
        for index, other in enumerate(final, 1):
            row.append(min(before[index - 1] + (unit != other), before[index] + 1, row[index - 1] + 1))
    return min(row) if agreed else 0
