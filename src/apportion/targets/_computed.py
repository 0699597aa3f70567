"""Computed targets: numbers made of a model's output inside its graph, so that rules apply to them too."""

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
    """A number for each example, computed from the model's output as if the model itself did it.

    A function as a target is read outside the graph, by its derivative; that loses what is not linear, such as a norm
    that divides: a cosine's derivative times its input is 0. What is computed inside the graph is accounted for.
    """

    #: As the reader should see it.
    label: str = "computed"
    unit: str = "value"

    in_graph: ClassVar[bool] = True

    def as_function(self, head: NamedOutputs, at: At, logits: Any) -> TargetFn:
        """The number that the graph holds already, by example and target."""
        return TargetFn(lambda tensor: tensor[at.example][at.column], self.label, self.unit, linear=True)

    @abstractmethod
    def values(self, output: Any, prompts: Sequence[Any]) -> Float[Tensor, " examples"]:
        """The number of each example.

        Args:
            output: Of the model, for the whole batch.
            prompts: The examples, which tell where patches stand.

        Raises:
            ApportionError: The output lacks what is needed.
        """


@dataclass(frozen=True)
class Outputs:
    """What a model returned, and the numbers computed from it.

    Args:
        logits: By example and target.
        output: The model's own.
    """

    logits: Float[Tensor, "examples targets"]
    output: Any


def computed_outputs(targets: Sequence[AnyTarget], prompts: Sequence[Any]) -> Callable[[Any], Outputs] | None:
    """What targets compute from the model's output inside its graph; None where they do not.

    Raises:
        ApportionError: Some do and others do not.
    """
    computed = [target for target in targets if isinstance(target, Computed)]
    if not computed:
        return None
    if len(computed) < len(targets):
        raise ApportionError("targets that are computed inside the graph cannot be mixed with others; ask twice.")
    return lambda output: Outputs(torch.stack([one.values(output, prompts) for one in computed], 1), output)


@dataclass(frozen=True, eq=False)
class Cosine(Computed):
    """The cosine of an output vector to a direction.

    Args:
        direction: A vector of the output's size, such as a probe's weights or a concept's mean.
        of: Which vector of the output: `"pooled"` (what the model gives for the whole image or text), `"cls"` (the
            first place of the last layer), `"mean"` (over the patches of the last layer), a patch's number, or its
            row and column.
        label: As the reader should see it.
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
        """Its place, where that is a patch or the mean of them."""
        return _single(self.of)


@dataclass(frozen=True, eq=False)
class Projection(Computed):
    """An output vector's product with a direction; a probe's class, with its weights and bias.

    Args:
        direction: A vector of the output's size.
        of: Which vector of the output, as in `Cosine`.
        bias: What is added.
        label: As the reader should see it.
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
        """Its place, where that is a patch or the mean of them."""
        return _single(self.of)


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
    """The two encodings that a model of pairs returns, as it returns them.

    Raises:
        ApportionError: It returned no two encodings.
    """
    names = [("first", "second"), ("image_embeds", "text_embeds"), ("video_embeds", "text_embeds")]
    for one, other in names:
        first, second = getattr(output, one, None), getattr(output, other, None)
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            return first, second
    raise ApportionError(
        f"the model returned no two encodings to compare ({type(output).__name__}); similarity is for models of "
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
    """Rows and columns of the patches that stand last among a layer's places.

    Raises:
        ApportionError: There are fewer places than patches and no square of them, so which is which is not known.
    """
    grid = next((continuous.patches for continuous in prompt.continuous_inputs if continuous.patches is not None), None)
    if grid is not None and grid[0] * grid[1] <= places:
        return grid
    side = int(places**0.5)
    if side * side == places:
        return side, side
    raise ApportionError(f"the last layer has {places} places, which are not the image's patches; use of='pooled'.")


def _single(of: Place) -> Place | None:
    return None if of in ("pooled", "cls") else of


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm(dim=-1, keepdim=True)


def _fitting(direction: Tensor, vector: Tensor) -> Tensor:
    direction = torch.as_tensor(direction).detach().to(vector)
    if direction.shape != vector.shape[-1:]:
        raise ApportionError(
            f"the direction has the shape {tuple(direction.shape)}; the model's vector has {tuple(vector.shape[-1:])}."
        )
    return direction
