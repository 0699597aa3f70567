"""Interactions: how each feature moves the attribution of each other feature, the second order of an explanation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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
from apportion.results._of_targets import OfTargets
from apportion.results._shapiq import as_interaction_values

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas
    import shapiq


@dataclass(frozen=True, kw_only=True, repr=False)
class Interactions(OfTargets, Shown, Saved):
    r"""How far each source changes the attribution of each feature: $\varphi_{j \to i}$.

    A feature's first-order value is divided among the sources: $\varphi_i = \sum_j \varphi_{j \to i}$, plus its main
    effect if the feature is not a source itself. If it is one, `values` holds the main effect on the diagonal.

    Args:
        values: $\varphi_{j \to i}$, sources by features; an axis of targets in front when several were explained at
            once, as in the next two.
        main_effect: What each feature has with no other source present: $\varphi_{i \to i}$ where it is a source.
        first_order: What each feature has with all sources present: the first-order attribution.
        sources: The features that are removed: the sources of effects.
        features: The features whose attribution is divided.
        source_of: For each feature its index among the sources; None where it is never removed.
        explained: The target or targets of the first-order attribution.
        index: What the values are: `"metagame"`, or one that is symmetric (see `metagame.related_index`):
            `"shapley-taylor"`, `"shapley-interaction"`, `"integrated-hessians"`, or `"first-order-pairs"`, which are
            scores and no amounts.
        method: Name of the first-order method.
        options: Of the method and of the game, JSON-ready.
        standard_errors: Of `values`, one standard deviation; None where nothing was drawn at random, or too little to
            tell.
        third: $\varphi_{k \to j \to i}$, how far k moves the effect of j on i: sources by sources by features; 0 where
            two of them are the same.
        evaluations: How many distinct coalitions were evaluated.
        model: Name of the model.
        cost: What it took.
        pictures: Images that some of the features are parts of.

    Source:
        Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295.
    """

    by_target: ClassVar[tuple[str, ...]] = ("values", "main_effect", "first_order", "standard_errors", "third")
    axes = 2

    values: Float[Tensor, "*targets source feature"]
    main_effect: Float[Tensor, "*targets feature"]
    first_order: Float[Tensor, "*targets feature"]
    sources: tuple[Feature, ...]
    features: tuple[Feature, ...]
    source_of: tuple[int | None, ...]
    explained: tuple[Explained, ...]
    index: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    standard_errors: Float[Tensor, "*targets source feature"] | None = None
    third: Float[Tensor, "*targets source source feature"] | None = None
    evaluations: int = 0
    model: str = ""
    cost: Cost | None = None
    pictures: tuple[Picture, ...] = ()

    def __post_init__(self) -> None:
        targets = (len(self.explained),) if self.several else ()
        shape = (*targets, len(self.sources), len(self.features))
        if self.values.shape != shape or len(self.source_of) != len(self.features):
            raise ApportionError(
                f"values of shape {tuple(self.values.shape)} were given for {len(self.sources)} sources, "
                f"{len(self.features)} features and {len(self.explained)} targets."
            )

    @property
    def gap(self) -> Float[Tensor, "*targets feature"]:
        """What the values lack of each feature's first-order attribution; 0 up to rounding when nothing is missing.

        Of `"first-order-pairs"` it says nothing: see `adds_up`.
        """
        plays = torch.tensor([source is not None for source in self.source_of])
        return self.first_order - self.values.sum(-2) - torch.where(plays, 0, self.main_effect)

    @property
    def adds_up(self) -> bool:
        """Whether the values are amounts, which sum to the first order but for a gap; False for scores of pairs."""
        return self.index != "first-order-pairs"

    @property
    def square(self) -> bool:
        """Whether the features are the sources."""
        return self.source_of == tuple(range(len(self.sources)))

    @property
    def diagonal(self) -> Float[Tensor, "*targets source"]:
        r"""$\varphi_{i \to i}$, what each feature has by itself.

        Raises:
            ApportionError: The features are not the sources.
        """
        self._check_square("a diagonal")
        return self.values.diagonal(dim1=-2, dim2=-1)

    @property
    def between(self) -> Float[Tensor, "*targets source feature"]:
        """The values with 0 on the diagonal: what features do to each other."""
        return torch.where(self._own, 0, self.values)

    @property
    def symmetric(self) -> Float[Tensor, "*targets source feature"]:
        """The part of the values that has no direction, (V + Vᵀ) / 2.

        Raises:
            ApportionError: The features are not the sources.
        """
        self._check_square("a symmetric part")
        return (self.values + self.values.mT) / 2

    @property
    def antisymmetric(self) -> Float[Tensor, "*targets source feature"]:
        """The part that has a direction, (V − Vᵀ) / 2; positive where the row moves the column more than it is moved.

        Raises:
            ApportionError: The features are not the sources.
        """
        self._check_square("an antisymmetric part")
        return (self.values - self.values.mT) / 2

    def top(
        self, k: int = 5, *, by: Literal["size", "value"] = "size", template: bool = False
    ) -> list[tuple[Feature, Feature, float]]:
        """The `k` largest effects of one feature on another as (source, feature, value), best first.

        Args:
            k: How many.
            by: Absolute size or signed value.
            template: Whether special tokens count.
        """
        self.check_single("top()")
        order = (self.values.abs() if by == "size" else self.values).flatten().argsort(descending=True, stable=True)
        found: list[tuple[Feature, Feature, float]] = []
        for place in order.tolist():
            j, i = divmod(place, len(self.features))
            source, feature = self.sources[j], self.features[i]
            if j == self.source_of[i] or (not template and (source.template or feature.template)):
                continue
            found.append((source, feature, self.values[j, i].item()))
            if len(found) == k:
                break
        return found

    def outgoing(self, source: int | str) -> Attribution:
        """How one source, by its index or label, changes every feature."""
        j = feature_index(source, self.sources, "source")
        errors = None if self.standard_errors is None else self.standard_errors[..., j, :]
        return self._line(f"by {self.sources[j].label.strip()!r}", self.features, self.values[..., j, :], errors)

    def incoming(self, feature: int | str) -> Attribution:
        """What every source does to one feature, given by its index or label."""
        i = feature_index(feature, self.features, "feature")
        errors = None if self.standard_errors is None else self.standard_errors[..., i]
        return self._line(f"of {self.features[i].label.strip()!r}", self.sources, self.values[..., i], errors)

    def _line(self, of: str, features: tuple[Feature, ...], scores: Tensor, errors: Tensor | None) -> Attribution:
        sums = zip(self.explained, scores.sum(-1).reshape(-1).tolist(), strict=True)
        return Attribution(
            scores=scores,
            features=features,
            explained=tuple(Explained(label=f"{e.label} {of}", unit=e.unit, value=value) for e, value in sums),
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
        of, features = summed_into_words(self.features)
        values = into.T @ self.values @ of
        word_of = into.argmax(1).tolist()
        own = [None if j is None else word_of[j] for j in self.source_of]
        found = [{own[i] for i in column.nonzero().flatten().tolist()} for column in of.T]
        source_of = tuple(next(iter(words)) if len(words) == 1 else None for words in found)
        main = self.main_effect @ of
        return replace(
            self,
            values=values,
            main_effect=torch.stack(
                [main[..., i] if j is None else values[..., j, i] for i, j in enumerate(source_of)], -1
            ),
            first_order=self.first_order @ of,
            sources=sources,
            features=features,
            source_of=source_of,
            standard_errors=None if self.standard_errors is None else into.T @ self.standard_errors @ of,
            third=None if self.third is None else torch.einsum("...kji,kK,jJ,iI->...KJI", self.third, into, into, of),
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a line for each target, source and feature: labels, value and standard error."""
        rows = []
        for one in self:
            errors = one.standard_errors
            rows += [
                {
                    **({"explained": one.target.label} if self.several else {}),
                    "source": j,
                    "feature": i,
                    "from": source.label,
                    "to": feature.label,
                    "value": one.values[j, i].item(),
                    "standard error": float("nan") if errors is None else errors[j, i].item(),
                    "diagonal": self.source_of[i] == j,
                }
                for j, source in enumerate(self.sources)
                for i, feature in enumerate(self.features)
            ]
        return pandas_module().DataFrame(rows)

    def to_shapiq(self) -> shapiq.InteractionValues:
        """The symmetric part as shapiq's `InteractionValues`: diagonal and, for each pair, the sum of both directions.

        Raises:
            ApportionError: The features are not the sources, or shapiq is not installed.
        """
        if not self.square:
            raise ApportionError(
                f"shapiq's values are of players and pairs of them; here {len(self.sources)} sources change "
                f"{len(self.features)} other features, so there is nothing to export; use of='players'."
            )
        return as_interaction_values(
            self.values,
            index=self.index,
            total=self.target.value,
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
        """Where a source is the feature itself."""
        sources = torch.tensor([-1 if source is None else source for source in self.source_of])
        return torch.arange(len(self.sources))[:, None] == sources

    def _check_square(self, what: str) -> None:
        if not self.square:
            raise ApportionError(
                f"{what} is there only where the features are the sources; here {len(self.sources)} sources move "
                f"{len(self.features)} other features."
            )
