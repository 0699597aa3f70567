"""Tiny random models of every architecture in transformers, each with inputs that it runs on."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Literal

import torch
import transformers
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from tests.tiny_configs import SHRINKINGS, tiny_config
from tests.tiny_inputs import Kind, tiny_inputs

Task = Literal[
    "causal_lm",
    "masked_lm",
    "seq2seq_lm",
    "sequence_classification",
    "token_classification",
    "image_classification",
    "zero_shot_image_classification",
    "vision_language",
    "image_tower",
]
Attention = Literal["eager", "sdpa"]

VISION_LANGUAGE = {
    name: entry
    for name, entry in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.items()
    if name not in ("evolla", "mistral4")  # read proteins, and words alone
}
DETECTORS = ("conditional_detr", "dab-detr", "deformable_detr", "detr", "table-transformer", "yolos")
FILMS = ("timesformer", "videomae", "videoprism_vision_model", "vivit")
IMAGE_TOWERS = {
    name: entry
    for name, entry in modeling_auto.MODEL_FOR_IMAGE_MAPPING_NAMES.items()
    if name not in (*DETECTORS, *FILMS, "cohere2_vision", "imagegpt")  # one reads words too, one nothing but
} | {
    "blip": "BlipVisionModel",
    "chinese_clip_vision_model": "ChineseCLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "metaclip_2_vision_model": "MetaClip2VisionModel",
    "pvt_v2": "PvtV2Model",
    "siglip2_vision_model": "Siglip2VisionModel",
}
"""Models that turn an image into features, without a head: what people load as an encoder."""
CLASSES: Mapping[Task, Mapping[str, str | tuple[str, ...]]] = {
    "causal_lm": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "masked_lm": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "seq2seq_lm": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "sequence_classification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "token_classification": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "image_classification": modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "zero_shot_image_classification": modeling_auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "vision_language": VISION_LANGUAGE,
    "image_tower": IMAGE_TOWERS,
}
KINDS: Mapping[Task, Kind] = {
    "causal_lm": "text",
    "masked_lm": "text",
    "seq2seq_lm": "text to text",
    "sequence_classification": "text",
    "token_classification": "text",
    "image_classification": "image",
    "zero_shot_image_classification": "image and text",
    "vision_language": "image in text",
    "image_tower": "image",
}
OTHER_KINDS: Mapping[tuple[Task, str], Kind] = {
    ("image_classification", "imagegpt"): "text",  # its pixels are words
    ("image_classification", "shieldgemma2"): "image in text",
    ("zero_shot_image_classification", "blip-2"): "image in text",
    **dict.fromkeys(
        [("vision_language", name) for name in ("pix2struct", "pp_formulanet", "vision-encoder-decoder")],
        "image to text",
    ),
}
FLOAT32 = frozenset({"canine", "inkling2_text", "kosmos-2", "mra", "xglm"})
"""Architectures whose own code mixes in float32 and so does not run, or overflows, in float64."""

TASKS: tuple[Task, ...] = tuple(CLASSES)
MOST_PARAMETERS = 4e8


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A random model in float64 and inputs such that `model(**inputs)` runs."""

    model: PreTrainedModel
    config: PreTrainedConfig
    inputs: dict[str, Tensor]
    kind: Kind


class CannotBuild(Exception):
    """No tiny model of this architecture runs here; the message says why."""


def names(task: Task) -> tuple[str, ...]:
    """The model types that transformers offers for a task."""
    return tuple(CLASSES[task])


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `TimeoutError` inside the block after `seconds`; main thread only."""

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def build(task: Task, model_type: str, *, attention: Attention = "sdpa", seconds: int = 60) -> TinyModel:
    """A tiny model of one architecture for one task, the same at every call.

    Args:
        task: What the model does.
        model_type: One of `names(task)`.
        attention: How it computes attention; where "sdpa" is not supported, "eager" takes its place.
        seconds: Longest time to try.

    Raises:
        CannotBuild: No tiny configuration gives a model that runs in time; says what each attempt raised.
    """
    failures: list[str] = []
    try:
        with time_limit(seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model_class, config_class = classes(task, model_type)
            kind = OTHER_KINDS.get((task, model_type), KINDS[task])
            for shrinking in SHRINKINGS:
                for implementation in dict.fromkeys((attention, "eager")):
                    try:
                        config = tiny_config(config_class, shrinking, causal=task == "causal_lm")
                        return built(model_class, config, kind, implementation)
                    except TimeoutError:
                        raise
                    except Exception as error:  # anything a model's own code may raise
                        failures.append(reason(error))
    except TimeoutError as error:
        failures.append(str(error))
    raise CannotBuild(f"{model_type}: " + " | ".join(dict.fromkeys(failures)))


def classes(task: Task, model_type: str) -> tuple[type[PreTrainedModel], type[PreTrainedConfig]]:
    """The model's class for a task and the configuration class that goes with it."""
    entry = CLASSES[task][model_type]
    name = entry if isinstance(entry, str) else entry[0]
    model_class = getattr(transformers, name, None)
    if model_class is None:
        raise CannotBuild(f"{model_type}: transformers offers no {name} here, most likely for want of a package")
    return model_class, model_class.config_class or CONFIG_MAPPING[model_type]


def built(model_class: type[PreTrainedModel], config: PreTrainedConfig, kind: Kind, attention: Attention) -> TinyModel:
    """The model with random weights, once it has run on its inputs."""
    config._attn_implementation = attention
    for part in (config, *vars(config).values()):
        if isinstance(part, PreTrainedConfig):
            part._experts_implementation = "eager"
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in model_class(config).parameters())
    if size > MOST_PARAMETERS:
        raise ValueError(f"too big: {size / 1e6:.0f} million parameters")
    torch.manual_seed(0)
    dtype = torch.float32 if config.model_type in FLOAT32 else torch.float64
    model = with_random_weights(model_class(config).to(dtype).eval())
    inputs = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in tiny_inputs(kind, config).items()
    }
    with torch.no_grad():
        settle_batch_norms(model, inputs)
        output = model(**inputs)
    for name, tensor in output.items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"its {name} are not finite in {dtype}")
    return TinyModel(model=model, config=config, inputs=inputs, kind=kind)


def with_random_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Seeded weights, and biases away from 0, so that nothing in the model is without effect."""
    generator = torch.Generator().manual_seed(1)

    def noise(values: Tensor) -> Tensor:
        return torch.randn(values.shape, generator=generator, dtype=values.dtype)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.copy_(noise(parameter) / parameter.shape[-1] ** 0.5)
            elif "bias" in name:
                parameter.add_(0.05 * noise(parameter))
            elif "norm" in name:
                parameter.add_(0.05 * noise(parameter).abs())
            elif ("gate" in name or "alpha" in name) and not parameter.any():
                parameter.add_(0.5)  # a new model keeps these shut
    return model


def settle_batch_norms(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> None:
    """Give batch norms the statistics of what they see; with those of a new model, deep networks fade to nothing."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    generator = torch.Generator().manual_seed(2)
    batch = {name: torch.cat([tensor] * 8) for name, tensor in inputs.items()}
    for name, tensor in batch.items():
        if tensor.is_floating_point():
            batch[name] = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the last batch is all that counts
    model(**batch)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.eval()
        norm.momentum = momentum


def reason(error: Exception) -> str:
    """An error in one line."""
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line[:160]}"
