"""The ledger: where every share of the target went, and the residual."""

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

    Each line is computed separately, so a residual near 0 shows that nothing was lost.

    Args:
        total: The divided amount, in the target's unit.
        lines: Amount by name, such as `"tokens"`, `"positions"`, `"biases"`, `"softmax remainder, layer 3"`.
        details: The entries that a line sums, such as each bias of `"biases"`, by parameter name.
    """

    total: Float[Tensor, "*targets"]
    lines: Mapping[str, Float[Tensor, "*targets"]]
    details: Mapping[str, Mapping[str, Float[Tensor, "*targets"]]] = field(default_factory=dict)

    @property
    def residual(self) -> Float[Tensor, "*targets"]:
        """The amount that no line accounts for; 0 up to rounding if the ledger balances."""
        return self.total - sum(self.lines.values(), torch.zeros_like(self.total))

    @property
    def relative_residual(self) -> Float[Tensor, "*targets"]:
        """The residual's size relative to the largest amount (the total or a line)."""
        amounts = torch.stack([self.total, *self.lines.values()]).abs()
        return self.residual.abs() / amounts.amax(0).clamp_min(torch.finfo(amounts.dtype).tiny)

    def __getitem__(self, index: int) -> Ledger:
        """The accounts of one of several targets."""
        return self._each(lambda amount: amount[index])

    @property
    def batched(self) -> Ledger:
        """The accounts of one target as a list of one."""
        return self._each(lambda amount: amount[None])

    def summed(self, into: Float[Tensor, "target row"]) -> Ledger:
        """The accounts of weighted sums of targets."""
        return self._each(lambda amount: into.T.to(amount) @ amount)

    @classmethod
    def joined(cls, ledgers: Sequence[Ledger]) -> Ledger:
        """The accounts of several lists of targets as one list; a line that one of them lacks is 0 there."""
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
        """The same accounts with every amount changed."""

        def changed(amounts: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: change(amount) for name, amount in amounts.items()}

        details = {line: changed(entries) for line, entries in self.details.items()}
        return Ledger(total=change(self.total), lines=changed(self.lines), details=details)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a row for each line and the residual, which sum to the total, for each target."""
        amounts = {name: line.reshape(-1).tolist() for name, line in (*self.lines.items(), ("residual", self.residual))}
        rows = [(target, name, x) for name, of_targets in amounts.items() for target, x in enumerate(of_targets)]
        return pandas_module().DataFrame(rows, columns=["target", "line", "amount"])

    def to_dict(self) -> dict[str, Any]:
        """Total, lines and residual in JSON-ready values, without the lines' details."""
        return {
            "total": self.total.tolist(),
            "lines": {name: amount.tolist() for name, amount in self.lines.items()},
            "residual": self.residual.tolist(),
        }
