"""A case: an item put to a model, with what the measures of all methods share."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError, Feature, Picture
from apportion.engine import Engine
from apportion.evaluation._item import Item, Region
from apportion.games import (
    AnyMasker,
    CooperativeGame,
    Masker,
    Payoff,
    Players,
    as_masker,
    in_prompt,
    players_of,
    target_payoff,
)
from apportion.methods import LeaveOneOut, Method
from apportion.models.inputs import processed_map, recognised
from apportion.results import Attribution
from apportion.targets import AnyTarget
from apportion.task import AttributionTask

T = TypeVar("T")


@dataclass(frozen=True)
class Ranked:
    """An attribution as a measure sees it: a score for every part of the prompt that can be absent.

    Args:
        scores: By player; template tokens, and whatever else never plays, have none.
        players: The parts that can be removed: the tokens, or the coarser features that the method divides among.
        game: What coalitions of them are worth: a row of the target in its own unit and, where the target is read from
            the model's outputs, its probability. Coalitions that another method's measure asked for are not run again.
    """

    scores: Float[Tensor, " players"]
    players: Players
    game: CooperativeGame


class Case:
    """An item put to a model: one forward pass, and the games and leave-one-out that all methods' measures share.

    Args:
        engine: Of the model, such as its explainer.
        item: What is explained.
        methods: The methods that will be asked.
        masker: How parts of the prompt are made absent; see `apportion.games`.
        seed: Of everything that is drawn; each item draws its own, whatever is drawn before it.
    """

    def __init__(
        self, engine: Engine, item: Item, *, methods: Collection[Method] = (), masker: AnyMasker = "auto", seed: int = 0
    ) -> None:
        self.engine = engine
        self.item = item
        self.seed = seed
        asked = engine.targets(item.prompt, item.target, item.contrast, item.unit, item.position)
        self.task: AttributionTask = engine.prepare(item.prompt, asked, methods, regions=item.regions)
        self.masker: Masker = in_prompt(as_masker(masker), self.task)
        self._games: dict[tuple[tuple[int, ...], ...], CooperativeGame] = {}
        self._shared: dict[str, Any] = {}

    def attribution(self, method: Method) -> Attribution:
        """What a method finds; leave-one-out with this case's masker is done once, for the methods and the measures."""
        if isinstance(method, LeaveOneOut):
            masker = in_prompt(as_masker(method.masker), self.task)
            if replace(method, masker=masker) == LeaveOneOut(masker=self.masker):
                return self.leave_one_out
        (found,) = self.engine.attribute(self.task, method)
        return found

    def ranked(self, attribution: Attribution) -> Ranked:
        """An attribution's scores by player, and the game these play.

        Raises:
            ApportionError: A score is not a finite number.
        """
        players = self._playing(attribution)
        scores = attribution.scores.double().cpu()[list(players.columns)]
        if not bool(scores.isfinite().all()):
            raise ApportionError(
                f"{attribution.method} gave {int((~scores.isfinite()).sum())} of {len(scores)} shares that are no "
                f"finite numbers for the item {self.item.id!r}, so they rank nothing."
            )
        return Ranked(scores=scores, players=players, game=self.game(players))

    def game(self, players: Players) -> CooperativeGame:
        """What coalitions of players are worth; see `Ranked`."""
        if players.groups not in self._games:
            payoff = target_payoff(self._numbers, 0, players, self.masker)
            self._games[players.groups] = CooperativeGame(
                len(players.groups), _with_probability(payoff, self.task.targets[0])
            )
        return self._games[players.groups]

    @cached_property
    def players(self) -> Players:
        """The tokens that can be absent."""
        return players_of(self.task, 0)

    @cached_property
    def truth(self) -> Bool[Tensor, " players"]:
        """Which of the features that can be absent hold the cause; see `truth_of`."""
        return self.truth_of(self.players)

    def truth_of(self, players: Players) -> Bool[Tensor, " players"]:
        """Which players hold the cause.

        Of a text, those that share a character with its region. Of an image, those of whose pixels at least half are
        inside the mask; where none are, those with the largest part inside.

        Raises:
            ApportionError: No player does, the tokenizer does not tell where its tokens stand, the mask does not fit
                the image, or the prompt is of another kind than the truth.
        """
        if self.item.mask is not None:
            inside = self.inside(players)
            return inside >= min(0.5, float(inside.max()))
        features, text = self.task.prompts[0].features, self.item.prompt
        if self.item.truth and not isinstance(text, str):
            raise ApportionError(
                f"the item {self.item.id!r} says where in a text its cause stands, but its prompt is a "
                f"{type(text).__name__}; give a text."
            )
        if any(features[i].start is None for group in players.groups for i in group):
            raise ApportionError(
                f"the item {self.item.id!r} says where its cause stands, but the tokenizer does not tell where its "
                "tokens do; use a fast tokenizer."
            )
        found = torch.tensor(
            [
                any(_overlaps(features[i], region, text) for i in group for region in self.item.truth)
                for group in players.groups
            ]
        )
        if self.item.truth and not bool(found.any()):
            raise ApportionError(
                f"no token of the item {self.item.id!r} stands where its cause does: {self.item.truth}."
            )
        return found

    def inside(self, players: Players) -> Float[Tensor, " players"]:
        """What part of each player's pixels lies inside the mask of the cause; a word has none.

        Raises:
            ApportionError: The mask does not fit the image, or no player has a pixel inside.
        """
        features = self.task.prompts[0].features
        mask, picture = self._mask
        counts = torch.zeros(len(players.groups), 2, dtype=torch.float64)
        for player, group in enumerate(players.groups):
            numbers = [p for i in group if features[i].image is not None for p in features[i].positions]
            mine = torch.isin(picture.owner.long().cpu(), torch.tensor(numbers, dtype=torch.long))
            counts[player] = torch.stack([(mine & mask).sum(), mine.sum()])
        if not bool(counts[:, 0].any()):
            raise ApportionError(f"no part of the image of the item {self.item.id!r} lies inside its mask.")
        return counts[:, 0] / counts[:, 1].clamp_min(1)

    @cached_property
    def _mask(self) -> tuple[Bool[Tensor, "height width"], Picture]:
        """The mask as large as the model sees the image, and what it sees."""
        pictures = [picture for continuous in self.task.prompts[0].continuous_inputs for picture in continuous.pictures]
        mask = self.item.mask
        assert mask is not None
        if len(pictures) != 1:
            raise ApportionError(
                f"the item {self.item.id!r} has a mask of an image, but the model sees {len(pictures)} images of its "
                "prompt; a mask is for one."
            )
        size, seen = tuple(mask.shape), tuple(pictures[0].owner.shape)
        image = recognised(self.item.prompt, self.engine.model).image
        if image is None:
            if size != seen:
                raise ApportionError(
                    f"the mask of the item {self.item.id!r} has the size {size}, and the model sees {seen} (height, "
                    "width); give the image itself, so that the mask can be scaled like it, or a mask of this size."
                )
            return mask, pictures[0]
        if self.engine.processor is None:
            return mask, pictures[0]
        scaled = processed_map(mask.long().numpy(), image, self.engine.processor) > 0
        if tuple(scaled.shape) != seen:
            raise ApportionError(
                f"the mask of the item {self.item.id!r} becomes {tuple(scaled.shape)} and the image {seen} (height, "
                "width), so they do not fit."
            )
        return scaled, pictures[0]

    @cached_property
    def leave_one_out(self) -> Attribution:
        """What leaving out each token does to the target."""
        (found,) = self.engine.attribute(self.task, LeaveOneOut(masker=self.masker))
        return found

    @property
    def correct(self) -> bool | None:
        """Whether the model prefers the target to each of its contrasts, or finds it likeliest of all outputs.

        None where the item names no target, or one that is not an output of the model.
        """
        (target,) = self.task.targets
        if against := target.against_each():
            return all(value > 0 for value in self.task.about(against).target_values.values[0])
        likeliest = target.likeliest()
        return None if likeliest is None else self.task.resolved == self.task.about([likeliest]).resolved

    def shared(self, name: str, find: Callable[[], T]) -> T:
        """What a measure finds once for all methods, such as the effects of interventions."""
        if name not in self._shared:
            self._shared[name] = find()
        found: T = self._shared[name]
        return found

    def generator(self, purpose: str) -> np.random.Generator:
        """Random numbers of this item's own, the same whichever items and measures come before."""
        return np.random.default_rng([self.seed, zlib.crc32(self.item.id.encode()), zlib.crc32(purpose.encode())])

    @cached_property
    def _numbers(self) -> AttributionTask:
        (target,) = self.task.targets
        as_probability = target.as_probability()
        return self.task.about([target] if as_probability is None else [target, as_probability])

    def _playing(self, attribution: Attribution) -> Players:
        """The parts of an attribution's features that can be removed: tokens, or groups that are removed together."""
        prompt = self.task.prompts[0]
        playing = {i for group in self.players.groups for i in group}
        place = {
            (prompt.features[i].part, prompt.features[i].image, p): i
            for i in sorted(playing)
            for p in prompt.features[i].positions
        }
        keys = [
            [(feature.part, feature.image, position) for position in _positions(feature, prompt.padding[0])]
            for feature in attribution.features
        ]
        groups = [tuple(place[key] for key in of_feature if key in place) for of_feature in keys]
        return Players(
            groups=tuple(group for group in groups if group),
            features=attribution.features,
            columns=tuple(column for column, group in enumerate(groups) if group),
        )


def _positions(feature: Feature, padding: int) -> tuple[int, ...]:
    """Where a feature of a result stands in the prompt without the padding that the result has back on its left."""
    if feature.part == "decoder" or not feature.of_text:
        return feature.positions
    return tuple(p - padding for p in feature.positions)


def _overlaps(feature: Feature, region: Region, text: str) -> bool:
    assert feature.start is not None
    assert feature.end is not None
    # White space around a word may belong to its token, but it is no part of the word.
    shared = text[max(feature.start, region[0]) : min(feature.end, region[1])]
    return bool(shared.strip())


def _with_probability(payoff: Payoff, target: AnyTarget) -> Payoff:
    """A payoff of the target's own unit and, beside it, the probability."""
    if target.as_probability() is not None or target.likelihood != "log-probability":
        return payoff

    def both(coalitions: Bool[Tensor, "coalitions players"]) -> Float[Tensor, "coalitions outputs"]:
        values = payoff(coalitions)
        return torch.cat([values, values.exp()], 1)

    return both
