"""Labels as a reader can see them: white space and control characters get a visible stand-in."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len, set_cell_size

from apportion.core import Feature

_STAND_INS = {"\n": "⏎", "\r": "␍", "\t": "⇥"}
# Format characters that shape visible text: they join emoji, Indic and Arabic letters, and spell flags.
_SHAPING = {"\u200c", "\u200d", *map(chr, range(0xE0020, 0xE0080))}
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(label: str) -> str:
    """The label on one line: line breaks as ⏎, tabs as ⇥, spaces as ␣ where there is nothing else.

    Other control characters appear as `⟨U+202E⟩`, so that no label can move a terminal's cursor or turn the text
    around it.
    """
    if not label:
        return "∅"
    shown = "".join(_shown(character) for character in label)
    return "".join("␣" if character.isspace() else character for character in shown) if label.isspace() else shown


def short(label: str, cells: int) -> str:
    """The visible label for a table: without the space around it, and cut to so many character cells."""
    shown = visible(label)
    return cut(shown.strip() or shown, cells)


def cut(shown: str, cells: int) -> str:
    """A visible text of at most so many character cells, ending with … where it went on."""
    return shown if cell_len(shown) <= cells else set_cell_size(shown, cells - 1) + "…"


def ends_line(feature: Feature) -> bool:
    """Whether the text goes on in a new line after this feature."""
    return feature.label.endswith("\n")


def _shown(character: str) -> str:
    if character in _STAND_INS:
        return _STAND_INS[character]
    if unicodedata.category(character) in _HIDDEN and character not in _SHAPING:
        return f"⟨U+{ord(character):04X}⟩"
    return character
