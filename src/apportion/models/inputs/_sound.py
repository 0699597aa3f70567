"""Sound: recordings as the frames of a spectrogram, which a speech model reads."""

from __future__ import annotations

import os
import wave
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.core import ApportionError, Feature, Picture
from apportion.models.inputs._continuous_input import ContinuousInput
from apportion.models.inputs._images import dtype_of
from apportion.models.inputs._prompt import Prompt, tokenizer_of
from apportion.models.inputs._regions import AnyRegions

NAME = "input_features"

#: How many frames of the spectrogram are one feature; Whisper's frames are 10 ms long.
FRAMES = 10

#: Tokens with which a transcript begins, as tokenizers name them.
_BEGINNING = ("<|startoftranscript|>", "<|notimestamps|>")


def prompt_of_sound(given: Mapping[str, Any], model: nn.Module, processor: Any, regions: AnyRegions) -> Prompt:
    """The prompt of a recording.

    Args:
        given: `"audio"`, an array of samples from −1 to 1 or the path of a WAV file; `"sampling_rate"` of an array, in
            samples a second; and `"text"`, the beginning of the transcript, which is otherwise the model's own.
        model: A speech model with a decoder.
        processor: Its processor; or a mapping of `"feature_extractor"` and `"tokenizer"`.
        regions: How many frames are one feature; by default `FRAMES`.

    Raises:
        ApportionError: The recording is missing, empty or too long, or the model reads none.
    """
    extractor = getattr(processor, "feature_extractor", None)
    if extractor is None:
        raise ApportionError("a recording was given but no feature extractor: Explainer(model, processor).")
    samples, rate = _samples(given)
    samples = _resampled(samples, rate, int(extractor.sampling_rate))
    longest = getattr(extractor, "n_samples", None)
    if isinstance(longest, int) and len(samples) > longest:
        raise ApportionError(
            f"the recording is {len(samples) / extractor.sampling_rate:.1f} s long; the model hears "
            f"{longest / extractor.sampling_rate:.0f} s. Give a part of it."
        )
    features = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")[NAME]
    hop = int(getattr(extractor, "hop_length", 160))
    continuous = _continuous_input(features, -(-len(samples) // hop), hop / extractor.sampling_rate, regions)
    prompt = Prompt({NAME: features.to(dtype_of(model))}, continuous.features, {}, continuous_inputs=(continuous,))
    return _begun(prompt, given.get("text"), processor)


def _begun(prompt: Prompt, text: Any, processor: Any) -> Prompt:
    """The prompt with the tokens that a transcript begins with."""
    tokenizer = tokenizer_of(processor)
    if text is not None:
        ids = list(tokenizer.encode(str(text), add_special_tokens=False))
    else:
        ids = list(getattr(tokenizer, "prefix_tokens", None) or [])
        known = tokenizer.get_vocab() if tokenizer is not None and not ids else {}
        ids = ids or [known[token] for token in _BEGINNING if token in known]
    if not ids:
        return prompt
    new = tuple(
        Feature(label=str(tokenizer.convert_ids_to_tokens(token)), positions=(i,), part="decoder", template=True)
        for i, token in enumerate(ids)
    )
    return replace(
        prompt,
        inputs={**prompt.inputs, "decoder_input_ids": torch.tensor([ids])},
        features=prompt.features + new,
        parts={"decoder_input_ids": len(ids)},
    )


def _continuous_input(features: Tensor, heard: int, seconds: float, regions: AnyRegions) -> ContinuousInput:
    """Groups of frames as features; the silence that fills the model's window after the recording is one."""
    bands, length = features.shape[-2:]
    heard = min(max(heard, 1), length)
    if not isinstance(regions, int) and not (isinstance(regions, str) and regions == "patches"):
        raise ApportionError(f"regions={regions!r} does not fit a recording; give how many frames are one feature.")
    group = regions if isinstance(regions, int) else FRAMES
    owner = torch.arange(length) // group
    owner[heard:] = (heard - 1) // group + 1
    count = (heard - 1) // group + 1
    parts = tuple(
        Feature(
            label=f"{k * group * seconds:.2f}–{min((k + 1) * group, heard) * seconds:.2f} s",
            kind="frame",
            positions=(k,),
            part="sound",
            image=0,
        )
        for k in range(count)
    )
    silence = (Feature(label="(after the recording)", kind="frame", positions=(count,), part="sound", template=True),)
    shown = features[0, :, :heard].flip(0)
    low, high = shown.min(), shown.max()
    grey = ((shown - low) / (high - low).clamp_min(1e-12) * 255).round().to(torch.uint8)
    return ContinuousInput(
        name=NAME,
        owner=owner.reshape(1, 1, length),
        features=parts + (silence if heard < length else ()),
        pictures=(
            Picture(
                pixels=grey[..., None].expand(-1, -1, 3).contiguous(),
                owner=owner[:heard].to(torch.int32).expand(bands, -1).contiguous(),
                label="sound",
            ),
        ),
        line="sound",
    )


def _samples(given: Mapping[str, Any]) -> tuple[Float[np.ndarray, " sample"], int]:
    audio = given["audio"]
    if isinstance(audio, str | os.PathLike):
        return _read(Path(audio).expanduser())
    samples = np.asarray(audio, dtype=np.float32)
    rate = given.get("sampling_rate")
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise ApportionError(f"the recording has the shape {samples.shape}; give one channel of finite samples.")
    if not isinstance(rate, int) or rate < 1:
        raise ApportionError(f"sampling_rate={rate!r} is not possible; give the recording's samples a second.")
    return samples, rate


def _read(path: Path) -> tuple[Float[np.ndarray, " sample"], int]:
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except FileNotFoundError as error:
        raise ApportionError(f"there is no file {str(path)!r}.") from error
    except (wave.Error, EOFError, OSError) as error:
        raise ApportionError(f"{str(path)!r} is no WAV file that can be read: {error}.") from error
    if width != 2 or not raw:
        raise ApportionError(
            f"{str(path)!r} has {8 * width} bits a sample; give a WAV file of 16 bits that is not empty."
        )
    samples = np.frombuffer(raw, "<i2").astype(np.float32) / 32768
    return samples.reshape(-1, channels).mean(1), rate


def _resampled(samples: Any, rate: int, wanted: int) -> Any:
    if rate == wanted:
        return samples
    try:
        from scipy.signal import resample_poly
    except ImportError as error:
        raise ApportionError(
            f"the recording has {rate} samples a second and the model hears {wanted}; resampling needs scipy: "
            "pip install scipy."
        ) from error
    divisor = int(np.gcd(rate, wanted))
    return resample_poly(samples, wanted // divisor, rate // divisor).astype(np.float32)
