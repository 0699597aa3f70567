"""A generation: a model's answer to a prompt, and each of its tokens divided among all tokens before it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor

from apportion.core import ApportionError, Feature, Ledger, find_text, read
from apportion.core import progress as track_progress
from apportion.engine import Engine
from apportion.metagame import AnyOf, Game, play
from apportion.methods import AnyMethod, Method, Propagation
from apportion.models import Head
from apportion.models.inputs import Prompt, parts_of_answer, token_label, tokenizer_of
from apportion.results import Attribution, Cost, Explained, Generated, Interactions
from apportion.targets import Span, Target, Unit
from apportion.task import AttributionTask

#: Limits of one backward batch: targets times tokens (enough to keep a processor busy), and targets.
CELLS_AT_ONCE = 1024
TARGETS_AT_ONCE = 16
# How many last tokens of the prompt may hold a chat template's opening of the thinking.
_TAIL = 16
# The largest share of a later token that counts as rounding, relative to the largest share.
_ROUNDING = 1e-5


class _NoEngine:
    """Stands for the engine of a generation that was read from a file."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ApportionError(
            "this generation was read from a file, without its model; give Generation.load(path, explainer) the "
            "explainer of the model that wrote it."
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Generation(Generated):
    """An answer to a prompt, each of whose tokens can be divided among all tokens before it; see `Generated`.

    Args:
        engine: The model's engine, such as its explainer.
    """

    engine: Engine | Any = field(default=_NoEngine(), metadata={"saved": False})

    @classmethod
    def load(cls, path: str | os.PathLike[str], explainer: Any = None) -> Generation:
        """Read a file that `save` wrote.

        Args:
            path: Of the file.
            explainer: Of the model that generated the answer; without it the generation can be viewed, not attributed.

        Raises:
            ApportionError: The file is missing, holds something else, or was written by a newer version.
        """
        if explainer is None:
            return read(path, cls)
        found = read(path, cls, engine=explainer)
        device = next(explainer.model.parameters()).device
        inputs = {n: part.to(device) if isinstance(part, Tensor) else part for n, part in found.prompt.inputs.items()}
        return replace(found, prompt=replace(found.prompt, inputs=inputs))

    def attribute(
        self,
        *,
        method: AnyMethod | None = None,
        unit: Unit = "logit",
        of: str | Sequence[int] | None = None,
        part: Literal["thinking", "answer"] | None = None,
        progress: bool = True,
    ) -> Attribution:
        """Divide every token of the answer among all tokens before it.

        Args:
            method: As in `Explainer.explain`.
            unit: `"logit"`, as in `explain`: rows are of similar size, and a certain token still shows its sources.
                `"log-probability"`: rows sum to the log-probability of a text, and a certain token gets almost
                nothing. Or `"probability"`.
            of: Only these tokens of the answer: a text that occurs in it once, or indices of its tokens.
            part: Only this part of the answer.
            progress: Whether to show a progress bar.

        Returns:
            Targets × features; shares of the token itself and of later ones are exactly 0.

        Raises:
            ApportionError: The method does not support the model, the model attends to later tokens, or the text `of`
                does not occur exactly once.
        """
        chosen = self.engine.method(method, self.prompt)
        indices = self._indices(of, part)
        groups = self._groups(indices, chosen)
        found = [
            self._rows(members, chosen, unit, progress=progress and len(groups) == 1)
            for members in track_progress(groups, "explaining the answer", show=progress and len(groups) > 1)
        ]
        return _joined(found)

    def attribute_span(
        self,
        of: str | Sequence[int],
        *,
        method: AnyMethod | None = None,
        unit: Literal["log-probability", "logit"] = "logit",
        progress: bool = True,
    ) -> Attribution:
        """Divide a span of the answer as one target, the sum over its tokens: one backward pass.

        For a method that is linear in its target, this is the sum of the rows of `attribute` in the same unit.

        Args:
            of: Adjacent tokens: a text that occurs in the answer once, or indices of its tokens.
            method: As in `Explainer.explain`.
            unit: Sum logits, or log-probabilities, which add up to that of the span.
            progress: Whether a slow method may show a progress bar.

        Raises:
            ApportionError: The tokens are not adjacent, or the text does not occur exactly once.
        """
        indices = self._together(of)
        span = Span(self.ids[indices[0] : indices[-1] + 1], unit)
        start, chosen = time.perf_counter(), self.engine.method(method, self.prompt)
        task = self._task(self._read_before(indices[0]), [span], chosen, None, progress=progress)
        found = self._answered(task, chosen, start)
        return replace(self._with_the_rest(found), explained=(self._labelled(found.explained[0], indices),))

    def interactions(
        self,
        span: str | Sequence[int] | None = None,
        *,
        method: AnyMethod | None = None,
        of: AnyOf = "auto",
        unit: Literal["log-probability", "logit"] = "log-probability",
        game: Game | None = None,
        progress: bool = True,
    ) -> Interactions:
        """Measure how each part of the prompt changes the attribution of each other part: the metagame.

        The answer is one target, the sum over its tokens, so that each coalition takes one backward pass for an answer
        of any length. `method`, `of` and `game` are as in `Explainer.interactions`.

        Args:
            span: Only these adjacent tokens of the answer: a text that occurs in it once, or indices. The tokens of the
                answer before them are part of the game too.
            unit: The unit of the sum.
            progress: Whether to show a progress bar.

        Raises:
            ApportionError: The tokens are not adjacent, or the game does not fit.
        """
        chosen = self.engine.method(method, self.prompt)
        indices = range(len(self.ids)) if span is None else self._together(span)
        target = Span(self.ids[indices[0] : indices[-1] + 1], unit)
        task = self._task(self._read_before(indices[0]), [target], chosen, None, progress=progress)
        found = play(task, chosen, Game() if game is None else game, of=of, progress=progress)
        return replace(found, model=self.model, explained=(self._labelled(found.target, indices),))

    def _labelled(self, explained: Explained, indices: Sequence[int]) -> Explained:
        return replace(explained, label=f'"{"".join(self.tokens[i] for i in indices)}"')

    def _together(self, of: str | Sequence[int]) -> list[int]:
        """Adjacent tokens of the answer, by their text or indices."""
        indices = self._indices(of, None)
        if len(indices) != indices[-1] - indices[0] + 1:
            raise ApportionError("a span's tokens must stand together; explain tokens apart with attribute(of=…).")
        return indices

    def _rows(self, members: Sequence[int], method: Method, unit: Unit, *, progress: bool) -> Attribution:
        """Rows of some of the answer's tokens, from one forward pass over everything before the last of them."""
        start = time.perf_counter()
        prompt = self._read_before(members[-1])
        rows = [self._length + i - 1 for i in members]
        targets = [Target(self.ids[i], unit=unit, position=row) for i, row in zip(members, rows, strict=True)]
        task = self._task(prompt, targets, method, [[(row,) for row in rows]], progress=progress)
        found = self._answered(task, method, start)
        if len(members) == 1:
            ledger = None if found.ledger is None else found.ledger.batched
            found = _changed(found, lambda scores: scores[None], ledger=ledger)
        return self._looking_back(self._with_the_rest(found), members, exact=_goes_back(method))

    def _looking_back(self, found: Attribution, members: Sequence[int], *, exact: bool) -> Attribution:
        """The rows with the index of the feature that each explains, and with shares of exactly 0 from it on."""
        places = [self._length + i for i in members]
        own = [
            next(k for k, f in enumerate(found.features) if _of_answer(f) and place in f.positions) for place in places
        ]
        later = torch.tensor([[_begins(feature) >= place for feature in found.features] for place in places])
        if exact:
            _check_ahead(found, later)

        explained = tuple(replace(e, feature=k) for e, k in zip(found.explained, own, strict=True))
        return _changed(found, lambda scores: scores.masked_fill(later, 0), explained=explained)

    def _task(
        self,
        prompt: Prompt,
        targets: Sequence[Target | Span],
        method: Method,
        rows: Sequence[Sequence[tuple[int, ...]]] | None,
        *,
        progress: bool,
    ) -> AttributionTask:
        task = self.engine.task([prompt], targets, [method], head=self._head, rows=rows, progress=progress)
        task.last_method = True
        return task

    def _answered(self, task: AttributionTask, method: Method, start: float) -> Attribution:
        (found,) = self.engine.attribute(task, method)
        cost = Cost(seconds=time.perf_counter() - start, forward=task.passes.forward, backward=task.passes.backward)
        return replace(found, cost=cost, prediction=())

    def _with_the_rest(self, found: Attribution) -> Attribution:
        """The shares with zeros appended for the tokens that the model did not need to read."""
        read = sum(len(f.positions) for f in found.features if _of_answer(f))
        unread = self._length + len(self.ids) - read
        features = (*found.features, *self.features[len(self.features) - unread :])
        if len(features) == len(self.features):
            features = self.features

        return _changed(found, lambda scores: F.pad(scores, (0, unread)), features=features)

    def _groups(self, indices: Sequence[int], method: Method) -> list[list[int]]:
        """Tokens that are explained together.

        A target's pass only needs the tokens before it, so nearby tokens share a forward pass that ends with the last
        of them. Perturbation methods read all targets of a changed input at once.
        """
        if not _goes_back(method) and method.about.family != "forward":
            return [list(indices)]
        groups: list[list[int]] = []
        for i in indices:
            at_once = max(1, min(TARGETS_AT_ONCE, CELLS_AT_ONCE // (self._length + i)))
            # All rows between the first and the last are computed, so distant tokens are explained separately.
            if groups and len(groups[-1]) < at_once and i - groups[-1][0] < 2 * at_once:
                groups[-1].append(i)
            else:
                groups.append([i])
        return groups

    def _indices(self, of: str | Sequence[int] | None, part: str | None) -> list[int]:
        said = self.features[-len(self.ids) :]
        if of is not None and part is not None:
            raise ApportionError("give of= or part=, not both.")
        if isinstance(of, str):
            return find_text(said, of, where="the answer")
        if part is not None:
            found = [i for i, feature in enumerate(said) if feature.part == part]
            if not found:
                raise ApportionError(f"the answer has no part {part!r}; its parts are {', '.join(self.parts)}.")
            return found
        found = sorted({int(i) for i in of}) if of is not None else list(range(len(said)))
        if not found or found[0] < 0 or found[-1] >= len(said):
            raise ApportionError(f"of={of!r} names no token of the answer, whose indices are 0 to {len(said) - 1}.")
        return found

    def _read_before(self, index: int) -> Prompt:
        """The prompt and the answer up to this token, without it."""
        read = self._head.continued(self.prompt, self.ids[:index])
        return replace(read, features=self.features[: len(read.features)])

    @property
    def _head(self) -> Head:
        return self.engine.head

    @property
    def _length(self) -> int:
        """How many tokens precede the answer in its sequence."""
        return self.prompt.parts.get("decoder_input_ids", self.prompt.length)


def generation_of(engine: Engine, prompt: Prompt, ids: Sequence[int]) -> Generation:
    """A generation from an answer's token ids and the prompt as `Head.started` returns it."""
    if not ids:
        raise ApportionError("the answer is empty, so there is nothing to explain; give a text or token ids.")
    prompt = replace(prompt, padding=(0, 0))
    features = _features(engine, prompt, ids)
    indices: dict[str, list[int]] = {}
    for i, feature in zip(ids, features[-len(ids) :], strict=True):
        indices.setdefault(feature.part, []).append(i)
    tokenizer = tokenizer_of(engine.processor)
    return Generation(
        prompt=prompt,
        ids=tuple(ids),
        features=features,
        text=_decoded(ids, tokenizer),
        parts={part: _decoded(members, tokenizer) for part, members in indices.items()},
        model=engine.name,
        engine=engine,
    )


def _changed(found: Attribution, change: Callable[[Tensor], Tensor], **others: Any) -> Attribution:
    """The attribution with a change applied to its scores, position scores and standard errors, and other fields."""
    positions, errors = found.position_scores, found.standard_errors
    return replace(
        found,
        scores=change(found.scores),
        position_scores=None if positions is None else change(positions),
        standard_errors=None if errors is None else change(errors),
        **others,
    )


def _features(engine: Engine, prompt: Prompt, ids: Sequence[int]) -> tuple[Feature, ...]:
    """The tokens of the prompt and the answer; those of the answer with their part, thinking or answer."""
    features = engine.head.continued(prompt, ids).features
    before, said = features[: -len(ids)], features[-len(ids) :]
    labels = [feature.label for feature in said]
    parts = parts_of_answer(labels, before="".join(feature.label for feature in before[-_TAIL:]))
    turns = [feature.turn for feature in before if feature.turn is not None]
    place: dict[str, Any] = {"role": "assistant", "turn": max(turns)} if turns else {}
    return before + tuple(replace(f, part=part, **place) for f, part in zip(said, parts, strict=True))


def _decoded(ids: Sequence[int], tokenizer: Any) -> str:
    if tokenizer is None:
        return " ".join(token_label(i, None) for i in ids)
    return str(tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def _goes_back(method: Method) -> bool:
    """Whether a method runs a backward pass for each target."""
    return isinstance(method, Propagation) or method.about.family == "backward"


def _begins(feature: Feature) -> int:
    """Where a feature begins in the answer's sequence; a source text and images come before all of it."""
    return min(feature.positions) if _of_answer(feature) else -1


def _of_answer(feature: Feature) -> bool:
    """Whether a feature is in the same sequence as the answer."""
    return feature.of_text and feature.part != "source"


def _check_ahead(found: Attribution, later: Tensor) -> None:
    ahead = found.scores.masked_fill(~later, 0).abs().amax()
    if ahead > _ROUNDING * found.scores.abs().amax():
        raise ApportionError(
            f"{found.model} gives shares to tokens after the one explained, so it does not write from left to right; "
            "explain its outputs with explain(…, position=…)."
        )


def _joined(found: Sequence[Attribution]) -> Attribution:
    """Several attributions over the same features, joined into one."""
    if len(found) == 1:
        return found[0]

    def stacked(parts: Sequence[Tensor | None]) -> Tensor | None:
        given = [part for part in parts if part is not None]
        return torch.cat(given) if len(given) == len(parts) else None

    ledgers = [one.ledger for one in found if one.ledger is not None]
    costs = [one.cost for one in found if one.cost is not None]
    return replace(
        found[0],
        scores=torch.cat([one.scores for one in found]),
        position_scores=stacked([one.position_scores for one in found]),
        standard_errors=stacked([one.standard_errors for one in found]),
        explained=tuple(explained for one in found for explained in one.explained),
        ledger=Ledger.joined(ledgers) if len(ledgers) == len(found) else None,
        cost=Cost(
            seconds=sum(cost.seconds for cost in costs),
            forward=sum(cost.forward for cost in costs),
            backward=sum(cost.backward for cost in costs),
        ),
    )
