"""How every method's time and memory grow with the length of the text, the number of layers and the width.

    python -m benchmarks.growth                 # all methods; writes results/growth.json, growth.md and growth.png
    python -m benchmarks.growth --methods rollout --lengths 16,32 --rounds 1 --no-write

A Llama with random weights; each method has its default options, so that a method that samples has a fixed budget and
one that goes through the tokens has none. The exponent is the slope of log seconds over log n between the two longest
texts: 1 means twice the text, twice the time.
"""

import argparse
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import apportion
from apportion.methods import METHODS, required_options
from benchmarks._measure import memory, seconds

RESULTS = Path(__file__).parent / "results"
FAMILIES = ("backward", "forward", "perturbation")
VOCABULARY = 8000
WIDTH, LAYERS = 256, 4
# A method is not run on longer texts once it takes so long.
PATIENCE = 20.0
# The profiler takes longer than a short call, and short texts hold little.
MEMORY_FROM = 128


def model_of(*, width: int = WIDTH, layers: int = LAYERS) -> apportion.Explainer:
    """An explainer of a small Llama with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 128,
        max_position_embeddings=4096,
    )
    return apportion.Explainer(LlamaForCausalLM(config).eval())


def ids_of(n: int) -> list[int]:
    """The same token ids in every run."""
    return torch.randint(VOCABULARY, (n,), generator=torch.Generator().manual_seed(n)).tolist()


def measured(explainer: apportion.Explainer, name: str, n: int, rounds: int, *, held: bool) -> dict[str, float]:
    """Median seconds of a method on n tokens and, where that is asked, the most bytes that tensors held at once."""
    ids = ids_of(n)

    def call() -> object:
        return explainer.explain(ids, target=0, method=name, progress=False)

    first = seconds(call)
    took = [first] + [seconds(call) for _ in range(rounds - 1) if first < PATIENCE]
    # The profiler's own records would dwarf what a method with thousands of passes holds.
    many = first > PATIENCE / 10
    return {"seconds": median(took), "bytes": memory(call).tensors if held and not many else math.nan}


def along(
    explainers: Sequence[tuple[float, apportion.Explainer]], names: Sequence[str], lengths: Sequence[int], rounds: int
) -> dict[str, list[dict[str, float]]]:
    """For each method what was measured along one axis: of length for one model, else of models for one length."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for at, explainer in explainers:
        for n in lengths:
            for name in names:
                rows = found[name]
                if rows and rows[-1]["seconds"] > PATIENCE:
                    continue
                try:
                    found_here = measured(explainer, name, n, rounds, held=len(lengths) > 1 and n >= MEMORY_FROM)
                    rows.append({"at": n if len(lengths) > 1 else at, **found_here})
                except apportion.ApportionError as error:
                    print(f"{name} at n = {n}: {error}")
                else:
                    print(f"{name:24} n = {n:5}  at {at:g}: {rows[-1]['seconds']:8.3f} s", flush=True)
    return {name: rows for name, rows in found.items() if rows}


def exponent(rows: Sequence[dict[str, float]]) -> float:
    """The slope between the two last points on logarithmic axes."""
    if len(rows) < 2:
        return math.nan
    a, b = rows[-2:]
    return math.log(b["seconds"] / a["seconds"]) / math.log(b["at"] / a["at"])


def table(found: dict[str, dict[str, list[dict[str, float]]]], lengths: Sequence[int]) -> str:
    """The measurements as Markdown."""
    lines = [
        "# How the methods grow",
        "",
        f"Seconds by the number of tokens, for a Llama of {LAYERS} layers, width {WIDTH}, on {torch.get_num_threads()} "
        "cores, with default options (so a sampling method's budget is fixed). The exponents are slopes on logarithmic "
        "axes: of time over length between the two longest texts, over layers from 2 to 8 and over width from 256 to "
        f"512 at n = {lengths[min(1, len(lengths) - 1)]}. MB: the most that tensors held at once at the longest text "
        "where it was measured (where a call takes under two seconds).",
        "",
        "| method | " + " | ".join(f"n = {n}" for n in lengths) + " | n^ | layers^ | width^ | MB |",
        "|---" * (len(lengths) + 5) + "|",
    ]
    for family in FAMILIES:
        lines.append(f"| **{family}** |" + " |" * (len(lengths) + 4))
        for name, rows in found["length"].items():
            if METHODS[name].about.family != family:
                continue
            by_length = {row["at"]: f"{row['seconds']:.3g}" for row in rows}
            bytes_held = [row["bytes"] for row in rows if row["bytes"] == row["bytes"]]
            slopes = [exponent(found[axis].get(name, [])) for axis in ("length", "layers", "width")]
            cells = [by_length.get(n, "–") for n in lengths] + ["–" if s != s else f"{s:.1f}" for s in slopes]
            held = f"{bytes_held[-1] / 1e6:.0f}" if bytes_held else "–"
            lines.append(f"| {name} | " + " | ".join([*cells, held]) + " |")
    lines += ["", "![seconds by the number of tokens](growth.png)", ""]
    return "\n".join(lines)


def picture(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Seconds and megabytes against n on logarithmic axes, a panel for each family."""
    from matplotlib.figure import Figure

    continuous = Figure(figsize=(14, 8), layout="constrained")
    panels = continuous.subplots(2, len(FAMILIES), sharex=True, sharey="row")
    for column, family in enumerate(FAMILIES):
        for k, (name, rows) in enumerate((n, r) for n, r in found.items() if METHODS[n].about.family == family):
            style = {"marker": "o", "markersize": 3, "linewidth": 1.2, "linestyle": ("-", "--", ":")[k // 10]}
            panels[0, column].plot([r["at"] for r in rows], [r["seconds"] for r in rows], label=name, **style)
            panels[1, column].plot([r["at"] for r in rows], [r["bytes"] / 1e6 for r in rows], **style)
        panels[0, column].set_title(family, loc="left", fontsize=10)
        panels[0, column].legend(fontsize=7, frameon=False)
        panels[1, column].set_xlabel("tokens")
    for axes, label in ((panels[0, 0], "seconds"), (panels[1, 0], "MB held by tensors")):
        axes.set_ylabel(label)
    lengths = sorted({row["at"] for rows in found.values() for row in rows})
    for axes in panels.flat:
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(lengths, [f"{n:g}" for n in lengths], minor=False)
        axes.set_xticks([], minor=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    continuous.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(name for name in METHODS if not required_options(name)))
    parser.add_argument("--lengths", default="32,64,128,256,512")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-write", action="store_true")
    arguments = parser.parse_args()
    names, lengths = arguments.methods.split(","), [int(n) for n in arguments.lengths.split(",")]
    rounds, middle = arguments.rounds, [lengths[min(1, len(lengths) - 1)]]
    along([(2, model_of(layers=2))], names, [8], 1)  # what is imported or compiled at first use is not counted
    found = {
        "length": along([(0, model_of())], names, lengths, rounds),
        "layers": along([(layers, model_of(layers=layers)) for layers in (2, 8)], names, middle, rounds),
        "width": along([(width, model_of(width=width)) for width in (256, 512)], names, middle, rounds),
    }
    text = table(found, lengths)
    print(text)
    if not arguments.no_write:
        RESULTS.mkdir(exist_ok=True)
        machine = {"cores": os.cpu_count(), "torch": torch.__version__}
        (RESULTS / "growth.json").write_text(json.dumps({"machine": machine, **found}, indent=1) + "\n")
        (RESULTS / "growth.md").write_text(text)
        picture(found["length"], RESULTS / "growth.png")


if __name__ == "__main__":
    main()
