"""Computed targets: numbers computed from a model's output inside its graph, so that rules apply to them too."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.targets._any_target import AnyTarget, At, NamedOutputs, TargetFn

Place = Literal["pooled", "cls", "mean"] | int | tuple[int, int]


class Computed(AnyTarget):
    """A number for each example, computed from the model's output as a part of the model's graph.

    A function as a target is read outside the graph, by its derivative, which loses what is not linear, such as a
    norm that divides: a cosine's derivative times its input is 0. Inside the graph everything is accounted for.
    """

    #: The name to display.
    label: str = "computed"
    unit: str = "value"

    in_graph: ClassVar[bool] = True

    def as_function(self, head: NamedOutputs, at: At, logits: Any) -> TargetFn:
        """The number that the graph already contains."""
        return TargetFn(lambda tensor: tensor[at.example][at.column], self.label, self.unit, linear=True)

    @abstractmethod
    def values(self, output: Any, prompts: Sequence[Any]) -> Float[Tensor, " examples"]:
        """The number of each example.

        Args:
            output: The model's output for the whole batch.
            prompts: The examples, whose images have patches.

        Raises:
            ApportionError: The output does not have the required part.
        """


@dataclass(frozen=True)
class Outputs:
    """The numbers computed from a model's output, and that output."""

    logits: Float[Tensor, "examples targets"]
    output: Any


def computed_outputs(targets: Sequence[AnyTarget], prompts: Sequence[Any]) -> Callable[[Any], Outputs] | None:
    """A function for the targets that are computed inside the graph; None if there are none.

    Raises:
        ApportionError: Some targets are computed inside the graph and others are not.
    """
    computed = [target for target in targets if isinstance(target, Computed)]
    if not computed:
        return None
    if len(computed) < len(targets):
        raise ApportionError("targets that are computed inside the graph cannot be mixed with others; call twice.")
    return lambda output: Outputs(torch.stack([one.values(output, prompts) for one in computed], 1), output)


@dataclass(frozen=True, eq=False)
class Cosine(Computed):
    """The cosine of an output vector to a direction.

    Args:
        direction: A vector of the output's size, such as a probe's weights or a concept's mean.
        of: Which vector of the output: `"pooled"` (the model's vector for the whole image or text), `"cls"` (the
            first place of the last layer), `"mean"` (over the patches of the last layer), a patch's number, or its
            row and column.
        label: The name to display.
    """

    direction: Tensor
    of: Place = "pooled"
    label: str = "direction"
    unit: str = "cosine"

    def values(self, output: Any, prompts: Sequence[Any]) -> Float[Tensor, " examples"]:
        """The cosine of each example."""
        vector = vector_of(output, self.of, prompts)
        direction = _fitting(self.direction, vector)
        return _unit(vector) @ (direction / direction.norm())

    @property
    def single_place(self) -> Place | None:
        """Its place, if that is a patch or the mean of them."""
        return None if self.of in ("pooled", "cls") else self.of


@dataclass(frozen=True, eq=False)
class Projection(Computed):
    """An output vector's product with a direction; a probe's class, with its weights and bias.

    Args:
        direction: A vector of the output's size.
        of: Which vector of the output, as in `Cosine`.
        bias: A number that is added.
        label: The name to display.
    """

    direction: Tensor
    of: Place = "pooled"
    bias: float = 0.0
    label: str = "direction"
    unit: str = "projection"

    def values(self, output: Any, prompts: Sequence[Any]) -> Float[Tensor, " examples"]:
        """The product of each example."""
        vector = vector_of(output, self.of, prompts)
        product = vector @ _fitting(self.direction, vector)
        return product + self.bias if self.bias else product

    @property
    def single_place(self) -> Place | None:
        """Its place, if that is a patch or the mean of them."""
        return None if self.of in ("pooled", "cls") else self.of


@dataclass(frozen=True, eq=False)
class Similarity(Computed):
    """The similarity of a pair: the cosine of its two encodings."""

    label: str = "similarity"
    unit: str = "cosine"

    def values(self, output: Any, prompts: Sequence[Any]) -> Float[Tensor, " examples"]:
        """The cosine of each example's two encodings."""
        first, second = encodings_of(output)
        return (_unit(first) * _unit(second)).sum(-1)


def encodings_of(output: Any) -> tuple[Float[Tensor, "examples d_model"], Float[Tensor, "examples d_model"]]:
    """The two encodings that a model of pairs returns.

    Raises:
        ApportionError: It did not return two encodings.
    """
    names = [("first", "second"), ("image_embeds", "text_embeds"), ("video_embeds", "text_embeds")]
    for one, other in names:
        first, second = getattr(output, one, None), getattr(output, other, None)
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            return first, second
    raise ApportionError(
        f"the model did not return two encodings to compare ({type(output).__name__}); similarity is for models of "
        "pairs, such as CLIP, or for encoders with ap.Pair(text, text) or ap.Pair(image, image)."
    )


def vector_of(output: Any, of: Place, prompts: Sequence[Any]) -> Float[Tensor, "examples d_model"]:
    """A vector of the output for each example; see `Cosine`.

    Raises:
        ApportionError: The output has no such vector.
    """
    if of == "pooled":
        for name in ("pooler_output", "image_embeds", "text_embeds"):
            found = getattr(output, name, None)
            if isinstance(found, Tensor):
                return found.flatten(1)
        raise ApportionError("the model gives no pooled output; use of='cls', of='mean' or a patch.")
    hidden = getattr(output, "last_hidden_state", None)
    if not isinstance(hidden, Tensor) or hidden.ndim not in (3, 4):
        raise ApportionError(f"the model gives no last layer to take {of!r} of; use of='pooled'.")
    if hidden.ndim == 4:  # (example, channel, row, column)
        hidden = hidden.flatten(2).transpose(1, 2)
    if of == "cls":
        return hidden[:, 0]
    patches = patches_of(hidden.shape[1], prompts[0])
    if of == "mean":
        return hidden[:, -patches[0] * patches[1] :].mean(1)
    place = of[0] * patches[1] + of[1] if isinstance(of, tuple) else of
    if isinstance(place, str) or not 0 <= place < patches[0] * patches[1]:
        raise ApportionError(
            f"of={of!r} is no patch: the model's grid has {patches[0]} rows and {patches[1]} columns; or use 'pooled', "
            "'cls', 'mean'."
        )
    return hidden[:, hidden.shape[1] - patches[0] * patches[1] + place]


def patches_of(places: int, prompt: Any) -> tuple[int, int]:
    """Rows and columns of the patches, which are the last of a layer's places.

    Raises:
        ApportionError: There are fewer places than patches, and they do not form a square.
    """
    grid = next((continuous.patches for continuous in prompt.continuous_inputs if continuous.patches is not None), None)
    if grid is not None and grid[0] * grid[1] <= places:
        return grid
    side = int(places**0.5)
    if side * side == places:
        return side, side
    raise ApportionError(f"the last layer has {places} places, which are not the image's patches; use of='pooled'.")


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm(dim=-1, keepdim=True)


def _fitting(direction: Tensor, vector: Tensor) -> Tensor:
    direction = torch.as_tensor(direction).detach().to(vector)
    if direction.shape != vector.shape[-1:]:
        raise ApportionError(
            f"the direction has the shape {tuple(direction.shape)}; the model's vector has {tuple(vector.shape[-1:])}."
        )
    return direction
