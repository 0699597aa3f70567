"""The literal rules against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.reference.literal_rules import (
    Composite,
    attention_head,
    attention_head_rule,
    layer_norm,
    layer_norm_rule,
    linear_rule,
    product_rule,
    rotation,
    softmax_rule,
    sum_rule,
)


def tensor(*rows: list[float] | float) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_linear_rule_shares_by_contribution_and_the_bias_keeps_its_share() -> None:
    # z = 1*2 + 3*1 + 5 = 10, so of R = 20: 4 to the first input, 6 to the second, 10 to the bias.
    passed_on, kept = linear_rule(tensor([2.0, 1.0]), tensor([1.0, 3.0]), tensor(5.0), tensor([20.0]))
    assert_close(passed_on, tensor([4.0, 6.0]))
    assert kept == pytest.approx(10.0)


def test_a_value_of_zero_is_refused() -> None:
    with pytest.raises(ZeroDivisionError, match="1 of 1 values are exactly 0"):
        linear_rule(tensor([1.0, 1.0]), tensor([1.0, -1.0]), None, tensor([0.0]))


def test_sum_rule_may_give_a_term_more_than_all() -> None:
    to_a, to_b = sum_rule([tensor(3.0), tensor(-1.0)], tensor(4.0))
    assert_close(torch.cat([to_a, to_b]), tensor(6.0, -2.0))


def test_product_rule_halves_or_holds_the_gate() -> None:
    assert product_rule(tensor(8.0), "attnlrp") == (tensor(4.0), tensor(4.0))
    assert product_rule(tensor(8.0), "cp_lrp") == (tensor(0.0), tensor(8.0))


def test_layer_norm_rule_is_the_linear_rule_of_the_centred_and_scaled_input() -> None:
    # x = (3, 1): mean 2, sigma 1, so y = (1, -1) * (2, 4) + (2, 2) = (4, -2). With R = (4, -2), R/y = (1, 1):
    # input i receives x_i * (2 - (2 + 4)/2, 4 - (2 + 4)/2)_i = (3 * -1, 1 * 1); the bias keeps 2 + 2.
    x, weight, bias = tensor([3.0, 1.0]), tensor(2.0, 4.0), tensor(2.0, 2.0)
    assert_close(layer_norm(x, weight, bias, 0.0), tensor([4.0, -2.0]))
    passed_on, kept = layer_norm_rule(x, weight, bias, 0.0, tensor([4.0, -2.0]))
    assert_close(passed_on, tensor([-3.0, 1.0]))
    assert kept == pytest.approx(4.0)


def test_softmax_rule_at_known_probabilities() -> None:
    x, s = tensor(0.0, math.log(3)), tensor(0.25, 0.75)
    assert_close(softmax_rule(x, s, tensor(1.0, 0.0)), tensor(0.0, -0.75 * math.log(3)))


def test_rotation_turns_by_its_angle_and_keeps_lengths() -> None:
    quarter = rotation(tensor(math.pi / 2, 0.0))
    assert_close(quarter @ tensor(1.0, 2.0, 3.0, 4.0), tensor(-3.0, 2.0, 1.0, 4.0))


def attention_case() -> tuple[Tensor, Tensor, Tensor]:
    """One dimension, two positions: the second query sees keys ln 3 and 0, so it weighs them 3/4 and 1/4."""
    return tensor([2.0], [1.0]), tensor([math.log(3)], [0.0]), tensor([4.0], [8.0])


def test_attention_weighs_values_by_the_softmax_of_the_scores() -> None:
    q, k, v = attention_case()
    k[1] = 1e-300  # as good as 0, and not refused
    assert_close(attention_head(q, k, v, causal=True), tensor([4.0], [5.0]))


@pytest.mark.parametrize("composite", ["attnlrp", "cp_lrp"])
def test_attention_shares_as_by_hand(composite: Composite) -> None:
    # o = 3/4 * 4 + 1/4 * 8 = 5. Of R = 5 the values contributed 3 and 2.
    # AttnLRP: half of each to the values; (1.5, 1) to the weights; the scores (ln 3, 0) then receive
    # ln 3 * (1.5 - 0.75 * 2.5) and 0; query and key halve that; the rest stays with the softmax.
    q, k, v = attention_case()
    k[1] = 1e-300
    to_q, to_k, to_v, kept = attention_head_rule(q, k, v, tensor([0.0], [5.0]), causal=True, composite=composite)
    if composite == "cp_lrp":
        assert_close(to_v, tensor([3.0], [2.0]))
        assert_close((to_q, to_k, kept), (tensor([0.0], [0.0]), tensor([0.0], [0.0]), 0.0))
    else:
        of_scores = math.log(3) * (1.5 - 0.75 * 2.5)
        assert_close(to_v, tensor([1.5], [1.0]))
        assert_close(to_q, tensor([0.0], [of_scores / 2]))
        assert_close(to_k, tensor([of_scores / 2], [0.0]))
        assert kept == pytest.approx(2.5 - of_scores)
