import numpy as np
import torch


class Model:
    """(n, 6, 320, 320) and (n, 32, 16, 16) -> (n, 3, 320, 320): as bright as the middle one of the 16 frames of sound
    is loud. A net trained badly (its weights say so) gives another size."""

    def __init__(self, n_channels=6, mode="hubert"):
        assert (n_channels, mode) == (6, "ave")
        self.fault = ""

    def to(self, device):
        return self

    def eval(self):
        return self

    def load_state_dict(self, state):
        self.fault = state.get("fault", "")

    def __call__(self, pictures, sound):
        assert pictures.shape[1:] == (6, 320, 320)
        assert sound.shape[1:] == (32, 16, 16)
        assert pictures.dtype == sound.dtype == np.float32
        if self.fault == "raise":
            raise RuntimeError("CUDA out of memory")
        side = 160 if self.fault == "shape" else 320
        loudness = sound.numpy().reshape(len(sound), 16, 512)[:, 8, 0]
        return torch.Tensor(np.ones((len(sound), 3, side, side), np.float32) * loudness[:, None, None, None])
