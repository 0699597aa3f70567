"""`apportion generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apportion.cli._app import app, errors_in_one_line, examples, note, waiting
from apportion.cli._options import (
    ASKED,
    SEEN,
    WHAT,
    AsJson,
    Chat,
    Device,
    Dtype,
    Images,
    ModelName,
    Plugins,
    PromptFile,
    PromptText,
    Quiet,
    Unit,
)
from apportion.cli._request import as_methods, as_seen, loaded_explainer, method_by_default, prompt_of
from apportion.cli._result import check_outputs, print_json, print_reports, write_files


@app.command(
    epilog=examples(
        'apportion generate -m demo --chat "Why is the sky blue?" --max-new-tokens 40 --html sky.html',
        'apportion generate -m demo --answer " Paris, on the Seine." "The capital of France is"',
        'apportion generate -m ./my-model --file prompt.txt --unit log-probability --of "the second sentence."',
    )
)
def generate(
    model: ModelName,
    text: PromptText = None,
    file: PromptFile = None,
    image: Images = None,
    chat: Chat = False,
    answer: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Explain this answer instead of a generated one.", rich_help_panel=WHAT),
    ] = None,
    of: Annotated[
        str | None,
        typer.Option(
            "--of", metavar="TEXT", help="Only these words of the answer, which occur once.", rich_help_panel=WHAT
        ),
    ] = None,
    unit: Annotated[Unit, typer.Option(help="What is read of an output.", rich_help_panel=WHAT)] = Unit.LOGIT,
    max_new_tokens: Annotated[
        int, typer.Option(metavar="N", help="Where the answer is cut off.", rich_help_panel=WHAT)
    ] = 64,
    do_sample: Annotated[
        bool,
        typer.Option("--do-sample", help="Draw tokens; by default each is the most likely.", rich_help_panel=WHAT),
    ] = False,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="With --do-sample: above 1 is wilder.", rich_help_panel=WHAT)
    ] = 1.0,
    top_p: Annotated[
        float, typer.Option(metavar="P", help="With --do-sample: draw from the likeliest P.", rich_help_panel=WHAT)
    ] = 1.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the drawing.", rich_help_panel=WHAT)] = 0,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Such as attnlrp; 'apportion methods' lists all. Default: attnlrp, and res-lrp for what sees.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    plugin: Plugins = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write a self-contained page to click through.", rich_help_panel=SEEN),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a heat map: .png, .pdf or .svg.", rich_help_panel=SEEN)
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write safetensors for Attribution.load.", rich_help_panel=SEEN),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Let a model answer, and divide every token of the answer among all tokens before it.

    The report shows what the answer as a whole rests on, and each token's largest shares.
    """
    with errors_in_one_line():
        outputs = {name: path for name, path in (("html", html), ("plot", plot), ("save", save)) if path is not None}
        check_outputs(outputs, one_method=True)
        said, images = prompt_of(text, file, image, chat=chat)
        with waiting("importing torch and transformers", quiet=quiet):
            (chosen,) = as_methods([method or "attnlrp"], [], plugin).values()
        explainer = loaded_explainer(model, dtype=dtype, device=device, quiet=quiet)
        prompt = as_seen(said, images, explainer)
        if images and method is None:
            chosen = method_by_default(explainer)
        with waiting("generating", quiet=quiet or answer is not None):
            generation = (
                explainer.answer(prompt, answer)
                if answer is not None
                else explainer.generate(
                    prompt,
                    max_new_tokens=max_new_tokens,
                    do_sample=do_sample,
                    temperature=temperature,
                    top_p=top_p,
                    seed=seed,
                )
            )
        found = generation.attribute(method=chosen, unit=unit.value, of=of, progress=not quiet)
        write_files(found, outputs)
        if as_json:
            answered = {"text": generation.text, "ids": list(generation.ids), "parts": generation.parts}
            print_json({"answer": answered, **found.to_dict()})
        if quiet:
            return
        if not as_json:
            print_reports([found])
        for path in outputs.values():
            note(f"wrote {path}")
