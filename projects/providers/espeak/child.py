"""Child process around the espeak-ng library of the `espeakng-loader` wheel (GPL-3.0).

Reads text on stdin and writes a WAV stream to stdout while it is spoken, with the options of the espeak-ng program that
`projects.providers.espeak.program` runs (`-v` voice, `-s` words a minute, `-p` pitch). It imports nothing of molts.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import struct
import sys

import espeakng_loader

_SYNCHRONOUS = 2
_RATE, _PITCH = 1, 3
_CHARS_UTF8 = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def wav_header(sample_rate: int) -> bytes:
    """Header of an endless PCM16 mono WAV stream."""
    endless = 0x7FFFF000
    layout = struct.pack("<HHIIHH", 1, 1, sample_rate, sample_rate * 2, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", endless) + b"WAVEfmt " + struct.pack("<I", 16) + layout
        + b"data" + struct.pack("<I", endless)
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-v", dest="voice", default="en-us")
    parser.add_argument("-s", dest="rate", type=int, default=165)
    parser.add_argument("-p", dest="pitch", type=int, default=50)
    arguments = parser.parse_args()

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 60, espeakng_loader.get_data_path().encode(), 0)
    if sample_rate <= 0:
        sys.stderr.write("espeak-ng did not start\n")
        return 1

    out = sys.stdout.fileno()

    def write_samples(samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
        if count > 0:
            try:
                os.write(out, ctypes.string_at(samples, count * 2))
            except OSError:  # the parent has gone: stop speaking
                return 1
        return 0

    callback = _CALLBACK(write_samples)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(arguments.voice.encode()) != 0:
        sys.stderr.write(f"voice {arguments.voice} does not exist\n")
        return 1
    library.espeak_SetParameter(_RATE, arguments.rate, 0)
    library.espeak_SetParameter(_PITCH, arguments.pitch, 0)

    text = sys.stdin.buffer.read() + b"\0"
    os.write(out, wav_header(sample_rate))
    library.espeak_Synth(text, len(text), 0, 1, 0, _CHARS_UTF8, None, None)
    library.espeak_Synchronize()
    return 0


if __name__ == "__main__":
    sys.exit(main())
