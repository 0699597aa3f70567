"""The program: its name, its overview, its exit codes, and its notes on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from apportion.core import ApportionError, NonFiniteRelevance, RuleNotApplied, UnknownOperation

DONE, UNFAITHFUL, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = (
    "[b]Exit codes[/]: 0 done · 1 the model cannot be explained faithfully (an unknown operation, a promised rule that "
    "was not applied, a share that is not finite) · 2 the request does not fit · 130 interrupted."
)

app: typer.Typer = typer.Typer(
    name="apportion",
    help="Divide a transformer's prediction among what caused it, and show that the books balance.",
    epilog=EXIT_CODES,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def examples(*commands: str) -> str:
    return "\n\n".join(["[b]Examples[/]", *(f"  [cyan]{command}[/]" for command in commands), EXIT_CODES])


def _show_version(asked: bool) -> None:
    if asked:
        from apportion import __version__

        typer.echo(f"apportion {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def overview(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Divide a transformer's prediction among what caused it, and show that the books balance."""
    if context.invoked_subcommand is None:
        Console(highlight=False).print(_overview())


def _overview() -> Text:
    from apportion import __version__

    examples = (
        (
            "why Paris rather than London?",
            'apportion explain --model demo "The capital of France is" \\',
            '    --target " Paris" --contrast " London"',
        ),
        (
            "what do other methods say, and do they agree?",
            'apportion compare --model demo "The capital of France is" --html compared.html',
        ),
        ("which method may I believe on my model?", "apportion evaluate --model demo --data agreement --limit 50"),
        ("which methods are there, and which can serve my model?", "apportion methods --model ./my-model"),
        (
            "was every rule of the method applied to this model?",
            'apportion audit --model demo "The capital of France is"',
        ),
    )
    shown = Text(f"apportion {__version__}\n", style="bold")
    shown.append(
        "Divide a transformer's prediction among what caused it, and show that the books balance.\n", style="not bold"
    )
    for task, *lines in examples:
        shown.append(f"\n  # {task}\n", style="not bold dim")
        for line in lines:
            shown.append(f"  {line}\n", style="not bold cyan")
    shown.append("\nMore: ", style="not bold")
    return shown.append("apportion --help", style="not bold cyan")


def note(text: str) -> None:
    typer.echo(text, err=True)


def waiting(doing: str, *, quiet: bool = False) -> AbstractContextManager[Any]:
    """A spinner in the terminal."""
    return nullcontext() if quiet else Console(stderr=True).status(f"{doing} …")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End a command with one line and its exit code when the request or the model does not fit."""
    try:
        yield
    except ApportionError as error:
        note(f"error: {error}")
        unfaithful = isinstance(error, UnknownOperation | RuleNotApplied | NonFiniteRelevance)
        raise typer.Exit(UNFAITHFUL if unfaithful else WRONG_REQUEST) from error
    except KeyboardInterrupt as error:
        note("interrupted")
        raise typer.Exit(INTERRUPTED) from error
