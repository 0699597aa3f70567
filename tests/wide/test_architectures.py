"""Every architecture of transformers that can be built small: nothing is lost on the way, or the reason is known."""

from __future__ import annotations

import pytest
from torch.testing import assert_close

from tests.architectures import TASKS, Task, build, names
from tests.wide.exceptions import NOT_BUILT, NOT_EXACT
from tests.wide.sweep import TOLERANCE, explained, outcome

pytestmark = [pytest.mark.wide, pytest.mark.filterwarnings("ignore")]  # the models' own warnings are theirs

OFFERED = [(task, model_type) for task in TASKS for model_type in names(task)]
FEWEST_BUILT: dict[Task, int] = {
    "causal_lm": 186,
    "masked_lm": 51,
    "seq2seq_lm": 36,
    "sequence_classification": 126,
    "token_classification": 100,
    "image_classification": 40,
    "zero_shot_image_classification": 12,
    "vision_language": 80,
    "image_tower": 46,
}


@pytest.mark.parametrize(("task", "model_type"), OFFERED)
def test_every_share_is_accounted_for(task: Task, model_type: str) -> None:
    result = outcome(task, model_type)
    if (task, model_type) in NOT_BUILT:
        assert result.status == "not built", "it can be built now: take it off NOT_BUILT"
        pytest.skip(NOT_BUILT[task, model_type])
    assert result.status != "not built", result.message
    if (task, model_type) in NOT_EXACT:
        assert result.status != "exact", "its books balance now: take it off NOT_EXACT"
        pytest.skip(NOT_EXACT[task, model_type])
    assert result.status == "exact", f"relative residual {result.residual}, {result.message}"
    assert result.residual is not None
    assert result.residual < TOLERANCE


def test_exceptions_are_architectures_that_transformers_offers() -> None:
    assert set(NOT_BUILT) | set(NOT_EXACT) <= set(OFFERED)
    assert not set(NOT_BUILT) & set(NOT_EXACT)


@pytest.mark.parametrize("task", TASKS)
def test_most_architectures_are_built(task: Task) -> None:
    not_built = sum(exception_task == task for exception_task, _ in NOT_BUILT)
    assert len(names(task)) - not_built >= FEWEST_BUILT[task]


@pytest.mark.parametrize(("task", "model_type"), [("causal_lm", "mixtral"), ("image_classification", "resnet")])
def test_a_tiny_model_is_the_same_at_every_call(task: Task, model_type: str) -> None:
    once, again = build(task, model_type), build(task, model_type)
    assert_close(dict(once.model.state_dict()), dict(again.model.state_dict()), rtol=0.0, atol=0.0)
    assert_close(once.inputs, again.inputs, rtol=0.0, atol=0.0)
    assert_close(explained(once.model(**once.inputs)), explained(again.model(**again.inputs)), rtol=0.0, atol=0.0)
