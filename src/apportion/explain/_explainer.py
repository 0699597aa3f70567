"""The explainer, the front door: a model and its processor in, attributions out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from apportion.core import ApportionError, Feature, Pair
from apportion.core import progress as track_progress
from apportion.explain._generation import Generation, generation_of
from apportion.games import AnyMasker, AnyPlayers
from apportion.metagame import (
    METHOD_OF,
    AnyMoved,
    Budget,
    Estimator,
    Index,
    Rules,
    check_index,
    neighbours,
    pair_of,
    play,
    play_words,
)
from apportion.methods import (
    AnyMethod,
    Method,
    Propagation,
    as_method,
    default_method,
    method_names,
    required_options,
)
from apportion.methods.backward import pairwise
from apportion.models import DualEncoder, Head, Pooling, generated_ids, kind_of_model, pair_encoder
from apportion.models.inputs import (
    AnyRegions,
    Prompt,
    prompts_given,
    recognised,
    tokenizer_of,
)
from apportion.relevance import Audit, token_embedding, usable_modules
from apportion.results import Attribution, Comparison, Cost, Explained, Pairwise
from apportion.targets import AnyTarget, Similarity, Span, Unit, as_targets
from apportion.task import Question, batches

if TYPE_CHECKING:
    import apportion.evaluation

#: What `compare` compares unless told otherwise: each way to find shares, within seconds.
COMPARED = (
    "attnlrp",
    "cp-lrp",
    "input-x-gradient",
    "integrated-gradients",
    "gradient",
    "alti-logit",
    "rollout",
    "leave-one-out",
)

#: What `evaluate` measures unless told otherwise.
MEASURED = ("perturbation-curves", "comprehensiveness-sufficiency", "leave-one-out-agreement", "ground-truth")

# So many tokens tell whether a method can serve a model.
PROBE = 4


class Explainer:
    """Explains the predictions of one model.

    The model is used as it is and given back as it was after every call.

    Args:
        model: A transformers model: causal or masked language model, classifier of texts, tokens or images,
            encoder-decoder, dual encoder, vision-language or speech model; a backbone or any other torch module when
            the target says what to read of its output.
        processor: Its tokenizer, image processor or processor; without one, prompts are the model's own inputs.
        pooling: For pairs of two texts or two images: what an encoding is made of, `"mean"`, `"cls"`, `"last"` or
            `"pooled"`. By default what the model's folder says, else `"mean"` for texts and `"pooled"` for images.

    Raises:
        ApportionError: The model is compiled or on the meta device, or the tokenizer has more tokens than the model.
    """

    def __init__(self, model: nn.Module, processor: Any = None, *, pooling: Pooling | None = None) -> None:
        usable_modules(model)
        self.model, self.processor = model, processor
        self._head = Head(model, kind_of_model(model), processor)
        self._pooling: Pooling | None = pooling
        self._pair_heads: dict[str, Head] = {}
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
        method: AnyMethod | None = None,
        unit: Unit = "logit",
        position: int | str | None = None,
        regions: AnyRegions = "patches",
        features: Literal["tokens", "words"] | Mapping[str, Any] | Sequence[str] = "tokens",
        positions: Literal["apart", "added"] = "apart",
        batch_size: int = 1,
        progress: bool = True,
    ) -> Any:
        """Divide the model's prediction among the parts of a prompt.

        Args:
            prompt: A text, chat messages, token ids, an image (PIL, array, tensor or a file's path), a `Pair` of image
                and text, messages with images, `{"images": …, "text": …}`, a dict of the model's inputs, or a list of
                such. A list or a padded batch gives a list of attributions.
            target: What is divided: a token or class by name or id, a `Target`, a `Span`, a function from the model's
                output to one number, or a list of targets that go back in one batched pass. By default the most
                likely output.
            contrast: One or more outputs whose mean is subtracted from the target.
            method: A name such as `"attnlrp"` or `"cp-lrp"`, a method with options, or a composite. By default AttnLRP,
                with ResLRP's rule for residual sums where the model looks at images.
            unit: `"logit"`, `"log-probability"` or `"probability"`.
            position: For models with an output per token: where the target is read.
            regions: How images are divided: `"patches"`, the model's own grid; `"pixels"`; squares of so many pixels; a
                map of region numbers (height × width, such as superpixels) or masks by name, of the image's size; or
                `"visual-tokens"`: then relevance ends at what the language part reads of the image, not at its pixels.
            features: `"tokens"`, `"words"`, or spans as `Attribution.spans` takes them.
            positions: Whether shares of learned position embeddings stand `"apart"` or are `"added"` to their tokens.
            batch_size: How many prompts run together. In a batch no ledger is kept, since the parts of the model that
                all examples share cannot tell them apart.
            progress: Whether a list of prompts shows a progress bar.

        Raises:
            ApportionError: Something in the request does not fit; the message says what and what to do.
        """
        prompts = self._prompts(prompt, regions)
        chosen = self._chosen(method, prompts[0])
        _check_choice("features", features, ("tokens", "words"))
        _check_choice("positions", positions, ("apart", "added"))
        found, _ = self._attributions(
            prompts,
            {chosen.name: chosen},
            self._targets(prompt, target, contrast, unit, position),
            batch_size=batch_size,
            progress=progress,
        )
        answers = [by_method[chosen.name] for by_method in found]
        if positions == "added":
            answers = [answer.with_positions() for answer in answers]
        shown = [_as_features(answer, features) for answer in answers]
        return shown if recognised(prompt, self.model).several else shown[0]

    def explain_pairs(
        self,
        pair: Pair,
        *,
        method: AnyMethod | None = None,
        regions: AnyRegions = "patches",
        features: Literal["tokens", "words"] = "tokens",
        positions: Literal["apart", "added"] = "apart",
    ) -> Pairwise:
        """Divide the similarity of a pair among pairs of features: which word answers to which word or patch.

        Args:
            pair: Two texts, two images, or one of each for a model that compares them; the first one's features are
                the rows.
            method: A method that propagates relevance, as in `explain`.
            regions: As in `explain`.
            features: `"tokens"` or `"words"`.
            positions: As in `explain`.

        Raises:
            ApportionError: The request does not fit, or the method does not propagate relevance.
        """
        if not isinstance(pair, Pair):
            raise ApportionError(f"explain_pairs takes an ap.Pair; a {type(pair).__name__} was given.")
        _check_choice("features", features, ("tokens", "words"))
        _check_choice("positions", positions, ("apart", "added"))
        given = recognised(pair, self.model)
        if given.form == "caption" and not self._head.kind.compares:
            raise ApportionError(
                f"{type(self.model).__name__} does not compare images with texts; give a dual encoder such as CLIP, or "
                "two texts or two images and an encoder of them."
            )
        prompts = self._prompts(pair, regions)
        chosen = self._chosen(method, prompts[0])
        question = self._question(prompts, [Similarity()], [chosen], progress=False)
        swapped = given.form == "caption" and given.text is pair.first
        found = replace(pairwise(question, chosen, swapped=swapped, positions=positions == "added"), model=self.name)
        return found.words() if features == "words" else found

    def interactions(
        self,
        prompt: Any,
        *,
        target: Any = None,
        contrast: str | int | Sequence[str | int] | None = None,
        method: AnyMethod | None = None,
        index: Index = "metagame",
        unit: Unit = "logit",
        position: int | str | None = None,
        players: AnyPlayers = "auto",
        targets: AnyMoved = "auto",
        masker: AnyMasker = "auto",
        regions: AnyRegions = "patches",
        estimator: Estimator = "auto",
        budget: Budget = "auto",
        tolerance: float = 0.1,
        order: Literal[2, 3] = 2,
        seed: int = 0,
        path: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> Any:
        r"""How each part of a prompt moves the attribution of each other part: the metagame.

        The attribution of every feature is recomputed with others absent, and divided among them by the Shapley value:
        $\varphi_i = \sum_j \varphi_{j \to i}$.

        Args:
            prompt: As in `explain`; one.
            target: As in `explain`, a `Span` for a whole answer; a list of targets shares one game and gives a list.
            contrast: See there.
            method: The first-order method, as in `explain`.
            index: `"metagame"`, or for comparison a second order without direction: `"shapley-taylor"` or
                `"shapley-interaction"` (of the target itself, all coalitions of at most 14 players),
                `"integrated-hessians"` (with `method` for its steps and baseline), or `"first-order-pairs"`, the score
                |R_a + R_b|.
            unit: See there.
            position: See there.
            players: Who may be absent and moves others: `"tokens"`, `"words"`, `"sentences"`, `"patches"`, or spans as
                `Attribution.spans` takes them; everything outside the spans is always present. By default tokens; of an
                image with a caption (or several, `ap.Pair(image, [text, text])`) the caption's words.
            targets: Whose attribution is moved: the `"players"`, all `"features"` of the prompt, `"patches"`, or groups
                as players are named. By default the players; of an image with a caption the patches. Words of a caption
                that move patches are deleted from its text, and the image is encoded once.
            masker: How players are made absent. By default by the tokenizer's mask token, in a model without one by the
                mean embedding, or, where model or method do not read embeddings, by deletion; a method that makes
                features absent itself decides for the game as well.
            regions: How images are divided, as in `explain`.
            estimator: `"exact"` evaluates all coalitions of up to 16 players; `"regression"`, `"tree-proxy"` (needs
                scikit-learn) and `"permutations"` draw some; `"auto"` chooses by players and budget, see
                `metagame.estimated`.
            budget: How many coalitions are evaluated at most; `"auto"` evaluates all of up to 8 players, else from 8 to
                64 coalitions a player, as many as `tolerance` needs. Where 64 are not enough, `standard_errors` say so.
            tolerance: With `budget="auto"`, the standard error at which no more coalitions are drawn, as a part of the
                values: 0.1 for a tenth (root mean squares).
            order: 3 for the third order as well, how k moves the effect of j on i; for at most 10 players.
            seed: Of the random coalitions; with the same one a larger budget draws the same and more.
            path: A file (safetensors) that keeps what each coalition is paid: the same call goes on where it was
                interrupted, and one with a larger budget adds to it.
            progress: Whether to show a progress bar.

        Raises:
            ApportionError: The request does not fit; the message says what and what to do.

        Source:
            Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295.
        """
        check_index(index)
        in_place = players in ("tokens", "patches") or targets not in ("auto", "patches")
        words = index == "metagame" and not in_place and self._shows(prompt)
        if path is not None and index != "metagame":
            raise ApportionError(f"path keeps what a metagame evaluates; index={index!r} has none, so leave it out.")
        rules = Rules(
            players=("words" if words else "tokens") if players == "auto" else players,
            targets="players" if targets == "auto" else targets,
            masker=masker,
            estimator=estimator,
            budget=budget,
            tolerance=tolerance,
            order=order,
            seed=seed,
            path=path,
        )
        if words:
            image, captions = pair_of(recognised(prompt, self.model))
            read = self._prompts(Pair(image, captions[0]), regions)[0]
            if not isinstance(self._targets(prompt, target, contrast, unit, position)[0], Similarity):
                raise ApportionError("words move patches in the similarity of image and caption; leave target out.")
            of_image = None if method is None else as_method(method)
            found = play_words(read, captions, self._head, of_image, rules, progress=progress)
            return replace(found, model=self.name)
        prompts = self._prompts(prompt, regions)
        if len(prompts) != 1:
            raise ApportionError(f"interactions are of one prompt at a time; {len(prompts)} were given.")
        chosen = self._chosen(METHOD_OF.get(index) if method is None else method, prompts[0])
        asked = self._targets(prompt, target, contrast, unit, position)
        question = self._question(prompts, asked, [chosen], progress=False)
        if index == "metagame":
            each = play(question, chosen, rules, progress=progress)
        else:
            each = neighbours(question, chosen, rules, index, progress=progress)
        named = [replace(one, model=self.name) for one in each]
        return named if len(asked) > 1 else named[0]

    def _shows(self, prompt: Any) -> bool:
        """Whether a prompt is an image with a caption, or several, for a model that compares the two."""
        return self._head.kind.compares and recognised(prompt, self.model).form == "caption"

    def compare(
        self,
        prompt: Any,
        *,
        methods: Sequence[AnyMethod] | Mapping[str, AnyMethod] | Literal["all"] = COMPARED,
        target: Any = None,
        contrast: str | int | Sequence[str | int] | None = None,
        unit: Unit = "logit",
        position: int | str | None = None,
        regions: AnyRegions = "patches",
        progress: bool = True,
    ) -> Comparison:
        """Explain one prompt by several methods, which share one forward pass.

        A method that cannot serve this model or prompt does not stop the others: the result says why.

        Args:
            prompt: As in `explain`; one.
            methods: Names, methods or composites; a name may carry options, as in
                `"integrated-gradients(steps=50)"`; or a mapping from names of your own to these; or `"all"` methods
                that need no options.
            target: As in `explain`; so are `contrast`, `unit` and `position`.
            contrast: See there.
            unit: See there.
            position: See there.
            regions: See there.
            progress: Whether to show a progress bar.

        Raises:
            ApportionError: The request does not fit, or no method can serve it.
        """
        chosen = _named(methods)
        refused: dict[str, ApportionError] = {}
        found, shared = self._attributions(
            self._prompts(prompt, regions),
            chosen,
            self._targets(prompt, target, contrast, unit, position),
            batch_size=1,
            progress=progress,
            refused=refused,
        )
        if len(found) != 1:
            raise ApportionError(f"compare takes one prompt at a time; {len(found)} were given.")
        if not found[0]:
            raise next(iter(refused.values()))
        return Comparison(attributions=found[0], refused=refused, shared=shared)

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
        """Let the model answer a prompt; `generate(…).attribute()` divides every token of the answer.

        Args:
            prompt: As in `explain`; one.
            regions: As in `explain`.
            max_new_tokens: Where the answer is cut off.
            do_sample: Whether tokens are drawn; by default each is the most likely one. The penalties and the
                temperature in the model's own settings are left out.
            temperature: What logits are divided by when tokens are drawn.
            top_p: Tokens are drawn from the likeliest ones that together have this probability.
            seed: Of the drawing.

        Raises:
            ApportionError: The model does not generate, or an option does not fit.
        """
        started = self._started(prompt, regions)
        ids = generated_ids(
            self._head,
            started,
            max_new_tokens=max_new_tokens,
            do_sample=do_sample,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
        return generation_of(self, started, ids)

    def answer(self, prompt: Any, answer: str | Sequence[int], *, regions: AnyRegions = "patches") -> Generation:
        """An answer of your own in the place of a generated one.

        Args:
            prompt: As in `explain`; one.
            answer: What follows the prompt, as a text or token ids. A text begins with the space that the prompt's
                last word does not have; an answer in a chat does not.
            regions: As in `explain`.

        Raises:
            ApportionError: The answer is empty, or the model writes no text.
        """
        if not self._head.kind.writes:
            raise ApportionError(
                f"{type(self.model).__name__} writes no answers; load a causal language model or an encoder-decoder."
            )
        given = answer if isinstance(answer, str) else tuple(int(i) for i in answer)
        started = self._started(prompt, regions)
        return generation_of(self, started, self._head.token_ids(Span(given).text))

    def _started(self, prompt: Any, regions: AnyRegions) -> Prompt:
        prompts = self._prompts(prompt, regions)
        if len(prompts) != 1:
            raise ApportionError(f"an answer has one prompt; {len(prompts)} were given.")
        return self._head.started(prompts[0])

    def methods(self, prompt: Any = None, *, target: Any = None) -> dict[str, str | None]:
        """Which methods can serve this model: for each name None, or in one line why it cannot.

        Each method that needs no options is tried.

        Args:
            prompt: As in `explain`; by default a few tokens, or noise for a model that classifies images.
            target: As in `explain`.

        Raises:
            ApportionError: The model reads images with text, or predicts no classes of images, and no prompt is given.
        """
        place = None
        if prompt is None:
            prompt, target = self._probe(), 0
            place = 0 if self._head.kind.per_token and not self._head.kind.writes else None
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
            except Exception as error:  # a model that no method was written for; the others may still serve it
                found[name] = f"it fails with {type(error).__name__}: {error}".splitlines()[0]
        return found

    def _probe(self) -> Any:
        """The least that this model can be asked about."""
        if not self._head.accepts("pixel_values"):
            rows = self._rows() or 0
            special = set(getattr(tokenizer_of(self.processor), "all_special_ids", ()))
            return [i for i in range(rows - 1, -1, -1) if i not in special][:PROBE]
        config: Any = getattr(self.model, "config", None)
        size = getattr(config, "image_size", None)
        if not self._head.kind.of_images or size is None:
            name = type(self.model).__name__
            raise ApportionError(f"{name} is tried on a prompt of yours: methods(prompt, target=…).")
        height, width = (size, size) if isinstance(size, int) else tuple(size)
        shape = (1, getattr(config, "num_channels", 3), height, width)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return {"pixel_values": noise.to(next(self.model.parameters()))}

    def audit(
        self,
        prompt: Any,
        *,
        target: Any = None,
        contrast: str | int | Sequence[str | int] | None = None,
        method: AnyMethod | None = None,
        position: int | str | None = None,
    ) -> Audit:
        """What every operation of the model is taken for under a method, on the way from the target to the prompt.

        `audit(...).check()` raises when a rule that the method promises was never applied.
        """
        prompts = self._prompts(prompt)
        chosen = self._chosen(method, prompts[0])
        if not isinstance(chosen, Propagation):
            raise ApportionError(
                f"the method {chosen.name!r} follows no rules of operations, so there is nothing to audit."
            )
        question = Question(
            self._head_of(prompts[0]),
            prompts[:1],
            self._targets(prompt, target, contrast, "logit", position),
            detail=True,
        )
        self._check_length(question)
        return question.trace.audit(question.read.outputs, chosen.rules(self.model))

    def _attributions(
        self,
        prompts: Sequence[Prompt],
        methods: Mapping[str, Method],
        targets: Sequence[Any],
        *,
        batch_size: int,
        progress: bool,
        refused: dict[str, ApportionError] | None = None,
    ) -> tuple[list[dict[str, Attribution]], Cost]:
        """For each prompt its attributions by method, and what the shared forward passes took.

        Methods that refuse are noted in `refused` where it is given.
        """
        if batch_size < 1:
            raise ApportionError(f"batch_size={batch_size} is not possible; give 1 or more.")
        found: list[dict[str, Attribution]] = [{} for _ in prompts]
        groups = batches(self._head_of(prompts[0]), prompts, batch_size)
        several = len(groups) > 1 or len(methods) > 1
        seconds, forward = 0.0, 0.0
        for members in track_progress(groups, "explaining", show=progress and len(groups) > 1):
            start = time.perf_counter()
            question = self._question(
                [prompts[i] for i in members], targets, methods.values(), progress=progress and not several
            )
            _ = question.read, question.predictions
            seconds, forward = seconds + time.perf_counter() - start, forward + question.passes.forward
            for k, label in enumerate(track_progress(methods, "comparing", show=progress and len(methods) > 1)):
                question.last_method = k == len(methods) - 1
                try:
                    answers = self.answer_to(question, methods[label])
                except ApportionError as error:
                    if refused is None:
                        raise
                    refused[label] = error
                    continue
                for i, attribution in zip(members, answers, strict=True):
                    found[i][label] = attribution
        return found, Cost(seconds=seconds, forward=forward, backward=0.0)

    def evaluate(
        self,
        data: Any,
        *,
        methods: Sequence[AnyMethod] | Mapping[str, AnyMethod] | Literal["all"] = COMPARED,
        measures: Sequence[Any] = MEASURED,
        path: str | os.PathLike[str] | None = None,
        limit: int | None = None,
        masker: AnyMasker = "auto",
        seed: int = 0,
        progress: bool = True,
    ) -> apportion.evaluation.Evaluation:
        """Measure how far each method's explanations may be believed, on data of your own.

        Beside the methods stands a random order, which they must beat. Rows are written as they are found: an
        interrupted run, called again with the same folder, goes on where it was.

        Args:
            data: Texts or `Item`s, gone through once; or what `apportion.evaluation.as_data` reads, such as
                `"agreement"` or a file's path.
            methods: As in `compare`.
            measures: Names, with options where wanted, or measures; those that need to know the true cause pass over
                items that do not tell it.
            path: The folder where rows are kept; without it they go when the result does.
            limit: How many items are measured at most.
            masker: How parts of the prompt are made absent.
            seed: Of everything that is drawn.
            progress: Whether to show a progress bar.

        Raises:
            ApportionError: The request does not fit; what does not fit in one item is noted in its rows.
        """
        from apportion.evaluation import Run, as_data, as_measure, evaluate

        run = Run(
            explainer=self,
            methods=_named(methods),
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
        methods: Sequence[AnyMethod] | Mapping[str, AnyMethod] | Literal["all"] | None = None,
        measures: Sequence[Any] | None = None,
        by: str | None = None,
        limit: int = 30,
        masker: AnyMasker = "auto",
        seed: int = 0,
        path: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> apportion.evaluation.Recommendation:
        """Which method to trust for this model, by a small evaluation on texts of your own.

        The method with the best mean is recommended, unless it does not beat a random order; the result says how
        surely, which methods cannot be told apart from it, and what other measures prefer.

        Args:
            texts: At least 5, at best 20 or more; as in `evaluate`.
            methods: As in `compare`; by default one or more of every kind that takes seconds.
            measures: As in `evaluate`; by default those that need to know no true cause.
            by: The measure that decides, such as `"comprehensiveness"`; by default `"abpc"`, the area between the
                perturbation curves, or the first of `measures`.
            limit: How many texts are measured at most.
            masker: How parts of the prompt are made absent.
            seed: Of everything that is drawn.
            path: The folder where rows are kept; without it they go when the result does.
            progress: Whether to show a progress bar.

        Raises:
            ApportionError: The request does not fit, there are fewer than 5 texts, or no method serves them all.
        """
        from apportion.evaluation import recommend

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

    def ask(
        self,
        prompt: Any,
        targets: Sequence[AnyTarget],
        methods: Collection[Method],
        *,
        regions: AnyRegions = "patches",
    ) -> Question:
        """A question about one prompt, whose forward pass several methods share; `answer_to` divides its targets.

        Args:
            prompt: As in `explain`; one.
            targets: What is divided.
            methods: The methods that will be asked, since some need a more detailed trace.
            regions: As in `explain`.

        Raises:
            ApportionError: The request does not fit.
        """
        prompts = self._prompts(prompt, regions)
        if len(prompts) != 1:
            raise ApportionError(f"a question is about one prompt; {len(prompts)} were given.")
        return self._question(prompts, targets, methods, progress=False)

    def _chosen(self, method: AnyMethod | None, prompt: Prompt) -> Method:
        """The method that is asked for, or the default for this model and prompt."""
        return (
            default_method(self._head_of(prompt).model, pixels=prompt.has_pixels)
            if method is None
            else as_method(method)
        )

    def _targets(
        self, prompt: Any, target: Any, contrast: Any, unit: Unit, position: int | str | None
    ) -> list[AnyTarget]:
        """What `explain`'s arguments ask for; of a model that compares pairs, their similarity."""
        plain = target is None and contrast is None and unit == "logit" and position is None
        if plain and (self._head.kind.compares or recognised(prompt, self.model).is_pair):
            return [Similarity()]
        return as_targets(target, contrast, unit, position)

    def _head_of(self, prompt: Prompt) -> Head:
        """What runs for a prompt: the model, or for a pair of two texts or two images the model on both sides."""
        sides = prompt.sides
        if sides is None:
            return self._head
        if sides not in self._pair_heads:
            encoder = pair_encoder(self.model, self.processor, self._pooling, sides)
            self._pair_heads[sides] = Head(encoder, DualEncoder(), self.processor)
        return self._pair_heads[sides]

    def _question(
        self, prompts: Sequence[Prompt], targets: Sequence[AnyTarget], methods: Collection[Method], *, progress: bool
    ) -> Question:
        detail = any(method.detail for method in methods)
        question = Question(self._head_of(prompts[0]), prompts, targets, detail=detail, progress=progress)
        question.summands = any(method.summands for method in methods)
        self._check_length(question)
        return question

    def answer_to(self, question: Question, method: Method) -> list[Attribution]:
        """What one method finds for a question: an attribution for each of its prompts."""
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
                options={**method.options, **shares.options, **getattr(question.head.model, "options", {})},
                ledger=ledger if several or ledger is None else ledger[0],
                prediction=predictions[b],
                model=self.name,
                conserves=method.about.conserves,
                cost=cost,
                pictures=tuple(picture for canvas in prompt.canvases for picture in canvas.pictures),
            )
            answers.append(_with_padding(attribution, prompt, self.processor))
        return answers

    def _prompts(self, prompt: Any, regions: AnyRegions = "patches") -> list[Prompt]:
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        prompts = prompts_given(prompt, self.model, self.processor, device=device, regions=regions)
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


def _named(methods: Sequence[AnyMethod] | Mapping[str, AnyMethod] | Literal["all"]) -> dict[str, Method]:
    """Methods by what the result calls them."""
    if methods == "all":
        methods = [name for name in method_names() if not required_options(name)]
    elif isinstance(methods, str):
        methods = [methods]
    if not methods:
        raise ApportionError("methods is empty; name some, or leave it out.")
    if isinstance(methods, Mapping):
        return {name: as_method(method) for name, method in methods.items()}
    named: dict[str, Method] = {}
    for one in methods:
        method = as_method(one)
        label = one if isinstance(one, str) else method.name
        if label in named:
            raise ApportionError(
                f"two methods are called {label!r}; give them names of their own: methods={{'mine': …, 'other': …}}."
            )
        named[label] = method
    return named


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
    # The decoder's features follow; groups of tokens may be fewer than the tokens.
    parts = [feature.part for feature in attribution.features]
    count = parts.index("decoder") if "decoder" in parts else len(parts)
    label = getattr(tokenizer_of(processor), "pad_token", None) or "[PAD]"
    part = attribution.features[0].part

    def pads(first: int, number: int) -> tuple[Feature, ...]:
        return tuple(Feature(label=label, positions=(first + k,), part=part, template=True) for k in range(number))

    moved = tuple(replace(f, positions=tuple(p + left for p in f.positions)) for f in attribution.features[:count])
    end = max(p for f in moved for p in f.positions) + 1
    features = (*pads(0, left), *moved, *pads(end, right), *attribution.features[count:])

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
