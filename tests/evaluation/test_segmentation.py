"""Accuracy, mean IoU and mean average precision are what their definitions say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from apportion import ApportionError
from apportion.evaluation import average_precision, segmentation
from tests.checking import unchecked


def _case(seed: int, levels: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps with many ties, and regions of 4 × 6 pixels of which some belong to nothing and one concept to none."""
    random = torch.Generator().manual_seed(seed)
    maps = torch.randint(levels, (4, 2, 3), generator=random).double()
    owner = torch.randint(-1, 3, (4, 6), generator=random)
    owner[0, 0] = 1
    return maps, torch.stack([owner == k for k in range(4)])


@given(st.integers(0, 200))
def test_segmentation_equals_a_count_pixel_by_pixel(seed: int) -> None:
    maps, regions = _case(seed)
    pixels = [(y, x) for y in range(4) for x in range(6) if any(regions[k, y, x] for k in range(4))]
    right, inter, union = 0, [0] * 4, [0] * 4
    cut_inter, cut_union = [0] * 4, [0] * 4
    for y, x in pixels:
        column = [maps[k, y // 2, x // 2].item() for k in range(4)]
        best = column.index(max(column))
        right += bool(regions[best, y, x])
        for k in range(4):
            mean = sum(maps[k, b // 2, a // 2].item() for b, a in pixels) / len(pixels)
            true, above = bool(regions[k, y, x]), column[k] > mean + 1e-12
            inter[k] += true and best == k
            union[k] += true or best == k
            cut_inter[k] += true and above
            cut_union[k] += true or above
    present = [k for k in range(4) if regions[k].any()]
    found = segmentation(maps, regions)
    assert_close(found.accuracy, right / len(pixels))
    assert_close(found.miou, sum(inter[k] / union[k] for k in present) / len(present))
    assert_close(found.threshold_miou, sum(cut_inter[k] / cut_union[k] for k in present) / len(present))


@given(st.integers(0, 200))
def test_average_precision_is_scikit_learns(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = torch.Generator().manual_seed(seed)
    scores = torch.randint(6, (20,), generator=random).double()
    truth = torch.rand(20, generator=random) < 0.4
    truth[3] = True
    assert_close(average_precision(scores, truth), float(metrics.average_precision_score(truth, scores)))


def test_mean_average_precision_is_of_the_concepts_in_the_picture() -> None:
    maps, regions = _case(3)
    wide = maps.repeat_interleave(2, 1).repeat_interleave(2, 2)
    known = regions.any(0)
    each = [average_precision(wide[k, known], regions[k, known]) for k in range(4) if regions[k].any()]
    assert len(each) < 4
    assert_close(segmentation(maps, regions).mean_ap, sum(each) / len(each))


def test_true_regions_score_one_and_a_constant_map_its_regions_part() -> None:
    regions = torch.zeros(2, 4, 4, dtype=torch.bool)
    regions[0, :2], regions[1, 2:] = True, True
    best = segmentation(regions.double(), regions)
    assert (best.accuracy, best.miou, best.threshold_miou, best.mean_ap) == (1, 1, 1, 1)
    regions[0, 2] = True
    regions[1, 2] = False
    flat = segmentation(torch.ones(2, 4, 4), regions)
    assert_close([flat.accuracy, flat.miou, flat.mean_ap], [0.75, 0.375, 0.5])


@pytest.mark.parametrize(
    ("maps", "regions", "said"),
    [
        (torch.ones(1, 3, 3), torch.ones(1, 4, 4, dtype=torch.bool), "do not divide"),
        (torch.ones(2, 2, 2), torch.ones(2, 4, 4, dtype=torch.bool), "overlap"),
        (torch.ones(2, 2, 2), torch.zeros(2, 4, 4, dtype=torch.bool), "all empty"),
        (torch.full((1, 2, 2), float("nan")), torch.ones(1, 4, 4, dtype=torch.bool), "not finite"),
        (torch.ones(2, 2, 2), torch.ones(1, 4, 4, dtype=torch.bool), "2 maps were given for 1 regions"),
    ],
)
def test_what_does_not_fit_is_refused(maps: torch.Tensor, regions: torch.Tensor, said: str) -> None:
    with unchecked(), pytest.raises(ApportionError, match=said):
        segmentation(maps, regions)


def test_average_precision_of_nothing_is_refused() -> None:
    with pytest.raises(ApportionError, match="no item is true"):
        average_precision(torch.ones(3), torch.zeros(3, dtype=torch.bool))
