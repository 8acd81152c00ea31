"""A visitor as a process of its own, so that five of them do not wait for each other.

    python -m tests.bench.avatar_visitor URL TOKEN FILE

Until SIGTERM it looks and listens, and then writes when each frame came: FILE is an .npz with `video` and `audio` in
epoch seconds, and `loudness`, the RMS of each 10 ms of the latter. It is as light as it can be, since it stands for
another machine: it decodes all that it counts, and has no microphone.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import numpy as np

from tests.visitor import Visitor, rms

HEARD_MS, STEP_MS = 50, 10


async def main(url: str, token: str, file: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Visitor(url, token, microphone=False, heard_ms=HEARD_MS) as visitor:
        await stopped.wait()
    steps = [(at, rms(step)) for at, frame in visitor.heard.frames for step in np.split(frame, HEARD_MS // STEP_MS)]
    at, loudness = np.array(steps).reshape(-1, 2).T
    np.savez(file, video=visitor.seen.at, audio=at, loudness=loudness)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
