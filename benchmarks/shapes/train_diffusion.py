"""Train the diffusion transformer of the shapes and its reader; keep their weights in weights/diffusion/."""

import argparse
import json
import time
from dataclasses import asdict

import torch

from benchmarks.shapes._diffusion import ROUNDS, WEIGHTS, train_diffusion
from benchmarks.shapes._reader import save_reader, train_reader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="more are not always faster for a model so small")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start = time.process_time()
    train_diffusion(seed=options.seed).save()
    made = {
        "rounds": [asdict(each) for each in ROUNDS],
        "seed": options.seed,
        "cpu_minutes": round((time.process_time() - start) / 60, 1),
    }
    save_reader(train_reader())
    (WEIGHTS / "trained.json").write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
