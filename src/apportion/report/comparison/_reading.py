"""What a comparison says in words."""

from __future__ import annotations

from apportion.report.kit import percent, visible
from apportion.results import Attribution

FAVOURITES = 3


def tokens_hold(attribution: Attribution) -> str:
    """The tokens' part of the (first) target, for a method whose scores are amounts."""
    ledger = attribution.ledger
    if ledger is None:
        return ""
    held = attribution.scores.double().sum(-1).reshape(-1)[0].item()
    total = ledger.total.reshape(-1)[0].item()
    return percent(held / total) if total else ""


def favourites(attribution: Attribution) -> tuple[str, ...]:
    """The labels of the features with the largest shares, other than template tokens, best first."""
    one = attribution[0] if attribution.scores.ndim == 2 else attribution
    best = (feature for feature, _ in one.top(len(one.features)) if not feature.template and feature.label.strip())
    return tuple(visible(feature.label).strip() for feature, _ in zip(best, range(FAVOURITES), strict=False))


def passes(count: float) -> str:
    """A number of passes: whole where it is whole."""
    return f"{count:.0f}" if count == round(count) else f"{count:.1f}"
