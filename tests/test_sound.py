"""Sound: a recording's frames as features of a speech model."""

from __future__ import annotations

import wave
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

import apportion as ap
from tests import tiny

RATE, BANDS, FRAMES = 16000, 8, 100


@cache
def speech() -> ap.Explainer:
    config = WhisperConfig(
        vocab_size=tiny.VOCABULARY,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=20,
        decoder_ffn_dim=20,
        num_mel_bins=BANDS,
        max_source_positions=FRAMES // 2,
        max_target_positions=32,
        decoder_start_token_id=2,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=1,
    )
    model = tiny.with_random_weights(WhisperForConditionalGeneration(config))
    extractor = WhisperFeatureExtractor(feature_size=BANDS, chunk_length=1)
    return ap.Explainer(model, SimpleNamespace(feature_extractor=extractor, tokenizer=tiny.tokenizer("seq2seq")))


def tone(seconds: float = 0.45) -> np.ndarray:
    time = np.arange(int(RATE * seconds)) / RATE
    return (0.5 * np.sin(2 * np.pi * 300 * time) * (1 + time)).astype(np.float32)


def given(**more: Any) -> dict[str, Any]:
    return {"audio": tone(), "sampling_rate": RATE, **more}


def test_frames_are_features_and_the_silence_after_the_recording_is_one() -> None:
    found = speech().explain(given())
    sound = [f for f in found.features if f.part == "sound"]
    assert [f.label for f in sound][:2] == ["0.00–0.10 s", "0.10–0.20 s"]
    assert sound[4].label == "0.40–0.45 s"
    assert sound[5].template
    assert len(sound) == 6
    assert found.features[6].part == "decoder"
    assert found.ledger.relative_residual.item() < 1e-6
    assert found.ledger.lines["sound"].item() == pytest.approx(found.scores[:6].sum().item(), abs=1e-9)
    assert found.pictures[0].pixels.shape == (BANDS, 45, 3)


def test_a_group_of_frames_has_what_its_frames_have() -> None:
    single, groups = speech().explain(given(), regions=1), speech().explain(given(), regions=15)
    assert groups.scores[0].item() == pytest.approx(single.scores[:15].sum().item(), abs=1e-12)
    assert groups.scores[2].item() == pytest.approx(single.scores[30:45].sum().item(), abs=1e-12)
    assert groups.scores[3].item() == pytest.approx(single.scores[45].item(), abs=1e-12)


def test_an_answer_is_divided_over_sound_and_earlier_words() -> None:
    generation = speech().generate(given(), max_new_tokens=3)
    found = generation.attribute()
    count = len(generation.ids)
    assert found.scores.shape == (count, len(found.features))
    first = speech().explain(given(), target=generation.ids[0])
    assert torch.allclose(found.scores[0, : len(first.features)], first.scores, atol=1e-9)


def test_a_wav_file_is_the_array_that_it_holds(tmp_path: Path) -> None:
    samples = (tone() * 32767).astype("<i2")
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    of_file = speech().explain({"audio": tmp_path / "tone.wav"})
    of_array = speech().explain({"audio": samples.astype(np.float32) / 32768, "sampling_rate": RATE})
    assert torch.equal(of_file.scores, of_array.scores)


def test_another_rate_is_resampled_to_the_models() -> None:
    time = np.arange(4500) / 10000
    found = speech().explain({"audio": np.sin(2 * np.pi * 300 * time), "sampling_rate": 10000})
    assert found.features[4].label == "0.40–0.45 s"


def test_bad_recordings_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_bytes(b"RIFF....")
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"audio": tmp_path / "none.wav"}, {}, "no file"),
        ({"audio": tmp_path / "no.wav"}, {}, "no WAV file"),
        ({"audio": tone()}, {}, "samples per second"),
        ({"audio": np.zeros((2, 5)), "sampling_rate": RATE}, {}, "one channel"),
        ({"audio": np.full(5, np.nan), "sampling_rate": RATE}, {}, "finite"),
        ({"audio": tone(1.5), "sampling_rate": RATE}, {}, "the model hears 1 s"),
        (given(), {"regions": "pixels"}, "does not fit a recording"),
    ]
    for prompt, options, message in cases:
        with pytest.raises(ap.ApportionError, match=message) as caught:
            speech().explain(prompt, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(ap.ApportionError, match="no feature extractor"):
        ap.Explainer(speech().model).explain(given())
