"""A Whisper of `base` shape whose words are scripted: it costs what the real one costs, and says the same to everybody.

Random weights, full size and vocabulary; what the decoder's layers add is set to nothing, so the position alone
chooses the next token. Made in a few seconds, so no download is needed to compare costs.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MICRO = Path(__file__).resolve().parents[1] / "fixtures" / "micro-whisper"
BASE_VOCABULARY = 51_865
SCRIPT = "book a table for two tomorrow and tell me the price please"
FRAMES_OF_TEXT = 150  # the end that the script gives for its words, in steps of 20 ms


@dataclass(frozen=True)
class Shape:
    width: int = 512
    layers: int = 6
    heads: int = 8


def build(folder: Path, shape: Shape | None = None) -> Path:
    """Write the model into `folder`."""
    from ctranslate2.specs import whisper_spec

    shape = shape or Shape()
    words = _Words()
    rng = np.random.default_rng(1)

    def weights(*size: int) -> np.ndarray[Any, Any]:
        return rng.normal(0.0, 0.02, size).astype(np.float32)

    def linear(spec: Any, inputs: int, outputs: int, *, silent: bool = False) -> None:
        spec.weight = np.zeros((outputs, inputs), np.float32) if silent else weights(outputs, inputs)
        spec.bias = np.zeros(outputs, np.float32)

    def norm(spec: Any) -> None:
        spec.gamma, spec.beta = np.ones(shape.width, np.float32), np.zeros(shape.width, np.float32)

    width = shape.width
    spec = whisper_spec.WhisperSpec(shape.layers, shape.heads, shape.layers, shape.heads)
    spec.encoder.position_encodings.encodings = weights(1500, width)
    for convolution, channels in ((spec.encoder.conv1, 80), (spec.encoder.conv2, width)):
        convolution.weight, convolution.bias = weights(width, channels, 3), np.zeros(width, np.float32)
    norm(spec.encoder.layer_norm)
    embeddings = weights(len(words.tokens), width) * 10
    spec.decoder.scale_embeddings = False
    spec.decoder.embeddings.weight = spec.decoder.projection.weight = embeddings
    spec.decoder.position_encodings.encodings = _script(words, embeddings)
    norm(spec.decoder.layer_norm)
    for layer in spec.encoder.layer:
        _layer(layer, width, linear, norm, silent=False)
    for layer in spec.decoder.layer:
        _layer(layer, width, linear, norm, silent=True)
        linear(layer.attention.linear[0], width, width)
        linear(layer.attention.linear[1], width, 2 * width)
        linear(layer.attention.linear[2], width, width, silent=True)
        norm(layer.attention.layer_norm)
    spec.register_vocabulary(words.tokens)
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.config.lang_ids = words.languages
    spec.config.alignment_heads = [[shape.layers - 1, head] for head in range(shape.heads)]
    spec.validate()
    spec.optimize(quantization="float16")
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    (folder / "tokenizer.json").write_text(words.tokenizer())
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": 80, "chunk_length": 30}))
    return folder


def _layer(layer: Any, width: int, linear: Any, norm: Any, *, silent: bool) -> None:
    linear(layer.self_attention.linear[0], width, 3 * width)
    linear(layer.self_attention.linear[1], width, width, silent=silent)
    norm(layer.self_attention.layer_norm)
    linear(layer.ffn.linear_0, width, 4 * width)
    linear(layer.ffn.linear_1, 4 * width, width, silent=silent)
    norm(layer.ffn.layer_norm)


def _script(words: _Words, embeddings: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Position codes that each point at the next token of the script."""
    said = [words.first_time, *(words.id[f"\u0120{word}"] for word in SCRIPT.split())]
    answers = [words.languages[0], words.id["<|transcribe|>"], *said, words.first_time + FRAMES_OF_TEXT]
    answers += [words.id["<|endoftext|>"]] * (448 - len(answers))
    return (embeddings[answers] * 8).astype(np.float32)


class _Words:
    """micro-whisper's tokens, filled up to the size of the real vocabulary."""

    def __init__(self) -> None:
        sys.path.insert(0, str(MICRO / "training"))
        from vocab import build_layout, language_codes  # type: ignore[import-not-found]

        text, self.merges, self.special = build_layout()
        self.text = [*text, *(f"<filler {n}>" for n in range(BASE_VOCABULARY - len(text) - len(self.special)))]
        self.tokens = [*self.text, *self.special]
        self.id = {token: number for number, token in enumerate(self.tokens)}
        self.languages = [self.id[f"<|{code}|>"] for code in language_codes()]
        self.first_time = self.id["<|notimestamps|>"] + 1

    def tokenizer(self) -> str:
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

        vocabulary = {token: number for number, token in enumerate(self.text)}
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=self.merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in self.special])
        text: str = tokenizer.to_str()
        return text
