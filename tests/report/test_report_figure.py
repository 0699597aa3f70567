import io
import sys
from dataclasses import replace

import pytest
import torch

from apportion.core._errors import ApportionError

matplotlib = pytest.importorskip("matplotlib")

from apportion.report.attribution._figure import figure  # noqa: E402 - without matplotlib there is nothing to test
from apportion.report.kit._colour import LIGHT, sign_colour  # noqa: E402
from apportion.report.kit._drawing import MAX_TICKS  # noqa: E402
from apportion.report.kit._strip_figure import LINE  # noqa: E402


def drawn(canvas):
    file = io.BytesIO()
    canvas.savefig(file, dpi=40)
    return file.getvalue()


def colour_of(patch):
    return matplotlib.colors.to_hex(patch.get_facecolor())


def test_a_short_text_has_a_bar_per_feature_in_reading_order(short):
    axes = figure(short).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == [f.label.strip() for f in short.features]
    assert axes.yaxis_inverted()
    bars = axes.patches
    assert [bar.get_width() for bar in bars] == pytest.approx(short.scores.tolist())
    assert [colour_of(bar) for bar in bars] == [sign_colour(score) for score in short.scores.tolist()]
    assert [t.get_text() for t in axes.texts][:2] == ["+0.030", "+1.412"]


def test_a_long_text_is_a_strip_that_holds_every_feature_inside_its_lines(long):
    axes = figure(long).axes[0]
    features = [t for t in axes.texts if not t.get_in_layout()]
    assert [t.get_text() for t in features] == [f.label.strip(" ").replace("\n", "⏎") for f in long.features]
    colours = axes.collections[0].get_facecolors()
    strongest = long.scores.abs().argmax().item()
    assert matplotlib.colors.to_hex(colours[strongest]) in (LIGHT.negative[-1], LIGHT.positive[-1])
    assert all(t.get_position()[0] + len(t.get_text()) <= LINE for t in features)


def test_several_targets_are_a_heat_map(several):
    axes = figure(several).axes[0]
    image = axes.images[0]
    assert image.get_array().shape == several.scores.shape
    assert image.get_clim() == (-several.scores.abs().max().item(), several.scores.abs().max().item())
    assert len(axes.get_xticklabels()) == len(several.features)
    assert len(axes.get_yticklabels()) == len(several)
    assert image.cmap(0.5)[:3] == pytest.approx((1, 1, 1), abs=0.01)


def test_a_wide_heat_map_labels_only_what_it_has_room_for(long):
    wide = replace(long, scores=long.scores.repeat(3, 1), explained=long.explained * 3, ledger=None)
    assert len(figure(wide).axes[0].get_xticklabels()) <= MAX_TICKS


# This machine's fonts may lack the scripts; the labels must be drawn all the same.
@pytest.mark.filterwarnings("ignore:Glyph .* missing:UserWarning")
@pytest.mark.parametrize("name", ["short", "chat", "several", "odd"])
def test_every_kind_is_drawn(name, request):
    assert drawn(figure(request.getfixturevalue(name))).startswith(b"\x89PNG")


def test_dollars_are_dollars(short):
    features = tuple(replace(f, label=r" $\frac{$x") for f in short.features)
    dollars = replace(short, features=features, model="$m_1$", explained=(replace(short.target, label="$t$"),))
    several = replace(
        dollars, scores=dollars.scores.repeat(5, 6), features=features * 6, explained=dollars.explained * 5
    )
    long = replace(dollars, scores=dollars.scores.repeat(6), features=features * 6)
    for attribution in (dollars, replace(several, ledger=None), long):
        canvas = figure(attribution)
        drawn(canvas)
        with_dollars = [t for t in canvas.findobj(matplotlib.text.Text) if "$" in t.get_text()]
        assert len(with_dollars) > 5
        assert not any(t.get_parse_math() for t in with_dollars)


def test_zeros_are_drawn(short, several):
    drawn(figure(replace(short, scores=torch.zeros(8), ledger=None)))
    drawn(figure(replace(several, scores=torch.zeros_like(several.scores), ledger=None)))


def test_no_pyplot_figure_is_left_behind(short):
    loaded = "matplotlib.pyplot" in sys.modules
    figure(short)
    if loaded:
        import matplotlib.pyplot as plt

        assert plt.get_fignums() == []
    else:
        assert "matplotlib.pyplot" not in sys.modules


def test_without_matplotlib_the_error_names_the_extra(short, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ApportionError, match=r"pip install 'apportion\[figures\]'"):
        figure(short)
