"""Child process that turns one file of any common kind into PCM16, mono, 16 kHz, on stdout.

What a stranger uploads is read here and nowhere else: a damaged file that brings FFmpeg's code down, or makes it eat
memory, ends this process and no conversation. It imports nothing of molts.

    python decode_child.py FILE MAX_SECONDS

It writes records: a signed number of eight bytes, little-endian. N > 0: N bytes of sound follow. N < 0: here -N samples
are missing, by the container's clock. It writes none before it knows that the file holds sound and is short enough.
Exit status: see below.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import struct
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each of its threads takes memory, of which there is little here

import av
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000
CHUNK_BYTES = 2 * SAMPLE_RATE  # a second
NOT_AUDIO, NO_SOUND, TOO_LONG, DAMAGED = 3, 4, 5, 6

# Playlists and the like name further files and addresses, which would then be read: only plain containers are opened.
CONTAINERS = "wav,w64,mp3,ogg,flac,mov,mp4,m4a,3gp,matroska,webm,aac,amr,aiff,caf,au,asf"
WITH_CLOCK = {"ogg", "mov", "matroska", "asf"}
"""Containers that say when each packet is heard. In the others FFmpeg counts, wrongly when the rate changes."""

MEMORY_BYTES = 1 << 30
CPU_SECONDS = 600
PACKET_SECONDS = 10.0  # none lasts longer
SKEW_SECONDS = 0.1  # how far the clock may be ahead of the sound: it is coarse in some files
BEGAN_ANEW_SECONDS = 1.0  # a clock that is so far behind the sound has been set back
SHORT_HOLE_SECONDS = 2.0  # up to it a hole is filled with silence: speech goes on behind it
CLOCK_ENDS_SECONDS = 100 * 3600.0  # beyond it a clock tells something else than the place in the file: the date, say

Record = bytes | int
"""Sound, or the number of samples that are missing."""


def limit_resources() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)  # the conversations on this machine come first


# -- files that are several files in a row -----------------------------------------------------------------------------
class FilePart(io.RawIOBase):
    """Some bytes of a file, as a file of their own."""

    def __init__(self, path: str, first: int, end: int) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - `close`
        self._first, self._end = first, end
        self._file.seek(first)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: self._first, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._end}[whence]
        return self._file.seek(max(self._first, base + offset)) - self._first

    def tell(self) -> int:
        return self._file.tell() - self._first

    def close(self) -> None:
        self._file.close()
        super().close()


def ogg_links(file: BinaryIO) -> Iterator[int]:
    """Where each link of a chain begins: at the first of the pages that begin its streams."""
    begins_before, at = False, 0
    while len(head := _read_at(file, at, 27 + 255)) >= 27:
        if head[:4] != b"OggS":  # damage
            at = next(find_all(file, b"OggS", at), os.fstat(file.fileno()).st_size)
            continue
        begins = bool(head[5] & 2)
        if begins and not begins_before:
            yield at
        begins_before = begins
        segments = head[26]
        at += 27 + segments + sum(head[27 : 27 + segments])


def flac_files(file: BinaryIO) -> Iterator[int]:
    """Where each of several FLAC files begins: at its mark, with the block that every one begins with."""
    for at in find_all(file, b"fLaC", 0):
        if _read_at(file, at + 4, 4) in (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22"):
            yield at


def find_all(file: BinaryIO, mark: bytes, at: int) -> Iterator[int]:
    """Every place of `mark`, from `at` on."""
    while block := _read_at(file, at, 1 << 20):
        found = block.find(mark)
        if found >= 0:
            yield at + found
            at += found + len(mark)
        elif len(block) < len(mark):
            return
        else:
            at += len(block) - len(mark) + 1


def _read_at(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


JOINED = {"ogg": ogg_links, "flac": flac_files}
"""Kinds of files that may be put together by copying them one behind the other, and that FFmpeg does not take apart."""


def parts_of(path: str) -> list[tuple[int, int]]:
    """(first, past the last) byte of each file in the file; nearly always one."""
    size = os.path.getsize(path)
    with open_audio(path) as container:
        find = JOINED.get(container.format.name)
    if find is None or not size:
        return [(0, size)]
    with open(path, "rb") as file:
        begins = list(find(file))
    return list(pairwise([0, *begins[1:], size]))


def open_audio(path: str, part: tuple[int, int] | None = None) -> av.container.InputContainer:
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    source: Any = f"file:{path}" if part is None else FilePart(path, *part)
    container: av.container.InputContainer = av.open(source, mode="r", options=options, metadata_errors="ignore")
    return container


# -- length and time ---------------------------------------------------------------------------------------------------
def seconds_in(container: av.container.InputContainer) -> float:
    """Length of the sound without its holes, from its packets: nothing is decoded, and a header may say anything.

    It is a first look, so that what is far too long is refused at once; `write_records` counts what there is.
    """
    stream = container.streams.audio[0]
    base = float(stream.time_base or 0)
    before: int | None = None
    ticks = 0
    for packet in packets_of(container, stream):
        if packet.pts is None:
            continue
        lasts = packet.duration or (0 if before is None else packet.pts - before)
        ticks += lasts if 0 < lasts * base < PACKET_SECONDS else 0  # longer: a hole counts as part of the packet
        before = packet.pts
    return ticks * base


class Track:
    """Sound of one stream at its own time, whatever its format, and however often that changes."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._written = 0  # samples, those that are missing too
        self._heard_until = 0.0  # seconds, those that are still in the run too
        self._shift = 0.0  # what the clock lacks since it was set back
        self._is_new = False

    def begin_part(self) -> None:
        """What comes is another file, whose clock goes on from here wherever it begins."""
        self._is_new = self._written > 0 or self._run is not None

    def feed(self, frame: av.AudioFrame, at: float | None) -> Iterator[Record]:
        """`at`: when it is heard, in seconds by the container's clock; None: right after what came before."""
        hole = self._hole_before(at)
        if self._run is not None and (hole or self._run.kind != kind_of(frame)):
            yield from self.flush()
        if hole:
            yield from self._skip(round((self._heard_until + hole) * SAMPLE_RATE) - self._written)
        if self._run is None:
            self._run, self._heard_until = Run(frame), self._written / SAMPLE_RATE
        self._heard_until += frame.samples / frame.sample_rate
        yield from self._count(self._run.feed(frame))

    def flush(self) -> Iterator[Record]:
        """What the converters still hold."""
        if self._run is not None:
            yield from self._count(self._run.flush())
        self._run = None

    def _hole_before(self, at: float | None) -> float:
        if at is None:
            return 0.0
        ahead = at + self._shift - self._heard_until
        if self._is_new or ahead < -BEGAN_ANEW_SECONDS or at > CLOCK_ENDS_SECONDS:
            self._is_new = False
            self._shift -= ahead
            return 0.0
        return ahead if ahead > SKEW_SECONDS else 0.0

    def _skip(self, samples: int) -> Iterator[Record]:
        if samples <= 0:
            return
        self._written += samples
        yield samples if samples > SHORT_HOLE_SECONDS * SAMPLE_RATE else bytes(2 * samples)

    def _count(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._written += len(piece) // 2
            yield piece


class Run:
    """Frames of one format on their way to PCM16, mono, 16 kHz."""

    def __init__(self, frame: av.AudioFrame) -> None:
        self.kind = kind_of(frame)
        self._mixer = None if frame.layout.name == "mono" else Mixer(frame)
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)

    def feed(self, frame: av.AudioFrame) -> Iterator[bytes]:
        for mono in [frame] if self._mixer is None else self._mixer.feed(frame):
            yield from self._resample(mono)

    def flush(self) -> Iterator[bytes]:
        if self._mixer is not None:
            for mono in self._mixer.flush():
                yield from self._resample(mono)
        yield from self._resample(None)

    def _resample(self, mono: av.AudioFrame | None) -> Iterator[bytes]:
        if mono is not None:
            mono.pts = None
        for piece in self._resampler.resample(mono):
            if piece is not None:
                yield bytes(piece.planes[0])[: piece.samples * 2]


def kind_of(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


# -- channels ----------------------------------------------------------------------------------------------------------
class Mixer:
    """One channel out of many, in which whatever is said in any of them is heard.

    The mean of all channels is silent where they are opposite, and nearly so where one of many speaks. So each channel
    counts as it is loud, and is turned round where it would take away from what the others have in common.
    """

    BLOCK_SECONDS = 0.5
    RAMP_SECONDS = 0.01  # from the weights of one block to those of the next
    OPPOSITE = -0.2
    """The correlation from which on a channel is turned round: what is merely different is about 0."""
    PLACES = {"FC": 1.0, "FL": 0.7, "FR": 0.7, "LFE": 0.3}
    """What a channel counts for by its place: speech is in the centre, and the deep one is made for thunder."""

    def __init__(self, frame: av.AudioFrame) -> None:
        channels = frame.layout.channels
        self._places = np.array([self.PLACES.get(channel.name, 0.5) for channel in channels], dtype=np.float64)
        self._signs = np.ones(len(channels))
        self._weights: NDArray[np.float64] | None = None
        self._rate = frame.sample_rate
        self._ramp = int(self.RAMP_SECONDS * frame.sample_rate)
        self._block = int(self.BLOCK_SECONDS * frame.sample_rate)
        self._waiting: list[NDArray[np.float32]] = []
        self._length = 0

    def feed(self, frame: av.AudioFrame) -> Iterator[av.AudioFrame]:
        self._waiting.append(channels_of(frame))
        self._length += frame.samples
        if self._length >= self._block:
            yield from self.flush()

    def flush(self) -> Iterator[av.AudioFrame]:
        if not self._length:
            return
        mono = self._mix(np.concatenate(self._waiting, axis=1))
        self._waiting, self._length = [], 0
        frame = av.AudioFrame.from_ndarray(mono.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = self._rate
        yield frame

    def _mix(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        weights = self._weigh(block)
        before = weights if self._weights is None else self._weights
        self._weights = weights
        mono = weights.astype(np.float32) @ block
        ramp = min(self._ramp, block.shape[1])
        fading = (before - weights).astype(np.float32) @ block[:, :ramp]
        mono[:ramp] += fading * np.linspace(1, 0, ramp, dtype=np.float32)
        return mono

    def _weigh(self, block: NDArray[np.float32]) -> NDArray[np.float64]:
        together = (block @ block.T).astype(np.float64)
        loudness = np.sqrt(together.diagonal())
        weights = np.zeros(len(loudness))
        for channel in np.argsort(-loudness):
            size = np.sqrt(weights @ together @ weights) * loudness[channel]
            if size > 0 and self._signs[channel] * (weights @ together[channel]) < self.OPPOSITE * size:
                self._signs[channel] *= -1
            weights[channel] = self._signs[channel] * self._places[channel] * loudness[channel]
        total = float(np.abs(weights).sum())
        if total > 0:
            weights /= total
            return weights
        return weights if self._weights is None else self._weights


def channels_of(frame: av.AudioFrame) -> NDArray[np.float32]:
    """One row for each channel, -1 to 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "f":
        return np.nan_to_num(samples.astype(np.float32), posinf=1.0, neginf=-1.0)
    half = float(1 << (8 * samples.dtype.itemsize - 1))
    middle = half if samples.dtype.kind == "u" else 0.0
    return ((samples - middle) / half).astype(np.float32)


# -- decoding ----------------------------------------------------------------------------------------------------------
def decode(path: str, parts: list[tuple[int, int]]) -> Iterator[Record]:
    """The first sound track of each part. What is broken is skipped, as every player does."""
    track = Track()
    for container in open_parts(path, parts):
        track.begin_part()
        has_clock = not WITH_CLOCK.isdisjoint(container.format.name.split(","))
        stream = container.streams.audio[0]
        for packet in packets_of(container, stream):
            for frame in frames_of(packet):
                yield from track.feed(frame, frame.time if has_clock else None)
    yield from track.flush()


def open_parts(path: str, parts: list[tuple[int, int]]) -> Iterator[av.container.InputContainer]:
    """Those with sound, one open at a time. One that cannot be read does not keep the others from being heard."""
    for part in parts:
        with contextlib.suppress(av.error.FFmpegError), open_audio(path, part if len(parts) > 1 else None) as container:
            if container.streams.audio:
                yield container


def packets_of(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.Packet[av.AudioStream]]:
    with contextlib.suppress(av.error.FFmpegError):  # the rest of this part is lost
        yield from container.demux(stream)


def frames_of(packet: av.Packet[av.AudioStream]) -> Iterator[av.AudioFrame]:
    with contextlib.suppress(av.error.FFmpegError):
        yield from packet.decode()


def main(path: str, max_seconds: float) -> int:
    limit_resources()
    try:
        parts = parts_of(path)
    except av.error.FFmpegError:
        return NOT_AUDIO
    lengths = []
    for container in open_parts(path, parts):
        lengths.append(seconds_in(container))
        if sum(lengths) > max_seconds:
            return TOO_LONG
    if not lengths:
        return NO_SOUND
    return write_records(decode(path, parts), max_seconds)


def write_records(records: Iterator[Record], max_seconds: float) -> int:
    """Writes what comes. A broken file gives what was whole, and counts as damaged only when that is nothing."""
    left = int(max_seconds * SAMPLE_RATE) * 2
    read = 0
    waiting = bytearray()
    for record in records:
        if isinstance(record, int):
            write_sound(waiting, at_least=1)
            sys.stdout.buffer.write(struct.pack("<q", -record))
            continue
        read += len(record)
        if read > left:
            return TOO_LONG
        waiting += record
        write_sound(waiting, at_least=CHUNK_BYTES)
    write_sound(waiting, at_least=1)
    sys.stdout.buffer.flush()
    return 0 if read else DAMAGED


def write_sound(waiting: bytearray, *, at_least: int) -> None:
    """Writes what waits in chunks, while there is that much, and takes it away."""
    while len(waiting) >= at_least:
        chunk = waiting[:CHUNK_BYTES]
        del waiting[:CHUNK_BYTES]
        sys.stdout.buffer.write(struct.pack("<q", len(chunk)) + chunk)


if __name__ == "__main__":
    try:
        status = main(sys.argv[1], float(sys.argv[2]))
    except BrokenPipeError:  # the parent wants no more
        status = 0
    os._exit(status)  # nothing is left to flush, and the pipe may be gone
