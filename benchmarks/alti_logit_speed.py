"""Time and peak memory of ALTI-Logit against building every head's vector from every token to every token.

    python benchmarks/alti_logit_speed.py            # n = 256, about ten minutes on two cores
    python benchmarks/alti_logit_speed.py --quick    # n = 64, one round; prints, writes nothing

The model has the size of GPT-2 small (12 layers, 12 heads, 768 wide) and random frozen weights in float32; the last
position's largest logit is divided. The cases:

- `alti-logit`: `explainer.explain(ids, method="alti-logit")`, everything included: the shared forward pass with its
  graph, the anatomy and its checks, the ledger.
- `vectors`: the equations of Ferrando et al. 2023 as their code computes them: for each layer the vectors
  A_h[t, s] f_h(x_s) of all heads as one tensor of head × n × n × d, whose sums over heads and distances are taken,
  without a graph. The final norm is folded into the logit's direction, which their code does not do; that would
  cost it more.

The cases take turns (a b, b a, …), so that a slow minute of the machine falls on both. Reported are medians, their
ratio, and the quartiles of the ratios within each round. Memory is measured in a fresh process per case
(`_measure.py` says how), above the model and a warm-up on eight tokens.
"""

import json
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import _llama
import _measure
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as Grid
from speed import machine
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import apportion as ap

HERE = Path(__file__).parent
OURS, THEIRS = "alti-logit", "vectors"
FASTER, LEANER, DISTANCE = 5.0, 10.0, 1e-4
HEADINGS = ["case", "seconds", f"× {OURS}", "quartiles", "peak MiB", f"× {OURS}", "resident MiB", "distance of scores"]
VOCAB = 50_257

console = Console(width=None if sys.stdout.isatty() else 120)

Case = Callable[[Tensor], Tensor]


def random_gpt2(attention: str) -> GPT2LMHeadModel:
    """GPT-2 small with random frozen weights, the same at every call, in which attention looks at some tokens more."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(attn_implementation=attention)).float().eval().requires_grad_(False)
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_attn.weight.mul_(3)
            block.attn.c_proj.bias.normal_(std=0.02)
    return model


def by_vectors(model: GPT2LMHeadModel, ids: Tensor) -> Tensor:
    """ALTI-Logit by materialising all vectors."""
    with torch.no_grad():
        output = model(ids[None], output_attentions=True, output_hidden_states=True, use_cache=False)
        streams, norm, n = output.hidden_states, model.transformer.ln_f, len(ids)
        last: list[Tensor] = []
        handle = norm.register_forward_pre_hook(lambda module, arguments: last.append(arguments[0][0, -1]))
        logits = model(ids[None], use_cache=False).logits[0, -1]
        handle.remove()
        g = norm.weight * model.lm_head.weight[logits.argmax()] / (last[0].var(correction=0) + norm.eps).sqrt()
        g = g - g.mean()
        scores = torch.zeros(n)
        scores[-1] = streams[0][0, -1] @ g
        mixing = torch.eye(n)
        for block, stream, attention in zip(model.transformer.h, streams, output.attentions, strict=False):
            x, d, heads = stream[0], stream.shape[-1], attention.shape[1]
            values = block.ln_1(x) @ block.attn.c_attn.weight[:, 2 * d :] + block.attn.c_attn.bias[2 * d :]
            values = values.view(n, heads, -1).transpose(0, 1)
            vectors = values @ block.attn.c_proj.weight.view(heads, -1, d)
            by_head = attention[0][..., None] * vectors[:, None]  # head × n × n × d
            summed = by_head.sum(0)
            del by_head
            scores = scores + (summed[-1] @ g) @ mixing
            summed[range(n), range(n)] += x
            y = summed.sum(1) + block.attn.c_proj.bias
            distance = (y[:, None] - summed).abs().sum(-1)
            nearness = (y.abs().sum(-1, keepdim=True) - distance).clamp(min=0)
            mixing = nearness / nearness.sum(-1, keepdim=True) @ mixing
    return scores


def case(name: str) -> Case:
    """What is measured, by name."""
    if name == THEIRS:
        return partial(by_vectors, random_gpt2("eager"))
    explainer = ap.Explainer(random_gpt2("sdpa"))
    return lambda ids: explainer.explain(ids, method="alti-logit", progress=False).scores


def measured(by_name: Mapping[str, Case], ids: Tensor, rounds: int) -> tuple[dict[str, list[float]], float]:
    """Seconds by case and round, and how far the scores are apart relative to their length."""
    seconds: dict[str, list[float]] = {name: [] for name in by_name}
    scores: dict[str, Tensor] = {}
    for one in by_name.values():
        one(ids[:8])  # warms up
    with Progress(console=console, transient=True) as progress:
        for number in progress.track(range(rounds), description=f"n = {len(ids)}"):
            names = list(by_name) if number % 2 == 0 else reversed(list(by_name))
            for name in names:
                kept: list[Tensor] = []
                seconds[name].append(_measure.seconds(lambda one=by_name[name], kept=kept: kept.append(one(ids))))
                scores[name] = kept[0].double()
    return seconds, float((scores[THEIRS] - scores[OURS]).norm() / scores[OURS].norm())


def memory(name: str, n: int) -> _measure.Memory:
    """Peak memory of one case, in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", name, "--n", str(n)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return _measure.Memory(**json.loads(printed.splitlines()[-1]))


def memory_here(name: str, n: int) -> _measure.Memory:
    """Peak memory of one case in this process, which should have done nothing else."""
    one, ids = case(name), _llama.random_ids(n, VOCAB)
    one(ids[:8])
    return _measure.memory(lambda: one(ids))


def lines(seconds: Mapping[str, list[float]], peaks: Mapping[str, _measure.Memory], distance: float) -> list[list[str]]:
    """One line per case, as a reader sees it."""
    found = []
    for name, mine in seconds.items():
        ratios = [a / b for a, b in zip(mine, seconds[OURS], strict=True)]
        low, _, high = quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
        time, peak, resident = median(mine), peaks[name].tensors, peaks[name].resident
        found.append(
            [
                name,
                f"{time:.2f}",
                f"{time / median(seconds[OURS]):.2f}",
                f"{low:.2f}–{high:.2f}",
                f"{peak / 2**20:.0f}",
                f"{peak / peaks[OURS].tensors:.1f}",
                "" if resident is None else f"{resident / 2**20:.0f}",
                f"{0 if name == OURS else distance:.1e}",
            ]
        )
    return found


def goals(seconds: Mapping[str, list[float]], peaks: Mapping[str, _measure.Memory], distance: float) -> dict[str, str]:
    """What was to be shown, and what was measured."""
    faster = median(seconds[THEIRS]) / median(seconds[OURS])
    leaner = peaks[THEIRS].tensors / peaks[OURS].tensors
    return {
        f"{THEIRS} : {OURS}, time": f"{faster:.2f} (goal ≥ {FASTER})",
        f"{THEIRS} : {OURS}, peak memory": f"{leaner:.1f} (goal ≥ {LEANER})",
        "relative distance of the scores": f"{distance:.1e} (goal ≤ {DISTANCE})",
    }


def save(
    seconds: Mapping[str, list[float]], peaks: Mapping[str, _measure.Memory], distance: float, n: int, folder: Path
) -> None:
    """Write alti_logit.json and alti_logit.md, each whole or not at all."""
    facts, shown = machine(), goals(seconds, peaks, distance)
    rows = [HEADINGS, ["---"] + ["---:"] * (len(HEADINGS) - 1), *lines(seconds, peaks, distance)]
    page = [
        "# ALTI-Logit",
        "",
        "Written by `benchmarks/alti_logit_speed.py`; its docstring says what each row is.",
        "",
        *[f"- {name}: {value}" for name, value in facts.items()],
        f"- {len(seconds[OURS])} rounds, after a warm-up on 8 tokens.",
        "",
        f"## n = {n}",
        "",
        *[f"| {' | '.join(row)} |" for row in rows],
        "",
        *[f"- {name}: {value}" for name, value in shown.items()],
    ]
    data = {
        "machine": facts,
        "n": n,
        "seconds": dict(seconds),
        "memory": {name: asdict(peak) for name, peak in peaks.items()},
        "distance": distance,
        "goals": shown,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"alti_logit.json": json.dumps(data, indent=1), "alti_logit.md": "\n".join(page)}.items():
        draft = folder / f"{name}.draft"
        draft.write_text(text + "\n")
        draft.replace(folder / name)


def arguments() -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Time and peak memory of ALTI-Logit against materialising all vectors.")
    parser.add_argument("--n", type=int, help="tokens of the prompt (default 256, with --quick 64)")
    parser.add_argument("--rounds", type=int, help="rounds that count (default 5, with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="one round of a short prompt, nothing written")
    parser.add_argument("--output", type=Path, help="folder for the results (default benchmarks/results)")
    parser.add_argument("--memory-of", choices=[OURS, THEIRS], help="print one case's peak memory as JSON, and stop")
    return parser.parse_args()


def main() -> None:
    """Measure, print and keep."""
    options = arguments()
    n = options.n or (64 if options.quick else 256)
    if options.memory_of:
        print(json.dumps(asdict(memory_here(options.memory_of, n))))
        return
    by_name = {name: case(name) for name in (OURS, THEIRS)}
    rounds = options.rounds or (1 if options.quick else 5)
    seconds, distance = measured(by_name, _llama.random_ids(n, VOCAB), rounds)
    with console.status("memory"):
        peaks = {name: memory(name, n) for name in by_name}
    grid = Grid(title=f"n = {n}", title_justify="left")
    for index, heading in enumerate(HEADINGS):
        grid.add_column(heading, justify="right" if index else "left")
    for cells in lines(seconds, peaks, distance):
        grid.add_row(*cells)
    console.print(grid)
    for name, value in goals(seconds, peaks, distance).items():
        console.print(f"  {name}: {value}", highlight=False)
    folder = options.output or (None if options.quick else HERE / "results")
    if folder:
        save(seconds, peaks, distance, n, folder)
        console.print(f"Kept in {folder}")


if __name__ == "__main__":
    main()
