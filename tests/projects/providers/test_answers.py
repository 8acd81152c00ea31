"""What of a model's text is its answer."""

from __future__ import annotations

import pytest
from livekit.agents import llm

from projects.providers.shared.answers import (
    THOUGHT_UNTIL_HERE,
    AnswerFilter,
    BlockOpening,
    Thoughts,
    opened_by_template,
    without_thoughts,
)
from projects.providers.shared.deadline import HELD_SECONDS, PAUSE_SECONDS, _DeadlineStream


@pytest.mark.parametrize(
    ("model", "opened"),
    [
        ("deepseek-r1:8b", BlockOpening.PERHAPS),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", BlockOpening.PERHAPS),
        ("qwq", BlockOpening.PERHAPS),
        ("Qwen/Qwen3-4B-Thinking-2507", BlockOpening.PERHAPS),
        ("deepseek-reasoner", BlockOpening.NO),  # its vendor sends the thoughts apart
        ("gpt-4.1-mini", BlockOpening.NO),
        ("qwen3:8b", BlockOpening.NO),
    ],
)
def test_a_models_name_tells_whether_its_template_begins_the_thoughts(model: str, opened: BlockOpening) -> None:
    assert opened_by_template(model) is opened


def said(thoughts: Thoughts, text: str) -> str:
    """All that may be said of a text that comes letter by letter."""
    return "".join(map(thoughts.strip, text)) + thoughts.rest()


@pytest.mark.parametrize(
    ("opened", "text", "shown"),
    [
        (BlockOpening.PERHAPS, "They want the time.</think>It is nine.", "It is nine."),
        (BlockOpening.PERHAPS, "It is nine.", "It is nine."),  # the server took the thoughts out
        (BlockOpening.YES, "They want the ti", ""),  # cut off while it thought
        (BlockOpening.NO, "<think>They ask.</think>It is nine.", "It is nine."),
        (BlockOpening.NO, "So.</think>It is nine.", f"So.{THOUGHT_UNTIL_HERE}It is nine."),
        (BlockOpening.NO, "Two < three, and a <thin line.", "Two < three, and a <thin line."),
    ],
)
def test_thoughts_are_taken_out_of_a_text_that_comes_in_pieces(opened: BlockOpening, text: str, shown: str) -> None:
    assert said(Thoughts(opened), text) == shown


def heard_in_turn(*texts: str) -> tuple[list[str], list[BlockOpening]]:
    """What is said of the answers of one model, one after the other, and what is expected after each."""
    opened, heard, expected = BlockOpening.NO, [], []
    for text in texts:
        thoughts = Thoughts(opened)
        shown = said(thoughts, text)
        heard.append(shown or thoughts.unanswered())
        expected.append(opened := thoughts.opens())
    return heard, expected


@pytest.mark.parametrize("blanks", ["", "\n", " \n\n"])
def test_a_stray_end_that_nothing_follows_costs_nothing(blanks: str) -> None:
    heard, expected = heard_in_turn("One.", f"Two.</think>{blanks}", f"Three.</think>{blanks}", "Four.")
    assert [without_thoughts(text).strip() for text in heard] == ["One.", "Two.", "Three.", "Four."]
    assert set(expected) == {BlockOpening.NO}
    held = Thoughts(BlockOpening.PERHAPS)
    assert said(held, f"Two.</think>{blanks}").strip() == ""
    assert held.unanswered() == "Two."
    assert held.opens() is BlockOpening.NO


def test_a_stray_end_in_mid_answer_costs_no_later_answer() -> None:
    heard, expected = heard_in_turn("One.", "Write </think> here.", "Three.", "Four.", "Five.")
    assert heard[2:] == ["Three.", "Four.", "Five."]
    assert expected == [BlockOpening.NO, BlockOpening.PERHAPS, BlockOpening.NO, BlockOpening.NO, BlockOpening.NO]


def test_an_answer_without_text_tells_nothing() -> None:
    for opened in BlockOpening:
        thoughts = Thoughts(opened)
        assert said(thoughts, "\n") in ("", "\n")
        assert thoughts.opens() is opened


def test_a_model_that_no_longer_thinks_aloud_is_believed_at_its_second_answer() -> None:
    thoughts = Thoughts(BlockOpening.YES)
    assert said(thoughts, "It is nine.") == ""
    assert said(Thoughts(thoughts.opens()), "It is nine.") == "It is nine."


def test_what_comes_beside_thoughts_is_held_back_no_longer() -> None:
    thoughts = Thoughts(BlockOpening.PERHAPS)
    held = thoughts.strip("It is ")  # noqa: B005
    thoughts.come_apart()
    assert (held, thoughts.strip("nine.")) == ("", "It is nine.")  # noqa: B005
    assert thoughts.opens() is BlockOpening.NO


def test_our_own_mark_is_no_models_to_write() -> None:
    assert said(Thoughts(), f"It is{THOUGHT_UNTIL_HERE}nine.") == "It is nine."


def test_a_held_answer_is_waited_for_while_its_words_come() -> None:
    """Its whole length counted once against the deadline for the first word."""
    answer, stream = AnswerFilter([], thoughts=BlockOpening.PERHAPS), object.__new__(_DeadlineStream)
    stream._seconds = 20.0
    assert stream._patience(answer, began=100.0, came=115.0) == (100.0, 20.0)
    answer.take(llm.ChatChunk(id="1", delta=llm.ChoiceDelta(content="It is")))
    assert stream._patience(answer, began=100.0, came=115.0) == (115.0, 20.0)
    assert stream._patience(answer, began=100.0, came=145.0) == (100.0, HELD_SECONDS)  # it only thinks
    answer.take(llm.ChatChunk(id="1", delta=llm.ChoiceDelta(content="</think>It is nine.")))
    assert stream._patience(answer, began=100.0, came=145.0) == (145.0, PAUSE_SECONDS)
