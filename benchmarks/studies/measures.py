"""Does a better score on one measure predict the others? All measures on the same agreement sentences."""

import argparse

import pandas

from apportion.evaluation.agreement import agreement_sentences, items_of
from benchmarks.studies import _models
from benchmarks.studies._study import run, table, write_block
from benchmarks.studies.agreement import METHODS

MEASURED = [
    "ground-truth",
    "perturbation-curves(steps=5)",
    "comprehensiveness-sufficiency",
    "infidelity(samples=32)",
    "leave-one-out-agreement",
    "weight-randomisation",
    "shift-invariance",  # 0 but for rounding, for every method: see docs/decisions/0010
]
COLUMNS = {
    "mrr": "MRR",
    "abpc": "ABPC",
    "comprehensiveness": "comprehensiveness",
    "sufficiency": "sufficiency",
    "infidelity": "infidelity",
    "loo_spearman": "leave-one-out (ρ)",
    "randomised_spearman": "randomised weights (ρ)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=100, help="sentences")
    explainer = _models.smollm2()
    found = run(
        "measures",
        explainer,
        items_of(agreement_sentences(seed=4), explainer),
        methods={**METHODS, "decompx": "decompx", "shapley": "shapley(budget=40)"},
        measures=MEASURED,
        limit=parser.parse_args().limit,
    )
    write_block("measures", "means", table(found.summary(), COLUMNS))
    write_block("measures", "correlations", _correlations(found.rank_correlations()))


def _correlations(found: pandas.DataFrame) -> str:
    shown = found.loc[list(COLUMNS), list(COLUMNS)]
    lines = [f"| | {' | '.join(COLUMNS.values())} |", f"|---|{'---:|' * len(COLUMNS)}"]
    for name, row in shown.iterrows():
        cells = ["–" if value != value else f"{value:.2f}".replace("-", "−") for value in row]
        lines.append(f"| {COLUMNS[str(name)]} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
