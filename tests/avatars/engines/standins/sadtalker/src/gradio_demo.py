"""SadTalker's class for its page: moves its inputs away and returns the path of a video."""

import os
import shutil
import uuid
import wave

import cv2
import numpy as np
from faults import heard, level


class SadTalker:
    def __init__(self, checkpoint_path="checkpoints", config_path="src/config", lazy_load=False):
        assert os.path.isdir(checkpoint_path)

    def test(
        self,
        source_image,
        driven_audio,
        preprocess="crop",
        still_mode=False,
        use_enhancer=False,
        batch_size=1,
        size=256,
        pose_style=0,
        exp_scale=1.0,
        use_ref_video=False,
        ref_video=None,
        ref_info=None,
        use_idle_mode=False,
        length_of_audio=0,
        use_blink=True,
        result_dir="./results/",
    ):
        folder = os.path.join(result_dir, str(uuid.uuid4()))
        os.makedirs(os.path.join(folder, "input"))
        with wave.open(driven_audio) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32767
        shutil.move(driven_audio, os.path.join(folder, "input"))
        shutil.move(source_image, os.path.join(folder, "input"))
        path = os.path.join(folder, "result.mp4")
        writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), 25, (size, size))
        for start in range(0, len(samples), 640):
            part = samples[start : start + 640]
            if heard(part):
                return None  # it found no face
            writer.write(np.full((size, size, 3), min(255, int(level(part) * 400)), np.uint8))
        writer.release()
        return path
