"""Where engines find what the operator set up. Engines know no Django: `avatars.apps` hands the settings over."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class EngineConfig:
    """`run_dir` holds the sockets of engine hosts; `addresses` names hosts that somebody else started."""

    run_dir: Path = Path(tempfile.gettempdir()) / "molts-engines"
    addresses: Mapping[str, str] = field(default_factory=dict)
    secret: str = ""
    wav2lip_model: str = ""
    wav2lip_threads: int = 0


_config = EngineConfig()


def configure(config: EngineConfig) -> None:
    """Called once, when the application starts."""
    global _config
    _config = config


def engine_config() -> EngineConfig:
    return _config
