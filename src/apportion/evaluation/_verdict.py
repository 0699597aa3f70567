"""The verdict: a recommendation in plain words, never without its uncertainty."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.evaluation._recommend import Recommendation

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
    if best.at_home:
        yield _away(found)
    worse = [c.method for c in found.candidates if not c.beats_random]
    if best.beats_random and worse:
        yield f"Not better than a random order, by this measure: {', '.join(worse)}."
    yield from _elsewhere(found)
    if found.texts < FEW:
        yield f"{found.texts} texts are few: the intervals are too narrow, and another draw may turn the order round."


def _others(found: Recommendation) -> str:
    level = found.level
    if not level and len(found.candidates) > 1:
        second = found.candidates[1]
        lead = _interval(second.behind, second.behind_low, second.behind_high)
        return f"It is ahead of every other method; of the next, {second.method}, by {lead}."
    if not level:
        return "No other method could be compared."
    cheapest = min([c for c in (found.best, *level) if c.beats_random], key=lambda candidate: candidate.seconds)
    return (
        f"It cannot be told apart from {', '.join(c.method for c in level)}; the cheapest of these is "
        f"{cheapest.method}, at {_number(cheapest.seconds)} s a text."
    )


def _away(found: Recommendation) -> str:
    """What to say of a best method that has a home advantage."""
    home = f"{found.best.method} removes parts of the prompt itself, as this measure does, and so plays at home"
    other = found.best_away
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
