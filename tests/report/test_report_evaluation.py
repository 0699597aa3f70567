import io
import json
import math
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from apportion.core._errors import ApportionError
from apportion.evaluation import Evaluation

pytest.importorskip("pandas")
pytest.importorskip("scipy")

from apportion.report.evaluation import _charts as charts
from apportion.report.evaluation._ranking import number, rankings
from apportion.report.kit._axis import Axis, reaching
from apportion.report.kit._colour import DARK, LIGHT, contrast
from apportion.report.kit._palette import ON_DARK, ON_LIGHT, look
from apportion.results.evaluation import _summary

VOID = {"meta", "link", "input", "br"}
HOSTILE = '<script>alert("x")</script>'
COLUMNS = [
    {"name": "abpc", "better": "higher", "meaning": "area between the curves", "curve": False},
    {"name": "sufficiency", "better": "lower", "meaning": "what is lost", "curve": False},
    {"name": "length", "better": "", "meaning": "neither end is better", "curve": False},
    {"name": "morf", "better": "", "meaning": "most relevant first", "curve": True},
    {"name": "lerf", "better": "", "meaning": "least relevant first", "curve": True},
]
METHODS = {"attnlrp": 2.0, "gradient": 1.0, "leave-one-out": 2.0, "random": 0.0}


class Elements(HTMLParser):
    """Every element with its attributes, and the text of the page; fails on a tag that is not closed."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open, self.text = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def all(self, tag, of_class):
        return [a for t, a in self.found if t == tag and of_class in a.get("class", "").split()]


def row_of(item, method, *, change=0.0, **fields):
    """attnlrp and leave-one-out swing around the same mean, gradient is 1 below, random at 0."""
    swing = 0.1 * math.sin(item + (3 if method == "leave-one-out" else 0))
    quality = METHODS.get(method, 1.0) + swing + change
    return {
        "item": f"i{item}",
        "method": method,
        "groups": {"attractors": item % 3, "id": item},
        "correct": item % 4 != 0,
        "explained": 3.0,
        "players": 8,
        "values": {"abpc": quality, "sufficiency": -quality, "length": 8.0 + item % 2},
        "curves": {
            "morf": [3.0, 1.5 - quality / 4, 0.0],
            "lerf": [3.0, 1.5 + quality / 4, 0.0],
        },
        "forward": 1.0,
        "backward": 1.0,
        "seconds": None if method == "random" else 0.01 * (1 + len(method)),
        **fields,
    }


def evaluation_of(folder, rows, *, methods=METHODS, **settings):
    settings = {
        "model": "tiny/model",
        "methods": {method: {"name": method} for method in methods},
        "measures": {"perturbation-curves": {"steps": 2}},
        "columns": COLUMNS,
        "masker": "token",
        "seed": 0,
        **settings,
    }
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(settings))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Evaluation.load(folder)


def text_of(page):
    return " ".join("".join(Elements(page).text).split())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(_summary, "RESAMPLES", 200)


@pytest.fixture
def full(tmp_path):
    return evaluation_of(tmp_path / "full", [row_of(i, method) for i in range(24) for method in METHODS])


@pytest.fixture
def one(tmp_path):
    return evaluation_of(tmp_path / "one", [row_of(0, method) for method in METHODS])


@pytest.fixture
def bare(tmp_path):
    """No curves, no groups, no costs, nothing known about being right."""
    gone = {"curves": {}, "groups": {}, "seconds": None, "correct": None}
    return evaluation_of(tmp_path / "bare", [row_of(i, method, **gone) for i in range(5) for method in METHODS])


@pytest.fixture
def refused(tmp_path):
    gone = {"values": {}, "curves": {}, "seconds": None, "refused": "there is no gradient <here>."}
    return evaluation_of(tmp_path / "refused", [row_of(i, method, **gone) for i in range(3) for method in METHODS])


@pytest.fixture
def undefined(tmp_path):
    """One method has no number by a measure, another by none, and a third misses a point of its curve."""
    rows = [row_of(i, method) for i in range(6) for method in METHODS]
    for row in rows:
        if row["method"] == "gradient":
            row["values"] = dict.fromkeys(row["values"])
            row["curves"] = {}
        if row["method"] == "attnlrp":
            row["values"]["abpc"] = None
        if row["method"] == "leave-one-out":
            row["curves"]["morf"][1] = None
    return evaluation_of(tmp_path / "undefined", rows)


@pytest.fixture
def empty(tmp_path):
    return evaluation_of(tmp_path / "empty", [])


@pytest.fixture
def hostile(tmp_path):
    methods = {HOSTILE: 1, "</style><b>": 1, "[red]$x_1$": 1, "random": 0}
    rows = [
        row_of(i, method, groups={HOSTILE: HOSTILE if i % 2 else '" onmouseover="x'})
        for i in range(6)
        for method in methods
    ]
    for row in rows[1::4]:
        row |= {"values": {}, "curves": {}, "seconds": None, "refused": HOSTILE}
    return evaluation_of(
        tmp_path / "hostile", rows, methods=methods, model=HOSTILE, data=HOSTILE, measures={HOSTILE: {"<i>": "<i>"}}
    )


KINDS = ["full", "one", "bare", "refused", "undefined", "empty", "hostile"]


@pytest.fixture(params=KINDS)
def any_evaluation(request):
    return request.getfixturevalue(request.param)


def test_each_method_and_number_is_on_the_page(full):
    text = text_of(full.to_html())
    for ranking in rankings(full):
        for entry in ranking.entries:
            interval = f"[{ranking.text(entry.low)}, {ranking.text(entry.high)}]"
            assert text.count(f"{entry.method}{ranking.text(entry.mean)} {interval}") >= 1
            assert f"{ranking.text(entry.mean)}{interval}" in text
    assert "3 methods on 24 items" in text
    assert "gets 75.0% right: 18 of 24 items" in text
    assert "tiny/model" in text


def test_the_page_is_written_where_asked_and_is_the_same_each_time(full, tmp_path):
    page = full.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page == full.to_html()


@pytest.mark.parametrize("make", ["to_html", "_repr_html_"])
def test_nothing_is_requested_from_the_network(any_evaluation, make):
    page = getattr(any_evaluation, make)()
    assert not re.search(r"https?:|url\(|@import", page)
    for _, attributes in Elements(page).found:
        assert attributes.get("href", "data:,") == "data:,"
        assert not {"src", "srcset", "action", "poster"} & set(attributes)


@pytest.mark.parametrize("make", ["to_html", "_repr_html_"])
def test_names_are_text_and_never_markup(hostile, make):
    elements = Elements(getattr(hostile, make)())
    assert not {tag for tag, _ in elements.found} & {"script", "iframe"}
    assert not [a for _, a in elements.found if "onmouseover" in a]
    text = "".join(elements.text)
    assert text.count(HOSTILE) > 5
    assert "</style><b>" in text


def test_the_fragment_leaks_no_style(full):
    fragment = full._repr_html_()
    scope = re.match(r'<div class="(apportion-\w+)">', fragment)[1]
    style = re.search(r"<style>(.*?)</style>", fragment, re.S)[1]
    selectors = re.findall(r"([^{}]+)\{", re.sub(r"@(media|supports)[^{]*\{", "", style))
    assert len(selectors) > 100
    for selector in selectors:
        for single in re.sub(r"\([^()]*\)", "", selector).split(","):
            assert f".{scope}" in single, single


def test_no_number_of_a_picture_is_undefined(any_evaluation):
    for _, attributes in Elements(any_evaluation.to_html()).found:
        drawn = [attributes.get(name, "") for name in ("d", "x", "y", "cx", "cy", "style")]
        assert not any("nan" in str(value) or "inf" in str(value) for value in drawn), attributes


def test_one_item_has_numbers_without_intervals_and_tells_no_methods_apart(one):
    page = one.to_html()
    assert "3 methods on 1 item<" in page
    assert "One item tells no method from another." in page
    assert not Elements(page).all("i", "whisker")
    assert not Elements(page).all("tr", "best")
    assert not re.search(r"\d ±", repr(one))


def test_without_curves_there_is_no_chart_of_them(bare):
    text = text_of(bare.to_html())
    assert "while tokens are removed" not in text
    assert "Curves of all methods" not in text
    assert "against cost" not in text
    assert "the items right" not in text


def test_where_all_is_refused_the_page_has_the_reasons(refused):
    text = text_of(refused.to_html())
    assert "No method has a number by any measure" in text
    assert text.count("there is no gradient <here>.") == len(METHODS)
    assert "there is no gradient <here>." in repr(refused).replace("\n", " ")


def test_what_is_not_defined_is_a_dash_and_takes_no_rank(undefined):
    (abpc, *_) = rankings(undefined)
    assert [entry.method for entry in abpc.entries] == ["leave-one-out", "random"]
    row = text_of(undefined.to_html()).split("All numbers")[1].split("attnlrp")[1]
    assert row.startswith("–")


def test_a_run_without_items_says_so(empty):
    assert "on 0 items" in empty.to_html()
    assert "no item has been measured yet" in repr(empty)


def test_the_best_and_what_cannot_be_told_from_it_stand_out(full):
    abpc, sufficiency, length = rankings(full)
    for ranking in (abpc, sufficiency):
        kinds = {s.method: (s.tied, s.better_than_random) for s in ranking.entries}
        assert kinds["attnlrp"] == kinds["leave-one-out"] == (True, True)
        assert kinds["gradient"] == (False, True)
        assert kinds["random"] == (False, None)
        assert [s.best for s in ranking.entries] == [True, False, False, False]
        assert [s.method for s in ranking.entries][2:] == ["gradient", "random"]
        assert "cannot be told from it" in ranking.verdict
    assert not any(s.best or s.tied or s.better_than_random for s in length.entries)
    assert [s.method for s in length.entries] == list(METHODS)
    assert length.verdict == ""
    elements = Elements(full.to_html())
    assert len(elements.all("tr", "best")) == 4
    assert len(elements.all("td", "best")) >= 2
    assert len(elements.all("td", "level")) >= 2


def test_a_method_that_does_not_beat_a_random_order_is_shown_as_behind(tmp_path):
    rows = [
        row_of(i, method, change=0.2 * math.cos(5 * i) if method == "gradient" else 0.0)
        for i in range(12)
        for method in ("gradient", "random")
    ]
    for row in rows[::2]:
        row["values"]["abpc"] -= 1.0
    evaluation = evaluation_of(tmp_path / "behind", rows, methods=("gradient", "random"))
    abpc, sufficiency, _ = rankings(evaluation)
    assert abpc.of("gradient").better_than_random is False
    assert abpc.verdict == "No method is told to be better than a random order."
    assert sufficiency.of("gradient").better_than_random
    elements = Elements(evaluation.to_html())
    # With one method, what is behind by a measure stands in its bars alone.
    assert len(elements.all("tr", "behind")) == 1


def test_a_method_that_is_worse_than_a_random_order_is_not_ahead_of_it(tmp_path):
    rows = [row_of(i, m, change=-2.0 if m == "gradient" else 0.0) for i in range(12) for m in METHODS]
    abpc, sufficiency, _ = rankings(evaluation_of(tmp_path / "worse", rows))
    for ranking in (abpc, sufficiency):
        assert [(s.method, s.better_than_random) for s in ranking.entries[2:]] == [
            ("random", None),
            ("gradient", False),
        ]


def test_only_groups_with_few_values_are_broken_down(full):
    text = text_of(full.to_html())
    assert "abpc by attractors" in text
    assert "sufficiency by attractors" in text
    assert "abpc by id" not in text
    means = full.summary(by="attractors")
    wanted = means[(means.method == "attnlrp") & (means.measure == "abpc") & (means.attractors == 1)]
    assert number(float(wanted["mean"].iloc[0]), 2) in text.split("abpc by attractors")[1]


def test_items_that_the_model_gets_right_have_a_table_of_their_own(full, bare):
    own = text_of(full.to_html()).split("Only the 18 items that the model gets right")[1]
    for ranking in rankings(full, only="correct"):
        for entry in ranking.entries:
            assert entry.n == 18
            assert f"[{ranking.text(entry.low)}, {ranking.text(entry.high)}]" in own
    assert "n = 18" in own
    assert "that the model gets right" not in text_of(bare.to_html())


def test_methods_that_remove_tokens_are_named_as_at_home(full):
    assert "Home advantage: leave-one-out found shares by removing" in text_of(full.to_html())


def test_the_terminal_has_each_number_and_fits_a_line(full):
    shown = repr(full)
    for ranking in rankings(full):
        assert ranking.column.name in shown
        for entry in ranking.entries:
            half = ranking.text((entry.high - entry.low) / 2)
            assert f"{ranking.text(entry.mean)} ±{half}" in shown
    assert len(re.findall(r" \*(?= |$)", shown.split("mean ±")[0], re.M)) == 2
    many = [{**COLUMNS[0], "name": f"a_measure_with_a_name_{k}"} for k in range(9)]
    full.settings["columns"] = many
    full.__dict__.pop("_numbers", None)
    rows = (full.path / "rows.jsonl").read_text().splitlines()
    values = {column["name"]: -123.456 for column in many}
    (full.path / "rows.jsonl").write_text("".join(json.dumps(json.loads(r) | {"values": values}) + "\n" for r in rows))
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(full)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 110
    assert all(any(name in line for line in lines) for name in values)


def test_brackets_in_names_are_not_console_markup(hostile):
    assert "[red]$x_1$" in repr(hostile)


def test_a_log_axis_spans_whole_decades_and_a_linear_axis_its_values():
    log = reaching([0.02, 3.0], start=0, end=300, log=True)
    assert log.ticks == [(0, "0.01"), (100, "0.1"), (200, "1"), (300, "10")]
    assert log(0.1) == 100
    linear = reaching([0.0, 1.0, math.nan], start=100, end=0)
    assert linear.low == pytest.approx(-0.04)
    assert [label for _, label in linear.ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert linear(0.5) == 50
    flat = reaching([2.0, 2.0], start=0, end=10)
    assert flat.low < 2 < flat.high
    assert Axis(low=-1, high=1, start=0, end=1).ticks[0] == (0, "−1.0")


def test_labels_of_neighbouring_points_do_not_overlap():
    names = ["attnlrp", "cp-lrp", "gim", "alti-logit"]
    spots = [(120.0, 100.0), (120.0, 104.0), (121.0, 108.0), (122.0, 112.0)]
    boxes = []
    for name, (x, y, anchor) in zip(names, charts._labels(names, spots, right=450), strict=True):
        width = charts.CHARACTER * len(name)
        left = x if anchor == "start" else x - width
        boxes.append((left, y - charts.LINE, left + width, y))
    for i, one in enumerate(boxes):
        assert all(charts._overlap(one, other) == 0 for other in boxes[:i])


def test_colours_of_curves_can_be_seen_and_no_two_methods_look_alike():
    assert all(contrast(colour, LIGHT.surface) >= 3 for colour in ON_LIGHT)
    assert all(contrast(colour, DARK.surface) >= 3 for colour in ON_DARK)
    assert len({look(place) for place in range(21)}) == 21


class TestFigures:
    @pytest.fixture(autouse=True)
    def needed(self):
        pytest.importorskip("matplotlib")

    def test_bars_are_the_means_from_the_best_down(self, full):
        axes = full.plot("sufficiency").axes[0]
        ranking = rankings(full)[1]
        assert [t.get_text() for t in axes.get_yticklabels()] == [s.method for s in ranking.entries]
        assert [bar.get_width() for bar in axes.patches] == pytest.approx([s.mean for s in ranking.entries])
        segments = axes.collections[0].get_segments()
        assert [(a[0], b[0]) for a, b in segments] == [pytest.approx((s.low, s.high)) for s in ranking.entries]

    def test_curves_have_a_line_and_a_band_for_each_method(self, full):
        every = full.plot("curves").axes
        assert len(every) == 2
        assert all(len(axes.lines) == len(axes.collections) == len(METHODS) for axes in every)

    def test_cost_is_against_the_measure_asked_for(self, full):
        axes = full.plot("cost", measure="sufficiency").axes[0]
        assert axes.get_xscale() == "log"
        assert axes.get_ylabel().startswith("sufficiency (lower")
        assert {t.get_text() for t in axes.texts} == set(METHODS) - {"random"}

    @pytest.mark.parametrize("shown", [None, "curves", "cost"])
    @pytest.mark.parametrize("kind", ["full", "one", "hostile", "undefined"])
    def test_every_kind_is_drawn(self, kind, shown, request):
        file = io.BytesIO()
        request.getfixturevalue(kind).plot(shown).savefig(file, dpi=40)
        assert file.getvalue().startswith(b"\x89PNG")

    def test_what_cannot_be_shown_is_refused(self, full, refused, bare):
        with pytest.raises(ApportionError, match="there is no 'nothing' to show; this run has abpc, sufficiency"):
            full.plot("nothing")
        with pytest.raises(ApportionError, match="there is no 'length' to show"):
            full.plot("cost", measure="length")
        with pytest.raises(ApportionError, match="no method has a number"):
            refused.plot()
        with pytest.raises(ApportionError, match="no curves"):
            bare.plot("curves")
