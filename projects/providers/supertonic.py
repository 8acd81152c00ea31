"""Supertonic: a natural voice on this machine (ONNX Runtime).

The code is an optional extra (MIT). The weights are fetched once, after their terms (OpenRAIL-M, use restrictions) have
been shown and accepted. A text is spoken sentence by sentence, so the first sound does not wait for the last word.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from molts.errors import BadConfiguration
from projects.providers.base import Credentials, Kind, Options, Persona, ProbeResult, Provider, Readiness
from projects.providers.shared.hub import Progress, data_dir, fetch_snapshot
from projects.providers.shared.probing import LOAD_SECONDS, timed_probe

if TYPE_CHECKING:
    import numpy as np
    from livekit.agents import tts
    from numpy.typing import NDArray

MODEL = "supertonic-3"
SAMPLE_RATE = 44100
TERMS = (
    "The natural voice uses the Supertonic weights by Supertone. They are licensed under OpenRAIL-M: free to use, also "
    "commercially, but not for the uses its attachment forbids, among them deceiving or impersonating people, "
    "harassment, and breaking the law; and you must pass these limits on to your users. Full text: "
    "https://huggingface.co/Supertone/supertonic-3/blob/main/LICENSE"
)
INSTALL = "Install it: uv sync --extra supertonic."
FETCH = "Let `manage.py up` fetch the weights: set MOLTS_ACCEPT_VOICE_TERMS=1 to accept their terms."
_FILES = ["onnx/*", "voice_styles/*", "config.json", "LICENSE*"]
_ACCEPTED = "terms-accepted.txt"


class SupertonicOptions(Options):
    """Settings of the Supertonic voice."""

    voice: str = Field(default="F1", pattern=r"^[FM][1-9][0-9]?$", description="F1 to F5 or M1 to M5")
    language: str = Field(default="", description="language code; empty: the agent's language")
    speed: float = Field(default=1.05, ge=0.7, le=2.0, description="1 is the voice's own pace")
    steps: int = Field(default=5, ge=1, le=32, description="more steps sound a little better and take longer")


class Supertonic(Provider):
    key = "supertonic"
    label = "Supertonic (natural local voice)"
    kinds = frozenset({Kind.TTS})
    options: ClassVar = {Kind.TTS: SupertonicOptions}
    local = True

    def build_tts(self, *, options: Options, credentials: Credentials, persona: Persona) -> tts.TTS[Any]:
        from projects.providers.components.supertonic import SupertonicTTS

        assert isinstance(options, SupertonicOptions)
        readiness = self.readiness(Kind.TTS, options)
        if not readiness.ready:
            raise BadConfiguration(f"{readiness.text}. {readiness.mend}")
        return SupertonicTTS(options=options, language=options.language or persona.language)

    def readiness(self, kind: Kind, options: Options) -> Readiness:
        if not importlib.util.find_spec("supertonic"):
            return Readiness(False, "Supertonic is not installed", INSTALL)
        folder = model_path()
        if folder is None:
            return Readiness(False, "The weights of Supertonic are not here", FETCH)
        return Readiness(True, str(folder))

    async def offers(self, kind: Kind, *, credentials: Credentials) -> Mapping[str, Sequence[str]]:
        return {"voice": [f"{letter}{number}" for letter in "FM" for number in range(1, 6)]}

    async def probe(self, kind: Kind, *, options: Options, credentials: Credentials) -> ProbeResult:
        assert isinstance(options, SupertonicOptions)

        async def speak() -> str:
            voice = self.build_tts(options=options, credentials=credentials, persona=Persona())
            frame = await voice.synthesize("Hello.").collect()
            return f"spoke {frame.duration:.1f} s"

        return await timed_probe(speak, timeout=LOAD_SECONDS)


# --- weights --------------------------------------------------------------------------------------------------------


def model_path() -> Path | None:
    """Folder with the weights, or None when they have not been fetched."""
    folder = _download_folder()
    needed = ("onnx/tts.json", "onnx/vocoder.onnx", "onnx/vector_estimator.onnx", "voice_styles")
    return folder if all((folder / name).exists() for name in needed) else None


def terms_accepted() -> bool:
    """Whether the operator has accepted the terms of the weights, in the environment or on a terminal earlier."""
    from django.conf import settings

    return bool(getattr(settings, "MOLTS_ACCEPT_VOICE_TERMS", False)) or _acceptance().is_file()


def ask_terms() -> bool:
    """Show the terms and ask on the terminal; the answer yes is remembered. False at once without a terminal."""
    if terms_accepted():
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    print(TERMS)
    if input("Accept these terms and fetch the voice? [y/N] ").strip().lower() not in ("y", "yes"):
        return False
    _acceptance().parent.mkdir(parents=True, exist_ok=True)
    _acceptance().write_text(f"{TERMS}\nAccepted on {datetime.now(UTC).isoformat(timespec='seconds')}\n")
    return True


def download(progress: Progress | None = None) -> Path:
    """Fetch the weights into the data folder and return their folder; what is there already is not fetched again.

    Raises BadConfiguration when the package is missing or the terms are not accepted, Unavailable when the hub cannot
    be reached (noticed within 5 s) or stops sending; a later call goes on from there.
    """
    if found := model_path():
        return found
    if not importlib.util.find_spec("supertonic"):
        raise BadConfiguration(f"Supertonic is not installed. {INSTALL}")
    if not terms_accepted():
        raise BadConfiguration(f"The terms of the voice are not accepted. {TERMS} Accept: MOLTS_ACCEPT_VOICE_TERMS=1.")
    from supertonic.config import get_model_repo, get_model_revision

    return fetch_snapshot(
        get_model_repo(MODEL),
        revision=get_model_revision(MODEL),
        target=_download_folder(),
        patterns=_FILES,
        progress=progress,
        mend="Check the network; until then the espeak-ng voice speaks.",
    )


def _download_folder() -> Path:
    return data_dir() / "models" / "supertonic" / MODEL


def _acceptance() -> Path:
    return data_dir() / "models" / "supertonic" / _ACCEPTED


# --- speaking -------------------------------------------------------------------------------------------------------


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
