"""A generation before it is explained: the prompt and the answer, in the terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from apportion.core import Feature
from apportion.report.kit import as_text, blocks_of, ends_line, environment, text_members, visible


def generation_terminal(features: Sequence[Feature], answered: int, model: str) -> RenderableType:
    """Prompt and answer as text, the answer in bold.

    Args:
        features: All tokens.
        answered: How many at the end are the answer's.
        model: Who wrote it.
    """
    return Group(*_lines(features, answered, model))


def generation_text(features: Sequence[Feature], answered: int, model: str) -> str:
    """The same as text."""
    return as_text(generation_terminal(features, answered, model))


def generation_html(features: Sequence[Feature], answered: int, model: str) -> str:
    """The same for a notebook's output."""

    features = _text(features)

    def token(i: int) -> tuple[str, str, bool]:
        return visible(features[i].label), _style(features, i, answered), ends_line(features[i])

    blocks = [(block.heading, [token(i) for i in block.members]) for block in blocks_of(features)]
    return environment().get_template("generation.html").render(blocks=blocks, answered=answered, model=visible(model))


def _lines(features: Sequence[Feature], answered: int, model: str) -> Iterator[RenderableType]:
    features = _text(features)
    title = Text(visible(model), style="bold")
    yield title.append(f"  {answered} new {'token' if answered == 1 else 'tokens'}", style="not bold dim")
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


def _text(features: Sequence[Feature]) -> list[Feature]:
    return [features[i] for i in text_members(features)]


def _style(features: Sequence[Feature], i: int, answered: int) -> str:
    if features[i].template:
        return "template"
    return "answer" if i >= len(features) - answered else "prompt"
