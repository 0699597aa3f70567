"""The ledger by modality: separate lines for images, words and special tokens."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from apportion.core import Ledger
from apportion.models.inputs import Prompt

SPECIAL = "special tokens"
#: The relative size below which the inputs' line is rounding.
_ROUNDING = 1e-6


def by_modality(ledger: Ledger, prompt: Prompt, scores: Float[Tensor, "targets feature"]) -> Ledger:
    """The ledger with a line for each continuous input and one for special tokens, if the prompt is not only text.

    Special tokens are those of the model itself, such as CLS and registers, and those of the tokenizer's template.
    """
    if not prompt.continuous_inputs:
        return ledger
    lines, details = dict(ledger.lines), {line: dict(entries) for line, entries in ledger.details.items()}
    # Move the shares of continuous inputs and template tokens from the general lines to their own.
    at = 0
    for continuous in prompt.continuous_inputs:
        amount = scores[:, at : at + continuous.count].sum(-1).to(ledger.total)
        at += continuous.count
        lines["inputs"] = lines["inputs"] - amount
        lines[continuous.line] = lines[continuous.line] + amount if continuous.line in lines else amount
    details.pop("inputs", None)
    if bool((lines["inputs"].abs() <= _ROUNDING * ledger.total.abs().clamp_min(1)).all()):
        del lines["inputs"]
    template = [i for i, feature in enumerate(prompt.features) if i >= at and feature.template]
    if template and "tokens" in lines:
        amount = scores[:, template].sum(-1).to(ledger.total)
        lines["tokens"] = lines["tokens"] - amount
        lines[SPECIAL] = lines[SPECIAL] + amount if SPECIAL in lines else amount
        details = {line: entries for line, entries in details.items() if line not in ("tokens", SPECIAL)}
    order = [*dict.fromkeys(continuous.line for continuous in prompt.continuous_inputs), "tokens", SPECIAL]
    return replace(
        ledger, lines={name: lines[name] for name in [*(n for n in order if n in lines), *lines]}, details=details
    )
