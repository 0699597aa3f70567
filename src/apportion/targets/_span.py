"""A span: a continuation of the prompt as the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from apportion.core import ApportionError
from apportion.targets._any_target import AnyTarget, At, NamedOutputs, TargetFn


@dataclass(frozen=True)
class Span(AnyTarget):
    """A continuation of the prompt: the sum of its tokens' log-probabilities, each given the tokens before it.

    Args:
        text: The continuation, or its token ids.
        unit: The summed unit: log-probabilities, whose sum is that of the whole continuation, or logits.
    """

    text: str | tuple[int, ...]
    unit: Literal["log-probability", "logit"] = "log-probability"

    names_outputs: ClassVar[bool] = True
    extends_prompt: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.unit not in ("log-probability", "logit"):
            raise ApportionError(
                f"unit={self.unit!r} does not add up over a span; use 'log-probability', or 'logit' for sums of logits."
            )
        if not self.text:
            raise ApportionError("the span to explain is empty; give a text such as Span(' Paris, of course').")
        if not isinstance(self.text, str):
            object.__setattr__(self, "text", tuple(self.text))

    def extension(self, head: NamedOutputs) -> list[int]:
        """Its tokens except the last one, which the model predicts but does not need to read."""
        return head.token_ids(self.text)[:-1]

    def rows(self, prompt: Any, head: NamedOutputs) -> tuple[int, ...]:
        """The rows that predict its tokens, the last ones of the prompt."""
        length = head.length(prompt)
        return tuple(range(length - len(head.token_ids(self.text)), length))

    def own_rows(self, rows: tuple[int, ...]) -> tuple[int, ...]:
        """All but the first row, since each row predicts the token after it."""
        return rows[1:]

    def terms(self, rows: tuple[int, ...]) -> int:
        """How many tokens it has."""
        return len(rows)

    def as_function(self, head: NamedOutputs, at: At, logits: Tensor) -> TargetFn:
        """The sum over its tokens."""
        ids = head.token_ids(self.text)
        label = self.text if isinstance(self.text, str) else "".join(head.label(i) for i in ids)

        def value(tensor: Any) -> Tensor:
            rows: Tensor = tensor[at.example][list(at.rows)]
            rows = rows.float() if rows.dtype.itemsize < 4 else rows
            chosen = torch.as_tensor(ids, device=rows.device)
            outputs = rows if self.unit == "logit" else rows.log_softmax(-1)
            return outputs.gather(-1, chosen[:, None]).sum()

        return TargetFn(value, f'"{label}"', summed_unit(self.unit, len(ids)), linear=self.unit == "logit")

    @property
    def likelihood(self) -> Literal["log-probability"] | None:
        """The sum of log-probabilities is that of the whole continuation; a sum of logits is none."""
        return "log-probability" if self.unit == "log-probability" else None

    def to_dict(self) -> dict[str, Any]:
        """The span as JSON-ready values."""
        return {"target": {"span": self.text if isinstance(self.text, str) else list(self.text), "unit": self.unit}}


def summed_unit(unit: str, count: int) -> str:
    """The unit of a sum over tokens: a log-probability for log-probabilities, else `"…, summed"`."""
    return unit if count == 1 or unit.startswith("log-probability") else f"{unit}, summed"
