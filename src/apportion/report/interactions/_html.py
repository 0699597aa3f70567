"""The page of interactions: pointing at a feature shows what it does to the others, or what they do to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from apportion.core import Feature
from apportion.report.interactions._graph import SHOWN, graph_of
from apportion.report.interactions._reading import (
    LABEL,
    directed,
    effect,
    effects,
    facts,
    gap_text,
    index_of,
    largest_between,
    largest_triples,
    link,
    name,
    names,
)
from apportion.report.kit import (
    LIGHT,
    LONG,
    PAGE_TOP,
    Drawing,
    ImagePanel,
    Side,
    TargetShares,
    any_special,
    blocks_of,
    ends_line,
    environment,
    image_views_of,
    largest_on,
    largest_size,
    own_scope,
    precise,
    signed,
    step_of,
    steps_of,
    strength,
    surface,
    text_members,
    visible,
)
from apportion.results import Interactions

#: Values that a page may hold, at about 8 bytes each.
MAX_CELLS = 200_000
#: The longer side of a matrix that is shown, and of one whose cells show their numbers.
MAX_TABLE, MAX_NUMBERS = 48, 10
#: Words that have the picture once each.
MAX_GALLERY = 30
#: Targets that have a line each in the accounts.
MAX_ACCOUNTS = 64


def interactions_page(found: Interactions) -> str:
    """The interactions as one HTML file that asks nothing of the network and follows the reader's light or dark.

    It opens on the first-order attribution. Without scripts that view, the graph and the matrix remain.
    """
    return environment().get_template("interactions_page.html").render(_context(found, "apportion", scripted=True))


def interactions_fragment(found: Interactions) -> str:
    """The interactions for a notebook's output: needs no script, and its styles hold for itself alone."""
    scope = own_scope()
    return environment().get_template("interactions.html").render(_context(found, scope, scripted=False))


def _context(found: Interactions, scope: str, *, scripted: bool) -> dict[str, Any]:
    few = found.values.numel() <= MAX_CELLS
    drawing = Drawing(scripted=scripted and few, members=True)
    first_order = found.first_order.tolist()
    both = [
        _side(
            found, found.features, first_order, "first order", _target_tips(found) if found.adds_up else None, drawing
        )
    ]
    if not found.square:
        given = found.between.sum(1).tolist()
        both.insert(0, _side(found, found.sources, given, "given to all targets", None, drawing))
    largest, unit = largest_between(found), found.target.unit
    graph = graph_of(found)
    return {
        **surface(scope),
        "index": index_of(found),
        "method": found.method,
        "model": visible(found.model) if found.model else "",
        "options": [(n, visible(str(value))) for n, value in found.options.items() if not isinstance(value, dict)],
        "label": visible(found.target.label),
        "value": signed(found.target.value, abs(found.target.value)),
        "unit": unit,
        "square": found.square,
        "directed": directed(found),
        "link": link(found),
        "sides": both,
        "long": max(len(side.words) for side in both) > LONG,
        "gallery": _gallery(found, drawing),
        "graph": graph,
        "shown": min(SHOWN, len(graph.arrows)) if graph else 0,
        "tip": lambda one: _tip(found, one.source, one.target),
        "matrix": _matrix(found, largest),
        "top": _bars(found, largest),
        "triples": largest_triples(found, PAGE_TOP),
        "left_out": any_special(found.sources, found.features),
        "facts": facts(found),
        "accounts": _accounts(found) if found.adds_up else None,
        "too_many": not few,
        "pictures": drawing.content if drawing.photos and drawing.scripted else None,
        "content": {
            "values": _rounded(found.values),
            "errors": None if found.standard_errors is None else _rounded(found.standard_errors),
            "own": list(found.source_of),
            "square": found.square,
            "link": link(found),
            "sides": [
                {"labels": names(features, LABEL), "maps": side.maps}
                for features, side in zip((found.sources, found.features)[-len(both) :], both, strict=True)
            ],
            "largest": largest,
            "unit": unit,
            "steps": (len(steps_of(LIGHT)) - 1) // 2,
        }
        if drawing.scripted
        else None,
        **drawing.style,
    }


def _rounded(values: Any) -> list[list[float]]:
    return [[float(f"{v:.4g}") if math.isfinite(v) else 0.0 for v in line] for line in values.tolist()]


def _side(
    found: Interactions,
    features: Sequence[Feature],
    values: Sequence[float],
    what: str,
    tips: Sequence[str] | None,
    drawing: Drawing,
) -> Side:
    text = text_members(features)
    largest = largest_size([values[i] for i in text if not features[i].template] or [values[i] for i in text])
    words = []
    headings = {block.members[0]: block.heading for block in blocks_of([features[i] for i in text])}
    for place, i in enumerate(text):
        label = visible(features[i].label)
        bare = label.lstrip(" ") or label
        tip = f"“{name(features[i])}”\n{precise(values[i])} {found.target.unit}, {what}"
        words.append(
            {
                "index": i,
                "heading": headings.get(place, ""),
                "space": _space(features[text[place - 1]], features[i]) if place else "",
                "label": bare,
                "step": step_of(strength(values[i], largest)),
                "tip": tip + (f"\n{tips[i]}" if tips else ""),
                "template": features[i].template,
                "ends_line": ends_line(features[i]),
            }
        )
    image_views = image_views_of(features, found.pictures)
    shares = _shares_of(found, features, values)
    scale = largest_on(image_views, [shares])
    return Side(
        heading=f"{'sources' if features is found.sources else 'targets'}: {what}" if not found.square else what,
        words=tuple(words),
        image_views=tuple(
            drawing.view(image_view, shares, scale, several=len(image_views) > 1) for image_view in image_views
        ),
        low=signed(-largest, largest),
        high=signed(largest, largest),
    )


def _space(before: Feature, here: Feature) -> str:
    """What stands between two features: the space of the second, or one that the text has and neither of them."""
    label = visible(here.label)
    own = label[: len(label) - len(label.lstrip(" "))]
    if own or not label or before.label[-1:].isspace():
        return own
    if before.end is None or here.start is None or (before.part, before.turn) != (here.part, here.turn):
        return " " if here.kind in ("word", "span") else ""
    # Some tokenizers count the space before a word to it and leave it out of its label.
    wider = here.end is not None and here.end - here.start > len(here.label)
    return " " if wider or here.start > before.end else ""


def _gallery(found: Interactions, drawing: Drawing) -> list[ImagePanel]:
    """The targets' picture once for each word that is a source, small; all on one scale."""
    words = [j for j in text_members(found.sources) if not found.sources[j].template]
    image_views = image_views_of(found.features, found.pictures)
    if found.square or len(image_views) != 1 or len(words) > MAX_GALLERY:
        return []
    small = replace(drawing, scripted=False, small=True)
    every_shares = [_shares_of(found, found.features, found.values[j].tolist()) for j in words]
    largest = largest_on(image_views, every_shares)
    views = [small.view(image_views[0], shares, largest, several=False) for shares in every_shares]
    return [
        replace(view, label=name(found.sources[j]), sum=f"together {precise(sum(shares.scores))} {shares.target.unit}")
        for j, view, shares in zip(words, views, every_shares, strict=True)
    ]


def _shares_of(found: Interactions, features: Sequence[Feature], values: Sequence[float]) -> TargetShares:
    return TargetShares(
        target=found.target,
        features=tuple(features),
        scores=tuple(values),
        position_scores=None,
        standard_errors=None,
        largest=largest_size(values),
        blocks=(),
        accounts=None,
        sizes=sum(map(abs, values)),
    )


def _target_tips(found: Interactions) -> list[str]:
    """Of each target what it has by itself and from others."""
    return [f"by itself {alone}\nfrom others {others}" for _, _, alone, others, _ in _shares(found, precise)]


def _shares(found: Interactions, shown: Any) -> list[tuple[int, str, str, str, str]]:
    """Of each target: its index, first-order attribution, what it has alone, from others, and what is missing."""
    values = found.values.sum(0)
    gap = found.gap
    lines = []
    for i, own in enumerate(found.source_of):
        alone = _alone(found, i)
        others = values[i].item() - (0 if own is None else alone)
        lines.append((i, shown(found.first_order[i].item()), shown(alone), shown(others), gap_text(gap[i].item())))
    return lines


def _alone(found: Interactions, target: int) -> float:
    own = found.source_of[target]
    return (found.main_effect[target] if own is None else found.values[own, target]).item()


def _accounts(found: Interactions) -> dict[str, Any]:
    """The first-order attribution of each target as a sum, and of all together."""
    first, gap = found.first_order.sum().item(), found.gap.sum().item()
    alone = sum(_alone(found, i) for i in range(len(found.features)))
    largest = largest_size([*found.first_order.tolist(), *found.main_effect.tolist(), first])
    return {
        "lines": [(name(found.features[i]), *line) for i, *line in _shares(found, lambda v: signed(v, largest))]
        if len(found.features) <= MAX_ACCOUNTS
        else [],
        "total": (signed(first, largest), signed(alone, largest), signed(first - alone - gap, largest), gap_text(gap)),
        "error": None
        if found.standard_errors is None
        else f"{found.standard_errors.nan_to_num().max().item():.2g}, the median {found.standard_errors.median():.2g}",
    }


def _tip(found: Interactions, source: int, target: int) -> str:
    one = effect(found, source, target)
    mine, other = name(found.sources[source]), name(found.features[target])
    error = "" if one.error is None else f" ± {one.error:.2g}"
    title = f"“{mine}” by itself" if found.source_of[target] == source else f"“{mine}” {link(found)} “{other}”"
    return f"{title}\n{precise(one.value)}{error} {found.target.unit}"


def _matrix(found: Interactions, largest: float) -> dict[str, Any] | None:
    """The table of all values; what a feature has by itself is on a scale of its own."""
    if max(found.values.shape) > MAX_TABLE or not found.values.numel():
        return None
    values = found.values.tolist()
    own = largest_size([values[j][i] for i, j in enumerate(found.source_of) if j is not None])
    sums = largest_size(found.first_order.tolist())
    rows = []
    for j, (source, line) in enumerate(zip(found.sources, values, strict=True)):
        cells = []
        for i, value in enumerate(line):
            mine = found.source_of[i] == j
            step = step_of(strength(value, own if mine else largest))
            cells.append((step, mine, signed(value, largest), _tip(found, j, i)))
        rows.append((name(source, LABEL), cells))
    return {
        "columns": [name(target, LABEL) for target in found.features],
        "rows": rows,
        "sums": [
            (step_of(strength(v, sums)), signed(v, largest), f"“{name(target)}”, first order\n{precise(v)}")
            for target, v in zip(found.features, found.first_order.tolist(), strict=True)
        ],
        "numbers": max(found.values.shape) <= MAX_NUMBERS,
        "low": signed(-largest, largest),
        "high": signed(largest, largest),
        "own": signed(own, own) if own else None,
    }


def _bars(found: Interactions, largest: float) -> list[dict[str, Any]]:
    sources, targets = names(found.sources, LABEL), names(found.features, LABEL)
    bars = []
    for one in effects(found, PAGE_TOP):
        at = strength(one.value, largest)
        bars.append(
            {
                "source": sources[one.source],
                "target": targets[one.target],
                "number": signed(one.value, largest),
                "error": "" if one.error is None else f"± {one.error:.2g}",
                "step": step_of(math.copysign(0.6, at)),
                "left": round(50 + min(0.0, 50 * at), 3),
                "width": round(50 * abs(at), 3),
                "tip": _tip(found, one.source, one.target),
            }
        )
    return bars
