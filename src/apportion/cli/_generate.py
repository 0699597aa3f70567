"""`apportion generate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from apportion.cli._app import waiting
from apportion.cli._command import Options, command, given, what
from apportion.cli._method import Method
from apportion.cli._model import Model
from apportion.cli._outputs import Outputs, finish
from apportion.cli._prompt import Prompt
from apportion.cli._target import UnitOption


@dataclass(frozen=True, kw_only=True)
class Decoding(Options):
    """How the answer is generated, as `Explainer.generate` takes it."""

    max_new_tokens: Annotated[
        int | None, what("--max-new-tokens", metavar="N", help="Where the answer is cut off. Default: 64.")
    ] = None
    do_sample: Annotated[bool, what("--do-sample", help="Draw tokens; by default each is the most likely.")] = False
    temperature: Annotated[
        float | None, what("--temperature", metavar="T", help="With --do-sample: above 1 is wilder.")
    ] = None
    top_p: Annotated[
        float | None, what("--top-p", metavar="P", help="With --do-sample: draw from the likeliest P.")
    ] = None
    seed: Annotated[int | None, what("--seed", metavar="N", help="Of the drawing.")] = None


@command(
    'apportion generate -m demo --chat "Why is the sky blue?" --max-new-tokens 40 --html sky.html',
    'apportion generate -m demo --answer " Paris, on the Seine." "The capital of France is"',
    'apportion generate -m ./my-model --file prompt.txt --unit log-probability --of "the second sentence."',
)
def generate(
    model: Model,
    prompt: Prompt,
    decoding: Decoding,
    method: Method,
    outputs: Outputs,
    answer: Annotated[
        str | None, what("--answer", metavar="TEXT", help="Explain this answer instead of a generated one.")
    ] = None,
    of: Annotated[
        str | None, what("--of", metavar="TEXT", help="Only these words of the answer, which occur once.")
    ] = None,
    unit: UnitOption = None,
) -> None:
    """Let a model answer, and divide every token of the answer among all tokens before it.

    The report shows the sources of the answer as a whole, and each token's largest shares.
    """
    explainer = model.explainer(quiet=outputs.quiet)
    asked = prompt.fitting(explainer)
    with waiting("generating", quiet=outputs.quiet or answer is not None):
        if answer is None:
            generation = explainer.generate(asked, **given(**vars(decoding)))
        else:
            generation = explainer.answer(asked, answer)
    found = generation.attribute(method=method.chosen, **given(unit=unit, of=of), progress=not outputs.quiet)
    answered = {"text": generation.text, "ids": list(generation.ids), "parts": generation.parts}
    finish(found, outputs, values=lambda: {"answer": answered, **found.to_dict()})
