"""`apportion audit`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from apportion.cli._app import app, errors_in_one_line, examples, waiting
from apportion.cli._options import (
    SEEN,
    Chat,
    ContrastNames,
    Device,
    Dtype,
    Images,
    LayerMethods,
    MethodName,
    ModelName,
    Place,
    PromptFile,
    PromptText,
    TargetNames,
)
from apportion.cli._request import as_methods, as_place, as_seen, loaded_explainer, method_by_default, prompt_of
from apportion.cli._result import print_json


@app.command(
    epilog=examples(
        'apportion audit -m demo "The capital of France is"',
        'apportion audit -m ./my-model --method cp-lrp --all "Any text that the model reads"',
    )
)
def audit(
    model: ModelName,
    text: PromptText = None,
    file: PromptFile = None,
    image: Images = None,
    chat: Chat = False,
    target: TargetNames = None,
    contrast: ContrastNames = None,
    position: Place = None,
    method: MethodName = None,
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
    with errors_in_one_line():
        said, images = prompt_of(text, file, image, chat=chat)
        with waiting("importing torch and transformers"):
            (chosen,) = as_methods([method or "attnlrp"], from_layer or []).values()
        explainer = loaded_explainer(model, dtype=dtype, device=device)
        prompt = as_seen(said, images, explainer)
        if images and not (method or from_layer):
            chosen = method_by_default(explainer)
        with waiting("auditing"):
            found = explainer.audit(
                prompt, target=target or None, contrast=contrast or None, method=chosen, position=as_place(position)
            )
        if as_json:
            print_json(found.to_dict())
        else:
            from apportion.report.audit import audit_table

            Console(highlight=False).print(audit_table(found, every=every))
        found.check()
