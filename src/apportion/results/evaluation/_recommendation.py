"""A recommendation: which method to trust for a model, and how surely."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apportion.core import ApportionError, Saved, Shown, pandas_module, plain, read, write, written_whole
from apportion.results.evaluation._column import Column
from apportion.results.evaluation._evaluation import Evaluation

if TYPE_CHECKING:
    import pandas

#: The file in the evaluation's folder.
FILE = "recommendation.safetensors"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """How one method stands by the measure that decides. Intervals are of 95%, over other draws of texts.

    Args:
        method: As the tables call it.
        mean: Over the texts.
        low: Where the mean's interval begins.
        high: Where it ends.
        behind: By how much it is worse than the best, in the mean over the same texts; 0 for the best.
        behind_low: Where that difference's interval begins.
        behind_high: Where it ends.
        first: How often, of many draws of texts, it is the best.
        tied: Whether it cannot be told apart from the best: the difference's interval holds 0.
        above_random: By how much it is better than a random order.
        above_random_low: Where that difference's interval begins.
        above_random_high: Where it ends.
        self_removing: Whether it removes parts of the prompt itself, as the measure does.
        seconds: A text, without the forward pass that all methods share; NaN for the random order.
        forward: Forward passes a text.
        backward: Backward passes a text.
        ranks: By every other measure, from 1; only for measures that speak for some methods rather than others.
    """

    method: str
    mean: float
    low: float
    high: float
    behind: float
    behind_low: float
    behind_high: float
    first: float
    tied: bool
    above_random: float
    above_random_low: float
    above_random_high: float
    self_removing: bool
    seconds: float
    forward: float
    backward: float
    ranks: Mapping[str, int]

    @property
    def beats_random(self) -> bool:
        """Whether the whole interval of its lead over a random order is above 0."""
        return self.above_random_low > 0


@dataclass(frozen=True, kw_only=True, repr=False)
class Recommendation(Shown, Saved):
    """Which method to trust for a model, with the numbers behind it.

    The intervals are each of one comparison: among many methods, one may lead by luck.

    Args:
        evaluation: All that was measured.
        measure: The column that decides.
        texts: How many texts were measured.
        candidates: Best first.
        random: The random order that they must beat: its mean and interval.
        refused: Methods that could not serve every text, with how many they refused and why.
        given: By label, what `explain` takes as its method; None for an object, where this was read from a file.
    """

    evaluation: Evaluation = field(metadata={"saved": False})  # in the same folder
    measure: Column
    texts: int
    candidates: tuple[Candidate, ...]
    random: tuple[float, float, float]
    refused: Mapping[str, tuple[int, str]]
    given: Mapping[str, Any]

    @property
    def best(self) -> Candidate:
        """The method with the best mean."""
        return self.candidates[0]

    @property
    def method(self) -> Any:
        """What to give `explain` as its method; None where even the best does not beat a random order.

        Raises:
            ApportionError: It was given as an object, and this was read from a file, which keeps only names.
        """
        if not self.best.beats_random:
            return None
        found = self.given.get(self.best.method, self.best.method)
        if found is None:
            raise ApportionError(
                f"{self.best.method} was given as an object, which a file does not keep; give explain that object."
            )
        return found

    @property
    def tied(self) -> list[Candidate]:
        """The methods that cannot be told apart from the best."""
        return [candidate for candidate in self.candidates[1:] if candidate.tied]

    @property
    def best_other(self) -> Candidate | None:
        """The best of the methods that have no advantage by removing parts of the prompt themselves."""
        return next((candidate for candidate in self.candidates if not candidate.self_removing), None)

    @property
    def verdict(self) -> str:
        """In plain words: which method to trust, how surely, and what speaks against it."""
        return "\n".join(verdict(self))

    def preferred_by(self) -> dict[str, list[str]]:
        """For every other measure the methods that it finds best; several where they are equal."""
        names = {name: None for candidate in self.candidates for name in candidate.ranks}
        return {name: [c.method for c in self.candidates if c.ranks.get(name) == 1] for name in names}

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a row for each method, best first; ranks by other measures are columns `rank_…`."""
        rows = [
            {
                **{name: value for name, value in vars(candidate).items() if name != "ranks"},
                "beats_random": candidate.beats_random,
                **{f"rank_{name}": rank for name, rank in candidate.ranks.items()},
            }
            for candidate in self.candidates
        ]
        return pandas_module().DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """The verdict, all candidates and the evaluation in JSON-ready values."""
        names = ("measure", "texts", "candidates", "random", "refused", "evaluation")
        return {"verdict": self.verdict, **{name: plain(getattr(self, name)) for name in names}}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a new folder: the evaluation's, which `Evaluation.load` reads too, and this; whole or not at all.

        Raises:
            ApportionError: There is something of this name already, or no folder to put it in.
        """
        names = {label: method if isinstance(method, str) else None for label, method in self.given.items()}
        with written_whole(Path(path)) as folder:
            write(self.evaluation.save(folder) / FILE, replace(self, given=names))
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recommendation:
        """Read the folder that `save` wrote.

        Raises:
            ApportionError: It is not such a folder, or was written by a newer version.
        """
        return read(Path(path) / FILE, cls, evaluation=Evaluation.load(Path(path)))


#: Intervals from fewer texts are too narrow.
FEW = 20


def verdict(found: Recommendation) -> Iterator[str]:
    """Which method to trust, how surely, and what speaks against it: a sentence or two a line."""
    best, name = found.best, found.measure.name
    number = f"{name} {_interval(best.mean, best.low, best.high)}"
    if not best.beats_random:
        yield (
            f"No method beats a random order on these {found.texts} texts: the best, {best.method}, has {number}, "
            f"ahead of random by {_interval(best.above_random, best.above_random_low, best.above_random_high)}."
        )
    else:
        yield f"Trust {best.method}: {number} on {found.texts} texts, first in {best.first:.0%} of resamples."
        yield _others(found)
    if best.self_removing:
        yield _self_removing(found)
    worse = [c.method for c in found.candidates if not c.beats_random]
    if best.beats_random and worse:
        yield f"Not better than a random order, by this measure: {', '.join(worse)}."
    yield from _elsewhere(found)
    if found.texts < FEW:
        yield f"{found.texts} texts are few: the intervals are too narrow, and another draw may turn the order round."


def _others(found: Recommendation) -> str:
    tied = found.tied
    if not tied and len(found.candidates) > 1:
        second = found.candidates[1]
        lead = _interval(second.behind, second.behind_low, second.behind_high)
        return f"It is ahead of every other method; of the next, {second.method}, by {lead}."
    if not tied:
        return "No other method could be compared."
    cheapest = min([c for c in (found.best, *tied) if c.beats_random], key=lambda candidate: candidate.seconds)
    return (
        f"It cannot be told apart from {', '.join(c.method for c in tied)}; the cheapest of these is "
        f"{cheapest.method}, at {_number(cheapest.seconds)} s a text."
    )


def _self_removing(found: Recommendation) -> str:
    """What to say of a best method that removes parts itself, as the measure does."""
    home = f"{found.best.method} removes parts of the prompt itself, as this measure does, which favours it"
    other = found.best_other
    if other is None:
        return f"{home}, like all the others."
    behind = f"{_interval(other.behind, other.behind_low, other.behind_high)} behind"
    doubt = "" if other.beats_random else ", no better than a random order"
    return (
        f"{home}; the best of those that do not is {other.method}: {_interval(other.mean, other.low, other.high)}, "
        f"{behind}{doubt}, at {_number(other.seconds)} s a text instead of {_number(found.best.seconds)}."
    )


def _elsewhere(found: Recommendation) -> Iterator[str]:
    """Where the other measures agree, and where they do not."""
    best = found.best
    preferred = {name: methods for name, methods in found.preferred_by().items() if name in best.ranks}
    agree = [name for name, methods in preferred.items() if best.method in methods]
    if agree:
        yield f"It is best by {', '.join(agree)} too."
    against: dict[str, list[str]] = {}
    for name, methods in preferred.items():
        if name not in agree:
            against.setdefault(" and ".join(methods), []).append(f"{name} ({best.method} is {_th(best.ranks[name])})")
    if against:
        others = "; ".join(f"{methods} is best by {', '.join(names)}" for methods, names in against.items())
        yield f"Other measures disagree: {others}."


def _th(rank: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th") if rank % 100 not in (11, 12, 13) else "th"
    return f"{rank}{ending}"


def _interval(mean: float, low: float, high: float) -> str:
    return f"{_number(mean)} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    return f"{value:z.3g}".replace("-", "−")
