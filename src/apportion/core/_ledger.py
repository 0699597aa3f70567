"""The ledger: where every share of the target went, and what the numbers leave over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The accounts of one attribution: `total` = sum of `lines` + `residual`.

    Each line is computed from the run by itself; only the residual is what remains, so a residual near 0 says
    that nothing was lost on the way.

    Args:
        total: What was divided, in the target's unit.
        lines: Amount by name, such as `"tokens"`, `"positions"`, `"biases"`, `"softmax remainder, layer 3"`.
        details: The finer entries that a line sums, by line: the single biases of `"biases"`, by parameter name.
    """

    total: Float[Tensor, "*targets"]
    lines: Mapping[str, Float[Tensor, "*targets"]]
    details: Mapping[str, Mapping[str, Float[Tensor, "*targets"]]] = field(default_factory=dict)

    @property
    def residual(self) -> Float[Tensor, "*targets"]:
        """What no line accounts for; 0 up to rounding when the books balance."""
        return self.total - sum(self.lines.values(), torch.zeros_like(self.total))

    @property
    def relative_residual(self) -> Float[Tensor, "*targets"]:
        """The residual's size against the largest amount in the books (the total or a line)."""
        amounts = torch.stack([self.total, *self.lines.values()]).abs()
        return self.residual.abs() / amounts.amax(0).clamp_min(torch.finfo(amounts.dtype).tiny)

    def __getitem__(self, index: int) -> Ledger:
        """The accounts of one target, when several were explained at once."""
        return Ledger(
            total=self.total[index],
            lines={name: amount[index] for name, amount in self.lines.items()},
            details={
                line: {name: amount[index] for name, amount in entries.items()}
                for line, entries in self.details.items()
            },
        )

    @classmethod
    def joined(cls, ledgers: Sequence[Ledger]) -> Ledger:
        """The accounts of several lists of targets as those of one list; a line that one of them lacks is 0 there."""
        lines = list(dict.fromkeys(line for ledger in ledgers for line in ledger.lines))
        entries = {line: dict.fromkeys(n for x in ledgers for n in x.details.get(line, {})) for line in lines}

        def along(amounts: Sequence[Tensor | None]) -> Tensor:
            pairs = zip(amounts, ledgers, strict=True)
            return torch.cat([torch.zeros_like(of.total) if amount is None else amount for amount, of in pairs])

        return cls(
            total=torch.cat([ledger.total for ledger in ledgers]),
            lines={line: along([ledger.lines.get(line) for ledger in ledgers]) for line in lines},
            details={
                line: {name: along([ledger.details.get(line, {}).get(name) for ledger in ledgers]) for name in names}
                for line, names in entries.items()
                if names
            },
        )

    def __str__(self) -> str:
        if self.total.ndim:
            return "\n\n".join(str(self[i]) for i in range(len(self.total)))
        rows = [*self.lines.items(), ("residual", self.residual), ("total", self.total)]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {amount.item():>+12.6g}" for name, amount in rows)
