"""Attributions of several prompts: each below the other, and the labels with the largest mean shares."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from apportion.report.attribution import html_fragment
from apportion.report.attribution import terminal as terminal_of_one
from apportion.report.kit import bar_figure, figure_class, largest_size, pages_in_one, signed, visible
from apportion.results import Attributions

if TYPE_CHECKING:
    import matplotlib.figure

#: How many prompts the terminal and a page show.
MOST_LINES, MOST_PARTS = 8, 100
#: How many labels a figure shows.
BARS = 20


def terminal(found: Attributions) -> RenderableType:
    """The first prompts one after another, and what could not be explained."""
    shown = list(found.items())[:MOST_LINES]
    parts = [part for number, one in shown for part in (_heading(number), terminal_of_one(one), Text())]
    return Group(*parts, *(Text(line, style="dim") for line in _rest(found, len(shown))))


def fragment(found: Attributions) -> str:
    """The first prompts one after another, for a notebook's output."""
    return "\n".join(html_fragment(one) for _, one in list(found.items())[:MOST_LINES])


def page(found: Attributions) -> str:
    """The same as one HTML file, with more of the prompts."""
    shown = list(found.items())[:MOST_PARTS]
    parts = [(f"Prompt {number}", html_fragment(one)) for number, one in shown]
    return pages_in_one(f"{len(found)} prompts explained", parts, _rest(found, len(shown)))


def figure(found: Attributions) -> matplotlib.figure.Figure:
    """The labels with the largest shares, in the mean over the places where they stand in any of the prompts."""
    shares: dict[str, list[float]] = defaultdict(list)
    for one in found:
        for target in one:
            for feature, score in zip(target.features, target.scores.tolist(), strict=True):
                if not feature.template:
                    shares[visible(feature.label.strip()) or "␣"].append(score)
    means = {label: sum(scores) / len(scores) for label, scores in shares.items()}
    labels = sorted(means, key=lambda label: -abs(means[label]))[:BARS]
    largest = largest_size(means.values()) or 1.0
    numbers = [f"{signed(means[label], largest)} ({len(shares[label])} ×)" for label in labels]
    canvas, _ = bar_figure(figure_class(), labels, [means[label] for label in labels], numbers)
    canvas.suptitle(f"mean share by label over {len(found)} prompts", x=0.01, ha="left", fontsize=10)
    return canvas


def _heading(number: int) -> Text:
    return Text(f"prompt {number}", style="bold dim")


def _rest(found: Attributions, shown: int) -> list[str]:
    """What is not shown, and what has no attribution."""
    lines = [f"… and {len(found) - shown} more prompts"] if len(found) > shown else []
    failed = list(found.failed.items())
    if failed:
        number, reason = failed[0]
        several = f"{len(failed)} prompts" if len(failed) > 1 else "1 prompt"
        lines.append(f"{several} could not be explained, such as prompt {number}: {visible(reason)}")
    return lines
