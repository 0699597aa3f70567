"""What every report of interactions says: the largest effects of one feature on another, the scale, what it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apportion.core import Feature
from apportion.report.kit import largest_size, short, signed, visible
from apportion.results import Interactions

LABEL = 40
#: What the values of each index are, as a reader may call them.
INDICES = {
    "metagame": "the metagame",
    "shapley-taylor": "the Shapley–Taylor index",
    "shapley-interaction": "the Shapley interaction index",
    "integrated-hessians": "Integrated Hessians",
    "first-order-pairs": "first-order pairs",
}


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one source does to one target: their numbers, the value and its standard error, where there is one."""

    source: int
    target: int
    value: float
    error: float | None


def effects(found: Interactions, k: int) -> list[Effect]:
    """The `k` largest effects of one feature on another, without special tokens; a pair without direction once."""
    places = {id(f): j for j, f in enumerate(found.sources)}, {id(f): i for i, f in enumerate(found.features)}
    once = not directed(found) and found.square
    best = [(places[0][id(a)], places[1][id(b)]) for a, b, _ in found.top(2 * k if once else k)]
    return [effect(found, j, i) for j, i in best if not once or j < i][:k]


def directed(found: Interactions) -> bool:
    """Whether what a does to b is another thing than what b does to a; only the metagame tells them apart."""
    return found.index == "metagame"


def link(found: Interactions) -> str:
    """The sign between two features."""
    return "→" if directed(found) else "↔"


def effect(found: Interactions, source: int, target: int) -> Effect:
    errors = found.standard_errors
    return Effect(
        source=source,
        target=target,
        value=found.values[source, target].item(),
        error=None if errors is None else errors[source, target].item(),
    )


def largest_between(found: Interactions) -> float:
    """Where the scale of the effects ends: the largest of one feature on another, without special tokens."""
    best = found.top(1) or found.top(1, template=True)
    return largest_size([value for _, _, value in best])


def name(feature: Feature, cells: int = LABEL) -> str:
    """A feature's label, without the space around it."""
    return short(feature.label, cells)


def names(features: Sequence[Feature], cells: int = LABEL) -> list[str]:
    """Labels that tell the features apart: what occurs twice gets its place among the features, from 1."""
    bare = [name(f, cells) for f in features]
    return [f"{label} ({i})" if bare.count(label) > 1 else label for i, label in enumerate(bare, start=1)]


def counted(features: Sequence[Feature]) -> str:
    """How many features of what kind, such as `"5 tokens"`."""
    kinds = {f.kind for f in features}
    noun = next(iter(kinds)) if len(kinds) == 1 else "feature"
    plural = "patches" if noun == "patch" else f"{noun}s"
    return f"{len(features)} {noun if len(features) == 1 else plural}"


def index_of(found: Interactions) -> str:
    return INDICES.get(found.index, visible(found.index))


def facts(found: Interactions) -> list[str]:
    """What it took and how well it adds up, in a few words each."""
    said = [f"{counted(found.sources)} move {'each other' if found.square else counted(found.features)}"]
    if found.evaluations:
        said.append(f"{found.evaluations:,} coalitions")
    if found.cost is not None:
        passes = [(found.cost.forward, "forward"), (found.cost.backward, "backward")]
        said += [f"{round(count):,} {kind} passes" for count, kind in passes if count]
        said.append(f"{found.cost.seconds:.3g} s")
    if found.adds_up:
        said.append(f"largest gap {gap_text(largest_size(found.gap.tolist()))}")
    return said


def gap_text(gap: float) -> str:
    """A gap as text: its size matters, not its digits."""
    return f"{gap:.2g}".replace("-", "−") if gap else "0"


def largest_triples(found: Interactions, k: int) -> list[tuple[str, str, str, str]]:
    """The `k` largest effects of the third order as labels and number: a feature, and the effect that it changes."""
    if found.third is None:
        return []
    largest = found.third.abs().max().item()
    sources, targets = names(found.sources, LABEL), names(found.features, LABEL)
    count = len(targets)
    triples: list[tuple[str, str, str, str]] = []
    for place in found.third.abs().flatten().argsort(descending=True, stable=True).tolist():
        (mover, source), target = divmod(place // count, len(sources)), place % count
        value = found.third[mover, source, target].item()
        if value == 0 or len(triples) == k:
            break
        if not any(f.template for f in (found.sources[mover], found.sources[source], found.features[target])):
            triples.append((sources[mover], sources[source], targets[target], signed(value, largest)))
    return triples
