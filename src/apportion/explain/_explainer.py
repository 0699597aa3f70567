"""The explainer: it takes a model and its processor, and returns attributions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from apportion.core import AnyFeatures, ApportionError, Pair
from apportion.engine import (
    COMPARED,
    MEASURED,
    AnyMethods,
    Engine,
    Positions,
    Request,
    check_positions,
    compared,
    explained_in_turn,
    named_methods,
)
from apportion.evaluation import AnyMeasure, Evaluation, Recommendation, Run, as_data, as_measure, evaluate, recommend
from apportion.explain._generation import Generation, generation_of
from apportion.games import AnyMasker
from apportion.metagame import METHOD_OF, AnyOf, Game, Index, check_index, pair_of, play, play_words, related_index
from apportion.methods import AnyMethod, Propagation, as_method, method_names, required_options
from apportion.methods.backward import pairwise
from apportion.models import generated_ids
from apportion.models.inputs import AnyRegions, Prompt, recognised, tokenizer_of
from apportion.relevance import Audit
from apportion.results import Attribution, Attributions, Comparison, Interactions, Pairwise
from apportion.targets import Contrast, Similarity, Span, TargetsLike, Unit

# The number of tokens on which `methods` tries each method.
PROBE = 4


class Explainer(Engine):
    """Explains the predictions of one model.

    No call changes the model.

    Args:
        model: A transformers model: causal or masked language model, classifier of texts, tokens or images,
            encoder-decoder, dual encoder, vision-language or speech model; a backbone or any other torch module if the
            target reads a number from its output.
        processor: Its tokenizer, image processor or processor; without one, prompts are the model's own inputs.
        pooling: For pairs of two texts or two images: how each is pooled into one encoding: `"mean"`, `"cls"`,
            `"last"` or `"pooled"`. By default as in the model's folder, else `"mean"` for text, `"pooled"` for images.

    Raises:
        ApportionError: The model is compiled or on the meta device, or the tokenizer has more tokens than the model.
    """

    def explain(
        self,
        prompt: Any,
        target: TargetsLike = None,
        *,
        contrast: Contrast = None,
        method: AnyMethod | None = None,
        unit: Unit = "logit",
        position: int | str | None = None,
        features: AnyFeatures = "tokens",
        regions: AnyRegions = "patches",
        positions: Positions = "apart",
        progress: bool = True,
    ) -> Attribution:
        """Divide the model's prediction among the parts of a prompt.

        Args:
            prompt: One text, chat messages, token ids, an image (PIL, array, tensor or a file's path), a `Pair` of
                image and text, messages with images, `{"images": …, "text": …}`, or a dict of the model's inputs.
            target: The output to divide: a token or class by name or id, a `Target`, a `Span`, a function from the
                model's output to one number, or a list of targets, propagated together in one batch. By default the
                most likely output.
            contrast: One or more outputs whose mean is subtracted from the target.
            method: A name such as `"attnlrp"` or `"cp-lrp"`, a method with options, or a composite. By default AttnLRP,
                with ResLRP's rule for residual sums where the model processes images.
            unit: `"logit"`, `"log-probability"` or `"probability"`.
            position: For models with an output per token: where the target is read.
            features: The parts that get shares: `"tokens"`, `"words"`, `"sentences"`, `"paragraphs"`, or spans as
                `Attribution.spans` takes them.
            regions: How images are divided: `"patches"`, the model's own grid; `"pixels"`; a number, the side of a
                square in pixels; a map of region numbers (height × width, such as superpixels) or masks by name, of the
                image's size; or `"visual-tokens"`: relevance then ends at the image tokens that the language part
                reads, not at pixels.
            positions: Whether shares of learned position embeddings stand `"apart"` or are `"added"` to their tokens.
            progress: Whether a slow method may show a progress bar.

        Raises:
            ApportionError: Part of the request does not fit; the message says which, and what to do.
        """
        request = Request(target, contrast, method, unit, position, features, regions, positions)
        one = self.prompt(prompt, regions, what="explain")
        return request.answered(self, [one], request.targets(self, prompt), progress=progress)[0]

    def explain_many(
        self,
        prompts: Iterable[Any],
        target: TargetsLike = None,
        *,
        contrast: Contrast = None,
        method: AnyMethod | None = None,
        unit: Unit = "logit",
        position: int | str | None = None,
        features: AnyFeatures = "tokens",
        regions: AnyRegions = "patches",
        positions: Positions = "apart",
        batch_size: int = 1,
        progress: bool = True,
    ) -> Attributions:
        """Divide the model's predictions for several prompts, each when the result is iterated to it.

        A prompt that cannot be explained does not stop the others: the result's `failed` says why. The options are
        those of `explain`, the same for every prompt.

        Args:
            prompts: A list or generator of prompts as in `explain`, or a padded batch of tensors.
            target: As in `explain`.
            batch_size: How many prompts run together. Batches above 1 keep no ledger, since relevance at the model's
                parameters cannot be assigned to single examples.
            progress: Whether to show a progress bar.

        Raises:
            ApportionError: An option does not fit any prompt.
        """
        request = Request(target, contrast, method, unit, position, features, regions, positions)
        if batch_size < 1:
            raise ApportionError(f"batch_size={batch_size} is not possible; give 1 or more.")
        return Attributions(coming=explained_in_turn(self, prompts, request, batch_size=batch_size, progress=progress))

    def explain_pairs(
        self,
        pair: Pair,
        *,
        method: AnyMethod | None = None,
        regions: AnyRegions = "patches",
        features: Literal["tokens", "words"] = "tokens",
        positions: Positions = "apart",
    ) -> Pairwise:
        """Divide the similarity of a pair among pairs of features, such as a word and a patch.

        `regions` and `positions` are as in `explain`.

        Args:
            pair: Two texts, two images, or one of each for a model that compares them; the first one's features are
                the rows.
            method: A method that propagates relevance, as in `explain`.
            features: `"tokens"` or `"words"`.

        Raises:
            ApportionError: The request does not fit, or the method does not propagate relevance.
        """
        if not isinstance(pair, Pair):
            raise ApportionError(f"explain_pairs takes an ap.Pair; a {type(pair).__name__} was given.")
        if features not in ("tokens", "words"):
            raise ApportionError(f"features={features!r} is not known here; use 'tokens' or 'words'.")
        check_positions(positions)
        given = recognised(pair, self.model)
        if given.form == "caption" and not self.head.kind.compares:
            raise ApportionError(
                f"{type(self.model).__name__} does not compare images with texts; give a dual encoder such as CLIP, or "
                "two texts or two images and an encoder of them."
            )
        prompt = self.prompt(pair, regions, what="explain_pairs")
        chosen = self.method(method, prompt)
        task = self.task([prompt], [Similarity()], [chosen])
        swapped = given.form == "caption" and given.text is pair.first
        found = replace(pairwise(task, chosen, swapped=swapped, positions=positions == "added"), model=self.name)
        return found.words() if features == "words" else found

    def interactions(
        self,
        prompt: Any,
        target: TargetsLike = None,
        *,
        contrast: Contrast = None,
        method: AnyMethod | None = None,
        index: Index = "metagame",
        of: AnyOf = "auto",
        unit: Unit = "logit",
        position: int | str | None = None,
        regions: AnyRegions = "patches",
        game: Game | None = None,
        progress: bool = True,
    ) -> Interactions:
        r"""Measure how each part of a prompt changes the attribution of each other part: the metagame.

        The attribution of every feature is recomputed with others removed, and divided among them by the Shapley
        value: $\varphi_i = \sum_j \varphi_{j \to i}$. `prompt`, `contrast`, `unit`, `position` and `regions` are as in
        `explain`.

        Args:
            target: As in `explain`, a `Span` for a whole answer; several targets share one game.
            method: The first-order method, as in `explain`.
            index: `"metagame"`, or for comparison an undirected second-order index: `"shapley-taylor"` or
                `"shapley-interaction"` (of the target itself, all coalitions of at most 14 players),
                `"integrated-hessians"` (with `method` for its steps and baseline), or `"first-order-pairs"`, the score
                |R_a + R_b|.
            of: Whose attribution is divided: the game's `"players"`, all `"features"` of the prompt, `"patches"`, or
                parts named as players are. By default the players; for an image with a caption the patches: then words
                are deleted from the caption's text, and the image is encoded once.
            game: Which parts are removed, how, and how many coalitions are evaluated; by default `Game()`.
            progress: Whether to show a progress bar.

        Raises:
            ApportionError: Part of the request does not fit; the message says which, and what to do.

        Source:
            Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295.
        """
        check_index(index)
        rules = Game() if game is None else game
        if rules.path is not None and index != "metagame":
            raise ApportionError(f"path keeps the payoffs of a metagame; index={index!r} has none, so leave it out.")
        in_place = rules.players in ("tokens", "patches") or of not in ("auto", "patches")
        if index == "metagame" and not in_place and self._shows(prompt):
            image, captions = pair_of(recognised(prompt, self.model))
            read = self.prompt(Pair(image, captions[0]), regions, what="interactions")
            if not isinstance(self.targets(prompt, target, contrast, unit, position)[0], Similarity):
                raise ApportionError("words move patches in the similarity of image and caption; leave target out.")
            of_image = None if method is None else as_method(method)
            return replace(play_words(read, captions, self.head, of_image, rules, progress=progress), model=self.name)
        one = self.prompt(prompt, regions, what="interactions")
        chosen = self.method(METHOD_OF.get(index) if method is None else method, one)
        task = self.task([one], self.targets(prompt, target, contrast, unit, position), [chosen])
        if index == "metagame":
            found = play(task, chosen, rules, of=of, progress=progress)
        else:
            found = related_index(task, chosen, rules, index, of=of, progress=progress)
        return replace(found, model=self.name)

    def _shows(self, prompt: Any) -> bool:
        """Whether a prompt is an image with a caption, or several, for a model that compares the two."""
        return self.head.kind.compares and recognised(prompt, self.model).form == "caption"

    def compare(
        self,
        prompt: Any,
        target: TargetsLike = None,
        *,
        methods: AnyMethods = COMPARED,
        contrast: Contrast = None,
        unit: Unit = "logit",
        position: int | str | None = None,
        regions: AnyRegions = "patches",
        progress: bool = True,
    ) -> Comparison:
        """Explain one prompt by several methods, which share one forward pass.

        A method that does not support this model or prompt does not stop the others: the result says why. The other
        options are those of `explain`.

        Args:
            methods: Names, methods or composites; a name may carry options, as in
                `"integrated-gradients(steps=50)"`; or a mapping from names of your own to these; or `"all"` for all
                methods that need no options.
            progress: Whether to show a progress bar.

        Raises:
            ApportionError: The request does not fit, or no method supports it.
        """
        targets = self.targets(prompt, target, contrast, unit, position)
        return compared(self, prompt, targets, methods=methods, regions=regions, progress=progress)

    def generate(
        self,
        prompt: Any,
        *,
        regions: AnyRegions = "patches",
        max_new_tokens: int = 64,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Generation:
        """Generate an answer to a prompt; `generate(…).attribute()` divides every token of the answer.

        `prompt` and `regions` are as in `explain`.

        Args:
            max_new_tokens: The longest answer.
            do_sample: Whether tokens are sampled; by default each is the most likely one. The penalties and the
                temperature in the model's own settings are ignored.
            temperature: The divisor of logits when sampling.
            top_p: Sample from the most likely tokens that together have this probability.
            seed: Of the samples.

        Raises:
            ApportionError: The model does not generate, or an option does not fit.
        """
        started = self._started(prompt, regions)
        ids = generated_ids(
            self.head,
            started,
            max_new_tokens=max_new_tokens,
            do_sample=do_sample,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
        return generation_of(self, started, ids)

    def answer(self, prompt: Any, answer: str | Sequence[int], *, regions: AnyRegions = "patches") -> Generation:
        """Explain an answer of your own as if the model had generated it.

        `prompt` and `regions` are as in `explain`.

        Args:
            answer: What follows the prompt, as text or token ids. Text starts with the space that separates it from the
                prompt; an answer in a chat does not.

        Raises:
            ApportionError: The answer is empty, or the model generates no text.
        """
        if not self.head.kind.writes:
            raise ApportionError(
                f"{type(self.model).__name__} writes no answers; load a causal language model or an encoder-decoder."
            )
        given = answer if isinstance(answer, str) else tuple(int(i) for i in answer)
        return generation_of(self, self._started(prompt, regions), self.head.token_ids(Span(given).text))

    def _started(self, prompt: Any, regions: AnyRegions) -> Prompt:
        return self.head.started(self.prompt(prompt, regions, what="an answer"))

    def methods(self, prompt: Any = None, *, target: TargetsLike = None) -> dict[str, str | None]:
        """Try every method that needs no options: for each name None if it supports this model, else why not.

        Args:
            prompt: As in `explain`; by default a few tokens, or noise for an image classifier.
            target: As in `explain`.

        Raises:
            ApportionError: No prompt is given, and the model reads images but is no image classifier.
        """
        place = None
        if prompt is None:
            prompt, target = self._probe(), 0
            place = 0 if self.head.kind.per_token and not self.head.kind.writes else None
        found: dict[str, str | None] = {}
        for name in method_names():
            if options := required_options(name):
                found[name] = f"it was not tried, since it needs an option: {name}({options[0]}=…)"
                continue
            try:
                self.explain(prompt, target=target, position=place, method=name, progress=False)
                found[name] = None
            except ApportionError as error:
                found[name] = str(error)
            except Exception as error:  # an unknown kind of model; other methods may still support it
                found[name] = f"it fails with {type(error).__name__}: {error}".splitlines()[0]
        return found

    def _probe(self) -> Any:
        """The smallest prompt for this model."""
        if not self.head.accepts("pixel_values"):
            rows = self.vocabulary or 0
            special = set(getattr(tokenizer_of(self.processor), "all_special_ids", ()))
            return [i for i in range(rows - 1, -1, -1) if i not in special][:PROBE]
        config: Any = getattr(self.model, "config", None)
        size = getattr(config, "image_size", None)
        if not self.head.kind.of_images or size is None:
            name = type(self.model).__name__
            raise ApportionError(f"{name} is tried on a prompt of yours: methods(prompt, target=…).")
        height, width = (size, size) if isinstance(size, int) else tuple(size)
        shape = (1, getattr(config, "num_channels", 3), height, width)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return {"pixel_values": noise.to(next(self.model.parameters()))}

    def audit(
        self,
        prompt: Any,
        target: TargetsLike = None,
        *,
        contrast: Contrast = None,
        method: AnyMethod | None = None,
        position: int | str | None = None,
    ) -> Audit:
        """List the rule that each operation between target and prompt follows under a method.

        `audit(...).check()` raises if a rule of the method was never applied.
        """
        one = self.prompt(prompt, what="audit")
        chosen = self.method(method, one)
        if not isinstance(chosen, Propagation):
            raise ApportionError(
                f"the method {chosen.name!r} follows no rules of operations, so there is nothing to audit."
            )
        task = self.task([one], self.targets(prompt, target, contrast, "logit", position), detail=True)
        return task.trace.audit(task.target_values.outputs, chosen.rules(self.model))

    def evaluate(
        self,
        data: Any,
        *,
        methods: AnyMethods = COMPARED,
        measures: Sequence[AnyMeasure] = MEASURED,
        path: str | os.PathLike[str] | None = None,
        limit: int | None = None,
        masker: AnyMasker = "auto",
        seed: int = 0,
        progress: bool = True,
    ) -> Evaluation:
        """Measure how faithful each method's explanations are, on data of your own.

        A random order is measured too, as a baseline. Rows are written as they are computed: an interrupted run, called
        again with the same folder, continues.

        Args:
            data: Texts or `Item`s, iterated once; or a name or path that `apportion.evaluation.as_data` reads, such as
                `"agreement"`.
            methods: As in `compare`.
            measures: Names, with options if wanted, or measures; those that need the true cause skip items without it.
            path: The folder for the rows; without it they are kept in memory only.
            limit: How many items are measured at most.
            masker: How parts of the prompt are removed.
            seed: Of all random draws.
            progress: Whether to show a progress bar.

        Raises:
            ApportionError: The request does not fit; errors of single items are noted in their rows.
        """
        run = Run(
            engine=self,
            methods=named_methods(methods),
            measures=[as_measure(measure) for measure in measures],
            masker=masker,
            seed=seed,
            data=os.fspath(data) if isinstance(data, str | os.PathLike) else "",
        )
        return evaluate(run, as_data(data, self, seed=seed), path=path, limit=limit, progress=progress)

    def recommend(
        self,
        texts: Any,
        *,
        methods: AnyMethods | None = None,
        measures: Sequence[AnyMeasure] | None = None,
        by: str | None = None,
        limit: int = 30,
        masker: AnyMasker = "auto",
        seed: int = 0,
        path: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> Recommendation:
        """Recommend a method for this model, by a small evaluation on texts of your own.

        The method with the best mean is recommended, unless it does not beat a random order; the result says how
        certain that is, which methods are not significantly worse, and what other measures prefer. The other options
        are those of `evaluate`.

        Args:
            texts: At least 5, preferably 20 or more; as in `evaluate`.
            methods: As in `compare`; by default one or more of every fast kind.
            measures: As in `evaluate`; by default those that do not need the true cause.
            by: The measure that decides, such as `"comprehensiveness"`; by default `"abpc"`, the area between the
                perturbation curves, or the first of `measures`.
            limit: How many texts are measured at most.

        Raises:
            ApportionError: The request does not fit, there are fewer than 5 texts, or no method supports them all.
        """
        return recommend(
            self,
            texts,
            methods=methods,
            measures=measures,
            by=by,
            limit=limit,
            masker=masker,
            seed=seed,
            path=path,
            progress=progress,
        )
