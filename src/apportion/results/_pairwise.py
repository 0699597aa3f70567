"""Pairwise: a similarity divided among pairs of features, one of each side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float
from torch import Tensor

from apportion.core import (
    ApportionError,
    Feature,
    Ledger,
    Picture,
    Saved,
    Shown,
    feature_index,
    pandas_module,
    summed_into_words,
)
from apportion.results._attribution import Attribution
from apportion.results._explained import Cost, Explained

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True, repr=False)
class Pairwise(Shown, Saved):
    """Shares of a similarity, one for each feature of the first side with each of the second.

    The similarity is the sum of `scores`, `row_rest`, `column_rest` and what neither side's features have; `ledger`
    says which biases, positions and the like that is.

    Args:
        scores: What a row's and a column's feature have together.
        rows: Features of the first side.
        columns: Features of the second side.
        row_rest: What each row's feature shares with parts of the second side that are not features, such as biases.
        column_rest: The same of each column's feature and the first side.
        row_values: What each row's feature has in all, with the second encoding held constant: the row and its rest;
            under AttnLRP twice its share of the similarity.
        column_values: The same of each column's feature.
        explained: The similarity.
        ledger: Where all of it went.
        method: Name of the method.
        options: The method's options, JSON-ready.
        model: Name of the model.
        cost: What it took.
        pictures: Images that some of the features are parts of.
    """

    scores: Float[Tensor, "row column"]
    rows: tuple[Feature, ...]
    columns: tuple[Feature, ...]
    row_rest: Float[Tensor, " row"]
    column_rest: Float[Tensor, " column"]
    row_values: Float[Tensor, " row"]
    column_values: Float[Tensor, " column"]
    explained: Explained
    ledger: Ledger
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    cost: Cost | None = None
    pictures: tuple[Picture, ...] = ()

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.rows), len(self.columns)):
            raise ApportionError(
                f"scores of shape {tuple(self.scores.shape)} were given for {len(self.rows)} × {len(self.columns)} "
                "features."
            )

    def top(
        self, k: int = 5, *, by: Literal["size", "value"] = "size", template: bool = False
    ) -> list[tuple[Feature, Feature, float]]:
        """The `k` pairs with the largest shares, best first.

        Args:
            k: How many.
            by: Absolute size or signed value.
            template: Whether special tokens count.
        """
        kept = [not (template is False and f.template) for f in self.rows]
        columns = [not (template is False and f.template) for f in self.columns]
        order = (self.scores.abs() if by == "size" else self.scores).flatten().argsort(descending=True, stable=True)
        found = []
        for place in order.tolist():
            i, j = divmod(place, len(self.columns))
            if kept[i] and columns[j]:
                found.append((self.rows[i], self.columns[j], self.scores[i, j].item()))
            if len(found) == k:
                break
        return found

    def row(self, feature: int | str) -> Attribution:
        """What a feature of the first side finds on the second side, by its index or its label."""
        i = feature_index(feature, self.rows, "row")
        return self._line(self.rows[i], self.columns, self.scores[i], self.row_rest[i], self.row_values[i])

    def column(self, feature: int | str) -> Attribution:
        """What a feature of the second side finds on the first side, by its index or its label."""
        j = feature_index(feature, self.columns, "column")
        return self._line(self.columns[j], self.rows, self.scores[:, j], self.column_rest[j], self.column_values[j])

    def _line(
        self, feature: Feature, others: tuple[Feature, ...], scores: Tensor, rest: Tensor, value: Tensor
    ) -> Attribution:
        label = f"{self.explained.label} through {feature.label.strip()!r}"
        ledger = Ledger(total=value, lines={"features": scores.sum(), "the other side's rest": rest})
        return Attribution(
            scores=scores,
            features=others,
            explained=(Explained(label=label, unit=self.explained.unit, value=value.item()),),
            method=self.method,
            options=self.options,
            ledger=ledger,
            model=self.model,
            conserves="exactly",
            pictures=self.pictures,
        )

    def words(self) -> Pairwise:
        """The same shares summed over the tokens of each word, on both sides; features of images stay as they are."""
        into, rows = summed_into_words(self.rows)
        of, columns = summed_into_words(self.columns)
        return replace(
            self,
            scores=into.T @ self.scores @ of,
            rows=rows,
            columns=columns,
            row_rest=into.T @ self.row_rest,
            row_values=into.T @ self.row_values,
            column_rest=of.T @ self.column_rest,
            column_values=of.T @ self.column_values,
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a line for each pair: the features' labels, their numbers and their share."""
        return pandas_module().DataFrame(
            [
                {"row": i, "column": j, "first": row.label, "second": column.label, "score": self.scores[i, j].item()}
                for i, row in enumerate(self.rows)
                for j, column in enumerate(self.columns)
            ]
        )
