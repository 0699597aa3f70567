import pytest

from apportion.report.kit._colour import (
    DARK,
    EITHER,
    LIGHT,
    READABLE,
    contrast,
    largest_size,
    sign_colour,
    strength,
)

PLACES = [i / 50 for i in range(-50, 51)]


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scale", [LIGHT, DARK, EITHER])
def test_text_can_be_read_on_every_step(scale):
    assert min(contrast(scale.text(at), scale.background(at)) for at in PLACES) >= READABLE


@pytest.mark.parametrize("scale", [LIGHT, DARK, EITHER])
def test_the_scale_begins_at_the_surface_and_ends_at_its_last_stops(scale):
    assert scale.background(0.0) == scale.surface
    assert (scale.background(-1.0), scale.background(1.0)) == (scale.negative[-1], scale.positive[-1])


@pytest.mark.parametrize("scale", [LIGHT, DARK])
def test_stronger_shares_stand_out_more(scale):
    for sign in (-1, 1):
        away = [contrast(scale.background(sign * i / 20), scale.surface) for i in range(21)]
        assert away == sorted(away)


@pytest.mark.parametrize("scale", [LIGHT, DARK, EITHER])
@pytest.mark.parametrize("size", [0.1, 0.5, 1.0])
def test_negative_is_blue_and_positive_is_not(scale, size):
    def red_over_blue(colour):
        return int(colour[1:3], 16) - int(colour[5:7], 16)

    assert red_over_blue(scale.background(-size)) < red_over_blue(scale.surface) < red_over_blue(scale.background(size))


def test_sign_colours_can_be_seen_on_black_and_on_white():
    assert all(contrast(sign_colour(sign), ground) > 3 for sign in (-1.0, 1.0) for ground in ("#000000", "#ffffff"))


def test_strength_is_the_fraction_of_the_largest_size():
    assert largest_size([0.5, -2.0, float("nan"), float("inf")]) == 2.0
    assert strength(-1.0, 2.0) == -0.5
    assert strength(1.0, 0.0) == strength(float("nan"), 2.0) == 0.0
