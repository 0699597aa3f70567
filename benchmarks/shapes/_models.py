"""The models that were trained on the shapes, from the weights that lie beside this file."""

from pathlib import Path

import torch
from transformers import CLIPModel, CLIPProcessor, LlavaForConditionalGeneration, LlavaProcessor

WEIGHTS = Path(__file__).parent / "weights"


def shapes_clip() -> tuple[CLIPModel, CLIPProcessor]:
    """The CLIP, in float32, and its processor."""
    model = CLIPModel.from_pretrained(WEIGHTS / "clip", dtype=torch.float32)
    return model.eval(), CLIPProcessor.from_pretrained(WEIGHTS / "clip", backend="pil")


def shapes_vlm() -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The LLaVA, in float32, and its processor, whose chat template takes one question."""
    model = LlavaForConditionalGeneration.from_pretrained(WEIGHTS / "vlm", dtype=torch.float32)
    return model.eval(), LlavaProcessor.from_pretrained(WEIGHTS / "vlm", backend="pil")


def save(
    model: CLIPModel | LlavaForConditionalGeneration, processor: CLIPProcessor | LlavaProcessor, folder: Path
) -> None:
    """Write both for `from_pretrained`; the weights in float16, to be read as float32."""
    halves = {name: weight.half().contiguous() for name, weight in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=halves)
    processor.save_pretrained(folder)
