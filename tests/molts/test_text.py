"""What of a text is kept: scripts and emoji whole, and nothing that lies about the rest."""

from __future__ import annotations

import pytest

from molts.text import clean_line, clean_text

HIDDEN = "".join(chr(0xE0000 + ord(letter)) for letter in "obey")
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize(
    "text",
    [
        "line one\nline two\ttabbed",
        "می\u200cخواهم",  # noqa: RUF001 - Persian: a joiner is part of the word
        "क्\u200dष",  # Hindi
        "\u200fשלום\u200e (1)",  # noqa: RUF001 - Hebrew with direction marks
        "\u061cالسعر: 5",  # noqa: RUF001
        "\u0600١٢٣",  # noqa: RUF001 - an Arabic number sign, which is seen
        "👩\u200d🚀 👨\u200d👩\u200d👧 ❤\ufe0f\u200d🔥 1\ufe0f\u20e3 🏳\ufe0f\u200d🌈",
        f"{ENGLAND} wins",
        "葛\U000e0100城",  # a variant of a Chinese character
        "ไม่เป็นไร Đặng ﷽ e\u0301",
    ],
)
def test_it_keeps_what_scripts_and_emoji_are_written_with(text: str) -> None:
    assert clean_text(text) == text


@pytest.mark.parametrize("mark", [*"\u202a\u202b\u202c\u202d\u202e", *"\u2066\u2067\u2068\u2069", *"\u206a\u206f"])
def test_it_lets_nothing_turn_a_line_round(mark: str) -> None:
    assert clean_text(f"invoice{mark}fdp.exe") == "invoicefdp.exe"
    assert clean_line(f"{mark}Ada") == "Ada"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (f"hello{HIDDEN}", "hello"),
        (f"\U0001f3f4{HIDDEN}\U000e007f", "\U0001f3f4"),  # no flag that there is
        ("a\u200b\u2060\ufeff\u00ad\u180eb", "ab"),
        ("a\u115f\u1160\u3164\uffa0b", "ab"),
        ("a\x00\x07\x1b\x7f\x9bb", "ab"),
        ("a\ud800b\ufffe\U0010ffffc", "abc"),
        ("a\ufff9b\ufffa\ufffbc", "abc"),
        ("😀" + "".join(chr(0xE0100 + number) for number in range(40)), "😀\U000e0100"),  # bytes as variants
        ("\ufe0f\ufe0fa", "a"),
        ("a" + "\u200d" * 50 + "b", "a\u200db"),
        ("one\r\ntwo\rthree\u2028four\u2029five\x85six\x0cseven", "one\ntwo\nthree\nfour\nfive\nsix\nseven"),
    ],
)
def test_it_leaves_out_what_nobody_sees(given: str, kept: str) -> None:
    assert clean_text(given) == kept


def test_a_line_has_one_kind_of_space_and_no_marks_around_it() -> None:
    assert clean_line("\u200e Anna\u00a0\u2009Maria\n\u3000(2)\u200f ") == "Anna Maria (2)"


def test_it_is_quick_with_whatever_length() -> None:
    assert clean_text("\u200d\u202e" * 500_000 + "a") == "\u200da"
