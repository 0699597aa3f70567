"""Propagation: propagate relevance back through the model's own graph, under a composite of rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from apportion.core import NonFiniteRelevance, UnknownOperation
from apportion.methods._method import Method, Shares
from apportion.methods._registry import backward_method
from apportion.methods._target_function import with_target_function
from apportion.methods.backward._modality import by_modality
from apportion.methods.backward._tokens import shares_of_tokens
from apportion.models.inputs import Prompt
from apportion.relevance import ATTNLRP, CP_LRP, GRADIENT, NAMED, Composite, Propagated
from apportion.task import AttributionTask


@dataclass(frozen=True)
class Propagation(Method):
    """Relevance propagated under any composite; one forward and one backward pass.

    Args:
        composite: The rules.
    """

    composite: Composite

    @property
    def name(self) -> str:  # type: ignore[override]
        """The composite's name; the plain gradient's is `input-x-gradient`, since relevance is their product."""
        return "input-x-gradient" if self.composite == GRADIENT else self.composite.name

    @property
    def options(self) -> Mapping[str, Any]:
        """The composite, and its differences from the registered one of its name; JSON-ready."""
        usual = NAMED.get(self.composite.name, GRADIENT)
        options: dict[str, Any] = {
            f.name: getattr(self.composite, f.name)
            for f in fields(Composite)
            if f.name not in ("name", "overrides") and getattr(self.composite, f.name) != getattr(usual, f.name)
        }
        if self.composite.overrides:
            options["overrides"] = "; ".join(o.in_words() for o in self.composite.overrides)
        return {**options, "composite": self.composite.to_dict()}

    @property
    def detail(self) -> bool:
        """Overrides by a pattern of modules may name any module."""
        return any(override.modules != "*" for override in self.composite.overrides)

    @property
    def summands(self) -> bool:
        """The gamma rule for residual sums reads them."""
        return self.composite.reads_summands

    def rules(self, model: nn.Module) -> Composite:
        """The composite for a model; some methods place their rules by the model's structure."""
        return self.composite

    def attribute(self, task: AttributionTask) -> Shares:
        """Propagate relevance to the embeddings of the task's tokens."""
        single = len(task.prompts) == 1
        read, repeated = task.target_values, task.trace.repeated
        try:
            propagated = task.trace.propagate(
                read.outputs, read.seeds, self.rules(task.head.model), ledger=single, keep_graph=not task.last_method
            )
        except (NonFiniteRelevance, UnknownOperation):
            if task.detail:
                raise
            # Slower, but then the error can name the operation and its module.
            return self.attribute(task.in_detail())
        task.passes.backward += len(task.targets) * len(task.prompts)
        task.passes.forward += (task.trace.repeated - repeated) * len(task.prompts)
        return self._shares(propagated, task)

    def _shares(self, propagated: Propagated, task: AttributionTask) -> Shares:
        ledger = propagated.ledger
        scores = [of_tokens(propagated, task, b) for b in range(len(task.prompts))]
        if ledger is not None:
            ledger = by_modality(with_target_function(ledger, task), task.prompts[0], scores[0])
        return Shares(
            scores=scores,
            position_scores=[of_positions(propagated, task, b) for b in range(len(task.prompts))],
            ledger=ledger,
        )


@backward_method(
    "attnlrp", conserves="exactly", cost="1 forward, 1 backward", source="Achtibat et al. 2024, arXiv 2402.05602"
)
class AttnLRP(Propagation):
    """AttnLRP: ½ to each factor of a product, the softmax keeps its derivative, secants for activations, norms frozen.

    Args:
        attention: The rule for attention; see `Composite`.
        product: `"uniform"` or `"flat"`.
        gate: `"product"` or `"cut"`.
        activation: `"identity"` or `"gradient"`.
        norm: `"frozen"` or `"gradient"`.
        softmax: For softmaxes outside attention.

    Source:
        Achtibat et al. 2024, arXiv 2402.05602.
    """

    def __init__(
        self,
        *,
        attention: Literal["gradient", "uniform", "values"] | str = "uniform",
        product: Literal["gradient", "uniform", "flat"] | str = "uniform",
        gate: Literal["product", "cut"] = "product",
        activation: Literal["gradient", "identity"] | str = "identity",
        norm: Literal["gradient", "frozen"] | str = "frozen",
        softmax: Literal["gradient", "cut"] | str = "gradient",
    ) -> None:
        composite = replace(
            ATTNLRP, attention=attention, product=product, gate=gate, activation=activation, norm=norm, softmax=softmax
        )
        super().__init__(composite)


@backward_method(
    "cp-lrp", conserves="exactly", cost="1 forward, 1 backward", source="Ali et al. 2022, arXiv 2202.07304"
)
class CPLRP(Propagation):
    """CP-LRP: attention weights and gates are held constant, so that relevance is conserved exactly.

    Args:
        product: `"uniform"` or `"flat"`, for products that are neither attention nor gated.
        gate: `"cut"`, or `"product"` to divide gated products by `product` (Ali et al. hold only the softmax constant).
        activation: `"identity"` or `"gradient"`.
        norm: `"frozen"` or `"gradient"`.

    Source:
        Ali et al. 2022, arXiv 2202.07304; You et al. 2025, arXiv 2510.18810.
    """

    def __init__(
        self,
        *,
        product: Literal["gradient", "uniform", "flat"] | str = "uniform",
        gate: Literal["product", "cut"] = "cut",
        activation: Literal["gradient", "identity"] | str = "identity",
        norm: Literal["gradient", "frozen"] | str = "frozen",
    ) -> None:
        super().__init__(replace(CP_LRP, product=product, gate=gate, activation=activation, norm=norm))


@backward_method(
    "input-x-gradient",
    conserves="exactly",
    cost="2 forward, 1 backward",
    source="Shrikumar et al. 2016, arXiv 1605.01713",
)
class InputXGradient(Propagation):
    """Input times gradient: the empty composite.

    Source:
        Shrikumar et al. 2016, arXiv 1605.01713.
    """

    def __init__(self) -> None:
        super().__init__(GRADIENT)


def of_tokens(propagated: Propagated, task: AttributionTask, example: int) -> Tensor:
    """Scores by target and feature: the relevance of every embedding that was looked up for a token."""
    amounts = [
        (leaf.ids, propagated.relevance[name])
        for name, leaf in propagated.leaves.items()
        if leaf.role in ("tokens", "inputs") and leaf.ids is not None
    ]
    return shares_of_tokens(amounts, task, example)


def of_positions(propagated: Propagated, task: AttributionTask, example: int) -> Tensor | None:
    """Scores of position embeddings, one per token; None if the model has none."""
    prompt = task.prompts[example]
    if not prompt.parts:
        return None
    targets = len(next(iter(propagated.relevance.values())))
    scores = torch.zeros(targets, len(prompt.features), dtype=torch.float64)
    found = False
    for leaf, amount in propagated.relevance.items():
        details = propagated.leaves[leaf]
        if details.role != "positions" or details.added or "relative" in leaf.lower():
            continue
        part = next((p for p in prompt.parts if p.startswith("decoder")), None) if "decoder" in leaf else None
        part = part or _side(leaf, task, prompt) or next(iter(prompt.parts))
        by_place = amount.reshape(targets, -1, amount.shape[-1])
        if amount.shape[-1] != task.inputs[part].shape[1] or by_place.shape[1] not in (1, len(task.prompts)):
            continue
        if by_place.shape[1] == 1 and len(task.prompts) > 1:
            return None  # one look-up for the whole batch: its shares cannot be assigned to examples
        row = by_place[:, example if by_place.shape[1] > 1 else 0, : prompt.parts[part]]
        scores[:, prompt.starts[part] : prompt.starts[part] + row.shape[1]] += row.to(scores)
        found = True
    if not found:
        return None
    return scores.to(propagated.relevance[next(iter(propagated.relevance))].dtype)


def _side(leaf: str, task: AttributionTask, prompt: Prompt) -> str | None:
    """For a pair whose sides one model reads in turn: the input whose tokens a look-up of positions belongs to."""
    if "other_input_ids" not in prompt.parts:
        return None
    module = leaf.partition("#")[0]
    calls = [name for name in task.trace.leaves if name.partition("#")[0] == module]
    return "input_ids" if calls.index(leaf) < len(calls) / 2 else "other_input_ids"
