"""A forward pass with captured attention: every layer's probabilities, in a graph that reaches the targets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.core import ApportionError
from apportion.models.anatomy import Heads, attention_through
from apportion.models.inputs import Prompt
from apportion.relevance import Trace
from apportion.targets import Outputs
from apportion.task import AttributionTask

#: The tolerance of outputs computed with our attention against the model's own, relative to the largest.
TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Attention:
    """One call of an attention; its tensors are part of the graph.

    Args:
        module: The attention module.
        path: Its path in the model.
        heads: Its inputs.
        probabilities: (1, head, query, key).
        mixed: The values weighted by them, (1, head, query, d_head).
    """

    module: nn.Module
    path: str
    heads: Heads
    probabilities: Tensor
    mixed: Tensor


def outputs_read(task: AttributionTask, output: Any) -> list[Tensor]:
    """The tensors in the output of another run of the model that the task's targets read."""
    theirs, ours = list(_tensors(task.trace.output)), list(_tensors(output))
    return [ours[k] for read in task.target_values.outputs for k, other in enumerate(theirs) if other is read]


def _tensors(output: Any) -> Iterator[Tensor]:
    """All tensors in a model's output, in their order."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Outputs):
        yield output.logits
        yield from _tensors(output.output)
    elif isinstance(output, dict | tuple | list):
        for item in output.values() if isinstance(output, dict) else output:
            yield from _tensors(item)


def layer_of(path: str) -> str:
    """The path of the layer that contains a module: up to the first number."""
    parts = path.split(".")
    number = next((k for k, part in enumerate(parts) if part.isdigit()), len(parts) - 1)
    return ".".join(parts[: number + 1])


class CapturedAttention:
    """One example's forward pass with an attention that keeps its probabilities.

    Raises:
        ApportionError: The model's attention cannot be captured, or the outputs differ with the captured one.
    """

    def __init__(self, task: AttributionTask) -> None:
        self.task = task
        paths = {module: path for path, module in task.head.model.named_modules()}
        calls: list[Attention] = []

        def attend(heads: Heads) -> tuple[Tensor, Tensor | None]:
            probabilities = heads.probabilities()
            mixed = heads.mixed(probabilities)
            calls.append(Attention(heads.module, paths.get(heads.module, ""), heads, probabilities, mixed))
            return mixed, probabilities

        #: The outputs of attention of another kind that pools all places for one query, and its weights.
        self.pools: list[tuple[Tensor, Tensor | None]] = []
        with attention_through(task.head.model, attend), _pools_seen(task.head.model, self.pools):
            self.trace: Trace = task.recorded(detail=False)
        if not all(call.mixed.requires_grad for call in calls):
            raise ApportionError(
                f"{self.model} computes some of its attention without derivatives, so the paths from tokens to the "
                "output cannot be followed there; leave-one-out serves it."
            )
        self.attentions = calls
        self.outputs = self._same_outputs()

    def _same_outputs(self) -> list[Tensor]:
        """The tensors that the targets read, checked to equal the model's own."""
        found = outputs_read(self.task, self.trace.output)
        for mine, output in zip(found, self.task.target_values.outputs, strict=True):
            most = max(TOLERANCE, 8 * torch.finfo(output.dtype).eps) * output.detach().abs().max()
            if mine.shape != output.shape or bool((mine - output).detach().abs().max() > most):
                raise ApportionError(
                    f"{self.model} does not compute its attention as softmax(scores)·values everywhere, so its "
                    "attention maps would not be the model's; attnlrp, input-x-gradient or leave-one-out serve it."
                )
        return found

    @property
    def model(self) -> str:
        """The name of the model's class, for errors."""
        return type(self.task.head.model).__name__

    def self_attentions(self, method: str) -> list[Attention]:
        """The calls of a model that is one stack of self-attention over the prompt's tokens, first layer first."""
        prompt = self.task.prompts[0]
        refuse_images(prompt, method)
        if len(prompt.parts) > 1:
            raise ApportionError(
                f"{method} is for one stack of self-attention, and {self.model} has an encoder and a decoder; "
                "chefer, attnlrp or leave-one-out serve it."
            )
        for call in self.attentions:
            self.expect(call, prompt.length, prompt.length)
        return self.attentions

    def expect(self, call: Attention, queries: int, keys: int) -> None:
        """Reject attention of another shape."""
        if call.probabilities.shape[0] != 1 or call.probabilities.shape[2:] != (queries, keys):
            shape = " × ".join(map(str, call.probabilities.shape[2:]))
            raise ApportionError(
                f"the attention at {call.path!r} is {shape} places for {queries} × {keys} tokens, so its map cannot be "
                "laid over the tokens; attnlrp, input-x-gradient or leave-one-out serve this model."
            )

    def gradients(self, target: int) -> list[Tensor]:
        """The derivative of a target by the probabilities of each call, (head, query, key)."""
        probabilities = [call.probabilities for call in self.attentions]
        found = self.backward(self.outputs, [seed[target] for seed in self.task.target_values.seeds], probabilities)
        return [torch.zeros_like(p[0]) if g is None else g[0] for p, g in zip(probabilities, found, strict=True)]

    @cached_property
    def reading(self) -> list[Float[Tensor, " tokens"]]:
        """For each target the rows of the last layer that it reads, as weights that sum to 1.

        With no gradient through attention, the target depends on the embeddings of just these tokens; it depends on
        others too if the model mixes tokens in more ways than attention, which is an error.
        """
        parts = list(self.task.prompts[0].parts.items())
        last, length = parts[-1]
        # The inputs of heads at a place may depend on that place only, and so must the rows that the target reads.
        allowed = {(name, count - 1) for name, count in parts}
        mixing = set(self._reached([end for call in self.attentions for end in _ends(call.heads)])) - allowed
        weights = []
        for target, rows in enumerate(self.task.rows[0]):
            direct = self._reached(self.outputs, [seed[target] for seed in self.task.target_values.seeds])
            expected = [(last, row) for row in rows] or [place for place in direct if place[0] == last]
            if mixing or not expected or set(direct) - set(expected):
                raise ApportionError(
                    f"{self.model} mixes tokens in other ways than attention, which attention maps do not show; "
                    "attnlrp, input-x-gradient or leave-one-out serve it."
                )
            row = torch.zeros(length, dtype=torch.float64)
            row[[place for _, place in expected]] = 1 / len(expected)
            weights.append(row)
        return weights

    def _reached(self, outputs: list[Tensor], seeds: list[Tensor] | None = None) -> list[tuple[str, int]]:
        """The tokens, by part of the prompt and place, that outputs depend on without attention."""
        parts = self.task.prompts[0].parts
        leaves = [leaf for leaf in self.trace.leaves.values() if leaf.role == "tokens" and leaf.ids in parts]
        seeds = [torch.ones_like(output) for output in outputs] if seeds is None else seeds
        with cut(self.attentions):
            gradients = self.backward(outputs, seeds, [leaf.variable for leaf in leaves])
        found: set[tuple[str, int]] = set()
        for leaf, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None:
                places = (gradient.flatten(0, -2) != 0).any(-1).nonzero().flatten()
                found |= {(str(leaf.ids), place) for place in places.tolist()}
        return sorted(found)

    def backward(self, outputs: list[Tensor], seeds: list[Tensor], inputs: list[Tensor]) -> tuple[Tensor | None, ...]:
        """The derivatives of outputs by tensors of the graph; None for those they do not depend on."""
        self.task.passes.backward += 1
        return torch.autograd.grad(outputs, inputs, seeds, retain_graph=True, allow_unused=True)


def _ends(heads: Heads) -> list[Tensor]:
    """The inputs of the heads at the last place of each sequence."""
    return [tensor[:, :, -1] for tensor in (heads.query, heads.key, heads.value)]


def refuse_images(prompt: Prompt, method: str) -> None:
    """Reject a prompt with an image."""
    if prompt.continuous_inputs:
        raise ApportionError(
            f"{method} takes layers of text apart and this prompt has an image; use res-lrp, attnlrp, chefer, rollout "
            "or integrated-gradients."
        )


@contextmanager
def _pools_seen(model: nn.Module, pools: list[tuple[Tensor, Tensor | None]]) -> Iterator[None]:
    """Record the outputs of torch's own attention modules; models use them to pool places, as SigLIP does."""

    def note(module: nn.Module, arguments: Any, output: Any) -> None:
        pools.append((output[0], output[1]))

    found = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    handles = [module.register_forward_hook(note) for module in found]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def cut(attentions: list[Attention]) -> Iterator[None]:
    """Block gradients through all attention."""
    handles = [call.mixed.register_hook(torch.zeros_like) for call in attentions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
