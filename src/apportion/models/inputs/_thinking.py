"""Thinking: which tokens of an answer belong to the model's thinking, by the markers around them."""

from __future__ import annotations

from collections.abc import Sequence

THINKING, ANSWER = "thinking", "answer"

#: The markers that open and close thinking in the chat templates of open models.
MARKERS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
)


def parts_of_answer(labels: Sequence[str], *, before: str = "") -> list[str]:
    """For each token of an answer whether it is `"thinking"` (with its markers) or `"answer"`.

    Args:
        labels: The tokens as text.
        before: The end of the prompt, since some chat templates open the thinking themselves.
    """
    stretches = _stretches("".join(labels), before)
    parts, at = [], 0
    for label in labels:
        end = at + len(label)
        inside = any(start <= at < stop or (at < stop and end > start) for start, stop in stretches)
        parts.append(THINKING if inside else ANSWER)
        at = end
    return parts


def _stretches(text: str, before: str) -> list[tuple[int, int]]:
    """Where thinking begins and ends; without a closing marker it continues to the end."""
    found: list[tuple[int, int]] = []
    at, closer = 0, next((closer for opener, closer in MARKERS if before.rstrip().endswith(opener)), None)
    if closer is None:
        closer = next((c for o, c in MARKERS if c in text and o not in text[: text.index(c)] and "/" in c), None)
    start = 0
    while True:
        if closer is not None:
            end = text.find(closer, at)
            at = len(text) if end < 0 else end + len(closer)
            found.append((start, at))
        opened = [(text.index(opener, at), opener, closer) for opener, closer in MARKERS if opener in text[at:]]
        if not opened:
            return found
        start, opener, closer = min(opened)
        at = start + len(opener)
