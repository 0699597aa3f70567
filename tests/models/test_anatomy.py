"""A model's anatomy: its parts rebuild what the model computed, or it is refused by name."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import PreTrainedModel

from apportion import ApportionError
from apportion.models.anatomy._anatomy import Anatomy, anatomy
from apportion.models.anatomy._capturing import Call
from apportion.models.anatomy._frozen_norm import frozen_norm
from apportion.models.anatomy._linear_output import linear_output
from apportion.models.anatomy._mixes_tokens import check_tokens_mix_in_attention
from tests.tiny import CAUSAL, SMALL, InFloat64, build, inputs_of, tiny, with_random_weights

SERVED = (
    "llama_with_biases",
    "qwen2",
    "gemma2",
    "gpt2",
    "mixtral",
    "bert",
    "bert_classifier",
    "bert_token_classifier",
)
#: Families that differ in what stands behind the attention and the MLP: norms of each, and scales.
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "granite": ("GraniteForCausalLM", "GraniteConfig", {**CAUSAL, "residual_multiplier": 0.3, "logits_scaling": 3.0}),
    "olmo2": ("Olmo2ForCausalLM", "Olmo2Config", {k: v for k, v in CAUSAL.items() if k != "head_dim"}),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", {**SMALL, "use_parallel_residual": True}),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", {**SMALL, "num_labels": 3}),
    "llama_classifier": ("LlamaForSequenceClassification", "LlamaConfig", {**CAUSAL, "num_labels": 3}),
}


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


def other(name: str, **options: Any) -> PreTrainedModel:
    model_class, config_class, fields = OTHERS[name]
    config = getattr(transformers, config_class)(**{**fields, **options})
    return with_random_weights(getattr(transformers, model_class)(config))


def inputs(name: str) -> dict[str, Any]:
    if name == "roberta":
        return {"input_ids": inputs_of("bert")["input_ids"]}
    return inputs_of("llama" if name in OTHERS else name)


@cache
def described(name: str) -> tuple[PreTrainedModel, Anatomy]:
    with InFloat64():
        model = other(name) if name in OTHERS else tiny(name)
        return model, anatomy(model, inputs(name))


@pytest.mark.parametrize("name", [*SERVED, *OTHERS])
def test_the_parts_rebuild_the_model(name):
    model, found = described(name)
    with torch.no_grad():
        plain = model(**inputs(name), output_hidden_states=True)
    assert_close(found.output.logits, plain.logits)
    for layer, stream in zip(found.layers, plain.hidden_states, strict=False):
        assert_close(layer.input, stream[0])
        rebuilt = layer.own() + sum(constant for _, constant in layer.constants())
        for t in range(len(rebuilt)):
            for s in range(len(rebuilt)):
                rebuilt[t] += layer.weights()[:, t, s] @ layer.messages()[:, s]
        assert_close(rebuilt, layer.middle)
        output, norm = layer.middle + layer.mlp, layer.output_norm
        if norm is not None:
            output = norm(output, bias=True)
        assert_close(output, layer.output)
    for before, after in zip(found.layers, found.layers[1:], strict=False):
        assert_close(before.output, after.input)


@pytest.mark.parametrize("name", ["gpt2", "bert", "gemma2", "granite"])
def test_messages_along_a_direction_are_what_messages_say(name):
    _, found = described(name)
    direction = torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for layer in found.layers:
        assert_close(layer.directed(direction), layer.messages() @ direction)


def test_the_norms_and_scales_are_found_where_they_stand():
    def places(name: str) -> tuple[bool, bool, bool, bool, float]:
        layer = described(name)[1].layers[-1]
        norms = (layer.input_norm, layer.attention_norm, layer.middle_norm, layer.output_norm)
        return (*(norm is not None for norm in norms), round(layer.scale, 9))

    assert places("gpt2") == (True, False, False, False, 1)
    assert places("bert") == (False, False, True, True, 1)
    assert places("gemma2") == (True, True, False, False, 1)
    assert places("olmo2") == (False, True, False, False, 1)
    assert places("granite") == (True, False, False, False, 0.3)
    assert places("gpt_neox") == (True, False, False, False, 1)
    parallel = described("gpt_neox")[1].layers[0]
    assert_close(parallel.input + parallel.mlp, parallel.output - (parallel.middle - parallel.input))
    assert described("mixtral")[1].layers[0].heads.groups == 2


@pytest.mark.parametrize("name", [*SERVED, "granite", "olmo2", "gpt_neox", "roberta", "llama_classifier"])
def test_outputs_are_linear_in_the_row_that_they_read(name):
    model, found = described(name)
    logits = found.output.logits
    row = {"bert_classifier": 0, "roberta": 0, "llama_classifier": 6}.get(name, 3)
    logits = logits[0] if logits.ndim == 2 else logits[0, row]
    weights = torch.randn(len(logits), dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    read = linear_output(model, found.watched, logits, weights)
    assert read.row == row
    assert_close(found.watched.last[0, row] @ read.direction + sum(read.biases.values()), logits @ weights)


def test_a_cap_on_logits_and_an_activation_keep_their_slopes():
    model, found = described("gemma2")
    logits, weights = found.output.logits[0, 2], torch.zeros(96, dtype=torch.float64)
    weights[7] = 1
    norm, head = model.model.norm, model.lm_head
    with torch.no_grad():
        raw = head(norm(found.watched.last))[0, 2, 7]
        sigma = (found.watched.last[0, 2].pow(2).mean() + norm.eps).sqrt()
    expected = (logits[7] / raw) * head.weight[7] * (1 + norm.weight) / sigma
    assert_close(linear_output(model, found.watched, logits, weights).direction, expected.detach())


@pytest.mark.parametrize(
    ("module", "centred"),
    [
        (nn.LayerNorm(6), True),
        (nn.LayerNorm(6, elementwise_affine=False), True),
        (nn.LayerNorm(6, bias=False), True),
        (nn.RMSNorm(6), False),
        (transformers.models.gemma2.modeling_gemma2.Gemma2RMSNorm(6), False),
    ],
)
def test_a_norm_is_linear_once_its_statistic_is_held(module, centred):
    generator = torch.Generator().manual_seed(5)
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=generator)
    x, v, g = torch.randn(3, 4, 6, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        y = module(x)
    norm = frozen_norm(Call("norm", module, x, y))
    assert norm is not None
    assert norm.centred is centred
    assert_close(norm(x, bias=True), y)
    assert_close(norm(x + 2 * v), norm(x) + 2 * norm(v))
    assert_close((norm.mapped(v) * g).sum(-1), (v * norm.pulled(g)).sum(-1))


def test_what_is_no_norm_is_not_taken_for_one():
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    for module in (nn.Linear(6, 6), nn.GELU(), nn.Identity(), nn.Softmax(-1)):
        with torch.no_grad():
            assert frozen_norm(Call("", module.double(), x, module(x))) is None


@pytest.mark.parametrize("name", ["mamba", "t5"])
def test_a_model_without_one_stack_of_attention_is_refused(name):
    with pytest.raises(ApportionError, match="leave-one-out serve any model"):
        anatomy(tiny(name), inputs_of(name))


def adding(what: Any) -> Any:
    """A hook that adds something to what a module gives."""

    def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
        return what(output) if isinstance(output, Tensor) else (what(output[0]), *output[1:])

    return hook


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ("transformer.h.1", lambda y: y + 0.01 * y.roll(1, -1), r"transformer\.h\.1 of GPT2LMHeadModel: its input"),
        ("transformer.h.0.attn", lambda y: y * y, r"transformer\.h\.0 of GPT2LMHeadModel: .* do not add up"),
        ("transformer.h.0.attn.c_proj", lambda y: y.abs(), r"transformer\.h\.0 .* does not rebuild the residual"),
        ("transformer.h.0.mlp", lambda y: y.roll(1, 1), "mixes tokens in other ways than attention"),
        ("transformer.drop", lambda y: y.cumsum(1), "mixes tokens in other ways than attention"),
    ],
)
def test_a_model_that_does_something_else_is_refused_by_the_name_of_the_part(path, change, message):
    model = build("gpt2")
    handle = model.get_submodule(path).register_forward_hook(adding(change), prepend=True)
    try:
        with pytest.raises(ApportionError, match=message) as caught:
            anatomy(model, inputs_of("gpt2"))
        assert "\n" not in str(caught.value)
    finally:
        handle.remove()


def test_the_check_of_where_tokens_meet_reads_the_structure():
    check_tokens_mix_in_attention(tiny("gpt2"), inputs_of("gpt2"))
    check_tokens_mix_in_attention(tiny("bert_classifier"), inputs_of("bert_classifier"))
    config = transformers.JambaConfig(
        **{**CAUSAL, "num_hidden_layers": 2, "attn_layer_period": 2, "attn_layer_offset": 1},
        mamba_d_state=4,
        num_experts=1,
        use_mamba_kernels=False,
    )
    jamba = with_random_weights(transformers.JambaForCausalLM(config))
    with pytest.raises(ApportionError, match="JambaForCausalLM mixes tokens in other ways"):
        check_tokens_mix_in_attention(jamba, inputs_of("llama"))


@pytest.mark.parametrize("broken", [False, True])
def test_the_model_is_given_back(broken):
    model = build("llama").train()
    before = (model.config._attn_implementation, [p.requires_grad for p in model.parameters()])
    handle = None
    if broken:
        handle = model.model.layers[1].register_forward_hook(adding(lambda y: y + 1))
        with pytest.raises(ApportionError, match="do not add up"):
            anatomy(model, inputs_of("llama"))
        handle.remove()
    else:
        anatomy(model, inputs_of("llama"))
    assert (model.config._attn_implementation, [p.requires_grad for p in model.parameters()]) == before
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_what_is_kept_of_a_layer_grows_with_the_text_not_with_its_square():
    found = anatomy(tiny("llama"), {**inputs_of("llama", 32), "use_cache": False})
    layer = found.layers[0]
    assert layer.output.data_ptr() == found.layers[1].input.data_ptr()
    streams = (layer.input, layer.middle, layer.total, layer.output)
    heads = (layer.heads.query, layer.heads.key, layer.heads.value)
    assert all(tensor.numel() <= 32 * 24 for tensor in (*streams, *heads))
    assert layer.probabilities.shape == (4, 32, 32)
    # The mask is the same tensor in all layers.
    assert layer.heads.mask is found.layers[1].heads.mask


def test_values_are_found_where_other_numbers_equal_them():
    model = build("gpt2").bfloat16()  # so short that numbers of other columns are the same in some rows
    found = anatomy(model, inputs_of("gpt2"))
    assert [layer.value for layer in found.layers] == [block.attn.c_attn for block in model.transformer.h]
