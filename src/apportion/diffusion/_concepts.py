"""Concept maps: where in its picture a multimodal diffusion transformer sees each of some concepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from apportion.core import ApportionError, Saved, Shown, pandas_module
from apportion.diffusion._concept_interactions import (
    ConceptInteractions,
    coalition_means,
    concept_interactions,
    picture_of_patches,
    place_of,
)
from apportion.diffusion._grid import patch_grid
from apportion.models.inputs import grid_labels, region_features
from apportion.relevance import usable_modules
from apportion.results import Attribution, Explained

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas

#: Blocks in which pictures and text have weights of their own and attend to each other, by diffusers' names.
JOINT = ("JointTransformerBlock", "FluxTransformerBlock")


@dataclass(frozen=True, kw_only=True, repr=False)
class ConceptMaps(Shown, Saved):
    """How strongly each patch of a picture speaks of each concept.

    Args:
        concepts: Their names.
        by_layer: Dot products of patches' and concepts' attention outputs, before any softmax. Several steps of the
            denoising follow each other along the first axis.
        layers: The path of the block that each entry of the first axis comes from.
    """

    concepts: tuple[str, ...]
    by_layer: Float[Tensor, "layer concept row col"]
    layers: tuple[str, ...]

    @property
    def logits(self) -> Float[Tensor, "concept row col"]:
        """The dot products, averaged over layers (and steps)."""
        return self.by_layer.mean(0)

    @property
    def maps(self) -> Float[Tensor, "concept row col"]:
        """The softmax over concepts in each layer, averaged over layers (and steps); 1 in sum at each patch."""
        return self.by_layer.softmax(1).mean(0)

    def of(self, name: str) -> Float[Tensor, "row col"]:
        """The map of one concept.

        Raises:
            ApportionError: There is no such concept.
        """
        return self.maps[place_of(name, self.concepts)]

    def attribution(self, image: Any = None) -> Attribution:
        """The maps as shares of the patches, one target a concept, to be seen as any attribution of an image.

        Args:
            image: The picture (PIL, array, tensor or a file's path); without one the patches stand on grey.
        """
        rows, columns = self.maps.shape[1:]
        maps = self.maps.flatten(1).double().cpu()
        return Attribution(
            scores=maps,
            features=region_features(grid_labels(rows, columns), "patch", image=0),
            explained=tuple(
                Explained(label=name, unit="patches", value=part.sum().item())
                for name, part in zip(self.concepts, maps, strict=True)
            ),
            method="concept maps",
            conserves="exactly",
            pictures=(picture_of_patches(image, rows, columns),),
        )

    def interactions(self, *, padding: Sequence[str] = ()) -> ConceptInteractions:
        r"""Which concept takes a patch from which other: the maps divided among the concepts, in closed form.

        In the game at a patch the concepts but $c$ come and go, and only the denominator of the softmax changes, so
        no further pass is made. $\varphi_{k \to c}$ is the Shapley value of $k$ for the softmax of $c$, which is always
        there; with $\varphi_{c \to c}$, what it has alone, they sum to its map. The values take concepts² × patches
        × 8 bytes; for the maps alone there is `coalition_mean`.

        Args:
            padding: Concepts that are always present and play no part, such as words for nothing in the picture.

        Raises:
            ApportionError: A name of `padding` is no concept, none is left to play, or a dot product is not finite.

        Source:
            Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295.
        """
        return concept_interactions(self.concepts, self.by_layer, padding)

    def coalition_mean(self, *, padding: Sequence[str] = ()) -> Float[Tensor, "player row col"]:
        """The maps of the game alone: the mean of each concept's softmax over random coalitions of the others.

        Args:
            padding: As in `interactions`; these have no map.

        Raises:
            ApportionError: As in `interactions`.
        """
        return coalition_means(self.concepts, self.by_layer, padding)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a row for each concept and patch: concept, row, column, and the map's value."""
        return pandas_module().DataFrame(
            [
                {"concept": name, "row": row, "column": column, "value": value}
                for name, part in zip(self.concepts, self.maps.tolist(), strict=True)
                for row, values in enumerate(part)
                for column, value in enumerate(values)
            ]
        )

    def plot(self, image: Any = None, *, concepts: Sequence[str] | None = None) -> matplotlib.figure.Figure:
        """A matplotlib figure of the maps; needs the extra `figures`.

        Args:
            image: The picture, (height, width, 3), to be shown beside the maps and in grey under them.
            concepts: Which to show; by default those with the largest maps.
        """
        return super().plot(image, concepts=concepts)

    @classmethod
    def joined(cls, steps: Sequence[ConceptMaps]) -> ConceptMaps:
        """The maps of several steps as one, such as those of `carrying_concepts`.

        Raises:
            ApportionError: There is no step, or they have not the same concepts and grid.
        """
        if not steps or any(s.concepts != steps[0].concepts or s.maps.shape != steps[0].maps.shape for s in steps):
            raise ApportionError("only maps of the same concepts on the same grid can be joined; give at least one.")
        return cls(
            concepts=steps[0].concepts,
            by_layer=torch.cat([step.by_layer for step in steps]),
            layers=tuple(layer for step in steps for layer in step.layers),
        )


def concept_maps(
    transformer: nn.Module,
    inputs: Mapping[str, Any],
    concepts: Mapping[str, Tensor],
    *,
    layers: Sequence[int] | None = None,
) -> ConceptMaps:
    r"""Where the transformer sees each concept, in one pass.

    The concepts ride along with the prompt through the blocks of joint attention: the text stream's weights and
    modulation serve them, they attend to the picture and to each other, and nothing attends to them, so the
    transformer computes what it would compute anyway. The map of concept $c$ is, at patch $x$, the softmax over
    concepts of $o_x \cdot o_c$, with $o$ what the attention puts out before its output projection.

    Args:
        transformer: One of diffusers' class with joint attention, such as `SD3Transformer2DModel` or
            `FluxTransformer2DModel`.
        inputs: Its keyword arguments for one picture at one step.
        concepts: By name the embedding of a concept, (text) or (token, text), as the model's text encoder gives it
            for the word alone. Where a concept has several tokens, each rides along and their products are averaged.
        layers: Which of the blocks with joint attention to average, counted from 0; None for all.

    Raises:
        ApportionError: The transformer has no joint attention; a concept has the wrong shape; a layer does not exist;
            there are several pictures.

    Source:
        Helbling et al. 2025 (ConceptAttention), arXiv 2502.04320. Concepts are modulated as the prompt's tokens are.
    """
    with carrying_concepts(transformer, concepts, layers=layers) as seen, torch.no_grad():
        transformer(**inputs)
    return seen[0]


@contextmanager
def carrying_concepts(
    transformer: nn.Module,
    concepts: Mapping[str, Tensor],
    *,
    layers: Sequence[int] | None = None,
    example: int | None = None,
) -> Iterator[list[ConceptMaps]]:
    """Let concepts ride along in every pass of the transformer, such as those that a pipeline makes.

    Each pass adds its maps to the list; `ConceptMaps.joined` averages them. The transformer computes what it would
    compute anyway and is given back as it was, also after an error.

    Args:
        transformer: As in `concept_maps`.
        concepts: See there.
        layers: See there.
        example: Which picture of a batch to look at, such as -1 for the one with the prompt where guidance doubles the
            batch; None where there is one only.

    Raises:
        ApportionError: As in `concept_maps`.
    """
    ride = _Ride(transformer, concepts, layers, example)
    handles: list[RemovableHandle] = []
    try:
        handles.append(transformer.register_forward_pre_hook(ride.board, with_kwargs=True))
        for path, block in ride.blocks.items():
            handles.append(block.attn.to_out[0].register_forward_pre_hook(ride.patches(path)))
            handles.append(block.register_forward_hook(ride.follow(path), with_kwargs=True))
        handles.append(transformer.register_forward_hook(ride.arrive))
        yield ride.seen
    finally:
        for handle in handles:
            handle.remove()


class _Ride:
    """The concepts on their way through one pass after another."""

    def __init__(
        self, transformer: nn.Module, concepts: Mapping[str, Tensor], layers: Sequence[int] | None, example: int | None
    ) -> None:
        self.transformer, self.example = transformer, example
        self.blocks: dict[str, Any] = {
            path: module for path, module in usable_modules(transformer) if type(module).__name__ in JOINT
        }
        self.embedder: Any = getattr(transformer, "context_embedder", None)
        if not self.blocks or not isinstance(self.embedder, nn.Linear):
            raise ApportionError(
                f"{type(transformer).__name__} has no blocks of joint attention that concepts could ride through "
                f"({', '.join(JOINT)}); give an SD3 or Flux transformer, such as pipeline.transformer."
            )
        self.wanted = _chosen(layers, tuple(self.blocks))
        self.names = tuple(concepts)
        self.lengths, self.embeddings = _stacked(concepts, self.embedder)
        self.seen: list[ConceptMaps] = []
        self._grid, self._index = (0, 0), 0
        self._state = self.embeddings  # (1, token of a concept, d_model), after each block
        self._patches: dict[str, Tensor] = {}
        self._logits: dict[str, Tensor] = {}

    def board(self, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """The concepts are embedded as the prompt is."""
        names = ("hidden_states", "encoder_hidden_states")
        inputs = {**dict(zip(names, arguments, strict=False)), **keywords}
        count = len(inputs["hidden_states"])
        if self.example is None and count != 1:
            raise ApportionError(f"{count} pictures were given; explain one at a time, or choose one by example=.")
        if self.example is not None and not -count <= self.example < count:
            raise ApportionError(f"example={self.example} is not among {count} pictures; they count from 0.")
        if (inputs.get("joint_attention_kwargs") or {}).get("attention_mask") is not None:
            raise ApportionError("concepts cannot ride along under an attention mask; leave out the padding instead.")
        self._index = (self.example or 0) % count
        self._grid = patch_grid(self.transformer, inputs)
        with torch.no_grad():
            self._state = self.embedder(self.embeddings)
        self._patches, self._logits = {}, {}

    def patches(self, path: str) -> Any:
        """Keeps what the picture's patches get from the attention, in the model's own pass."""

        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            if path not in self._patches:  # not again as the concepts pass
                self._patches[path] = arguments[0][self._index].detach()

        return hook

    def follow(self, path: str) -> Any:
        """After the model's own pass through a block, the concepts pass it in the place of the prompt.

        The picture's part of what this gives, which did attend to the concepts, is thrown away.
        """

        def hook(block: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            names = ("hidden_states", "encoder_hidden_states", "temb", "image_rotary_emb", "joint_attention_kwargs")
            given = {**dict(zip(names, arguments, strict=False)), **keywords}
            length = given["encoder_hidden_states"].shape[1]
            here = slice(self._index, self._index + 1)
            given = {**given, "encoder_hidden_states": self._state}
            given |= {name: given[name][here] for name in ("hidden_states", "temb")}
            if given.get("image_rotary_emb") is not None:
                given["image_rotary_emb"] = self._placed(given["image_rotary_emb"], length)
            found: list[Tensor] = []
            ends = block.attn.to_add_out  # the last block of an SD3 model has none
            if ends is None:
                handle = block.attn.register_forward_hook(lambda attn, arguments, both: found.append(both[1]))
            else:
                handle = ends.register_forward_pre_hook(lambda out, arguments: found.append(arguments[0]))
            try:
                with torch.no_grad():
                    # Without hooks of the block itself, of which this is one.
                    state, _ = block.forward(**given)
            finally:
                handle.remove()
            self._state = self._state if state is None else state
            if path in self.wanted:
                self._logits[path] = self._dot(self._patches[path], found[0][0])

        return hook

    def arrive(self, module: nn.Module, arguments: Any, output: Any) -> None:
        """The end of a pass: its maps are added to those seen."""
        rows, columns = self._grid
        found = torch.stack(list(self._logits.values()))
        self.seen.append(
            ConceptMaps(concepts=self.names, by_layer=found.unflatten(-1, (rows, columns)), layers=tuple(self._logits))
        )
        self._patches, self._logits = {}, {}

    def _placed(self, rotary: Sequence[Tensor], length: int) -> tuple[Tensor, ...]:
        """Cosines and sines for concepts, each at the place of the prompt's first token (in Flux, of all), and patches.

        Args:
            rotary: (token, d_head) each, the prompt's tokens first.
            length: Tokens of the prompt.
        """
        count = self.embeddings.shape[1]
        return tuple(torch.cat([part[:1].expand(count, -1), part[length:]]) for part in rotary)

    def _dot(self, patches: Tensor, tokens: Tensor) -> Tensor:
        """(concept, patch), averaged over each concept's tokens; in float32 or better."""
        wide = torch.promote_types(patches.dtype, torch.float32)
        products = tokens.to(wide) @ patches.to(wide).T
        return torch.stack([part.mean(0) for part in products.split(self.lengths)])


def _chosen(layers: Sequence[int] | None, paths: tuple[str, ...]) -> frozenset[str]:
    if layers is None:
        return frozenset(paths)
    if not layers or not all(0 <= layer < len(paths) for layer in layers):
        raise ApportionError(
            f"layers={list(layers)} are not among the {len(paths)} blocks with joint attention; give numbers from 0 to "
            f"{len(paths) - 1}."
        )
    return frozenset(paths[layer] for layer in layers)


def _stacked(concepts: Mapping[str, Tensor], embedder: nn.Linear) -> tuple[list[int], Tensor]:
    """How many tokens each concept has, and (1, token, text) all of their embeddings."""
    if not concepts:
        raise ApportionError(
            "there are no concepts; give embeddings by name, one of them for what is none of the rest."
        )
    parts = []
    for name, given in concepts.items():
        part = given if given.ndim == 2 else given[None]
        if part.ndim != 2 or not len(part) or part.shape[1] != embedder.in_features or not part.is_floating_point():
            raise ApportionError(
                f"the concept {name!r} is {tuple(given.shape)} of {given.dtype}; give its embedding by the model's "
                f"text encoder, ({embedder.in_features}) or (token, {embedder.in_features})."
            )
        parts.append(part.detach().to(embedder.weight))
    return [len(part) for part in parts], torch.cat(parts)[None]
