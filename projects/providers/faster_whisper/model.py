"""Whisper's model in memory, loaded once a process."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from molts.errors import BadConfiguration
from projects.providers.faster_whisper.options import WhisperOptions, default_model, model_key, uses_server
from projects.providers.faster_whisper.weights import at_hand, model_path, require_model

if TYPE_CHECKING:
    import faster_whisper


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
    decode_silence(load_model(*model_key(options)).whisper)


def decode_silence(whisper: faster_whisper.WhisperModel) -> None:
    """Run it once over a second without a word."""
    import numpy as np

    from projects.providers.shared.audio import RECOGNISER_RATE

    segments, _ = whisper.transcribe(np.zeros(RECOGNISER_RATE, dtype=np.float32), language="en", beam_size=1)
    list(segments)


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
