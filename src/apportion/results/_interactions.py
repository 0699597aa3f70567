"""Interactions: how each feature moves the attribution of each other feature, the second order of an explanation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import (
    ApportionError,
    Feature,
    Picture,
    Saved,
    Shown,
    feature_index,
    pandas_module,
    summed_into_words,
)
from apportion.results._attribution import Attribution
from apportion.results._explained import Cost, Explained
from apportion.results._shapiq import as_interaction_values

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas


@dataclass(frozen=True, kw_only=True, repr=False)
class Interactions(Shown, Saved):
    r"""How far each source moves the attribution of each target: $\varphi_{j \to i}$.

    A target's first-order value is divided among the sources: $\varphi_i = \sum_j \varphi_{j \to i}$, plus `alone`
    where the target is no source itself. Where it is one, `values` holds on the diagonal what it has by itself.

    Args:
        values: $\varphi_{j \to i}$, sources by targets.
        alone: What each target has with no other source present: $\varphi_{i \to i}$ where it is a source.
        first_order: What each target has with all sources present: the first-order attribution.
        sources: The features that play.
        targets: The features whose attribution is divided.
        source_of: For each target its index among the sources; None where it does not play.
        explained: The target of the first-order attribution.
        index: What the values are: `"metagame"`, or one that is symmetric (see `metagame.neighbours`):
            `"shapley-taylor"`, `"shapley-interaction"`, `"integrated-hessians"`, or `"first-order-pairs"`, which are
            scores and no amounts.
        method: Name of the first-order method.
        options: Of the method and of the game, JSON-ready.
        standard_errors: Of `values`, one standard deviation; None where nothing was drawn at random, or too little to
            tell.
        third: $\varphi_{k \to j \to i}$, how far k moves the effect of j on i: sources by sources by targets; 0 where
            two of them are the same.
        evaluations: How many distinct coalitions were evaluated.
        model: Name of the model.
        cost: What it took.
        pictures: Images that some of the features are parts of.

    Source:
        Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295.
    """

    values: Float[Tensor, "source target"]
    alone: Float[Tensor, " target"]
    first_order: Float[Tensor, " target"]
    sources: tuple[Feature, ...]
    targets: tuple[Feature, ...]
    source_of: tuple[int | None, ...]
    explained: Explained
    index: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    standard_errors: Float[Tensor, "source target"] | None = None
    third: Float[Tensor, "source source target"] | None = None
    evaluations: int = 0
    model: str = ""
    cost: Cost | None = None
    pictures: tuple[Picture, ...] = ()

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.sources), len(self.targets)) or len(self.source_of) != len(self.targets):
            raise ApportionError(
                f"values of shape {tuple(self.values.shape)} were given for {len(self.sources)} sources and "
                f"{len(self.targets)} targets."
            )

    @property
    def gap(self) -> Float[Tensor, " target"]:
        """What the values lack of each target's first-order attribution; 0 up to rounding when nothing is missing.

        Of `"first-order-pairs"` it says nothing: see `adds_up`.
        """
        plays = torch.tensor([source is not None for source in self.source_of])
        return self.first_order - self.values.sum(0) - torch.where(plays, 0, self.alone)

    @property
    def adds_up(self) -> bool:
        """Whether the values are amounts, which sum to the first order but for a gap; False for scores of pairs."""
        return self.index != "first-order-pairs"

    @property
    def square(self) -> bool:
        """Whether the targets are the sources."""
        return self.source_of == tuple(range(len(self.sources)))

    @property
    def diagonal(self) -> Float[Tensor, " source"]:
        r"""$\varphi_{i \to i}$, what each feature has by itself.

        Raises:
            ApportionError: The targets are not the sources.
        """
        self._check_square("a diagonal")
        return self.values.diagonal()

    @property
    def between(self) -> Float[Tensor, "source target"]:
        """The values with 0 on the diagonal: what features do to each other."""
        return torch.where(self._own, 0, self.values)

    @property
    def symmetric(self) -> Float[Tensor, "source target"]:
        """The part of the values that has no direction, (V + Vᵀ) / 2.

        Raises:
            ApportionError: The targets are not the sources.
        """
        self._check_square("a symmetric part")
        return (self.values + self.values.T) / 2

    @property
    def antisymmetric(self) -> Float[Tensor, "source target"]:
        """The part that has a direction, (V − Vᵀ) / 2; positive where the row moves the column more than it is moved.

        Raises:
            ApportionError: The targets are not the sources.
        """
        self._check_square("an antisymmetric part")
        return (self.values - self.values.T) / 2

    def top(
        self, k: int = 5, *, by: Literal["size", "value"] = "size", template: bool = False
    ) -> list[tuple[Feature, Feature, float]]:
        """The `k` largest effects of one feature on another as (source, target, value), best first.

        Args:
            k: How many.
            by: Absolute size or signed value.
            template: Whether special tokens count.
        """
        order = (self.values.abs() if by == "size" else self.values).flatten().argsort(descending=True, stable=True)
        found: list[tuple[Feature, Feature, float]] = []
        for place in order.tolist():
            j, i = divmod(place, len(self.targets))
            source, target = self.sources[j], self.targets[i]
            if j == self.source_of[i] or (not template and (source.template or target.template)):
                continue
            found.append((source, target, self.values[j, i].item()))
            if len(found) == k:
                break
        return found

    def given_by(self, source: int | str) -> Attribution:
        """How one source, by its index or label, moves every target."""
        j = feature_index(source, self.sources, "source")
        label = f"{self.explained.label} by {self.sources[j].label.strip()!r}"
        errors = None if self.standard_errors is None else self.standard_errors[j]
        return self._line(label, self.targets, self.values[j], errors)

    def received_by(self, target: int | str) -> Attribution:
        """What every source does to one target, given by its index or label."""
        i = feature_index(target, self.targets, "target")
        label = f"{self.explained.label} of {self.targets[i].label.strip()!r}"
        errors = None if self.standard_errors is None else self.standard_errors[:, i]
        return self._line(label, self.sources, self.values[:, i], errors)

    def _line(self, label: str, features: tuple[Feature, ...], scores: Tensor, errors: Tensor | None) -> Attribution:
        return Attribution(
            scores=scores,
            features=features,
            explained=(Explained(label=label, unit=self.explained.unit, value=scores.sum().item()),),
            method=f"{self.index} of {self.method}",
            options=self.options,
            standard_errors=errors,
            model=self.model,
            conserves="no",
            pictures=self.pictures,
        )

    def words(self) -> Interactions:
        """The same summed over the tokens of each word, on both sides; features of images stay as they are.

        A word's diagonal holds what its tokens have by themselves and do to each other. Standard errors are added up,
        an upper bound, since those of neighbouring tokens hang together.

        Raises:
            ApportionError: The values are scores of pairs, which do not sum.
        """
        if not self.adds_up:
            raise ApportionError(
                f"index={self.index!r} gives scores of pairs, which do not sum over a word's tokens; ask with "
                "interactions(…, game=Game(players='words'))."
            )
        into, sources = summed_into_words(self.sources)
        of, targets = summed_into_words(self.targets)
        values = into.T @ self.values @ of
        word_of = into.argmax(1).tolist()
        own = [None if j is None else word_of[j] for j in self.source_of]
        found = [{own[i] for i in column.nonzero().flatten().tolist()} for column in of.T]
        source_of = tuple(next(iter(words)) if len(words) == 1 else None for words in found)
        alone = of.T @ self.alone
        return replace(
            self,
            values=values,
            alone=torch.stack([alone[i] if j is None else values[j, i] for i, j in enumerate(source_of)]),
            first_order=of.T @ self.first_order,
            sources=sources,
            targets=targets,
            source_of=source_of,
            standard_errors=None if self.standard_errors is None else into.T @ self.standard_errors @ of,
            third=None if self.third is None else torch.einsum("kji,kK,jJ,iI->KJI", self.third, into, into, of),
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a line for each source and target: numbers, labels, value and standard error."""
        errors = self.standard_errors
        return pandas_module().DataFrame(
            [
                {
                    "source": j,
                    "target": i,
                    "from": source.label,
                    "to": target.label,
                    "value": self.values[j, i].item(),
                    "standard error": float("nan") if errors is None else errors[j, i].item(),
                    "diagonal": self.source_of[i] == j,
                }
                for j, source in enumerate(self.sources)
                for i, target in enumerate(self.targets)
            ]
        )

    def to_shapiq(self) -> Any:
        """The symmetric part as shapiq's `InteractionValues`: diagonal and, for each pair, the sum of both directions.

        Raises:
            ApportionError: The targets are not the sources, or shapiq is not installed.
        """
        if not self.square:
            raise ApportionError(
                f"shapiq's values are of players and pairs of them; here {len(self.sources)} sources move "
                f"{len(self.targets)} other targets, so there is nothing to export; use targets='players'."
            )
        return as_interaction_values(
            self.values,
            index=self.index,
            total=self.explained.value,
            estimated=self.standard_errors is not None,
            evaluations=self.evaluations,
        )

    def plot(self, kind: str = "auto", *, top: int | None = None) -> matplotlib.figure.Figure:
        """A matplotlib figure; needs the extra `figures`.

        Args:
            kind: `"matrix"`, `"graph"` (arrows over the text), `"words-patches"`, or `"auto"`.
            top: How many effects a graph shows.
        """
        return super().plot(kind, top=top)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pictures in JSON-ready values, and the gap, for the shell and for other programs."""
        return {**super().to_dict(), "gap": self.gap.tolist()}

    @property
    def _own(self) -> Tensor:
        """Where a source is the target."""
        sources = torch.tensor([-1 if source is None else source for source in self.source_of])
        return torch.arange(len(self.sources))[:, None] == sources

    def _check_square(self, what: str) -> None:
        if not self.square:
            raise ApportionError(
                f"{what} is there only where the targets are the sources; here {len(self.sources)} sources move "
                f"{len(self.targets)} targets."
            )
