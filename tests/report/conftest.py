"""Attributions made by hand, as a method would return them."""

import random

import pytest
import torch

from apportion.core._features import Feature
from apportion.core._ledger import Ledger
from apportion.results._attribution import Attribution
from apportion.results._explained import Explained


def ledger_for(scores, *, layers=12, residual=1e-9):
    """Books that balance up to `residual`, with a line per layer."""
    tokens = scores.double().sum(-1)
    lines = {"tokens": tokens, "positions": 0.1 * tokens + 0.05, "biases": torch.full_like(tokens, -0.21)}
    lines |= {f"softmax remainder, layer {i}": torch.full_like(tokens, 0.01 * (i - 4)) for i in range(layers)}
    details = {
        "biases": {"h.0.mlp.bias": torch.full_like(tokens, -0.2), "h.1.mlp.bias": torch.full_like(tokens, -0.01)}
    }
    return Ledger(total=sum(lines.values()) + residual, lines=lines, details=details)


def attribution_of(scores, features, *, label='" are" − " is"', unit="logit difference", ledger=True, **fields):
    scores = torch.as_tensor(scores)
    books = ledger_for(scores) if ledger else None
    totals = (scores.double().sum(-1) if books is None else books.total).reshape(-1).tolist()
    words = ["It", "is", "blue", "since", "air", "scatters", "more"]
    labels = [label] if scores.ndim == 1 else [f'" {word}"' for word in words]
    names = [labels[i % len(labels)] for i in range(len(totals))]
    fields = {
        "method": "attnlrp",
        "model": "gpt2",
        "prediction": ((" are", 0.612), (" were", 0.201), (" is", 0.052)),
        **fields,
    }
    return Attribution(
        scores=scores,
        features=tuple(features),
        explained=tuple(Explained(label=n, unit=unit, value=t) for n, t in zip(names, totals, strict=True)),
        ledger=books,
        **fields,
    )


def features_of(labels, **fields):
    return [Feature(label=label, positions=(i,), **fields) for i, label in enumerate(labels)]


@pytest.fixture
def short():
    """Eight tokens, both signs, a word of two tokens and one share of exactly 0."""
    labels = ["The", " keys", " to", " the", " cab", "inet", " near", " doors"]
    return attribution_of([0.03, 1.412, -0.051, 0.0, -0.634, -0.2, 0.11, 0.417], features_of(labels))


@pytest.fixture
def chat():
    """A chat of three turns with template tokens that belong to no message."""
    rng = random.Random(3)
    turns = [
        ("system", "You are a careful assistant . Answer in one sentence , and say so when you do not know ."),
        ("user", "Why is the sky blue during the day but red in the evening ?\n\n Please keep it short ."),
        ("assistant", "Because air scatters short waves more"),
    ]
    features, position = [], 0
    for turn, (role, text) in enumerate(turns):
        words = [w if i == 0 or w.startswith("\n") else " " + w for i, w in enumerate(text.split(" "))]
        pieces = [("<|im_start|>", True), (role, True), ("\n", True), *((w, False) for w in words)]
        pieces += [("<|im_end|>", True), ("\n", True)] if turn < 2 else []
        for label, template in pieces:
            known = {} if label == "<|im_start|>" else {"role": role, "turn": turn}
            features.append(Feature(label=label, positions=(position,), template=template, **known))
            position += 1
    scores = torch.tensor([rng.gauss(0.02, 0.1) * rng.choice([0.2, 0.3, 1, 3]) for _ in features])
    return attribution_of(scores, features, label='" than"', unit="logit", model="Qwen/Qwen3-0.6B-Instruct")


@pytest.fixture
def long():
    """A thousand tokens with paragraphs."""
    rng = random.Random(5)
    text = "the of relevance model flows through layers and attention heads , while residual streams carry far"
    words = text.split(" ")
    labels = [("\n" if i % 170 == 169 else " " + rng.choice(words)) for i in range(1000)]
    scores = torch.tensor([rng.gauss(0.003, 0.05) * rng.choice([0.1, 0.2, 0.3, 1, 4]) for _ in labels])
    return attribution_of(scores, features_of(labels), label='" tokens"', unit="logit")


@pytest.fixture
def several():
    """Eight targets of an encoder-decoder over source and decoder features."""
    features = features_of(["Pourquoi", " le", " ciel", " est", "-", "il", " bleu", " ?"], part="source")
    features += features_of(["<pad>", " Why", " is", " the"], part="decoder")
    scores = torch.randn(8, len(features), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return attribution_of(scores, features, unit="log-probability", model="t5-small")


@pytest.fixture
def odd():
    """Labels that break careless reports."""
    labels = [
        "<script>alert('x')</script>",
        " $x_1$ costs $5",
        "\n",
        " ",
        "\t",
        "",
        "שלום",
        " עולם",
        "日本語",
        "👩‍👩‍👧",
        "\x1b[31mred",
    ]
    labels += ["\u202eevil", "[bold]b[/bold]", '"&quot;', "{{ 7*7 }}", "A" * 300, "\ud800", "a\r\n"]
    scores = torch.linspace(-1, 1, len(labels))
    return attribution_of(
        scores, features_of(labels), label="<b>“$t$”</b>", model="<i>m</i>", prediction=(("<u>", 0.5),)
    )
