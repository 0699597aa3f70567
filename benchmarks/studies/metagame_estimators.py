"""How close does each estimator of the metagame come, at what cost? All coalitions of 12 tokens, and draws from them.

python -m benchmarks.studies.metagame_estimators [--only llama-0 llama-1]
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import pandas
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

import apportion as ap
from apportion.metagame import MetaEstimate, MetaGame, exact, permutations, regression, tree_proxy
from benchmarks.studies._study import RUNS, write_block

N = 12
BUDGETS = (96, 192, 384, 768, 1536)
ESTIMATORS: dict[str, Callable[..., MetaEstimate]] = {
    "regression": regression,
    "permutations": permutations,
    "tree-proxy": tree_proxy,
}
#: Coalitions for each of twelve separate games of the other 11 tokens, of 2048.
SEPARATE = (40, 64, 128, 256, 512, 1024)
MODELS = 20
PROMPTS = {
    "smollm2-keys": ("The keys to the cabinet in the small kitchen of our house", " are", " is"),
    "smollm2-film": ("The film was not bad at all; I think it was", " good", " bad"),
    "smollm2-capital": ("Paris is the capital of France, and the capital of Italy", " is", " was"),
}
FOLDER = RUNS / "metagame-estimators"


def random_llama(seed: int) -> transformers.LlamaForCausalLM:
    """Two to four layers in float64, with weights so large that attention and gates are far from linear."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2 + seed % 3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    model = transformers.LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn_like(weight) / (1 if "embed" in name else weight.shape[-1] ** 0.5))
    return model


def games() -> Iterator[tuple[str, Callable[[], None]]]:
    """Names, and what evaluates all coalitions of each into a file (nothing when it is there)."""
    for seed in range(MODELS):

        def random(seed: int = seed) -> None:
            explainer = ap.Explainer(random_llama(seed))
            prompt = torch.randint(64, (N,))
            explainer.interactions(prompt, game=ap.Game(estimator="exact", path=FOLDER / f"llama-{seed}.safetensors"))

        yield f"llama-{seed}", random
    for name, (prompt, target, contrast) in PROMPTS.items():

        def real(name: str = name, prompt: str = prompt, target: str = target, contrast: str = contrast) -> None:
            ap.load("demo").interactions(
                prompt,
                target=target,
                contrast=contrast,
                game=ap.Game(estimator="exact", path=FOLDER / f"{name}.safetensors"),
            )

        yield name, real


def table_of(name: str) -> Tensor:
    """What every coalition is paid, by its number."""
    found = load_file(FOLDER / f"{name}.safetensors")
    numbers = (found["coalitions"].long() << torch.arange(N)).sum(1)
    return torch.zeros(2**N, N, dtype=torch.float64).index_copy(0, numbers, found["paid"])


def looked_up(table: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda coalitions: table[(coalitions.long() << torch.arange(coalitions.shape[1])).sum(1)]


def between(values: Tensor) -> Tensor:
    return values.clone().fill_diagonal_(0)


def rows_of(name: str, label: str) -> list[dict[str, object]]:
    """The relative error of an estimator at every budget, and what it thought its error to be."""
    table = table_of(name)
    truth = between(exact(MetaGame(N, looked_up(table), range(N))).values)
    size, rows = float(truth.norm() ** 2), []
    for budget in BUDGETS:
        found = ESTIMATORS[label](MetaGame(N, looked_up(table), range(N)), budget=budget)
        missed = float((between(found.values) - truth).norm() ** 2)
        thought = float("nan") if found.standard_errors is None else float(found.standard_errors.norm() ** 2) / size
        rows.append({"estimator": label, "budget": budget, "error": missed / size, "thought": thought})
    if label != "tree-proxy":
        for budget in SEPARATE:
            missed = sum(
                float((estimate_alone(table, i, label, budget) - truth[truth_rows(i), i]).norm() ** 2) for i in range(N)
            )
            rows.append({"estimator": f"separate {label}", "budget": N * budget, "error": missed / size})
    return [{"game": name, **row} for row in rows]


def truth_rows(target: int) -> list[int]:
    return [j for j in range(N) if j != target]


def estimate_alone(table: Tensor, target: int, label: str, budget: int) -> Tensor:
    """One target's own game: 11 players, who join a target that is always present."""

    def payoff(coalitions: Tensor) -> Tensor:
        everyone = torch.ones(len(coalitions), N, dtype=torch.bool)
        everyone[:, truth_rows(target)] = coalitions
        return looked_up(table)(everyone)[:, [target]]

    return ESTIMATORS[label](MetaGame(N - 1, payoff, [None]), budget=budget, seed=target).values[:, 0]


def with_interval(errors: pandas.Series) -> str:
    """The mean over games with a 95 % bootstrap interval, when there are enough of them."""
    rng, values = np.random.default_rng(0), errors.to_numpy()
    if len(values) < 5:
        return f"{values.mean():.4f}"
    low, high = np.percentile(rng.choice(values, (2000, len(values))).mean(1), [2.5, 97.5])
    return f"{values.mean():.4f} [{low:.4f}, {high:.4f}]"


def errors_table(rows: pandas.DataFrame) -> str:
    lines = [f"| estimator | {' | '.join(f'{b:,}' for b in BUDGETS)} |", f"|---|{'---:|' * len(BUDGETS)}"]
    for label in (*ESTIMATORS, "separate regression", "separate permutations"):
        mine = rows[rows.estimator == label]
        cells = [with_interval(mine[mine.budget == b].error) if (mine.budget == b).any() else "–" for b in BUDGETS]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def honesty_table(rows: pandas.DataFrame) -> str:
    lines = [f"| estimator | {' | '.join(f'{b:,}' for b in BUDGETS)} |", f"|---|{'---:|' * len(BUDGETS)}"]
    for label in ESTIMATORS:
        mine = rows[(rows.estimator == label) & rows.thought.notna()]
        ratios = [(mine[mine.budget == b].error / mine[mine.budget == b].thought) ** 0.5 for b in BUDGETS]
        lines.append(f"| {label} | {' | '.join(f'{r.mean():.2f}' if len(r) else '–' for r in ratios)} |")
    return "\n".join(lines)


def needed(rows: pandas.DataFrame, label: str, error: float) -> float:
    """How many evaluations separate games take to an error, on the line between what was measured; NaN beyond it."""
    curve = rows[rows.estimator == f"separate {label}"].groupby("budget").error.mean()
    log_errors, log_budgets = np.log(curve.to_numpy()[::-1]), np.log(curve.index.to_numpy(float)[::-1])
    inside = log_errors[0] <= np.log(error) <= log_errors[-1]
    return float(np.exp(np.interp(np.log(error), log_errors, log_budgets))) if inside else float("nan")


def savings_table(rows: pandas.DataFrame) -> str:
    lines = ["| shared estimator | evaluations | error | separate regressions need | times as many |"]
    lines.append("|---|---:|---:|---:|---:|")
    for label in ("regression", "tree-proxy"):
        for budget in BUDGETS:
            error = rows[(rows.estimator == label) & (rows.budget == budget)].error.mean()
            most = needed(rows, "regression", error)
            shown = "beyond what was measured | –" if most != most else f"{most:,.0f} | {most / budget:.1f}"
            lines.append(f"| {label} | {budget:,} | {error:.4f} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of games, such as llama-0; no tables are written then")
    only = parser.parse_args().only
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = []
    for label in ESTIMATORS:  # the quickest first
        for name, evaluate in games():
            if only and name not in only:
                continue
            done = FOLDER / f"{name}-{label}.csv"
            if not done.exists():
                if not (FOLDER / f"{name}.safetensors").exists():
                    evaluate()
                pandas.DataFrame(rows_of(name, label)).to_csv(done, index=False)
            found.append(pandas.read_csv(done))
            print(name, label, flush=True)
    if only:
        return
    rows = pandas.concat(found)
    rows.to_csv(RUNS / "metagame-estimators.csv", index=False, float_format="%.5g")
    for kind in ("llama", "smollm2"):
        mine = rows[rows.game.str.startswith(kind)]
        write_block("metagame-estimators", f"{kind} errors", errors_table(mine))
        write_block("metagame-estimators", f"{kind} honesty", honesty_table(mine))
        write_block("metagame-estimators", f"{kind} savings", savings_table(mine))


if __name__ == "__main__":
    main()
