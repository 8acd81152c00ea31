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
