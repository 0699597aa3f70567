"""Figures of interactions: a matrix, arrows over the text, or the picture once for each word."""

import io
import sys
from dataclasses import replace

import pytest
import torch

from apportion.core._errors import ApportionError

matplotlib = pytest.importorskip("matplotlib")

from apportion.report.interactions._figure import interactions_figure  # noqa: E402 - without matplotlib there is nothing to test
from apportion.report.interactions._graph import graph_of  # noqa: E402
from apportion.report.interactions._reading import effects  # noqa: E402
from apportion.report.kit._colour import sign_colour  # noqa: E402
from tests.report.conftest import features_of  # noqa: E402
from tests.report.test_interactions_report import WORDS, apart, interactions_of, seen, text  # noqa: E402, F401 - fixtures


def drawn(canvas):
    file = io.BytesIO()
    canvas.savefig(file, dpi=40)
    return file.getvalue()


def shown(image):
    return torch.tensor(image.get_array().filled(float("nan")))


def test_a_matrix_shows_what_each_has_by_itself_on_a_scale_of_its_own(text):  # noqa: F811
    axes, *bars = interactions_figure(text, "matrix").axes
    own, between = (shown(image) for image in axes.images)
    assert own.diagonal().tolist() == text.values.diagonal().tolist()
    assert int(own.isnan().sum()) == 30
    assert torch.equal(between.nan_to_num(), text.between)
    assert [image.get_clim()[1] for image in axes.images] == [
        pytest.approx(text.values.diagonal().max().item()),
        pytest.approx(text.between.abs().max().item()),
    ]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [word.strip() for word in WORDS]
    assert len(bars) == 2


def test_other_targets_have_one_scale(apart):  # noqa: F811
    axes, *bars = interactions_figure(apart, "matrix").axes
    (image,) = axes.images
    assert torch.equal(shown(image), apart.values)
    assert len(bars) == 1


def test_a_graph_has_the_largest_effects_as_arrows(text, apart):  # noqa: F811
    for found in (text, apart):
        for top in (1, 3):
            canvas = interactions_figure(found, "graph", top=top)
            heads = [p for p in canvas.axes[0].patches if isinstance(p, matplotlib.patches.Polygon)]
            expected = effects(found, top)
            assert [matplotlib.colors.to_hex(head.get_facecolor()) for head in heads[::-1]] == [
                sign_colour(one.value) for one in expected
            ]
            assert [head.get_alpha() for head in heads[::-1]] == [a.opacity for a in graph_of(found, top).arrows]
            assert drawn(canvas)
    assert len(interactions_figure(text, "graph").axes[0].patches) == 2 * 12
    assert [t.get_text() for t in interactions_figure(text, "graph").axes[0].texts] == [word.strip() for word in WORDS]


def test_a_graph_without_direction_has_no_heads(text):  # noqa: F811
    canvas = interactions_figure(replace(text, values=text.symmetric, index="shapley-taylor"), "graph", top=4)
    assert len(canvas.axes[0].patches) == 4
    assert not [p for p in canvas.axes[0].patches if isinstance(p, matplotlib.patches.Polygon)]


def test_each_word_has_the_picture_with_what_it_gives_and_takes(seen):  # noqa: F811
    canvas = interactions_figure(seen)
    plots = [axes for axes in canvas.axes if axes.get_title()]
    assert [axes.get_title() for axes in plots] == ["a", "cat"]
    for axes, values in zip(plots, seen.values, strict=True):
        assert torch.equal(shown(axes.images[1]), values.reshape(2, 3))
        assert axes.images[1].get_clim()[1] == pytest.approx(seen.values.abs().max().item())
        assert axes.images[1].get_extent() == [-0.5, 11.5, 7.5, -0.5]
    assert drawn(canvas)


def test_auto_draws_what_can_be_read(text, seen):  # noqa: F811
    assert interactions_figure(text).axes[0].patches
    many = interactions_of(features_of(["a"] * 13))
    assert interactions_figure(many).axes[0].images
    assert len([axes for axes in interactions_figure(seen).axes if axes.get_title()]) == 2
    alone = interactions_of(features_of(["a"]))
    assert interactions_figure(alone).axes[0].images


def test_odd_labels_and_values_are_drawn(odd):
    found = interactions_of(odd.features)
    found = replace(found, explained=(replace(found.target, label="<b>“$t$”\x1b"),))
    for kind in ("matrix", "graph"):
        canvas = interactions_figure(found, kind)
        assert "\x1b" not in canvas.get_suptitle()
    unknown = interactions_of(features_of(["a", "b"]))
    unknown = replace(unknown, values=torch.full((2, 2), float("nan")).double())
    assert drawn(interactions_figure(unknown))


def test_what_cannot_be_drawn_is_refused(text, seen, monkeypatch):  # noqa: F811
    for found, kind, top, said in (
        (text, "heat", None, "there is no kind of figure 'heat'"),
        (text, "words-patches", None, "6 words move 0 pictures"),
        (seen, "graph", None, "draw kind='matrix' instead"),
        (text, "graph", 0, "top=0 shows nothing"),
    ):
        with pytest.raises(ApportionError, match=said):
            interactions_figure(found, kind, top=top)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ApportionError, match="needs matplotlib"):
        interactions_figure(text)
