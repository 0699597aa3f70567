"""Playing a metagame: from a task about one prompt to its interactions."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from apportion.core import (
    AnyFeatures,
    ApportionError,
    Feature,
    FeatureKind,
    __version__,
    feature_groups,
    fingerprint,
    group_feature,
    weights_fingerprint,
)
from apportion.games import AnyMasker, CoalitionCache, Masker, Players, players_of
from apportion.metagame._absence import masker_of
from apportion.metagame._attribution_payoff import attribution_payoff
from apportion.metagame._restricted import restricted_payoff
from apportion.metagame.estimators import Budget, Estimator, MetaGame, estimated, third_order
from apportion.methods import Method
from apportion.results import Cost, Explained, Interactions
from apportion.targets import TargetFn
from apportion.task import AttributionTask

MetaTargets = Literal["players", "features"] | AnyFeatures
AnyOf = Literal["auto"] | MetaTargets
"""Whose attribution is divided: the game's `"players"`, `"features"` (every feature of the prompt, also those that are
always present), `"patches"` (every part of an image), or parts of the prompt, named as players are. `"auto"` is the
players; if words of a caption are removed, the patches."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """How a metagame is played: which parts are removed, how, and how many coalitions are evaluated.

    Args:
        players: The parts that are removed, the sources of effects: `"tokens"`, `"words"`, `"sentences"`,
            `"paragraphs"`, `"patches"`, or spans as `Attribution.spans` takes them; everything outside the spans is
            always present. By default tokens; for an image with a caption (or several, `ap.Pair(image, [text, text])`)
            the caption's words.
        masker: How players are removed. By default by the tokenizer's mask token, without one by the mean embedding,
            or, if model or method do not read embeddings, by deletion; a method that removes features itself uses its
            own masker for the game too.
        estimator: `"exact"` evaluates all coalitions of up to 16 players; `"regression"`, `"tree-proxy"` (needs
            scikit-learn) and `"permutations"` sample; `"auto"` chooses by players and budget, see
            `metagame.estimated`.
        budget: How many coalitions are evaluated at most; `"auto"` evaluates all for up to 8 players, else 8 to 64
            coalitions per player, as many as `tolerance` needs. If 64 are too few, `standard_errors` show it.
        tolerance: With `budget="auto"`, the standard error at which sampling stops, relative to the values: 0.1 for a
            tenth (root mean squares).
        order: 3 adds the third order, how k changes the effect of j on i; for at most 10 players.
        seed: Of the random coalitions; with the same seed a larger budget extends the same sample.
        path: A safetensors file that caches the payoff of each coalition: an interrupted call continues, and a larger
            budget adds to it.
    """

    players: Literal["auto"] | AnyFeatures = "auto"
    masker: AnyMasker = "auto"
    estimator: Estimator = "auto"
    budget: Budget = "auto"
    tolerance: float = 0.1
    order: Literal[2, 3] = 2
    seed: int = 0
    path: str | os.PathLike[str] | None = None

    def parts(self, default: AnyFeatures) -> AnyFeatures:
        """The players, or `default` if they are `"auto"`."""
        return default if self.players == "auto" else self.players

    def options(self, parts: AnyFeatures) -> dict[str, object]:
        """The options that a result of a game with these players records, JSON-ready."""
        players = parts if isinstance(parts, str) else list(parts)
        return {"players": players, "budget": self.budget, "seed": self.seed}

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            raise ApportionError(f"order={self.order} is not possible; use 2, or 3 for at most 10 players.")


@dataclass(frozen=True)
class MetaTarget:
    """A target of the metagame.

    Args:
        feature: As shown in the result.
        members: The prompt's features whose scores are summed.
        player: Its index among the players; None if it is none.
    """

    feature: Feature
    members: tuple[int, ...]
    player: int | None


def play(task: AttributionTask, method: Method, rules: Game, *, of: AnyOf = "auto", progress: bool) -> Interactions:
    """The interactions for all targets of a task about one prompt, from one game of a first-order method.

    Raises:
        ApportionError: The rules or the method do not fit the prompt, the budget is too small, or the file is of
            another game.
    """
    start, before, parts = time.perf_counter(), replace(task.passes), rules.parts("tokens")
    players = players_of(task, 0, parts)
    meta_targets = meta_targets_of(task, players, "players" if of == "auto" else of)
    groups = [one.members for one in meta_targets]
    masker = masker_of(task, method, rules.masker)
    restricted = restricted_payoff(task, method, players, masker, groups, progress=progress)
    payoff = restricted or attribution_payoff(task, method, players, masker, groups)
    cache = None
    if rules.path is not None:
        cache = CoalitionCache(rules.path, _cache_key(task, method, masker, players, meta_targets))
    player_of = [one.player for one in meta_targets] * len(task.targets)
    game = MetaGame(len(players.groups), payoff, player_of, progress=progress, label="interactions", cache=cache)
    # In a restricted game one coalition costs as much as all, and the third order needs them all.
    known = (restricted is not None and rules.budget == "auto") or rules.order == 3
    estimator = "exact" if known and rules.estimator == "auto" else rules.estimator
    found = estimated(game, estimator=estimator, budget=rules.budget, tolerance=rules.tolerance, seed=rules.seed)
    third = third_order(game) if rules.order == 3 else None
    cost = Cost(
        seconds=time.perf_counter() - start,
        forward=task.passes.forward - before.forward,
        backward=task.passes.backward - before.backward,
    )
    functions = zip(task.target_values.functions[0], task.target_values.values[0], strict=True)
    prompt, count = task.prompts[0], len(meta_targets)

    def of_target(t: int, function: TargetFn, value: float) -> Interactions:
        mine = slice(t * count, (t + 1) * count)
        errors = found.standard_errors
        return Interactions(
            values=found.values[:, mine],
            main_effect=found.main_effect[mine],
            first_order=found.first_order[mine],
            sources=tuple(players.features[column] for column in players.columns),
            features=tuple(one.feature for one in meta_targets),
            source_of=tuple(one.player for one in meta_targets),
            explained=(Explained(label=function.label, unit=function.unit, value=value),),
            index="metagame",
            method=method.name,
            options={**method.options, **rules.options(parts), "masker": masker.name, "estimator": found.estimator},
            standard_errors=None if errors is None else errors[:, mine],
            third=None if third is None else third[:, :, mine],
            evaluations=found.evaluations,
            cost=cost,
            pictures=tuple(picture for continuous in prompt.continuous_inputs for picture in continuous.pictures),
        )

    return Interactions.joined([of_target(t, function, value) for t, (function, value) in enumerate(functions)])


def meta_targets_of(task: AttributionTask, players: Players, targets: MetaTargets) -> list[MetaTarget]:
    """The targets of a metagame; an `ApportionError` if there are none of that kind, or a span does not fit."""
    features = task.prompts[0].features
    player_of = {members: player for player, members in enumerate(players.groups)}
    shown = [players.features[column] for column in players.columns]
    if targets == "players":
        return [MetaTarget(shown[k], members, k) for k, members in enumerate(players.groups)]
    if targets == "features":
        named: Sequence[tuple[str | None, list[int]]] = [(None, [i]) for i in range(len(features))]
    elif targets == "patches":
        named = [(None, [i]) for i, feature in enumerate(features) if feature.image is not None]
    else:
        named = [g for g in feature_groups(features, targets) if isinstance(targets, str) or g[0] is not None]
    if not named:
        raise ApportionError(f"of={targets!r} names nothing in this prompt; use 'players' or 'features'.")
    kind: FeatureKind = "word" if targets == "words" else "span"
    return [
        MetaTarget(group_feature(features, group, kind), tuple(group[1]), player_of.get(tuple(group[1])))
        for group in named
    ]


def _cache_key(
    task: AttributionTask, method: Method, masker: Masker, players: Players, meta_targets: Sequence[MetaTarget]
) -> str:
    """A fingerprint of everything that a coalition's attributions depend on."""
    return fingerprint(
        {
            "apportion": __version__,
            "weights": weights_fingerprint(task.head.model),
            "prompt": task.prompts[0].inputs,
            "targets": [task.resolved[0], task.rows[0]],
            # Functions are known by name only, so their values on the prompt tell apart those of the same name.
            "functions": [
                f"{v:.3g}" for t, v in zip(task.targets, task.target_values.values[0], strict=True) if t.of_whole_output
            ],
            "method": [method.name, method.options, method],
            "masker": [masker.name, masker],
            "players": players.groups,
            "divided": [one.members for one in meta_targets],
        }
    )
