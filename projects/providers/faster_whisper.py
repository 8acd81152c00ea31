"""Whisper on this machine (faster-whisper on CTranslate2).

The voice activity detector cuts utterances out. Where MOLTS_SPEECH_URL names a speech server, that hears them live, and
one model serves every conversation; without one, or while it is away, the process of the conversation loads the model
itself, once, however many components use it. The settings are chosen against inventions: no conditioning on earlier
text, and segments that look like silence, guesswork or a loop are dropped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import Field

from molts.errors import BadConfiguration
from projects.providers.base import Credentials, Kind, Options, Persona, ProbeResult, Provider, Readiness
from projects.providers.shared.hub import Progress, data_dir, fetch_snapshot
from projects.providers.shared.probing import LOAD_SECONDS, timed_probe

if TYPE_CHECKING:
    import faster_whisper
    from livekit.agents import stt

DEFAULT_MODEL = "base"
MEND = "Set MOLTS_WHISPER_MODEL to a folder with a CTranslate2 Whisper model, or let `manage.py up` fetch one."
_MODEL_FILES = ["config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*"]
# What Whisper calls languages that others call otherwise: Bokmål, Tagalog, Javanese, Mandarin; and codes of old.
_CODES = {"nb": "no", "fil": "tl", "jv": "jw", "cmn": "zh", "iw": "he", "in": "id", "ji": "yi"}
# What Whisper says when it hears nothing: the endings of the videos it learnt from.
_PHANTOMS = frozenset(
    {"thanks for watching", "thank you for watching", "please subscribe", "subtitles by the amara org community"}
)


class Gated(Protocol):
    """What is looked at to tell speech from invention."""

    @property
    def text(self) -> str: ...

    @property
    def avg_logprob(self) -> float: ...

    @property
    def compression_ratio(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Gates:
    """Where invention is suspected."""

    no_speech_threshold: float = 0.6
    log_prob_threshold: float = -1.0
    compression_ratio_threshold: float = 2.4


class WhisperOptions(Options):
    """Settings of local Whisper."""

    model: str = Field(
        default="", description="model name, repository or folder; empty: MOLTS_WHISPER_MODEL, else base"
    )
    language: str = Field(default="", description='language code, "auto" to detect it; empty: the agent\'s language')
    beam_size: int = Field(default=1, ge=1, le=10, description="1 is fastest; 5 is a little more exact")
    compute_type: str = Field(default="", description="CTranslate2 type such as int8; empty: the installation's choice")
    device: Literal["", "auto", "cpu", "cuda"] = Field(
        default="", description="where it runs; empty: the installation's choice"
    )
    cpu_threads: int = Field(default=0, ge=0, le=64, description="0: CTranslate2's choice")
    initial_prompt: str = Field(
        default="", max_length=400, description="text to go on from, in the style that is expected"
    )
    hotwords: str = Field(default="", max_length=400, description="names and terms to expect")
    no_speech_threshold: float = Field(
        default=0.6, ge=0, le=1, description="segments more likely silence than this are dropped"
    )
    log_prob_threshold: float = Field(
        default=-1.0, ge=-5, le=0, description="segments less likely than this are dropped"
    )
    compression_ratio_threshold: float = Field(
        default=2.4, ge=1, description="segments that repeat themselves are dropped"
    )


class FasterWhisper(Provider):
    key = "faster_whisper"
    label = "Whisper on this machine (faster-whisper)"
    kinds = frozenset({Kind.STT})
    options: ClassVar = {Kind.STT: WhisperOptions}
    local = True

    def build_stt(self, *, options: Options, credentials: Credentials, persona: Persona) -> stt.STT[Any]:
        from projects.providers.components.faster_whisper import WhisperSTT

        assert isinstance(options, WhisperOptions)
        return WhisperSTT(options=options, language=options.language or persona.language)

    def readiness(self, kind: Kind, options: Options) -> Readiness:
        assert isinstance(options, WhisperOptions)
        name = options.model or default_model()
        serving = at_hand(name)
        folder = model_path(serving)
        if folder is None:
            return Readiness(False, f"Whisper model {name} is not here", MEND)
        return Readiness(True, str(folder) if serving == name else f"{folder}, until {name} is here")

    def usual(self, kind: Kind) -> Mapping[str, str]:
        name = default_model()
        return {"model": Path(name).name if Path(name).is_absolute() else name}

    async def probe(self, kind: Kind, *, options: Options, credentials: Credentials) -> ProbeResult:
        """Load the model and run it once over a second of silence (which must give no words)."""
        assert isinstance(options, WhisperOptions)

        async def decode() -> str:
            model = await asyncio.to_thread(load_model, *model_key(options))
            await asyncio.to_thread(_decode_silence, model.whisper)
            return f"model loaded from {model.folder}"

        return await timed_probe(decode, timeout=LOAD_SECONDS)


@dataclass
class LoadedModel:
    """A model in memory with the one thread that may run it: calls queue there instead of fighting for the cores."""

    whisper: faster_whisper.WhisperModel
    folder: Path
    executor: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=1, thread_name_prefix="whisper")
    )


_models: dict[tuple[Path, str, str, int], LoadedModel] = {}
_models_lock = threading.Lock()


def default_model() -> str:
    """Name or folder from MOLTS_WHISPER_MODEL, else "base"."""
    from django.conf import settings

    return str(getattr(settings, "MOLTS_WHISPER_MODEL", "") or "") or DEFAULT_MODEL


def model_path(name: str) -> Path | None:
    """Folder of the model `name` (a folder, or a name fetched earlier), or None when it is not on this machine."""
    for folder in (Path(name).expanduser(), _download_folder(name)):
        if (folder / "model.bin").is_file() and (folder / "config.json").is_file():
            return folder.resolve()
    return None


def at_hand(name: str) -> str:
    """`name`, or while it is not on this machine the next smaller size that is; `name` again when there is none."""
    from django.conf import settings

    sizes = list(settings.MOLTS_SPEECH_LADDER)
    smaller = reversed(sizes[: sizes.index(name)]) if name in sizes else ()
    return next((each for each in (name, *smaller) if model_path(each)), name)


def require_model(name: str) -> Path:
    """Folder of the model `name`. Raises BadConfiguration, saying what to do, when it is not on this machine."""
    if folder := model_path(name):
        return folder
    raise BadConfiguration(f"Whisper model {name} is not on this machine. {MEND}")


def download(name: str, progress: Progress | None = None) -> Path:
    """Fetch the model `name` into the data folder and return its folder; what is there already is not fetched again.

    `progress(done_bytes, total_bytes)` is called from a worker thread. Raises BadConfiguration for an unknown name,
    Unavailable when the hub cannot be reached (noticed within 5 s) or stops sending; a later call goes on from there.
    """
    if found := model_path(name):
        return found
    return fetch_snapshot(
        repository(name),
        target=_download_folder(name),
        patterns=_MODEL_FILES,
        progress=progress,
        mend="Check the network, or set MOLTS_WHISPER_MODEL to a folder with a CTranslate2 Whisper model.",
    )


def repository(name: str) -> str:
    """Hub repository of a model name: "base" -> "Systran/faster-whisper-base"."""
    from faster_whisper.utils import _MODELS, available_models

    if name in _MODELS:
        return str(_MODELS[name])
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return name
    known = ", ".join(available_models())
    raise BadConfiguration(f"Whisper model {name!r} is neither a folder with a model nor a known name ({known}).")


def load_model(name: str, device: str, compute_type: str, cpu_threads: int) -> LoadedModel:
    """Return the model, loading it when this process has not yet. Blocks; call it from a thread.

    Raises BadConfiguration when it is not on this machine (nothing is ever fetched during a conversation).
    """
    folder = require_model(name)
    key = (folder, device, compute_type, cpu_threads)
    with _models_lock:
        if key not in _models:
            from faster_whisper import WhisperModel

            logging.getLogger("faster_whisper").setLevel(logging.WARNING)  # it reports every utterance
            try:
                whisper = WhisperModel(
                    str(folder),
                    device=device,
                    compute_type=compute_type,
                    cpu_threads=cpu_threads,
                    local_files_only=True,
                )
            except Exception as error:  # a damaged tokenizer.json comes as nothing more definite
                raise BadConfiguration(f"Whisper model {folder} cannot be loaded: {error}") from error
            _models[key] = LoadedModel(whisper=whisper, folder=folder)
        return _models[key]


def prewarm(model: str = "") -> None:
    """Load `model` (empty: the default) and run it once, so that the first utterance does not pay for it.

    For the start of a worker's job process. Does nothing where the speech server hears, or when the model is not here.
    """
    options = WhisperOptions(model=at_hand(model or default_model()))
    if uses_server(options) or model_path(options.model) is None:
        return
    _decode_silence(load_model(*model_key(options)).whisper)


def _download_folder(name: str) -> Path:
    return data_dir() / "models" / "whisper" / name.replace("/", "--")


def model_key(options: WhisperOptions) -> tuple[str, str, str, int]:
    """Model, device, compute type and threads that options and settings ask for."""
    from django.conf import settings

    device = options.device or str(getattr(settings, "MOLTS_WHISPER_DEVICE", "") or "") or "auto"
    compute = options.compute_type or str(getattr(settings, "MOLTS_WHISPER_COMPUTE_TYPE", "") or "")
    if compute in ("", "default"):
        compute = "auto"  # the fastest type the device has; the saved type would be float32 on most processors
    return options.model or default_model(), device, compute, options.cpu_threads


def _decode_silence(whisper: faster_whisper.WhisperModel) -> None:
    import numpy as np

    from projects.providers.shared.audio import RECOGNISER_RATE

    segments, _ = whisper.transcribe(np.zeros(RECOGNISER_RATE, dtype=np.float32), language="en", beam_size=1)
    list(segments)


def uses_server(options: WhisperOptions) -> bool:
    """Whether the speech server hears for these options. It has its own device, so who names one stays here."""
    from django.conf import settings

    own = options.device or options.compute_type or options.cpu_threads
    return bool(settings.MOLTS_SPEECH_URL) and not own


def plain_language(language: str) -> str:
    """The language of a tag as Whisper writes it ("en-US" -> "en", "nb" -> "no"); "" for "auto"."""
    code = language.strip().lower().replace("_", "-").split("-")[0]
    return "" if code == "auto" else _CODES.get(code, code)


def whisper_language(language: str, supported: list[str]) -> str | None:
    """Whisper's code of a language tag ("en-US" -> "en"), or None: let the model detect it."""
    code = plain_language(language)
    return code if code in supported else None


def prompt_tokens(whisper: faster_whisper.WhisperModel, prompt: str, hotwords: str) -> list[int]:
    """The end of `prompt`, as far as `hotwords` leave room for it: both together may fill half of the decoder.

    faster-whisper gives half to each. Then there is room for no word, and every decode fails.
    """

    def encoded(text: str) -> list[int]:
        return (
            list(whisper.hf_tokenizer.encode(f" {text.strip()}", add_special_tokens=False).ids) if text.strip() else []
        )

    room = max(0, whisper.max_length // 2 - 1 - len(encoded(hotwords)))
    told = encoded(prompt)
    return told[max(0, len(told) - room) :]


def is_credible(segment: Gated, gates: Gates | WhisperOptions) -> bool:
    """Whether a segment is speech that was said rather than one the model made up."""
    if segment.compression_ratio > gates.compression_ratio_threshold or is_loop(segment.text):
        return False
    if segment.avg_logprob < gates.log_prob_threshold - _allowance(segment.text):
        return False
    words = "".join(c if c.isalnum() else " " for c in segment.text.lower()).split()
    return bool(words) and " ".join(words) not in _PHANTOMS


def _allowance(text: str) -> float:
    """How much less likely than others a short text may be: half of "no" are timestamps, which are never certain.

    Without it single words would be lost: they come with -1.0 to -1.1, whole sentences with -0.3 to -0.7.
    """
    return min(0.5, 2.5 / max(1, len(text.strip())))


def is_loop(text: str) -> bool:
    """Whether a text is mostly one phrase over and over ("the the the the"), the way a lost decoder talks.

    Compression ratio only shows that on long texts.
    """
    words = text.lower().split()
    if len(words) < 8:
        return False
    for size in (1, 2, 3):
        phrases = Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
        if phrases.most_common(1)[0][1] * size > 0.6 * len(words):
            return True
    return False
