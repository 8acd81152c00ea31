from __future__ import annotations

from agent_runtime.speech.agreement import Agreement


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
