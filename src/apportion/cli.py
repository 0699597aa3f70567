"""The command line: parses, calls, writes; holds no mathematics.

Whatever needs torch is imported where it is used, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from apportion._errors import ApportionError, NonFiniteRelevance, RuleNotApplied, UnknownOperation

if TYPE_CHECKING:
    import apportion

DONE, UNFAITHFUL, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130
EXIT_CODES = (
    "[b]Exit codes[/]: 0 done · 1 the model cannot be explained faithfully (an unknown operation, a promised rule that "
    "was not applied, a share that is not finite) · 2 the request does not fit · 130 interrupted."
)
METHODS = "attnlrp, cp-lrp, input-x-gradient"
# A token with a space in front is another token; this much more likely, it is probably the one that was meant.
LIKELIER = 10
FIGURES = (".png", ".pdf", ".svg")

WHAT, ASKED, SEEN, RUN = "What is explained", "How it is explained", "Where the result goes", "How the model runs"


class Unit(StrEnum):
    """What is read of an output."""

    LOGIT = "logit"
    LOG_PROBABILITY = "log-probability"
    PROBABILITY = "probability"


class Features(StrEnum):
    """What the shares go to."""

    TOKENS = "tokens"
    WORDS = "words"


class Positions(StrEnum):
    """What happens to the shares of position embeddings."""

    APART = "apart"
    ADDED = "added"


ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="A folder as save_pretrained writes it, a name on the Hugging Face hub, or 'demo'.",
        rich_help_panel=WHAT,
    ),
]
Dtype = Annotated[str, typer.Option(metavar="TYPE", help="Of the weights, such as bfloat16.", rich_help_panel=RUN)]
Device = Annotated[str, typer.Option(metavar="NAME", help="Such as cpu, cuda or mps.", rich_help_panel=RUN)]
PromptText = Annotated[
    str | None,
    typer.Argument(
        metavar="TEXT",
        help="The prompt, or - to read it from standard input. After -- it may begin with a dash.",
        show_default=False,
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="PATH", help="Read the prompt from a file instead.", rich_help_panel=WHAT),
]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat", help="The prompt is a JSON list of messages, or the text of one user message.", rich_help_panel=WHAT
    ),
]
TargetNames = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        "-t",
        metavar="NAME",
        help="A token or class, with its leading space; may be repeated. Default: the most likely.",
        rich_help_panel=WHAT,
    ),
]
ContrastNames = Annotated[
    list[str] | None,
    typer.Option(
        "--contrast",
        "-c",
        metavar="NAME",
        help="Subtract this output from the target; of several, their mean.",
        rich_help_panel=WHAT,
    ),
]
SpanText = Annotated[
    str | None,
    typer.Option("--span", metavar="TEXT", help="Explain a continuation of several tokens.", rich_help_panel=WHAT),
]
Place = Annotated[
    str | None,
    typer.Option(
        "--position", metavar="INDEX", help="Read the target at this token: its index or text.", rich_help_panel=WHAT
    ),
]
MethodNames = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help=f"{METHODS}. May be repeated; several share one forward pass. Default: attnlrp.",
        rich_help_panel=ASKED,
    ),
]
MethodName = Annotated[str, typer.Option("--method", metavar="NAME", help=f"{METHODS}.", rich_help_panel=ASKED)]
LayerMethods = Annotated[
    list[str] | None,
    typer.Option(
        "--from-layer",
        metavar="N:METHOD",
        help="Follow another method's rules in layer N and above (counted from 0), such as 6:cp-lrp.",
        rich_help_panel=ASKED,
    ),
]

app = typer.Typer(
    name="apportion",
    help="Divide a transformer's prediction among what caused it, and show that the books balance.",
    epilog=EXIT_CODES,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _examples(*commands: str) -> str:
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


@app.command(
    epilog=_examples(
        'apportion explain -m demo "The capital of France is" -t " Paris" -c " London"',
        'apportion explain -m demo "The man who owns the dogs" --method attnlrp --method cp-lrp',
        "apportion explain -m ./my-model --file review.txt --features words --html review.html",
        'echo "Why is the sky blue?" | apportion explain -m demo --chat --json -',
    )
)
def explain(
    model: ModelName,
    text: PromptText = None,
    file: PromptFile = None,
    chat: Chat = False,
    target: TargetNames = None,
    contrast: ContrastNames = None,
    span: SpanText = None,
    unit: Annotated[Unit, typer.Option(help="What is read of an output.", rich_help_panel=WHAT)] = Unit.LOGIT,
    position: Place = None,
    method: MethodNames = None,
    from_layer: LayerMethods = None,
    features: Annotated[Features, typer.Option(help="What the shares go to.", rich_help_panel=ASKED)] = Features.TOKENS,
    positions: Annotated[
        Positions,
        typer.Option(
            help="Shares of learned position embeddings: apart, or added to their tokens.", rich_help_panel=ASKED
        ),
    ] = Positions.APART,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a self-contained page.", rich_help_panel=SEEN)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a figure: .png, .pdf or .svg.", rich_help_panel=SEEN)
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write safetensors for Attribution.load.", rich_help_panel=SEEN),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON and nothing else; several methods by name.", rich_help_panel=SEEN),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print no report and no notes.", rich_help_panel=SEEN)
    ] = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Divide a prediction among the tokens of a prompt.

    The report shows each token's share of the target, and a ledger of all of it.
    Most tokens begin with a space, so a target is written with it: --target " Paris".
    """
    with _errors_in_one_line():
        outputs = {name: path for name, path in (("html", html), ("plot", plot), ("save", save)) if path is not None}
        _check_outputs(outputs, one_method=len(method or ()) < 2)
        prompt = _prompt(_text(text, file), chat=chat)
        asked = _target(target, span, contrast=contrast, unit=unit, position=position)
        with _waiting("importing torch and transformers", quiet=quiet):
            chosen = _methods(method or ["attnlrp"], from_layer or [])
        explainer = _loaded(model, dtype=dtype, device=device, quiet=quiet)
        with _waiting("explaining", quiet=quiet):
            found = explainer.compare(
                prompt,
                methods=chosen,
                target=asked,
                contrast=contrast or None,
                unit=unit.value,
                position=_place(position),
            )
        shown = {name: _as_asked(attribution, features, positions) for name, attribution in found.items()}
        first = next(iter(shown.values()))
        _write(first, outputs)
        if as_json:
            values = {name: attribution.to_dict() for name, attribution in shown.items()}
            _print_json(first.to_dict() if len(values) == 1 else values)
        if quiet:
            return
        if not as_json:
            _print_reports(list(shown.values()))
        for note in (
            *_spacing_hints([*(target or ()), *(contrast or ())], first),
            *(f"wrote {p}" for p in outputs.values()),
        ):
            _note(note)


@app.command(
    epilog=_examples(
        'apportion audit -m demo "The capital of France is"',
        'apportion audit -m ./my-model --method cp-lrp --all "Any text that the model reads"',
    )
)
def audit(
    model: ModelName,
    text: PromptText = None,
    file: PromptFile = None,
    chat: Chat = False,
    target: TargetNames = None,
    contrast: ContrastNames = None,
    position: Place = None,
    method: MethodName = "attnlrp",
    from_layer: LayerMethods = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every row; otherwise alike layers are merged.", rich_help_panel=SEEN)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with every row, and nothing else.", rich_help_panel=SEEN)
    ] = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Show what every operation of a model was taken for, and whether each promised rule was applied.

    A method promises rules for attention, norms and activations.
    Where a model's code hides one of them, its rule is not applied, and the exit code is 1.
    """
    with _errors_in_one_line():
        prompt = _prompt(_text(text, file), chat=chat)
        with _waiting("importing torch and transformers"):
            (chosen,) = _methods([method], from_layer or [])
        explainer = _loaded(model, dtype=dtype, device=device)
        with _waiting("auditing"):
            found = explainer.audit(
                prompt, target=target or None, contrast=contrast or None, method=chosen, position=_place(position)
            )
        if as_json:
            _print_json(asdict(found))
        else:
            from apportion.report._audit import audit_table

            Console(highlight=False).print(audit_table(found, every=every))
        found.check()


def _overview() -> Text:
    from apportion import __version__

    examples = (
        (
            "why Paris rather than London?",
            'apportion explain --model demo "The capital of France is" \\',
            '    --target " Paris" --contrast " London"',
        ),
        (
            "two methods on your own model, by words",
            "apportion explain --model ./my-model --file prompt.txt \\",
            "    --method attnlrp --method cp-lrp --features words",
        ),
        (
            "was every rule of the method applied to this model?",
            'apportion audit --model demo "The capital of France is"',
        ),
    )
    shown = Text(f"apportion {__version__}\n", style="bold")
    shown.append(
        "Divide a transformer's prediction among what caused it, and show that the books balance.\n", style="not bold"
    )
    for question, *lines in examples:
        shown.append(f"\n  # {question}\n", style="not bold dim")
        for line in lines:
            shown.append(f"  {line}\n", style="not bold cyan")
    shown.append("\nMore: ", style="not bold")
    shown.append("apportion explain --help", style="not bold cyan")
    shown.append(" and ", style="not bold")
    return shown.append("apportion audit --help", style="not bold cyan")


def _text(text: str | None, file: Path | None) -> str:
    """The prompt's text from where the user has it; of a file or a pipe, the newline at its end is left off."""
    if (text is None) == (file is None):
        given = "no prompt was given" if text is None else "a text and --file were both given"
        raise ApportionError(f"{given}; give a text, - for standard input, or --file PATH.")
    if file is not None:
        try:
            return _decoded(file.read_bytes(), f"the file {str(file)!r}")
        except OSError as error:
            raise ApportionError(f"cannot read {str(file)!r}: {error.strerror}.") from error
    assert text is not None
    if text == "-":
        return _decoded(sys.stdin.buffer.read(), "standard input")
    if os.path.isfile(text):
        # Either reading would be a guess, and its heat map would look right.
        raise ApportionError(
            f"{text!r} is a file here: give --file {text} to explain what it holds, or pipe the name itself into -."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ApportionError("the text is not valid UTF-8; is it from another encoding?") from error
    return text


def _decoded(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ApportionError(f"{source} is not UTF-8 text (byte {error.start}); convert it first.") from error


def _prompt(text: str, *, chat: bool) -> str | list[dict[str, Any]]:
    """The text as the explainer takes it: itself, or the messages of a chat."""
    if not chat:
        return text
    if not text.lstrip().startswith("["):
        return [{"role": "user", "content": text}]
    try:
        messages = json.loads(text)
    except json.JSONDecodeError as error:
        raise ApportionError(f"--chat: the prompt begins with [ but is no JSON list of messages: {error}.") from error
    if not all(isinstance(m, dict) and isinstance(m.get("role"), str) and m.get("content") for m in messages):
        raise ApportionError(
            '--chat: each message needs a role and a content, such as [{"role": "user", "content": "Hi"}].'
        )
    return messages


def _target(
    targets: list[str] | None, span: str | None, *, contrast: list[str] | None, unit: Unit, position: str | None
) -> Any:
    """What `explain` takes as its target."""
    if span is None:
        return targets[0] if targets and len(targets) == 1 else targets or None
    if targets or contrast or position is not None or unit is not Unit.LOGIT:
        raise ApportionError(
            "--span is explained by its log-probability, alone: leave out --target, --contrast, --unit and --position."
        )
    from apportion import Span

    return Span(span)


def _place(position: str | None) -> int | str | None:
    """A position as an index where it is one, else as a token's text."""
    try:
        return None if position is None else int(position)
    except ValueError:
        return position


def _methods(names: Sequence[str], layers: Sequence[str]) -> list[apportion.Method]:
    """The methods of these names, with other methods' rules from some layers upwards."""
    from apportion.methods import Propagation, as_method

    def propagation(name: str) -> Propagation:
        method = as_method(name)
        if not isinstance(method, Propagation):
            raise ApportionError(f"--from-layer is for methods that follow rules of operations; {name!r} does not.")
        return method

    if not layers:
        return [as_method(name) for name in names]
    composites = [propagation(name).composite for name in names]
    for given in layers:
        layer, _, other = given.partition(":")
        if not layer.isdecimal() or not other:
            raise ApportionError(f"--from-layer {given!r} is not of the form N:METHOD, such as 6:cp-lrp.")
        composites = [c.from_layer(int(layer), propagation(other).composite) for c in composites]
    return [as_method(composite) for composite in composites]


def _loaded(model: str, *, dtype: str, device: str, quiet: bool = False) -> apportion.Explainer:
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as transformers_logging

    from apportion import load

    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        transformers_logging.set_verbosity_error()
    if "HF_HUB_VERBOSITY" not in os.environ:
        hub_logging.set_verbosity_error()
    local = Path(model).is_dir()
    if not (local or quiet or model == "demo" or model.startswith((".", "/"))):
        _note(f"looking for {model!r} in the Hugging Face hub's cache and on the hub …")
    # A download and the demo's conversion show their own progress.
    with _waiting("loading the model", quiet=quiet or not local):
        return load(model, dtype=dtype, device=device)


def _as_asked(attribution: apportion.Attribution, features: Features, positions: Positions) -> apportion.Attribution:
    if positions is Positions.ADDED:
        attribution = attribution.with_positions()
    return attribution.words() if features is Features.WORDS else attribution


def _check_outputs(outputs: dict[str, Path], *, one_method: bool) -> None:
    """Refuse a path that cannot be written before anything is computed."""
    if outputs and not one_method:
        raise ApportionError(f"--{next(iter(outputs))} takes one method; with several, print the report or --json.")
    for path in outputs.values():
        if not path.parent.is_dir():
            raise ApportionError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}.")
        if path.is_dir():
            raise ApportionError(f"cannot write {str(path)!r}: it is a folder; name a file in it.")
        if not os.access(path.parent, os.W_OK):
            raise ApportionError(f"cannot write {str(path)!r}: no permission to write in {str(path.parent)!r}.")
    plot = outputs.get("plot")
    if plot is not None and plot.suffix.lower() not in FIGURES:
        raise ApportionError(f"cannot draw {str(plot)!r}: a figure's name ends in {', '.join(FIGURES)}.")


def _write(attribution: apportion.Attribution, outputs: dict[str, Path]) -> None:
    """Write each file whole; all are drawn before the first is written."""
    from apportion._attribution import write_atomically

    contents: dict[Path, bytes] = {}
    if "html" in outputs:
        contents[outputs["html"]] = attribution.to_html().encode()
    if "plot" in outputs:
        drawn = io.BytesIO()
        attribution.plot().savefig(drawn, format=outputs["plot"].suffix[1:].lower(), dpi=160)
        contents[outputs["plot"]] = drawn.getvalue()
    try:
        for path, content in contents.items():
            write_atomically(path, content)
        if "save" in outputs:
            attribution.save(outputs["save"])
    except OSError as error:
        raise ApportionError(f"cannot write {error.filename!r}: {error.strerror}.") from error


def _spacing_hints(given: Sequence[str], attribution: apportion.Attribution) -> Iterator[str]:
    """For a token typed without its leading space: that the one with the space was the likely one."""
    probabilities = dict(attribution.prediction)
    explained = " ".join(target.label for target in attribution.explained)
    for name in given:
        spaced = f" {name}"
        # Some tokenizers add the space themselves; then the quoted name is not what was explained.
        if probabilities.get(spaced, 0) > LIKELIER * probabilities.get(name, 0) and f'"{name}"' in explained:
            yield (
                f'hint: "{name}" was explained; "{spaced}", with a space in front, is another token, predicted with '
                f"{100 * probabilities[spaced]:.1f}%."
            )


def _print_reports(attributions: Sequence[apportion.Attribution]) -> None:
    console = Console(highlight=False)
    for i, attribution in enumerate(attributions):
        if i:
            console.print()
        console.print(attribution)


def _print_json(values: Any) -> None:
    typer.echo(json.dumps(values, indent=2, allow_nan=False))


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _waiting(doing: str, *, quiet: bool = False) -> AbstractContextManager[Any]:
    """A sign of life where somebody watches the terminal."""
    return nullcontext() if quiet else Console(stderr=True).status(f"{doing} …")


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """End a command with one line and its exit code when the request or the model does not fit."""
    try:
        yield
    except ApportionError as error:
        _note(f"error: {error}")
        unfaithful = isinstance(error, UnknownOperation | RuleNotApplied | NonFiniteRelevance)
        raise typer.Exit(UNFAITHFUL if unfaithful else WRONG_REQUEST) from error
    except KeyboardInterrupt as error:
        _note("interrupted")
        raise typer.Exit(INTERRUPTED) from error
