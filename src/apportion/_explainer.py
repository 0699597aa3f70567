"""The explainer, the front door: a model and its processor in, attributions out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from rich.progress import track
from torch import Tensor, nn

from apportion._attribution import Attribution, Cost, Explained
from apportion._errors import ApportionError
from apportion._features import Feature
from apportion._question import Question, batches
from apportion._target import Unit, as_targets
from apportion.methods import AnyMethod, Method, Propagation, as_method
from apportion.models._kind import kind_of_model
from apportion.models._outputs import Head
from apportion.models._prompt import Prompt, is_batch, prompts_from, tokenizer_of
from apportion.relevance import Audit
from apportion.relevance._recording import token_embedding, usable_modules


class Explainer:
    """Explains the predictions of one model.

    The model is used as it is and given back as it was after every call.

    Args:
        model: A transformers model: causal or masked language model, classifier of texts or tokens, or
            encoder-decoder; any other torch module when the target is a function of its output.
        processor: Its tokenizer or processor; without one, prompts are token ids.

    Raises:
        ApportionError: The model is compiled or on the meta device, or the tokenizer has more tokens than the model.
    """

    def __init__(self, model: nn.Module, processor: Any = None) -> None:
        usable_modules(model)
        self.model, self.processor = model, processor
        self._head = Head(model, kind_of_model(model), processor)
        self._check_vocabulary()

    @property
    def name(self) -> str:
        """The model's name, for results."""
        config = getattr(self.model, "config", None)
        return str(getattr(config, "_name_or_path", "") or type(self.model).__name__)

    def explain(
        self,
        prompt: Any,
        *,
        target: Any = None,
        contrast: str | int | Sequence[str | int] | None = None,
        method: AnyMethod = "attnlrp",
        unit: Unit = "logit",
        position: int | str | None = None,
        features: Literal["tokens", "words"] | Mapping[str, Any] | Sequence[str] = "tokens",
        positions: Literal["apart", "added"] = "apart",
        batch_size: int = 1,
        progress: bool = True,
    ) -> Any:
        """Divide the model's prediction among the parts of a prompt.

        Args:
            prompt: A text, chat messages, token ids, a dict of the model's inputs, or a list of texts (or chats, …).
                A list or a padded batch gives a list of attributions.
            target: What is divided: a token or class by name or id, a `Target`, a `Span`, a function from the model's
                output to one number, or a list of targets that go back in one batched pass. By default the most
                likely output.
            contrast: One or more outputs whose mean is subtracted from the target.
            method: A name such as `"attnlrp"` or `"cp-lrp"`, a method with options, or a composite.
            unit: `"logit"`, `"log-probability"` or `"probability"`.
            position: For models with an output per token: where the target is read.
            features: `"tokens"`, `"words"`, or spans as `Attribution.spans` takes them.
            positions: Whether shares of learned position embeddings stand `"apart"` or are `"added"` to their tokens.
            batch_size: How many prompts run together. In a batch no ledger is kept, since the parts of the model that
                all examples share cannot tell them apart.
            progress: Whether a list of prompts shows a progress bar.

        Raises:
            ApportionError: Something in the request does not fit; the message says what and what to do.
        """
        chosen = as_method(method)
        _check_choice("features", features, ("tokens", "words"))
        _check_choice("positions", positions, ("apart", "added"))
        found = self._attributions(
            prompt, [chosen], as_targets(target, contrast, unit, position), batch_size=batch_size, progress=progress
        )
        answers = [by_method[chosen.name] for by_method in found]
        if positions == "added":
            answers = [answer.with_positions() for answer in answers]
        shown = [_as_features(answer, features) for answer in answers]
        return shown if _gives_list(prompt) else shown[0]

    def compare(
        self,
        prompt: Any,
        *,
        methods: Sequence[AnyMethod] = ("attnlrp", "cp-lrp", "input-x-gradient"),
        target: Any = None,
        contrast: str | int | Sequence[str | int] | None = None,
        unit: Unit = "logit",
        position: int | str | None = None,
    ) -> dict[str, Attribution]:
        """Explain one prompt by several methods that share one forward pass.

        Returns:
            The attributions by the methods' names.
        """
        chosen = [as_method(method) for method in methods]
        names = [method.name for method in chosen]
        if len(set(names)) < len(names):
            raise ApportionError(
                f"two methods have the same name in {', '.join(names)}; give composites names of their own."
            )
        found = self._attributions(
            prompt, chosen, as_targets(target, contrast, unit, position), batch_size=1, progress=False
        )
        if len(found) != 1:
            raise ApportionError(f"compare takes one prompt at a time; {len(found)} were given.")
        return found[0]

    def audit(
        self,
        prompt: Any,
        *,
        target: Any = None,
        contrast: str | int | Sequence[str | int] | None = None,
        method: AnyMethod = "attnlrp",
        position: int | str | None = None,
    ) -> Audit:
        """What every operation of the model is taken for under a method, on the way from the target to the prompt.

        `audit(...).check()` raises when a rule that the method promises was never applied.
        """
        chosen = as_method(method)
        if not isinstance(chosen, Propagation):
            raise ApportionError(
                f"the method {chosen.name!r} follows no rules of operations, so there is nothing to audit."
            )
        prompts = self._prompts(prompt)
        question = Question(self._head, prompts[:1], as_targets(target, contrast, "logit", position), detail=True)
        self._check_length(question)
        return question.trace.audit(question.read.outputs, chosen.composite)

    def _attributions(
        self, prompt: Any, methods: Sequence[Method], targets: Sequence[Any], *, batch_size: int, progress: bool
    ) -> list[dict[str, Attribution]]:
        """For each prompt its attributions by method."""
        if batch_size < 1:
            raise ApportionError(f"batch_size={batch_size} is not possible; give 1 or more.")
        prompts = self._prompts(prompt)
        found: list[dict[str, Attribution]] = [{} for _ in prompts]
        groups: Iterable[list[int]] = batches(self._head, prompts, batch_size)
        if progress and len(prompts) > 1:
            groups = track(groups, description="explaining", transient=True)
        for members in groups:
            question = Question(
                self._head,
                [prompts[i] for i in members],
                targets,
                detail=any(m.detail for m in methods),
                progress=progress and len(prompts) == 1,
            )
            self._check_length(question)
            for method in methods:
                question.last_method = method is methods[-1]
                for i, attribution in zip(members, self._answer(question, method), strict=True):
                    found[i][method.name] = attribution
        return found

    def _answer(self, question: Question, method: Method) -> list[Attribution]:
        read, predictions = question.read, question.predictions
        before, start = replace(question.passes), time.perf_counter()
        shares = method.attribute(question)
        examples = len(question.prompts)
        cost = Cost(
            seconds=(time.perf_counter() - start) / examples,
            forward=(question.passes.forward - before.forward) / examples,
            backward=(question.passes.backward - before.backward) / examples,
        )
        several = len(question.targets) > 1

        def of_example(b: int, parts: Sequence[Tensor | None] | None) -> Tensor | None:
            part = None if parts is None else parts[b]
            return part if several or part is None else part[0]

        answers = []
        for b, prompt in enumerate(question.prompts):
            readings = zip(read.readings[b], read.values[b], strict=True)
            scores, ledger = of_example(b, shares.scores), shares.ledger
            assert scores is not None
            attribution = Attribution(
                scores=scores,
                position_scores=of_example(b, shares.position_scores),
                standard_errors=of_example(b, shares.standard_errors),
                features=prompt.features if shares.features is None else shares.features[b],
                explained=tuple(Explained(label=r.label, unit=r.unit, value=value) for r, value in readings),
                method=method.name,
                options=method.options,
                ledger=ledger if several or ledger is None else ledger[0],
                prediction=predictions[b],
                model=self.name,
                conserves=method.about.conserves,
                cost=cost,
            )
            answers.append(_with_padding(attribution, prompt, self.processor))
        return answers

    def _prompts(self, prompt: Any) -> list[Prompt]:
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        prompts = prompts_from(prompt, self.processor, device=device)
        rows = self._rows()
        for one in prompts:
            for name in one.parts:
                ids = one.inputs[name]
                if rows is None or ids.is_floating_point() or ids.numel() == 0:
                    continue
                low, high = int(ids.min()), int(ids.max())
                if low < 0 or high >= rows:
                    raise ApportionError(
                        f"token id {low if low < 0 else high} is out of the vocabulary: "
                        f"the model knows 0 to {rows - 1}. Do the ids come from another model's tokenizer?"
                    )
        return prompts

    def _rows(self) -> int | None:
        """How many tokens the model has embeddings for, where it tells."""
        weight = getattr(token_embedding(self.model), "weight", None)
        return weight.shape[0] if isinstance(weight, Tensor) and weight.ndim == 2 else None

    def _check_vocabulary(self) -> None:
        tokenizer, rows = tokenizer_of(self.processor), self._rows()
        if tokenizer is None or rows is None:
            return
        if not callable(getattr(tokenizer, "convert_ids_to_tokens", None)):
            raise ApportionError(f"the processor is a {type(self.processor).__name__}; give the model's tokenizer.")
        if len(tokenizer) > rows:
            raise ApportionError(
                f"the tokenizer has {len(tokenizer)} tokens and the model {rows}, so it belongs to another model; "
                "load both from the same place."
            )

    def _check_length(self, question: Question) -> None:
        config = getattr(self.model, "config", None)
        limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        if not isinstance(limit, int) or limit < 1:
            return
        for prompt in question.prompts:
            for name, length in prompt.parts.items():
                if length > limit:
                    what = "the decoder's tokens are" if name.startswith("decoder") else "the prompt is"
                    raise ApportionError(f"{what} {length} tokens long; the model's context is {limit}. Shorten it.")


def _gives_list(prompt: Any) -> bool:
    """Whether the user asked about several prompts."""
    if is_batch(prompt):
        return True
    ids = prompt if isinstance(prompt, Tensor) else None
    if isinstance(prompt, Mapping) or (hasattr(prompt, "data") and not isinstance(prompt, Tensor)):
        given = dict(prompt)
        ids = given.get("input_ids", given.get("inputs_embeds"))
    return ids is not None and ids.ndim >= 2 and ids.shape[0] > 1


def _check_choice(name: str, given: Any, choices: tuple[str, ...]) -> None:
    if isinstance(given, str) and given not in choices:
        more = ", or spans of the prompt" if name == "features" else ""
        raise ApportionError(f"{name}={given!r} is not known; use {' or '.join(map(repr, choices))}{more}.")


def _as_features(attribution: Attribution, features: Any) -> Attribution:
    if isinstance(features, str):
        return attribution.words() if features == "words" else attribution
    return attribution.spans(features)


def _with_padding(attribution: Attribution, prompt: Prompt, processor: Any) -> Attribution:
    """The attribution with the padding that the user gave back in its place, with shares of exactly 0."""
    left, right = prompt.padding
    if not left and not right:
        return attribution
    count = prompt.length
    label = getattr(tokenizer_of(processor), "pad_token", None) or "[PAD]"
    part = attribution.features[0].part

    def pads(first: int, number: int) -> tuple[Feature, ...]:
        return tuple(Feature(label=label, positions=(first + k,), part=part, template=True) for k in range(number))

    moved = tuple(replace(f, positions=tuple(p + left for p in f.positions)) for f in attribution.features[:count])
    features = (*pads(0, left), *moved, *pads(left + count, right), *attribution.features[count:])

    def padded(scores: Tensor | None) -> Tensor | None:
        if scores is None:
            return None
        zeros: Callable[[int], Tensor] = lambda n: scores.new_zeros(*scores.shape[:-1], n)  # noqa: E731
        return torch.cat([zeros(left), scores[..., :count], zeros(right), scores[..., count:]], -1)

    scores = padded(attribution.scores)
    assert scores is not None
    return replace(
        attribution,
        features=features,
        scores=scores,
        position_scores=padded(attribution.position_scores),
        standard_errors=padded(attribution.standard_errors),
    )
