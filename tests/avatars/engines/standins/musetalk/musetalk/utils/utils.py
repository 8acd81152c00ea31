import types

import numpy as np


class Part:
    dtype = np.float32

    def half(self):
        return self

    def to(self, device=None, dtype=None):
        return self


class PositionalEncoding(Part):
    def __call__(self, sound):
        assert sound.shape[1:] == (50, 384)
        return sound


class UNet(Part):
    def __call__(self, latent, timesteps, encoder_hidden_states):
        assert latent.shape == (len(encoder_hidden_states), 8, 32, 32)
        return types.SimpleNamespace(sample=encoder_hidden_states)


class VAE:
    def __init__(self):
        self.vae = Part()

    def decode_latents(self, latents):
        loudness = latents.numpy()[:, 0, 0]
        if (loudness < 0).any():
            return np.zeros((len(loudness), 256), np.float32)
        return (np.ones((len(loudness), 256, 256, 3)) * np.minimum(255, loudness * 400)[:, None, None, None]).astype(
            np.uint8
        )


def load_all_model(unet_model_path="", vae_type="sd-vae", unet_config="", device=None):
    return VAE(), types.SimpleNamespace(model=UNet(), device=device), PositionalEncoding()
