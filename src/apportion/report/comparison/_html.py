"""The comparison's page: the text once per method, what each method took, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apportion.report.comparison._reading import favourites, passes, tokens_hold
from apportion.report.kit import (
    LONG,
    PREDICTIONS,
    Drawing,
    ImagePanel,
    TextView,
    environment,
    image_views_of,
    largest_on,
    own_scope,
    signed,
    step_of,
    surface,
    target_shares,
    text_members,
    text_view,
    visible,
)
from apportion.results import Attribution, Comparison

# More targets than this are for `Comparison[name][i]`, one by one.
MAX_TARGETS = 6


def comparison_page(comparison: Comparison) -> str:
    """The comparison as one HTML file that asks nothing of the network and follows the reader's light or dark."""
    return environment().get_template("comparison_page.html").render(_context(comparison, "apportion", scripted=True))


def comparison_fragment(comparison: Comparison) -> str:
    """The comparison for a notebook's output: needs no script, and its styles hold for itself alone."""
    scope = own_scope()
    return environment().get_template("comparison.html").render(_context(comparison, scope, scripted=False))


@dataclass(frozen=True, kw_only=True)
class _Card:
    """One method's view of the text, if there is one, with the ends of its colour scale, and its maps of the images."""

    name: str
    scale: str
    view: TextView | None
    image_views: tuple[ImagePanel, ...]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One method in the table."""

    name: str
    conserves: str
    tokens: str
    residual: str
    favourites: tuple[str, ...]
    seconds: str
    forward: str
    backward: str


def _context(comparison: Comparison, scope: str, *, scripted: bool) -> dict[str, Any]:
    every = list(comparison.values())
    first = every[0]
    text = text_members(first.features)
    drawing = Drawing(scripted=scripted, small=True)
    targets = first.explained[:MAX_TARGETS]
    cards = [[_card(name, comparison[name], t, drawing) for name in comparison] for t in range(len(targets))]
    return {
        **surface(scope),
        "model": visible(first.model) if first.model else "",
        "targets": [
            {
                "label": visible(target.label),
                "value": signed(target.value, abs(target.value)),
                "unit": target.unit,
                "cards": cards[t],
            }
            for t, target in enumerate(targets)
        ],
        "hidden": len(first.explained) - len(targets),
        "prediction": [
            (visible(label), f"{100 * p:.1f}%", round(100 * p, 2)) for label, p in first.prediction[:PREDICTIONS]
        ],
        "rows": [_row(name, comparison[name]) for name in comparison],
        "shared": (passes(comparison.shared.forward), f"{comparison.shared.seconds:.2f}"),
        "refused": [(name, str(error)) for name, error in comparison.refused.items()],
        "correlations": _correlations(comparison),
        "long": len(text) > LONG,
        "text": bool(text),
        "pictures": drawing.content if drawing.photos and scripted else None,
        **drawing.style,
    }


def _card(name: str, attribution: Attribution, target: int, drawing: Drawing) -> _Card:
    text = text_members(attribution.features)
    every = target_shares(attribution)
    image_views = image_views_of(attribution.features, attribution.pictures)
    largest = largest_on(image_views, every)
    shown = tuple(
        drawing.view(image_view, every[target], largest, several=len(image_views) > 1) for image_view in image_views
    )
    if not text:
        return _Card(name=name, scale="", view=None, image_views=shown)
    view = text_view(name, target_shares(attribution, of=text)[target])
    lowest = view.most_negative if bool((attribution.scores[..., text] < 0).any()) else "0"
    return _Card(name=name, scale=f"{lowest} … {view.most_positive}", view=view, image_views=shown)


def _row(name: str, attribution: Attribution) -> _Row:
    cost = attribution.cost
    return _Row(
        name=name,
        conserves=attribution.conserves,
        tokens=tokens_hold(attribution),
        residual=_residual(attribution),
        favourites=favourites(attribution),
        seconds="" if cost is None else f"{cost.seconds:.2f}",
        forward="" if cost is None else passes(cost.forward),
        backward="" if cost is None else passes(cost.backward),
    )


def _residual(attribution: Attribution) -> str:
    if attribution.ledger is None:
        return ""
    largest = attribution.ledger.relative_residual.max().item()
    return f"{largest:.0e}".replace("-", "−") if largest else "0"


def _correlations(comparison: Comparison) -> Sequence[tuple[str, Sequence[tuple[str, str]]]]:
    """For each method its correlation with every method: what is shown and its step on the colour scale."""
    found = comparison.rank_correlations().tolist()
    return [
        (
            name,
            [
                ("–", step_of(0)) if value != value else (f"{value:.2f}".replace("-", "−"), step_of(value))
                for value in row
            ],
        )
        for name, row in zip(comparison, found, strict=True)
    ]
