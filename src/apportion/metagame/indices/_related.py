"""Related indices: other second orders of the same prediction, in the metagame's format, for comparison."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.games import CooperativeGame, Players, as_masker, in_prompt, players_of, target_payoff
from apportion.games.values import shapley_interaction, shapley_taylor
from apportion.metagame._play import AnyOf, Game
from apportion.metagame.indices._integrated_hessians import integrated_hessians
from apportion.metagame.indices._pair_scores import pair_scores
from apportion.methods import IntegratedGradients, Method, Shapley
from apportion.results import Cost, Explained, Interactions
from apportion.task import AttributionTask

Index = Literal["metagame", "shapley-taylor", "shapley-interaction", "integrated-hessians", "first-order-pairs"]

#: The method whose first order an index divides, for indices that fix it.
METHOD_OF: Mapping[str, str] = {
    "shapley-taylor": "shapley",
    "shapley-interaction": "shapley",
    "integrated-hessians": "integrated-gradients",
}


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A symmetric second order, with the number of coalitions evaluated and the options for the result."""

    values: Float[Tensor, "targets players players"]
    first_order: Float[Tensor, "targets players"]
    evaluations: int = 0
    options: Mapping[str, Any]


def related_index(
    task: AttributionTask, method: Method, rules: Game, index: Index, *, of: AnyOf = "auto", progress: bool
) -> Interactions:
    r"""Another second order for all of a task's targets; every one is symmetric.

    - `"shapley-taylor"`: half of each pair's index in both directions, and on the diagonal the value of a player
      alone, $f(\{i\}) - f(\emptyset)$. Columns sum to Shapley values. Equal to the metagame of Shapley values.
    - `"shapley-interaction"`: half of each pair's index in both directions; on the diagonal the Shapley value less
      half of the player's pairs, so that columns sum to Shapley values.
    - `"integrated-hessians"`: columns sum to integrated gradients; the gap holds the quadrature error and interactions
      with features that are no players.
    - `"first-order-pairs"`: $|R_a + R_b|$, $|R_a|$ on the diagonal; scores for ranking, whose gap to R has no meaning.

    Args:
        task: About one prompt.
        method: `shapley` without options, `integrated-gradients` with its steps and baseline, or for pairs any method.
        rules: The players, and the masker if the index needs one.
        index: Not `"metagame"`.
        of: Only the players.
        progress: Whether a progress bar may be shown.

    Raises:
        ApportionError: An option does not fit the index, or there are too many players.
    """
    check_index(index)
    _check_rules(rules, index, of)
    start, before, parts = time.perf_counter(), replace(task.passes), rules.parts("tokens")
    players = players_of(task, 0, parts)
    if index in ("shapley-taylor", "shapley-interaction"):
        found = _of_game(task, method, rules, players, index, progress)
    elif index == "integrated-hessians":
        found = _of_hessians(task, method, players)
    else:
        first = _first_order(task, method, players)
        found = _Found(values=pair_scores(first.T).permute(2, 0, 1), first_order=first, options=method.options)
    cost = Cost(
        seconds=time.perf_counter() - start,
        forward=task.passes.forward - before.forward,
        backward=task.passes.backward - before.backward,
    )
    shown = tuple(players.features[column] for column in players.columns)
    each = [
        Interactions(
            values=values,
            main_effect=values.diagonal().clone(),
            first_order=first,
            sources=shown,
            features=shown,
            source_of=tuple(range(len(shown))),
            explained=(Explained(label=function.label, unit=function.unit, value=value),),
            index=index,
            method=method.name,
            options={**found.options, "players": rules.options(parts)["players"]},
            evaluations=found.evaluations,
            cost=cost,
            pictures=tuple(
                picture for continuous in task.prompts[0].continuous_inputs for picture in continuous.pictures
            ),
        )
        for values, first, function, value in zip(
            found.values, found.first_order, task.target_values.functions[0], task.target_values.values[0], strict=True
        )
    ]
    return Interactions.joined(each)


def check_index(index: str) -> None:
    """Reject an unknown index."""
    if index not in get_args(Index):
        raise ApportionError(f"index={index!r} is not known; use {', '.join(map(repr, get_args(Index)))}.")


def _check_rules(rules: Game, index: str, of: AnyOf) -> None:
    """Reject options that an index would ignore."""
    played = index.startswith("shapley")
    unfit = {
        "order": rules.order != 2,
        "masker": rules.masker != "auto" and not played,
        "estimator": rules.estimator not in (("auto", "exact") if played else ("auto",)),
        "budget": rules.budget != "auto" and not played,
        "path": rules.path is not None,
    }
    wrong = [f"{name}={getattr(rules, name)!r}" for name, refused in unfit.items() if refused]
    wrong += [f"of={of!r}"] if of not in ("auto", "players") else []
    if wrong:
        raise ApportionError(
            f"index={index!r} has no use for {', '.join(wrong)}: it is symmetric, of order 2"
            f"{' and exact' if played else ', and makes no feature absent'}; leave these out."
        )


def _of_game(
    task: AttributionTask, method: Method, rules: Game, players: Players, index: str, progress: bool
) -> _Found:
    if method != Shapley():
        raise ApportionError(
            f"index={index!r} divides the target itself by all coalitions; leave method out, and give players and "
            f"masker to interactions (method={method.name!r} was given)."
        )
    game = CooperativeGame(
        len(players.groups),
        target_payoff(task, 0, players, rules.masker),
        budget=None if rules.budget == "auto" else rules.budget,
        progress=progress,
        label=index,
    )
    found = (shapley_taylor if index == "shapley-taylor" else shapley_interaction)(game)
    return _Found(
        values=(found.pairs / 2 + torch.eye(game.players)[:, :, None] * found.singles[None]).permute(2, 0, 1),
        first_order=found.shapley.T,
        evaluations=found.evaluations,
        options={"masker": in_prompt(as_masker(rules.masker), task).name},
    )


def _of_hessians(task: AttributionTask, method: Method, players: Players) -> _Found:
    if not isinstance(method, IntegratedGradients) or method.quadrature != "gauss-legendre":
        raise ApportionError(
            "index='integrated-hessians' belongs to integrated gradients and has a quadrature of its own; leave method "
            f"out, or give steps and baseline, as in 'integrated-gradients(steps=50)' ({method.name!r} was given)."
        )
    values = integrated_hessians(task, method, players.groups)
    return _Found(values=values, first_order=_first_order(task, method, players), options=method.options)


def _first_order(task: AttributionTask, method: Method, players: Players) -> Float[Tensor, "targets players"]:
    """A method's attribution to each player."""
    shares = method.attribute(task)
    if shares.features is not None:
        raise ApportionError(
            f"the method {method.name!r} divides among groups of its own; leave its option features at 'tokens', and "
            "name the players of the interactions."
        )
    scores = shares.scores[0].detach().double().cpu()
    return torch.stack([scores[:, list(group)].sum(1) for group in players.groups], 1)
