"""How often a vision–language model answers questions about pictures of shapes in the very words."""

from collections.abc import Sequence

import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from benchmarks.shapes._clip import pixel_values
from benchmarks.shapes._pictures import Picture
from benchmarks.shapes._questions import Question
from benchmarks.shapes._vlm import IGNORED, question_tokens


@torch.no_grad()
def answered(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, asked: Sequence[tuple[Picture, Question]]
) -> list[bool]:
    """Whether greedy generation gives each answer exactly, with its end.

    It does where each token of the true answer is the likeliest after those before it, so that nothing needs to be
    generated.
    """
    right: list[bool] = []
    for start in range(0, len(asked), 64):
        shown = asked[start : start + 64]
        tokens, labels = question_tokens(processor, [[question] for _, question in shown])
        logits = model(pixel_values=pixel_values([picture for picture, _ in shown]), **tokens).logits
        said, meant = logits[:, :-1].argmax(-1), labels[:, 1:]
        right += ((said == meant) | (meant == IGNORED)).all(1).tolist()
    return right
