"""Train the CLIP or the VLM of the shapes, keep the weights in weights/, and write down how good they are."""

import argparse
import json
import time

import torch

from benchmarks.shapes import measure
from benchmarks.shapes._clip import train_clip
from benchmarks.shapes._models import WEIGHTS, save, shapes_clip
from benchmarks.shapes._vlm import train_vlm

STEPS = {"clip": 1400, "vlm": 3200}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=list(STEPS), help="the VLM sees through the CLIP in weights/")
    parser.add_argument("--steps", type=int, help=f"batches of 32 pictures; by default {STEPS}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="more are not always faster for models so small")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    steps = options.steps or STEPS[options.model]
    start = time.process_time()
    if options.model == "clip":
        model, processor = train_clip(steps, seed=options.seed)
    else:
        model, processor = train_vlm(shapes_clip()[0], steps, seed=options.seed)
    made = {"steps": steps, "seed": options.seed, "cpu_minutes": round((time.process_time() - start) / 60, 1)}
    save(model, processor, WEIGHTS / options.model)
    (WEIGHTS / options.model / "trained.json").write_text(json.dumps(made) + "\n")
    measure.write(options.model)


if __name__ == "__main__":
    main()
