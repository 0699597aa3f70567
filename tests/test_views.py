"""Views: every result has the whole set, and finds its view by its type."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

import apportion
from apportion import ApportionError, Attribution
from apportion.core import _entry_points, _shown
from apportion.core._shown import Shown, view_of
from apportion.report import View, register_view
from tests import every_result
from tests.every_result import MAKERS

SET = ("to_html", "plot", "to_frame", "to_dict", "save", "load", "_repr_html_", "__rich__", "__repr__")


VOID = {"meta", "link", "input", "br", "img"}


class Closed(HTMLParser):
    """Fails on a tag that is not closed."""

    def __init__(self, page):
        super().__init__()
        self.open = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def own_views(monkeypatch):
    monkeypatch.setattr(_shown, "_VIEWS", dict(_shown._VIEWS))


@pytest.fixture(params=MAKERS)
def result(request, tmp_path):
    return MAKERS[request.param](tmp_path)


def test_every_result_has_the_whole_set(result):
    assert [name for name in SET if not callable(getattr(result, name, None))] == []
    assert type(result).__repr__ is Shown.__repr__


def test_every_public_result_is_among_the_examples(tmp_path):
    made = {type(maker(tmp_path / name)) for name, maker in MAKERS.items() if (tmp_path / name).mkdir() is None}
    public = {getattr(apportion, name) for name in apportion.__all__}
    assert {kind for kind in public if isinstance(kind, type) and issubclass(kind, Shown)} - {Shown} <= made


def test_every_result_is_seen(result, tmp_path):
    page = result.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page
    assert page.startswith("<!doctype html>")
    Closed(page)
    fragment = result._repr_html_()
    Closed(fragment)
    assert "<html" not in fragment
    console = Console(file=io.StringIO(), width=80)
    console.print(result)
    assert [line.rstrip() for line in console.file.getvalue().splitlines()] == repr(result).splitlines()
    assert 20 < len(repr(result)) < 4000


def test_every_result_is_drawn(result):
    drawn = io.BytesIO()
    result.plot().savefig(drawn, format="png")
    assert len(drawn.getvalue()) > 2000


def test_every_result_is_a_table_and_json(result):
    assert len(result.to_frame()) > 1
    assert len(json.dumps(result.to_dict(), allow_nan=False)) > 100


def test_a_large_audit_is_shown_briefly():
    rows = tuple(apportion.relevance.AuditRow(f"h.{i}.mlp", "Mul", "product", "½", 1) for i in range(2000))
    audit = apportion.Audit(apportion.ATTNLRP, rows, 2000, 2000, ())
    assert len(repr(audit)) < 1000
    assert "h.*.mlp" in audit.to_html()
    assert len(audit.to_frame()) == 2000


def test_the_figures_options_are_the_views():
    with pytest.raises(TypeError, match="colour"):
        every_result.attribution().plot(colour="red")


@dataclass(frozen=True, repr=False)
class Spectrum(Shown):
    """A result of a plugin."""

    loudest: float


def of_spectrum(words):
    return View(
        terminal=lambda found: Text(f"{words} {found.loudest}"),
        fragment=lambda found: f"<p>{words}</p>",
        page=lambda found: f"<html>{words}</html>",
        figure=lambda found, height=1: Figure(figsize=(1, height)),
    )


def test_a_plugin_s_result_is_seen_by_its_view_and_its_subclasses_too(own_views):
    register_view(Spectrum, of_spectrum("loudest at"))

    class Finer(Spectrum):
        pass

    for found in (Spectrum(440.0), Finer(440.0)):
        assert repr(found) == "loudest at 440.0"
        assert found.to_html() == "<html>loudest at</html>"
        assert found._repr_html_() == "<p>loudest at</p>"
        assert found.plot(height=3).get_figheight() == 3
    register_view(Finer, of_spectrum("nearest to"))
    assert repr(Finer(440.0)) == "nearest to 440.0"
    assert repr(Spectrum(440.0)) == "loudest at 440.0"


def test_without_a_view_a_result_still_has_a_line_and_says_what_to_do():
    assert re.match(r"<Spectrum: there is no view of Spectrum: [^\n]*>$", repr(Spectrum(440.0)))
    for use in (Spectrum(1.0).to_html, Spectrum(1.0).plot, Spectrum(1.0)._repr_html_):
        with pytest.raises(ApportionError, match=r"no view of Spectrum: .* install the package again \(pip install -e"):
            use()


def test_views_are_brought_by_entry_points_when_one_is_first_wanted(own_views, monkeypatch):
    """A package that names the module with its views is enough."""

    class Entry:
        def load(self):
            register_view(Spectrum, of_spectrum("from a package,"))

    asked = []
    monkeypatch.setattr(_entry_points, "entry_points", lambda group: asked.append(group) or [Entry()])
    _entry_points.load_entry_points.cache_clear()
    try:
        assert repr(Spectrum(2.0)) == "from a package, 2.0"
        assert repr(Spectrum(3.0)) == "from a package, 3.0"
        assert asked == ["apportion.views"]
    finally:
        _entry_points.load_entry_points.cache_clear()


def test_a_package_whose_views_cannot_be_imported_is_named(monkeypatch):
    broken = EntryPoint(name="mine", value="no_such_module", group="apportion.views")
    monkeypatch.setattr(_entry_points, "entry_points", lambda group: [broken])
    _entry_points.load_entry_points.cache_clear()
    try:
        assert "no_such_module" in repr(every_result.ledger())
        with pytest.raises(ApportionError, match=r"no_such_module, which .* cannot be imported: Mod"):
            every_result.ledger().to_html()
    finally:
        _entry_points.load_entry_points.cache_clear()


def test_the_package_names_its_views_where_it_is_installed():
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert '[project.entry-points."apportion.views"]\nreport = "apportion.report"' in text
    assert view_of(Attribution) is not None
