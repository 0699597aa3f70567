"""Reports of pairs: both sides are shown, and every share can be found from either of them."""

import json
import re
from dataclasses import replace

import pytest
import torch

from apportion import Pairwise
from apportion.core._features import Feature
from apportion.core._ledger import Ledger
from apportion.report.pairwise import _html as _pairwise
from apportion.report.pairwise._html import pairwise_fragment, pairwise_page
from apportion.results._explained import Explained
from tests.report.conftest import features_of
from tests.report.test_report_images import content_of, grid_of

SCORES = torch.tensor([[9.0, 0.5, -0.25], [0.1, 0.04, 0.3]], dtype=torch.float64)


def pairwise_of(scores, rows, columns, **fields):
    pairs = scores.sum()
    ledger = Ledger(total=pairs + 0.75, lines={"pairs": pairs, "first × biases of second": torch.tensor(0.75).double()})
    return Pairwise(
        scores=scores,
        rows=tuple(rows),
        columns=tuple(columns),
        row_rest=torch.zeros(len(scores)).double(),
        column_rest=torch.zeros(scores.shape[1]).double(),
        row_values=scores.sum(1),
        column_values=scores.sum(0),
        explained=Explained(label="similarity", unit="cosine", value=ledger.total.item()),
        ledger=ledger,
        method="attnlrp",
        model="encoder",
        **fields,
    )


@pytest.fixture
def texts():
    """A special token whose pair is the largest, then a word; three words."""
    special = Feature(label="[CLS]", positions=(0,), template=True)
    return pairwise_of(SCORES, [special, *features_of([" guitar<b>"])], features_of(["an", " instru", "ment"]))


@pytest.fixture
def mixed():
    """Two words on six patches."""
    picture, patches = grid_of(2, 3)
    scores = torch.arange(12, dtype=torch.float64).reshape(2, 6) / 100 - 0.02
    return pairwise_of(scores, features_of(["a", " cat"]), patches, pictures=(picture,))


@pytest.fixture
def images():
    """Four patches with six."""
    (one, rows), (other, columns) = grid_of(2, 2), grid_of(2, 3)
    columns = [replace(patch, image=1) for patch in columns]
    scores = torch.arange(24, dtype=torch.float64).reshape(4, 6) / 100
    return pairwise_of(scores, rows, columns, pictures=(one, other))


def matrix_of(page):
    (given,) = re.findall(r"content = (\{.*?\});\n", page)
    return json.loads(given)


def test_the_page_knows_every_pair_and_where_each_side_is(mixed, images, texts):
    for pairs in (mixed, images, texts):
        content = matrix_of(pairs.to_html())
        for given, expected in zip(content["scores"], pairs.scores.tolist(), strict=True):
            assert given == pytest.approx(expected, rel=1e-3)
    content = matrix_of(mixed.to_html())
    assert [side["maps"] for side in content["sides"]] == [[], [0]]
    assert [len(side["labels"]) for side in content["sides"]] == [2, 6]
    assert [side["maps"] for side in matrix_of(images.to_html())["sides"]] == [[0], [1]]


def test_a_page_opens_on_what_each_part_has_with_the_whole_other_side(mixed, images):
    assert content_of(mixed.to_html())["maps"][0]["scores"] == pytest.approx(mixed.scores.sum(0).tolist(), rel=1e-4)
    first, second = content_of(images.to_html())["maps"]
    assert first["scores"] == pytest.approx(images.scores.sum(1).tolist(), rel=1e-4)
    assert second["scores"] == pytest.approx(images.scores.sum(0).tolist(), rel=1e-4)
    words = re.findall(r'data-i="(\d)" data-step="(\w+)" data-tip="“[^”]*”\n([^ ]+) cosine', mixed.to_html())
    assert [i for i, _, _ in words] == ["0", "1"]
    assert [step for _, step, _ in words] == ["p2", "p24"]  # 0.03 and 0.39 of 0.39
    assert [float(tip) for _, _, tip in words] == pytest.approx(mixed.scores.sum(1).tolist())


def test_special_tokens_neither_set_the_scale_nor_lead_the_list(texts):
    page = texts.to_html()
    assert matrix_of(page)["largest"] == 0.3
    shown = repr(texts)
    assert "guitar<b> · ment" in shown
    assert "[CLS]" not in shown
    assert "without special tokens" in shown
    assert page.count("may lie beyond") == 1


def test_two_texts_are_a_matrix_and_others_are_not(texts, mixed):
    page = texts.to_html()
    (table,) = re.findall(r'<div class="matrix">.*?</table>', page, re.DOTALL)
    assert table.count("<td class=") == 6
    assert "&lt;b&gt;" in table
    assert "<b>" not in table
    assert '<div class="matrix">' not in mixed.to_html()


def test_the_ledger_is_on_the_page_and_in_the_terminal(mixed):
    for shown in (mixed.to_html(), repr(mixed)):
        assert "first × biases of second" in shown
        assert "+0.750" in shown
        assert "residual" in shown


def test_the_terminal_lists_the_largest_pairs_first(mixed):
    lines = [line for line in repr(mixed).splitlines() if " · " in line]
    assert len(lines) == 10
    assert re.match(r"  cat · patch 1,2 +\+0\.0900", lines[0])
    sizes = [abs(float(re.findall(r"[+−]\d\.\d+", line)[0].replace("−", "-"))) for line in lines]
    assert sizes == sorted(sizes, reverse=True)


def test_a_notebook_gets_no_script(mixed, texts):
    for pairs in (mixed, texts):
        shown = pairwise_fragment(pairs)
        assert "<script" not in shown
        assert "Point at" not in shown
    assert "data:image/png" in mixed._repr_html_()


def test_too_many_pairs_are_left_out_of_the_page_which_says_so(mixed, monkeypatch):
    monkeypatch.setattr(_pairwise, "MAX_CELLS", 11)
    page = pairwise_page(mixed)
    assert "too many pairs" in page
    assert "content = " not in page


def test_pages_ask_nothing_of_the_network_and_are_written_whole(mixed, tmp_path):
    page = mixed.to_html(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text() == page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "prefers-color-scheme: dark" in page


def test_pairs_without_anything_to_show_still_have_a_page():
    zeros = pairwise_of(torch.zeros(1, 1).double(), features_of(["a"]), features_of(["b"]))
    assert matrix_of(zeros.to_html())["largest"] == 0
    assert "a · b" in repr(zeros)
    special = pairwise_of(
        SCORES[:1, :1], [Feature(label="[CLS]", template=True)], [Feature(label="[SEP]", template=True)]
    )
    assert matrix_of(special.to_html())["largest"] == 9.0
    assert "ledger" in repr(special)


def test_the_dictionary_is_json_and_has_every_number(mixed):
    found = json.loads(json.dumps(mixed.to_dict()))
    assert found["scores"] == mixed.scores.tolist()
    assert found["ledger"]["lines"]["pairs"] == mixed.scores.sum().item()
    assert [f["label"] for f in found["columns"]][:2] == ["patch 0,0", "patch 0,1"]
