"""The engine: prompts become a task, a method divides its targets, and a result comes out."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from apportion.core import ApportionError
from apportion.core import progress as track_progress
from apportion.engine._padding import with_padding
from apportion.methods import AnyMethod, Method, as_method, default_method
from apportion.models import DualEncoder, Head, Pooling, kind_of_model, pair_encoder
from apportion.models.inputs import AnyRegions, Prompt, parsed_prompts, recognised, tokenizer_of
from apportion.relevance import token_embedding, usable_modules
from apportion.results import Attribution, Cost, Explained
from apportion.targets import AnyTarget, Contrast, Similarity, TargetsLike, Unit, as_targets
from apportion.task import AttributionTask


class Engine:
    """A model with its processor, and the steps from a prompt to its attributions.

    `Explainer` is an engine with calls for users. Evaluation, generation and your own measures take an engine, and so
    an explainer too. The arguments are those of `Explainer`.

    Raises:
        ApportionError: The model is compiled or on the meta device, or the tokenizer has more tokens than the model.
    """

    def __init__(self, model: nn.Module, processor: Any = None, *, pooling: Pooling | None = None) -> None:
        usable_modules(model)
        self.model = model
        self.processor = processor
        #: The whole model; a pair of two texts or two images runs another head, see `head_of`.
        self.head: Head = Head(model, kind_of_model(model), processor)
        self._pooling: Pooling | None = pooling
        self._pair_heads: dict[str, Head] = {}
        self._check_vocabulary()

    @property
    def name(self) -> str:
        """The model's name, for results."""
        config = getattr(self.model, "config", None)
        return str(getattr(config, "_name_or_path", "") or type(self.model).__name__)

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the model has embeddings for; None if unknown."""
        weight = getattr(token_embedding(self.model), "weight", None)
        return weight.shape[0] if isinstance(weight, Tensor) and weight.ndim == 2 else None

    def prompts(self, prompt: Any, regions: AnyRegions = "patches") -> list[Prompt]:
        """Parse the user's input into prompts on the model's device.

        Raises:
            ApportionError: A prompt is empty, of an unknown form, or does not fit the model.
        """
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        prompts = parsed_prompts(prompt, self.model, self.processor, device=device, regions=regions)
        for one in prompts:
            self._check_ids(one)
        return prompts

    def prompt(self, prompt: Any, regions: AnyRegions = "patches", *, what: str = "this call") -> Prompt:
        """Parse the user's input into exactly one prompt.

        Raises:
            ApportionError: There are several, or the prompt does not fit.
        """
        prompts = self.prompts(prompt, regions)
        if len(prompts) != 1:
            raise ApportionError(
                f"{what} takes one prompt, and {len(prompts)} were given; explain_many takes several, or call it once "
                "for each."
            )
        return prompts[0]

    def targets(
        self, prompt: Any, target: TargetsLike, contrast: Contrast, unit: Unit, position: int | str | None
    ) -> list[AnyTarget]:
        """The targets for the arguments of `explain`; by default of a pair its similarity."""
        plain = target is None and contrast is None and unit == "logit" and position is None
        if plain and (self.head.kind.compares or recognised(prompt, self.model).is_pair):
            return [Similarity()]
        return as_targets(target, contrast, unit, position)

    def method(self, method: AnyMethod | None, prompt: Prompt) -> Method:
        """The given method, or the default for this model and prompt."""
        if method is None:
            return default_method(self.head_of(prompt).model, pixels=prompt.has_pixels)
        return as_method(method)

    def head_of(self, prompt: Prompt) -> Head:
        """The head for a prompt: the model, or for a pair of two texts or two images the model run on both sides."""
        sides = prompt.sides
        if sides is None:
            return self.head
        if sides not in self._pair_heads:
            encoder = pair_encoder(self.model, self.processor, self._pooling, sides)
            self._pair_heads[sides] = Head(encoder, DualEncoder(), self.processor)
        return self._pair_heads[sides]

    def task(
        self,
        prompts: Sequence[Prompt],
        targets: Sequence[AnyTarget],
        methods: Collection[Method] = (),
        *,
        head: Head | None = None,
        rows: Sequence[Sequence[tuple[int, ...]]] | None = None,
        detail: bool = False,
        progress: bool = False,
    ) -> AttributionTask:
        """A task about prompts that run together, whose forward pass several methods share.

        Args:
            prompts: As `prompts` returns them.
            targets: As `targets` returns them.
            methods: The methods that will run, since some need a more detailed trace.
            head: The head to run; by default `head_of` the first prompt.
            rows: For each prompt and target the rows of the output to read, when the prompts are prepared already.
            detail: Whether to trace all modules, even if no method needs it.
            progress: Whether a slow method may show a progress bar.

        Raises:
            ApportionError: A prompt is longer than the model's context.
        """
        task = AttributionTask(
            self.head_of(prompts[0]) if head is None else head,
            prompts,
            targets,
            detail=detail or any(method.detail for method in methods),
            rows=rows,
            progress=progress,
        )
        task.summands = any(method.summands for method in methods)
        self._check_length(task)
        return task

    def prepare(
        self,
        prompt: Any,
        targets: Sequence[AnyTarget],
        methods: Collection[Method] = (),
        *,
        regions: AnyRegions = "patches",
    ) -> AttributionTask:
        """A task about one prompt, whose forward pass several methods share; `attribute` divides its targets.

        Args:
            prompt: As in `Explainer.explain`; so are `regions`.
            targets: The targets to divide.
            methods: The methods that will run, since some need a more detailed trace.

        Raises:
            ApportionError: The request does not fit.
        """
        return self.task([self.prompt(prompt, regions, what="a task")], targets, methods)

    def attribute(self, task: AttributionTask, method: Method) -> list[Attribution]:
        """Run one method on a task: an attribution for each of its prompts."""
        read, predictions = task.target_values, task.predictions
        before, start = replace(task.passes), time.perf_counter()
        shares = method.attribute(task)
        examples = len(task.prompts)
        cost = Cost(
            seconds=(time.perf_counter() - start) / examples,
            forward=(task.passes.forward - before.forward) / examples,
            backward=(task.passes.backward - before.backward) / examples,
        )
        several = len(task.targets) > 1

        def of_example(b: int, parts: Sequence[Tensor | None] | None) -> Tensor | None:
            part = None if parts is None else parts[b]
            return part if several or part is None else part[0]

        found = []
        for b, prompt in enumerate(task.prompts):
            functions = zip(read.functions[b], read.values[b], strict=True)
            scores, ledger = of_example(b, shares.scores), shares.ledger
            assert scores is not None
            attribution = Attribution(
                scores=scores,
                position_scores=of_example(b, shares.position_scores),
                standard_errors=of_example(b, shares.standard_errors),
                features=prompt.features if shares.features is None else shares.features[b],
                explained=tuple(Explained(label=r.label, unit=r.unit, value=value) for r, value in functions),
                method=method.name,
                options={**method.options, **shares.options, **getattr(task.head.model, "options", {})},
                ledger=ledger if several or ledger is None else ledger[0],
                prediction=predictions[b],
                model=self.name,
                conserves=method.about.conserves,
                cost=cost,
                pictures=tuple(picture for continuous in prompt.continuous_inputs for picture in continuous.pictures),
            )
            found.append(with_padding(attribution, prompt, self.processor))
        return found

    def attributions(
        self,
        prompts: Sequence[Prompt],
        methods: Mapping[str, Method],
        targets: Sequence[AnyTarget],
        *,
        progress: bool = False,
        refused: dict[str, ApportionError] | None = None,
    ) -> tuple[list[dict[str, Attribution]], Cost]:
        """Attributions by method of prompts that run together, and the cost of the forward pass that methods share.

        Args:
            prompts: As `prompts` returns them.
            methods: By their names in the result.
            targets: The targets to divide.
            progress: Whether progress bars may be shown.
            refused: Collects the errors of methods that fail; without it the first failure raises.

        Raises:
            ApportionError: The request does not fit.
        """
        start = time.perf_counter()
        several = len(methods) > 1
        task = self.task(prompts, targets, methods.values(), progress=progress and not several)
        _ = task.target_values, task.predictions
        shared = Cost(seconds=time.perf_counter() - start, forward=task.passes.forward, backward=0.0)
        found: list[dict[str, Attribution]] = [{} for _ in prompts]
        for k, label in enumerate(track_progress(methods, "comparing", show=progress and several)):
            task.last_method = k == len(methods) - 1
            try:
                attributions = self.attribute(task, methods[label])
            except ApportionError as error:
                if refused is None:
                    raise
                refused[label] = error
                continue
            for of_prompt, attribution in zip(found, attributions, strict=True):
                of_prompt[label] = attribution
        return found, shared

    def _check_ids(self, prompt: Prompt) -> None:
        rows = self.vocabulary
        for name in prompt.parts:
            ids = prompt.inputs[name]
            if rows is None or ids.is_floating_point() or ids.numel() == 0:
                continue
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= rows:
                raise ApportionError(
                    f"token id {low if low < 0 else high} is out of the vocabulary: "
                    f"the model knows 0 to {rows - 1}. Do the ids come from another model's tokenizer?"
                )

    def _check_vocabulary(self) -> None:
        tokenizer, rows = tokenizer_of(self.processor), self.vocabulary
        if tokenizer is None or rows is None:
            return
        if not callable(getattr(tokenizer, "convert_ids_to_tokens", None)):
            raise ApportionError(f"the processor is a {type(self.processor).__name__}; give the model's tokenizer.")
        if len(tokenizer) > rows:
            raise ApportionError(
                f"the tokenizer has {len(tokenizer)} tokens and the model {rows}, so it belongs to another model; "
                "load both from the same place."
            )

    def _check_length(self, task: AttributionTask) -> None:
        config = getattr(self.model, "config", None)
        limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        if not isinstance(limit, int) or limit < 1:
            return
        for prompt in task.prompts:
            for name, length in prompt.parts.items():
                if length > limit:
                    what = "the decoder's tokens are" if name.startswith("decoder") else "the prompt is"
                    raise ApportionError(f"{what} {length} tokens long; the model's context is {limit}. Shorten it.")
