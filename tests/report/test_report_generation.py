"""An answer's attribution as a page, in the terminal and as a figure."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from apportion.core._features import Feature
from apportion.core._ledger import Ledger
from apportion.report.attribution._answer import of_answer, summed
from apportion.report.attribution._html import html_fragment, html_page
from apportion.report.attribution._page import page
from apportion.results._attribution import Attribution
from apportion.results._explained import Explained

PROMPT = [("<|user|>", True), ("Why", False), (" blue", False), ("?", False), ("<|assistant|>", True)]
ANSWER = [
    ("<think>", "thinking"),
    (" hm", "thinking"),
    ("</think>", "thinking"),
    (" Air", "answer"),
    (" does", "answer"),
]


def answered(labels=ANSWER, unit="logit"):
    features = [
        Feature(label=label, positions=(i,), role="user", turn=0, template=template)
        for i, (label, template) in enumerate(PROMPT)
    ]
    features += [
        Feature(label=label, positions=(len(PROMPT) + i,), part=part, role="assistant", turn=1)
        for i, (label, part) in enumerate(labels)
    ]
    scores = torch.randn(len(labels), len(features), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = scores.tril(len(PROMPT) - 1)
    total = scores.sum(1) + 0.5
    return Attribution(
        scores=scores,
        features=tuple(features),
        explained=tuple(
            Explained(label=f'"{label}"', unit=unit, value=total[t].item(), feature=len(PROMPT) + t)
            for t, (label, _) in enumerate(labels)
        ),
        method="attnlrp",
        model="tiny",
        ledger=Ledger(total=total, lines={"tokens": scores.sum(1), "biases": torch.full_like(total, 0.5)}),
    )


class Spans(HTMLParser):
    """The features on a page, and the data that its script reads."""

    def __init__(self, text):
        super().__init__()
        self.features, self.data, self.tags, self.inside = [], {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag == "span" and "feature" in attributes.get("class", "").split():
            self.features.append(attributes)
        self.inside = attributes.get("id") if tag == "script" else None

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.data[self.inside] = json.loads(data)


def test_a_page_of_an_answer_is_chosen_by_its_targets(several):
    found = answered()
    assert of_answer(found)
    assert not of_answer(several)
    assert 'id="matrix"' in page(found)
    assert page(several) == html_page(several)
    assert page(found[0]) == html_page(found[0])
    assert found.to_html() == page(found)


def test_every_share_is_on_the_page():
    found = answered()
    content = Spans(page(found)).data["content"]
    shares = torch.tensor([target["scores"] for target in content["targets"]], dtype=torch.float64)
    torch.testing.assert_close(shares, found.scores, rtol=1e-4, atol=1e-9)
    assert [target["feature"] for target in content["targets"]] == [e.feature for e in found.explained]
    assert content["labels"] == [f.label for f in found.features]


def test_it_opens_on_the_sum_over_the_answer():
    found = answered()
    shown = Spans(page(found))
    total = torch.tensor(shown.data["total"]["scores"], dtype=torch.float64)
    torch.testing.assert_close(total, found.scores.sum(0), rtol=1e-4, atol=1e-9)
    steps = [feature["class"].split()[1] for feature in shown.features]
    best = int(found.scores.sum(0).abs().argmax())
    assert steps[best] in ("p24", "n24")
    assert shown.data["total"]["unit"] == "logit, summed"
    assert Spans(page(answered(unit="log-probability"))).data["total"]["unit"] == "log-probability"


def test_only_the_answers_tokens_can_be_chosen_and_one_is_reached_by_tab():
    features = Spans(page(answered())).features
    chosen = [feature for feature in features if "data-row" in feature]
    assert [int(feature["data-row"]) for feature in chosen] == list(range(len(ANSWER)))
    assert [feature["tabindex"] for feature in chosen].count("0") == 1
    assert all(feature["role"] == "button" for feature in chosen)


def test_thinking_is_folded_and_labelled():
    shown = page(answered())
    (folded,) = re.findall(r"<details class=\"thinking\">.*?</details>", shown, re.S)
    assert "thinking · assistant · turn 1 · 3 tokens" in folded
    assert folded.count("data-row") == 3
    assert "<details" not in page(answered([(" Air", "answer")]))


def test_nothing_is_requested_and_labels_are_never_markup():
    odd = [
        ("</script><script>alert(1)</script>", "answer"),
        ('"><img src=x onerror=alert(1)>', "answer"),
        ("\u202e", "answer"),
    ]
    text = page(replace(answered(odd), method="<u>m</u>", model="</style>"))
    assert not re.search(r"https?:|url\(|@import", text)
    shown = Spans(text)
    assert not {"img", "u"} & {tag for tag, _ in shown.tags}
    assert len([tag for tag, _ in shown.tags if tag == "script"]) == 3
    assert shown.data["content"]["labels"][len(PROMPT)] == odd[0][0]


def test_the_sum_has_books_that_balance():
    total = summed(answered())
    assert total.target.value == pytest.approx(sum(e.value for e in answered().explained))
    assert total.ledger.residual.item() == pytest.approx(0, abs=1e-12)


def test_the_terminal_has_a_line_for_each_token_with_its_largest_shares():
    found = answered()
    lines = repr(found).splitlines()
    row = next(line for line in lines if line.startswith("does"))
    best = found.features[int(found.scores[-1].abs().argmax())].label.strip()
    assert f"{best} {'+' if found.scores[-1][found.scores[-1].abs().argmax()] > 0 else '−'}" in row
    assert "sum over 5 tokens" in "\n".join(lines)


def test_a_notebook_and_a_figure_show_it_too():
    found = answered()
    assert html_fragment(found).count('<section class="panel') == len(ANSWER)
    (axes, _) = found.plot().axes
    assert axes.images[0].get_array().shape == found.scores.shape
