"""Attribution: the one result that every first-order method returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import (
    AnyFeatures,
    AnySpans,
    ApportionError,
    Feature,
    Group,
    Ledger,
    Picture,
    Saved,
    Shown,
    feature_groups,
    group_feature,
    pandas_module,
)
from apportion.results._between import between
from apportion.results._explained import Cost, Explained
from apportion.results._of_targets import OfTargets

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True, repr=False)
class Attribution(OfTargets, Shown, Saved):
    """Shares of a target, one per feature, with their accounts.

    Args:
        scores: One share per feature, in the target's unit; an axis of targets in front when several were
            explained at once.
        features: What the shares belong to, in the order of the last axis of `scores`.
        explained: The target or targets, in the order of the first axis.
        method: Name of the method, such as `"attnlrp"`.
        options: The method's options, JSON-ready.
        ledger: Where the rest of the target went; None for a method that keeps no accounts.
        position_scores: Shares of the learned position embeddings, where the model has them: not contained in
            `scores`; `with_positions` adds them.
        prediction: The model's most likely outputs for this input, label and probability, best first.
        model: Name of the model.
        standard_errors: How uncertain each score is, for a method that draws samples.
        conserves: Whether the scores sum to the target: `"exactly"`, with the ledger's other lines; `"with a
            remainder"` that the ledger names; or `"no"`: then they rank the features but are not amounts.
        cost: What it took.
        pictures: The images that some of the features are parts of; `Feature.image` tells which.
    """

    by_target: ClassVar[tuple[str, ...]] = ("scores", "ledger", "position_scores", "standard_errors")
    axes = 1

    scores: Float[Tensor, "*targets feature"]
    features: tuple[Feature, ...]
    explained: tuple[Explained, ...]
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ledger: Ledger | None = None
    position_scores: Float[Tensor, "*targets feature"] | None = None
    prediction: tuple[tuple[str, float], ...] = ()
    model: str = ""
    standard_errors: Float[Tensor, "*targets feature"] | None = None
    conserves: Literal["exactly", "with a remainder", "no"] = "no"
    cost: Cost | None = None
    pictures: tuple[Picture, ...] = ()

    def __post_init__(self) -> None:
        if self.scores.ndim not in (1, 2):
            raise ApportionError(
                f"scores have {self.scores.ndim} axes; they need one (features) or two (targets × features)."
            )
        if self.scores.shape[-1] != len(self.features):
            raise ApportionError(f"{self.scores.shape[-1]} scores were given for {len(self.features)} features.")
        if len(self.explained) != (1 if self.scores.ndim == 1 else len(self.scores)):
            raise ApportionError(
                f"{len(self.explained)} targets do not fit scores of shape {tuple(self.scores.shape)}."
            )

    def with_positions(self) -> Attribution:
        """The same shares with those of the position embeddings added to the tokens they were added to."""
        if self.position_scores is None:
            return self
        ledger = self.ledger
        if ledger is not None and "positions" in ledger.lines:
            # Only what has a place in the sequence moves; a position table that no token owns keeps its line.
            moved = self.position_scores.sum(-1).to(ledger.total)
            lines = {name: amount for name, amount in ledger.lines.items() if name != "positions"}
            lines = {"tokens and positions": lines.pop("tokens") + moved, **lines}
            left = ledger.lines["positions"] - moved
            if bool((left != 0).any()):
                lines["positions"] = left
            ledger = replace(ledger, lines=lines)
        return replace(self, scores=self.scores + self.position_scores, position_scores=None, ledger=ledger)

    def words(self) -> Attribution:
        """The same shares summed over the tokens of each word.

        A token begins a word when it begins with white space, where letters or digits meet punctuation, or when it
        belongs to another part, role or turn than the one before it; template tokens stay by themselves.
        """
        return self.grouped("words")

    def sentences(self) -> Attribution:
        """The same shares summed over the tokens of each sentence; template tokens stay by themselves."""
        return self.grouped("sentences")

    def paragraphs(self) -> Attribution:
        """The same shares summed over the tokens of each paragraph; template tokens stay by themselves."""
        return self.grouped("paragraphs")

    def spans(self, spans: Mapping[str, str | Sequence[int]] | list[str] | tuple[str, ...]) -> Attribution:
        """The same shares summed over spans of the prompt; every feature outside keeps its own share.

        Args:
            spans: Names with their features, given as a text that occurs once or as indices of features; or just texts.

        Raises:
            ApportionError: A text does not occur, occurs more than once, or overlaps another span.
        """
        return self.grouped(spans)

    def grouped(self, features: AnyFeatures) -> Attribution:
        """The same shares summed over parts of the prompt: `"words"`, `"sentences"`, `"paragraphs"`, or spans.

        Raises:
            ApportionError: The name is not known, or a span does not fit.
        """
        if isinstance(features, str) and features in ("tokens", "patches"):
            return self
        return self._summed(feature_groups(self.features, features), kind="word" if features == "words" else "span")

    def between(self, answer: AnySpans | None = None, context: AnySpans | None = None) -> Attribution:
        """Spans of an answer against spans of what stood before: rows summed over the one, columns over the other.

        Log-probabilities add up to that of a span; sums of logits or probabilities are named as such.

        Args:
            answer: Spans of the answer: one text that occurs in it once, texts, or names with texts or indices of
                features. By default its parts, such as thinking and answer.
            context: The same of the prompt, or of the answer where the prompt does not hold the text; what is in none
                of them is the last column, "(the rest)". By default the parts and turns of the prompt and the answer.

        Raises:
            ApportionError: This is not an attribution of an answer, or a span does not occur once.
        """
        spans = between(self.features, self.explained if self.scores.ndim == 2 else (), answer, context)
        into, of = (membership.to(self.scores.dtype) for membership in (spans.into, spans.of))
        positions = self.position_scores
        return replace(
            self,
            scores=into.T @ self.scores @ of,
            position_scores=None if positions is None else into.T @ positions @ of,
            # The errors of a sum need the covariances of its parts, which no result keeps.
            standard_errors=None,
            features=spans.columns,
            explained=spans.rows,
            ledger=None if self.ledger is None else self.ledger.summed(into),
        )

    def top(self, k: int = 5, *, by: Literal["size", "value"] = "size") -> list[tuple[Feature, float]]:
        """The `k` features with the largest shares, by absolute size or by signed value, best first."""
        scores = self[0].scores if self.scores.ndim == 2 and len(self) == 1 else self.scores
        if scores.ndim != 1:
            raise ApportionError(
                f"this attribution has {len(self)} targets: take one by its index, such as a[0].top()."
            )
        order = (scores.abs() if by == "size" else scores).argsort(descending=True, stable=True)[:k]
        return [(self.features[i], scores[i].item()) for i in order.tolist()]

    def normalized(self, how: Literal["max", "sum", "total"] = "max") -> Attribution:
        """The same shares scaled: largest size 1 (`"max"`), sizes summing to 1 (`"sum"`), or fractions of the
        target's value (`"total"`). The ledger is dropped, since its unit is no longer that of the scores.
        """
        if how == "max":
            scale = self.scores.abs().amax(-1, keepdim=True)
        elif how == "sum":
            scale = self.scores.abs().sum(-1, keepdim=True)
        elif how == "total":
            values = torch.tensor([e.value for e in self.explained], dtype=self.scores.dtype)
            scale = values[0].reshape(1) if self.scores.ndim == 1 else values[:, None]
        else:
            raise ApportionError(f"normalized({how!r}) is not known; use 'max', 'sum' or 'total'.")
        if bool((scale == 0).any()):
            raise ApportionError(
                f"normalized({how!r}) would divide by 0: "
                + ("the target's value is 0." if how == "total" else "all shares are 0.")
            )
        positions = None if self.position_scores is None else self.position_scores / scale
        errors = None if self.standard_errors is None else self.standard_errors / scale.abs()
        return replace(self, scores=self.scores / scale, position_scores=positions, standard_errors=errors, ledger=None)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a row per feature (and target): label, share, position share and where it stands."""
        rows = []
        for one in self:
            for i, feature in enumerate(one.features):
                row = {"target": one.target.label, "feature": feature.label, "score": one.scores[i].item()}
                if one.position_scores is not None:
                    row["position_score"] = one.position_scores[i].item()
                if one.standard_errors is not None:
                    row["standard_error"] = one.standard_errors[i].item()
                rows.append({**row, **{k: v for k, v in feature.to_dict().items() if k != "label"}})
        return pandas_module().DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures in JSON-ready values, for the shell and for other programs."""
        values = super().to_dict()
        return {"targets": values.pop("explained"), **values}

    def _summed(self, groups: Sequence[Group], *, kind: Literal["word", "span"]) -> Attribution:
        """Sum the shares of each group of features."""
        column = torch.empty(len(self.features), dtype=torch.long)
        for k, (_, group) in enumerate(groups):
            column[group] = k
        # The errors of a sum need the covariances of its parts, which no result keeps.
        alone = len(groups) == len(self.features)

        def summed(scores: Tensor) -> Tensor:
            return scores.new_zeros(*scores.shape[:-1], len(groups)).index_add(-1, column, scores)

        return replace(
            self,
            scores=summed(self.scores),
            position_scores=None if self.position_scores is None else summed(self.position_scores),
            standard_errors=self.standard_errors if alone else None,
            features=tuple(group_feature(self.features, group, kind) for group in groups),
            explained=tuple(replace(e, feature=_group_of(e.feature, groups)) for e in self.explained),
        )


def _group_of(feature: int | None, groups: Sequence[Group]) -> int | None:
    return None if feature is None else next(k for k, (_, group) in enumerate(groups) if feature in group)
