"""What a server sent as speech: recognised by its first bytes, decoded, and never played when it would be noise.

Servers forget which form they were asked for, and what they call it. What they send is looked at, and decoded by FFmpeg
(PyAV).
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from projects.providers.shared.audio import SILENCE_PEAK

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

HEAD_BYTES = 2048
"""So much is enough to recognise every form: two frames of MP3, of AAC nearly always."""
LONGEST_SECONDS = 900.0
NOISE_BLOCK = 1024  # samples
RAW = ("audio/pcm", "audio/l16", "audio/raw", "audio/x-raw")
MPEG_KBITS = {  # by (version 1, layer); the second half of the table is that of versions 2 and 2.5
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# As the bytes come: nothing is read ahead, and nothing guessed that is known. (`fflags=nobuffer` would lose the start.)
LIVE = {"probesize": "32", "analyzeduration": "0", "flags": "low_delay", "max_delay": "0", "avioflags": "direct"}
LIVE_BUFFER = 1024


class UnusableSound(RuntimeError):
    """What came cannot be played. The text says what it is."""


@dataclass(frozen=True)
class SoundFormat:
    """A form of sound: its name for people, FFmpeg's for it and what FFmpeg must be told, and whether its first sound
    can be had before its end."""

    name: str
    container: str
    streams: bool = True
    options: tuple[tuple[str, str], ...] = ()


RAW_SAMPLES = SoundFormat("PCM", "")
WAV = SoundFormat("WAV", "wav")
ENDLESS = 0x7FFF0000  # from here on a WAV file's length says that its writer did not know it
WAV_SAMPLES = {  # (kind, bits): FFmpeg's name
    (1, 8): "u8",
    (1, 16): "s16le",
    (1, 24): "s24le",
    (1, 32): "s32le",
    (3, 32): "f32le",
    (3, 64): "f64le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}
_SIGNATURES: tuple[tuple[int, bytes, SoundFormat], ...] = (
    (8, b"WAVE", WAV),
    (0, b"fLaC", SoundFormat("FLAC", "flac")),
    (0, b"OggS", SoundFormat("OGG", "ogg")),
    (0, b"\x1aE\xdf\xa3", SoundFormat("WebM", "matroska")),
    (0, b"ID3", SoundFormat("MP3", "mp3")),
    (4, b"ftyp", SoundFormat("MP4", "mp4", streams=False)),
    (0, b"FORM", SoundFormat("AIFF", "aiff")),
    (0, b".snd", SoundFormat("AU", "au")),
    (0, b"caff", SoundFormat("CAF", "caf")),
    (0, b"#!AMR", SoundFormat("AMR", "amr")),
    (0, b"0&\xb2u", SoundFormat("WMA", "asf")),
)


def recognise(head: bytes, *, is_all: bool = True) -> SoundFormat | None:
    """The form of the sound that begins with `head`; None for bare samples and the rest, and while that is not sure
    because `head` is not HEAD_BYTES long and not `is_all` there is."""
    marked = (form for place, mark, form in _SIGNATURES if head.startswith(mark, place))
    return next(marked, None) or _mpeg(head, is_sure=is_all or len(head) >= HEAD_BYTES)


def raw_form(content_type: str, rate: int) -> SoundFormat:
    """Bare samples as a Content-Type such as `audio/L16; rate=16000; channels=2` has them, else mono at `rate`."""
    told = {"rate": rate, "channels": 1}
    for part in content_type.lower().split(";")[1:]:
        name, _, value = part.strip().partition("=")
        if name in told and (number := value.strip('"')).isdecimal() and len(number) < 10:
            told[name] = int(number)
    if told == {"rate": rate, "channels": 1} or not 8000 <= told["rate"] <= 192_000 or told["channels"] not in (1, 2):
        return RAW_SAMPLES
    layout = "mono" if told["channels"] == 1 else "stereo"
    return SoundFormat("PCM", "s16le", options=(("sample_rate", str(told["rate"])), ("ch_layout", layout)))


def as_text(head: bytes) -> str:
    """A text that came instead of sound (an error, a page), else ""."""
    try:
        text = head.decode("utf-8").strip().lstrip("\ufeff")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else a letter was cut in two
            return ""
        text = head[: error.start].decode("utf-8").strip()
    return text if text and all(letter.isprintable() or letter.isspace() for letter in text) else ""


def describe_text(text: str) -> str:
    """`text` as what a server said instead of speaking."""
    kind = "JSON" if text[0] in "{[" else "a web page" if text[0] == "<" else "text"
    with_words = ""
    if kind == "JSON":
        try:
            said = json.loads(text)
            while isinstance(said, dict):
                said = next((said[name] for name in ("error", "message", "detail") if said.get(name)), "")
            with_words = f": {said}" if isinstance(said, str) and said else ""
        except (ValueError, RecursionError):
            pass
    elif kind == "text":
        with_words = f": {text}"
    return f"the server answered with {kind} instead of audio{' '.join(with_words.split())[:200]}"


def choose_form(head: bytes, *, asked: str, content_type: str, rate: int) -> SoundFormat:
    """How to read an answer that begins with `head`; samples come at `rate` when nobody says otherwise. Raises
    UnusableSound for what is no sound that is known."""
    form = recognise(head)
    if form is not None:
        return form
    if text := as_text(head):
        raise UnusableSound(describe_text(text))
    if asked == "pcm" or content_type.split(";")[0].strip().lower() in RAW:
        return raw_form(content_type, rate)
    raise UnusableSound(
        f"the server sent neither {asked.upper()}, as it was asked for, nor any other form of sound that is known. "
        "If these are raw samples of 24 kHz, set the response format to pcm."
    )


@dataclass(frozen=True)
class Wav:
    """The samples of a WAV file: their form, where they begin, and how many bytes they are, if that was known."""

    form: SoundFormat
    start: int
    length: int | None


def read_wav(head: bytes) -> Wav | None:
    """What the beginning of a WAV file says, None for one that is best left to FFmpeg: of other than the usual samples.

    FFmpeg looks at 64 kB of a WAV file before it gives the first sample, which is more than a second of speech.
    """
    if head[:4] != b"RIFF":
        return None
    place = 12
    form: SoundFormat | None = None
    while place + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, place)
        place += 8
        if name == b"data":
            return None if form is None else Wav(form, place, size if 0 < size < ENDLESS else None)
        if name == b"fmt ":
            form = _wav_form(head[place : place + size])
        place += size + size % 2
    return None


def _wav_form(chunk: bytes) -> SoundFormat | None:
    if len(chunk) < 16:
        return None
    kind, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", chunk)
    if kind == 0xFFFE and len(chunk) >= 26:  # the "extensible" form names the kind later
        kind = struct.unpack_from("<H", chunk, 24)[0]
    demuxer = WAV_SAMPLES.get((kind, bits))
    if demuxer is None or channels not in (1, 2) or block != channels * bits // 8 or not 4000 <= rate <= 192_000:
        return None
    layout = "mono" if channels == 1 else "stereo"
    return SoundFormat("WAV", demuxer, options=(("sample_rate", str(rate)), ("ch_layout", layout)))


def decode(file: BinaryIO, form: SoundFormat, rate: int) -> Iterator[bytes]:
    """The sound of `file` as PCM16, mono, at `rate`, as it is read. Raises UnusableSound when there is none in it."""
    import av

    seconds = 0.0
    try:
        options = (LIVE if form.streams else {}) | dict(form.options)
        with av.open(file, "r", format=form.container, options=options, buffer_size=LIVE_BUFFER) as container:
            if not container.streams.audio:
                raise UnusableSound(f"the server sent {form.name} without sound in it")
            for pcm in _resampled(_frames(container), rate):
                seconds += len(pcm) / 2 / rate
                if seconds > LONGEST_SECONDS:
                    raise UnusableSound(f"the server's sound is longer than {LONGEST_SECONDS / 60:.0f} minutes")
                yield pcm
    except (av.FFmpegError, ValueError) as error:
        if not seconds:
            why = getattr(error, "strerror", None) or error
            raise UnusableSound(f"the server sent {form.name} that cannot be decoded: {why}") from None
    if not seconds:
        raise UnusableSound(f"the server sent {form.name} without sound in it")


def _frames(container: Any) -> Iterator[av.AudioFrame]:
    """All frames that can be decoded: between files that were joined stands what is none."""
    import av

    for packet in container.demux(container.streams.audio[0]):
        try:
            yield from packet.decode()
        except av.InvalidDataError:
            continue


def _resampled(frames: Iterator[av.AudioFrame], rate: int) -> Iterator[bytes]:
    """Also when the form of the frames changes in the middle."""
    import av

    resampler, before = None, None
    for frame in frames:
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != before:
            if resampler is not None:
                yield from map(_samples, resampler.resample(None))
            resampler, before = av.AudioResampler(format="s16", layout="mono", rate=rate), shape
        frame.pts = None  # clocks of joined files begin anew
        assert resampler is not None
        yield from map(_samples, resampler.resample(frame))
    if resampler is not None:
        yield from map(_samples, resampler.resample(None))


def _samples(frame: av.AudioFrame) -> bytes:
    return frame.to_ndarray().tobytes()


@dataclass
class NoiseGate:
    """Lets PCM16 through that may be speech, block by block; raises UnusableSound at what is noise from end to end, as
    any other bytes are when they are taken for samples."""

    name: str
    _waiting: bytes = b""

    def push(self, pcm: bytes) -> bytes:
        self._waiting += pcm
        whole = len(self._waiting) // (NOISE_BLOCK * 2) * NOISE_BLOCK * 2
        ready, self._waiting = self._waiting[:whole], self._waiting[whole:]
        self._judge(ready)
        return ready

    def end(self) -> bytes:
        rest, self._waiting = self._waiting[: len(self._waiting) // 2 * 2], b""
        if len(rest) >= NOISE_BLOCK // 2:
            self._judge(rest)
        return rest

    def _judge(self, pcm: bytes) -> None:
        samples = np.frombuffer(pcm, dtype="<i2").astype(np.float64) / 32768
        for start in range(0, samples.size, NOISE_BLOCK):
            if is_noise(samples[start : start + NOISE_BLOCK]):
                raise UnusableSound(f"the server's sound is noise when it is read as {self.name}")


def is_noise(samples: NDArray[np.float64]) -> bool:
    """Whether `samples` (in [-1, 1]) are louder than speech ever is and have nothing to do with their neighbours."""
    power = float(np.square(samples).mean())
    if power > 0.9**2:
        return True
    likeness = float((samples[1:] * samples[:-1]).mean()) / power if power else 1.0
    return power > 0.35**2 and abs(likeness) < 0.35


@dataclass
class DecodedSound:
    """What an answer sounded like."""

    form: SoundFormat
    seconds: float = 0.0
    peak: float = 0.0
    pcm: bytes = field(default=b"", repr=False)

    @property
    def is_silent(self) -> bool:
        return self.peak < SILENCE_PEAK


def hear(sound: bytes, *, asked: str, content_type: str, rate: int) -> DecodedSound:
    """All of an answer at once. Raises UnusableSound when nobody could hear it."""
    if not sound:
        raise UnusableSound("the server sent no sound")
    form = choose_form(sound[:HEAD_BYTES], asked=asked, content_type=content_type, rate=rate)
    wav = read_wav(sound[:HEAD_BYTES])
    read = wav.form if wav else form
    if wav:
        sound = sound[wav.start :][: wav.length]
    pieces = iter([sound]) if read is RAW_SAMPLES else decode(io.BytesIO(sound), read, rate)
    gate = NoiseGate(form.name)
    pcm = b"".join([*(gate.push(piece) for piece in pieces), gate.end()])
    samples = np.frombuffer(pcm, dtype="<i2")
    peak = float(np.abs(samples.astype(np.float64)).max()) / 32768 if samples.size else 0.0
    return DecodedSound(form, samples.size / rate, peak, pcm)


def _mpeg(head: bytes, *, is_sure: bool) -> SoundFormat | None:
    """MP3 and AAC have no mark but the header of their frames, which samples have too: two in a row decide."""
    first = _mpeg_frame(head)
    if first is None:
        return None
    form, length = first
    if len(head) >= length + 7:
        second = _mpeg_frame(head[length:])
        return form if second is not None and second[0] is form else None
    return form if is_sure else None


_MP3 = SoundFormat("MP3", "mp3")
_AAC = SoundFormat("AAC", "aac")


def _mpeg_frame(data: bytes) -> tuple[SoundFormat, int] | None:
    """The form and length of a frame at the start of `data`."""
    if len(data) < 7 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version, layer = data[1] >> 3 & 3, 4 - (data[1] >> 1 & 3)
    rate_index = data[2] >> 2 & 15
    if layer == 4:
        length = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
        return (_AAC, length) if data[1] & 0xF6 == 0xF0 and rate_index < 13 and length > 7 else None
    rate_index, kbit_index = data[2] >> 2 & 3, data[2] >> 4
    if version == 1 or rate_index == 3 or not 0 < kbit_index < 15:
        return None
    kbits = MPEG_KBITS[version == 3, layer][kbit_index]
    rate = (44100, 48000, 32000)[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    padding = data[2] >> 1 & 1
    if layer == 1:
        return _MP3, (12000 * kbits // rate + padding) * 4
    factor = 72000 if layer == 3 and version != 3 else 144000
    return _MP3, factor * kbits // rate + padding
