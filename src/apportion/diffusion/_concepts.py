"""Concept maps: where in its picture a multimodal diffusion transformer locates each concept."""

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

#: Blocks in which pictures and text have separate weights and attend to each other, by diffusers' names.
JOINT = ("JointTransformerBlock", "FluxTransformerBlock")


@dataclass(frozen=True, kw_only=True, repr=False)
class ConceptMaps(Shown, Saved):
    """How strongly each patch of a picture matches each concept.

    Args:
        concepts: Their names.
        by_layer: Dot products of patches' and concepts' attention outputs, before any softmax. Several denoising steps
            follow each other along the first axis.
        layers: The path of the block of each entry of the first axis.
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
        """The softmax over concepts in each layer, averaged over layers (and steps); the sum at each patch is 1."""
        return self.by_layer.softmax(1).mean(0)

    def of(self, name: str) -> Float[Tensor, "row col"]:
        """The map of one concept.

        Raises:
            ApportionError: There is no such concept.
        """
        return self.maps[place_of(name, self.concepts)]

    def attribution(self, image: Any = None) -> Attribution:
        """The maps as an attribution to patches, with one target per concept.

        Args:
            image: The picture (PIL, array, tensor or a file's path); by default a grey one.
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
        r"""Divide the maps among the concepts, in closed form: how much each takes from each other at every patch.

        In the game at a patch the concepts other than $c$ are added and removed; only the denominator of the softmax
        changes, so no further pass is needed. $\varphi_{k \to c}$ is the Shapley value of $k$ for the softmax of $c$,
        which is always present; with its value alone, $\varphi_{c \to c}$, they sum to its map. The values take
        concepts² × patches × 8 bytes; if you need only one map per concept, use `coalition_mean`.

        Args:
            padding: Concepts that are always present and no players, such as words for nothing in the picture.

        Raises:
            ApportionError: A name in `padding` is no concept, no player is left, or a dot product is not finite.

        Source:
            Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295.
        """
        return concept_interactions(self.concepts, self.by_layer, padding)

    def coalition_mean(self, *, padding: Sequence[str] = ()) -> Float[Tensor, "player row col"]:
        """The mean of each concept's softmax over random coalitions of the others; errors as in `interactions`."""
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
        """The maps of several steps, such as those of `carrying_concepts`, joined into one.

        Raises:
            ApportionError: There is no step, or their concepts or grids differ.
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
    r"""Compute where the transformer locates each concept, in one pass.

    The concepts pass through the blocks of joint attention with the prompt, by the text stream's weights and
    modulation: they attend to the picture and to each other, and nothing attends to them, so the transformer's output
    does not change. The map of concept $c$ is, at patch $x$, the softmax over concepts of $o_x \cdot o_c$, with $o$ the
    attention's output before its output projection.

    Args:
        transformer: A diffusers model with joint attention, such as `SD3Transformer2DModel` or
            `FluxTransformer2DModel`.
        inputs: Its keyword arguments for one picture at one step.
        concepts: The embedding of each concept by name, (text) or (token, text), as the model's text encoder returns it
            for the word alone. The products of a concept's tokens are averaged.
        layers: The indices of the blocks with joint attention to average, from 0; None for all.

    Raises:
        ApportionError: The transformer has no joint attention, a concept has the wrong shape, a layer does not exist,
            or there are several pictures.

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
    """Compute concept maps in every pass of the transformer, such as those of a pipeline.

    Each pass adds its maps to the list; `ConceptMaps.joined` averages them. The transformer's output does not change,
    and it is restored afterwards, also after an error. The other arguments and errors are those of `concept_maps`.

    Args:
        transformer: As in `concept_maps`.
        example: The index of the picture in a batch, such as -1 for the one with the prompt if guidance doubles the
            batch; None if there is only one.
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
    """The concepts and their states during the passes of a transformer."""

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
        """Embed the concepts like the prompt."""
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
        """Keep the attention outputs of the picture's patches, in the model's own pass."""

        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            if path not in self._patches:  # not again when the concepts pass the block
                self._patches[path] = arguments[0][self._index].detach()

        return hook

    def follow(self, path: str) -> Any:
        """After the model's own pass through a block, run it again with the concepts in place of the prompt.

        The picture's part of this output, which attended to the concepts, is discarded.
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
                    # Without the block's own hooks, since this is one of them.
                    state, _ = block.forward(**given)
            finally:
                handle.remove()
            self._state = self._state if state is None else state
            if path in self.wanted:
                self._logits[path] = self._dot(self._patches[path], found[0][0])

        return hook

    def arrive(self, module: nn.Module, arguments: Any, output: Any) -> None:
        """At the end of a pass, add its maps to those seen."""
        found = torch.stack(list(self._logits.values())).unflatten(-1, self._grid)
        self.seen.append(ConceptMaps(concepts=self.names, by_layer=found, layers=tuple(self._logits)))
        self._patches, self._logits = {}, {}

    def _placed(self, rotary: Sequence[Tensor], length: int) -> tuple[Tensor, ...]:
        """Cosines and sines, (token, d_head), for concepts at the place of the prompt's first token, and for patches.

        The prompt's `length` tokens come first; in Flux they all have the same place.
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
    """How many tokens each concept has, and all of their embeddings, (1, token, text)."""
    if not concepts:
        raise ApportionError("there are no concepts; give embeddings by name, one of them for the background.")
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
