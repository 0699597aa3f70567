"""Options of `interactions` as the tests list them: those of the game beside the others."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import apportion as ap


def with_game(**options: Any) -> dict[str, Any]:
    """The same with the game's options in a `Game`, as `interactions` takes them."""
    names = [field.name for field in fields(ap.Game)]
    game = {name: value for name, value in options.items() if name in names}
    others = {name: value for name, value in options.items() if name not in names}
    return {**others, "game": ap.Game(**game)} if game else others
