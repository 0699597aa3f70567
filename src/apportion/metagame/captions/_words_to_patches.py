"""Words to patches: how each word of a caption changes the shares of an image's patches in their similarity."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.metagame._play import Game
from apportion.metagame.captions._caption import Caption, caption
from apportion.metagame.captions._two_sides import Sides
from apportion.metagame.estimators import MetaEstimate, MetaGame, estimated
from apportion.methods import Method
from apportion.models import Head
from apportion.models.inputs import Prompt, Recognised, text_prompt
from apportion.results import Cost, Explained, Interactions
from apportion.targets import Similarity
from apportion.task import AttributionTask, Variant

#: The tolerance for the similarity of the two sides against the model's own, in rounding errors of its dtype.
ROUNDING = 1000


def pair_of(prompt: Recognised) -> tuple[Any, tuple[str, ...]]:
    """The image of a pair and its captions; an `ApportionError` if it is no image with texts."""
    image, texts = prompt.image, prompt.text
    captions = (texts,) if isinstance(texts, str) else tuple(texts) if isinstance(texts, list | tuple) else ()
    if image is None or not captions or not all(isinstance(one, str) and one.strip() for one in captions):
        raise ApportionError(
            "words of a caption move the patches of an image: give ap.Pair(image, 'a caption'), or a list of captions."
        )
    return image, captions


def play_words(
    prompt: Prompt, captions: Sequence[str], head: Head, method: Method | None, rules: Game, *, progress: bool
) -> Interactions:
    r"""How each word changes each patch's share of an image's similarity to captions.

    The image is encoded once. A coalition of words is a text, tokenised and encoded separately; the similarity to its
    encoding, a constant, is divided among all patches. The targets are not players:
    $\sum_j \varphi_{j \to i} = \varphi_i(\text{caption}) - \varphi_i(\text{nothing})$. Several captions are one game
    each, of its own words, and their payoffs are summed.

    Args:
        prompt: The image with the first caption.
        captions: The texts.
        head: The dual encoder.
        method: Any method that supports its image side; None for the default.
        rules: Of the game; every patch is a target, and words are removed by deletion.
        progress: Whether a progress bar may be shown.

    Raises:
        ApportionError: The rules or the method do not fit, or the model does not encode its sides separately.

    Source:
        Baniecki, Biecek and Fumagalli 2026, arXiv 2605.06295.
    """
    start, parts = time.perf_counter(), rules.parts("words")
    _check(rules, captions)
    sides = Sides(prompt, head, method)
    _check_similarity(sides, prompt, captions[0])
    found, played = [], []
    for k, text in enumerate(captions):
        part = "text" if len(captions) == 1 else f"caption {k + 1}"
        words = caption(text, text_prompt(text, head.model, head.processor).features, parts, part)
        always, payoff = [None] * sides.features, _payoff(sides, words)
        game = MetaGame(len(words.players), payoff, always, progress=progress, label="words to patches")
        found.append(
            estimated(game, estimator=rules.estimator, budget=rules.budget, tolerance=rules.tolerance, seed=rules.seed)
        )
        played.append(words)
    features = prompt.features[: sides.features]
    return Interactions(
        values=torch.cat([one.values for one in found]),
        main_effect=torch.stack([one.main_effect for one in found]).sum(0),
        first_order=torch.stack([one.first_order for one in found]).sum(0),
        sources=tuple(player for words in played for player in words.players),
        features=features,
        source_of=(None,) * len(features),
        explained=(Explained(label="similarity", unit="cosine", value=float(sides.similarities(captions).sum())),),
        index="metagame",
        method=sides.method.name,
        options={
            **sides.method.options,
            **rules.options(parts),
            "of": "patches",
            "masker": "deleted from the text",
            "estimator": " and ".join(dict.fromkeys(one.estimator for one in found)),
        },
        standard_errors=_errors(found),
        evaluations=sum(one.evaluations for one in found),
        cost=Cost(
            seconds=time.perf_counter() - start, forward=sides.task.passes.forward, backward=sides.task.passes.backward
        ),
        pictures=tuple(picture for continuous in prompt.continuous_inputs for picture in continuous.pictures),
    )


def _errors(found: Sequence[MetaEstimate]) -> Float[Tensor, "words feature"] | None:
    """Standard errors of all captions; 0 for one that was computed exactly."""
    if all(one.standard_errors is None for one in found):
        return None
    known = [torch.zeros_like(one.values) if one.standard_errors is None else one.standard_errors for one in found]
    return torch.cat(known)


def _payoff(sides: Sides, words: Caption) -> Callable[[Tensor], Tensor]:
    def payoff(coalitions: Bool[Tensor, "coalitions players"]) -> Float[Tensor, "coalitions feature"]:
        return sides.attributions([words.without_absent(row) for row in coalitions])

    return payoff


def _check_similarity(sides: Sides, prompt: Prompt, text: str) -> None:
    """Reject a model that compares something other than the encodings of its two sides, such as a fusion of them."""
    whole = AttributionTask(sides.head, [prompt], [Similarity()])
    found = float(sides.similarities([text]))
    own = float(whole.evaluate(0, [Variant(prompt, [()])]))
    sides.task.passes.forward += 1
    if abs(own - found) > ROUNDING * torch.finfo(next(sides.head.model.parameters()).dtype).eps:
        raise ApportionError(
            f"{type(sides.head.model).__name__} finds a similarity of {own:.4f}, and its separate encodings of image "
            f"and text have the cosine {found:.4f}, so its sides cannot be told apart; use of='features'."
        )


def _check(rules: Game, captions: Sequence[str]) -> None:
    if len(captions) > 1 and not isinstance(rules.players, str):
        raise ApportionError(
            "phrases as players are of one caption; for several give players='sentences' or 'words', or join them."
        )
    if rules.order != 2:
        raise ApportionError("order=3 is for players that are targets too; words move patches in order 2.")
    if rules.masker not in ("auto", "delete"):
        raise ApportionError(f"masker={rules.masker!r} does not fit a caption, whose words are deleted; leave it out.")
    if rules.path is not None:
        raise ApportionError("path keeps games of prompts; words to patches take seconds and keep no file.")
