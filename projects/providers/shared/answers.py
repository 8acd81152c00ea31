"""What of a language model's stream is an answer: words to say, no thoughts, and tools that somebody serves."""

from __future__ import annotations

import re
from collections.abc import Sequence

from livekit.agents import APIError, llm

_TAGS = ("think", "thinking", "thought", "reasoning")
_OPENS = re.compile(rf"<({'|'.join(_TAGS)})>", re.IGNORECASE)
_STRAY = re.compile(rf"</(?:{'|'.join(_TAGS)})>", re.IGNORECASE)
_MARKS = tuple(f"<{slash}{tag}>" for tag in _TAGS for slash in ("", "/"))


class Thoughts:
    """Takes `<think>…</think>` and its like out of a text that comes in pieces, however they cut the marks."""

    def __init__(self) -> None:
        self._text = ""
        self._until: re.Pattern[str] | None = None

    def strip(self, piece: str) -> str:
        """What may be said of the text so far and was not given out yet."""
        self._text += piece
        shown = ""
        while True:
            if self._until is not None:
                if (end := self._until.search(self._text)) is None:
                    self._text = self._text[-20:]  # the end may have come in part; longer than that it is not
                    return shown
                self._text, self._until = self._text[end.end() :], None
            self._text = self._text if _OPENS.search(self._text) else _STRAY.sub("", self._text)
            if (start := _OPENS.search(self._text)) is None:
                break
            shown += _STRAY.sub("", self._text[: start.start()])
            self._text = self._text[start.end() :]
            self._until = re.compile(rf"</{re.escape(start[1])}>", re.IGNORECASE)
        kept = _begun_mark(self._text)
        shown, self._text = shown + self._text[: len(self._text) - kept], self._text[len(self._text) - kept :]
        return shown

    def rest(self) -> str:
        """What looked like the beginning of a mark and was none."""
        rest, self._text = ("" if self._until else self._text), ""
        return rest


def _begun_mark(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a mark."""
    at = text.rfind("<")
    tail = text[at:].lower() if at >= 0 else ""
    return len(tail) if tail and any(mark.startswith(tail) for mark in _MARKS) else 0


class AnswerFilter:
    """Passes on what of a stream is an answer, and knows whether there was one.

    Blanks before the first word are held back: a chain may go to its next rung only while nothing was sent.
    """

    def __init__(self, tools: Sequence[llm.Tool]) -> None:
        self._served = llm.ToolContext(list(tools)).function_tools
        self._thoughts = Thoughts()
        self._held: list[llm.ChatChunk] = []
        self._unserved: list[str] = []
        self._thought = False
        self._came = False
        self.has_begun = False

    def take(self, chunk: llm.ChatChunk) -> list[llm.ChatChunk]:
        """What is to be passed on now that `chunk` has come."""
        self._came = self._came or chunk.delta is not None
        if chunk.delta is None:
            return [chunk]  # a report of what was used
        return self._pass(self._cleaned(chunk))

    def end(self) -> list[llm.ChatChunk]:
        """What is left when the stream is over. Raises APIError when it held no answer."""
        rest = self._thoughts.rest()
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
