"""Draw `architecture.svg` from the tables of `architecture.md`: floors as rows, the steps of a call as columns."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
ROOM = re.compile(r"^\| `(\w+)` \| .* \|$", re.MULTILINE)
STEP = re.compile(r"^\| \d+ \| `([\w/.]+)` \| `([\w.]+)` \| .* \|$", re.MULTILINE)

ROW, COLUMN, LEFT, TOP, BELOW = 32, 42, 110, 16, 196
INK, PALE, LINE, BAND, PAPER = "#1f2933", "#68727e", "#c2410c", "#f1f3f5", "#ffffff"


def picture(page: str) -> str:
    """The page's tables as SVG, on a background of its own so that dark pages show it too."""
    rooms, steps = ROOM.findall(page), STEP.findall(page)
    visited = [file.partition("/")[0] for file, _ in steps]
    width, height = LEFT + COLUMN * len(steps) + 16, TOP + ROW * len(rooms) + BELOW
    places = [
        (LEFT + COLUMN * k + COLUMN // 2, TOP + ROW * rooms.index(room) + ROW // 2) for k, room in enumerate(visited)
    ]
    parts = [_rect(0, 0, width, height, PAPER)]
    for row, room in enumerate(rooms):
        top = TOP + ROW * row
        if row % 2 == 0:
            parts.append(_rect(0, top, width, ROW, BAND))
        parts.append(_text(14, top + ROW // 2 + 5, room, INK if room in visited else PALE, "font-weight='600'"))
    parts += [_column(x, y, TOP + ROW * len(rooms)) for x, y in places]
    path = " ".join(f"{x},{y}" for x, y in places)
    parts.append(f"<polyline points='{path}' fill='none' stroke='{LINE}' stroke-width='2' stroke-linejoin='round'/>")
    for number, ((x, y), (_, function)) in enumerate(zip(places, steps, strict=True), start=1):
        parts.append(f"<circle cx='{x}' cy='{y}' r='11' fill='{LINE}'/>")
        parts.append(_text(x, y + 4, str(number), PAPER, "text-anchor='middle' font-size='12' font-weight='700'"))
        turned = f"transform='rotate(-90 {x + 4} {height - BELOW + 10})' text-anchor='end' font-size='12'"
        parts.append(_text(x + 4, height - BELOW + 10, function, INK, turned))
    return "\n".join(
        (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
            "font-family='ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace' font-size='14'>",
            "<title>The rooms by floor, and the steps of a call through them</title>",
            *parts,
            "</svg>\n",
        )
    )


def _rect(x: int, y: int, width: int, height: int, colour: str) -> str:
    return f"<rect x='{x}' y='{y}' width='{width}' height='{height}' fill='{colour}'/>"


def _text(x: int, y: int, text: str, colour: str, more: str = "") -> str:
    return f"<text x='{x}' y='{y}' fill='{colour}' {more}>{escape(text)}</text>"


def _column(x: int, top: int, bottom: int) -> str:
    return f"<line x1='{x}' y1='{top}' x2='{x}' y2='{bottom}' stroke='{PALE}' stroke-dasharray='1 4'/>"


if __name__ == "__main__":
    (HERE / "architecture.svg").write_text(picture((HERE.parent / "architecture.md").read_text()))
