"""Tiny random models, one or more of every family, with inputs; and a tokenizer made in code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel, PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<pad>", "<s>", "</s>", "[MASK]", "<|user|>", "<|assistant|>", "<|end|>"]
WORDS = [
    "the",
    "The",
    "man",
    "dog",
    "who",
    "own",
    "s",
    "is",
    "are",
    "sees",
    "of",
    "cat",
    "and",
    ",",
    ".",
    "old",
    "new",
    "sad",
]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = 96
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer(kind: Literal["causal", "masked", "seq2seq"] = "causal", **options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words and letters; "owns" and "dogs" are two tokens each.

    Args:
        kind: "causal" begins every text with <s>, "masked" puts it between <s> and </s>, "seq2seq" ends it with </s>.
        options: Passed on, such as `padding_side`.
    """
    pieces = [*SPECIAL, *[f"▁{word}" for word in WORDS], "▁", *WORDS[-9:], "s", *LETTERS, "\n"]
    pieces = list(dict.fromkeys(pieces))
    raw = Tokenizer(models.Unigram([(piece, -2.0 if len(piece) > 2 else -9.0) for piece in pieces], unk_id=0))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    raw.decoder = decoders.Metaspace(prepend_scheme="always")
    shape = {"causal": "<s> $A", "masked": "<s> $A </s>", "seq2seq": "$A </s>"}[kind]
    raw.post_processor = processors.TemplateProcessing(single=shape, special_tokens=[("<s>", 2), ("</s>", 3)])
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    if kind == "masked":
        names |= {"mask_token": "[MASK]", "cls_token": "<s>", "sep_token": "</s>"}
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, extra_special_tokens=["<|user|>", "<|assistant|>", "<|end|>"], **names, **options
    )
    if kind == "causal":
        made.chat_template = CHAT_TEMPLATE
    return made


def with_random_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Seeded weights in float64, none of them without effect: biases away from 0, scales away from 1."""
    generator = torch.Generator().manual_seed(1)
    model = model.double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim > 1 and "A_log" not in name:
                # Embeddings of size 1 and maps that keep sizes, so that no activation saturates.
                wide = 1 if "embed" in name or "wte" in name or "shared" in name else parameter.shape[-1]
                parameter.copy_(noise / wide**0.5)
            else:
                parameter.add_(0.1 * noise)
    return model


SMALL: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
CAUSAL = {**SMALL, "num_key_value_heads": 2, "head_dim": 6}
EXPERTS = {**CAUSAL, "moe_intermediate_size": 12, "num_experts_per_tok": 2, "experts_implementation": "eager"}
BART = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 20,
    "decoder_ffn_dim": 20,
    "max_position_embeddings": 32,
    "forced_eos_token_id": None,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "decoder_start_token_id": 3,
}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "d_kv": 4,
    "d_ff": 20,
    "num_layers": 2,
    "num_heads": 4,
    "pad_token_id": 1,
    "eos_token_id": 3,
    "decoder_start_token_id": 1,
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}
SPECIAL_IDS = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
LABELS = {"id2label": {0: "sad", 1: "glad", 2: "none"}, "label2id": {"sad": 0, "glad": 1, "none": 2}}
SSM = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "state_size": 4,
    "num_hidden_layers": 2,
    "time_step_rank": 4,
    **SPECIAL_IDS,
}

BUILDERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", CAUSAL),
    "llama_with_biases": ("LlamaForCausalLM", "LlamaConfig", {**CAUSAL, "attention_bias": True, "mlp_bias": True}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**CAUSAL, "head_dim": None, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", {**CAUSAL, "attn_implementation": "eager"}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {**GPT2, **SPECIAL_IDS}),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**EXPERTS, "num_local_experts": 3}),
    "qwen2_moe": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        {**EXPERTS, "num_experts": 3, "shared_expert_intermediate_size": 12, "head_dim": None},
    ),
    "mamba": ("MambaForCausalLM", "MambaConfig", SSM),
    "bert": ("BertForMaskedLM", "BertConfig", SMALL),
    "bert_classifier": ("BertForSequenceClassification", "BertConfig", {**SMALL, **LABELS}),
    "bert_token_classifier": ("BertForTokenClassification", "BertConfig", {**SMALL, **LABELS}),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5),
    "bart": ("BartForConditionalGeneration", "BartConfig", BART),
}
NAMES = tuple(BUILDERS)
ENCODER_DECODERS = ("t5", "bart")


def build(name: str, **options: Any) -> PreTrainedModel:
    """A new tiny model, the same at every call.

    Args:
        name: One of `NAMES`.
        options: Fields of its configuration, and `attn_implementation`.
    """
    model_class, config_class, fields = BUILDERS[name]
    fields = {**fields, **options}
    implementations = {
        f"_{key}": fields.pop(key) for key in ("attn_implementation", "experts_implementation") if key in fields
    }
    config = getattr(transformers, config_class)(**{k: v for k, v in fields.items() if v is not None})
    for key, value in implementations.items():
        setattr(config, key, value)
    return with_random_weights(getattr(transformers, model_class)(config))


@cache
def tiny(name: str) -> PreTrainedModel:
    """The model of that name that all tests share; they must leave it as it is."""
    return build(name)


def inputs_of(name: str, count: int = 7, seed: int = 0) -> dict[str, Tensor]:
    """Inputs on which `build(name)` runs, without special tokens."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {"input_ids": torch.randint(len(SPECIAL), VOCABULARY, (1, count), generator=generator)}
    if name in ENCODER_DECODERS:
        inputs["decoder_input_ids"] = torch.randint(len(SPECIAL), VOCABULARY, (1, 4), generator=generator)
    elif not name.startswith("bert"):
        inputs["use_cache"] = False  # type: ignore[assignment]
    return inputs


class InFloat64(TorchFunctionMode):
    """Takes the detours of transformers' models through float32 (norms, softmax, rotary angles) in float64 instead.

    They leave an error of about 1e-7, in which a small mistake could hide.

    Args:
        softmax_only: Leave the norms and angles in float32.
    """

    def __init__(self, *, softmax_only: bool = False) -> None:
        super().__init__()
        self.softmax_only = softmax_only

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.nn.functional.softmax and kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        if self.softmax_only:
            return func(*args, **kwargs)
        if func is Tensor.float:
            func = Tensor.double
        elif func is Tensor.to:
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        return func(*args, **kwargs)


class Of(nn.Module):
    """A module that computes a function, with what the function uses as its parts.

    Args:
        function: From the inputs, by name, to the output; `self` is not passed.
        parts: Modules, parameters and buffers (plain tensors) by name, which the function gets by name as well.
    """

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        self.names = list(parts)
        for name, part in parts.items():
            if isinstance(part, nn.Module | nn.Parameter):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, **inputs: Tensor) -> Any:
        return self.function(**inputs, **{name: getattr(self, name) for name in self.names})
