"""What may be set of local Whisper, and what is taken where nothing is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from projects.providers.base import Options

KEY = "faster_whisper"
DEFAULT_MODEL = "base"


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


def default_model() -> str:
    """Name or folder from MOLTS_WHISPER_MODEL, else "base"."""
    from django.conf import settings

    return str(getattr(settings, "MOLTS_WHISPER_MODEL", "") or "") or DEFAULT_MODEL


def model_key(options: WhisperOptions) -> tuple[str, str, str, int]:
    """Model, device, compute type and threads that options and settings ask for."""
    from django.conf import settings

    device = options.device or str(getattr(settings, "MOLTS_WHISPER_DEVICE", "") or "") or "auto"
    compute = options.compute_type or str(getattr(settings, "MOLTS_WHISPER_COMPUTE_TYPE", "") or "")
    if compute in ("", "default"):
        compute = "auto"  # the fastest type the device has; the saved type would be float32 on most processors
    return options.model or default_model(), device, compute, options.cpu_threads


def uses_server(options: WhisperOptions) -> bool:
    """Whether the speech server hears for these options. It has its own device, so who names one stays here."""
    from django.conf import settings

    own = options.device or options.compute_type or options.cpu_threads
    return bool(settings.MOLTS_SPEECH_URL) and not own
