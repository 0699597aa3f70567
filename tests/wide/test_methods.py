"""Methods that read a model's structure, on every small language model: served, or refused in one line."""

from __future__ import annotations

import pytest
import torch

from apportion import ApportionError, Explainer
from tests.architectures import CannotBuild, Task, build, names, time_limit

pytestmark = [pytest.mark.wide, pytest.mark.filterwarnings("ignore")]  # the models' own warnings are theirs

TASKS: tuple[Task, ...] = ("causal_lm", "masked_lm", "seq2seq_lm")
METHODS = ("res-lrp", "gim", "pa-lrp", "rollout", "alti-logit", "chefer", "decompx", "leave-one-out")
#: Float32, and statistics of norms that the models compute twice.
BALANCED = 1e-3
#: What GIM's plain derivative of activations leaves out has no complete line here yet: gates inside attention or a
#: recurrence, written out.
NOT_BALANCED = {("gim", name) for name in ("granite_swa", "granitemoe_swa", "inkling_text", "kimi_linear")}
#: Served by each of these methods, whatever else is refused.
SERVED = {
    "gpt2": METHODS,
    "llama": METHODS,
    "qwen3": METHODS,
    "mixtral": METHODS,
    "gemma2": METHODS,
    "bert": METHODS,
    "t5": ("res-lrp", "gim", "pa-lrp", "chefer", "decompx", "leave-one-out"),
    "mamba": ("res-lrp", "leave-one-out"),
}


@pytest.mark.parametrize(("task", "model_type"), [(task, name) for task in TASKS for name in names(task)])
def test_a_method_serves_a_model_or_says_why_not(task: Task, model_type: str) -> None:
    try:
        tiny = build(task, model_type, seconds=60)
    except CannotBuild as error:
        pytest.skip(str(error))
    tensors = {name: value[:1] for name, value in tiny.inputs.items() if isinstance(value, torch.Tensor)}
    prompt = {name: tensors[name] for name in ("input_ids", "decoder_input_ids") if name in tensors}
    if "input_ids" not in prompt:
        pytest.skip("it reads more than text")
    explainer = Explainer(tiny.model)
    place = 1 if task == "masked_lm" else None
    try:
        with time_limit(60):
            explainer.explain(prompt, target=3, position=place, progress=False)
    except Exception as error:
        pytest.skip(f"it cannot be explained from these ids alone: {error}")
    refused = {}
    for method in METHODS:
        try:
            with time_limit(60):
                found = explainer.explain(prompt, target=3, position=place, method=method, progress=False)
        except ApportionError as error:
            refused[method] = str(error)
            continue
        assert found.scores.isfinite().all(), method
        if found.ledger is not None and (method, model_type) not in NOT_BALANCED:
            assert found.ledger.relative_residual.item() < BALANCED, method
    assert not any("\n" in line for line in refused.values())
    for method in SERVED.get(model_type, ()):
        assert method not in refused, refused[method]
