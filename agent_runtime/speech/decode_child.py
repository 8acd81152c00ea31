"""Child process that turns one file of any common kind into PCM16, mono, 16 kHz, on stdout.

What a stranger uploads is read here and nowhere else: a damaged file that brings FFmpeg's code down, or makes it eat
memory, ends this process and no conversation. It imports nothing of molts.

    python decode_child.py FILE MAX_SECONDS

It writes no sample before it knows that the file holds sound and is short enough. Exit status: see below.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from itertools import chain

import av

SAMPLE_RATE = 16_000
NOT_AUDIO, NO_SOUND, TOO_LONG, DAMAGED = 3, 4, 5, 6

# Playlists and the like name further files and addresses, which would then be read: only plain containers are opened.
CONTAINERS = "wav,w64,mp3,ogg,flac,mov,mp4,m4a,3gp,matroska,webm,aac,amr,aiff,caf,au,asf"
MEMORY_BYTES = 1 << 30
CPU_SECONDS = 600


def limit_resources() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)  # the conversations on this machine come first


def open_audio(path: str) -> av.container.InputContainer:
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    return av.open(f"file:{path}", mode="r", options=options, metadata_errors="ignore")


def seconds_in(container: av.container.InputContainer) -> float:
    """Length of the sound, from its packets: nothing is decoded, and a header may say anything."""
    stream = container.streams.audio[0]
    base = float(stream.time_base or 0)
    first, last = None, 0.0
    for packet in container.demux(stream):
        if packet.pts is None:
            continue
        first = packet.pts if first is None else min(first, packet.pts)
        last = max(last, float(packet.pts + (packet.duration or 0) - first) * base)
    return last


def decode(container: av.container.InputContainer) -> Iterator[bytes]:
    """PCM16 of the first sound track. Broken packets are skipped, as every player does."""
    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    for frame in chain(frames_of(container, stream), [None]):
        if frame is not None:
            frame.pts = None
        for piece in resampler.resample(frame):
            yield bytes(piece.planes[0])[: piece.samples * 2]


def frames_of(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def main(path: str, max_seconds: float) -> int:
    limit_resources()
    try:
        with open_audio(path) as container:
            if not container.streams.audio:
                return NO_SOUND
            if seconds_in(container) > max_seconds:
                return TOO_LONG
        with open_audio(path) as container:
            return write_samples(decode(container), max_seconds)
    except av.error.FFmpegError:
        return NOT_AUDIO


def write_samples(pieces: Iterator[bytes], max_seconds: float) -> int:
    """Writes what comes. A broken file gives what was whole, and counts as damaged only when that is nothing."""
    left = int(max_seconds * SAMPLE_RATE) * 2
    written = 0
    try:
        for piece in pieces:
            if written + len(piece) > left:
                return TOO_LONG
            sys.stdout.buffer.write(piece)
            written += len(piece)
        sys.stdout.buffer.flush()
    except av.error.FFmpegError:
        return 0 if written else DAMAGED
    return 0 if written else DAMAGED


if __name__ == "__main__":
    try:
        status = main(sys.argv[1], float(sys.argv[2]))
    except BrokenPipeError:  # the parent wants no more
        status = 0
    os._exit(status)  # nothing is left to flush, and the pipe may be gone
