"""The engine against token relevances that another library (LXT 2.1) found for the same weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import PreTrainedModel

from apportion.relevance import ATTNLRP, CP_LRP, GRADIENT, record

FOLDER = Path(os.environ.get("APPORTION_SHARED", Path(__file__).parents[3] / "shared")) / "reference"
COMPOSITES = {"gxi": GRADIENT, "attnlrp": ATTNLRP, "cp_lrp": CP_LRP}
CASES = [
    (case, composite)
    for case in ("llama_nobias", "llama_bias", "gpt2_bias", "bert_bias")
    for composite in COMPOSITES
    if (case, composite) != ("bert_bias", "cp_lrp")  # they have none
]
pytestmark = pytest.mark.skipif(
    not (FOLDER / "values.json").exists(),
    reason=f"no reference values in {FOLDER}; set APPORTION_SHARED to the folder that holds reference/",
)


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return json.loads((FOLDER / "values.json").read_text())


def loaded(case: str, description: dict[str, Any]) -> PreTrainedModel:
    """The model they used, with the attention that they used."""
    config = getattr(transformers, description["config_class"])(**description["config"])
    config._attn_implementation = "eager"
    model = getattr(transformers, description["model_class"])(config)
    missing, unexpected = model.load_state_dict(load_file(FOLDER / f"{case}.safetensors"), strict=False)
    assert not unexpected
    assert not [name for name in missing if name.endswith(("weight", "bias"))]
    return model.double().eval()


@pytest.mark.parametrize(("case", "composite"), CASES)
def test_token_relevance_equals_the_other_library(values, case, composite):
    description = values["cases"][case]
    expected = description["values"][composite]
    trace = record(loaded(case, description), {"input_ids": torch.tensor([values["input_ids"]])})
    logits = trace.output.logits
    seed = torch.zeros_like(logits)
    seed[(0, expected["target"]) if logits.ndim == 2 else (0, -1, expected["target"])] = 1
    result = trace.propagate(logits, seed[None], COMPOSITES[composite])
    assert result.ledger.total.item() == pytest.approx(expected["logit"], rel=1e-6)
    (tokens,) = [a[0, 0] for name, a in result.relevance.items() if result.leaves[name].role == "tokens"]
    theirs = torch.tensor(expected["relevance_tokens"], dtype=torch.float64)
    assert (tokens - theirs).norm() / theirs.norm() < 2e-6


def test_every_case_of_the_other_library_is_compared(values):
    assert set(CASES) == {(case, c) for case, description in values["cases"].items() for c in description["values"]}
