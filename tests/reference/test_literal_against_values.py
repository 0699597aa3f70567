"""The literal implementations against token relevances from another library (LXT 2.1)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.testing import assert_close
from transformers import PreTrainedModel

from tests.reference.literal_bert import literal_bert
from tests.reference.literal_gpt2 import literal_gpt2
from tests.reference.literal_llama import literal_llama

SHARED = Path(os.environ.get("APPORTION_SHARED", Path(__file__).parents[3] / "shared"))
LITERAL = {
    "LlamaForCausalLM": literal_llama,
    "GPT2LMHeadModel": literal_gpt2,
    "BertForSequenceClassification": literal_bert,
}
CASES = [
    (case, composite)
    for case, composites in {
        "llama_nobias": ["attnlrp", "cp_lrp"],
        "llama_bias": ["attnlrp", "cp_lrp"],
        "gpt2_bias": ["attnlrp", "cp_lrp"],
        "bert_bias": ["attnlrp"],
    }.items()
    for composite in composites
]


def reference() -> dict[str, Any]:
    path = SHARED / "reference" / "values.json"
    if not path.exists():
        pytest.skip(f"no reference values at {path}; set APPORTION_SHARED to the folder that holds reference/")
    return json.loads(path.read_text())


def loaded(case: str, description: dict[str, Any]) -> PreTrainedModel:
    from safetensors.torch import load_file

    config = getattr(transformers, description["config_class"])(**description["config"])
    model = getattr(transformers, description["model_class"])(config)
    weights = load_file(SHARED / "reference" / f"{case}.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert not [name for name in missing if name.endswith(("weight", "bias"))]
    return model.double().eval()


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize(("case", "composite"), CASES)
def test_equals_the_other_library(case: str, composite: str) -> None:
    values = reference()
    description = values["cases"][case]
    expected = description["values"][composite]
    result = LITERAL[description["model_class"]](
        loaded(case, description),
        torch.tensor(values["input_ids"]),
        expected["target"],
        composite=composite,
    )
    assert_close(result.total, expected["logit"], atol=0.0, rtol=1e-6)
    tokens = torch.tensor(expected["relevance_tokens"], dtype=torch.float64)
    layers = torch.tensor(expected["relevance_layers"], dtype=torch.float64)
    assert relative_error(result.tokens, tokens) < 1e-6
    assert relative_error(result.layers, layers) < 1e-6


def test_every_case_of_the_other_library_is_compared() -> None:
    available = {
        (case, composite)
        for case, description in reference()["cases"].items()
        for composite in description["values"]
        if composite != "gxi"  # plain gradient x input is no LRP rule
    }
    assert set(CASES) == available
