"""`apportion compare`."""

from __future__ import annotations

from apportion.cli._command import command
from apportion.cli._method import AllMethods, default_for
from apportion.cli._model import Model
from apportion.cli._outputs import Outputs, finish
from apportion.cli._prompt import Prompt, Regions
from apportion.cli._target import Target


@command(
    'apportion compare -m demo "The capital of France is" -t " Paris" -c " London"',
    "apportion compare -m ./my-model --file prompt.txt --method attnlrp --method 'shapley(budget=256)'",
    'apportion compare -m demo --all "The man who owns the dogs" --html all.html',
)
def compare(
    model: Model, prompt: Prompt, target: Target, method: AllMethods, regions: Regions, outputs: Outputs
) -> None:
    """Put methods side by side on one prediction: their shares, their cost, their agreement.

    All share one forward pass. A method that does not support the model is listed with the reason.
    """
    from apportion.engine import COMPARED, named_methods

    explainer = model.explainer(quiet=outputs.quiet)
    asked = prompt.fitting(explainer)
    # The method that would explain the prompt comes first.
    methods = method.asked or {**default_for(explainer, asked, **regions.options), **named_methods(COMPARED)}
    found = explainer.compare(asked, methods=methods, **regions.options, **target.options, progress=not outputs.quiet)
    finish(found, outputs, notes=target.hints(next(iter(found.values()))))
