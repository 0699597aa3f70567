"""What all terminal reports share: colours where the console has them, lines that are not too long."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# Longer lines are hard to read, however wide the terminal.
MAX_WIDTH = 110


class Report:
    """A report that decides on colours when it is printed, since only the console knows whether it has them.

    Args:
        parts: Makes what is shown, line by line, from the width and whether there are colours.
    """

    def __init__(self, parts: Callable[[int, bool], Iterator[RenderableType]]) -> None:
        self.parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        coloured = console.color_system is not None and not console.no_color
        width = min(options.max_width, MAX_WIDTH)
        for renderable in self.parts(width, coloured):
            yield from console.render(renderable, options.update(width=width))
