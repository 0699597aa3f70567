"""The HTML report: one self-contained page, or a fragment of it for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from apportion.report.kit import (
    LONG,
    PAGE_LABEL,
    PAGE_TOP,
    PREDICTIONS,
    Bar,
    Books,
    Drawing,
    ImagePanel,
    ImageView,
    TargetShares,
    TextView,
    bar_of,
    books_of,
    cut,
    environment,
    exact,
    image_views_of,
    largest_on,
    order_of,
    own_scope,
    place,
    signed,
    surface,
    target_shares,
    text_members,
    text_view,
    visible,
)
from apportion.results import Attribution

# Numbers stand under the features from the start where there are few.
FEW = 24
# Targets times features that a page and a notebook's output may hold, at about 300 bytes each, and targets.
PAGE_CELLS = 40_000
FRAGMENT_CELLS = 8_000
MAX_TARGETS = 256
# Numbers of images that a page and a notebook's output may hold, at about 8 bytes each.
PAGE_PATCHES = 1_000_000
FRAGMENT_PATCHES = 200_000
# More parts of images than this have no row each in the table of all numbers.
MAX_ROWS = 400


def html_page(attribution: Attribution) -> str:
    """The attribution as one HTML file that asks nothing of the network and follows the reader's light or dark."""
    budget = _Budget(cells=PAGE_CELLS, patches=PAGE_PATCHES, scripted=True)
    return environment().get_template("page.html").render(_context(attribution, "apportion", budget))


def html_fragment(attribution: Attribution) -> str:
    """The attribution for a notebook's output: needs no script, and its styles hold for itself alone."""
    scope = own_scope()
    budget = _Budget(cells=FRAGMENT_CELLS, patches=FRAGMENT_PATCHES, scripted=False)
    return environment().get_template("report.html").render(_context(attribution, scope, budget))


@dataclass(frozen=True, kw_only=True)
class _Budget:
    """What a page may hold: targets times features of the text, the same of images, and whether it has a script."""

    cells: int
    patches: int
    scripted: bool


@dataclass(frozen=True, kw_only=True)
class _Regions:
    """The largest shares of a picture's regions; `map` is the script's, and `members` are the regions in it."""

    heading: str
    map: int | None
    members: tuple[int, ...]
    top: tuple[Bar, ...]
    more: str


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """Everything about one target."""

    label: str
    value: str
    unit: str
    views: tuple[TextView, ...]
    image_views: tuple[ImagePanel, ...]
    regions: tuple[_Regions, ...]
    divided_name: str
    ledger: Books | None


def _context(attribution: Attribution, scope: str, budget: _Budget) -> dict[str, Any]:
    text = text_members(attribution.features)
    image_views = image_views_of(attribution.features, attribution.pictures)
    patches = sum(len(image_view.members) for image_view in image_views)
    at_most = min(MAX_TARGETS, budget.cells // max(1, len(text)), budget.patches // max(1, patches))
    every = target_shares(attribution, at_most=max(1, at_most))
    grains = (
        [("tokens", target_shares(attribution, at_most=len(every), of=text) if image_views else every)] if text else []
    )
    words = _of_text(attribution, text).words() if text else attribution
    if text and len(words.features) != len(text):
        grains.append(("words", target_shares(words, at_most=len(every))))
    # A share is a part of the whole, also where the text is only a part of what it is divided among.
    if image_views:
        grains = [(name, [replace(r, sizes=o.sizes) for r, o in zip(g, every, strict=True)]) for name, g in grains]
    drawing = Drawing(scripted=budget.scripted)
    largest = largest_on(image_views, every)
    panels = []
    for i, shares in enumerate(every):
        views = tuple(text_view(name, grain[i]) for name, grain in grains)
        shown = tuple(
            drawing.view(image_view, shares, largest, several=len(image_views) > 1) for image_view in image_views
        )
        regions = tuple(
            _regions(image_view, shares, one, largest) for image_view, one in zip(image_views, shown, strict=True)
        )
        panels.append(_panel(shares, views, shown, regions))
    return {
        **surface(scope),
        "method": attribution.method,
        "model": visible(attribution.model) if attribution.model else "",
        "options": [(n, str(value)) for n, value in attribution.options.items() if not isinstance(value, dict)],
        "prediction": [
            (visible(label), f"{100 * p:.1f}%", round(100 * p, 2)) for label, p in attribution.prediction[:PREDICTIONS]
        ],
        "panels": panels,
        "hidden": len(attribution) - len(panels),
        "grains": [name for name, _ in grains],
        "numbers": len(text) <= FEW,
        "long": len(text) > LONG,
        "table": _raw_table(attribution, every, image_views),
        "pictures": drawing.content if image_views and budget.scripted else None,
        **drawing.style,
    }


def _of_text(attribution: Attribution, members: Sequence[int]) -> Attribution:
    """The shares of some features alone, with the accounts of all."""
    kept = torch.tensor(list(members), dtype=torch.long)

    def of(values: torch.Tensor | None) -> torch.Tensor | None:
        return None if values is None else values.index_select(-1, kept)

    return replace(
        attribution,
        scores=attribution.scores.index_select(-1, kept),
        position_scores=of(attribution.position_scores),
        standard_errors=of(attribution.standard_errors),
        features=tuple(attribution.features[i] for i in members),
        explained=tuple(replace(e, feature=None) for e in attribution.explained),
    )


def _panel(
    shares: TargetShares,
    views: tuple[TextView, ...],
    image_views: tuple[ImagePanel, ...],
    regions: tuple[_Regions, ...],
) -> _Panel:
    target = shares.target
    return _Panel(
        label=cut(visible(target.label), PAGE_LABEL),
        value=signed(target.value, abs(target.value)),
        unit=target.unit,
        views=views,
        image_views=image_views,
        regions=regions,
        divided_name=shares.divided_name,
        ledger=None if shares.accounts is None else books_of(shares, shares.accounts),
    )


def _regions(image_view: ImageView, shares: TargetShares, view: ImagePanel, largest: float) -> _Regions:
    order = order_of(image_view, shares)
    scaled = replace(shares, largest=largest)
    hidden = order[PAGE_TOP:]
    rest = sum((shares.scores[image_view.members[m]] for m in hidden), 0.0)
    return _Regions(
        heading=f"Largest {image_view.noun}" + (f" of {image_view.picture.label}" if view.label else ""),
        map=view.map,
        members=tuple(order[:PAGE_TOP]),
        top=tuple(
            bar_of(scaled, image_view.members[m], rank, len(image_view.members))
            for rank, m in enumerate(order[:PAGE_TOP], start=1)
        ),
        more=f"{len(hidden)} more, together {signed(rest, largest)}" if hidden else "",
    )


def _raw_table(
    attribution: Attribution, shown: Sequence[TargetShares], image_views: Sequence[ImageView]
) -> dict[str, Any]:
    """Every number with all its digits: a row per feature, a column per target.

    Many parts of images have no rows: a page of fifty thousand pixels would not open.
    """
    parts = {i for image_view in image_views for i in image_view.members}
    if len(parts) <= MAX_ROWS:
        parts = set()
    dtype = attribution.scores.dtype
    kept = [i for i in range(len(attribution.features)) if i not in parts]
    columns: list[tuple[str, list[str]]] = []
    for shares in shown:
        name = "share" if len(shown) == 1 else visible(shares.target.label)
        columns.append((name, [exact(shares.scores[i], dtype) for i in kept]))
        if shares.position_scores is not None:
            positions = [exact(shares.position_scores[i], dtype) for i in kept]
            columns.append(("position embedding" if len(shown) == 1 else f"{name}, position embedding", positions))
    features = attribution.features
    return {
        "columns": [name for name, _ in columns],
        "rows": [
            (i, visible(features[i].label), place(features[i]), [values[k] for _, values in columns])
            for k, i in enumerate(kept)
        ],
        "left": len(parts),
    }
