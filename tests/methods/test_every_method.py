"""What holds for every registered method: a new one is tested by being registered."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from apportion import ApportionError, Attribution, Explainer
from apportion.methods import METHODS, required_options
from tests.tiny import InFloat64, build, tiny, tokenizer

TEXTS = ["The man who owns the dogs", "the cat sees", "The old man sees the new dog"]
TEXT = TEXTS[0]
MODELS = ("llama", "gpt2", "mixtral", "mamba", "bert_classifier", "t5")
KINDS = {"bert_classifier": "masked", "t5": "seq2seq"}
#: Tested on images, in `test_images`.
OF_IMAGES = ("attnlrp-vision", "shifted")
NAMES = [name for name in METHODS if not required_options(name) and name not in OF_IMAGES]
#: Small settings, since sampling methods would take long.
SMALL = {
    "integrated-gradients": "integrated-gradients(steps=4)",
    "smoothgrad": "smoothgrad(samples=3)",
    "expected-gradients": "expected-gradients(samples=3)",
    "shapley": "shapley(budget=40)",
    "banzhaf": "banzhaf(budget=40)",
    "context-cite": "context-cite(ablations=24)",
}
#: For methods that are for one kind of model, one of these.
AT_HOME = {"mamba-lrp": "mamba"}
EXACTLY = 1e-9
TARGETS = {"llama": 11, "gpt2": 11, "mixtral": 11, "mamba": 11, "bert_classifier": 1, "t5": 11}


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


@cache
def explainer(model: str) -> Explainer:
    return Explainer(tiny(model), tokenizer(KINDS.get(model, "causal")))


def method(name: str) -> str:
    return SMALL.get(name, name)


@cache
def served(name: str, model: str) -> Attribution | str:
    """The attribution, or the line in which the method refuses the model."""
    try:
        return explainer(model).explain(TEXT, method=method(name), target=TARGETS[model], progress=False)
    except ApportionError as error:
        return str(error)


def attribution(name: str, model: str) -> Attribution:
    found = served(name, model)
    if isinstance(found, str):
        pytest.skip(f"refused: {found}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_it_serves_a_causal_language_model(name):
    found = served(name, AT_HOME.get(name, "llama"))
    assert isinstance(found, Attribution), found
    assert (found.scores != 0).any()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_it_serves_a_model_or_says_why_not_in_one_line(name, model):
    found = served(name, model)
    if isinstance(found, str):
        assert "\n" not in found
        assert len(found) < 400
        return
    assert found.method == name
    assert found.scores.isfinite().all()
    assert found.conserves == METHODS[name].about.conserves
    assert found.cost is not None
    assert found.cost.forward + found.cost.backward > 0
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_what_it_says_of_its_sum_is_true(name, model):
    found = attribution(name, model)
    if found.conserves == "no":
        assert found.ledger is None
        return
    assert found.ledger is not None
    assert found.ledger.total.item() == pytest.approx(found.target.value)
    assert found.ledger.relative_residual.item() < EXACTLY
    line = found.ledger.lines["tokens"].item()
    assert line == pytest.approx(found.scores.sum().item(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_it_gives_the_same_twice(name, model):
    first = attribution(name, model)
    again = explainer(model).explain(TEXT, method=method(name), target=TARGETS[model], progress=False)
    assert torch.equal(first.scores, again.scores)


def same(ours: Tensor | None, theirs: Tensor | None) -> None:
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert_close(ours, theirs, rtol=EXACTLY, atol=EXACTLY)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_prompts_one_by_one(name, model):
    attribution(name, model)
    options = {"method": method(name), "target": TARGETS[model], "progress": False}
    together = explainer(model).explain_many(TEXTS, batch_size=3, **options)
    for ours, text in zip(together, TEXTS, strict=True):
        alone = explainer(model).explain(text, **options)
        same(ours.scores, alone.scores)
        same(ours.standard_errors, alone.standard_errors)
        assert [f.label for f in ours.features] == [f.label for f in alone.features]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("model", ["llama", "gpt2", "bert_classifier", "t5"])
@pytest.mark.parametrize("name", NAMES)
def test_pads_get_nothing_and_change_nothing(name, model, side):
    attribution(name, model)
    padding = tokenizer(KINDS.get(model, "causal"), padding_side=side)
    batch = dict(padding(TEXTS, return_tensors="pt", padding=True))
    batch.pop("token_type_ids", None)
    options = {"method": method(name), "target": TARGETS[model], "progress": False}
    found = explainer(model).explain_many(batch, batch_size=2, **options)
    for b, (ours, text) in enumerate(zip(found, TEXTS, strict=True)):
        alone = explainer(model).explain(text, **options)
        kept = batch["attention_mask"][b].bool()
        if len(ours.features) < len(kept):
            continue  # divided among words, which padding does not belong to
        assert (ours.scores[: len(kept)][~kept] == 0).all()
        same(torch.cat([ours.scores[: len(kept)][kept], ours.scores[len(kept) :]]), alone.scores)


@pytest.mark.parametrize("model", ["llama", "bert_classifier", "t5"])
@pytest.mark.parametrize("name", NAMES)
def test_several_targets_are_each_alone(name, model):
    attribution(name, model)
    targets = [1, 0] if model == "bert_classifier" else [11, 23]
    found = explainer(model).explain(TEXT, method=method(name), target=targets, progress=False)
    for ours, target in zip(found, targets, strict=True):
        alone = explainer(model).explain(TEXT, method=method(name), target=target, progress=False)
        same(ours.scores, alone.scores)
        same(ours.standard_errors, alone.standard_errors)


def state(model: nn.Module) -> dict[str, object]:
    return {
        "training": [m.training for m in model.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), len(m._backward_pre_hooks))
            for m in model.modules()
        ],
        "forward": ["forward" in vars(m) for m in model.modules()],
        "parameters": [(p.requires_grad, p.data_ptr(), p.grad is None, p._version) for p in model.parameters()],
        "config": [
            (dict(vars(m.config)), m.config._attn_implementation) for m in model.modules() if hasattr(m, "config")
        ],
        "generation": vars(model.generation_config) if getattr(model, "generation_config", None) else None,
    }


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_given_back(name, model):
    own = build(model)
    own.train()
    for k, parameter in enumerate(own.parameters()):
        parameter.requires_grad_(k % 2 == 0)
    before = state(own)
    own_explainer = Explainer(own, tokenizer(KINDS.get(model, "causal")))
    with suppress(ApportionError):
        own_explainer.explain(TEXT, method=method(name), target=TARGETS[model], progress=False)
    assert state(own) == before
    # An error half-way: the last module that has parameters fails.
    last = [m for m in own.modules() if any(True for _ in m.parameters(recurse=False))][-1]
    handle = last.register_forward_hook(fails)
    before = state(own)
    with pytest.raises((RuntimeError, ApportionError)):
        own_explainer.explain(TEXT, method=method(name), target=TARGETS[model], progress=False)
    assert state(own) == before
    handle.remove()


def fails(*_: object) -> None:
    raise RuntimeError("a hook of the user's fails")


@pytest.mark.parametrize("name", NAMES)
def test_the_result_survives_saving(name, tmp_path):
    found = attribution(name, AT_HOME.get(name, "llama"))
    loaded = Attribution.load(found.save(tmp_path / "a.safetensors"))
    assert torch.equal(loaded.scores, found.scores)
    same(loaded.standard_errors, found.standard_errors)
    assert (loaded.cost, loaded.conserves) == (found.cost, found.conserves)
    assert json.dumps(loaded.options) == json.dumps(dict(found.options))
