"""Second order: a similarity divided among pairs of features, one of each side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from apportion.core import ApportionError, Feature, Ledger, RuleNotApplied
from apportion.methods._method import Method
from apportion.methods.backward._propagation import Propagation, of_positions, of_tokens
from apportion.models.inputs import OTHER, Prompt
from apportion.relevance import Composite, Override, Propagated, Trace, relevance_by_output
from apportion.results import Cost, Explained, Pairwise
from apportion.targets import encodings_of
from apportion.task import AttributionTask

SIDES = ("first", "second")


@dataclass(frozen=True)
class _Side:
    """One side of a pair, `"first"` or `"second"` for the user: its encoding in the graph and its features."""

    name: str
    output: Float[Tensor, "1 d_model"]
    features: list[int]

    @property
    def unit(self) -> Float[Tensor, " d_model"]:
        """The encoding, normalised to length 1."""
        return self.output.detach()[0] / self.norm

    @property
    def norm(self) -> Tensor:
        """The encoding's length, a constant of the division."""
        return self.output.detach().norm()


def pairwise(task: AttributionTask, method: Method, *, swapped: bool = False, positions: bool = False) -> Pairwise:
    r"""The shares of pairs of features in the similarity of a pair's encodings u and v.

    With $\hat u = u/|u|$ and R the relevance that a dimension gives to a feature,
    $R_{ij} = \sum_k R_i(\hat u_k)\, R_j(\hat v_k)$. Relevance is linear in its seed, so row i of the matrix
    is the relevance of the second side's features for the output $\sum_k R_i(\hat u_k)\, \hat v_k$: once the rows of
    one side's $R_i(\hat u_k)$ are known, the other side takes one pass per feature, not one per dimension.

    Args:
        task: The similarity of one pair.
        method: A method that propagates relevance under fixed rules.
        swapped: Whether the first of the model's two encodings is the user's second.
        positions: Whether shares of position embeddings are added to their tokens'.

    Raises:
        ApportionError: The method is no plain propagation.

    Source:
        Eberle et al. 2020, arXiv 2003.05386, who propagate each dimension separately on both sides.
    """
    if not isinstance(method, Propagation) or type(method).attribute is not Propagation.attribute:
        raise ApportionError(
            f"the method {method.name!r} sends no relevance back under fixed rules, which a division among pairs "
            "needs; use 'attnlrp', 'cp-lrp', 'res-lrp' or a composite."
        )
    start, prompt = time.perf_counter(), task.prompts[0]
    # Fused attention has no second derivative; the plain one computes the same.
    with sdpa_kernel(SDPBackend.MATH):
        trace = task.recorded(detail=task.detail, summands=method.summands)
        passes = _Passes(trace, task, method, positions)
        sides = _sides(trace, prompt, swapped)
        passes.check(sides)
        one, other = sorted(sides, key=lambda side: len(side.features))
        found = _divided(passes, one, other)
    scores, one_rest, other_rest, one_values, other_values, ledger = found
    turned = one.name != SIDES[0]
    rows, columns = (other, one) if turned else (one, other)
    return Pairwise(
        scores=(scores.T if turned else scores).contiguous(),
        rows=_features(prompt, rows),
        columns=_features(prompt, columns),
        row_rest=other_rest if turned else one_rest,
        column_rest=one_rest if turned else other_rest,
        row_values=other_values if turned else one_values,
        column_values=one_values if turned else other_values,
        explained=Explained(label="similarity", unit="cosine", value=float(one.unit @ other.unit)),
        ledger=ledger,
        method=method.name,
        options={
            **method.options,
            **getattr(task.head.model, "options", {}),
            "positions": "added" if positions else "apart",
        },
        cost=Cost(seconds=time.perf_counter() - start, forward=1 + trace.repeated, backward=passes.backward),
        pictures=tuple(picture for continuous in prompt.continuous_inputs for picture in continuous.pictures),
    )


class _Passes:
    """Backward passes of one trace, and how many there were."""

    def __init__(self, trace: Trace, task: AttributionTask, method: Propagation, positions: bool) -> None:
        self.trace, self.task, self.method, self.positions = trace, task, method, positions
        self.backward = 0.0
        self._composites: dict[str, Composite] = {}

    def composite_of(self, side: _Side) -> Composite:
        """The rules on one side: without those for other modules, such as an image's tower on the side of a text."""
        composite = self.method.composite
        if side.name not in self._composites:
            kept = tuple(o for o in composite.overrides if self._applies(o, side))
            self._composites[side.name] = replace(composite, overrides=kept)
        return self._composites[side.name]

    def _applies(self, override: Override, side: _Side) -> bool:
        alone = replace(self.method.composite, overrides=(override,))
        try:
            self.trace._resolved_plan((side.output,), alone, ledger=False)
        except RuleNotApplied:
            return False
        return True

    def check(self, sides: Sequence[_Side]) -> None:
        """Reject rules that apply on neither side."""
        kept = {override for side in sides for override in self.composite_of(side).overrides}
        if lost := [override for override in self.method.composite.overrides if override not in kept]:
            raise RuleNotApplied(f"{lost[0].in_words()}: no operation on either side of the pair has that rule.")

    def shares(self, propagated: Propagated) -> Float[Tensor, "targets feature"]:
        """The relevance of each of the prompt's features."""
        scores = of_tokens(propagated, self.task, 0)
        moved = of_positions(propagated, self.task, 0) if self.positions else None
        return scores if moved is None else scores + moved

    def of(
        self, side: _Side, seeds: Float[Tensor, "targets d_model"], *, ledger: bool = True
    ) -> tuple[Float[Tensor, "targets feature"], Ledger | None]:
        """The side's features' relevance for combinations of its unit encoding, and the accounts."""
        self.backward += len(seeds)
        given = (seeds / side.norm).to(side.output)[:, None]
        propagated = self.trace.propagate(side.output, given, self.composite_of(side), ledger=ledger)
        return self.shares(propagated)[:, side.features].double(), propagated.ledger

    def by_dimension(
        self, side: _Side, seed: Float[Tensor, " d_model"], known: Float[Tensor, " feature"]
    ) -> Float[Tensor, "feature d_model"]:
        """The relevance that each dimension of the unit encoding gives to each feature; checked for one known seed."""
        size = side.output.shape[-1]
        if len(side.features) < size:
            try:
                found = relevance_by_output(
                    self.trace, side.output, self.composite_of(side), lambda p: self.shares(p)[:, side.features]
                )
            except RuntimeError:  # an operation has no second derivative
                found = None
            if found is not None:
                self.backward += len(side.features)
                found = found.double() / side.norm.double()
                rounding = torch.finfo(side.output.dtype).eps ** 0.5 * known.abs().max()
                if torch.allclose(found @ seed, known, rtol=0, atol=float(rounding)):
                    return found
        eye = torch.eye(size, dtype=torch.float64, device=side.output.device)
        return self.of(side, eye, ledger=False)[0].T


def _divided(passes: _Passes, one: _Side, other: _Side) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Ledger]:
    """The matrix; each side's rests and values; and the ledger."""
    unit, other_unit = one.unit.double(), other.unit.double()
    of_one, own_books = passes.of(one, other_unit[None])
    by_dimension = passes.by_dimension(one, other_unit, of_one[0])
    rest = unit - by_dimension.sum(0)  # relevance that no feature of this side gets
    # One pass of the other side for every feature of the first, for the rest, and for the encoding itself.
    seeds = torch.cat([by_dimension, rest[None], unit[None]])
    received, books = passes.of(other, seeds)
    assert books is not None
    assert own_books is not None
    count = len(by_dimension)
    scores = received[:count]
    theirs = _lines(books, passes, received)
    mine = _lines(own_books, passes, of_one)
    values = of_one[0]
    lines = {"pairs": scores.sum()[None]}
    for line, amount in theirs.items():
        lines[f"{one.name} × {line} of {other.name}"] = amount[:count].sum()[None]
    for line, amount in mine.items():
        lines[f"{line} of {one.name} × {other.name}"] = amount
    ledger = Ledger(total=(unit @ other_unit)[None], lines=lines)[0]
    one_rest = sum(theirs.values(), torch.zeros(len(seeds), dtype=torch.float64))[:count]
    return scores, one_rest, received[count], values, received[count + 1], ledger


def _lines(ledger: Ledger, passes: _Passes, features: Float[Tensor, "targets feature"]) -> dict[str, Tensor]:
    """The ledger's lines without the features' relevance."""
    lines, held = dict(ledger.lines), features.sum(1).cpu()
    for line in ("tokens", "inputs"):
        if line in lines:
            held = held - lines.pop(line)
    if passes.positions and "positions" in lines:
        lines["positions"] = lines["positions"] - held
    return lines


def _sides(trace: Trace, prompt: Prompt, swapped: bool) -> tuple[_Side, _Side]:
    """Both sides, in the user's order."""
    encodings = encodings_of(getattr(trace.output, "output", trace.output))
    paired = any(name.startswith(OTHER) for name in prompt.inputs)
    members: tuple[list[int], list[int]] = ([], [])
    at = 0
    for continuous in prompt.continuous_inputs:
        members[continuous.name.startswith(OTHER)].extend(range(at, at + continuous.count))
        at += continuous.count
    for name, count in prompt.parts.items():
        members[name.startswith(OTHER) or not paired].extend(range(at, at + count))
        at += count
    names = SIDES[::-1] if swapped else SIDES
    first, second = (_Side(n, e, m) for n, e, m in zip(names, encodings, members, strict=True))
    return (second, first) if swapped else (first, second)


def _features(prompt: Prompt, side: _Side) -> tuple[Feature, ...]:
    return tuple(prompt.features[i] for i in side.features)
