"""Every small model that reads images: relevance arrives at the pixels, and under ResLRP the books balance as well."""

from __future__ import annotations

import pytest

from apportion.relevance import RES_LRP
from tests.architectures import Task, build, names
from tests.wide.exceptions import NO_RESIDUAL_SUMS, NOT_BUILT, NOT_EXACT, UNREACHED
from tests.wide.sweep import TOLERANCE, arriving, ledger_of, lost, outcome, propagated

pytestmark = [pytest.mark.wide, pytest.mark.filterwarnings("ignore")]  # the models' own warnings are theirs

TASKS: tuple[Task, ...] = (
    "image_classification",
    "zero_shot_image_classification",
    "vision_language",
    "image_tower",
)
OFFERED = [(task, model_type) for task in TASKS for model_type in names(task)]
POOLED = ("beit", "clip_vision_model", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "hiera", "resnet")
POOLED += ("siglip_vision_model", "siglip2_vision_model", "swin", "swinv2", "vit")
EXACT = [key for key in OFFERED if key not in NOT_BUILT and key not in NOT_EXACT]


@pytest.mark.parametrize(("task", "model_type"), EXACT)
def test_relevance_arrives_at_pixels_and_at_words(task: Task, model_type: str) -> None:
    result = outcome(task, model_type)
    assert result.status == "exact", result.message
    assert result.arriving, "it has no input to arrive at"
    assert result.unreached == UNREACHED.get((task, model_type), ((), ""))[0]


@pytest.mark.parametrize(("task", "model_type"), EXACT)
def test_the_books_balance_with_shares_for_residual_sums(task: Task, model_type: str) -> None:
    result = outcome(task, model_type, composite=RES_LRP)
    if (task, model_type) in NO_RESIDUAL_SUMS:
        assert result.status == "refused"
        assert "no branch is added" in result.message
        return
    assert result.status == "exact", f"relative residual {result.residual}, {result.message}"
    assert result.residual is not None
    assert result.residual < TOLERANCE


@pytest.mark.parametrize("model_type", POOLED)
def test_a_number_of_the_pooled_features_is_divided_among_the_pixels(model_type: str) -> None:
    found = propagated(build("image_tower", model_type), output="pooler_output")
    assert lost(ledger_of(found)) < TOLERANCE
    assert arriving(found)["pixel_values"] > 0


def test_exceptions_are_architectures_that_read_images() -> None:
    assert set(UNREACHED) | set(NO_RESIDUAL_SUMS) <= set(EXACT)
