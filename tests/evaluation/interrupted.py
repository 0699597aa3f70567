"""A run that is killed again and again: `python -m tests.evaluation.interrupted FOLDER KILLS`.

Each attempt is a child process that goes on with the same folder, until one is left alone. Every other child is killed
by its parent as soon as the file has grown by some bytes; the ones between are killed between the bytes of a write.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from apportion import Explainer
from apportion.evaluation import Evaluation, Item
from apportion.results.evaluation._rows import Rows
from tests.tiny import tiny, tokenizer

TEXTS = ("The man who owns the dogs", "a b c d", "the dogs owns", "The man")
ITEMS = [
    # Every fifth item fits no tiny model: its rows hold the reason.
    Item(
        id=f"é{k}",
        prompt="a " * 99 if k % 5 == 4 else f"{TEXTS[k % 4]} {'ab'[k % 2]}",
        target=k % 7,
        contrast=7 + k % 3,
        groups={"length": k % 4},
    )
    for k in range(20)
]
METHODS = ["attnlrp", "smoothgrad(samples=2)", "leave-one-out"]


def run(folder: Path) -> Evaluation:
    explainer = Explainer(tiny("llama"), tokenizer("causal"))
    return explainer.evaluate(ITEMS, methods=METHODS, measures=["perturbation-curves"], path=folder, progress=False)


def main(folder: Path, kills: int) -> None:
    generator = random.Random(0)
    rows = folder / "rows.jsonl"
    killed = 0
    while killed < kills:
        size = rows.stat().st_size if rows.exists() else 0
        more = generator.randrange(1, 1500)  # an item has some 2000 bytes
        inside = killed % 2 == 1
        child = os.fork()
        if child == 0:
            if inside:
                _die_while_writing(size + more)
            run(folder)
            os._exit(0)
        while not inside and not (rows.exists() and rows.stat().st_size >= size + more):
            time.sleep(0.0005)
        if not inside:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"the run was finished, or failed, after {killed} kills: status {status}")
        killed += 1
        print(rows.stat().st_size, flush=True)  # noqa: T201
    run(folder)


def _die_while_writing(byte: int) -> None:
    """Leave of the file what a kill at this byte leaves of it."""
    append = Rows.append

    def torn(self: Rows, written: list) -> None:
        append(self, written)
        if self.path.stat().st_size >= byte:
            os.truncate(self.path, byte)
            os.kill(os.getpid(), signal.SIGKILL)

    Rows.append = torn


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
