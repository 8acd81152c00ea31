"""What may be set of PocketSphinx."""

from __future__ import annotations

from projects.providers.base import Options

KEY = "pocketsphinx"


class PocketSphinxOptions(Options):
    """PocketSphinx has no settings: one English model."""
