"""A neighbourhood: one example evaluated at other embeddings and images, several points as one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from apportion.core import ApportionError, Ledger, progress
from apportion.methods.backward._modality import by_modality
from apportion.methods.backward._tokens import shares_of_tokens
from apportion.models.anatomy import in_evaluation
from apportion.models.inputs import ContinuousInput
from apportion.relevance import DEEP, Leaf, Trace, token_embedding
from apportion.relevance import NAME as VISUAL_TOKENS
from apportion.task import TOKENS_AT_ONCE, AttributionTask

#: Where tokens are embedded: the module's path, and the input that it looks up (encoder-decoders share a module).
#: For a continuous input: its name twice.
Place = tuple[str, str]
#: Embeddings and continuous inputs by place, or a tensor for each of them.
Point = Mapping[Place, Tensor]

_ROWS_AT_ONCE = 8192


class Neighbourhood:
    """One example, and the targets at points around it in the space of its token embeddings and continuous inputs.

    Only token embeddings and images change; embeddings of positions and token types, and other inputs, stay.

    Args:
        task: About one example.
        batch_size: How many points run together at most; None for enough to keep a processor busy.
        doing: The label of the progress bar.

    Raises:
        ApportionError: The model does not embed all of the example's tokens, or relevance ends at visual tokens.
    """

    def __init__(self, task: AttributionTask, *, batch_size: int | None, doing: str) -> None:
        self.task = task
        self._doing, self._batch_size = doing, batch_size
        self.targets: int = len(task.targets)
        if VISUAL_TOKENS in (continuous.name for continuous in task.prompts[0].continuous_inputs):
            raise ApportionError(
                "this method changes the model's inputs, and visual tokens are not inputs: use regions='patches', or "
                "gradient, input-x-gradient or attnlrp for visual tokens."
            )
        moving = (leaf for leaf in task.trace.leaves.values() if moves(leaf, task))
        #: The example's own embeddings and continuous inputs, in at least float32.
        self.here: Point = {(leaf.name, leaf.ids or ""): _wide(leaf.value) for leaf in moving}
        # Fail before the work if shares could not be assigned to features afterwards.
        self.shares({place: x.new_zeros(self.targets, *x.shape) for place, x in self.here.items()})

    def shares(self, amounts: Point) -> Float[Tensor, "targets feature"]:
        """Sum the amounts of each place's elements by feature; amounts have an axis of targets in front."""
        return shares_of_elements([(ids, amount) for (_, ids), amount in amounts.items()], self.task, 0)

    def continuous(self, place: Place) -> ContinuousInput | None:
        """The continuous input at a place; None if it holds tokens."""
        return next((one for one in self.task.prompts[0].continuous_inputs if one.name == place[1]), None)

    def derivatives(self, count: int, point: Callable[[int], Point]) -> Iterator[Point]:
        """The derivatives of the targets at points 0 to `count` − 1: by place, with an axis of targets in front."""
        for members, moved in self.read_at(count, point):
            found = moved.trace.gradients(moved.target_values.outputs, moved.target_values.seeds, keep_graph=False)
            self.task.passes.backward += self.targets * len(members)
            rows = {
                place: gradient.reshape(self.targets, len(members), *self.here[place].shape)
                for place, gradient in by_place(moved.trace, found).items()
            }
            for row in range(len(members)):
                yield {place: gradient[:, row] for place, gradient in rows.items()}

    def read_at(self, count: int, point: Callable[[int], Point]) -> Iterator[tuple[range, AttributionTask]]:
        """The points in batches: the numbers of those that run together, and a task whose examples they are."""
        for members in self._batches(count):
            yield members, _Moved(self.task, [point(i) for i in members])

    def values(self, count: int, point: Callable[[int], Point]) -> Float[Tensor, "count targets"]:
        """The targets at some points."""
        found: list[list[float]] = []
        for _, moved in self.read_at(count, point):
            found += moved.target_values.values
        return torch.tensor(found, dtype=torch.float64)

    def ledger(
        self, scores: Float[Tensor, "targets feature"], elsewhere: Float[Tensor, " targets"], *, name: str, gap: str
    ) -> Ledger:
        """The ledger of a difference of targets.

        Args:
            scores: The features' shares of the difference.
            elsewhere: The targets at the other point.
            name: The line of the other point.
            gap: The line of the error, the difference less all shares.
        """
        (prompt,) = self.task.prompts
        total = torch.tensor(self.task.target_values.values[0], dtype=torch.float64)
        shared = scores.double()
        images, tokens = shared[:, : prompt.before_tokens].sum(-1), shared[:, prompt.before_tokens :].sum(-1)
        lines = {"inputs": images} if prompt.continuous_inputs else {}
        lines |= {"tokens": tokens} if prompt.parts else {}
        lines |= {name: elsewhere, gap: total - elsewhere - shared.sum(-1)}
        return by_modality(Ledger(total=total, lines=lines), prompt, shared)

    def known(self, place: Place) -> int:
        """How many tokens a place has embeddings for."""
        weight = self._table(place).weight
        assert isinstance(weight, Tensor)
        return len(weight)

    def embeddings(self, place: Place, ids: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """The embeddings of other tokens at a place, in at least float32."""
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
        model = self.task.head.model
        # If the user gave embeddings, take the table of the model's own module.
        module = token_embedding(model) if path == ids else model.get_submodule(path)
        weight = getattr(module, "weight", None)
        if module is None or not isinstance(weight, Tensor) or weight.ndim != 2:
            raise ApportionError(
                f"the embeddings of {type(model).__name__} at {path!r} are not rows of a table, so those of other "
                "tokens are not known; integrated-gradients(baseline='zero') needs none."
            )
        return module

    def _batches(self, count: int) -> Iterator[range]:
        usual = max(1, TOKENS_AT_ONCE // (_places(self.task) * self.targets))
        size = (self._batch_size or usual) if self._rows_are_apart() else 1
        starts = range(0, count, size)
        for start in progress(starts, self._doing, show=self.task.progress and len(starts) > 1):
            yield range(start, min(start + size, count))

    def _rows_are_apart(self) -> bool:
        """Whether several points may run as a batch: targets, embeddings and other inputs must have a row for each."""
        # A dual encoder compares every image of a batch with every text, so its rows are not independent.
        compares = self.task.head.kind.compares
        rows = all(t.in_graph if compares else not t.of_whole_output for t in self.task.targets)
        return rows and all(
            x.shape[0] == 1 and (x.ndim == 3 if (continuous := self.continuous(place)) is None else continuous.batched)
            for place, x in self.here.items()
        )


def moves(leaf: Leaf, task: AttributionTask) -> bool:
    """Whether features represent a leaf: embeddings of tokens, and continuous inputs."""
    return leaf.role == "tokens" or leaf.ids in {DEEP, *(one.name for one in task.prompts[0].continuous_inputs)}


def shares_of_elements(
    amounts: Sequence[tuple[str, Tensor]], task: AttributionTask, example: int
) -> Float[Tensor, "targets feature"]:
    """As `shares_of_tokens`, for amounts whose last axis, for tokens, is that of their embeddings."""
    whole = {*(continuous.name for continuous in task.prompts[example].continuous_inputs), DEEP}
    summed = [(ids, amount if ids in whole else amount.sum(-1)) for ids, amount in amounts]
    return shares_of_tokens(summed, task, example)


def _places(task: AttributionTask) -> int:
    """The approximate length of the model's longest sequence."""
    (prompt,) = task.prompts
    grids = [continuous.patches or (1, 1) for continuous in prompt.continuous_inputs]
    return max([*prompt.parts.values(), *(rows * columns for rows, columns in grids), 1])


def by_place(trace: Trace, gradients: Mapping[str, Tensor]) -> dict[Place, Tensor]:
    """Gradients by leaf, summed by place, since a module may embed the same tokens twice."""
    found: dict[Place, Tensor] = {}
    for name, gradient in gradients.items():
        leaf = trace.leaves[name]
        place = (leaf.name, leaf.ids or "")
        found[place] = found[place] + _wide(gradient) if place in found else _wide(gradient)
    return found


class _Moved(AttributionTask):
    """A task about one example at several points, as the rows of a batch."""

    def __init__(self, task: AttributionTask, points: Sequence[Point]) -> None:
        count = len(points)
        super().__init__(task.head, task.prompts * count, task.resolved[0], rows=task.rows * count)
        self.passes = task.passes
        self._points = points

    @cached_property
    def trace(self) -> Trace:
        """The recorded forward pass at the points."""
        return self.recorded(detail=False, embedded=self._embedded)

    def _embedded(self, path: str, ids: str, output: Tensor) -> Tensor:
        if (path, ids) not in self._points[0]:
            return output  # an input that stays fixed
        return torch.stack([point[path, ids] for point in self._points]).reshape(output.shape).to(output)


def _wide(value: Tensor) -> Tensor:
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))
