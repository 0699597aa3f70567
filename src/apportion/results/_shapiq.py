"""Export to shapiq: interactions as its `InteractionValues`, for its plots and measures."""

from __future__ import annotations

from typing import Any

from apportion.core import ApportionError
from apportion.results._interactions import Interactions

#: shapiq's name for each index. It has none for the metagame and integrated Hessians; Shapley–Taylor's is of the same
#: kind: what features have alone, and pairs that make up the rest.
NAMES = {
    "metagame": "STII",
    "shapley-taylor": "STII",
    "shapley-interaction": "k-SII",
    "integrated-hessians": "STII",
}


def as_interaction_values(interactions: Interactions) -> Any:
    r"""Interactions as shapiq's `InteractionValues` of order 2.

    Of order 1 is the diagonal, of order 2 the sum of both directions, $\varphi_{j \to i} + \varphi_{i \to j}$. The
    baseline value is what all of them lack of the explained target, so that with it they sum to the prediction.

    Args:
        interactions: Whose targets are the sources.

    Raises:
        ApportionError: The targets are not the sources, the values are scores and no amounts, or shapiq is not
            installed.
    """
    if not interactions.square:
        raise ApportionError(
            f"shapiq's values are of players and pairs of them; here {len(interactions.sources)} sources move "
            f"{len(interactions.targets)} other targets, so there is nothing to export; use targets='players'."
        )
    if interactions.index not in NAMES:
        raise ApportionError(
            f"values of index={interactions.index!r} are scores that rank pairs and no shares, so shapiq has no place "
            "for them; export another index, or use to_frame."
        )
    try:
        from shapiq import InteractionValues
    except ImportError as error:
        raise ApportionError("to_shapiq needs shapiq: pip install 'apportion[interop]' or shapiq itself.") from error
    values, players = interactions.values, len(interactions.sources)
    found: dict[tuple[int, ...], float] = {(i,): values[i, i].item() for i in range(players)}
    found |= {(i, j): (values[i, j] + values[j, i]).item() for i in range(players) for j in range(i + 1, players)}
    return InteractionValues(
        found,
        index=NAMES[interactions.index],
        min_order=1,
        max_order=2,
        n_players=players,
        estimated=interactions.standard_errors is not None,
        estimation_budget=interactions.evaluations or None,
        baseline_value=interactions.explained.value - values.sum().item(),
    )
