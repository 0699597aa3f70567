"""Which method ranks tokens most faithfully? Perturbation curves of all methods on beginnings of sentences."""

import argparse

from apportion.evaluation import Evaluation
from benchmarks.studies import _models
from benchmarks.studies._reactions import reactions
from benchmarks.studies._similarities import similarities
from benchmarks.studies._study import run, save, table, write_block
from benchmarks.studies._texts import beginnings

# Every method that needs no option; those that draw samples draw fewer than by default.
METHODS = {
    "gradient (L2)": "gradient",
    "input-x-gradient": "input-x-gradient",
    "integrated-gradients": "integrated-gradients(steps=8)",
    "smoothgrad": "smoothgrad(samples=4)",
    "expected-gradients": "expected-gradients(samples=4)",
    "attnlrp": "attnlrp",
    "cp-lrp": "cp-lrp",
    "res-lrp": "res-lrp",
    "gim": "gim",
    "pa-lrp": "pa-lrp",
    "alti": "alti",
    "alti-logit": "alti-logit",
    "decompx": "decompx",
    "globenc": "globenc",
    "rollout": "rollout",
    "value-zeroing": "value-zeroing",
    "chefer": "chefer",
    "grad-cam": "grad-cam",
    "grad-rollout": "grad-rollout",
    "atman": "atman",
    "leave-one-out": "leave-one-out",
    "occlusion": "occlusion",
    "shapley": "shapley(budget=24)",
    "banzhaf": "banzhaf(budget=24)",
    "context-cite": "context-cite(features='tokens', ablations=24)",
}
MEASURED = ["perturbation-curves(steps=5)"]
COLUMNS = {
    "abpc": "ABPC (logit)",
    "abpc_probability": "ABPC (probability)",
}


# Reactions have more tokens, and each order of them takes as many coalitions.
MORE = {"shapley": "shapley(budget=80)", "banzhaf": "banzhaf(budget=80)"}
SAVED = {"abpc": "faithfulness-abpc", "cost": "faithfulness-cost"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=200, help="texts for the language model")
    parser.add_argument("--small", type=int, default=10, help="items for each of the small models")
    options = parser.parse_args()
    found = language_model(options.limit)
    write_block("faithfulness", "language model", table(found.summary(), COLUMNS))
    for plot, name in SAVED.items():
        save(found.plot(plot), name)
    for name, small in small_models(options.small).items():
        write_block("faithfulness", name, table(small.summary(), COLUMNS))
        write_block("faithfulness", f"{name} refusals", _refusals(small))


def language_model(limit: int) -> Evaluation:
    return run(
        "faithfulness-smollm2",
        _models.smollm2(),
        beginnings(),
        methods=METHODS,
        measures=MEASURED,
        limit=limit,
    )


def small_models(limit: int) -> dict[str, Evaluation]:
    """The sentence encoder and the masked model of chemistry."""
    encoder, chemistry = _models.minilm(), _models.chemistry()
    data = {
        "encoder": (encoder, similarities(encoder), METHODS),
        "chemistry": (chemistry, reactions(), {**METHODS, **MORE}),
    }
    return {
        name: run(f"faithfulness-{name}", explainer, items, methods=methods, measures=MEASURED, limit=limit)
        for name, (explainer, items, methods) in data.items()
    }


def _refusals(found: Evaluation) -> str:
    rows = found.refusals()
    return "\n".join(f"- {row.method}, {row.items} of {len(found)} items: {row.reason}" for row in rows.itertuples())


if __name__ == "__main__":
    main()
