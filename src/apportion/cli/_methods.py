"""`apportion methods`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from apportion.cli._app import app, errors_in_one_line, examples, waiting
from apportion.cli._options import RUN, AsJson, Device, Dtype, Plugins
from apportion.cli._request import load_plugins, loaded_explainer
from apportion.cli._result import print_json

FAMILIES = {
    "backward": "Backward: relevance or gradients, sent back through the model",
    "forward": "Forward: the forward pass, decomposed",
    "perturbation": "Perturbation: what the model does when features are absent",
    "own": "Your own",
}


@app.command(
    epilog=examples("apportion methods", "apportion methods --model ./my-model", "apportion methods --plugin mine.py")
)
def methods(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="Say which methods can serve this model.", rich_help_panel=RUN
        ),
    ] = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """List all methods: how each finds shares, what it costs, whether its shares sum to the target, its paper.

    With a model, each is tried on a few tokens, and where it cannot serve the model the list says why.
    """
    with errors_in_one_line():
        with waiting("importing torch and transformers"):
            from apportion.methods import METHODS, load_installed_plugins, method_names

            load_installed_plugins()
            load_plugins(plugin)
        refusals: dict[str, str | None] | None = None
        if model is not None:
            explainer = loaded_explainer(model, dtype=dtype, device=device)
            with waiting("trying each method on a few tokens"):
                refusals = explainer.methods()
        found = [
            {"name": name, **vars(METHODS[name].about), **({"refusal": refusals[name]} if refusals is not None else {})}
            for name in method_names()
        ]
        if as_json:
            print_json(found)
        else:
            Console(highlight=False).print(_tables(found))


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
                table.add_row(
                    name, Text("yes" if refusal is None else f"no: {refusal}", style="dim" if refusal else "")
                )
            else:
                table.add_row(name, row["cost"], row["conserves"], Text(row["source"], "dim"))
        parts += [*([Text()] if parts else []), Text(title, style="bold"), table]
    return Group(*parts)
