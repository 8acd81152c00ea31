"""Ends every child when the supervisor is gone, however it went (even `kill -9`, even out of memory).

A process of its own, started with the supervisor's mark as its only argument and a pipe as its standard input. The
supervisor writes `+<process group>` when it starts a child and `-<process group>` when that child has ended. The pipe's
end means that the supervisor is no more: all groups still standing are killed, and, where /proc can be read, everything
that carries the mark in its environment, so that a grandchild in a group or session of its own does not escape.

Standard library only and started with `python -I -S`: it takes few megabytes and no processor time.
"""

import contextlib
import os
import signal
import sys
import time

MARK = "MOLTS_UP_ID"


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # only the pipe's end counts
    mark = f"{MARK}={sys.argv[1]}".encode()
    groups: set[int] = set()
    for line in sys.stdin:
        sign, number = line[0], int(line[1:])
        if sign == "+":
            groups.add(number)
        else:
            groups.discard(number)
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    # A second look catches what was being started while the first went through the list.
    for _ in range(3):
        kill_marked(mark)
        time.sleep(0.1)


def kill_marked(mark: bytes) -> None:
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return
    for number in numbers:
        if number == os.getpid():
            continue
        with contextlib.suppress(OSError):
            with open(f"/proc/{number}/environ", "rb") as file:
                carries = mark in file.read().split(b"\0")
            if carries:
                os.kill(number, signal.SIGKILL)


if __name__ == "__main__":
    main()
