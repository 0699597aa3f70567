"""The evaluation as figures: bars with intervals, perturbation curves with bands, and faithfulness against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from apportion.core import ApportionError
from apportion.report.evaluation._charts import FIRST_TO_LAST, LABELS
from apportion.report.evaluation._ranking import Entry, Ranking, rankings
from apportion.report.kit import LIGHT, ON_LIGHT, QUIET, RANDOM_ON_LIGHT, VERBATIM, figure_class, look, visible
from apportion.results.evaluation import RANDOM, Evaluation

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

CURVES, COST = "curves", "cost"


def evaluation_figure(
    evaluation: Evaluation, shown: str | None = None, *, measure: str | None = None
) -> matplotlib.figure.Figure:
    """One picture of an evaluation, as a matplotlib figure that belongs to no pyplot state.

    Args:
        evaluation: What was measured.
        shown: A measure, for its bars, by default the first; `"curves"`; or `"cost"`.
        measure: What stands against the cost, by default the first that has a better end.

    Raises:
        ApportionError: matplotlib is not installed, or there is nothing of this name to show.
    """
    make = figure_class()
    found = rankings(evaluation)
    if not found:
        raise ApportionError("no method has a number in this run; see Evaluation.refusals() for the reasons.")
    if shown == CURVES:
        canvas = _curves(make, evaluation)
    elif shown == COST:
        judged = [ranking for ranking in found if ranking.column.better]
        canvas = _costs(make, evaluation, _named(judged, measure))
    else:
        canvas = _bars(make, _named(found, shown))
    model = visible(str(evaluation.settings.get("model", "")))
    items = len(evaluation)
    heading = f"{model}   {items} item{'' if items == 1 else 's'}"
    canvas.suptitle(heading, x=0.01, ha="left", fontsize=10, color=LIGHT.ink, **VERBATIM)
    return canvas


def _to_the_left(timed: Sequence[Entry], seconds: Mapping[str, float]) -> list[bool]:
    """Whose name stands to the left: those whose neighbour in the ranking, as good and as quick, has the right."""
    span = max(s.mean for s in timed) - min(s.mean for s in timed)
    left = [False] * len(timed)
    for i, (one, other) in enumerate(pairwise(timed)):
        ratio = seconds[one.method] / seconds[other.method]
        if not left[i] and abs(one.mean - other.mean) <= 0.05 * span and 1 / 3 < ratio < 3:
            left[i + 1] = True
    return left


def _named(found: Sequence[Ranking], name: str | None) -> Ranking:
    for ranking in found:
        if name is None or ranking.column.name == name:
            return ranking
    known = ", ".join(ranking.column.name for ranking in found)
    raise ApportionError(f"there is no {name!r} to show; this run has {known}, and {CURVES!r} and {COST!r}.")


def _bars(make: type[matplotlib.figure.Figure], ranking: Ranking) -> matplotlib.figure.Figure:
    entries = ranking.entries
    canvas = make(figsize=(7.2, 1.5 + 0.28 * len(entries)), layout="constrained")
    axes = canvas.add_subplot()
    places = range(len(entries))
    means = [entry.mean for entry in entries]
    axes.barh(places, means, height=0.66, color=[_colour(entry) for entry in entries])
    known = [(place, entry) for place, entry in zip(places, entries, strict=True) if entry.known]
    _whiskers(axes, [place for place, _ in known], [entry for _, entry in known], upright=False)
    if ranking.random is not None:
        axes.axvline(ranking.random.mean, color=QUIET, linewidth=1, linestyle=(0, (3, 2)))
    axes.axvline(0, color=LIGHT.ink, linewidth=0.8)
    axes.set_yticks(places, [entry.method for entry in entries], fontsize=9, **VERBATIM)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "top", "right"]].set_visible(False)
    better = f" ({ranking.column.better} is better)" if ranking.column.better else ""
    axes.set_xlabel(f"{ranking.column.name}{better}: {ranking.column.meaning}", fontsize=8, **VERBATIM)
    axes.set_title(ranking.verdict, fontsize=9, loc="left", wrap=True, **VERBATIM)
    return canvas


def _whiskers(axes: matplotlib.axes.Axes, places: Sequence[float], entries: Sequence[Entry], *, upright: bool) -> None:
    means = [entry.mean for entry in entries]
    arms = [
        [max(0.0, entry.mean - entry.low) for entry in entries],
        [max(0.0, entry.high - entry.mean) for entry in entries],
    ]
    if upright:
        axes.errorbar(places, means, yerr=arms, fmt="none", ecolor=QUIET, elinewidth=1, zorder=1)
    else:
        axes.errorbar(means, places, xerr=arms, fmt="none", ecolor=LIGHT.ink, elinewidth=1, capsize=2.5)


def _colour(entry: Entry) -> str:
    """As on the page: the best and its equals, what is told to beat a random order, and the rest."""
    if entry.method == RANDOM or entry.better_than_random is False:
        return "#c3c8cf"
    return ON_LIGHT[1] if entry.known and entry.tied else LIGHT.background(0.45)


def _curves(make: type[matplotlib.figure.Figure], evaluation: Evaluation) -> matplotlib.figure.Figure:
    table = evaluation.curves()
    names = list(dict.fromkeys(table["curve"]))
    if not names:
        raise ApportionError("this run has no curves; measure 'perturbation-curves' for some.")
    canvas = make(figsize=(1.8 + 4.2 * len(names), 4.2), layout="constrained")
    every = canvas.subplots(1, len(names), squeeze=False, sharey=all(name in LABELS for name in names))[0]
    for axes, name in zip(every, names, strict=True):
        for place, method in enumerate(evaluation.methods):
            rows = table[(table["curve"] == name) & (table["method"] == method)]
            number, dashes = look(place)
            plain = method == RANDOM
            colour = RANDOM_ON_LIGHT if plain else ON_LIGHT[number]
            lengths = tuple(float(length) for length in dashes.split())
            style = (0, lengths) if lengths and not plain else "solid"
            axes.plot(rows["step"], rows["mean"], color=colour, linestyle=style, linewidth=1.5, label=method)
            axes.fill_between(
                rows["step"], rows["low"], rows["high"], color=colour, alpha=0.25 if plain else 0.08, linewidth=0
            )
        axes.set_title(LABELS.get(name, name), fontsize=9, loc="left", **VERBATIM)
        axes.set_xlabel("fraction removed" if name in LABELS else FIRST_TO_LAST, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = every[0].get_legend_handles_labels()
    legend = canvas.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return canvas


def _costs(make: type[matplotlib.figure.Figure], evaluation: Evaluation, ranking: Ranking) -> matplotlib.figure.Figure:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    seconds = {row["method"]: row["seconds"] for row in evaluation.costs().to_dict("records")}
    timed = [entry for entry in ranking.entries if seconds.get(entry.method, 0) > 0]
    canvas = make(figsize=(6.4, 4.6), layout="constrained")
    axes = canvas.add_subplot()
    places = [seconds[entry.method] for entry in timed]
    known = [(place, entry) for place, entry in zip(places, timed, strict=True) if entry.known]
    _whiskers(axes, [place for place, _ in known], [entry for _, entry in known], upright=True)
    axes.scatter(places, [entry.mean for entry in timed], s=28, color=ON_LIGHT[1], zorder=2)
    for entry, left in zip(timed, _to_the_left(timed, seconds), strict=True):
        axes.annotate(
            entry.method,
            (seconds[entry.method], entry.mean),
            xytext=(-6 if left else 6, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=8,
            **VERBATIM,
        )
    random = ranking.random
    if random is not None:
        axes.axhline(random.mean, color=QUIET, linewidth=1, linestyle=(0, (3, 2)), zorder=0)
        if random.known:
            axes.axhspan(random.low, random.high, color=RANDOM_ON_LIGHT, alpha=0.25, linewidth=0, zorder=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("seconds for an item", fontsize=9)
    axes.set_ylabel(f"{ranking.column.name} ({ranking.column.better} is better)", fontsize=9, **VERBATIM)
    return canvas
