from __future__ import annotations

import pytest

from agent_runtime.speech.agreement import Agreement, joined, units


def test_words_that_two_decodes_share_are_agreed() -> None:
    agreement = Agreement()
    assert agreement.update(["book", "a", "tape"]) == ["book", "a", "tape"]
    assert agreement.agreed == []
    agreement.update(["book", "a", "table", "for"])
    assert agreement.agreed == ["book", "a"]


def test_agreed_words_stay_whatever_later_decodes_say() -> None:
    agreement = Agreement()
    agreement.update(["Book", "a", "table"])
    agreement.update(["book", "a", "table,"])
    settled = list(agreement.agreed)
    assert agreement.update(["cook", "the", "table", "for", "two"]) == [*settled, "for", "two"]
    assert agreement.agreed == settled
    assert agreement.update([]) == settled


def test_case_and_punctuation_are_no_disagreement() -> None:
    agreement = Agreement()
    agreement.update(["Hello,", "what"])
    agreement.update(["hello", "What?", "is"])
    assert agreement.agreed == ["hello", "What?"]


def test_three_decodes_can_be_asked_to_agree() -> None:
    agreement = Agreement(needed=3)
    for _ in range(2):
        agreement.update(["yes"])
        assert agreement.agreed == []
    agreement.update(["yes", "please"])
    assert agreement.agreed == ["yes"]


def test_it_counts_what_the_final_words_correct() -> None:
    agreement = Agreement()
    for _ in range(2):
        agreement.update(["book", "a", "table", "for", "two"])
    assert agreement.revised_by(["book", "a", "table", "for", "two", "tomorrow"]) == 0
    assert agreement.revised_by(["Book", "a", "table", "for", "ten", "tomorrow"]) == 1
    assert agreement.revised_by(["a", "table", "for", "two"]) == 1
    assert agreement.revised_by([]) == 5
    assert Agreement().revised_by(["anything"]) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,  what's up?", ["Hello,", " what's", " up?"]),
        ("我想订桌子。谢谢!用iPhone 打", ["我", "想", "订", "桌", "子。", "谢", "谢!", "用", "iPhone", " 打"]),
        ("はい、行きます", ["は", "い、", "行", "き", "ま", "す"]),
        ("ที่นี่ มี", ["ที่", "นี่", " มี"]),  # tone and vowel signs belong to their letter
        ("안녕 하세요", ["안녕", " 하세요"]),  # Korean writes spaces
        ("कि का", ["कि", " का"]),
        ("…", ["…"]),
        ("  ", []),
    ],
)
def test_a_unit_is_a_word_or_a_character_where_no_spaces_are_written(text: str, expected: list[str]) -> None:
    assert units(text) == expected
    assert "".join(expected) == " ".join(text.split())


def test_characters_are_agreed_where_words_have_no_spaces() -> None:
    agreement = Agreement()
    agreement.update(units("我想订一张左"))
    shown = agreement.update(units("我想订一张桌子"))
    assert "".join(agreement.agreed) == "我想订一张"
    assert "".join(shown) == "我想订一张桌子"
    agreement.update(units("我想订一张桌子。"))
    assert "".join(agreement.agreed) == "我想订一张桌子。"
    assert agreement.revised_by(units("我想订一张桌子,谢谢。")) == 0
    assert agreement.revised_by(units("我想订两张桌子")) == 1


def test_a_sign_that_changes_a_word_is_a_disagreement() -> None:
    agreement = Agreement()
    agreement.update(units("कि"))
    agreement.update(units("का"))
    assert agreement.agreed == []


def test_parts_are_joined_as_their_script_is_written() -> None:
    assert joined(["good morning", "", " and goodbye "]) == "good morning and goodbye"
    assert joined(["你好。", "世界"]) == "你好。世界"
    assert joined(["用", "iPhone", "打电话"]) == "用 iPhone 打电话"
