"""How well the trained CLIP and VLM do on pictures of shapes that they have not seen: the tables of docs/shapes.md."""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from benchmarks._pages import write_block
from benchmarks.shapes._answers import answered
from benchmarks.shapes._models import WEIGHTS, shapes_clip, shapes_vlm
from benchmarks.shapes._pictures import pictures
from benchmarks.shapes._questions import questions
from benchmarks.shapes._retrieval import HELD_OUT, choice_accuracy, held_out, retrieval_accuracy

PAGE = Path(__file__).parents[2] / "docs" / "shapes.md"
POOLS, POOL, ASKED = 10, 100, 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=["clip", "vlm"])
    write(parser.parse_args().model)


def write(name: str) -> None:
    """Measure the weights that are kept, print the table and put it on the page."""
    model = (shapes_clip if name == "clip" else shapes_vlm)()[0]
    found = clip_accuracies() if name == "clip" else vlm_accuracies()
    rows = [f"| {what} | {100 * accuracy:.1f}% | {count} |" for what, (accuracy, count) in found.items()]
    text = "\n".join([_facts(name, model), "", "| held out | right | of |", "|---|---:|---:|", *rows])
    print(text)
    write_block(PAGE, name, text)


def clip_accuracies() -> dict[str, tuple[float, int]]:
    """Accuracy and how many decisions it rests on: retrieval in pools of 100, then choices between near captions."""
    model, processor = shapes_clip()
    pools = [held_out(POOL, seed=HELD_OUT + k) for k in range(POOLS)]
    by_picture, by_caption = np.mean([retrieval_accuracy(model, processor, pool) for pool in pools], axis=0)
    chosen = choice_accuracy(model, processor, [picture for pool in pools for picture in pool])
    return {
        f"picture → caption, among {POOL}": (float(by_picture), POOLS * POOL),
        f"caption → picture, among {POOL}": (float(by_caption), POOLS * POOL),
        "caption before all with another colour": chosen["colour"],
        "… another shape": chosen["shape"],
        "… another relation": chosen["relation"],
        "… the two colours exchanged": chosen["binding"],
        "caption told from the other thing before all false ones": chosen["turned"],
    }


def vlm_accuracies() -> dict[str, tuple[float, int]]:
    """Exact answers and the number of questions by their kind, over all questions of 500 pictures."""
    model, processor = shapes_vlm()
    shown = pictures(ASKED, HELD_OUT, things=(1, 2))
    asked = [(picture, question) for picture in shown for question in questions(picture)]
    right: dict[str, list[bool]] = defaultdict(list)
    for (_, question), fine in zip(asked, answered(model, processor, asked), strict=True):
        right[f"{question.kind}, answer “nothing”" if question.answer == "nothing" else question.kind].append(fine)
    return {kind: (float(np.mean(fine)), len(fine)) for kind, fine in right.items()}


def _facts(name: str, model: PreTrainedModel) -> str:
    folder = WEIGHTS / name
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    made = json.loads((folder / "trained.json").read_text())
    return (
        f"{model.num_parameters() / 1e6:.2f} million weights, {size:.1f} MB; {made['steps']} steps of 32 pictures, "
        f"{made['cpu_minutes']:.1f} CPU minutes."
    )


if __name__ == "__main__":
    main()
