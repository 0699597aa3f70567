"""The attribution of an answer, as reports see it: every token of it, and the sum over all of them."""

from __future__ import annotations

from dataclasses import replace

from apportion.core import Ledger
from apportion.results import Attribution, Explained
from apportion.targets import summed_unit


def of_answer(attribution: Attribution) -> bool:
    """Whether the targets are tokens that are features themselves, as those of an answer are."""
    return attribution.scores.ndim == 2 and all(e.feature is not None for e in attribution.explained)


def summed(attribution: Attribution) -> Attribution:
    """All targets as one, their sum."""
    explained = attribution.explained
    ledger = attribution.ledger
    if ledger is not None:
        lines = {name: amount.sum(0) for name, amount in ledger.lines.items()}
        ledger = Ledger(total=ledger.total.sum(0), lines=lines)
    positions = attribution.position_scores
    return replace(
        attribution,
        scores=attribution.scores.sum(0),
        position_scores=None if positions is None else positions.sum(0),
        standard_errors=None,
        explained=(
            Explained(
                label=f"sum over {len(explained)} tokens",
                unit=summed_unit(explained[0].unit, len(explained)),
                value=sum(e.value for e in explained),
            ),
        ),
        ledger=ledger,
    )
