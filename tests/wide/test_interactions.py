"""The metagame on every small language model: a coalition in a batch is paid what it is paid alone."""

from __future__ import annotations

import pytest
import torch

from apportion import ApportionError, Explainer, Game
from tests.architectures import CannotBuild, Task, build, names, time_limit

pytestmark = [pytest.mark.wide, pytest.mark.filterwarnings("ignore")]  # the models' own warnings are theirs

TASKS: tuple[Task, ...] = ("causal_lm", "sequence_classification")
METHOD = "cp-lrp"
#: Float32, and models that round what they route.
EQUAL = 2e-3
PLAYERS = 3


@pytest.mark.parametrize(("task", "model_type"), [(task, name) for task in TASKS for name in names(task)])
def test_coalitions_are_paid_as_prompts_of_their_own(task: Task, model_type: str) -> None:
    try:
        tiny = build(task, model_type, seconds=60)
    except CannotBuild as error:
        pytest.skip(str(error))
    given = tiny.inputs.get("input_ids")
    if not isinstance(given, torch.Tensor) or given.shape[1] < PLAYERS:
        pytest.skip("it reads more than text")
    ids, explainer = given[0, -PLAYERS:].tolist(), Explainer(tiny.model)
    target = 1 if task == "sequence_classification" else 3
    alone = {}
    try:
        with time_limit(60):
            for kept in ([0, 1, 2], [0, 2], [1]):
                prompt = [ids[i] for i in kept]
                found = explainer.explain(prompt, target=target, method=METHOD, progress=False)
                alone[tuple(kept)] = found.scores.double()
    except Exception as error:
        pytest.skip(f"it cannot be explained from so few ids alone: {error}")
    try:
        with time_limit(60):
            found = explainer.interactions(
                ids, target=target, method=METHOD, progress=False, game=Game(masker="delete")
            )
    except ApportionError as error:
        pytest.skip(f"refused: {error}")
    scale = max(float(scores.abs().max()) for scores in alone.values())
    assert found.evaluations == 2**PLAYERS - 1
    assert float((found.first_order - alone[0, 1, 2]).abs().max()) <= EQUAL * scale
    assert float((found.main_effect[1] - alone[1,][0]).abs()) <= EQUAL * scale
    assert float(found.gap.abs().max()) <= 1e-9 * max(1.0, scale)
    # From the values of all coalitions: φ_0(0, 2) = φ_0→0 + what 2 adds to 0 without 1.
    # With three players φ_2→0 = ½ [φ_0(02) − φ_0(0)] + ½ [φ_0(012) − φ_0(01)], and φ_1→0 likewise.
    without_1, whole = alone[0, 2][0], alone[0, 1, 2][0]
    with_1 = whole - 2 * found.values[2, 0] + (without_1 - found.main_effect[0])
    expected = ((with_1 - found.main_effect[0]) + (whole - without_1)) / 2
    assert float((found.values[1, 0] - expected).abs()) <= EQUAL * scale
