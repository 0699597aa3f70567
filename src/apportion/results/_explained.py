"""What was explained, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What one target was: its name, unit and value.

    Args:
        label: As the reader should see it, such as `" are" − " is"`.
        unit: `"logit"`, `"logit difference"`, `"log-probability"`, `"probability"` or a callable's name.
        value: The number that was divided.
        feature: Where the target is itself one of the features, such as a token of an answer: its index.
    """

    label: str
    unit: str
    value: float
    feature: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an attribution took.

    Args:
        seconds: By the clock, without the forward pass that all methods share.
        forward: Forward passes of the model, in examples.
        backward: Backward passes, one a target.
    """

    seconds: float
    forward: float
    backward: float
