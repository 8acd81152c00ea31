"""A visitor as a process of its own, so that five of them do not wait for each other.

    python -m tests.bench.avatar_visitor URL TOKEN FILE

Until SIGTERM it looks and listens, and then writes when each frame came: FILE is an .npz with `video` and `audio` in
epoch seconds, and `loudness`, the RMS of each of the latter.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import numpy as np

from tests.visitor import Visitor, rms


async def main(url: str, token: str, file: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Visitor(url, token) as visitor:
        await stopped.wait()
    heard = visitor.heard.frames
    np.savez(file, video=visitor.seen.at, audio=[at for at, _ in heard], loudness=[rms(frame) for _, frame in heard])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
