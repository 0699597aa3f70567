"""The page of a similarity's pairs: both sides beside each other; pointing at a part of one colours the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from apportion.core import Feature
from apportion.report.kit import (
    LIGHT,
    LONG,
    PAGE_TOP,
    Drawing,
    ImagePanel,
    ImageView,
    Side,
    TargetShares,
    any_special,
    bar_of,
    books_of,
    cut,
    ends_line,
    environment,
    image_views_of,
    largest_on,
    largest_size,
    own_scope,
    precise,
    signed,
    step_of,
    steps_of,
    strength,
    surface,
    target_shares_of,
    text_members,
    visible,
)
from apportion.results import Pairwise

#: Pairs that a page may hold, at about 8 bytes each.
MAX_CELLS = 200_000
#: The longer side of a matrix that is shown as a table.
MAX_TABLE = 32
LABEL = 60


def pairwise_page(pairs: Pairwise) -> str:
    """The pairs as one HTML file that asks nothing of the network and follows the reader's light or dark.

    It opens on what each part has together with the whole other side. Without scripts that view remains.
    """
    return environment().get_template("pairwise_page.html").render(_context(pairs, "apportion", scripted=True))


def pairwise_fragment(pairs: Pairwise) -> str:
    """The pairs for a notebook's output: needs no script, and its styles hold for itself alone."""
    scope = own_scope()
    return environment().get_template("pairwise.html").render(_context(pairs, scope, scripted=False))


def top_pairs(pairs: Pairwise, k: int) -> TargetShares:
    """The `k` largest pairs as shares whose features are pairs, with the accounts of all."""
    found = pairs.top(k)
    shown = tuple(Feature(label=f"{_bare(row)} · {_bare(column)}", kind="span") for row, column, _ in found)
    scores = tuple(score for _, _, score in found)
    return _shares_of(pairs, shown, scores, largest_size(scores))


def _context(pairs: Pairwise, scope: str, *, scripted: bool) -> dict[str, Any]:
    scripted = scripted and pairs.scores.numel() <= MAX_CELLS
    drawing = Drawing(scripted=scripted, members=True)
    sides = [
        _side(pairs, pairs.rows, pairs.scores.sum(1), drawing, "first"),
        _side(pairs, pairs.columns, pairs.scores.sum(0), drawing, "second"),
    ]
    largest = _largest(pairs)
    best = top_pairs(pairs, PAGE_TOP)
    bars = [bar_of(best, i, i + 1, pairs.scores.numel()) for i in range(len(best.scores))]
    assert best.accounts is not None
    return {
        **surface(scope),
        "method": pairs.method,
        "model": visible(pairs.model) if pairs.model else "",
        "options": [(n, str(value)) for n, value in pairs.options.items() if not isinstance(value, dict)],
        "label": visible(pairs.explained.label),
        "value": signed(pairs.explained.value, abs(pairs.explained.value)),
        "unit": pairs.explained.unit,
        "sides": sides,
        "long": max(len(side.words) for side in sides) > LONG,
        "matrix": _matrix(pairs, largest) if all(side.words for side in sides) else None,
        "top": bars,
        "left_out": any_special(pairs.rows, pairs.columns),
        "ledger": books_of(best, best.accounts),
        "too_many": pairs.scores.numel() > MAX_CELLS,
        "pictures": drawing.content if drawing.photos and scripted else None,
        "content": {
            "scores": [[float(f"{score:.4g}") for score in row] for row in pairs.scores.tolist()],
            "sides": [
                {"labels": [_bare(f) for f in features], "maps": side.maps}
                for features, side in zip((pairs.rows, pairs.columns), sides, strict=True)
            ],
            "largest": largest,
            "unit": pairs.explained.unit,
            "steps": (len(steps_of(LIGHT)) - 1) // 2,
        }
        if scripted
        else None,
        **drawing.style,
    }


def _side(pairs: Pairwise, features: Sequence[Feature], sums: Tensor, drawing: Drawing, name: str) -> Side:
    values = sums.tolist()
    image_views = image_views_of(features, pairs.pictures)
    text = text_members(features)
    largest = largest_size([values[i] for i in text if not features[i].template] or [values[i] for i in text])
    words = []
    for i in text:
        label = visible(features[i].label)
        bare = label.lstrip(" ") or label
        # Words of a text that was split at spaces carry none.
        space = label[: len(label) - len(bare)]
        words.append(
            {
                "index": i,
                "space": space,
                "label": bare,
                "step": step_of(strength(values[i], largest)),
                "tip": f"“{cut(label.strip() or label, LABEL)}”\n{precise(values[i])} {pairs.explained.unit} with all",
                "template": features[i].template,
                "ends_line": ends_line(features[i]),
            }
        )
    return Side(
        heading=name,
        words=tuple(words),
        image_views=_maps(pairs, features, values, image_views, drawing),
        low=signed(-largest, largest),
        high=signed(largest, largest),
    )


def _maps(
    pairs: Pairwise,
    features: Sequence[Feature],
    values: Sequence[float],
    image_views: Sequence[ImageView],
    drawing: Drawing,
) -> tuple[ImagePanel, ...]:
    shares = _shares_of(pairs, features, values, largest_size(values))
    largest = largest_on(image_views, [shares])
    return tuple(drawing.view(image_view, shares, largest, several=len(image_views) > 1) for image_view in image_views)


def _matrix(pairs: Pairwise, largest: float) -> dict[str, Any] | None:
    if max(pairs.scores.shape) > MAX_TABLE:
        return None
    rows = [
        (
            _bare(row),
            [
                (
                    step_of(strength(score, largest)),
                    f"“{_bare(row)}” · “{_bare(column)}”\n{precise(score)} {pairs.explained.unit}",
                )
                for column, score in zip(pairs.columns, scores, strict=True)
            ],
        )
        for row, scores in zip(pairs.rows, pairs.scores.tolist(), strict=True)
    ]
    return {
        "columns": [_bare(column) for column in pairs.columns],
        "rows": rows,
        "low": signed(-largest, largest),
        "high": signed(largest, largest),
    }


def _largest(pairs: Pairwise) -> float:
    """Where the colour scale of single pairs ends: the largest without special tokens, which can dwarf it."""
    return largest_size([score for _, _, score in pairs.top(1)] or pairs.scores.flatten().tolist())


def _shares_of(pairs: Pairwise, features: Sequence[Feature], scores: Sequence[float], largest: float) -> TargetShares:
    sizes = pairs.scores.abs().sum().item()
    return target_shares_of(pairs.explained, features, scores, largest=largest, ledger=pairs.ledger, sizes=sizes)


def _bare(feature: Feature) -> str:
    return cut(visible(feature.label.strip() or feature.label), LABEL)
