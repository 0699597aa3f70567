"""How far half-precision models are from float32: shares and ledgers of a real model, written to docs/precision.md.

python benchmarks/precision.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import apportion as ap

ROOT = Path(__file__).parents[1]
SENTENCES = (
    ("The capital of France is", " Paris", " London"),
    ("The man who owns the dogs", " is", " are"),
    ("The keys to the cabinet", " are", " is"),
    ("The author near the guards", " is", " are"),
    ("She opened the umbrella because it had started to", " rain", " snow"),
    ("The opposite of hot is", " cold", " warm"),
    ("Water is made of hydrogen and", " oxygen", " carbon"),
    ("The teachers that the boy likes", " are", " is"),
    ("Monday, Tuesday, Wednesday,", " Thursday", " Friday"),
    ("He poured the milk into the", " bowl", " car"),
)
METHODS = ("attnlrp", "cp-lrp", "input-x-gradient")
DTYPES = ("bfloat16", "float16")


def main() -> None:
    """Explain every sentence in every precision and write the medians."""
    exact = _explain_all("float32")
    rows = []
    for dtype in DTYPES:
        found = _explain_all(dtype)
        for method in METHODS:
            pairs = [(exact[i][method], found[i][method]) for i in range(len(SENTENCES))]
            rows.append({"dtype": dtype, "method": method, **_distance(pairs)})
    (ROOT / "benchmarks/results").mkdir(exist_ok=True)
    (ROOT / "benchmarks/results/precision.json").write_text(json.dumps(rows, indent=1) + "\n")
    page = _page(rows, _residual(exact))
    (ROOT / "docs/precision.md").write_text(page)
    print(page)


def _explain_all(dtype: str) -> list[dict[str, ap.Attribution]]:
    explainer = ap.load("demo", dtype=dtype)
    return [
        explainer.compare(text, target=target, contrast=contrast, methods=METHODS)
        for text, target, contrast in SENTENCES
    ]


def _distance(pairs: list[tuple[ap.Attribution, ap.Attribution]]) -> dict[str, float]:
    errors = [float((b.scores - a.scores).norm() / a.scores.norm()) for a, b in pairs]
    targets = [abs(b.target.value - a.target.value) / abs(a.target.value) for a, b in pairs]
    same = [int(a.scores.argmax() == b.scores.argmax()) for a, b in pairs]
    residuals = [float(b.ledger.relative_residual) for _, b in pairs if b.ledger is not None]
    return {
        "scores": statistics.median(errors),
        "scores_worst": max(errors),
        "target": statistics.median(targets),
        "same_top": sum(same) / len(same),
        "residual": statistics.median(residuals),
        "residual_worst": max(residuals),
    }


def _residual(exact: list[dict[str, ap.Attribution]]) -> float:
    return max(
        float(a.ledger.relative_residual) for by_method in exact for a in by_method.values() if a.ledger is not None
    )


def _page(rows: list[dict], exact: float) -> str:
    table = "\n".join(
        f"| {r['dtype']} | {r['method']} | {r['scores']:.1%} ({r['scores_worst']:.1%}) | {r['target']:.1%} | "
        f"{r['same_top']:.0%} | {r['residual']:.1e} ({r['residual_worst']:.1e}) |"
        for r in rows
    )
    return f"""# Precision

Relevance is summed in float32 whatever the model's own type, but a model in half precision computes, and passes
gradients, in half precision. This page is written by `benchmarks/precision.py`: SmolLM2-135M-Instruct on
{len(SENTENCES)} sentences, its weights cast from float32, shares compared with those of the float32 model (relative L2
distance, median and worst), the explained logit difference, whether the token with the largest share is the same, and
the ledger's residual relative to its largest entry.

| type | method | shares off by | target off by | same first token | residual |
|---|---|---|---|---|---|
{table}

In float32 the largest residual of all methods and sentences was {exact:.1e}. Where the order of close shares matters,
explain in float32: `ap.load(name, dtype="float32")`.
"""


if __name__ == "__main__":
    main()
