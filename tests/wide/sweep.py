"""Explain one logit of a tiny model of each architecture, and see whether the books balance."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from apportion.core._errors import ApportionError
from apportion.core._ledger import Ledger
from apportion.relevance import CP_LRP, Composite, Propagated, record
from tests.architectures import CannotBuild, Task, TinyModel, build, time_limit

Status = Literal["exact", "not exact", "refused", "failed", "not built"]
"""The books balance; they do not; the engine says why it will not; something raised; there was no model to try."""

TOLERANCE = 1e-4
PASSED_ON = ("tokens", "inputs", "special tokens", "positions", "token types", "biases", "constants")
"""Lines of what the rules passed on. Another line, of what a rule kept or held constant, would balance any books."""
OUTPUTS = ("logits", "logits_per_image", "logits_per_video", "itm_score", "prediction_logits", "last_hidden_state")
"""Where a model puts what it predicts, the first that it has; PP-LCNet calls its class logits a hidden state."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one architecture.

    Args:
        residual: What did not arrive on a line of `PASSED_ON`, relative to the largest amount; None where nothing ran.
        total: The logit that was explained.
        lines: The amounts of the ledger, by line. They show what "exact" is worth: relevance that ends in constants
            balances the books and explains nothing.
        arriving: The sum of the sizes of what arrives at each of the model's inputs, by the input's name.
        message: Why there is no residual, or no model.
    """

    task: Task
    model_type: str
    status: Status
    residual: float | None = None
    total: float | None = None
    lines: Mapping[str, float] = field(default_factory=dict)
    arriving: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    seconds: float = 0.0

    @property
    def needs_constants(self) -> bool:
        """Whether the books balance only with what constants keep: token types, batch means, unlearned offsets."""
        largest = max([abs(amount) for amount in self.lines.values()], default=1.0)
        return abs(self.lines.get("constants", 0.0)) > TOLERANCE * largest

    @property
    def reaches_inputs(self) -> bool:
        """Whether any relevance arrives at tokens or pixels."""
        arriving = abs(self.lines.get("tokens", 0.0)) + abs(self.lines.get("inputs", 0.0))
        return arriving > TOLERANCE * max([abs(amount) for amount in self.lines.values()], default=1.0)

    @property
    def unreached(self) -> tuple[str, ...]:
        """The inputs, of those that hold words or numbers, at which nothing arrives; each looked at by itself."""
        largest = max([abs(amount) for amount in self.lines.values()], default=1.0)
        return tuple(name for name, size in self.arriving.items() if not size > TOLERANCE * largest)


def explained(output: Any) -> Tensor:
    """The logits in a model's output."""
    for name in OUTPUTS:
        if isinstance(output.get(name), Tensor):
            return output[name]
    raise KeyError(f"none of {', '.join(OUTPUTS)} among the outputs {', '.join(output)}")


def seed_at_the_largest(logits: Tensor) -> Tensor:
    """1 at the largest logit of the last position, or at the largest of a map's features, 0 elsewhere; one target."""
    seed = torch.zeros(1, *logits.shape, dtype=logits.dtype)
    of_one = logits[0].numel() if logits.ndim == 4 else logits.shape[-1]
    rows = logits.detach().reshape(-1, of_one)
    seed.view(-1, of_one)[-1, rows[-1].argmax()] = 1
    return seed


def propagated(tiny: TinyModel, composite: Composite = CP_LRP, *, output: str | None = None) -> Propagated:
    """The largest logit, or number of the named output, divided under a composite; CP-LRP has no remainder."""
    trace = record(tiny.model, tiny.inputs)
    logits = explained(trace.output) if output is None else trace.output[output]
    return trace.propagate(logits, seed_at_the_largest(logits), composite, keep_graph=False)


def ledger_of(found: Propagated) -> Ledger:
    """The accounts of the one target."""
    assert found.ledger is not None  # it is kept unless asked not to
    return found.ledger[0]


def arriving(found: Propagated) -> dict[str, float]:
    """The sum of the sizes of what arrives at each of the model's inputs, by its name."""
    sizes: dict[str, float] = {}
    for name, leaf in found.leaves.items():
        if leaf.role in ("tokens", "inputs"):
            at = leaf.ids or leaf.name
            sizes[at] = sizes.get(at, 0.0) + float(found.relevance[name].abs().sum())
    return sizes


def lost(ledger: Ledger) -> float:
    """What was not passed on to the lines of `PASSED_ON`, relative to the largest amount in the books."""
    passed_on = sum(float(amount) for name, amount in ledger.lines.items() if name in PASSED_ON)
    amounts = [float(ledger.total), *(float(amount) for amount in ledger.lines.values())]
    return abs(float(ledger.total) - passed_on) / max(abs(amount) for amount in amounts)


def outcome(task: Task, model_type: str, *, composite: Composite = CP_LRP, seconds: int = 60) -> Outcome:
    """Build one architecture and explain it; whatever happens is reported, not raised.

    Args:
        task: What the model does.
        model_type: One of `names(task)`.
        composite: The rules to follow. What CP-LRP passes on alone must balance the books; other composites have
            lines for what they keep, which count as well.
        seconds: Longest time for building and again for explaining.
    """
    start = time.perf_counter()
    ledger, off, sizes, message = None, None, {}, ""
    try:
        tiny = build(task, model_type, seconds=seconds)
        with time_limit(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = propagated(tiny, composite)
        ledger, sizes = ledger_of(found), arriving(found)
        off = lost(ledger) if composite is CP_LRP else float(ledger.relative_residual)
        status: Status = "exact" if off < TOLERANCE else "not exact"
    except CannotBuild as error:
        status, message = "not built", str(error)
    except ApportionError as error:
        status, message = "refused", f"{type(error).__name__}: {error}"
    except Exception as error:  # anything a model's own code, or ours, may raise
        status, message = "failed", f"{type(error).__name__}: {error}"
    return Outcome(
        task=task,
        model_type=model_type,
        status=status,
        residual=off,
        total=None if ledger is None else float(ledger.total),
        lines={} if ledger is None else {name: float(amount) for name, amount in ledger.lines.items()},
        arriving=sizes,
        message=message,
        seconds=round(time.perf_counter() - start, 2),
    )
