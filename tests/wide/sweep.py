"""Explain one logit of a tiny model of each architecture, and see whether the books balance."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from apportion._errors import ApportionError
from apportion._ledger import Ledger
from apportion.relevance import CP_LRP, record
from tests.architectures import CannotBuild, Task, TinyModel, build, time_limit

Status = Literal["exact", "not exact", "refused", "failed", "not built"]
"""The books balance; they do not; the engine says why it will not; something raised; there was no model to try."""

TOLERANCE = 1e-4
PASSED_ON = ("tokens", "inputs", "positions", "token types", "biases", "constants")
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
        message: Why there is no residual, or no model.
    """

    task: Task
    model_type: str
    status: Status
    residual: float | None = None
    total: float | None = None
    lines: Mapping[str, float] = field(default_factory=dict)
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


def explained(output: Any) -> Tensor:
    """The logits in a model's output."""
    for name in OUTPUTS:
        if isinstance(output.get(name), Tensor):
            return output[name]
    raise KeyError(f"none of {', '.join(OUTPUTS)} among the outputs {', '.join(output)}")


def seed_at_the_largest(logits: Tensor) -> Tensor:
    """1 at the largest logit of the last position, 0 elsewhere; one target."""
    seed = torch.zeros(1, *logits.shape, dtype=logits.dtype)
    rows = logits.detach().reshape(-1, logits.shape[-1])
    seed.view(-1, logits.shape[-1])[-1, rows[-1].argmax()] = 1
    return seed


def ledger_of(tiny: TinyModel) -> Ledger:
    """The accounts of the largest logit under CP-LRP, which has no remainder of its own."""
    trace = record(tiny.model, tiny.inputs)
    logits = explained(trace.output)
    ledger = trace.propagate(logits, seed_at_the_largest(logits), CP_LRP, keep_graph=False).ledger
    assert ledger is not None  # it is kept unless asked not to
    return ledger[0]


def lost(ledger: Ledger) -> float:
    """What was not passed on to the lines of `PASSED_ON`, relative to the largest amount in the books."""
    passed_on = sum(float(amount) for name, amount in ledger.lines.items() if name in PASSED_ON)
    amounts = [float(ledger.total), *(float(amount) for amount in ledger.lines.values())]
    return abs(float(ledger.total) - passed_on) / max(abs(amount) for amount in amounts)


def outcome(task: Task, model_type: str, *, seconds: int = 60) -> Outcome:
    """Build one architecture and explain it; whatever happens is reported, not raised.

    Args:
        task: What the model does.
        model_type: One of `names(task)`.
        seconds: Longest time for building and again for explaining.
    """
    start = time.perf_counter()
    ledger, message = None, ""
    try:
        tiny = build(task, model_type, seconds=seconds)
        with time_limit(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ledger = ledger_of(tiny)
        status: Status = "exact" if lost(ledger) < TOLERANCE else "not exact"
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
        residual=None if ledger is None else lost(ledger),
        total=None if ledger is None else float(ledger.total),
        lines={} if ledger is None else {name: float(amount) for name, amount in ledger.lines.items()},
        message=message,
        seconds=round(time.perf_counter() - start, 2),
    )
