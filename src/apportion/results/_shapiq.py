"""Export to shapiq: interactions as its `InteractionValues`, for its plots and measures."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError

#: shapiq's name for each index. It has none for the metagame and integrated Hessians; Shapley–Taylor's is of the same
#: kind: what features have alone, and pairs that make up the rest.
NAMES = {"metagame": "STII", "shapley-taylor": "STII", "shapley-interaction": "k-SII", "integrated-hessians": "STII"}


def as_interaction_values(
    values: Float[Tensor, "player player"], *, index: str, total: float, estimated: bool, evaluations: int
) -> Any:
    r"""Interactions as shapiq's `InteractionValues` of order 2.

    Of order 1 is the diagonal, of order 2 the sum of both directions, $\varphi_{j \to i} + \varphi_{i \to j}$. The
    baseline value is what all of them lack of `total`, so that with it they sum to the prediction.

    Args:
        values: $\varphi_{j \to i}$.
        index: What they are; see `Interactions.index`.
        total: The explained target's value.
        estimated: Whether they were drawn at random.
        evaluations: How many distinct coalitions were evaluated.

    Raises:
        ApportionError: The values are scores and no amounts, or shapiq is not installed.
    """
    if index not in NAMES:
        raise ApportionError(
            f"values of index={index!r} are scores that rank pairs and no shares, so shapiq has no place "
            "for them; export another index, or use to_frame."
        )
    try:
        from shapiq import InteractionValues
    except ImportError as error:
        raise ApportionError("to_shapiq needs shapiq: pip install 'apportion[interop]' or shapiq itself.") from error
    players = len(values)
    found: dict[tuple[int, ...], float] = {(i,): values[i, i].item() for i in range(players)}
    found |= {(i, j): (values[i, j] + values[j, i]).item() for i in range(players) for j in range(i + 1, players)}
    return InteractionValues(
        found,
        index=NAMES[index],
        min_order=1,
        max_order=2,
        n_players=players,
        estimated=estimated,
        estimation_budget=evaluations or None,
        baseline_value=total - values.sum().item(),
    )
