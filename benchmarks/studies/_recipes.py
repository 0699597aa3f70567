"""Recipes: composites that differ from AttnLRP in one rule, and the space in which better ones are searched."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from apportion.relevance import ATTNLRP, CP_LRP, Composite

#: The switch-over moves by so many layers.
STEP = 3

VALUES = replace(ATTNLRP, name="values", attention="values")
#: What queries and keys get; the values get the rest.
SPLITS = {
    "¼ ¼ ½": (0.25, 0.25),
    "⅓ ⅓ ⅓": (1 / 3, 1 / 3),
    "⅛ ⅛ ¾": (0.125, 0.125),
    "½ 0 ½": (0.5, 0.0),
    "0 ½ ½": (0.0, 0.5),
}


def thirds(layers: int) -> dict[str, tuple[int, int]]:
    """The early, the middle and the late third of a model's layers: the first and the last of each."""
    bounds = [round(k * layers / 3) for k in range(4)]
    return {name: (a, b - 1) for name, (a, b) in zip(("early", "middle", "late"), pairwise(bounds), strict=True)}


def one_rule_changed(layers: int) -> dict[str, Composite]:
    """AttnLRP, and AttnLRP with one rule of another kind."""
    recipes = {
        "AttnLRP": ATTNLRP,
        "activation: derivative": replace(ATTNLRP, activation="gradient"),
        "norm: derivative": replace(ATTNLRP, norm="gradient"),
        "products: derivative": replace(ATTNLRP, product="gradient"),
        "attention: derivative": replace(ATTNLRP, attention="gradient"),
        "softmax at temperature 2": replace(ATTNLRP, temperature=2.0),
        "gate : up = ¼ : ¾": replace(ATTNLRP, gate_share=0.25),
        "gate : up = ¾ : ¼": replace(ATTNLRP, gate_share=0.75),
        "gate held constant": replace(ATTNLRP, gate="cut"),
    }
    for words, (queries, keys) in SPLITS.items():
        if words != "¼ ¼ ½":
            recipes[f"Q K V = {words}"] = replace(ATTNLRP, query_share=queries, key_share=keys)
    for name, (first, last) in thirds(layers).items():
        recipes[f"softmax cut, {name} layers"] = ATTNLRP.within(VALUES, first_layer=first, last_layer=last)
    recipes["softmax cut, all layers"] = VALUES
    recipes["CP-LRP (softmax cut, gate constant)"] = CP_LRP
    return {label: replace(recipe, name=label) for label, recipe in recipes.items()}


def switching(layers: int) -> dict[str, Composite]:
    """AttnLRP below a layer, the softmax cut from it on: from no layer to all layers."""
    recipes = {"no layer": ATTNLRP}
    for first in range(layers - STEP, -1, -STEP):
        recipes[f"from layer {first}"] = VALUES if first == 0 else ATTNLRP.from_layer(first, VALUES)
    return {label: replace(recipe, name=label) for label, recipe in recipes.items()}


def drawn(layers: int, count: int, seed: int = 0) -> dict[str, Composite]:
    """Different recipes, each rule drawn from its choices, and the softmax cut in any of the thirds of the layers."""
    generator = np.random.default_rng(seed)
    found: dict[str, Composite] = {}
    while len(found) < count:
        gate = generator.choice([0.0, 0.25, 0.5, 0.75])
        split = generator.choice(list(SPLITS))
        activation = str(generator.choice(["identity", "identity", "gradient"]))
        temperature = float(generator.choice([1.0, 1.0, 2.0]))
        cut = [name for name in thirds(layers) if generator.random() < 0.5]
        label = f"gate {gate:g}, {split}, {activation}, T {temperature:g}, cut {' '.join(cut) or 'nowhere'}"
        found[label] = _recipe(layers, float(gate), SPLITS[str(split)], activation, temperature, cut)
    return found


def _recipe(
    layers: int, gate: float, split: tuple[float, float], activation: str, temperature: float, cut: list[str]
) -> Composite:
    base = replace(
        ATTNLRP,
        gate_share=gate,
        query_share=split[0],
        key_share=split[1],
        activation=activation,  # type: ignore[arg-type]
        temperature=temperature,
    )
    values = replace(base, attention="values", temperature=1.0)
    if len(cut) == len(thirds(layers)):
        return values
    for name in cut:
        first, last = thirds(layers)[name]
        base = base.within(values, first_layer=first, last_layer=last)
    return base
