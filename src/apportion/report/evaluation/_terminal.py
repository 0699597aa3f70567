"""The evaluation in a terminal: the means with their intervals, what is best, and what could not be measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from apportion.core import ApportionError
from apportion.report.evaluation._ranking import Entry, Ranking, rankings
from apportion.report.kit import Report, percent, visible
from apportion.results.evaluation import RANDOM, Evaluation

BEST, LEVEL = "*", "≈"
# A measure takes its number and, with the spaces after both, a sign.
SIGN = 4


def evaluation_terminal(evaluation: Evaluation) -> RenderableType:
    """The evaluation as something that `rich.print` can show."""
    return Report(lambda width, coloured: _report(evaluation, width, coloured=coloured))


def _report(evaluation: Evaluation, width: int, *, coloured: bool) -> Iterator[RenderableType]:
    items, methods = len(evaluation), len(evaluation.methods) - 1
    title = Text(
        f"{methods} method{'' if methods == 1 else 's'} on {items} item{'' if items == 1 else 's'}", style="bold"
    )
    yield title.append(f"  {visible(str(evaluation.settings.get('model', '')))}", style="not bold dim")
    if not items:
        yield Text("no item has been measured yet", style="dim")
        return
    right, known = evaluation.accuracy
    if known:
        yield Text(f"the model gets {percent(right / known).lstrip('+')} right: {right} of {known}", style="dim")
    try:
        found = rankings(evaluation)
    except ApportionError as error:
        # Without pandas there are no tables, but the result can still be printed.
        yield Text(str(error), style="dim")
        return
    for block in _blocks(found, width - _names(found)):
        yield Text()
        yield _table(block, found)
    if found:
        yield Text()
        signs = f"{BEST} best   {LEVEL} cannot be told from it   ↑ higher is better   ↓ lower"
        faint = "   dim: not told to be better than random" if coloured else ""
        yield Text(f"mean ± half of its 95% interval   {signs}{faint}", style="dim")
    for refusal in evaluation.refusals().to_dict("records"):
        yield Text(f"{refusal['method']} has no numbers for {refusal['items']} of {items}: {refusal['reason']}", "dim")


def _names(found: Sequence[Ranking]) -> int:
    return max((len(s.method) for ranking in found for s in ranking.entries), default=0)


def _blocks(found: Sequence[Ranking], width: int) -> Iterator[list[Ranking]]:
    """As many measures beside each other as fit."""
    block: list[Ranking] = []
    taken = 0
    for ranking in found:
        cells = SIGN + max(map(len, [_heading(ranking), *(_cell(ranking, s) for s in ranking.entries)]))
        if block and taken + cells > width:
            yield block
            block, taken = [], 0
        block.append(ranking)
        taken += cells
    if block:
        yield block


def _heading(ranking: Ranking) -> str:
    return ranking.column.name + {"higher": " ↑", "lower": " ↓", "": ""}[ranking.column.better]


def _cell(ranking: Ranking, entry: Entry) -> str:
    spread = f" ±{ranking.text((entry.high - entry.low) / 2)}" if entry.known else ""
    return f"{ranking.text(entry.mean)}{spread}"


def _sign(entry: Entry) -> str:
    if entry.best:
        return BEST
    return LEVEL if entry.known and entry.tied else ""


def _table(block: Sequence[Ranking], found: Sequence[Ranking]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, min_width=_names(found))
    headings = [Text("method", style="dim")]
    for ranking in block:
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, min_width=2)
        headings += [Text(_heading(ranking), style="dim"), Text()]
    table.add_row(*headings)
    methods = dict.fromkeys(s.method for ranking in [found[0], *found] for s in ranking.entries)
    for method in methods:
        cells = []
        for ranking in block:
            entry = ranking.of(method)
            if entry is None:
                cells += [Text("–", style="dim"), Text()]
            else:
                style = "bold" if entry.best else "dim" if entry.better_than_random is False else ""
                cells += [Text(_cell(ranking, entry), style=style), Text(_sign(entry))]
        table.add_row(Text(visible(method)), *cells, style="dim" if method == RANDOM else "")
    return table
