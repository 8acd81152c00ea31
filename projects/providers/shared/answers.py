"""What of a language model's stream is an answer: words to say, no thoughts, and tools that somebody serves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from livekit.agents import APIError, llm

_TAGS = ("think", "thinking", "thought", "reasoning")
_OPENS = re.compile(rf"<({'|'.join(_TAGS)})>", re.IGNORECASE)
_STRAY = re.compile(rf"</(?:{'|'.join(_TAGS)})>", re.IGNORECASE)
_MARKS = tuple(f"<{slash}{tag}>" for tag in _TAGS for slash in ("", "/"))


THOUGHT_UNTIL_HERE = "\x1e"
"""Stands in an answer whose words so far turn out to have been thought: they were said, and are no part of it."""
# Whose chat templates begin the answer inside the block, so that only its end comes: DeepSeek R1 and what was distilled
# from it, QwQ, and Qwen's thinking models. A server that takes thoughts out by itself sends no end either.
_OPENED_BY_TEMPLATE = re.compile(r"deepseek[-_]?r1|\br1[-_]distill|\bqwq\b|\bqwen\S*thinking", re.IGNORECASE)


class BlockOpening(Enum):
    """Whether answers begin inside a block of thoughts."""

    NO = "no"
    PERHAPS = "perhaps"
    YES = "yes"


def opened_by_template(model: str) -> BlockOpening:
    """What a model's name says of it. Its first answer tells more."""
    return BlockOpening.PERHAPS if _OPENED_BY_TEMPLATE.search(model) else BlockOpening.NO


def without_thoughts(said: str) -> str:
    """What of the words that were said is the answer."""
    return said.rpartition(THOUGHT_UNTIL_HERE)[2]


class Thoughts:
    """Takes `<think>…</think>` and its like out of a text that comes in pieces, however they cut the marks.

    What begins inside is held back until the end of the thoughts comes. When it never comes, all of it was the answer,
    or, where ends are known to come, a thought. In other texts an end without a beginning tells that all before it was
    thought. Then it has been said: nobody waits for an end that ordinary models never send. An end that nothing follows
    tells nothing: a model whose whole answer was a thought has answered nothing either way.

    An ordinary model may write such an end once, and one that thinks may be served differently from some moment on. So
    what is known of a model moves by one step with each answer, and a single one never decides over all that follow.
    """

    def __init__(self, opened: BlockOpening = BlockOpening.NO) -> None:
        self._text = ""
        self._until: re.Pattern[str] | None = None
        self._opened = opened
        self._holds = opened is not BlockOpening.NO
        self._shown = False
        self._had_no_text = True
        self._had_beginning = False
        self._lone_end = False  # whether an end came without a beginning
        self._before_end = ""  # what was held back until then
        self._ends_thought = False  # whether words have followed that end

    def strip(self, piece: str) -> str:
        """What may be said of the text so far and was not given out yet."""
        self._had_no_text = self._had_no_text and not piece.strip()
        self._text += piece.replace(THOUGHT_UNTIL_HERE, " ")  # it is our mark alone
        if self._holds:
            if (end := _STRAY.search(self._text)) is None:
                return ""
            self._before_end = self._text[: end.start()]
            self._text, self._holds, self._lone_end = self._text[end.end() :], False, True
        shown = ""
        while True:
            if self._until is not None:
                if (end := self._until.search(self._text)) is None:
                    self._text = self._text[-20:]  # the end may have come in part; longer than that it is not
                    return self._after_lone_end(shown)
                self._text, self._until = self._text[end.end() :], None
            if (start := _OPENS.search(self._text)) is None:
                break
            shown += self._text[: start.start()]
            self._text, self._had_beginning = self._text[start.end() :], True
            self._until = re.compile(rf"</{re.escape(start[1])}>", re.IGNORECASE)
        kept = _begun_mark(self._text)
        shown, self._text = shown + self._text[: len(self._text) - kept], self._text[len(self._text) - kept :]
        return self._after_lone_end(shown)

    def _after_lone_end(self, shown: str) -> str:
        """`shown` without what was thought. Only the first end tells: a beginning is known of all others."""
        before = ""
        if not self._had_beginning and not self._lone_end and (end := _STRAY.search(shown)):
            self._lone_end = True
            before, shown = shown[: end.start()], shown[end.end() :]
        shown = _STRAY.sub("", shown)
        if self._lone_end and not self._ends_thought and shown.strip():
            self._ends_thought = True
            mark = THOUGHT_UNTIL_HERE if self._shown else ""
            before, shown = "", mark + shown
        shown = before + shown
        self._shown = self._shown or bool(shown.strip())
        return shown

    def rest(self) -> str:
        """What was held back and is no thought."""
        rest, self._text = self._text, ""
        is_thought = self._until or (self._holds and (self._opened is BlockOpening.YES or _OPENS.match(rest.lstrip())))
        return "" if is_thought else rest

    def unanswered(self) -> str:
        """What was held back until an end that nothing followed: the answer of a model that ends it so by mistake."""
        return "" if self._ends_thought or self._opened is BlockOpening.YES else self._before_end

    @property
    def holds(self) -> bool:
        """Whether words have come that wait for the end of thoughts."""
        return self._holds and bool(self._text.strip())

    def come_apart(self) -> None:
        """The vendor sends the thoughts beside the text: all of it is the answer, and nothing is held back."""
        self._opened, self._holds = BlockOpening.NO, False

    def opens(self) -> BlockOpening:
        """What is to be expected of the next text, now that this one is over."""
        if self._ends_thought:
            return BlockOpening.PERHAPS if self._opened is BlockOpening.NO else BlockOpening.YES
        if self._had_no_text:
            return self._opened
        return BlockOpening.PERHAPS if self._opened is BlockOpening.YES else BlockOpening.NO


def _begun_mark(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a mark."""
    at = text.rfind("<")
    tail = text[at:].lower() if at >= 0 else ""
    return len(tail) if tail and any(mark != tail and mark.startswith(tail) for mark in _MARKS) else 0


class AnswerFilter:
    """Passes on what of a stream is an answer, and knows whether there was one.

    Blanks before the first word are held back: a chain may go to its next rung only while nothing was sent.
    """

    def __init__(self, tools: Sequence[llm.Tool], *, thoughts: BlockOpening = BlockOpening.NO) -> None:
        self._served = llm.ToolContext(list(tools)).function_tools
        self._thoughts = Thoughts(thoughts)
        self._held: list[llm.ChatChunk] = []
        self._unserved: list[str] = []
        self._thought = False
        self._came = False
        self.has_begun = False

    def thoughts_of_next(self) -> BlockOpening:
        """Whether the model's next answer begins inside its thoughts, once this one is over."""
        return self._thoughts.opens()

    @property
    def holds(self) -> bool:
        """Whether words have come that may be thoughts, and wait."""
        return self._thoughts.holds

    def thoughts_come_apart(self) -> None:
        self._thoughts.come_apart()

    def take(self, chunk: llm.ChatChunk) -> list[llm.ChatChunk]:
        """What is to be passed on now that `chunk` has come."""
        self._came = self._came or chunk.delta is not None
        if chunk.delta is None:
            return [chunk]  # a report of what was used
        return self._pass(self._cleaned(chunk))

    def end(self) -> list[llm.ChatChunk]:
        """What is left when the stream is over. Raises APIError when it held no answer."""
        rest = self._thoughts.rest()
        if not self.has_begun and not rest.strip():
            rest = self._thoughts.unanswered()
        left = self._pass(llm.ChatChunk(id="rest", delta=llm.ChoiceDelta(content=rest))) if rest else []
        if not self.has_begun:
            raise APIError(f"the language model answered nothing: {self._what_came()}", retryable=False)
        return left

    def _pass(self, chunk: llm.ChatChunk) -> list[llm.ChatChunk]:
        assert chunk.delta is not None
        if not self.has_begun and not ((chunk.delta.content or "").strip() or chunk.delta.tool_calls):
            self._held.append(chunk)
            return []
        ready, self._held = [*self._held, chunk], []
        self.has_begun = True
        return ready

    def _cleaned(self, chunk: llm.ChatChunk) -> llm.ChatChunk:
        assert chunk.delta is not None
        delta = chunk.delta
        text = self._thoughts.strip(delta.content) if delta.content else delta.content
        self._thought = self._thought or bool(delta.content and not text)
        calls = [call for call in delta.tool_calls if call.name in self._served]
        self._unserved += [call.name for call in delta.tool_calls if call.name not in self._served]
        return chunk.model_copy(update={"delta": delta.model_copy(update={"content": text, "tool_calls": calls})})

    def _what_came(self) -> str:
        if self._unserved:
            return f"it called {self._unserved[0]!r}, a tool that the agent does not have"
        if self._thought:
            return "it only thought"
        return "blanks only" if self._came else "its stream held no words"
