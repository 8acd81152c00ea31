"""SyncTalk's StreamingInference, with the buffers and the look-ahead of the real one."""

import os

import numpy as np
from faults import picture


class StreamingInference:
    def __init__(
        self,
        data_path,
        workspace,
        checkpoint="latest",
        portrait=False,
        torso=False,
        W=512,  # noqa: N803 - the real one's name
        H=512,  # noqa: N803
        fps=25,
        config_path="config/inference_config.yaml",
        debug=False,
    ):
        if not os.path.exists(os.path.join(data_path, "transforms_train.json")):
            raise FileNotFoundError("transforms_train.json not found")
        self.W, self.H, self.fps = W, H, fps

    def reset_streaming_buffers(self):
        self.audio_buffer = np.array([], dtype=np.float32)
        self.mel_buffer = []
        self.feature_buffer = []
        self.frame_counter = 0

    def process_audio_chunk(self, audio_chunk):
        assert audio_chunk.dtype == np.float32
        assert audio_chunk.shape == (1280,)
        if not hasattr(self, "audio_buffer"):
            self.reset_streaming_buffers()
        self.audio_buffer = np.concatenate([self.audio_buffer, audio_chunk])
        if len(self.audio_buffer) >= 800 + 200 * len(self.mel_buffer):
            self.mel_buffer += [0] * (1 + len(self.audio_buffer) // 200 - len(self.mel_buffer))
        while int(80.0 * len(self.feature_buffer) / 25.0) + 16 <= len(self.mel_buffer):
            self.feature_buffer.append(0)
        frames = []
        if len(self.feature_buffer) < 8:
            return frames
        while self.frame_counter + 3 < len(self.feature_buffer):
            start = self.frame_counter * 640
            frames.append(picture(self.audio_buffer[start : start + 640], self.H, self.W))
            self.frame_counter += 1
        return frames
