"""What is said when a clip cannot be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatars.engines.base import PixelFormat, VideoFrame
from avatars.engines.clip import Clip, choose_codec
from molts.errors import BadConfiguration


def test_a_clip_that_ffmpeg_cannot_write_says_what_ffmpeg_said(tmp_path: Path) -> None:
    codec, suffix, _ = choose_codec()
    clip = Clip(24_000, (tmp_path / "missing" / "clip").with_suffix(suffix), codec)
    picture = VideoFrame(np.zeros(512 * 512 * 3 // 2, np.uint8), 512, 512, PixelFormat.I420, 0.04)

    def write() -> None:
        for _ in range(200):  # more than the pipe holds
            clip.add_frame(picture)

    with pytest.raises(BadConfiguration, match="No such file or directory"):
        write()
    clip.abandon()
