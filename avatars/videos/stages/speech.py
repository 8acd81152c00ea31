"""A script into speech, piece by piece, by the agent's chain of voices.

A piece is kept in a file under a name that is made of all that it depends on. An attempt that was interrupted has it
spoken once, and the next attempt goes on with the pieces that are missing. A piece is passed on only when it is whole:
no word is heard twice when a voice breaks off.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from avatars.engines.visemes import Samples
from avatars.videos.spec import Scene, ScriptPause
from avatars.videos.stages.compose import SAMPLE_RATE
from molts.errors import MoltsError, Unavailable
from projects.providers import provider_label
from projects.providers.base import KeyedRung, Kind, Persona
from projects.providers.chains import BuiltRung, Chain, build_chain
from projects.providers.shared.sentences import split_pieces
from projects.providers.shared.speaking import speak_piece

logger = logging.getLogger(__name__)

VERSION = 1
"""Of how a piece is made and kept: another one makes all pieces anew."""
PIECE_SECONDS = 60.0
CLOSE_SECONDS = 2.0


@dataclass(frozen=True)
class SpokenPiece:
    """A piece of a script as it was spoken (SAMPLE_RATE, mono), by whom, and the name under which it is kept. `text` is
    "" for a pause, which nobody speaks."""

    key: str
    text: str
    samples: Samples
    provider: str = ""
    model: str = ""
    reused: bool = False

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


class PieceFolder:
    """Pieces that were spoken, one in a file: a line of JSON with provider and model, then the samples."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str, text: str) -> SpokenPiece | None:
        with suppress(FileNotFoundError), self._path(key).open("rb") as file:
            provider, model = json.loads(file.readline())
            return SpokenPiece(key, text, np.frombuffer(file.read(), np.int16), provider, model, reused=True)
        return None

    def keep(self, piece: SpokenPiece) -> None:
        """Whole or not at all: a file of this name has all of it."""
        path = self._path(piece.key)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            file.write(json.dumps([piece.provider, piece.model]).encode() + b"\n")
            file.write(piece.samples.tobytes())
        part.replace(path)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.piece"


async def speak_scene(scene: Scene, rungs: Sequence[KeyedRung], folder: PieceFolder) -> AsyncIterator[SpokenPiece]:
    """The scene's script, piece by piece. `rungs` are its voices with their keys.

    Raises BadConfiguration when no voice can be built, and Unavailable with every reason when none speaks.
    """
    voices: _Voices | None = None
    try:
        for part in scene.parts():
            if isinstance(part, ScriptPause):
                silence = np.zeros(round(part.seconds * SAMPLE_RATE), np.int16)
                if len(silence):
                    yield SpokenPiece(f"pause-{len(silence)}", "", silence)
                continue
            for text in await asyncio.to_thread(split_pieces, part):
                key = piece_key(scene, text)
                piece = folder.find(key, text)
                if piece is None:
                    voices = voices or _Voices(build_chain(Kind.TTS, rungs, Persona(language=scene.language)))
                    piece = await voices.speak(key, text)
                    folder.keep(piece)
                yield piece
    finally:
        if voices is not None:
            await voices.close()


def piece_key(scene: Scene, text: str) -> str:
    """Names a piece by all that it is made from. Of keys only their ids count."""
    made_from = [VERSION, text, scene.language, [rung.as_json() for rung in scene.voices]]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]


class _Voices:
    """The voices of a chain. One that fails does not come back: a video changes its voice once at most."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._left: list[BuiltRung] = list(chain.rungs)
        self._reasons: list[str] = []

    async def speak(self, key: str, text: str) -> SpokenPiece:
        while self._left:
            rung = self._left[0]
            try:
                data, rate = await speak_piece(rung.component, text, seconds=PIECE_SECONDS)
            except MoltsError as error:
                logger.warning("a voice failed in a video", extra={"provider": rung.provider, "reason": error.detail})
                self._reasons.append(f"{provider_label(rung.provider)}: {error.detail.rstrip('.')}.")
                del self._left[0]
                continue
            samples = await asyncio.to_thread(_resampled, data, rate)
            return SpokenPiece(key, text, samples, rung.provider, str(getattr(rung.component, "model", "") or ""))
        raise Unavailable(f"No voice speaks. {' '.join(self._reasons)}".strip())

    async def close(self) -> None:
        # A vendor that does not let go must not hold the video back.
        with suppress(Exception):
            await asyncio.wait_for(self._chain.aclose(), CLOSE_SECONDS)


def _resampled(data: bytes, rate: int) -> Samples:
    samples: Any = np.frombuffer(data, np.int16)
    return np.asarray(samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE), np.int16)
