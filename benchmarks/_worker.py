"""Turn-taking with other processes: questions and answers as JSON lines over a pipe.

A worker holds one model and answers one question at a time, so at any moment one process computes and the others
wait. It measures its own calls; the pipe is outside the clock.
"""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import _llama
import _measure
from torch import Tensor

WARM_UP_TOKENS = 8


class WorkerError(RuntimeError):
    """A worker could not start or could not answer."""


class Worker:
    """A process that measures cases on request.

    Args:
        process: Runs one of the worker scripts, with text pipes.
        name: For messages.
    """

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        if process.stdin is None or process.stdout is None:
            raise WorkerError(f"the worker {name} has no pipes")
        self._questions, self._answers, self._name = process.stdin, process.stdout, name
        self.versions: dict[str, str] = self._answer()

    def seconds(self, case: str, n: int) -> float:
        """Wall time of one call of `case` on `n` tokens."""
        return self._ask("seconds", case, n)

    def memory(self, case: str, n: int) -> _measure.Memory:
        """Peak memory of one call of `case` on `n` tokens; ask a fresh worker, and only once."""
        return _measure.Memory(**self._ask("memory", case, n))

    def relevance(self, case: str, n: int) -> list[float]:
        """What `case` returns for `n` tokens."""
        return self._ask("relevance", case, n)

    def _ask(self, what: str, case: str, n: int) -> Any:
        question = json.dumps({"what": what, "case": case, "n": n})
        try:
            print(question, file=self._questions, flush=True)
        except BrokenPipeError as error:
            raise WorkerError(f"the worker {self._name} ended before the question {question}") from error
        return self._answer()

    def _answer(self) -> Any:
        line = self._answers.readline()
        if not line:
            raise WorkerError(f"the worker {self._name} ended without an answer; what it printed above says why")
        return json.loads(line)


@contextmanager
def working(python: Path | str, script: Path, *arguments: str | int | Path) -> Iterator[Worker]:
    """Start a worker script and end it afterwards."""
    environment = dict(os.environ)
    if Path(python) != Path(sys.executable):
        # Another environment must not see this one's packages.
        environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [python, script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield Worker(process, script.name)
    finally:
        # A worker waits for questions, or is in the middle of an answer that nobody will read.
        process.kill()
        process.communicate()


def worker_arguments() -> ArgumentParser:
    """The arguments that every worker script takes."""
    parser = ArgumentParser()
    parser.add_argument("weights", type=Path)
    parser.add_argument("vocab", type=int)
    return parser


@contextmanager
def answers_kept_apart() -> Iterator[TextIO]:
    """The pipe to the asking process; whatever libraries print goes to standard error meanwhile."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        yield answers


def serve(
    cases: _llama.Cases,
    *,
    versions: dict[str, str],
    vocab: int = 0,
    inputs: Callable[[int], Tensor] | None = None,
    warm_up: int = WARM_UP_TOKENS,
) -> None:
    """Answer questions about `cases` until there are no more.

    Args:
        cases: What is asked about.
        versions: Said first.
        vocab: Size of the vocabulary that the token ids are drawn from.
        inputs: Something else than token ids, from its size.
        warm_up: Size of what a case runs on before its memory is measured.
    """
    inputs = inputs or partial(_llama.random_ids, vocab=vocab)
    with answers_kept_apart() as answers:
        print(json.dumps(versions), file=answers, flush=True)
        for line in sys.stdin:
            question = json.loads(line)
            case = cases[question["case"]]
            if question["what"] == "memory":
                case(inputs(warm_up))
            print(json.dumps(_answer(question["what"], case, inputs(question["n"]))), file=answers, flush=True)


def _answer(what: str, case: _llama.Case, ids: Tensor) -> Any:
    if what == "seconds":
        return _measure.seconds(lambda: case(ids))
    if what == "memory":
        return asdict(_measure.memory(lambda: case(ids)))
    return case(ids).double().tolist()
