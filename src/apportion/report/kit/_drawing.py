"""Parts of figures: colour maps, fonts and labels."""

from __future__ import annotations

from typing import Any

from apportion.core import ApportionError
from apportion.report.kit._colour import LIGHT

# More tick labels than this along one side of a heat map run into each other.
MAX_TICKS = 80


FIGURE_LABEL = 24


QUIET = "#555b64"


# Labels are not LaTeX: a "$" in them is a dollar.
VERBATIM: dict[str, Any] = {"parse_math": False, "usetex": False}


# Fonts for the scripts that matplotlib's own lacks, as far as they are installed.
FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "Hiragino Sans",
    "PingFang SC",
    "Arial Unicode MS",
    "Noto Sans Hebrew",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Emoji",
)


def figure_class() -> Any:
    """matplotlib's `Figure`, which belongs to no pyplot state.

    Raises:
        ApportionError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ApportionError("a figure needs matplotlib: pip install 'apportion[figures]'.") from error
    return Figure


def colour_map() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    stops = [LIGHT.background(i / 32) for i in range(-32, 33)]
    return LinearSegmentedColormap.from_list("apportion", stops)


def fonts() -> list[str]:
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    return ["DejaVu Sans", *(font for font in FALLBACK_FONTS if font in installed)]
