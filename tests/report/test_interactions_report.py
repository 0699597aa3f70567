"""Reports of interactions: every value can be found from its source and from its target, and the sums are shown."""

import io
import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from rich.console import Console

from apportion import Interactions
from apportion.core._features import Feature
from apportion.report.interactions import _html as _interactions
from apportion.report.interactions._graph import graph_of
from apportion.report.interactions._reading import effects, largest_triples, names
from apportion.report.interactions._terminal import CELL, _small
from apportion.results._explained import Cost, Explained
from tests.report.conftest import features_of
from tests.report.test_report_images import content_of, grid_of

WORDS = ["The", " keys", " to", " the", " keys", "."]


def interactions_of(sources, targets=None, *, seed=0, **fields):
    """Values that differ in size; what targets have by themselves is on the diagonal where they are the sources."""
    square = targets is None
    targets = sources if square else targets
    draws = torch.Generator().manual_seed(seed)
    values = torch.randn(len(sources), len(targets), generator=draws, dtype=torch.float64) ** 3
    alone = 4 + torch.rand(len(targets), generator=draws, dtype=torch.float64)
    if square:
        values.fill_diagonal_(0).diagonal().copy_(alone)
    gap = torch.linspace(-0.1, 0.2, len(targets), dtype=torch.float64)
    fields = {
        "source_of": tuple(range(len(sources))) if square else (None,) * len(targets),
        "standard_errors": values.abs() / 16,
        "options": {"estimator": "exact"},
        **fields,
    }
    return Interactions(
        values=values,
        main_effect=alone,
        first_order=values.sum(0) + gap + (0 if square else alone),
        sources=tuple(sources),
        features=tuple(targets),
        explained=(Explained(label='" are" − " is"', unit="logit difference", value=2.5),),
        index="metagame",
        method="attnlrp",
        evaluations=1023,
        model="gpt2",
        cost=Cost(seconds=12.34, forward=1024, backward=1023),
        **fields,
    )


@pytest.fixture
def text():
    return interactions_of(features_of(WORDS))


@pytest.fixture
def seen():
    """Two words that move six patches."""
    picture, patches = grid_of(2, 3)
    return interactions_of(features_of(["a", " cat"]), patches, pictures=(picture,))


@pytest.fixture
def apart():
    """Three words that move two others."""
    features = features_of(WORDS)
    return interactions_of(features[:3], features[3:5])


def known_of(page):
    """What the page's script knows."""
    (given,) = re.findall(r"content = (\{.*?\});\n", page)
    return json.loads(given)


def tips_of(page, kind):
    return re.findall(rf'<{kind} [^>]*?data-tip="([^"]*)"', page)


def number(shown):
    return float(shown.replace("−", "-"))


def test_the_page_knows_every_value_and_where_each_feature_is(text, seen, apart):
    for found in (text, seen, apart):
        known = known_of(found.to_html())
        for given, expected in zip(known["values"], found.values.tolist(), strict=True):
            assert given == pytest.approx(expected, rel=1e-3)
        for given, expected in zip(known["errors"], found.standard_errors.tolist(), strict=True):
            assert given == pytest.approx(expected, rel=1e-3)
        assert known["own"] == list(found.source_of)
        assert known["square"] == found.square
    assert [side["labels"] for side in known_of(text.to_html())["sides"]] == [
        ["The", "keys (2)", "to", "the", "keys (5)", "."]
    ]
    assert [side["maps"] for side in known_of(seen.to_html())["sides"]] == [[], [0]]


def test_a_page_opens_on_the_first_order_and_what_it_consists_of(text, apart):
    for found in (text, apart):
        tips = tips_of(found.to_html(), "span")[-len(found.features) :]
        for i, (tip, own) in enumerate(zip(tips, found.source_of, strict=True)):
            _, whole, alone, others = tip.split("\n")
            assert whole.endswith(" logit difference, first order")
            expected = found.main_effect[i].item() if own is None else found.values[own, i].item()
            assert number(alone.split()[-1]) == pytest.approx(expected, rel=1e-4)
            rest = sum(found.values[j, i].item() for j in range(len(found.sources)) if j != own)
            assert number(others.split()[-1]) == pytest.approx(rest, rel=1e-4)
            assert number(whole.split()[0]) == pytest.approx(found.first_order[i].item(), rel=1e-4)


def test_words_that_only_give_are_coloured_by_what_they_give_in_all(seen):
    given = [number(tip.split("\n")[1].split()[0]) for tip in tips_of(seen.to_html(), "span")]
    assert given == pytest.approx(seen.values.sum(1).tolist(), rel=1e-4)


def test_words_whose_labels_have_no_space_stand_apart():
    words = [Feature(label=label, kind="word") for label in ("red", "circle")]
    near = [Feature(label=label, start=s, end=e) for label, s, e in (("kitch", 0, 5), ("en", 5, 7), ("table", 8, 13))]
    wide = [Feature(label=label, start=s, end=e) for label, s, e in (("a", 0, 1), ("red", 1, 5))]
    for features, expected in (
        (words, "red circle"),
        (wide, "a red"),
        (near, "kitchen table"),
        (features_of(WORDS), "".join(WORDS)),
    ):
        (shown,) = re.findall(r'<p class="words".*?</p>', interactions_of(features).to_html(), re.DOTALL)
        assert re.sub("<[^>]*>", "", shown) == expected


def test_pictures_show_the_first_order_and_then_each_word(seen):
    page = seen.to_html()
    assert content_of(page)["maps"][0]["scores"] == pytest.approx(seen.first_order.tolist(), rel=1e-4)
    gallery = page.split('<div class="gallery">')[1].split("</figure>")[:2]
    for shown, label, values in zip(gallery, ("a", "cat"), seen.values.tolist(), strict=True):
        assert f"<b>{label}</b>" in shown
        assert number(re.findall(r"together ([^ ]+) logit", shown)[0]) == pytest.approx(sum(values), abs=1e-3)
        largest = seen.values.abs().max().item()
        assert pixels_of(shown) == pytest.approx([round(255 * abs(value) / largest) for value in values], abs=1)


def pixels_of(figure):
    """The opacity of each cell of a heat map."""
    import base64

    from PIL import Image

    (given,) = re.findall(r'<img src="data:image/png;base64,([^"]+)"', figure)
    return list(Image.open(io.BytesIO(base64.b64decode(given))).getchannel("A").tobytes())


def test_the_matrix_sets_what_a_feature_has_by_itself_apart(text, apart):
    page = text.to_html()
    (table,) = re.findall(r'<div class="matrix numbers">.*?</table>', page, re.DOTALL)
    cells = re.findall(r'<td class="(\w+)( own)?" data-tip="([^"]*)">([^<]*)</td>', table)
    assert len(cells) == 36 + 6
    assert [k for k, (_, own, _, _) in enumerate(cells) if own] == [7 * k for k in range(6)]
    assert [number(shown) for *_, shown in cells[:36]] == pytest.approx(text.values.flatten().tolist(), abs=1e-3)
    assert [number(shown) for *_, shown in cells[36:]] == pytest.approx(text.first_order.tolist(), abs=1e-3)
    # Each of the three scales is used up to its end.
    for group in (cells[0:36:7], [c for c in cells[:36] if not c[1]], cells[36:]):
        assert max(int(step[1:]) for step, *_ in group if step != "z") == 24
    errors = [float(tip.split(" ± ")[1].split()[0]) for *_, tip, _ in cells[:36]]
    assert errors == pytest.approx(text.standard_errors.flatten().tolist(), rel=0.06)
    assert page.count("on a scale that ends at") == 1
    assert apart.to_html().count("on a scale that ends at") == 0


def test_the_largest_effects_are_those_of_one_feature_on_another(text):
    by_hand = [(abs(text.values[j, i].item()), j, i) for j in range(6) for i in range(6) if i != j]
    for k in (1, 4, 30, 99):
        expected = sorted(by_hand, key=lambda entry: -entry[0])[:k]
        assert [(e.source, e.target) for e in effects(text, k)] == [(j, i) for _, j, i in expected]
    first = effects(text, 1)[0]
    assert first.value == text.values[first.source, first.target].item()
    assert first.error == text.standard_errors[first.source, first.target].item()


def test_arrows_go_from_source_to_target_above_the_text_if_that_comes_later(text):
    graph = graph_of(text)
    ((slots, middle),) = graph.rows
    assert [slot.label for slot in slots] == [word.strip() for word in WORDS]
    assert all(a.x + a.half == pytest.approx(b.x - b.half, abs=0.2) for a, b in pairwise(slots))
    assert len(graph.arrows) == 30
    widths = [arrow.width for arrow in graph.arrows]
    assert widths == sorted(widths, reverse=True)
    for arrow in graph.arrows:
        start, above, _, end = arrow.curve
        source, target = slots[arrow.effect.source], slots[arrow.effect.target]
        assert abs(start[0] - source.x) < source.half
        assert abs(end[0] - target.x) < target.half
        later = arrow.effect.target > arrow.effect.source
        assert (above[1] < middle, end[1] < arrow.tip, arrow.tip < middle) == (later, later, later)
        highest = 0.25 * start[1] + 0.75 * above[1]  # near a Bézier curve's extreme
        assert 0 < highest < graph.height


def test_other_targets_stand_in_a_line_below(apart):
    graph = graph_of(apart)
    (sources, upper), (targets, lower) = graph.rows
    assert ([s.index for s in sources], [s.index for s in targets]) == ([0, 1, 2], [0, 1])
    for arrow in graph.arrows:
        assert arrow.curve[0][0] == sources[arrow.effect.source].x
        assert arrow.curve[3][0] == targets[arrow.effect.target].x
        assert upper < arrow.curve[0][1] < arrow.curve[3][1] < arrow.tip < lower


def test_an_index_without_direction_shows_each_pair_once_and_without_heads(text):
    found = replace(text, values=text.symmetric, index="shapley-taylor")
    pairs = {(e.source, e.target) for e in effects(found, 99)}
    assert pairs == {(j, i) for i in range(6) for j in range(i)}
    assert len(effects(found, 4)) == 4
    page = found.to_html()
    assert "<polygon" not in page
    assert 'data-way="' not in page
    assert known_of(page)["link"] == "↔"
    shown = repr(found)
    assert "the Shapley–Taylor index" in shown
    assert "→" not in shown
    assert shown.count("↔") == 10


def test_what_is_no_text_has_no_arrows(seen):
    assert graph_of(seen) is None
    assert "<svg width" not in seen.to_html()


def test_special_tokens_neither_set_the_scale_nor_lead_the_lists():
    special, *words = features_of(["<s>", " a", " b"])
    found = interactions_of([replace(special, template=True), *words])
    values = found.values.clone()
    values[0, 1] = 100.0
    found = replace(found, values=values, third=torch.ones(3, 3, 3, dtype=torch.float64))
    largest = max(abs(values[1, 2].item()), abs(values[2, 1].item()))
    assert known_of(found.to_html())["largest"] == pytest.approx(largest)
    assert {(e.source, e.target) for e in effects(found, 9)} == {(1, 2), (2, 1)}
    assert [slot.index for slot in graph_of(found).rows[0][0]] == [1, 2]
    assert all("<s>" not in label for *labels, _ in largest_triples(found, 99) for label in labels)
    assert "without special tokens" in repr(found)
    assert "Special tokens are left out" in found.to_html()


def test_the_accounts_add_up(text, apart):
    for found in (text, apart):
        (table,) = re.findall(r'<div class="sums">(.*?)</table>', found.to_html(), re.DOTALL)
        rows = [re.findall(r'class="number[^"]*">([^<]+)</td>', row) for row in table.split("<tr")[2:]]
        assert len(rows) == len(found.features) + 1
        for row in rows:
            alone, others, first, gap = map(number, row)
            assert alone + others + gap == pytest.approx(first, abs=0.02)  # three digits are shown
        assert [number(row[2]) for row in rows[:-1]] == pytest.approx(found.first_order.tolist(), abs=1e-2)
        assert [number(row[3]) for row in rows[:-1]] == pytest.approx(found.gap.tolist(), abs=1e-3)
        assert number(rows[-1][2]) == pytest.approx(found.first_order.sum().item(), abs=1e-2)


def test_it_says_what_it_took(text):
    for shown in (text.to_html(), repr(text)):
        for said in ("6 tokens move each other", "1,023 coalitions", "1,024 forward", "12.3 s", "largest gap 0.2"):
            assert said in re.sub(r"\s+", " ", shown)


def test_scores_that_do_not_add_up_have_no_accounts(text):
    found = replace(text, index="first-order-pairs")
    assert "gap" not in repr(found)
    assert "Accounts" not in found.to_html()
    assert "from others" not in found.to_html()


def test_the_third_order_is_a_short_list(text):
    third = torch.randn(6, 6, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = replace(text, third=third)
    labels = names(text.sources)
    k, rest = divmod(third.abs().argmax().item(), 36)
    (mover, source, target, shown), *others = largest_triples(found, 10)
    assert (mover, source, target) == (labels[k], labels[rest // 6], labels[rest % 6])
    assert number(shown) == pytest.approx(third[k, rest // 6, rest % 6].item(), abs=1e-3)
    assert len(others) == 9
    assert f"{mover} → ({source} → {target})" in found.to_html()
    assert "Third order" not in text.to_html()


def test_labels_are_text_and_never_markup(odd):
    found = interactions_of(odd.features, third=torch.randn(18, 18, 18, dtype=torch.float64))
    found = replace(
        found, explained=(replace(found.target, label="<b>“$t$”</b>"),), model="<i>m</i>", options={"a": "<u>"}
    )
    for page in (found.to_html(), _interactions.interactions_fragment(found)):
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page
        for tag in ("<b>“", "<i>m", "<u>", "[bold]b[/bold]</script"):
            assert tag not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
    assert all("<" not in line for line in re.findall(r"content = (\{.*?\});\n", found.to_html()))
    assert "\x1b" not in repr(found)
    assert "[bold]b[/bold]" in repr(interactions_of(odd.features[12:14]))


def test_a_notebook_gets_no_script(text, seen):
    for found in (text, seen):
        shown = _interactions.interactions_fragment(found)
        assert "<script" not in shown
        assert "Point at" not in shown
        assert "data-way" not in shown
    assert "<svg width" in text._repr_html_()


def test_too_many_values_are_left_out_of_the_page_which_says_so(text, monkeypatch):
    monkeypatch.setattr(_interactions, "MAX_CELLS", 35)
    monkeypatch.setattr(_interactions, "MAX_TABLE", 5)
    monkeypatch.setattr(_interactions, "MAX_ACCOUNTS", 5)
    page = _interactions.interactions_page(text)
    assert "too many values" in page
    assert "content = " not in page
    assert '<div class="matrix' not in page
    assert page.count('<th scope="row">all</th>') == 1


def test_pages_ask_nothing_of_the_network_and_are_written_whole(text, seen, tmp_path):
    for found in (text, seen):
        page = found.to_html(tmp_path / "a.html")
        assert (tmp_path / "a.html").read_text() == page
        assert not re.findall(r'(?:src|href)="(?!data:)', page)
        assert "prefers-color-scheme: dark" in page


def test_results_without_anything_to_show_still_have_reports():
    alone = interactions_of(features_of(["a"]))
    zeros = interactions_of(features_of(["a", "b"]))
    zeros = replace(zeros, values=torch.zeros(2, 2).double(), standard_errors=None, cost=None, evaluations=0)
    unknown = replace(zeros, values=torch.full((2, 2), float("nan")).double())
    special = interactions_of([Feature(label="[CLS]", template=True), Feature(label="[SEP]", template=True)])
    for found in (alone, zeros, unknown, special):
        assert "first order" in repr(found)
        page = found.to_html()
        assert "Accounts" in page
        assert "NaN" not in str(known_of(page))
    assert graph_of(alone) is graph_of(zeros) is graph_of(special) is None


def test_the_terminal_lists_the_largest_effects_first_with_their_errors(text):
    lines = [line for line in repr(text).splitlines() if " → " in line][1:]
    assert len(lines) == 10
    first = effects(text, 1)[0]
    labels = names(text.sources)
    assert lines[0].startswith(f"  {labels[first.source]} → {labels[first.target]} ")
    sizes = [abs(number(re.findall(r"[+−]\d+\.\d+", line)[0])) for line in lines]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == pytest.approx(abs(first.value), abs=1e-3)
    assert [float(line.split("± ")[1].split()[0]) for line in lines] == pytest.approx([s / 16 for s in sizes], rel=0.06)
    assert "±" not in repr(replace(text, standard_errors=None))


def test_the_terminal_has_a_matrix_where_it_fits(text, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = repr(text)
    row = next(line for line in shown.splitlines() if line.startswith("  to   "))
    cells = [number(cell.strip("()")) for cell in row.split()[1:]]
    assert cells == pytest.approx(text.values[2].tolist(), abs=0.06)
    assert row.split()[3].startswith("(")
    assert "alone" not in shown
    monkeypatch.setenv("COLUMNS", "60")
    assert "first order" not in repr(text)
    monkeypatch.setenv("COLUMNS", "110")
    assert "first order" in repr(interactions_of(features_of(["a"] * 12)))
    assert "first order" not in repr(interactions_of(features_of(["a"] * 13)))


def test_the_terminal_shows_what_targets_that_do_not_play_have_alone(apart):
    line = next(line for line in repr(apart).splitlines() if line.strip().startswith("alone"))
    assert [number(cell) for cell in line.split()[1:]] == pytest.approx(apart.main_effect.tolist(), abs=0.06)


@pytest.mark.parametrize("largest", [3e-7, 0.004, 0.05, 0.7, 4.0, 30.0, 500.0, 1e7])
def test_numbers_of_the_matrix_fit_their_cells(largest):
    for value in (largest, -largest, -largest / 30, 0.0, 7.25, -12.5):
        assert len(_small(value, largest)) <= CELL
    assert number(_small(-largest, largest)) == pytest.approx(-largest, rel=0.5)
    assert _small(-12.5, 0.7) == "−12.5"
    assert _small(-0.125, 0.05) == "−.125"


def test_a_terminal_with_colours_colours_the_effects(text):
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=100, highlight=False)
    console.print(text)
    assert "\x1b[38;2;0;0;0;48;2;" in console.file.getvalue()
