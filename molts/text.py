"""What of a text is kept when it is shown to others: one rule for names, lines and notices.

What nobody can see may lie about the rest: U+202E turns a line round, tag characters carry a hidden message to a
language model, fillers make a name that looks empty. What scripts and emoji are written with stays.
"""

from __future__ import annotations

import re
import unicodedata

ZWNJ, ZWJ, LRM, RLM, ALM = "\u200c", "\u200d", "\u200e", "\u200f", "\u061c"
MARKS = frozenset((ZWNJ, ZWJ, LRM, RLM, ALM))
"""Joiners are part of words in Persian and Hindi and of emoji; direction marks set a dot or a number right in Arabic
and Hebrew. They turn round nothing but what stands beside them."""
ARABIC_SIGNS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2")
"""Format characters that are seen: they enclose the digits that follow."""
FILLERS = frozenset("\u115f\u1160\u3164\uffa0")
_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# England, Scotland and Wales: a black flag, tags that name it, and their end. Everywhere else tags are hidden letters.
_NAMES = "|".join("".join(chr(0xE0000 + ord(letter)) for letter in name) for name in ("gbeng", "gbsct", "gbwls"))
_FLAG = re.compile(f"(\U0001f3f4(?:{_NAMES})\U000e007f)")


def clean_text(text: str) -> str:
    """`text` without what cannot be shown or stored, and without blanks at its ends. Lines stay lines."""
    pieces = _FLAG.split(_LINE_ENDS.sub("\n", text))
    return "".join(piece if index % 2 else _visible(piece) for index, piece in enumerate(pieces)).strip()


def clean_line(text: str) -> str:
    """The same on one line: spaces of every kind are one kind, and direction marks around it, which phones add, go."""
    return clean_text(" ".join(text.split())).strip(f" {LRM}{RLM}{ALM}")


def _visible(text: str) -> str:
    kept: list[str] = []
    for character in text:
        before = kept[-1] if kept else ""
        if _is_shown(character) and not _repeats(character, before):
            kept.append(character)
    return "".join(kept)


def _is_shown(character: str) -> bool:
    if character in "\n\t" or character in MARKS or character in ARABIC_SIGNS:
        return True
    if character in FILLERS or ord(character) & 0xFFFE == 0xFFFE:  # the last two of each plane are no characters
        return False
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs")


def _repeats(character: str, before: str) -> bool:
    """One mark or variant does its work; a row of them is a hidden message."""
    if _is_variant(character):
        return not before or _is_variant(before)
    return character in MARKS and character == before


def _is_variant(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
