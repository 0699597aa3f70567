"""`apportion audit`."""

from __future__ import annotations

from typing import Annotated

import apportion as ap
from apportion.cli._app import waiting
from apportion.cli._command import command, output
from apportion.cli._method import Layers, Method
from apportion.cli._model import Model
from apportion.cli._outputs import Outputs, finish
from apportion.cli._prompt import Prompt
from apportion.cli._target import Output


@command(
    'apportion audit -m demo "The capital of France is"',
    'apportion audit -m ./my-model --method cp-lrp --all "Any text that the model reads"',
)
def audit(
    model: Model,
    prompt: Prompt,
    target: Output,
    method: Method,
    layers: Layers,
    outputs: Outputs,
    every: Annotated[bool, output("--all", help="Show every row; otherwise alike layers are merged.")] = False,
) -> None:
    """Show which rule every operation of a model follows, and whether each promised rule was applied.

    A method promises rules for attention, norms and activations.
    Where a model's code hides one of them, its rule is not applied, and the exit code is 1.
    """
    explainer = model.explainer(quiet=outputs.quiet)
    asked = prompt.fitting(explainer)
    chosen = layers.over(explainer.method(method.chosen, explainer.prompt(asked)))
    with waiting("auditing", quiet=outputs.quiet):
        found = explainer.audit(asked, method=chosen, **target.options)
    finish(found, outputs, shown=ap.report.audit.audit_table(found, every=every))
    found.check()
