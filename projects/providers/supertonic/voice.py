"""The Supertonic engine, loaded once a process."""

from __future__ import annotations

import importlib.util
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from molts.errors import BadConfiguration
from projects.providers.supertonic.options import MODEL, SupertonicOptions
from projects.providers.supertonic.weights import FETCH, model_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 44100


@dataclass
class LoadedVoice:
    """The engine in memory with the one thread that may run it."""

    engine: Any
    executor: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=1, thread_name_prefix="supertonic")
    )
    styles: dict[str, Any] = field(default_factory=dict)

    def speak(self, text: str, options: SupertonicOptions, language: str) -> bytes:
        """One sentence as PCM16 at the engine's rate. Blocks."""
        from projects.providers.shared.audio import pcm16

        style = self.styles.get(options.voice) or self.engine.get_voice_style(options.voice)
        self.styles[options.voice] = style
        wave: NDArray[np.float32]
        wave, _ = self.engine.synthesize(
            text, voice_style=style, total_steps=options.steps, speed=options.speed, lang=language
        )
        return pcm16(wave.reshape(-1))


_voice: LoadedVoice | None = None
_voice_lock = threading.Lock()


def load_voice() -> LoadedVoice:
    """The engine, loaded when this process has not yet. Blocks; call it from a thread."""
    global _voice
    with _voice_lock:
        if _voice is None:
            from supertonic import TTS

            folder = model_path()
            if folder is None:
                raise BadConfiguration(f"The weights of Supertonic are not here. {FETCH}")
            engine = TTS(model=MODEL, model_dir=folder, auto_download=False)
            if engine.sample_rate != SAMPLE_RATE:
                raise BadConfiguration(f"The weights speak at {engine.sample_rate} Hz, {SAMPLE_RATE} Hz was expected.")
            _voice = LoadedVoice(engine)
        return _voice


def prewarm() -> None:
    """Load the voice, when it is here, before the first sentence needs it."""
    if importlib.util.find_spec("supertonic") and model_path() is not None:
        load_voice()


def voice_language(language: str) -> str:
    """Supertonic's code of a language tag ("pt-BR" -> "pt"); "na" (read by its letters) where it does not know it."""
    from supertonic.config import SUPPORTED_LANGUAGES, UNKNOWN_LANGUAGE

    code = language.strip().lower().replace("_", "-").split("-")[0]
    return code if code in SUPPORTED_LANGUAGES else str(UNKNOWN_LANGUAGE)
