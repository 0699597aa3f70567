"""Sound: recordings as the frames of a spectrogram for a speech model."""

from __future__ import annotations

import os
import wave
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
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
from apportion.models.inputs._regions import AnyRegions, region_features

NAME = "input_features"

#: The number of frames in a feature; Whisper's frames are 10 ms long.
FRAMES = 10

#: The first tokens of a transcript.
_BEGINNING = ("<|startoftranscript|>", "<|notimestamps|>")


def prompt_of_sound(given: Mapping[str, Any], model: nn.Module, processor: Any, regions: AnyRegions) -> Prompt:
    """The prompt of a recording.

    Args:
        given: `"audio"`, an array of samples from −1 to 1 or the path of a WAV file; `"sampling_rate"` of an array, in
            samples per second; and `"text"`, the beginning of the transcript, by default the model's own.
        model: A speech model with a decoder.
        processor: Its processor; or a mapping of `"feature_extractor"` and `"tokenizer"`.
        regions: The number of frames in a feature; by default `FRAMES`.

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
    """The prompt with the first tokens of a transcript."""
    tokenizer = tokenizer_of(processor)
    if text is not None:
        ids = list(tokenizer.encode(str(text), add_special_tokens=False))
    else:
        ids = list(getattr(tokenizer, "prefix_tokens", None) or [])
        known = tokenizer.get_vocab() if tokenizer is not None and not ids else {}
        ids = ids or [known[token] for token in _BEGINNING if token in known]
    if not ids:
        return prompt
    labels = enumerate(str(tokenizer.convert_ids_to_tokens(token)) for token in ids)
    new = tuple(Feature(label=label, positions=(i,), part="decoder", template=True) for i, label in labels)
    inputs = {**prompt.inputs, "decoder_input_ids": torch.tensor([ids])}
    return replace(prompt, inputs=inputs, features=prompt.features + new, parts={"decoder_input_ids": len(ids)})


def _continuous_input(features: Tensor, heard: int, seconds: float, regions: AnyRegions) -> ContinuousInput:
    """Groups of frames as features; the silence after the recording is one feature."""
    bands, length = features.shape[-2:]
    heard = min(max(heard, 1), length)
    if not isinstance(regions, int) and not (isinstance(regions, str) and regions == "patches"):
        raise ApportionError(f"regions={regions!r} does not fit a recording; give how many frames are one feature.")
    group = regions if isinstance(regions, int) else FRAMES
    count = (heard - 1) // group + 1
    owner = torch.arange(length) // group
    owner[heard:] = count
    ends = [min(k * group, heard) * seconds for k in range(count + 1)]
    labels = [f"{start:.2f}–{end:.2f} s" for start, end in pairwise(ends)]
    parts = region_features(labels, "frame", image=0, part="sound")
    silence = (Feature(label="(after the recording)", kind="frame", positions=(count,), part="sound", template=True),)
    shown = features[0, :, :heard].flip(0)
    low, high = shown.min(), shown.max()
    grey = ((shown - low) / (high - low).clamp_min(1e-12) * 255).round().to(torch.uint8)
    pixels, shown_owner = grey[..., None].expand(-1, -1, 3), owner[:heard].to(torch.int32).expand(bands, -1)
    picture = Picture(pixels=pixels.contiguous(), owner=shown_owner.contiguous(), label="sound")
    features_ = parts + (silence if heard < length else ())
    owner = owner.reshape(1, 1, length)
    return ContinuousInput(name=NAME, owner=owner, features=features_, pictures=(picture,), line="sound")


def _samples(given: Mapping[str, Any]) -> tuple[Float[np.ndarray, " sample"], int]:
    audio = given["audio"]
    if isinstance(audio, str | os.PathLike):
        return _read(Path(audio).expanduser())
    samples = np.asarray(audio, dtype=np.float32)
    rate = given.get("sampling_rate")
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise ApportionError(f"the recording has the shape {samples.shape}; give one channel of finite samples.")
    if not isinstance(rate, int) or rate < 1:
        raise ApportionError(f"sampling_rate={rate!r} is not possible; give the recording's samples per second.")
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
        raise ApportionError(f"{str(path)!r} has {8 * width} bits a sample; give a non-empty WAV file of 16 bits.")
    samples = np.frombuffer(raw, "<i2").astype(np.float32) / 32768
    return samples.reshape(-1, channels).mean(1), rate


def _resampled(samples: Any, rate: int, wanted: int) -> Any:
    if rate == wanted:
        return samples
    try:
        from scipy.signal import resample_poly
    except ImportError as error:
        raise ApportionError(f"resampling from {rate} to {wanted} Hz needs scipy: pip install scipy.") from error
    divisor = int(np.gcd(rate, wanted))
    return resample_poly(samples, wanted // divisor, rate // divisor).astype(np.float32)
