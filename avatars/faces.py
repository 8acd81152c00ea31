"""What an engine is given of an avatar."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage

from avatars.engines.base import Face
from molts.errors import BadInput


def make_face(*, engine: str, options: Mapping[str, Any], portrait: Path | None, name: str = "") -> Face:
    """A face with the key that names this very version: the same engine, options and picture have the same key."""
    digest = hashlib.sha256(json.dumps([engine, dict(options)], sort_keys=True).encode())
    if portrait is not None:
        digest.update(portrait.read_bytes())
    return Face(key=digest.hexdigest()[:32], name=name, portrait=portrait, options=dict(options))


def local_portrait(name: str) -> Path | None:
    """The stored picture as a file on this machine; None without one. Raises BadInput when it is gone."""
    if not name:
        return None
    path = Path(default_storage.path(name))
    if not path.is_file():
        raise BadInput("The picture of this face is gone. Upload it again.", attr="portrait")
    return path
