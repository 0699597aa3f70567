"""The architectures whose books do not balance, or that cannot be tried here, each with its reason.

The wide tests hold this list to what happens: an architecture that is not on it must balance, one that is must not.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.architectures import TASKS, Task, names

QUANTISED = "computes with rounded integers, in functions that define their own derivative"
REVERSIBLE = "its encoder is one function that defines its own derivative (reversible layers)"
SAMPLED = "estimates attention by hashing, in a function that defines its own derivative"
PROBABILITIES = (
    "returns probabilities, the result of a softmax, which CP-LRP holds constant; it has no logits to explain"
)
NEEDS_PACKAGE = "needs a package that is not installed here: "
NEEDS_CACHE = "reads the keys and values of another model, so it does not run by itself"


def wherever_offered(model_type: str) -> list[tuple[Task, str]]:
    """All tasks for which transformers offers a model type."""
    return [(task, model_type) for task in TASKS if model_type in names(task)]


NOT_EXACT: Mapping[tuple[Task, str], str] = {
    ("causal_lm", "inkling2_text"): "adds a quotient whose factors are all held constant under CP-LRP",
    ("masked_lm", "ibert"): QUANTISED,
    ("sequence_classification", "ibert"): QUANTISED,
    **dict.fromkeys(wherever_offered("reformer"), REVERSIBLE),
    **dict.fromkeys(wherever_offered("yoso"), SAMPLED),
    ("zero_shot_image_classification", "videoprism"): PROBABILITIES,
}

NOT_BUILT: Mapping[tuple[Task, str], str] = {
    **dict.fromkeys(wherever_offered("dinat"), NEEDS_PACKAGE + "natten"),
    ("causal_lm", "gemma3n"): NEEDS_PACKAGE + "timm",
    ("causal_lm", "gemma4_assistant"): NEEDS_CACHE,
    ("causal_lm", "gemma4_unified_assistant"): NEEDS_CACHE,
    **dict.fromkeys(wherever_offered("layoutlmv2"), NEEDS_PACKAGE + "detectron2"),
    ("image_classification", "timm_wrapper"): NEEDS_PACKAGE + "timm",
    ("seq2seq_lm", "voxtral_realtime"): "needs audio beside its words",
}
