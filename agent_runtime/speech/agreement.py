"""Which words of a growing utterance are settled: those that decodes in a row have in common."""

from __future__ import annotations

from collections.abc import Sequence


class Agreement:
    """Takes the words of one partial decode after the other. Agreed words never change again."""

    def __init__(self, *, needed: int = 2) -> None:
        self._needed = needed
        self._earlier: list[list[str]] = []
        self.agreed: list[str] = []

    def update(self, words: Sequence[str], *, settled: int | None = None) -> list[str]:
        """Take the newest words and return what to show: what is agreed, then the rest of the newest.

        Only the first `settled` of them can be agreed on (the last ones may still be being said).
        """
        newest = list(words)
        candidates = newest[: len(newest) if settled is None else settled]
        if len(self._earlier) >= self._needed - 1:
            rivals = self._earlier[len(self._earlier) - self._needed + 1 :]
            common = _common_length([candidates, *rivals])
            if common > len(self.agreed) and _same(newest[: len(self.agreed)], self.agreed):
                self.agreed = [*self.agreed, *newest[len(self.agreed) : common]]
        self._earlier = [*self._earlier[-self._needed :], candidates]
        return [*self.agreed, *newest[len(self.agreed) :]]

    def revised_by(self, final: Sequence[str]) -> int:
        """How many agreed words are not in the final words, in their place."""
        return _missing([plain(word) for word in self.agreed], [plain(word) for word in final])


def plain(word: str) -> str:
    """A word as far as agreement goes: case and punctuation may change."""
    bare = "".join(character for character in word.casefold() if character.isalnum())
    return bare or word.strip()


def _same(words: Sequence[str], others: Sequence[str]) -> bool:
    return [plain(word) for word in words] == [plain(word) for word in others]


def _common_length(lists: Sequence[Sequence[str]]) -> int:
    count = 0
    for together in zip(*lists, strict=False):
        if len({plain(word) for word in together}) > 1:
            break
        count += 1
    return count


def _missing(agreed: Sequence[str], final: Sequence[str]) -> int:
    """The fewest changes that make `agreed` a beginning of `final`."""
    row = list(range(len(final) + 1))
    for done, word in enumerate(agreed, 1):
        before, row = row, [done]
        for index, other in enumerate(final, 1):
            row.append(min(before[index - 1] + (word != other), before[index] + 1, row[index - 1] + 1))
    return min(row) if agreed else 0
