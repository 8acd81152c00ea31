"""The stages of a video, in the order in which sound and pictures go through them.

`speech` runs in the worker, `lipsync` and `compose` in the child process that renders (`avatars.videos.rendering`),
`publish` in the worker again. Speech goes on to the face piece by piece and frames go straight into the encoder, so all
of them work at the same time.
"""

from __future__ import annotations

from enum import StrEnum


class StageName(StrEnum):
    """The stages by their names in rows and answers."""

    SPEECH = "speech"
    LIPSYNC = "lipsync"
    COMPOSE = "compose"
    PUBLISH = "publish"

    @property
    def label(self) -> str:
        """Its name for people."""
        return _LABELS[self]


_LABELS = {
    StageName.SPEECH: "Speech",
    StageName.LIPSYNC: "Face",
    StageName.COMPOSE: "Composition",
    StageName.PUBLISH: "Publication",
}
