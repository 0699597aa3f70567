"""What a model wrote after a prompt: the data of a generation, which need no model to be seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apportion.core import Feature, Saved, Shown, pandas_module, plain
from apportion.models.inputs import Prompt

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, kw_only=True, repr=False)
class Generated(Shown, Saved):
    """An answer to a prompt, generated or given, as token ids that are never decoded and re-encoded.

    Args:
        prompt: What the model read, without the answer.
        ids: The answer's token ids; the token that ends it is one of them.
        features: All tokens that shares go to: the prompt's and the answer's; those of the answer know their part.
        text: The answer without special tokens; without a tokenizer its ids.
        parts: The answer's texts by part: `"answer"`, and `"thinking"` where markers such as `<think>` set it apart.
        model: Name of the model.
    """

    prompt: Prompt = field(hash=False)
    ids: tuple[int, ...]
    features: tuple[Feature, ...]
    text: str
    parts: dict[str, str] = field(hash=False)
    model: str = ""

    @property
    def tokens(self) -> tuple[str, ...]:
        """The answer's tokens as text."""
        return tuple(feature.label for feature in self.features[-len(self.ids) :])

    def to_frame(self) -> pandas.DataFrame:
        """A pandas table with a row for each token of the prompt and the answer: what it is, and where it stands."""
        before = len(self.features) - len(self.ids)
        return (
            pandas_module()
            .DataFrame([{"token": f.label, "written": i >= before, **f.to_dict()} for i, f in enumerate(self.features)])
            .drop(columns="label")
        )

    def to_dict(self) -> dict[str, Any]:
        """Texts, ids and features in JSON-ready values, without the model's inputs."""
        return {name: plain(getattr(self, name)) for name in ("model", "text", "parts", "ids", "features")}
