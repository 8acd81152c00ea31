"""A visitor who floods a room: `python -m tests.agent_runtime.flood <url> <token> <kind> <amount>`.

A process of its own, so that what it holds is not taken for what the receiver holds.
"""

from __future__ import annotations

import asyncio
import sys

from livekit import rtc

PIECE = 15_000


async def main(url: str, token: str, kind: str, amount: int) -> None:
    """`amount`: kilobytes of one endless stream, or how many streams or packets."""
    room = rtc.Room()
    await room.connect(url, token)
    me = room.local_participant
    match kind:
        case "text":
            writer = await me.stream_text(topic="lk.chat")
            for _ in range(amount * 1000 // PIECE):
                await writer.write("x" * PIECE)
        case "bytes":
            raw = await me.stream_bytes("file", topic="lk.agent.pre-connect-audio-buffer", attributes=RECORDED)
            for _ in range(amount * 1000 // PIECE):
                await raw.write(b"x" * PIECE)
        case "opened":
            opened = []  # a writer that nobody holds may be ended by the library, as if all had been said
            for _ in range(amount):
                opened.append(await me.stream_text(topic="lk.chat"))
                await opened[-1].write("never ended")
        case "elsewhere":
            writer = await me.stream_text(topic="nobody.reads.this")
            for _ in range(amount * 1000 // PIECE):
                await writer.write("x" * PIECE)
        case "packets":
            for _ in range(amount * 1000 // PIECE):
                await me.publish_data(b"x" * PIECE, topic="lk.chat")
        case _:
            raise SystemExit(f"unknown kind {kind}")
    print("sent", flush=True)
    await asyncio.sleep(30)


RECORDED = {"trackId": "TR_1", "sampleRate": "48000", "channels": "1"}

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
