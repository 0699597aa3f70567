"""A shares: one target of an attribution in plain numbers, as every report shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from apportion.core import Feature, Ledger
from apportion.report.kit._accounts import Accounts, accounts_of
from apportion.report.kit._blocks import Block, blocks_of
from apportion.report.kit._colour import largest_size, strength
from apportion.results import Attribution, Explained


@dataclass(frozen=True, kw_only=True)
class TargetShares:
    """One target's shares.

    Args:
        target: What was divided.
        features: What the shares belong to.
        scores: The shares, one per feature.
        position_scores: Shares of the position embeddings, where the attribution has them.
        standard_errors: How uncertain each share is, where the method draws samples.
        largest: Where the colour scale of the report ends: the largest size among all its targets.
        blocks: The features in reading order under their headings.
        accounts: The ledger, where the method keeps one.
        sizes: The sum of the sizes of all shares, also of features that are left out here.
    """

    target: Explained
    features: tuple[Feature, ...]
    scores: tuple[float, ...]
    position_scores: tuple[float, ...] | None
    standard_errors: tuple[float, ...] | None
    largest: float
    blocks: tuple[Block, ...]
    accounts: Accounts | None
    sizes: float

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The features by the size of their shares, largest first."""
        return tuple(sorted(range(len(self.scores)), key=lambda i: -abs(self.scores[i])))

    @cached_property
    def divided(self) -> float:
        """What a percentage is taken of: the ledger's total, or the sum of all sizes without a ledger.

        Without a ledger the shares need not sum to the target, and may have been rescaled.
        """
        return self.sizes if self.accounts is None else self.accounts.total

    @property
    def divided_name(self) -> str:
        """What `divided` is, in words."""
        return "all sizes" if self.accounts is None else "the total"

    def share(self, amount: float) -> float | None:
        """`amount` as a fraction of `divided`; None where that is 0."""
        return None if self.divided == 0 else amount / self.divided

    def strength(self, i: int) -> float:
        """Where the share of feature `i` lies on the colour scale, from −1 to 1."""
        return strength(self.scores[i], self.largest)


def target_shares(
    attribution: Attribution, *, at_most: int | None = None, of: Sequence[int] | None = None
) -> list[TargetShares]:
    """The shares of each target, for the first `at_most` targets; all share one colour scale.

    Args:
        attribution: What is shown.
        at_most: How many targets.
        of: Only these features, such as those of the text.
    """
    members = range(len(attribution.features)) if of is None else of
    features = tuple(attribution.features[i] for i in members)
    columns = None if of is None else torch.tensor(list(of), dtype=torch.long)

    def kept(values: Tensor) -> Tensor:
        return values if columns is None else values.index_select(-1, columns.to(values.device))

    largest = largest_size(kept(attribution.scores).flatten().tolist())
    blocks = blocks_of(features)
    shown: list[TargetShares] = []
    for one in attribution:
        if at_most is not None and len(shown) == at_most:
            break
        positions, errors = (
            None if values is None else tuple(kept(values).tolist())
            for values in (one.position_scores, one.standard_errors)
        )
        shown.append(
            TargetShares(
                target=one.target,
                features=features,
                scores=tuple(kept(one.scores).tolist()),
                position_scores=positions,
                standard_errors=errors,
                largest=largest,
                blocks=blocks,
                accounts=None if one.ledger is None else accounts_of(one.ledger),
                sizes=sum(map(abs, one.scores.tolist()), 0.0),
            )
        )
    return shown


def target_shares_of(
    target: Explained,
    features: Sequence[Feature],
    scores: Sequence[float],
    *,
    largest: float | None = None,
    ledger: Ledger | None = None,
    sizes: float | None = None,
) -> TargetShares:
    """Numbers from elsewhere, such as the amounts of a ledger, as shares.

    Args:
        target: What was divided.
        features: What the numbers belong to.
        scores: The numbers.
        largest: Where the colour scale ends; by default at the largest size.
        ledger: The accounts of one target.
        sizes: What a percentage is taken of without a ledger; by default the sum of all sizes.
    """
    return TargetShares(
        target=target,
        features=tuple(features),
        scores=tuple(scores),
        position_scores=None,
        standard_errors=None,
        largest=largest_size(scores) if largest is None else largest,
        blocks=blocks_of(features),
        accounts=None if ledger is None else accounts_of(ledger),
        sizes=sum(map(abs, scores)) if sizes is None else sizes,
    )
