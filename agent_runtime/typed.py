"""What the visitor types into the room: read as it arrives, and no more of it than a line may hold.

LiveKit's own handler keeps whatever is sent until the stream ends, which is never for somebody who does not end it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from livekit import rtc
from livekit.agents.types import TOPIC_CHAT

logger = logging.getLogger(__name__)

MAX_TYPED = 4_000
LINE_ATTRIBUTE = "molts.line"
READ_SECONDS = 10.0  # a line is sent in one piece; one that takes longer never ends


class TypedLines:
    """Make it before the room is joined, `open` it once lines can be answered, and `aclose` it.

    `allows` is asked before anything of a line is read, and `on_line` called with each whole one and with the name that
    its sender gave it ("" for none). Only `identity` may type.
    """

    def __init__(
        self, room: rtc.Room, *, identity: str, allows: Callable[[], bool], on_line: Callable[[str, str], object]
    ) -> None:
        self._identity = identity
        self._allows = allows
        self._on_line = on_line
        self._reading: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        room.register_text_stream_handler(TOPIC_CHAT, self._on_stream)

    def open(self) -> None:
        """From now on lines are handed over; those that came before are now."""
        self._open.set()

    async def aclose(self) -> None:
        for task in (reading := set(self._reading)):
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

    def _on_stream(self, reader: rtc.TextStreamReader, sender: str) -> None:
        if sender != self._identity or not self._allows():
            reader.close()
            return
        task = asyncio.create_task(self._take(reader), name="typed-line")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _take(self, reader: rtc.TextStreamReader) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                text = await _read(reader)
        except (TimeoutError, rtc.StreamError):
            logger.info("a typed line did not arrive")
            return
        finally:
            reader.close()  # whatever else comes of it is thrown away
        await self._open.wait()
        try:
            self._on_line(text, ((reader.info and reader.info.attributes) or {}).get(LINE_ATTRIBUTE, ""))
        except Exception:
            logger.exception("a typed line was not taken")


async def _read(reader: rtc.TextStreamReader) -> str:
    text = ""
    async for chunk in reader:
        text += chunk
        if len(text) >= MAX_TYPED:
            return text[:MAX_TYPED]
    return text
