"""Who finds a cause that is known by construction? All methods on the planted models, for docs/planted-truth.md."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas

from apportion.evaluation import Case
from apportion.evaluation.planted import planted
from apportion.methods import Method, Shares, as_method
from apportion.task._task import AttributionTask
from benchmarks.studies._study import run, write_block

PAGE = "../planted-truth"
NAMES = ("copy", "lookup", "compare", "saturated", "switch", "twice")
METHODS = {
    "gradient (L2)": "gradient",
    "gradient (L1)": "gradient(norm='l1')",
    "input-x-gradient": "input-x-gradient",
    "integrated-gradients": "integrated-gradients",
    "attnlrp": "attnlrp",
    "cp-lrp": "cp-lrp",
    "gim": "gim",
    "alti-logit": "alti-logit",
    "rollout": "rollout",
    "leave-one-out": "leave-one-out",
    "shapley": "shapley",
}
#: What is varied of a model, and for which methods.
SWEEPS = {
    "switch": ("sharpness", (4, 6, 8, 10, 12, 16, 24, 40, 80)),
    "saturated": ("steepness", (0.5, 1, 2, 3, 5, 10, 25)),
}
SWEPT = {
    name: name for name in ("attnlrp", "cp-lrp", "input-x-gradient", "gim", "integrated-gradients", "leave-one-out")
}
SWEPT_ITEMS = 20
#: After the decimal point, of shares in logits.
DIGITS = 9


@dataclass(frozen=True, kw_only=True)
class Rounded(Method):
    """Another method, its shares rounded to `DIGITS`: what it does not see is a tie then, not a rank by rounding error.

    Args:
        method: The other.
    """

    method: Method
    name = "rounded"

    def attribute(self, task: AttributionTask) -> Shares:
        shares = self.method.attribute(task)
        return replace(shares, scores=[scores.round(decimals=DIGITS) for scores in shares.scores])


def rounded(methods: Mapping[str, str]) -> dict[str, Method]:
    return {label: Rounded(method=as_method(method)) for label, method in methods.items()}


def means(found: pandas.DataFrame, measure: str) -> dict[str, float]:
    chosen = found[found.measure == measure]
    return dict(zip(chosen.method, chosen["mean"], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=50, help="texts for each model")
    limit = parser.parse_args().limit
    scores: dict[str, dict[str, dict[str, float]]] = {}
    lines = []
    for name in NAMES:
        truth = planted(name)
        found = run(
            f"planted-{name}", truth.engine, truth.items(limit), methods=rounded(METHODS), measures=["ground-truth"]
        )
        scores[name] = {measure: means(found.summary(), measure) for measure in ("mrr", "pg1")}
        right, known = found.accuracy
        lines.append(f"{name} {right} of {known}")
        for row in found.refusals().itertuples():
            lines.append(f"{row.method} refused {row.items} texts of {name} ({row.reason})")
    head = f"| method | {' | '.join(NAMES)} |\n|---|{'---:|' * len(NAMES)}\n"
    rows = [
        f"| {method} | " + " | ".join(cell(scores[name], method) for name in NAMES) + " |"
        for method in (*METHODS, "random")
    ]
    said = f"Right answers of the models: {'; '.join(lines)}."
    write_block(PAGE, "methods", head + "\n".join(rows) + f"\n\n{said}")
    write_block(PAGE, "lookup", causes_found("lookup", limit))
    for name, (option, values) in SWEEPS.items():
        write_block(PAGE, name, sweep(name, option, values))


def cell(of_model: dict[str, dict[str, float]], method: str) -> str:
    mrr, pg1 = of_model["mrr"].get(method), of_model["pg1"].get(method)
    if mrr is None or pg1 is None or mrr != mrr:
        return "–"
    return f"{mrr:.2f} / {pg1:.2f}"


def causes_found(name: str, limit: int) -> str:
    """How many of an item's causes stand above all distractors, in the mean."""
    truth = planted(name)
    methods = rounded(METHODS)
    counts = dict.fromkeys(methods, 0)
    for item in truth.items(limit):
        case = Case(truth.engine, item, methods=methods.values())
        for label, method in methods.items():
            scores = case.ranked(case.attribution(method)).scores
            counts[label] += int((scores[case.truth] > scores[~case.truth].max()).sum())
    lines = [f"| {label} | {count / limit:.2f} |" for label, count in counts.items()]
    return "| method | causes found, of 3 |\n|---|---:|\n" + "\n".join(lines)


def sweep(name: str, option: str, values: tuple[float, ...]) -> str:
    """PG@1 by method and strength."""
    lines = [f"| {option} | {' | '.join(SWEPT)} |", f"|---:|{'---:|' * len(SWEPT)}"]
    for value in values:
        truth = planted(name, **{option: value})
        found = truth.engine.evaluate(truth.items(SWEPT_ITEMS), methods=rounded(SWEPT), measures=["ground-truth"])
        hits = means(found.summary(), "pg1")
        lines.append(f"| {value:g} | {' | '.join(f'{hits[method]:.2f}' for method in SWEPT)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
