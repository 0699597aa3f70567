"""A neighbourhood: one example read at other embeddings of its tokens, several points as one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from apportion._errors import ApportionError
from apportion._ledger import Ledger
from apportion._progress import progress
from apportion._question import TOKENS_AT_ONCE, Question
from apportion._target import Span, Target
from apportion.methods.backward._tokens import shares_of_tokens
from apportion.models._running import in_evaluation
from apportion.relevance import Trace, record
from apportion.relevance._recording import token_embedding

#: Where tokens are embedded: the module's path, and the input that it looks up (encoder-decoders share a module).
Place = tuple[str, str]
#: Embeddings by place, or what belongs to each of them.
Point = Mapping[Place, Tensor]

_ROWS_AT_ONCE = 8192


class Neighbourhood:
    """One example, and the targets at points around it in the space of its token embeddings.

    Only what was looked up for tokens moves; embeddings of positions and token types, and other inputs, stay.

    Args:
        question: About one example.
        batch_size: How many points run together at most; None for as many as keep a processor busy.
        doing: What the progress bar says.

    Raises:
        ApportionError: The model does not embed all of the example's tokens.
    """

    def __init__(self, question: Question, *, batch_size: int | None, doing: str) -> None:
        self.question, self._doing, self._batch_size = question, doing, batch_size
        self.targets = len(question.targets)
        tokens = (leaf for leaf in question.trace.leaves.values() if leaf.role == "tokens")
        #: The example's own embeddings, in at least float32.
        self.here: Point = {(leaf.name, leaf.ids or ""): _wide(leaf.value) for leaf in tokens}
        # What could not be told apart in the end is refused before the work.
        self.shares({place: x.new_zeros(self.targets, *x.shape[:-1]) for place, x in self.here.items()})

    def shares(self, amounts: Point) -> Float[Tensor, "targets feature"]:
        """Shares by feature of what each place received: by target, in the shape that the model gave the ids."""
        return shares_of_tokens([(ids, amount) for (_, ids), amount in amounts.items()], self.question, 0)

    def derivatives(self, count: int, point: Callable[[int], Point]) -> Iterator[Point]:
        """The derivative of the targets by the embeddings, at one point after the other.

        Args:
            count: How many points there are.
            point: The embeddings at one of them.

        Yields:
            By place the derivative, with an axis of targets in front.
        """
        for members in self._batches(count):
            moved = _Moved(self.question, [point(i) for i in members])
            found = moved.trace.gradients(moved.read.outputs, moved.read.seeds, keep_graph=False)
            self.question.passes.backward += self.targets * len(members)
            rows = {
                place: gradient.reshape(self.targets, len(members), *self.here[place].shape)
                for place, gradient in by_place(moved.trace, found).items()
            }
            for row in range(len(members)):
                yield {place: gradient[:, row] for place, gradient in rows.items()}

    def values(self, count: int, point: Callable[[int], Point]) -> Float[Tensor, "count targets"]:
        """The targets at some points."""
        found: list[list[float]] = []
        for members in self._batches(count):
            found += _Moved(self.question, [point(i) for i in members]).read.values
        return torch.tensor(found, dtype=torch.float64)

    def ledger(
        self,
        scores: Float[Tensor, "targets feature"],
        elsewhere: Float[Tensor, " targets"],
        *,
        name: str,
        gap: str,
    ) -> Ledger:
        """The accounts of a difference of targets: what the tokens and the other end have, and what a sum missed.

        Args:
            scores: The tokens' shares of the difference.
            elsewhere: The targets at the other end.
            name: The line of the other end.
            gap: The line of what the tokens' shares miss of the difference, since an integral became a sum.
        """
        total = torch.tensor(self.question.read.values[0], dtype=torch.float64)
        tokens = scores.double().sum(-1)
        return Ledger(total=total, lines={"tokens": tokens, name: elsewhere, gap: total - elsewhere - tokens})

    def known(self, place: Place) -> int:
        """How many tokens a place has embeddings for.

        Raises:
            ApportionError: Its embeddings are no rows of a table.
        """
        weight = self._table(place).weight
        assert isinstance(weight, Tensor)
        return len(weight)

    def embeddings(self, place: Place, ids: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """What a place returns for other tokens, in at least float32."""
        table = self._table(place)
        with in_evaluation(table), torch.no_grad():
            found = table(ids.to(self.here[place].device)[None])
        return _wide(found)[0]

    def mean_embedding(self, place: Place) -> Float[Tensor, " d_model"]:
        """The mean of all tokens' embeddings."""
        pieces = torch.arange(self.known(place)).split(_ROWS_AT_ONCE)
        return torch.stack([self.embeddings(place, ids).sum(0) for ids in pieces]).sum(0) / self.known(place)

    def _table(self, place: Place) -> nn.Module:
        path, ids = place
        model = self.question.head.model
        # Where the user gives embeddings, they are of the kind that the model's own module would have returned.
        module = token_embedding(model) if path == ids else model.get_submodule(path)
        weight = getattr(module, "weight", None)
        if module is None or not isinstance(weight, Tensor) or weight.ndim != 2:
            raise ApportionError(
                f"the embeddings of {type(model).__name__} at {path!r} are not rows of a table, so those of other "
                "tokens are not known; integrated-gradients(baseline='zero') needs none."
            )
        return module

    def _batches(self, count: int) -> Iterator[range]:
        usual = max(1, TOKENS_AT_ONCE // (max(self.question.prompts[0].parts.values()) * self.targets))
        size = (self._batch_size or usual) if self._rows_are_apart() else 1
        starts = range(0, count, size)
        for start in progress(starts, self._doing, show=self.question.progress and len(starts) > 1):
            yield range(start, min(start + size, count))

    def _rows_are_apart(self) -> bool:
        """Whether several points may run as a batch: targets and embeddings must both have a row for each."""
        outputs = all(isinstance(target, Target | Span) for target in self.question.targets)
        return outputs and all(x.ndim == 3 and x.shape[0] == 1 for x in self.here.values())


def by_place(trace: Trace, gradients: Mapping[str, Tensor]) -> dict[Place, Tensor]:
    """Gradients by leaf, summed by place: tokens that a module embeds twice have one embedding all the same."""
    found: dict[Place, Tensor] = {}
    for name, gradient in gradients.items():
        leaf = trace.leaves[name]
        place = (leaf.name, leaf.ids or "")
        found[place] = found[place] + _wide(gradient) if place in found else _wide(gradient)
    return found


class _Moved(Question):
    """A question about one example at several points, as the rows of a batch."""

    def __init__(self, question: Question, points: Sequence[Point]) -> None:
        count = len(points)
        super().__init__(question.head, question.prompts * count, question.resolved[0], rows=question.rows * count)
        self.passes = question.passes
        self._points = points

    @cached_property
    def trace(self) -> Trace:
        """The recorded forward pass at the points."""
        self.passes.forward += len(self.prompts)
        return record(self.head.model, self.inputs, detail=False, embedded=self._embedded)

    def _embedded(self, path: str, ids: str, output: Tensor) -> Tensor:
        return torch.stack([point[path, ids] for point in self._points]).reshape(output.shape).to(output)


def _wide(value: Tensor) -> Tensor:
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))
