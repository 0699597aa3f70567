"""A generation: what a model wrote after a prompt, and every token of it divided among all tokens before it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
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
from apportion.results import Attribution, Cost, Generated, Interactions
from apportion.targets import Span, Target, Unit
from apportion.task import AttributionTask

#: Targets times tokens that go back together: enough to keep a processor busy, and at most so many targets.
CELLS_AT_ONCE = 1024
TARGETS_AT_ONCE = 16
# The end of the prompt in which a chat template may open the thinking.
_TAIL = 16
# What a share of a later token may be by rounding, relative to the largest.
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
    """An answer to a prompt whose tokens can be divided among all tokens before them; see `Generated`.

    Args:
        engine: Of the model, such as its explainer.
    """

    engine: Engine | Any = field(default=_NoEngine(), metadata={"saved": False})

    @classmethod
    def load(cls, path: str | os.PathLike[str], explainer: Any = None) -> Generation:
        """Read what `save` wrote.

        Args:
            path: Of the file.
            explainer: Of the model that wrote the answer; without it the generation can be seen but not attributed.

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
            unit: `"logit"`, as `explain` divides: rows are of like size, and a sure token shows what it rests on.
                `"log-probability"`: rows add up to the log-probability of a text, and a token that was certain
                anyway gets next to nothing. Or `"probability"`.
            of: Only these tokens of the answer: a text that occurs in it once, or indices of its tokens.
            part: Only this part of the answer.
            progress: Whether to show a progress bar.

        Returns:
            Targets × features; shares of a token itself and of later ones are exactly 0.

        Raises:
            ApportionError: The method cannot serve the model, or the model looks ahead, or a text does not occur once.
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

        A method that is linear in its target gives what the rows of `attribute`, in the same unit, sum to.

        Args:
            of: Tokens that stand together: a text that occurs in the answer once, or indices of its tokens.
            method: As in `Explainer.explain`.
            unit: What is summed: logits, as `attribute` divides, or log-probabilities, which add up to that of the
                span.
            progress: Whether a method that takes long shows a progress bar.

        Raises:
            ApportionError: The tokens do not stand together, or the text does not occur once.
        """
        indices = self._together(of)
        first, last = indices[0], indices[-1]
        span = Span(self.ids[first : last + 1], unit)
        start, chosen = time.perf_counter(), self.engine.method(method, self.prompt)
        task = self._task(self._read_before(first), [span], chosen, None, progress=progress)
        found = self._answered(task, chosen, start)
        label = "".join(self.tokens[first : last + 1])
        explained = replace(found.explained[0], label=f'"{label}"')
        return replace(self._with_the_rest(found), explained=(explained,))

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
        """How each part of the prompt changes the attribution of each other part to the answer: the metagame.

        The answer is one target, the sum over its tokens, so that each coalition takes one backward pass, however long
        the answer is.

        Args:
            span: Only these tokens of the answer, which stand together: a text that occurs in it once, or indices. What
                the model wrote before them is part of the game too.
            method: As in `Explainer.interactions`; so are `of` and `game`.
            of: See there.
            unit: What is summed.
            game: See there.
            progress: Whether to show a progress bar.

        Raises:
            ApportionError: The tokens do not stand together, or the game does not fit.
        """
        chosen = self.engine.method(method, self.prompt)
        indices = range(len(self.ids)) if span is None else self._together(span)
        target = Span(self.ids[indices[0] : indices[-1] + 1], unit)
        task = self._task(self._read_before(indices[0]), [target], chosen, None, progress=progress)
        found = play(task, chosen, Game() if game is None else game, of=of, progress=progress)
        label = "".join(self.tokens[i] for i in indices)
        return replace(found, model=self.model, explained=(replace(found.target, label=f'"{label}"'),))

    def _together(self, of: str | Sequence[int]) -> list[int]:
        """Tokens of the answer that stand together, by their text or indices."""
        indices = self._indices(of, None)
        if len(indices) != indices[-1] - indices[0] + 1:
            raise ApportionError("a span's tokens must stand together; explain tokens apart with attribute(of=…).")
        return indices

    def _rows(self, members: Sequence[int], method: Method, unit: Unit, *, progress: bool) -> Attribution:
        """Rows of some of the answer's tokens, from one forward pass over what stands before the last of them."""
        start = time.perf_counter()
        prompt = self._read_before(members[-1])
        rows = [self._length + i - 1 for i in members]
        targets = [Target(self.ids[i], unit=unit, position=row) for i, row in zip(members, rows, strict=True)]
        task = self._task(prompt, targets, method, [[(row,) for row in rows]], progress=progress)
        found = self._answered(task, method, start)
        if len(members) == 1:
            found = replace(
                found,
                scores=found.scores[None],
                position_scores=None if found.position_scores is None else found.position_scores[None],
                standard_errors=None if found.standard_errors is None else found.standard_errors[None],
                ledger=None if found.ledger is None else found.ledger.batched,
            )
        return self._looking_back(self._with_the_rest(found), members, exact=_goes_back(method))

    def _looking_back(self, found: Attribution, members: Sequence[int], *, exact: bool) -> Attribution:
        """Rows that know which feature they explain, with shares of exactly 0 for it and for later ones."""
        places = [self._length + i for i in members]
        own = [next(k for k, feature in enumerate(found.features) if _holds(feature, place)) for place in places]
        later = torch.tensor([[_begins(feature) >= place for feature in found.features] for place in places])
        if exact:
            _check_ahead(found, later)

        def earlier(scores: Tensor | None) -> Tensor | None:
            return None if scores is None else scores.masked_fill(later, 0)

        return replace(
            found,
            scores=found.scores.masked_fill(later, 0),
            position_scores=earlier(found.position_scores),
            standard_errors=earlier(found.standard_errors),
            explained=tuple(replace(e, feature=k) for e, k in zip(found.explained, own, strict=True)),
        )

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
        """The shares with those of the tokens that the model did not have to read, which are 0."""
        read = sum(len(f.positions) for f in found.features if _of_answer(f))
        unread = self._length + len(self.ids) - read
        features = (*found.features, *self.features[len(self.features) - unread :])
        if len(features) == len(self.features):
            features = self.features

        def wide(scores: Tensor | None) -> Tensor | None:
            return None if scores is None else F.pad(scores, (0, unread))

        return replace(
            found,
            scores=F.pad(found.scores, (0, unread)),
            position_scores=wide(found.position_scores),
            standard_errors=wide(found.standard_errors),
            features=features,
        )

    def _groups(self, indices: Sequence[int], method: Method) -> list[list[int]]:
        """Tokens that are explained together.

        A pass for each target is as short as what stands before it, so tokens of a like place share a forward pass
        that ends with the last of them. What perturbs reads all targets of a changed input at once.
        """
        if not _goes_back(method) and method.about.family != "forward":
            return [list(indices)]
        groups: list[list[int]] = []
        for i in indices:
            at_once = max(1, min(TARGETS_AT_ONCE, CELLS_AT_ONCE // (self._length + i)))
            # The rows between the first and the last are computed, so tokens far apart are explained apart.
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
        count = len(read.features)
        return replace(read, features=self.features[:count])

    @property
    def _head(self) -> Head:
        return self.engine.head

    @property
    def _length(self) -> int:
        """How many tokens of the answer's own sequence stand before it."""
        return self.prompt.parts.get("decoder_input_ids", self.prompt.length)


def generation_of(engine: Engine, prompt: Prompt, ids: Sequence[int]) -> Generation:
    """The generation of an answer to a prompt that the head has started."""
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


def _features(engine: Engine, prompt: Prompt, ids: Sequence[int]) -> tuple[Feature, ...]:
    """The tokens of the prompt and the answer; those of the answer know their part."""
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
    """Whether a method runs the model backwards for each target."""
    return isinstance(method, Propagation) or method.about.family == "backward"


def _holds(feature: Feature, position: int) -> bool:
    return _of_answer(feature) and position in feature.positions


def _begins(feature: Feature) -> int:
    """Where a feature begins in the answer's own sequence; a source and images stand before all of it."""
    return min(feature.positions) if _of_answer(feature) else -1


def _of_answer(feature: Feature) -> bool:
    """Whether a feature stands in the same sequence as the answer."""
    return feature.of_text and feature.part != "source"


def _check_ahead(found: Attribution, later: Tensor) -> None:
    ahead = found.scores.masked_fill(~later, 0).abs().amax()
    if ahead > _ROUNDING * found.scores.abs().amax():
        raise ApportionError(
            f"{found.model} gives shares to tokens after the one explained, so it does not write from left to right; "
            "explain its outputs with explain(…, position=…)."
        )


def _joined(found: Sequence[Attribution]) -> Attribution:
    """Attributions over the same features as one."""
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
