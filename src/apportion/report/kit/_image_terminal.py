"""Pictures in the terminal: the map in half-blocks, and the largest regions in numbers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from rich.color import Color
from rich.console import RenderableType
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from apportion.report.kit._colour import EITHER, sign_colour
from apportion.report.kit._image_panel import order_of
from apportion.report.kit._image_views import ImageView
from apportion.report.kit._labels import short
from apportion.report.kit._numbers import percent, signed
from apportion.report.kit._paint import strengths
from apportion.report.kit._target_shares import TargetShares

#: Columns of a map, and how many regions are named.
COLUMNS, TOP, TOP_OF_SEVERAL = 40, 6, 3
#: Maps of fewer cells are drawn larger, so that they can be seen: each cell so many columns wide.
LEAST = 24
#: The colour of what belongs to no region.
NOTHING = "#5a5a5a"


def image_lines(
    image_view: ImageView, shares: TargetShares, largest: float, *, coloured: bool, compact: bool = False
) -> Iterator[RenderableType]:
    """A map, where there are colours, and the regions with the largest shares.

    Args:
        image_view: The picture.
        shares: One target.
        largest: Where the colour scale ends.
        coloured: Whether the terminal has colours.
        compact: Whether several targets are shown.
    """
    total = sum(shares.scores[i] for i in image_view.members)
    share = shares.share(total)
    heading = (
        f"{image_view.picture.label}: {len(image_view.members)} {image_view.noun}, together {signed(total, abs(total))}"
    )
    yield Text(heading + ("" if share is None else f", {percent(share)} of {shares.divided_name}"), style="dim")
    if coloured:
        yield Padding(half_blocks(image_view, shares, largest), (0, 0, 0, 2))
    order = order_of(image_view, shares)
    table = Table.grid(padding=(0, 3, 0, 0))
    for column, justify in enumerate(("left", "right", "right")):
        table.add_column(justify=justify, no_wrap=column > 0)  # type: ignore[arg-type]
    for m in order[: TOP_OF_SEVERAL if compact else TOP]:
        score = shares.scores[image_view.members[m]]
        of = shares.share(score)
        table.add_row(
            short(image_view.labels[m], COLUMNS),
            Text(signed(score, largest), style=sign_colour(score) if coloured else ""),
            Text("" if of is None else percent(of), style="dim"),
        )
    yield Padding(table, (0, 0, 0, 2))


def half_blocks(image_view: ImageView, shares: TargetShares, largest: float) -> Text:
    """The map as lines of ▀, each two cells high; a large map is averaged down to the terminal's columns."""
    at = torch.cat(
        [strengths(image_view.of(shares.scores), largest), torch.tensor([float("nan")], dtype=torch.float64)]
    )
    cells = at[image_view.cells]
    rows, columns = cells.shape
    if columns > COLUMNS:
        known = ~cells.isnan()
        size = (max(1, round(rows * COLUMNS / columns)), COLUMNS)
        summed, counted = (
            F.adaptive_avg_pool2d(values[None, None], size)[0, 0]
            for values in (cells.nan_to_num(), known.to(cells.dtype))
        )
        cells = torch.where(counted > 0, summed / counted.clamp_min(1e-12), float("nan"))
        # Averages are paler than what they average, and the colours end at the strongest of them.
        cells = cells / cells.nan_to_num().abs().max().clamp_min(1e-12)
    else:
        times = max(1, LEAST // columns)
        cells = cells.repeat_interleave(times, 0).repeat_interleave(times, 1)
    if len(cells) % 2:
        cells = torch.cat([cells, cells.new_full((1, cells.shape[1]), float("nan"))])
    lines = Text(no_wrap=True)
    for r in range(0, len(cells), 2):
        for upper, lower in zip(cells[r].tolist(), cells[r + 1].tolist(), strict=True):
            lines.append("▀", Style(color=_colour(upper), bgcolor=_colour(lower)))
        lines.append("\n" if r + 2 < len(cells) else "")
    return lines


def _colour(at: float) -> Color:
    return Color.parse(NOTHING if at != at else EITHER.background(at))
