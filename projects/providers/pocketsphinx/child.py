"""Child process around the PocketSphinx decoder.

Reads utterances from stdin (4 bytes length, little endian, then PCM16 mono 16 kHz) and answers each with one line of
JSON: `{"text": ..., "confidence": 0..1}`. Ends when stdin does. It imports nothing of molts.
"""

from __future__ import annotations

import json
import struct
import sys

from pocketsphinx import Decoder


def main() -> int:
    # dither: digital silence around an utterance would upset the normalisation of its loudness
    decoder = Decoder(samprate=16000, dither=True, seed=1, loglevel="FATAL")
    out = sys.stdout
    source = sys.stdin.buffer
    out.write("ready\n")
    out.flush()
    while header := source.read(4):
        (length,) = struct.unpack("<I", header)
        pcm = source.read(length)
        decoder.start_utt()
        decoder.process_raw(pcm, no_search=False, full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        text = hypothesis.hypstr if hypothesis else ""
        confidence = min(1.0, hypothesis.prob ** (1 / max(1, len(text.split())))) if hypothesis else 0.0
        out.write(json.dumps({"text": text, "confidence": confidence}) + "\n")
        out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
