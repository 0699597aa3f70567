"""Weight randomisation: an explanation that stays when the model's weights are random explains nothing of the model."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, Literal, TypeVar, cast, final
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.core import ApportionError, rank_correlation
from apportion.engine import Engine
from apportion.evaluation._case import Case
from apportion.evaluation._measure import Found, Measure
from apportion.evaluation._registry import register_measure
from apportion.methods import Method
from apportion.relevance import layer_index
from apportion.results import Attribution
from apportion.results.evaluation import Column
from apportion.task import AttributionTask

How = Literal["permute", "redraw"]
E = TypeVar("E", bound=Engine)


@register_measure("weight-randomisation")
@final
@dataclass(frozen=True, kw_only=True)
class WeightRandomisation(Measure):
    """Spearman's ρ between the shares for the model and for the same model with random weights, over the players.

    It is near 0 where an explanation depends on what the model has learned, and 1 where it depends on the input alone.
    The test refutes but does not prove: noise that is drawn anew passes it. Shares are compared by size unless told
    otherwise, since random weights turn the sign of the target's derivative at random: signed correlations then
    average to 0 even for an explanation that repeats the input's sizes.

    One random model serves all items and methods, and is asked for the same target. It takes as much memory as the
    model's weights; steps share its weights and the model's. The user's model is not touched.

    Args:
        layers: The part of the model that is randomised, from the top, in blocks: what follows the layers, each
            layer, and what comes before them, such as the embeddings, where tied weights count. `"all"`, or above 0
            up to 1.
        steps: In how many equal steps the randomisation goes down to there, for the curve.
        how: `"permute"` changes the order of the entries in each parameter, which keeps their distribution;
            `"redraw"` draws them from a normal distribution with their mean and standard deviation.
        scores: Whether shares are compared by size, `"absolute"`, or as they are, `"signed"`.
        seed: Of the random weights.

    Raises:
        ApportionError: An option is out of its range.

    Source:
        Adebayo et al. 2018, arXiv 1810.03292, who report the rank correlation with and without absolute values while
        layers are randomised from the top ("cascading"). Permuting keeps the scale of the activations.
    """

    layers: Literal["all"] | float = "all"
    steps: int = 1
    how: How = "permute"
    scores: Literal["absolute", "signed"] = "absolute"
    seed: int = 0

    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            name="randomised_spearman",
            better="lower",
            meaning="Spearman correlation with the shares of a model with random weights; 1 if weights do not count",
        ),
        Column(
            name="randomised_curve",
            better="",
            meaning="the same while more blocks are randomised from the top, none of them first",
            curve=True,
        ),
    )

    def __post_init__(self) -> None:
        if self.layers != "all" and (isinstance(self.layers, str) or not 0 < self.layers <= 1):
            raise ApportionError(f"layers={self.layers!r} is not possible; give 'all', or a part above 0 up to 1.")
        for option, fits in (("how", ("permute", "redraw")), ("scores", ("absolute", "signed"))):
            if getattr(self, option) not in fits:
                raise ApportionError(
                    f"{option}={getattr(self, option)!r} is not known; use one of {', '.join(map(repr, fits))}."
                )
        if self.steps < 1:
            raise ApportionError(f"steps={self.steps} is not possible; give 1 or more.")

    def of(self, case: Case, attribution: Attribution, method: Method) -> Found:
        """The correlation with everything randomised, and on the way there; NaN where one of the two is constant."""
        own = self._compared(case, attribution)
        part = 1.0 if self.layers == "all" else self.layers
        found = [_correlation(own, own)]
        for step in range(1, self.steps + 1):
            engine = randomised(case.engine, part * step / self.steps, how=self.how, seed=self.seed)
            (other,) = engine.attribute(_task(case, engine, method), method)
            found.append(_correlation(own, self._compared(case, other)))
        return {"randomised_spearman": found[-1], "randomised_curve": found}

    def _compared(self, case: Case, attribution: Attribution) -> Float[Tensor, " players"]:
        scores = case.ranked(attribution).scores
        return scores.abs() if self.scores == "absolute" else scores


def randomised(engine: E, part: float = 1.0, *, how: How = "permute", seed: int = 0) -> E:
    """An engine of the same model with random weights, made once for as long as the given one lives.

    The copy shares with the model the weights that stay, and with other parts of the same seed those that are random.

    Args:
        engine: Of the user's model, which is not touched.
        part: How much is randomised, from the top; see `WeightRandomisation`.
        how: See there.
        seed: See there.

    Raises:
        ApportionError: A weight is quantised, or the model cannot be copied.
    """
    known = _RANDOMISED.setdefault(engine, {})
    if (how, seed, part) not in known:
        weights = _WEIGHTS.setdefault(engine, {}).setdefault((how, seed), {})
        model = _with_weights(engine.model, _of_the_top(engine.model, part), weights, how, seed)
        known[how, seed, part] = type(engine)(model, engine.processor)
    return cast(E, known[how, seed, part])


#: The copies by the engine that they are made for; they know nothing of it and go when it goes.
_RANDOMISED: WeakKeyDictionary[Engine, dict[tuple[str, int, float], Engine]] = WeakKeyDictionary()
#: Random weights by the parameter's name, which copies of one seed share.
_WEIGHTS: WeakKeyDictionary[Engine, dict[tuple[str, int], dict[str, nn.Parameter]]] = WeakKeyDictionary()
#: Questions that all methods ask a copy about one case, so that they share a forward pass.
_TASKS: WeakKeyDictionary[Case, dict[tuple[Engine, bool], AttributionTask]] = WeakKeyDictionary()


def _task(case: Case, engine: Engine, method: Method) -> AttributionTask:
    """The case's own target, asked of another model."""
    known = _TASKS.setdefault(case, {})
    if (engine, method.detail) not in known:
        known[engine, method.detail] = engine.prepare(case.item.prompt, case.task.resolved[0], [method])
    return known[engine, method.detail]


def blocks(model: nn.Module) -> list[list[str]]:
    """Names of the model's parameters by block, from the bottom: before the layers, each layer, after the layers.

    The order is that in which the model declares its parts, which for language models is that of their computation.
    """

    def layer_of(name: str) -> str:
        parts = name.split(".")
        number = next((k for k, part in enumerate(parts) if part.isdigit()), None)
        return "" if layer_index(name) is None or number is None else ".".join(parts[: number + 1])

    return [list(names) for _, names in groupby((name for name, _ in model.named_parameters()), layer_of)]


def _of_the_top(model: nn.Module, part: float) -> Iterator[str]:
    """Names of the parameters in the blocks at the top that together are this part of all, at least one block."""
    found = blocks(model)
    # Away from rounding: 0.1 · 3 · 10 blocks are 3.
    count = math.ceil(part * len(found) - 1e-9)
    return (name for block in found[len(found) - count :] for name in block)


def _with_weights(
    model: nn.Module, names: Iterator[str], weights: dict[str, nn.Parameter], how: How, seed: int
) -> nn.Module:
    """A copy of a model that shares its parameters, but for some, which are random."""
    own = dict(model.named_parameters())
    replaced = dict(own)
    for name in names:
        if name not in weights:
            weights[name] = nn.Parameter(
                _random(own[name], name, how, _generator(own, name, seed)), requires_grad=own[name].requires_grad
            )
        replaced[name] = weights[name]
    memo: Mapping[int, nn.Parameter] = {id(own[name]): replaced[name] for name in own}
    try:
        return copy.deepcopy(model, dict(memo))  # takes what is noted for a parameter instead of copying it
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ApportionError(
            f"{type(model).__name__} cannot be copied, so its weights cannot be randomised ({error}); "
            "leave weight-randomisation out."
        ) from error


def _generator(own: Mapping[str, Tensor], name: str, seed: int) -> torch.Generator:
    """Random numbers of a parameter's own, whatever part of the model is randomised."""
    return torch.Generator().manual_seed((seed << 20) + list(own).index(name))


def _random(weight: Tensor, name: str, how: How, generator: torch.Generator) -> Tensor:
    if not weight.is_floating_point():
        raise ApportionError(
            f"the weight {name!r} is quantised ({weight.dtype}), so its entries cannot be randomised; "
            "load the model in a floating-point type."
        )
    own = weight.detach()
    if how == "permute":
        order = torch.randperm(own.numel(), generator=generator)
        return own.flatten()[order.to(own.device)].reshape(own.shape)
    wide = own.float() if own.dtype.itemsize < 4 else own
    drawn = torch.randn(own.shape, generator=generator, dtype=wide.dtype).to(own.device)
    return (wide.mean() + drawn * wide.std(correction=0)).to(own.dtype)


def _correlation(a: Float[Tensor, " players"], b: Float[Tensor, " players"]) -> float:
    return rank_correlation(a[:, None], b[:, None]).item()
