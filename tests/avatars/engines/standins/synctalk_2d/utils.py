import numpy as np
import torch


class AudioEncoder:
    """(n, 1, 80, 16) -> (n, 512): here the loudness of the window's first frame of video."""

    def to(self, device):
        return self

    def eval(self):
        return self

    def load_state_dict(self, state):
        assert all(key.startswith("audio_encoder.") for key in state)

    def __call__(self, mel):
        assert mel.shape[1:] == (1, 80, 16)
        assert mel.dtype == np.float32
        loudness = (mel.numpy()[:, 0, :, :5].mean(axis=(1, 2)) + 4) / 8
        return torch.Tensor(np.repeat(loudness[:, None], 512, axis=1).astype(np.float32))
