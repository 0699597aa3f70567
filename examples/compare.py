"""Compare every method on three predictions of a small language model; writes docs/comparison/*.html and *.png.

python examples/compare.py
"""

from pathlib import Path

import apportion as ap

FOLDER = Path(__file__).parents[1] / "docs" / "comparison"
PROMPTS = {
    "agreement": ("The man who owns the dogs", " is", " are"),
    "fact": ("The capital of France is", " Paris", " London"),
    "name": ("When Mary and John went to the store, John gave a drink to", " Mary", " John"),
}

explainer = ap.load("demo")
FOLDER.mkdir(exist_ok=True)
for name, (prompt, target, contrast) in PROMPTS.items():
    comparison = explainer.compare(prompt, target=target, contrast=contrast, methods="all")
    comparison.to_html(FOLDER / f"{name}.html")
    comparison.plot().savefig(FOLDER / f"{name}.png", dpi=90)
    print(comparison)
