"""Reports of images: every region stands where it is and has its own number, whatever its shape."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from apportion.core._features import Feature
from apportion.core._picture import Picture
from apportion.report.attribution._figure import figure
from apportion.report.attribution._html import html_fragment, html_page
from apportion.report.attribution._page import page
from apportion.report.comparison._html import comparison_page
from apportion.report.kit._image_panel import largest_on
from apportion.report.kit._image_terminal import half_blocks
from apportion.report.kit._image_views import coarsest, image_views_of, text_members
from apportion.report.kit._paint import ADDS, TAKES, data_uri, heat, photograph, png
from apportion.report.kit._target_shares import target_shares
from apportion.results._comparison import Comparison
from tests.report.conftest import attribution_of, features_of


def grid_of(rows, columns, side=4):
    owner = torch.arange(rows * columns).reshape(rows, columns)
    owner = owner.repeat_interleave(side, 0).repeat_interleave(side, 1).to(torch.int32)
    pixels = torch.randint(0, 256, (*owner.shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features = [
        Feature(label=f"patch {r},{c}", kind="patch", positions=(r * columns + c,), part="image", image=0)
        for r in range(rows)
        for c in range(columns)
    ]
    return Picture(pixels=pixels, owner=owner), features


@pytest.fixture
def seen():
    """Six patches, two of them taking away, then a text with the places that hold the image."""
    picture, features = grid_of(2, 3)
    places = [Feature(label="<image>", kind="placeholder", positions=(i,), template=True) for i in range(6)]
    words = [replace(f, positions=(6 + i,)) for i, f in enumerate(features_of(["a", " tab", "by"]))]
    scores = torch.tensor([0.5, -0.25, 0.0, 0.1, -0.05, 0.2, *[0.0] * 6, 3.0, 1.0, -2.0])
    return attribution_of(scores, [*features, *places, *words], pictures=(picture,))


def content_of(text):
    """What the page's script reads."""
    (given,) = re.findall(r"apportionImages\([^,]+, (\{.*?\})\)(?:\.views)?;\n", text)
    return json.loads(given)


def cells_of(image_view):
    """The cells as the page's script unpacks them."""
    cells, value = [], 0
    for step, count in zip(image_view["runs"][::2], image_view["runs"][1::2], strict=True):
        for _ in range(count):
            value += step
            cells.append(value)
    return torch.tensor(cells).reshape(image_view["rows"], image_view["columns"])


@pytest.mark.parametrize("shape", ["patches", "superpixels", "pixels", "uneven"])
def test_a_plate_paints_what_the_picture_paints(shape):
    generator = torch.Generator().manual_seed(1)
    owner = {
        "patches": grid_of(3, 2)[0].owner,
        "superpixels": torch.randint(-1, 5, (7, 9), generator=generator),
        "pixels": torch.arange(63).reshape(7, 9),
        "uneven": (torch.arange(7)[:, None] // 4) * 3 + torch.arange(9) // 4,
    }[shape].to(torch.int32)
    count = int(owner.max()) + 1
    picture = Picture(pixels=torch.zeros(*owner.shape, 3, dtype=torch.uint8), owner=owner)
    features = [Feature(label=f"region {i}", kind="region", positions=(i,), image=0) for i in range(count)]
    scores = torch.randn(count, generator=generator)
    (image_view,) = image_views_of(features, [picture])
    rows, columns = image_view.cells.shape
    down, across = owner.shape[0] // rows, owner.shape[1] // columns
    shown = torch.cat([scores, torch.tensor([float("nan")])])[image_view.cells]
    shown = shown.repeat_interleave(down, 0).repeat_interleave(across, 1)
    torch.testing.assert_close(shown, picture.painted(scores), equal_nan=True)
    layout = {"runs": image_view.runs, "rows": rows, "columns": columns}
    assert torch.equal(cells_of(layout), image_view.cells)


def test_cells_are_as_coarse_as_the_regions_allow():
    assert coarsest(grid_of(2, 3, side=8)[0].owner).shape == (2, 3)
    assert coarsest(torch.arange(12).reshape(3, 4)).shape == (3, 4)
    assert coarsest(torch.zeros(5, 7, dtype=torch.int32)).shape == (1, 1)


def test_the_outline_of_a_patch_has_four_edges():
    picture, features = grid_of(2, 3)
    (image_view,) = image_views_of(features, [picture])
    assert sorted(image_view.outline(4)) == [(1, 1, 1, 2), (1, 1, 2, 1), (1, 2, 2, 2), (2, 1, 2, 2)]


@pytest.mark.parametrize("channels", [3, 4])
def test_png_files_hold_the_pixels(channels):
    pixels = torch.randint(0, 256, (5, 7, channels), dtype=torch.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels.numpy())


def test_heat_is_coloured_by_sign_and_opaque_by_size():
    painted = heat(torch.tensor([[0, 1], [2, -1]]), torch.tensor([1.0, -0.5, 0.0]), signed=True)
    assert painted[0, 0].tolist() == [*ADDS, 255]
    assert painted[0, 1].tolist() == [*TAKES, 128]
    assert painted[1, :, 3].tolist() == [0, 0]
    assert heat(torch.tensor([[1]]), torch.tensor([1.0, -0.5]), signed=False)[0, 0, 3] == 0


def test_large_photographs_are_scaled_down():
    owner = torch.zeros(40, 2000, dtype=torch.int32)
    small = photograph(Picture(pixels=torch.full((40, 2000, 3), 7, dtype=torch.uint8), owner=owner))
    assert small.shape == (15, 768, 3)
    assert bool((small == 7).all())


def test_the_page_holds_every_score_of_the_image(seen):
    text = html_page(seen)
    content = content_of(text)
    (image_view,), (one,) = content["image_views"], content["maps"]
    assert one["scores"] == pytest.approx(seen.scores[:6].tolist(), rel=1e-4)
    assert one["largest"] == 0.5
    assert image_view["word"] == "patch"
    assert cells_of(image_view).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert data_uri(seen.pictures[0].pixels) in text


def test_places_that_hold_an_image_are_no_words(seen):
    assert text_members(seen.features) == [12, 13, 14]
    assert 'data-tip="“&lt;image&gt;' not in html_page(seen)
    assert 'data-tip="“&lt;image&gt;' not in html_page(seen.words())
    assert "<image>" not in repr(seen)


def test_the_still_image_is_the_heat_map(seen):
    (uri,) = re.findall(r'<img src="data:image/png;base64,([^"]+)"', html_fragment(seen))
    painted = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))
    assert painted[..., 3].tolist() == [[255, 128, 0], [51, 26, 102]]
    assert painted[0, 1, :3].tolist() == list(TAKES)


def test_a_fragment_needs_no_script(seen):
    assert "<script" not in html_fragment(seen)


def test_fifty_thousand_pixels_make_no_nodes():
    owner = torch.arange(224 * 224).reshape(224, 224).to(torch.int32)
    picture = Picture(pixels=torch.zeros(224, 224, 3, dtype=torch.uint8), owner=owner)
    features = [
        Feature(label=f"pixel {i // 224},{i % 224}", kind="pixel", positions=(i,), image=0) for i in range(224 * 224)
    ]
    text = page(attribution_of(torch.rand(224 * 224), features, pictures=(picture,)))
    assert text.count("<") < 1500
    assert "50176 parts of images are left out" in text


def test_words_of_an_image_in_accessible_text(seen):
    (spoken,) = re.findall(r'aria-label="(Heat map [^"]+)"', html_page(seen))
    assert spoken.startswith("Heat map of 6 patches. image: +0.5000")
    assert "patch 0,0 +0.5000" in spoken


def test_features_without_a_known_place_are_drawn_in_reading_order():
    features = [Feature(label=f"visual token {i}", kind="patch", positions=(i,), part="image") for i in range(5)]
    (image_view,) = image_views_of(features, ())
    assert image_view.cells.tolist() == [[0, 1, 2], [3, 4, -1]]
    assert "5 patches" in repr(attribution_of(torch.rand(5), features))


def test_the_answer_page_draws_each_token_of_the_answer(seen):
    scores = torch.stack([seen.scores, 2 * seen.scores])
    answer = attribution_of(scores, seen.features, pictures=seen.pictures)
    answer = replace(
        answer, explained=tuple(replace(e, feature=13 + i) for i, e in enumerate(answer.explained)), ledger=None
    )
    content = content_of(page(answer))
    assert content["image_views"][0]["members"] == list(range(6))
    assert content["maps"][0]["scores"] == pytest.approx((3 * seen.scores[:6]).tolist(), rel=1e-4)
    assert "images" in repr(answer)


def test_what_follows_a_recording_is_a_word_and_no_blank_map():
    picture, _ = grid_of(1, 3)
    frames = [Feature(label=f"{i} s", kind="frame", positions=(i,), part="sound", image=0) for i in range(3)]
    rest = Feature(label="(after the recording)", kind="frame", positions=(3,), part="sound", template=True)
    sound = attribution_of([1.0, 2.0, 3.0, 0.5], [*frames, rest], pictures=(picture,))
    assert len(image_views_of(sound.features, sound.pictures)) == 1
    assert text_members(sound.features) == [3]


def test_the_scale_of_many_regions_ends_below_the_few_largest_and_says_so():
    picture, features = grid_of(40, 40, side=1)
    scores = torch.ones(1600)
    scores[7], scores[8] = 100.0, -50.0
    many = attribution_of(scores, features, pictures=(picture,))
    image_views = image_views_of(many.features, many.pictures)
    assert largest_on(image_views, target_shares(many)) == 1.0
    text = html_page(many)
    assert content_of(text)["maps"][0]["largest"] == 1.0
    assert "≥ +1.000" in text
    assert "≤ −1.000" in text
    few = attribution_of(scores[:900], features[:900], pictures=(grid_of(30, 30, side=1)[0],))
    assert largest_on(image_views_of(few.features, few.pictures), target_shares(few)) == 100.0
    assert "≥" not in repr(few)
    assert "≥ +" not in html_page(few)


def test_the_comparison_has_a_map_for_each_method(seen):
    other = replace(seen, method="cp-lrp", scores=-seen.scores)
    content = content_of(comparison_page(Comparison(attributions={"attnlrp": seen, "cp-lrp": other})))
    assert len(content["image_views"]) == 1
    assert [one["scores"][0] for one in content["maps"]] == [0.5, -0.5]


def test_figures_show_photograph_and_map(seen):
    pytest.importorskip("matplotlib")
    canvas = figure(seen)
    images = [image.get_array() for axes in canvas.axes for image in axes.get_images()]
    heats = [image for image in images if image.ndim == 3 and image.shape[-1] == 4]
    assert len(heats) == 1
    assert heats[0][0, 0, 3] > heats[0][0, 1, 3] > heats[0][0, 2, 3] == 0
    several = attribution_of(seen.scores.repeat(3, 1), seen.features, pictures=seen.pictures)
    assert sum(i.get_array().shape[-1:] == (4,) for axes in figure(several).axes for i in axes.get_images()) == 3


def test_the_terminal_names_few_patches_and_draws_the_rest(seen):
    plain = repr(seen)
    assert "image: 6 patches, together +0.5000" in plain
    assert plain.count("patch ") == 5  # the sixth has no share
    assert "▀" not in plain
    picture, features = grid_of(50, 60)
    many = attribution_of(torch.rand(3000), features, pictures=(picture,))
    assert repr(many).count("patch ") == 6
    (image_view,) = image_views_of(many.features, many.pictures)
    blocks = half_blocks(image_view, target_shares(many)[0], 1.0)
    assert max(map(len, blocks.plain.split("\n"))) == 40
