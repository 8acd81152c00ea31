"""Our rule for cutting texts as LiveKit wants it: a tokenizer, and an adapter that makes any voice speak by it."""

from __future__ import annotations

from typing import Any

from livekit.agents import tts, utils
from livekit.agents.tokenize import SentenceStream, SentenceTokenizer, TokenData

from projects.providers.shared.sentences import FIRST, LATER, piece_end, split_pieces


class PieceTokenizer(SentenceTokenizer):
    """Cuts a text into the pieces that are spoken one by one."""

    def tokenize(self, text: str, *, language: str | None = None) -> list[str]:
        return split_pieces(text)

    def stream(self, *, language: str | None = None) -> SentenceStream:
        return _PieceStream()


class _PieceStream(SentenceStream):
    """Gives out each piece as soon as its end is known. The spaces between pieces stay with them."""

    def __init__(self) -> None:
        super().__init__()
        self._text = ""
        self._begin_segment()

    def push_text(self, text: str) -> None:
        self._check_not_closed()
        self._text += text
        while end := piece_end(self._text, self._lengths):
            self._send(end)

    def flush(self) -> None:
        self._check_not_closed()
        if self._text:
            self._send(len(self._text))
        self._begin_segment()

    def end_input(self) -> None:
        self.flush()
        self._do_close()

    async def aclose(self) -> None:
        self._do_close()

    def _begin_segment(self) -> None:
        self._lengths = FIRST
        self._segment_id = utils.shortuuid()

    def _send(self, end: int) -> None:
        piece, self._text = self._text[:end], self._text[end:]
        self._event_ch.send_nowait(TokenData(segment_id=self._segment_id, token=piece))
        self._lengths = LATER


def speaking_in_pieces(voice: tts.TTS[Any]) -> tts.TTS[Any]:
    """`voice` as one that takes text while it is written. One that does so itself stays as it is."""
    if voice.capabilities.streaming:
        return voice
    return tts.StreamAdapter(tts=voice, sentence_tokenizer=PieceTokenizer())
