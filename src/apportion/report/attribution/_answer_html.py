"""The page of an answer: click a token of it and the tokens before it take the colours of their shares."""

from __future__ import annotations

from typing import Any

from apportion.models.inputs import THINKING
from apportion.report.attribution._answer import summed
from apportion.report.kit import (
    LIGHT,
    LONG,
    Drawing,
    blocks_of,
    ends_line,
    environment,
    image_views_of,
    largest_on,
    largest_size,
    place,
    rounded,
    signed,
    step_of,
    steps_of,
    strength,
    surface,
    target_shares,
    text_members,
    visible,
)
from apportion.results import Attribution

# Targets times features that a page may hold, at about 10 bytes each.
MAX_CELLS = 1_000_000


def answer_page(attribution: Attribution) -> str:
    """One HTML file with the prompt, the answer, and every share; it asks nothing of the network.

    It opens on the sum over the answer. Without scripts that view remains.
    """
    return environment().get_template("answer_page.html").render(_context(attribution))


def _context(attribution: Attribution) -> dict[str, Any]:
    at_most = max(1, MAX_CELLS // max(1, len(attribution.features)))
    shown = target_shares(attribution, at_most=at_most)
    total = summed(attribution)
    (view,) = target_shares(total)
    features = attribution.features
    text = text_members(features)
    largest = largest_size([view.scores[i] for i in text])
    image_views = image_views_of(features, attribution.pictures)
    drawing = Drawing(members=True)
    views = [
        drawing.view(image_view, view, largest_on(image_views, [view]), several=len(image_views) > 1)
        for image_view in image_views
    ]
    targets = [
        {
            "feature": shares.target.feature,
            "label": visible(shares.target.label),
            "value": signed(shares.target.value, abs(shares.target.value)),
            "scores": [rounded(score) for score in shares.scores],
            "residual": None if shares.accounts is None else shares.accounts.relative_residual,
        }
        for shares in shown
    ]
    rows = {target["feature"]: t for t, target in enumerate(targets)}
    written = [(block.heading, [text[k] for k in block.members]) for block in blocks_of([features[i] for i in text])]
    blocks = [
        {
            "heading": heading,
            "thinking": features[members[0]].part == THINKING,
            "cells": [
                {
                    "index": i,
                    "row": rows.get(i),
                    **_apart(visible(features[i].label)),
                    "step": step_of(strength(view.scores[i], largest)),
                    "template": features[i].template,
                    "ends_line": ends_line(features[i]),
                }
                for i in members
            ],
        }
        for heading, members in written
    ]
    return {
        **surface(),
        "method": attribution.method,
        "model": visible(attribution.model) if attribution.model else "",
        "options": [(n, str(value)) for n, value in attribution.options.items() if not isinstance(value, dict)],
        "unit": attribution.explained[0].unit,
        "total": {
            "label": total.target.label,
            "value": signed(total.target.value, abs(total.target.value)),
            "unit": total.target.unit,
            "scores": [rounded(score) for score in view.scores],
        },
        "blocks": blocks,
        "image_views": views,
        "pictures": drawing.content if image_views else None,
        **drawing.style,
        "long": len(text) > LONG,
        "hidden": len(attribution) - len(shown),
        "content": {
            "targets": targets,
            "text": text,
            "labels": ["" if feature.image is not None else visible(feature.label) for feature in features],
            "places": ["" if feature.image is not None else place(feature) for feature in features],
            "templates": [i for i, feature in enumerate(features) if feature.template],
            "edges": [len(text) - sum(len(later) for _, later in written[k:]) for k in range(1, len(written))],
            "unit": attribution.explained[0].unit,
            "steps": (len(steps_of(LIGHT)) - 1) // 2,
        },
    }


def _apart(label: str) -> dict[str, str]:
    """A label and the space that it begins with, which stands before its colour."""
    shown = label.lstrip(" ") or label
    return {"space": label[: len(label) - len(shown)], "label": shown}
