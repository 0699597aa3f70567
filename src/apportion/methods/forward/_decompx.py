"""DecompX: each token's vector carried through all layers, with attention, norms and activations' slopes held fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from apportion.core import ApportionError, Ledger
from apportion.methods._method import Method, Shares
from apportion.methods._registry import register
from apportion.methods._target_function import with_target_function
from apportion.methods.backward import shares_of_tokens
from apportion.methods.forward._captured_attention import CapturedAttention, outputs_read, refuse_images
from apportion.methods.forward._components import components_of_outputs
from apportion.methods.forward._layer_inputs import first_layers, reading_through
from apportion.relevance import CP_LRP, Leaf, Trace, record_forward
from apportion.task import AttributionTask

Bias = Literal["token", "absdot", "none"]


@register(
    "decompx",
    family="forward",
    conserves="exactly",
    cost="3 forward, 3 backward; with absdot n + 3 forward, 2 backward",
    source="Modarressi et al. 2023, arXiv 2306.02873",
)
@dataclass(frozen=True, kw_only=True)
class DecompX(Method):
    r"""The vector that each token brings to the prediction, through every layer and the head.

    A token's component begins as what the first layer reads at its place (embedding, position and type together). Held
    fixed are attention weights, the norms' statistics, and each activation's slope $\theta = act(\zeta)/\zeta$, and in
    a gated MLP the factor that passed the activation. All that is left is linear, so the components and the
    biases sum to the prediction.

    Biases are no token's. `"none"` and `"token"` need no vectors: for a linear map, the share of a component is the
    component times the map's derivative, so that one backward pass under CP-LRP, whose rules hold fixed the same
    things, gives the same shares as n vectors carried forward.

    Args:
        bias: `"token"` gives all biases to a token of their own, which is the line "biases" of the ledger; `"none"`
            leaves them out, and the ledger says how much that is; `"absdot"` divides each bias b where it is added,
            among the components v_k there, by $\omega_k = |b \cdot v_k| / \sum_j |b \cdot v_j|$. That needs the
            vectors: n² numbers for each dimension of the widest layer at once.

    Source:
        Modarressi et al. 2023, arXiv 2306.02873. The paper is about encoders with GELU; for gated MLPs, which it does
        not treat, this is its rule for activations. In a first layer its code leaves a value's bias with the token;
        here all biases are treated alike.
    """

    bias: Bias = "token"

    def __post_init__(self) -> None:
        if self.bias not in get_args(Bias):
            raise ApportionError(f"bias={self.bias!r} is not known; use 'token', 'absdot' or 'none'.")

    def attribute(self, task: AttributionTask) -> Shares:
        """Divide each example's targets among its tokens' components."""
        found = [self._of_example(task.single(b)) for b in range(len(task.prompts))]
        ledger = found[0][1] if len(found) == 1 else None
        return Shares(scores=[scores for scores, _ in found], ledger=ledger)

    def _of_example(self, task: AttributionTask) -> tuple[Tensor, Ledger]:
        refuse_images(task.prompts[0], self.name)
        seen = CapturedAttention(task)
        _ = seen.reading  # refuses a model that mixes tokens in other ways than attention
        firsts = first_layers(seen)
        if self.bias == "absdot":
            return _by_vectors(task, firsts)
        scores, ledger = _by_propagation(task, firsts)
        return scores, _left_out(ledger) if self.bias == "none" else ledger


def _left_out(ledger: Ledger) -> Ledger:
    """The accounts with the biases named for what becomes of them."""
    names = {"biases": "biases, left out"}
    return Ledger(
        total=ledger.total,
        lines={names.get(line, line): amount for line, amount in ledger.lines.items()},
        details={names.get(line, line): entries for line, entries in ledger.details.items()},
    )


def _by_propagation(task: AttributionTask, firsts: list[str]) -> tuple[Tensor, Ledger]:
    """Scores and accounts by one backward pass from what the targets read to what the first layers read."""
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
    """Scores and accounts by the components of what the targets read."""
    components, seeds = components_of_outputs(task, firsts), task.target_values.seeds

    def along_seeds(vectors: Sequence[Tensor]) -> Tensor:
        """By target and component."""
        pairs = zip(vectors, seeds, strict=True)
        return torch.stack([s.double().flatten(1) @ v.double().flatten(1).T for v, s in pairs]).sum(0).cpu()

    shares = along_seeds(components)
    total = along_seeds([output.detach()[None] for output in task.target_values.outputs])[:, 0]
    lines = {"tokens": shares[:, :-1].sum(1), "biases": shares[:, -1]}
    return shares[:, :-1], with_target_function(Ledger(total=total, lines=lines), task)
