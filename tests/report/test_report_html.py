import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from apportion.report.attribution import _html
from apportion.report.attribution._html import html_fragment, html_page
from apportion.report.kit._colour import DARK, LIGHT
from apportion.report.kit._numbers import exact

VOID = {"meta", "link", "input", "br"}


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

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag, of_class=None):
        return [a for t, a in self.found if t == tag and (of_class is None or of_class in a.get("class", "").split())]


@pytest.fixture(params=["short", "chat", "long", "several", "odd"])
def any_attribution(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("make", [html_page, html_fragment])
def test_every_score_is_on_the_page_exactly(any_attribution, make):
    page = make(any_attribution)
    Elements(page)
    raw = page[page.index('<details class="raw">') :]
    numbers = re.findall(r'<td class="number">([^<]*)</td>', raw)
    dtype = any_attribution.scores.dtype
    wanted = [
        exact(score, dtype)
        for score in any_attribution.scores.reshape(-1, len(any_attribution.features)).T.flatten().tolist()
    ]
    assert numbers == wanted


@pytest.mark.parametrize("make", [html_page, html_fragment])
def test_every_feature_has_a_tooltip_and_a_number(any_attribution, make):
    elements = Elements(make(any_attribution))
    features = elements.all("span", "feature")
    assert len(features) >= any_attribution.scores.numel()
    assert all(f["data-tip"] and f["data-number"] for f in features)


def test_the_tooltip_says_label_value_share_rank_and_position(short):
    keys = Elements(html_page(short)).all("span", "feature")[1]
    assert keys["data-tip"].splitlines() == [
        "“ keys”",
        "+1.412 logit difference",
        "+116.5% of the total",
        "rank 1 of 8",
        "position 1",
    ]


def test_the_tooltip_tells_of_position_scores(short):
    page = html_page(replace(short, position_scores=torch.full((8,), -0.25)))
    assert "its position embedding: −0.25" in page
    assert page.count('<td class="number">-0.25</td>') == 8


def test_step_classes_carry_sign_and_size(short):
    steps = [f["class"].split()[1] for f in Elements(html_page(short)).all("span", "feature")][:8]
    assert steps[1] == "p24"
    assert steps[4] == "n11"
    assert steps[3] == "z"


@pytest.mark.parametrize("make", [html_page, html_fragment])
def test_nothing_is_requested_from_the_network(any_attribution, make):
    page = make(any_attribution)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", page.replace("// Arrow", ""))
    for _, attributes in Elements(page).found:
        assert attributes.get("href", "data:,") == "data:,"
        assert not {"src", "srcset", "action", "poster"} & set(attributes)


@pytest.mark.parametrize("make", [html_page, html_fragment])
def test_labels_are_text_and_never_markup(odd, make):
    odd = replace(odd, method="<u>m</u>", options={"<s>": "</style><script>"})
    page = make(odd)
    elements = Elements(page)
    tags = {tag for tag, _ in elements.found}
    assert not tags & {"u", "s"}
    assert len(elements.all("script")) == (1 if make is html_page else 0)
    assert not [a for _, a in elements.found if set(a) & {"onerror", "onclick"}]
    for label in ("<script>alert('x')</script>", "{{ 7*7 }}", '"&quot;', "$x_1$ costs $5"):
        assert label in "".join(elements.text)
    assert "<b>“$t$”</b>" in "".join(elements.text)
    page.encode()


def test_a_quote_in_a_label_does_not_end_its_attribute(short):
    features = (replace(short.features[0], label='" onmouseover="x'), *short.features[1:])
    elements = Elements(html_page(replace(short, features=features)))
    assert elements.all("span", "feature")[0]["data-tip"].startswith('“" onmouseover="x”')
    assert not [a for _, a in elements.found if "onmouseover" in a]


def test_the_fragment_leaks_no_style_and_needs_no_script(several):
    fragment = html_fragment(several)
    scope = re.match(r'<div class="(apportion-\w+)">', fragment)[1]
    assert "<script" not in fragment
    style = re.search(r"<style>(.*?)</style>", fragment, re.S)[1]
    selectors = re.findall(r"([^{}]+)\{", re.sub(r"@(media|supports)[^{]*\{", "", style))
    assert len(selectors) > 50
    for selector in selectors:
        for single in re.sub(r"\([^()]*\)", "", selector).split(","):
            assert f".{scope}" in single, single
    names = {radio["name"] for radio in Elements(fragment).all("input") if "name" in radio}
    assert all(name.startswith(scope) for name in names)
    assert scope not in html_fragment(several)


def test_the_page_is_the_same_each_time(chat):
    assert html_page(chat) == html_page(chat)


@pytest.mark.parametrize("make", [html_page, html_fragment])
def test_light_and_dark_follow_the_reader(short, make):
    styles = make(short)
    dark = re.search(
        r"@media \(prefers-color-scheme: dark\) \{ \.apportion[\w-]* \{ color-scheme: dark;([^}]*)\}", styles
    )
    assert f"--p24: {DARK.positive[-1]};" in dark[1]
    assert f"--p24: {LIGHT.positive[-1]};" in styles[: dark.start()]


def test_the_ledger_is_a_bar_whose_segments_fill_it(short):
    page = html_page(short)
    segments = re.findall(r'<i style="width:([\d.]+)%" tabindex="0" data-tip="([^"]+)">', page)
    assert sum(float(width) for width, _ in segments) == pytest.approx(100, abs=0.01)
    assert html.unescape(segments[0][1]).startswith("biases\n−0.21 logit difference")
    assert "softmax remainder (12 layers)" in page
    assert "8e−10 relative" in page


def test_without_a_ledger_there_is_no_bar(short):
    page = html_page(replace(short, ledger=None))
    assert "Ledger" not in page
    assert "of all sizes" in page


def test_words_can_be_shown_where_tokens_are_parts_of_words(short, long):
    assert 'class="show-words"' in html_page(short)
    assert ">cabinet</span>" in html_page(short)
    assert 'class="show-words"' not in html_page(long)


def test_every_target_has_a_tab_and_a_panel(several):
    elements = Elements(html_page(several))
    tabs = [i for i in elements.all("input") if i.get("name") == "apportion-target"]
    assert len(tabs) == len(elements.all("section")) == 8
    assert len([t for t in tabs if "checked" in t]) == 1


@pytest.mark.parametrize("make", [html_page, html_fragment])
@pytest.mark.parametrize(("limit", "value", "shown"), [("cells", 40, 3), ("cells", 5, 1), ("targets", 2, 2)])
def test_too_many_targets_are_capped_with_a_note(several, make, limit, value, shown, monkeypatch):
    for name in ["PAGE_CELLS", "FRAGMENT_CELLS"] if limit == "cells" else ["MAX_TARGETS"]:
        monkeypatch.setattr(_html, name, value)
    page = make(several)
    assert len(Elements(page).all("section")) == shown
    assert f"{8 - shown} more" in page


def test_zeros_are_shown_without_colour(short):
    page = html_page(replace(short, scores=torch.zeros(8), ledger=None))
    assert all("z" in f["class"].split() for f in Elements(page).all("span", "feature"))


def test_numbers_are_shown_from_the_start_only_in_short_texts(short, long):
    def switch(attribution):
        return next(i for i in Elements(html_page(attribution)).all("input") if i["class"] == "show-numbers")

    assert "checked" in switch(short)
    assert "checked" not in switch(long)


def test_a_sampled_share_shows_how_uncertain_it_is(short):
    sampled = replace(short, standard_errors=torch.linspace(0.01, 0.08, 8))
    assert html_page(sampled).count("standard error 0.02") >= 1
    assert "standard error" not in html_page(short)
