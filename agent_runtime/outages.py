"""Which kinds of a conversation's parts are out of service, told once each time to the visitor and to admins."""

from __future__ import annotations

from typing import Protocol

from projects.providers.base import Kind
from sessions.choices import NoticeCode, NoticeLevel

LOST = {
    Kind.STT: "The agent cannot hear you right now. Please write to it, or say it again in a moment.",
    Kind.LLM: "The agent cannot answer right now. Please ask again in a moment.",
    Kind.TTS: "The agent's voice does not work right now. Please read what it says.",
}
BACK = {
    Kind.STT: "The agent hears you again.",
    Kind.LLM: "The agent answers again.",
    Kind.TTS: "The agent's voice works again.",
}

LEVELS = {Kind.STT: NoticeLevel.ERROR, Kind.LLM: NoticeLevel.ERROR, Kind.TTS: NoticeLevel.WARNING}
"""Without a voice the words are still read, and mostly spoken by another one."""


class Teller(Protocol):
    """Who keeps what a conversation's visitors and admins are told."""

    def notice(self, *, level: NoticeLevel, code: NoticeCode, text: str, once: bool = False, reason: str = "") -> None:
        """`text` is for everybody, `reason` for admins alone."""

    def note_aside(self, text: str) -> None:
        """The agent says `text` beside its answers."""


class Outages:
    """A kind is out of service when its last rung has failed, until it has served again."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._reasons: dict[Kind, str] = {}

    def has(self, kind: Kind) -> bool:
        return kind in self._reasons

    def begin(self, kind: Kind, reason: str) -> None:
        """Told again only when the reason is another one: a visitor who asks on would be told with every answer."""
        if self._reasons.get(kind) == reason:
            return
        self._reasons[kind] = reason
        self._teller.notice(level=LEVELS[kind], code=NoticeCode(f"{kind.value}_lost"), text=LOST[kind], reason=reason)

    def end(self, kind: Kind) -> None:
        if self._reasons.pop(kind, None) is not None:
            self._teller.notice(level=NoticeLevel.INFO, code=NoticeCode(f"{kind.value}_back"), text=BACK[kind])
