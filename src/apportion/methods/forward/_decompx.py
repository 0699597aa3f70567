"""DecompX: each token's vector carried through all layers, with attention, norms and slopes of activations fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from apportion.core import ApportionError, Ledger
from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import forward_method
from apportion.methods._target_function import with_target_function
from apportion.methods.backward import shares_of_tokens
from apportion.methods.forward._captured_attention import CapturedAttention, outputs_read, refuse_images
from apportion.methods.forward._components import components_of_outputs
from apportion.methods.forward._layer_inputs import first_layers, reading_through
from apportion.relevance import CP_LRP, Leaf, Trace, record_forward
from apportion.task import AttributionTask

Bias = Literal["token", "absdot", "none"]


@forward_method(
    "decompx",
    conserves="exactly",
    cost="3 forward, 3 backward; with absdot n + 3 forward, 2 backward",
    source="Modarressi et al. 2023, arXiv 2306.02873",
)
@dataclass(frozen=True, kw_only=True)
class DecompX(OneByOne):
    r"""Each token's contribution to the prediction, as a vector carried through every layer and the head.

    A token's component starts as the first layer's input at its place (embedding, position and type together).
    Attention weights, the norms' statistics, each activation's slope $\theta = act(\zeta)/\zeta$, and in a gated MLP
    the factor that passed the activation are held fixed. The rest is linear, so the components and the biases sum to
    the prediction.

    Biases belong to no token. `"none"` and `"token"` need no vectors: for a linear map, the share of a component is the
    component times the map's derivative, so one backward pass under CP-LRP, whose rules hold the same quantities fixed,
    gives the same shares as n vectors carried forward.

    Args:
        bias: `"token"` books all biases in the line "biases" of the ledger; `"none"` drops them, and the ledger names
            the amount; `"absdot"` divides each bias b where it is added, among the components v_k there, by
            $\omega_k = |b \cdot v_k| / \sum_j |b \cdot v_j|$. That needs the vectors: n² numbers for each dimension of
            the widest layer at once.

    Source:
        Modarressi et al. 2023, arXiv 2306.02873, for encoders with GELU; its rule for activations is applied to gated
        MLPs too. Its code leaves the first layer's value biases with the token; here all biases are treated alike.
    """

    bias: Bias = "token"

    def __post_init__(self) -> None:
        if self.bias not in get_args(Bias):
            raise ApportionError(f"bias={self.bias!r} is not known; use 'token', 'absdot' or 'none'.")

    def alone(self, task: AttributionTask) -> Shares:
        """Divide the targets among the tokens' components."""
        refuse_images(task.prompts[0], self.name)
        seen = CapturedAttention(task)
        _ = seen.reading  # rejects a model that mixes tokens in other ways than attention
        scores, ledger = (_by_vectors if self.bias == "absdot" else _by_propagation)(task, first_layers(seen))
        return Shares(scores=[scores], ledger=_left_out(ledger) if self.bias == "none" else ledger)


def _left_out(ledger: Ledger) -> Ledger:
    """The ledger with its biases marked as left out."""
    names = {"biases": "biases, left out"}
    return Ledger(
        total=ledger.total,
        lines={names.get(line, line): amount for line, amount in ledger.lines.items()},
        details={names.get(line, line): entries for line, entries in ledger.details.items()},
    )


def _by_propagation(task: AttributionTask, firsts: list[str]) -> tuple[Tensor, Ledger]:
    """Scores and ledger by one backward pass from the outputs that targets read to the first layers' inputs."""
    parts, leaves = list(task.prompts[0].parts), list[Leaf]()
    model, calls = task.head.model, 0

    def begin(number: int, hidden: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        source = hidden.detach().requires_grad_(True)
        edge = get_gradient_edge(source)
        if calls <= len(firsts):  # later runs only capture values for the rules, from nodes of the same numbers
            leaves.append(Leaf(f"input of {firsts[number]}", "tokens", source.detach(), edge, source, parts[number]))
        return source.clone()

    with reading_through(model, firsts, begin):
        recording = record_forward(model, task.inputs)
        trace = Trace(model, task.inputs, replace(recording, leaves=(*recording.leaves, *leaves)))
        propagated = trace.propagate(
            outputs_read(task, trace.output), task.target_values.seeds, CP_LRP, ledger=True, keep_graph=False
        )
    task.passes.forward += 1
    task.passes.backward += len(task.targets)
    amounts = [
        (leaf.ids, propagated.relevance[name])
        for name, leaf in propagated.leaves.items()
        if leaf.role == "tokens" and leaf.ids is not None
    ]
    assert propagated.ledger is not None
    return shares_of_tokens(amounts, task, 0), with_target_function(propagated.ledger, task)


def _by_vectors(task: AttributionTask, firsts: list[str]) -> tuple[Tensor, Ledger]:
    """Scores and ledger by the components of the outputs that targets read."""
    components, seeds = components_of_outputs(task, firsts), task.target_values.seeds

    def along_seeds(vectors: Sequence[Tensor]) -> Tensor:
        """By target and component."""
        pairs = zip(vectors, seeds, strict=True)
        return torch.stack([s.double().flatten(1) @ v.double().flatten(1).T for v, s in pairs]).sum(0).cpu()

    shares = along_seeds(components)
    total = along_seeds([output.detach()[None] for output in task.target_values.outputs])[:, 0]
    lines = {"tokens": shares[:, :-1].sum(1), "biases": shares[:, -1]}
    return shares[:, :-1], with_target_function(Ledger(total=total, lines=lines), task)
