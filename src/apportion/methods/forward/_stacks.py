"""A stack of self-attention and the features at its places: the tokens of a text, or the patches of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from apportion.core import ApportionError
from apportion.methods.forward._captured_attention import Attention, CapturedAttention, cut, layer_of
from apportion.models.inputs import ContinuousInput, layout_of
from apportion.relevance import NAME as VISUAL_TOKENS
from apportion.relevance import Leaf

OTHERS = "res-lrp, attnlrp or integrated-gradients serve it"


@dataclass(frozen=True, eq=False)
class Stack:
    """One stack of self-attention.

    Args:
        numbers: The indices of its calls in `CapturedAttention.attentions`, first layer first.
        reading: The rows of its last layer that each target reads, as weights that sum to 1.
        features: For each place the index of its feature; -1 for the model's own places, such as CLS and registers, and
            for placeholders of an image in a text.
        count: How many features the prompt has.
    """

    numbers: tuple[int, ...]
    reading: Float[Tensor, "targets places"]
    features: Int[Tensor, " places"]
    count: int

    def calls(self, seen: CapturedAttention) -> list[Attention]:
        """Its calls, first layer first."""
        return [seen.attentions[number] for number in self.numbers]

    def gradients(self, seen: CapturedAttention, target: int) -> list[Tensor]:
        """The derivative of a target by the probabilities of each of its calls, (head, query, key)."""
        found = seen.gradients(target)
        return [found[number] for number in self.numbers]

    def laid(self, rows: Float[Tensor, "targets places"]) -> Float[Tensor, "targets features"]:
        """Scores of places as scores of the prompt's features; patches of one region are summed."""
        padded = rows.new_zeros(len(rows), self.count + 1).index_add(1, self.features % (self.count + 1), rows)
        return padded[:, :-1]


def sum_of(parts: Sequence[Float[Tensor, "targets features"]]) -> Float[Tensor, "targets features"]:
    """The sum of scores of several stacks, each 0 at the features of the others."""
    return torch.stack(list(parts)).sum(0)


def stacks_of(seen: CapturedAttention, method: str) -> list[Stack]:
    """The stacks whose places are the prompt's features: one for a text or an image, two for a dual encoder.

    Without attention, a place may depend on its own feature only, and a target reads the places through which it
    depends on the last attention. If an attention pools the places, its weights tell how much each is read.

    Raises:
        ApportionError: Attention is not between the prompt's features, or the model mixes them in other ways too.
    """
    prompt = seen.task.prompts[0]
    if not prompt.continuous_inputs:
        seen.self_attentions(method)
        numbers = tuple(range(len(seen.attentions)))
        return [Stack(numbers, torch.stack(seen.reading), torch.arange(prompt.length), prompt.length)]
    held = any(feature.kind == "placeholder" for feature in prompt.features)
    if held and any(continuous.name != VISUAL_TOKENS for continuous in prompt.continuous_inputs):
        raise ApportionError(
            f"{method} follows the attention of one stack, and {seen.model} processes the image in another stack "
            f"before its language part; use regions='visual-tokens', or {OTHERS} down to the pixels."
        )
    found = [_stack(seen, method, numbers) for numbers in _by_stack(seen)]
    served = torch.cat([stack.features for stack in found])
    expected = {i for i, feature in enumerate(prompt.features) if feature.kind != "placeholder"}
    if not expected <= set(served.tolist()) or len(served[served >= 0].unique()) < sum(
        len(stack.features[stack.features >= 0].unique()) for stack in found
    ):
        raise ApportionError(
            f"the {len(found)} stacks of {seen.model} do not each read a separate input, so {method} cannot lay their "
            f"attention over the prompt; {OTHERS}."
        )
    return found


def _by_stack(seen: CapturedAttention) -> list[tuple[int, ...]]:
    """Indices of the calls that the targets depend on, by the list of layers that contains them."""
    mixed = [call.mixed for call in seen.attentions]
    gradients = seen.backward(seen.outputs, [seed.sum(0) for seed in seen.task.target_values.seeds], mixed)
    found: dict[str, list[int]] = {}
    for number, gradient in enumerate(gradients):
        if gradient is not None:
            layer = layer_of(seen.attentions[number].path)
            found.setdefault(layer.rpartition(".")[0], []).append(number)
    return [tuple(numbers) for numbers in found.values()]


def _stack(seen: CapturedAttention, method: str, numbers: tuple[int, ...]) -> Stack:
    calls = [seen.attentions[number] for number in numbers]
    places = calls[0].probabilities.shape[2]
    ground = _Ground.of(seen, method, calls[0], places)
    for call in calls:
        seen.expect(call, places, places)
    reading = torch.stack([_rows_read(seen, target, calls[-1]) for target in range(len(seen.task.targets))])
    alone = ground.reached(seen, [end for call in calls for end in _heads_at(call, places - 1)]) <= {places - 1}
    first = ground.first
    for place in range(first, min(first + 2, places)):
        alone = alone and ground.reached(seen, _heads_at(calls[0], place)) == {place}
    for target, row in enumerate(reading):
        direct = ground.reached(seen, seen.outputs, [seed[target] for seed in seen.task.target_values.seeds])
        alone = alone and direct - {-1} <= set(row.nonzero().flatten().tolist())
    if not alone:
        raise ApportionError(
            f"{seen.model} mixes patches or tokens in other ways than attention, or in another order, which "
            f"{method} does not show; {OTHERS}."
        )
    return Stack(numbers, reading, ground.features, len(seen.task.prompts[0].features))


def _heads_at(call: Attention, place: int) -> list[Tensor]:
    """The inputs of the heads at a place."""
    return [tensor[:, :, place] for tensor in (call.heads.query, call.heads.key, call.heads.value)]


def _rows_read(seen: CapturedAttention, target: int, last: Attention) -> Float[Tensor, " places"]:
    """The rows of a stack's last layer that a target depends on, as weights that sum to 1."""
    seeds = [seed[target] for seed in seen.task.target_values.seeds]
    pools = [output for output, _ in seen.pools]
    gradient, *of_pools = seen.backward(seen.outputs, seeds, [last.mixed, *pools])
    places = last.mixed.shape[2]
    if gradient is None:
        return torch.zeros(places, dtype=torch.float64)
    looks = [
        weights
        for (_, weights), used in zip(seen.pools, of_pools, strict=True)
        if used is not None and bool((used != 0).any())
    ]
    if looks and _read_by(last, seen):
        if len(looks) > 1 or looks[0] is None or looks[0].shape != (1, 1, places):
            raise ApportionError(f"how {seen.model} pools its places cannot be seen; {OTHERS}.")
        return looks[0][0, 0].detach().double().cpu()
    rows = (gradient[0] != 0).any(0).any(-1).double().cpu()
    return rows / rows.sum().clamp(min=1)


def _read_by(last: Attention, seen: CapturedAttention) -> bool:
    """Whether a pooling attention reads the output of this stack."""
    outputs = [output for output, _ in seen.pools]
    (gradient,) = seen.backward(outputs, [torch.ones_like(output) for output in outputs], [last.mixed])
    return gradient is not None


@dataclass(frozen=True, eq=False)
class _Ground:
    """The leaves that a stack reads, and the place of each of their elements.

    Args:
        leaves: Tokens, continuous inputs, and the model's own special tokens.
        places: For each leaf, the place of each element, in a shape that broadcasts to it; -1 for none.
        features: For each place the index of its feature; -1 for none.
        first: The first place with a feature.
    """

    leaves: list[Leaf]
    places: list[Int[Tensor, ...]]
    features: Int[Tensor, " places"]
    first: int

    @classmethod
    def of(cls, seen: CapturedAttention, method: str, call: Attention, places: int) -> _Ground:
        prompt = seen.task.prompts[0]
        own = [leaf for leaf in seen.trace.leaves.values() if leaf.role == "special tokens"]
        names = {*prompt.parts, *(continuous.name for continuous in prompt.continuous_inputs)}
        given = [leaf for leaf in seen.trace.leaves.values() if leaf.ids in names]
        value = call.heads.value
        gradients = seen.backward([value], [torch.ones_like(value)], [leaf.variable for leaf in given])
        read = [leaf for leaf, gradient in zip(given, gradients, strict=True) if gradient is not None]
        inputs = {str(leaf.ids) for leaf in read}
        others = [torch.tensor(-1)] * len(own)
        if inputs - {VISUAL_TOKENS} <= set(prompt.parts) and len(inputs - {VISUAL_TOKENS}) == 1:
            (part,) = inputs - {VISUAL_TOKENS}
            seen.expect(call, prompt.parts[part], prompt.parts[part])
            found, features = _of_text(seen, read, part)
            return cls([*read, *own], [*found, *others], features, 0)
        if len(inputs) == 1:
            (continuous,) = (continuous for continuous in prompt.continuous_inputs if continuous.name in inputs)
            patches, features = _of_image(seen, method, continuous, call)
            return cls([*read, *own], [patches] * len(read) + others, features, int((features >= 0).nonzero()[0]))
        raise ApportionError(
            f"the attention at {call.path!r} reads {' and '.join(sorted(inputs)) or 'no input'}, whose places "
            f"{method} cannot tell apart; {OTHERS}."
        )

    def reached(
        self, seen: CapturedAttention, outputs: Sequence[Tensor], seeds: Sequence[Tensor] | None = None
    ) -> set[int]:
        """The places that outputs depend on without attention; -1 for the model's own tokens."""
        seeds = [torch.ones_like(output) for output in outputs] if seeds is None else list(seeds)
        with cut(seen.attentions):
            gradients = seen.backward(list(outputs), seeds, [leaf.variable for leaf in self.leaves])
        found: set[int] = set()
        for place, gradient in zip(self.places, gradients, strict=True):
            if gradient is not None:
                found |= set(place.to(gradient.device).expand(gradient.shape)[gradient != 0].tolist())
        return found


def _of_text(seen: CapturedAttention, leaves: Sequence[Leaf], part: str) -> tuple[list[Tensor], Tensor]:
    """Places of tokens, and of visual tokens among them; and the places' features."""
    prompt = seen.task.prompts[0]
    start, count = prompt.starts[part], prompt.parts[part]
    features = torch.arange(start, start + count)
    held = [i for i in range(count) if prompt.features[start + i].kind == "placeholder"]
    features[held] = -1
    visual = any(leaf.ids == VISUAL_TOKENS for leaf in leaves)
    if visual:
        features[held] = _rows_of_visual_tokens(seen, len(held))
    found, at = [], 0
    for leaf in leaves:
        rows = leaf.variable.shape[:-1]
        if leaf.ids == VISUAL_TOKENS:
            places = torch.tensor(held)[at : at + rows.numel()]
            at += rows.numel()
        else:
            places = torch.arange(count)
        if places.numel() != rows.numel():
            raise ApportionError(
                f"{seen.model} reads {rows.numel()} embeddings where the prompt has {places.numel()} places, so "
                f"attention cannot be laid over it; {OTHERS}."
            )
        found.append(places.reshape(*rows, 1))
    return found, features


def _rows_of_visual_tokens(seen: CapturedAttention, held: int) -> Int[Tensor, " place"]:
    """The feature of each place that holds a visual token, in their order."""
    visual = next(one for one in seen.task.prompts[0].continuous_inputs if one.name == VISUAL_TOKENS)
    owner = visual.owner.reshape(-1)
    if len(owner) != held:
        raise ApportionError(f"the prompt holds {held} places for {len(owner)} visual tokens; {OTHERS}.")
    return owner


def _of_image(
    seen: CapturedAttention, method: str, continuous: ContinuousInput, call: Attention
) -> tuple[Tensor, Tensor]:
    """The place of each element of an image, whose patches come last; and the places' features."""
    places, prompt = call.probabilities.shape[2], seen.task.prompts[0]
    rows, columns = continuous.patches or (0, 0)
    prefix = places - rows * columns
    if continuous.patches is None or prefix < 0 or call.probabilities.shape[0] != 1:
        shape = tuple(call.probabilities.shape)
        raise ApportionError(
            f"the attention of {seen.model} at {call.path!r} has the shape {shape}, which is no map of the image's "
            f"{rows} × {columns} patches (but of windows, say), so {method} cannot be laid over them; {OTHERS}."
        )
    layout = layout_of(seen.task.head.model, continuous.name, dict(prompt.inputs))
    (height, width), place = layout.sizes[0], layout.place
    down, across = height // rows, width // columns
    patch = torch.where(place >= 0, (place // width // down) * columns + place % width // across, -1)
    inside = (patch >= 0) & (place // width < rows * down) & (place % width < columns * across)
    owners, numbers = continuous.owner.expand(patch.shape)[inside], patch[inside]
    least = torch.full((rows * columns,), continuous.count).scatter_reduce(0, numbers, owners, "amin")
    most = torch.full((rows * columns,), -1).scatter_reduce(0, numbers, owners, "amax")
    if bool((least != most).any()):
        raise ApportionError(
            f"{method} gives shares to whole patches of {down} × {across} pixels, and a region here ends inside one; "
            f"use regions='patches' or {2 * down}, or res-lrp, which divides any regions."
        )
    start = sum(one.count for one in prompt.continuous_inputs[: prompt.continuous_inputs.index(continuous)])
    features = torch.cat([torch.full((prefix,), -1), torch.where(most >= 0, most + start, -1)])
    return torch.where(inside, patch + prefix, -1), features
