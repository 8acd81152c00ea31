"""What of a model's text is its answer."""

from __future__ import annotations

import pytest

from projects.providers.shared.answers import THOUGHT_UNTIL_HERE, BlockOpening, Thoughts, opened_by_template


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


def test_a_stray_end_of_an_ordinary_model_costs_no_later_answer() -> None:
    opened, heard = BlockOpening.NO, []
    for text in ("One.", "Two.</think>", "Three.", "Four.", "Five.</think>", "Six.", "Seven."):
        thoughts = Thoughts(opened)
        heard.append(said(thoughts, text))
        opened = thoughts.opens()
    assert heard[2:4] == ["Three.", "Four."]
    assert heard[5:] == ["Six.", "Seven."]
    assert opened is BlockOpening.NO


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
