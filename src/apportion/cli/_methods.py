"""`apportion methods`."""

from __future__ import annotations

from typing import Annotated, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from apportion.cli._app import waiting
from apportion.cli._command import command, running
from apportion.cli._method import Plugins
from apportion.cli._model import Runs
from apportion.cli._outputs import Printed, finish

FAMILIES = {
    "backward": "Backward: relevance or gradients, propagated back through the model",
    "forward": "Forward: the forward pass, decomposed",
    "perturbation": "Perturbation: how the target changes when features are removed",
    "own": "Your own",
}


@command("apportion methods", "apportion methods --model ./my-model", "apportion methods --plugin mine.py")
def methods(
    runs: Runs,
    plugins: Plugins,
    outputs: Printed,
    model: Annotated[
        str | None, running("--model", "-m", metavar="NAME", help="Show which methods support this model.")
    ] = None,
) -> None:
    """List all methods: how each computes shares, its cost, whether its shares sum to the target, its paper.

    With a model, each is tried on a few tokens, and the list says why a method does not support the model.
    """
    from apportion.methods import METHODS, load_installed_plugins, method_names

    load_installed_plugins()
    refusals: dict[str, str | None] | None = None
    if model is not None:
        explainer = runs.load(model, quiet=outputs.quiet)
        with waiting("trying each method on a few tokens", quiet=outputs.quiet):
            refusals = explainer.methods()
    found = [
        {"name": name, **vars(METHODS[name].about), **({"refusal": refusals[name]} if refusals is not None else {})}
        for name in method_names()
    ]
    finish(found, outputs, shown=_tables(found), values=lambda: found)


def _tables(found: list[dict[str, Any]]) -> Group:
    """A table per family, all with columns of the same width."""
    width = max(len(row["name"]) for row in found)
    tried = "refusal" in found[0]
    parts: list[RenderableType] = []
    for family, title in FAMILIES.items():
        members = [row for row in found if row["family"] == family]
        if not members:
            continue
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("method", width=width, no_wrap=True)
        for heading in ("serves this model",) if tried else ("cost", "sums to the target", "source"):
            table.add_column(heading, ratio=1)
        for row in members:
            refusal = row.get("refusal")
            name = Text(row["name"], style="dim" if refusal else "bold")
            if tried:
                answer = "yes" if refusal is None else f"no: {refusal}"
                table.add_row(name, Text(answer, style="dim" if refusal else ""))
            else:
                table.add_row(name, row["cost"], row["conserves"], Text(row["source"], "dim"))
        parts += [*([Text()] if parts else []), Text(title, style="bold"), table]
    return Group(*parts)
