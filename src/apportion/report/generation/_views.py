"""A generation before it is explained: the prompt and the answer in the terminal, in a notebook, on a page, drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from apportion.core import Feature
from apportion.report.kit import (
    LIGHT,
    VERBATIM,
    blocks_of,
    ends_line,
    environment,
    figure_class,
    strip_figure,
    surface,
    target_shares_of,
    text_members,
    visible,
)
from apportion.results import Explained, Generated

if TYPE_CHECKING:
    import matplotlib.figure

# How strong the answer's colour is in a figure, of what the colour scale has.
STRENGTH = 0.3


def generation_terminal(found: Generated) -> RenderableType:
    """Prompt and answer as text, the answer in bold."""
    return Group(*_lines(found))


def generation_fragment(found: Generated) -> str:
    """The same for a notebook's output."""
    return environment().get_template("generation.html").render(_context(found))


def generation_page(found: Generated) -> str:
    """The same as one HTML file."""
    title = f"{found.model}: {visible(found.text)[:60]}"
    return environment().get_template("generation_page.html").render(**surface(), **_context(found), title=title)


def generation_figure(found: Generated) -> matplotlib.figure.Figure:
    """Prompt and answer as text, the answer on a colour."""
    features = _text(found)
    before = len(features) - len(found.ids)
    scores = [float(i >= before) for i in range(len(features))]
    target = Explained(label=found.text, unit="", value=0.0)
    canvas, _ = strip_figure(figure_class(), target_shares_of(target, features, scores, largest=1 / STRENGTH))
    canvas.suptitle(_title(found), x=0.01, ha="left", fontsize=10, color=LIGHT.ink, **VERBATIM)
    return canvas


def _context(found: Generated) -> dict[str, Any]:
    features = _text(found)

    def token(i: int) -> tuple[str, str, bool]:
        return visible(features[i].label), _style(features, i, len(found.ids)), ends_line(features[i])

    blocks = [(block.heading, [token(i) for i in block.members]) for block in blocks_of(features)]
    return {"blocks": blocks, "answered": len(found.ids), "model": visible(found.model)}


def _lines(found: Generated) -> Iterator[RenderableType]:
    features, answered = _text(found), len(found.ids)
    model = Text(visible(found.model), style="bold")
    yield model.append(_title(found).removeprefix(visible(found.model)), style="not bold dim")
    for block in blocks_of(features):
        if block.heading:
            yield Text(block.heading, style="dim")
        text = Text()
        for i in block.members:
            style = {"template": "dim", "answer": "bold", "prompt": ""}[_style(features, i, answered)]
            text.append(visible(features[i].label), style=style)
            if ends_line(features[i]) and i != block.members[-1]:
                text.append("\n")
        yield Padding(text, (0, 0, 0, 2 if block.heading else 0))


def _title(found: Generated) -> str:
    return f"{visible(found.model)}  {len(found.ids)} new {'token' if len(found.ids) == 1 else 'tokens'}"


def _text(found: Generated) -> list[Feature]:
    return [found.features[i] for i in text_members(found.features)]


def _style(features: list[Feature], i: int, answered: int) -> str:
    if features[i].template:
        return "template"
    return "answer" if i >= len(features) - answered else "prompt"
