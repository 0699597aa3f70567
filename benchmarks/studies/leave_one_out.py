"""How near is LRP to leave-one-out, and does it come nearer where the softmax is bypassed?

Part one moves the switch-over from AttnLRP to the rule that holds attention weights constant, from no layer to all
layers. Part two asks the same function in two factorisations, (QKᵀ)V and Q(KᵀV), of a model with linear attention.
"""

import argparse
import itertools
from dataclasses import replace

import pandas
from matplotlib.figure import Figure

import apportion as ap
from apportion.evaluation import Evaluation, implementation_invariance
from apportion.evaluation.agreement import agreement_sentences, items_of
from apportion.relevance import ATTNLRP, GRADIENT
from benchmarks.studies import _models, _recipes
from benchmarks.studies._linear_attention import VALUES_ONLY, Order, linear_attention_model
from benchmarks.studies._study import run, save, table, write_block
from benchmarks.studies._texts import beginnings

MEASURES = {"loo_pearson": "Pearson", "loo_spearman": "Spearman", "loo_kendall": "Kendall"}
OTHERS = {
    "cp-lrp": "cp-lrp",
    "input-x-gradient": "input-x-gradient",
    "gradient (L2)": "gradient",
    "gim": "gim",
}

INSIDE = ("AttnLRP", "softmax cut, all layers", "CP-LRP (softmax cut, gate constant)")
ORDERS: tuple[Order, ...] = ("scores", "state")
PRODUCTS = {
    "AttnLRP": ATTNLRP,
    "AttnLRP, flat products": replace(ATTNLRP, product="flat"),
    "values only": VALUES_ONLY,
    "input × gradient": GRADIENT,
    "leave-one-out": "leave-one-out",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=60, help="texts of each kind")
    limit = parser.parse_args().limit
    found = switch_over(limit)
    for name, evaluation in found.items():
        write_block("leave-one-out", name, table(evaluation.summary(), MEASURES, order="loo_spearman"))
    save(_picture(found), "leave-one-out")
    write_block("leave-one-out", "layers", _by_layer(at_layers(limit // 4)))
    linear = linear_attention(4 * limit)
    for order, evaluation in linear.items():
        write_block("leave-one-out", f"linear {order}", table(evaluation.summary(), {"mrr": "MRR", **MEASURES}))
    write_block("leave-one-out", "linear difference", _differences())


def switch_over(limit: int) -> dict[str, Evaluation]:
    explainer = _models.smollm2()
    methods = {**_recipes.switching(explainer.model.config.num_hidden_layers), **OTHERS}
    data = {
        "reference texts": beginnings(),
        "log-probabilities": (replace(item, unit="log-probability") for item in beginnings()),
        "agreement": items_of(agreement_sentences(seed=1), explainer),
    }
    return {
        name: run(
            f"leave-one-out-{name.replace(' ', '-')}",
            explainer,
            itertools.islice(items, limit),
            methods=methods,
            measures=["leave-one-out-agreement"],
            limit=limit,
        )
        for name, items in data.items()
    }


def at_layers(limit: int) -> Evaluation:
    """Relevance inside the model against removing the residual there."""
    explainer = _models.smollm2()
    recipes = _recipes.one_rule_changed(explainer.model.config.num_hidden_layers)
    return run(
        "leave-one-out-layers",
        explainer,
        beginnings(),
        methods={**{name: recipes[name] for name in INSIDE}, "input × gradient": GRADIENT},
        measures=["layer-agreement"],
        limit=limit,
    )


def _by_layer(evaluation: Evaluation) -> str:
    curves = evaluation.curves()
    curves = curves[(curves.curve == "layer_spearman") & (curves.method != "random")]
    last = _models.smollm2().model.config.num_hidden_layers - 1
    headings = {str(step): f"layer {round(step * last)}" for step in sorted(curves.step.unique())}
    return table(curves, headings, by="step")


def linear_attention(limit: int) -> dict[str, Evaluation]:
    found = {}
    for order in ORDERS:
        model, tokenizer, items = linear_attention_model(order)
        found[order] = run(
            f"leave-one-out-linear-{order}",
            ap.Explainer(model, tokenizer),
            items(limit, 1),
            methods=PRODUCTS,
            measures=["ground-truth", "leave-one-out-agreement"],
            masker="delete",
        )
    return found


def _differences(limit: int = 50) -> str:
    """How far the two factorisations are apart, by method."""
    one, other = (ap.Explainer(*linear_attention_model(order)[:2]) for order in ORDERS)
    items = linear_attention_model(ORDERS[0])[2](limit, 1)
    found = [implementation_invariance(one, other, item.prompt, methods=PRODUCTS, target=item.asked) for item in items]
    lines = ["| method | difference between the two, in units of the shares' mean size |", "|---|---:|"]
    for method in PRODUCTS:
        mean = sum(result.disagreements[method].relative for result in found) / len(found)
        lines.append(f"| {method} | {mean:.2g} |")
    return "\n".join(lines)


def _picture(found: dict[str, Evaluation]) -> Figure:
    """Correlation with leave-one-out against the layer from which the softmax is cut."""
    continuous = Figure(figsize=(10, 3.2), layout="constrained")
    axes = continuous.subplots(1, len(found), sharey=True)
    for panel, (name, evaluation) in zip(axes, found.items(), strict=True):
        for measure, colour in (("loo_pearson", "#0072B2"), ("loo_spearman", "#D55E00")):
            rows = _along_layers(evaluation.summary(), measure)
            panel.plot(rows.layer, rows["mean"], color=colour, label=MEASURES[measure])
            panel.fill_between(rows.layer, rows.low, rows.high, color=colour, alpha=0.2, linewidth=0)
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_xlabel("softmax cut from this layer on")
        panel.invert_xaxis()
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("correlation with leave-one-out")
    axes[0].legend(frameon=False)
    return continuous


def _along_layers(summary: pandas.DataFrame, measure: str) -> pandas.DataFrame:
    rows = summary[summary.measure == measure].set_index("method")
    layers = {label: int(label.rsplit(" ", 1)[1]) for label in rows.index if label.startswith("from layer")}
    layers["no layer"] = max(layers.values()) + _recipes.STEP
    rows = rows.loc[list(layers)].assign(layer=list(layers.values()))
    return rows.sort_values("layer", ascending=False)


if __name__ == "__main__":
    main()
