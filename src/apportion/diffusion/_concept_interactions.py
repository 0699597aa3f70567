"""Concept interactions: how much of each patch concepts take from each other, and their coalition means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError, Feature, Picture, Saved, Shown, pandas_module
from apportion.diffusion._concept_game import concept_game
from apportion.diffusion._grid import patch_of_pixel
from apportion.models.inputs import as_image, grid_labels, region_features
from apportion.results import Explained, Interactions

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas

#: Lines of the summary.
SHOWN = 5


@dataclass(frozen=True, kw_only=True, repr=False)
class ConceptInteractions(Shown, Saved):
    r"""The concept maps divided among the concepts, patch by patch: $\varphi_{k \to c}$, averaged over layers.

    A concept can only take from another, since each adds to the denominator of the softmax: between two concepts all
    values are at most 0, and `maps` = a concept's map alone − what the others take.

    Args:
        concepts: The players.
        padding: The concepts that were always present.
        maps: The first order: the softmax over all concepts.
        coalition_mean: The mean of a concept's softmax over random coalitions of the others. These are no shares:
            without padding a concept alone has the whole patch, so each map is at least 1 / concepts.
        values: The effect of each source on the map of each target, in parts of a patch; on the diagonal the map of the
            target with only the padding present, which is 1 without any.

    Source:
        Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295.
    """

    concepts: tuple[str, ...]
    padding: tuple[str, ...] = ()
    maps: Float[Tensor, "concept row col"]
    coalition_mean: Float[Tensor, "concept row col"]
    values: Float[Tensor, "source target row col"]

    @property
    def main_effect(self) -> Float[Tensor, "concept row col"]:
        """What each concept has with no other present but the padding."""
        return self.values.diagonal().permute(2, 0, 1)

    @property
    def gap(self) -> Float[Tensor, "concept row col"]:
        """The maps less the sum of the values: the error of the quadrature and rounding."""
        return self.maps - self.values.sum(0)

    @property
    def totals(self) -> Float[Tensor, "source target"]:
        """The values summed over the picture, in patches."""
        return self.values.sum((-2, -1))

    def outgoing(self, name: str) -> Float[Tensor, "target row col"]:
        """The effects of one concept on the map of each concept; its own entry is its map alone.

        Raises:
            ApportionError: There is no such concept.
        """
        return self.values[place_of(name, self.concepts)]

    def incoming(self, name: str) -> Float[Tensor, "source row col"]:
        """The effects of each concept on the map of one; its own entry is its map alone.

        Raises:
            ApportionError: There is no such concept.
        """
        return self.values[:, place_of(name, self.concepts)]

    def of(self, name: str, image: Any = None) -> Interactions:
        """The effects of the other concepts on the map of one, as `Interactions`.

        Args:
            name: The concept whose patches are the targets; its map alone is the `main_effect`.
            image: The picture (PIL, array, tensor or a file's path); by default a grey one.

        Raises:
            ApportionError: There is no such concept, or no other one.
        """
        place = place_of(name, self.concepts)
        others = [k for k in range(len(self.concepts)) if k != place]
        if not others:
            raise ApportionError(f"{name!r} is the only player, so no other concept affects its map.")
        rows, columns = self.maps.shape[1:]
        return Interactions(
            values=self.values[others, place].flatten(1).double(),
            main_effect=self.main_effect[place].flatten().double(),
            first_order=self.maps[place].flatten().double(),
            sources=tuple(Feature(label=self.concepts[k], kind="span", part="concepts") for k in others),
            features=region_features(grid_labels(rows, columns), "patch", image=0),
            source_of=(None,) * (rows * columns),
            explained=(Explained(label=name, unit="patches", value=self.maps[place].sum().item()),),
            index="metagame",
            method="concept maps",
            options={"padding": list(self.padding)} if self.padding else {},
            pictures=(picture_of_patches(image, rows, columns),),
        )

    def summed(self) -> Interactions:
        """The values summed over the picture, in patches, as `Interactions` between concepts."""
        count = len(self.concepts)
        concepts = tuple(Feature(label=name, kind="span", part="concepts") for name in self.concepts)
        maps = self.maps.sum((1, 2)).double()
        return Interactions(
            values=self.totals.double(),
            main_effect=self.main_effect.sum((1, 2)).double(),
            first_order=maps,
            sources=concepts,
            features=concepts,
            source_of=tuple(range(count)),
            explained=(Explained(label="all maps", unit="patches", value=maps.sum().item()),),
            index="metagame",
            method="concept maps",
            options={"padding": list(self.padding)} if self.padding else {},
        )

    def top(self, k: int = SHOWN) -> list[tuple[str, str, float]]:
        """The `k` pairs with the largest totals as (source, target, patches), largest first."""
        totals = self.totals
        order = totals.abs().flatten().argsort(descending=True, stable=True).tolist()
        pairs = [(j, i) for j, i in (divmod(place, len(self.concepts)) for place in order) if j != i]
        return [(self.concepts[j], self.concepts[i], totals[j, i].item()) for j, i in pairs[:k]]

    def plot(self, image: Any = None, *, concepts: Sequence[str] | None = None) -> matplotlib.figure.Figure:
        """A matplotlib figure: maps, coalition means, and the strongest effects; needs the extra `figures`.

        Args:
            image: The picture, (height, width, 3), shown beside the maps and in grey under them.
            concepts: Which to show, with the effects of others on them; by default those with the largest maps.
        """
        return super().plot(image, concepts=concepts)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a row for each pair of concepts: source, target, and the sum of its values in patches."""
        totals = self.totals.tolist()
        return pandas_module().DataFrame(
            [
                {"source": source, "target": target, "patches": totals[j][i]}
                for j, source in enumerate(self.concepts)
                for i, target in enumerate(self.concepts)
            ]
        )


def picture_of_patches(image: Any, rows: int, columns: int) -> Picture:
    """The picture with the grid of patches over it, or a grey one."""
    pixels = np.full((16 * rows, 16 * columns, 3), 128, np.uint8) if image is None else np.array(as_image(image))
    return Picture(pixels=torch.from_numpy(pixels), owner=patch_of_pixel(pixels.shape[:2], rows, columns))


def concept_interactions(
    concepts: tuple[str, ...], by_layer: Float[Tensor, "layer concept row col"], padding: Sequence[str]
) -> ConceptInteractions:
    """Divide the maps of concepts among them; see `ConceptMaps.interactions`."""
    players, logits, always = _seated(concepts, by_layer, padding)
    game = concept_game(logits, always, show=True)
    assert game.values is not None
    grid, places = by_layer.shape[2:], [concepts.index(name) for name in players]
    return ConceptInteractions(
        concepts=players,
        padding=tuple(padding),
        maps=by_layer.softmax(1).mean(0)[places].cpu(),
        coalition_mean=game.coalition_mean.to(by_layer.dtype).unflatten(-1, grid),
        values=game.values.to(by_layer.dtype).unflatten(-1, grid),
    )


def coalition_means(
    concepts: tuple[str, ...], by_layer: Float[Tensor, "layer concept row col"], padding: Sequence[str]
) -> Float[Tensor, "player row col"]:
    """The mean of each concept's softmax over random coalitions of the others; see `ConceptMaps.coalition_mean`."""
    _, logits, always = _seated(concepts, by_layer, padding)
    coalition_mean = concept_game(logits, always, pairs=False, show=True).coalition_mean
    return coalition_mean.to(by_layer.dtype).unflatten(-1, by_layer.shape[2:])


def place_of(name: str, concepts: tuple[str, ...]) -> int:
    """The index of a concept, or an error that lists all."""
    if name not in concepts:
        raise ApportionError(f"there is no concept {name!r}; these were given: {', '.join(concepts)}.")
    return concepts.index(name)


def _seated(
    concepts: tuple[str, ...], by_layer: Tensor, padding: Sequence[str]
) -> tuple[tuple[str, ...], Tensor, Tensor | None]:
    """The players, their dot products (layer, player, patch) and the logarithm of the padding's mass (layer, patch)."""
    if isinstance(padding, str):
        raise ApportionError(f"padding={padding!r} is one text; give a list of names, such as padding=[{padding!r}].")
    always = [place_of(name, concepts) for name in padding]
    players = [k for k in range(len(concepts)) if k not in always]
    if not players:
        raise ApportionError("every concept is padding, so there is no player; leave at least one out of padding.")
    if not bool(by_layer.isfinite().all()):
        lost = [concepts[k] for k in (~by_layer.isfinite()).any(3).any(2).any(0).nonzero().flatten().tolist()]
        raise ApportionError(
            f"dot products of {', '.join(lost)} are not finite, so that there is no softmax to divide; run the "
            "transformer in float32 or bfloat16."
        )
    flat = by_layer.detach().double().flatten(2)
    mass = flat[:, always].logsumexp(1) if always else None
    return tuple(concepts[k] for k in players), flat[:, players], mass
