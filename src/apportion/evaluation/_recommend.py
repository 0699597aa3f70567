"""Recommendation: which method a small evaluation on the user's own texts speaks for, and how surely."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from apportion.core import ApportionError
from apportion.engine import AnyMethods, Engine, named_methods
from apportion.evaluation._data import as_data
from apportion.evaluation._item import Item
from apportion.evaluation._registry import MEASURES, AnyMeasure, as_measure
from apportion.evaluation._run import Run, evaluate
from apportion.games import AnyMasker
from apportion.methods import AnyMethod, LeaveOneOut, as_method
from apportion.results.evaluation import RANDOM, RESAMPLES, Candidate, Column, Evaluation, Recommendation, intervals

#: What a recommendation chooses from unless told otherwise, with Shapley values as far as the texts' length allows.
CANDIDATES = (
    "attnlrp",
    "cp-lrp",
    "gim",
    "decompx",
    "alti-logit",
    "input-x-gradient",
    "integrated-gradients(steps=16)",
    "gradient",
    "rollout",
    "leave-one-out",
)

#: What it measures unless told otherwise; the first decides.
RECOMMENDED_BY = ("perturbation-curves", "comprehensiveness-sufficiency", "infidelity", "leave-one-out-agreement")

#: Measures that remove parts of the prompt, at which methods that do so too are at home.
REMOVING = frozenset(RECOMMENDED_BY)

#: Fewer texts tell nothing.
FEWEST = 5

# How many coalitions Shapley values are given for texts of so many tokens; orders need two a token.
BUDGETS = {32: 64, 64: 128, 128: 256}


def recommend(
    engine: Engine,
    texts: Any,
    *,
    methods: AnyMethods | None = None,
    measures: Sequence[AnyMeasure] | None = None,
    by: str | None = None,
    limit: int = 30,
    masker: AnyMasker = "auto",
    seed: int = 0,
    path: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Recommendation:
    """See `Explainer.recommend`."""
    chosen = [as_measure(measure) for measure in (RECOMMENDED_BY if measures is None else measures)]
    deciding = _deciding([column for measure in chosen for column in measure.columns], by)
    items = list(itertools.islice(as_data(texts, engine, seed=seed), limit))
    if len(items) < FEWEST:
        raise ApportionError(
            f"{len(items)} texts were given; from fewer than {FEWEST} no method can be recommended. Give more, "
            "at best 20 or more."
        )
    if methods is None:
        methods = _candidates(engine, items)
    run = Run(engine=engine, methods=named_methods(methods), measures=chosen, masker=masker, seed=seed, data="")
    evaluation = evaluate(run, items, path=path, progress=progress)
    given = dict(methods) if isinstance(methods, Mapping) else {}
    if not isinstance(methods, Mapping | str):
        given = {one if isinstance(one, str) else as_method(one).name: one for one in methods}
    return recommendation_of(evaluation, deciding, given)


def recommendation_of(evaluation: Evaluation, measure: Column, given: Mapping[str, AnyMethod]) -> Recommendation:
    """What an evaluation comes to by one of its measures.

    Only methods that have a number for every text that has one for the random order take part: one that fails on some
    of the texts can be neither compared nor trusted with them.

    Args:
        evaluation: With at least so many texts.
        measure: The column that decides.
        given: By label, the methods as `explain` takes them.

    Raises:
        ApportionError: Too few texts could be measured, or no method served them all.
    """
    table = evaluation.to_frame().pivot(index="item", columns="method", values=measure.name)
    table = table.reindex(columns=evaluation.methods).dropna(subset=[RANDOM])
    complete = [name for name in evaluation.methods if name != RANDOM and not table[name].isna().any()]
    refused = _refused(evaluation, [name for name in evaluation.methods if name not in (*complete, RANDOM)])
    reasons = "; ".join(f"{name}: {reason}" for name, (_, reason) in itertools.islice(refused.items(), 1))
    if len(table) < FEWEST:
        raise ApportionError(
            f"only {len(table)} texts could be measured, and from fewer than {FEWEST} no method can be recommended. "
            f"{reasons}".strip()
        )
    if not complete:
        raise ApportionError(f"no method served all {len(table)} texts, so none can be recommended. {reasons}")
    sign = {"higher": 1.0, "lower": -1.0}[measure.better]
    values, random = table[complete].to_numpy(float), table[[RANDOM]].to_numpy(float)
    order = np.argsort(-sign * values.mean(0), kind="stable")
    complete, values = [complete[i] for i in order], values[:, order]
    seed = int(evaluation.settings["seed"])
    means, of_random = intervals(values, seed=seed), intervals(random, seed=seed)
    behind, above = (intervals(sign * d, seed=seed) for d in (values[:, :1] - values, values - random))
    first = _how_often_first(sign * values, seed)
    costs = {row.pop("method"): row for row in evaluation.costs().to_dict("records")}
    self_removing = any(
        measure in MEASURES[name].columns for name in evaluation.settings["measures"] if name in REMOVING
    )
    removing = {name for name in complete if _removes(given.get(name, name))}
    ranks = _ranks(evaluation, complete, measure, given)
    return Recommendation(
        evaluation=evaluation,
        measure=measure,
        texts=len(table),
        candidates=tuple(
            Candidate(
                method=name,
                mean=float(means.mean[i]),
                low=float(means.low[i]),
                high=float(means.high[i]),
                behind=float(behind.mean[i]),
                behind_low=float(behind.low[i]),
                behind_high=float(behind.high[i]),
                first=float(first[i]),
                tied=bool(i == 0 or behind.low[i] <= 0),
                above_random=float(above.mean[i]),
                above_random_low=float(above.low[i]),
                above_random_high=float(above.high[i]),
                self_removing=self_removing and name in removing,
                ranks=ranks[name],
                **costs[name],
            )
            for i, name in enumerate(complete)
        ),
        random=(float(of_random.mean[0]), float(of_random.low[0]), float(of_random.high[0])),
        refused=refused,
        given=given,
    )


def _deciding(columns: Sequence[Column], by: str | None) -> Column:
    """The column that decides: the one named, or the first that speaks for some methods rather than others."""
    fitting = [column for column in columns if column.better and not column.curve]
    for column in fitting:
        if by is None or column.name == by:
            return column
    if by is None:
        raise ApportionError("none of these measures speaks for some methods rather than others; add another.")
    raise ApportionError(f"by={by!r} cannot decide; these measures have {', '.join(c.name for c in fitting)}.")


def _candidates(engine: Engine, items: Iterable[Item]) -> list[AnyMethod]:
    longest = 0
    for item in items:
        try:
            longest = max(longest, len(engine.prepare(item.prompt, [item.asked], ()).prompts[0].features))
        except ApportionError:
            continue  # the evaluation will say why
    budget = next((budget for length, budget in BUDGETS.items() if longest <= length), None)
    return [*CANDIDATES, *([] if budget is None else [f"shapley(budget={budget})"])]


def _how_often_first(values: Float[np.ndarray, "text method"], seed: int) -> Float[np.ndarray, " method"]:
    """In what part of many draws of the texts each method has the largest mean; equal ones share it."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    means = values[drawn].mean(1)
    best = means == means.max(1, keepdims=True)
    return (best / best.sum(1, keepdims=True)).mean(0)


def _removes(method: AnyMethod) -> bool:
    """Whether a method removes parts of the prompt by a masker, as measures do."""
    return hasattr(as_method(method), "masker")


def _refused(evaluation: Evaluation, methods: Sequence[str]) -> dict[str, tuple[int, str]]:
    found = {row["method"]: (int(row["items"]), str(row["reason"])) for row in evaluation.refusals().to_dict("records")}
    return {name: found.get(name, (0, "its measure is not defined on every text")) for name in methods}


def _ranks(
    evaluation: Evaluation, methods: Sequence[str], measure: Column, given: Mapping[str, AnyMethod]
) -> dict[str, dict[str, int]]:
    """For each method its rank among the methods, by the mean of each other measure; equal ones share the best."""
    ranks: dict[str, dict[str, int]] = {name: {} for name in methods}
    means = evaluation.summary().pivot(index="method", columns="measure", values="mean")
    agreement = {column.name for column in MEASURES["leave-one-out-agreement"].columns}
    itself = [name for name in methods if isinstance(as_method(given.get(name, name)), LeaveOneOut)]
    for column in evaluation.columns:
        if column == measure or not column.better or column.curve or column.name not in means:
            continue
        # What is compared with leave-one-out says nothing about leave-one-out.
        compared = [name for name in methods if column.name not in agreement or name not in itself]
        of_column = means.loc[compared, column.name].dropna().rank(method="min", ascending=column.better == "lower")
        for name, rank in of_column.items():
            ranks[str(name)][column.name] = int(rank)
    return ranks
