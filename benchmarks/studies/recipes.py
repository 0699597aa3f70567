"""Which rule of AttnLRP earns its keep, and does a searched recipe beat it on held-out items?"""

import argparse

from apportion.evaluation import Evaluation
from apportion.evaluation.agreement import agreement_sentences, items_of
from benchmarks.studies import _models, _recipes
from benchmarks.studies._study import run, table, write_block

MEASURES = {"mrr": "MRR", "pg1": "PG@1", "rma": "RMA", "loo_pearson": "Pearson", "loo_spearman": "Spearman"}
MEASURED = ["ground-truth", "leave-one-out-agreement"]
# Sentences from different seeds; the held-out ones were never looked at in the search.
SEARCHED, HELD_OUT = 2, 3
BEST = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=150, help="held-out sentences")
    parser.add_argument("--search", type=int, default=40, help="sentences that recipes are searched on")
    parser.add_argument("--recipes", type=int, default=40, help="recipes that are tried")
    options = parser.parse_args()
    explainer = _models.smollm2()
    layers = explainer.model.config.num_hidden_layers
    searched = run(
        "recipes-search",
        explainer,
        items_of(agreement_sentences(seed=SEARCHED), explainer),
        methods={"AttnLRP": _recipes.one_rule_changed(layers)["AttnLRP"], **_recipes.drawn(layers, options.recipes)},
        measures=MEASURED,
        limit=options.search,
    )
    chosen = {
        f"searched for {MEASURES[measure]} ({k + 1})": _recipes.drawn(layers, options.recipes)[label]
        for measure in ("mrr", "loo_spearman")
        for k, label in enumerate(_leaders(searched, measure)[:BEST])
    }
    held_out = run(
        "recipes-held-out",
        explainer,
        items_of(agreement_sentences(seed=HELD_OUT), explainer),
        methods={**_recipes.one_rule_changed(layers), **chosen},
        measures=MEASURED,
        limit=options.limit,
    )
    write_block("recipes", "search", _search_table(searched))
    write_block("recipes", "held-out", table(held_out.summary(), MEASURES))
    for measure in ("mrr", "loo_spearman"):
        write_block("recipes", f"difference {measure}", _differences(held_out, measure))


def _leaders(evaluation: Evaluation, measure: str) -> list[str]:
    """The recipes by falling mean."""
    rows = evaluation.summary()
    rows = rows[(rows.measure == measure) & ~rows.method.isin(["AttnLRP", "random"])]
    return list(rows.sort_values("mean", ascending=False).method)


def _search_table(evaluation: Evaluation) -> str:
    rows = evaluation.summary()
    best = {*_leaders(evaluation, "mrr")[:BEST], *_leaders(evaluation, "loo_spearman")[:BEST], "AttnLRP", "random"}
    return table(rows[rows.method.isin(best)], MEASURES)


def _differences(evaluation: Evaluation, measure: str) -> str:
    """Each recipe less AttnLRP, on the same sentences."""
    rows = evaluation.differences(measure, to="AttnLRP").sort_values("difference", ascending=False)
    lines = ["| recipe | less AttnLRP | beyond chance |", "|---|---:|---|"]
    for row in rows.itertuples():
        if row.method == "AttnLRP":
            continue
        verdict = "better" if row.low > 0 else "worse" if row.high < 0 else ""
        shown = f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]".replace("-", "−")
        lines.append(f"| {row.method} | {shown} | {verdict} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
