"""ALTI-Logit: the contributions of each layer's attention to a logit, traced back to the tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from apportion.core import ApportionError, Ledger, progress
from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import forward_method
from apportion.methods.forward._alti import contributions
from apportion.methods.forward._decomposed import decomposed
from apportion.models.anatomy import Anatomy, FrozenNorm, LinearOutput, linear_output
from apportion.relevance import layer_label
from apportion.task import AttributionTask


@forward_method(
    "alti-logit",
    conserves="with a remainder",
    cost="2 forward, and n² vectors a layer",
    source="Ferrando et al. 2023, arXiv 2305.12535",
)
@dataclass(frozen=True, kw_only=True)
class ALTILogit(OneByOne):
    r"""ALTI-Logit.

    A logit is $x^0_T \cdot g + \sum_l (\sum_s c^l_s + b^l_O \cdot g + \mathrm{MLP}^l_T \cdot g) + \beta$ exactly, where
    $c^l_s = \sum_h A^l_h[T,s] f^l_h(x_s) \cdot g$ is the contribution of layer l's attention from place s to the
    predicting position T, and g the target's direction, pulled back through norms (and an MLM head's activation) that
    are held fixed. ALTI's mixing C (see `ALTI`) gives the tokens in place s: the tokens' scores are
    $\sum_l c^l C^{l-1} \cdots C^1$, and $x^0_T \cdot g$ belongs to the token at T. The whole embedding
    counts as its token's, with learned position and token type, since C does not distinguish them.

    The MLPs and biases are the remainder; the ledger has a line for each, and all lines sum to the logit.

    Args:
        remainder: `"apart"`, or `"last"` to give the remainder to the token at the predicting position.

    Raises:
        ApportionError: `remainder` is neither.

    Source:
        Ferrando et al. 2023, eqs. 6-11, arXiv 2305.12535. Models with post-LN are not in the paper: there g is
        different in each layer, since it passes through all norms above.
    """

    remainder: Literal["apart", "last"] = "apart"

    def __post_init__(self) -> None:
        if self.remainder not in ("apart", "last"):
            raise ApportionError(f"remainder={self.remainder!r} is not known; use 'apart' or 'last'.")

    def alone(self, task: AttributionTask) -> Shares:
        """Decompose the targets."""
        for function in task.target_values.functions[0]:
            if not function.linear:
                raise ApportionError(
                    f"{self.name} divides logits and differences of logits, not {function.unit} ({function.label}); "
                    "leave out unit=, or use attnlrp, input-x-gradient or leave-one-out."
                )
        found = decomposed(task)
        linear_outputs = _linear_outputs(task, found)
        books = _Books(len(linear_outputs), task.prompts[0].length)
        for t, one in enumerate(linear_outputs):
            for path, amount in one.biases.items():
                books.add("output biases", path, t, amount)
        _decompose(found, linear_outputs, books, show=task.progress)
        if self.remainder == "last":
            books.give_remainder([one.row for one in linear_outputs])
        return Shares(scores=[books.scores], ledger=books.ledger(task.target_values.values[0]))


def _linear_outputs(task: AttributionTask, found: Anatomy) -> list[LinearOutput]:
    """Each target as a linear function of one row of the last layer's output."""
    seeds = task.target_values.seeds[0].flatten(1, -2)
    logits = task.head.logits(found.output).detach()
    logits = logits.reshape(-1, logits.shape[-1])
    rows = seeds.abs().sum(-1).argmax(-1)
    return [
        linear_output(task.head.model, found.watched, logits[row], seeds[t, row].to(logits))
        for t, row in enumerate(rows.tolist())
    ]


@dataclass
class _Books:
    """Scores by target and token, and the amounts of the remainder by line, entry and target."""

    targets: int
    tokens: int
    scores: Tensor = field(init=False)
    lines: dict[str, dict[str, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        self.scores = torch.zeros(self.targets, self.tokens, dtype=torch.float64)
        self.lines = defaultdict(lambda: defaultdict(lambda: torch.zeros(self.targets, dtype=torch.float64)))

    def add(self, line: str, entry: str, target: int, amount: Tensor) -> None:
        self.lines[line][entry][target] += amount.double().cpu()

    def give_remainder(self, rows: list[int]) -> None:
        for entries in self.lines.values():
            self.scores[torch.arange(self.targets), rows] += torch.stack([*entries.values()]).sum(0)
        self.lines = {}

    def ledger(self, total: list[float]) -> Ledger:
        lines = {"tokens": self.scores.sum(-1)}
        lines |= {line: torch.stack([*entries.values()]).sum(0) for line, entries in self.lines.items()}
        details = {line: dict(entries) for line, entries in self.lines.items()}
        return Ledger(total=torch.tensor(total, dtype=torch.float64), lines=lines, details=details)


def _decompose(found: Anatomy, linear_outputs: list[LinearOutput], books: _Books, *, show: bool) -> None:
    """Follow the targets' directions from the last layer down, carrying attention's contributions (Horner's scheme)."""
    rows = [one.row for one in linear_outputs]
    directions = torch.stack([one.direction for one in linear_outputs])
    carried = torch.zeros_like(books.scores)
    top = found.layers[-1]
    for layer in progress(reversed(found.layers), "following tokens", show=show, total=len(found.layers)):
        directions = _behind(layer.output_norm, directions, rows, books.add)
        for t, row in enumerate(rows):
            books.add("MLPs", layer_label(layer.path), t, layer.mlp[row] @ directions[t])
            for path, constant in layer.constants():
                line = "attention biases" if path == layer.projection_path else "norm biases"
                books.add(line, path, t, constant[row] @ directions[t])
        weights = layer.weights()
        if layer is not top:
            carried = carried @ contributions(layer, weights).double().cpu()
        for t, row in enumerate(rows):
            carried[t] += (weights[:, row] * layer.directed(directions[t])).sum(0).double().cpu()
        directions = _behind(layer.middle_norm, directions, rows, None)
    first = found.layers[0].input
    books.scores = carried
    for t, row in enumerate(rows):
        books.scores[t, row] += (first[row] @ directions[t]).double().cpu()


def _behind(
    norm: FrozenNorm | None, directions: Tensor, rows: list[int], add: Callable[[str, str, int, Tensor], None] | None
) -> Tensor:
    """Directions at a frozen norm's output as directions at its input; `add` books its bias."""
    if norm is None:
        return directions
    if norm.bias is not None and add is not None:
        for t, direction in enumerate(directions):
            add("norm biases", norm.path, t, norm.bias @ direction)
    return norm.pulled(directions) * norm.statistic[rows, None]
