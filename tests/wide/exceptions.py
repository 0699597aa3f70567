"""The architectures whose books do not balance, or that cannot be tried here, each with its reason.

The wide tests hold this list to what happens: an architecture that is not on it must balance, one that is must not.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.architectures import TASKS, Task, names

REVERSIBLE = "its encoder is one function that defines its own derivative (reversible layers)"
SAMPLED = "estimates attention by hashing, in a function that defines its own derivative"
PROBABILITIES = (
    "returns probabilities, the result of a softmax, which CP-LRP holds constant; it has no logits to explain"
)
NEEDS_PACKAGE = "needs a package that is not installed here: "
CODES = "reads an image as the numbers of the nearest code words, a step without a derivative"
VISUAL_WORDS = "turns an image into a softmax over visual words, which CP-LRP holds constant"
UNMOVED = "boxes only decide which positions are looked up"
SHUFFLED = "its noise only decides which patches are left out"
NO_TINY = "no small configuration that fits together is written down for it yet: "
NEEDS_TIMM = NEEDS_PACKAGE + "timm"
NEEDS_CACHE = "reads the keys and values of another model, so it does not run by itself"


def wherever_offered(model_type: str) -> list[tuple[Task, str]]:
    """All tasks for which transformers offers a model type."""
    return [(task, model_type) for task in TASKS if model_type in names(task)]


NOT_EXACT: Mapping[tuple[Task, str], str] = {
    ("causal_lm", "inkling2_text"): "adds a quotient whose factors are all held constant under CP-LRP",
    **dict.fromkeys(wherever_offered("reformer"), REVERSIBLE),
    **dict.fromkeys(wherever_offered("yoso"), SAMPLED),
    ("vision_language", "ovis2"): VISUAL_WORDS,
    ("zero_shot_image_classification", "videoprism"): PROBABILITIES,
}

NOT_BUILT: Mapping[tuple[Task, str], str] = {
    **dict.fromkeys(wherever_offered("dinat"), NEEDS_PACKAGE + "natten"),
    ("causal_lm", "gemma3n"): NEEDS_TIMM,
    ("causal_lm", "gemma4_assistant"): NEEDS_CACHE,
    ("causal_lm", "gemma4_unified_assistant"): NEEDS_CACHE,
    **dict.fromkeys(wherever_offered("layoutlmv2"), NEEDS_PACKAGE + "detectron2"),
    **dict.fromkeys(wherever_offered("timm_backbone"), NEEDS_TIMM),
    **dict.fromkeys(wherever_offered("timm_wrapper"), NEEDS_TIMM),
    **dict.fromkeys([("vision_language", name) for name in ("fast_vlm", "gemma3n", "perception_lm")], NEEDS_TIMM),
    ("image_tower", "depth_pro"): NO_TINY + "it reads an image at three scales",
    ("vision_language", "deepseek_ocr2"): NO_TINY + "its router takes its number of groups from a checkpoint",
    ("vision_language", "diffusion_gemma"): NO_TINY + "its experts take their number from a checkpoint",
    ("vision_language", "dots3_note"): NO_TINY + "it sets sizes layer by layer, up to the 42nd",
    ("vision_language", "emu3"): NO_TINY + "it needs a vocabulary of image codes",
    ("vision_language", "glm5_next"): NO_TINY + "its indexer pools keys in groups",
    ("vision_language", "granite4_vision"): NO_TINY + "its map of layers comes from a checkpoint",
    ("vision_language", "inkling2"): NO_TINY + "its widths must agree under several names",
    ("vision_language", "molmo2"): NO_TINY + "its adapter names layers that a small model lacks",
    ("vision_language", "nemotron_h_omni"): NO_TINY + "its tower's sizes must agree under several names",
    ("vision_language", "pi0"): "needs a robot's state and actions beside its words",
    ("vision_language", "qwen4_exp"): NO_TINY + "its sparse attention takes its sizes from a checkpoint",
    ("vision_language", "unlimited_ocr"): NO_TINY + "its second encoder has a fixed width",
    ("seq2seq_lm", "voxtral_realtime"): "needs audio beside its words",
}

UNREACHED: Mapping[tuple[Task, str], tuple[tuple[str, ...], str]] = {
    ("vision_language", "chameleon"): (("pixel_values",), CODES),
    ("vision_language", "udop"): (("bbox",), UNMOVED),
    ("image_tower", "vit_mae"): (("noise",), SHUFFLED),
}
"""The inputs at which nothing arrives, of architectures that are exact, and why."""

NO_RESIDUAL_SUMS: Mapping[tuple[Task, str], str] = {
    ("image_classification", "mobilenet_v1"): "a chain of convolutions",
    ("image_classification", "pp_lcnet"): "a chain of convolutions",
    ("image_classification", "textnet"): "a chain of convolutions",
    ("image_tower", "mobilenet_v1"): "a chain of convolutions",
}
"""Where ResLRP is refused, since there is no branch that is added to what it was computed from."""
