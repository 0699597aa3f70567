"""The ledger: where every share of the target went, and what the numbers leave over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core._pandas import pandas_module
from apportion.core._saved import Saved
from apportion.core._shown import Shown

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True, repr=False)
class Ledger(Shown, Saved):
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
        return self._each(lambda amount: amount[index])

    @property
    def batched(self) -> Ledger:
        """The accounts of one target as those of a list of one."""
        return self._each(lambda amount: amount[None])

    def summed(self, into: Float[Tensor, "target row"]) -> Ledger:
        """The accounts of sums of targets.

        Args:
            into: How often each target is in each sum.
        """
        return self._each(lambda amount: into.T.to(amount) @ amount)

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

    def _each(self, change: Callable[[Tensor], Tensor]) -> Ledger:
        """The same accounts with every amount changed alike."""
        return Ledger(
            total=change(self.total),
            lines={name: change(amount) for name, amount in self.lines.items()},
            details={
                line: {name: change(amount) for name, amount in entries.items()}
                for line, entries in self.details.items()
            },
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a row for each line and the residual, which sum to the total, for each target."""
        rows = {**self.lines, "residual": self.residual}
        return pandas_module().DataFrame(
            [
                {"target": target, "line": name, "amount": amount}
                for name, amounts in rows.items()
                for target, amount in enumerate(amounts.reshape(-1).tolist())
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Total, lines and residual in JSON-ready values, without the lines' details."""
        return {
            "total": self.total.tolist(),
            "lines": {name: amount.tolist() for name, amount in self.lines.items()},
            "residual": self.residual.tolist(),
        }
