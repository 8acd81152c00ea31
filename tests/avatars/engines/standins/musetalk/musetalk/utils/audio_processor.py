import wave

import numpy as np
import torch
from faults import heard, level


class AudioProcessor:
    def __init__(self, feature_extractor_path="openai/whisper-tiny/"):
        pass

    def get_audio_feature(self, wav_path, start_index=0, weight_dtype=None):
        with wave.open(wav_path) as file:
            assert (file.getframerate(), file.getnchannels()) == (16000, 1)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32767
        return [samples], len(samples)

    def get_whisper_chunk(
        self,
        whisper_input_features,
        device,
        weight_dtype,
        whisper,
        librosa_length,
        fps=25,
        audio_padding_length_left=2,
        audio_padding_length_right=2,
    ):
        samples = whisper_input_features[0]
        count = librosa_length * fps // 16000
        parts = [samples[n * 640 : (n + 1) * 640] for n in range(count)]
        loudness = [-1.0 if heard(part) else level(part) for part in parts]
        return torch.Tensor(np.array(loudness, np.float32)[:, None, None] * np.ones((1, 50, 384), np.float32))
