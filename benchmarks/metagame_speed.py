"""How many passes and seconds the metagame of a whole answer takes, against a game for every token and target.

    python benchmarks/metagame_speed.py                  # 25 tokens, an answer of 100; half an hour on one core
    python benchmarks/metagame_speed.py --budget 64

SmolLM2-135M-Instruct, a prompt of which 25 tokens play and an answer of 100 tokens, given as a `Span`. Two ways to the
same second-order attributions, both from as many coalitions a game:

- `shared`: `explainer.interactions`: one game whose coalitions serve all 25 targets, and whose payoff is the
  attribution of the summed log-probability, one backward pass for each coalition. Timed whole.
- `one game per token and target`: 25 targets times 100 answer tokens, each coalition with a forward and a backward
  pass of its own. Its time is an estimate: some of these passes are timed, coalitions drawn as the shared game draws
  them and answer tokens at random, and their mean is multiplied by the number of passes.

That both divide the same is checked on a small prompt: the interactions of the summed log-probability against the sum
of those of every answer token's log-probability, in double precision. An answer's own tokens stand in the prompt of the
sum, so that each is read behind those before it.
"""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from time import perf_counter

import torch
from speed import machine

import apportion as ap
from apportion.models.inputs._prompt import tokenizer_of

RESULTS = Path(__file__).parent / "results" / "metagame_speed.json"
PLAYERS, ANSWER, METHOD = 25, 100, "attnlrp"
TEXT = (
    "The old lighthouse keeper walked down to the harbour every morning to buy bread and fish, and to hear the "
    "news that the sailors"
)
ANSWERED = (
    " brought from the towns along the coast. He liked to sit by the window of the small bakery, where the "
    "smell of warm loaves filled the room, and to listen to their stories about storms, whales and distant "
    "islands. When the clock struck nine, he paid for his bread, put on his coat and walked back up the hill. "
    "At night he lit the lamp, opened a book and waited for the ships to pass. He had done so for thirty "
    "years, and he did not want to live anywhere else, although his sister often asked him to come and stay "
    "with her in the city."
)


def asked(explainer: ap.Explainer) -> tuple[list[int], tuple[int, ...]]:
    """The prompt and the answer as token ids."""
    tokenizer = tokenizer_of(explainer.processor)
    prompt = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    answer = tokenizer(ANSWERED, add_special_tokens=False)["input_ids"]
    if min(len(prompt) - PLAYERS, len(answer) - ANSWER) < 0:
        raise SystemExit(f"error: the texts have {len(prompt)} and {len(answer)} tokens.")
    return prompt[:PLAYERS], tuple(answer[:ANSWER])


def linearity(explainer: ap.Explainer, prompt: list[int], answer: tuple[int, ...]) -> float:
    """How far the interactions of a short answer are from the sum of its tokens', relative to their size.

    Every token's game is of the prompt with the answer's tokens before it, which are always present.
    """
    options = {"method": METHOD, "progress": False}
    game = ap.Game(players={f"token {k}": [k] for k in range(len(prompt))}, estimator="exact")
    whole = explainer.interactions(prompt, target=ap.Span(answer), **options, game=game).values
    summed = torch.zeros_like(whole)
    for k, token in enumerate(answer):
        read = [*prompt, *answer[:k]]
        found = explainer.interactions(read, target=ap.Span((token,)), **options, game=game)
        summed += found.values
    return float((whole - summed).norm() / whole.norm())


def timed_part(explainer: ap.Explainer, prompt: list[int], answer: tuple[int, ...], count: int) -> list[float]:
    """Seconds of single passes of the games per token and target: one coalition, one answer token."""
    random = torch.Generator().manual_seed(0)
    seconds = []
    for number in range(count + 1):
        size = int(torch.randint(1, PLAYERS + 1, (1,), generator=random))
        kept = torch.randperm(PLAYERS, generator=random)[:size].sort().values.tolist()
        k = int(torch.randint(ANSWER, (1,), generator=random))
        read = [*(prompt[i] for i in kept), *answer[:k]]
        start = perf_counter()
        explainer.explain(read, target=ap.Target(answer[k], unit="log-probability"), method=METHOD, progress=False)
        if number:  # the first warms up
            seconds.append(perf_counter() - start)
    return seconds


def measured(explainer: ap.Explainer, budget: int, single: int) -> dict[str, object]:
    """Both ways, in numbers."""
    prompt, answer = asked(explainer)
    explainer.model.double()
    distance = linearity(explainer, prompt[:4], answer[:3])
    explainer.model.float()
    print(f"summed target against the sum of games: {distance:.1e} relative", flush=True)
    part = timed_part(explainer, prompt, answer, single)
    start = perf_counter()
    found = explainer.interactions(
        prompt, target=ap.Span(answer), method=METHOD, progress=False, game=ap.Game(budget=budget)
    )
    seconds = perf_counter() - start
    assert found.cost is not None
    assert len(found.sources) == PLAYERS
    games = PLAYERS * ANSWER
    passes = games * found.evaluations
    mean = sum(part) / len(part)
    between = found.between
    errors = found.standard_errors
    return {
        "players": PLAYERS,
        "answer": ANSWER,
        "method": METHOD,
        "estimator": found.options["estimator"],
        "masker": found.options["masker"],
        "coalitions": found.evaluations,
        "shared": {"forward": found.cost.forward, "backward": found.cost.backward, "seconds": round(seconds, 1)},
        "one game per token and target": {
            "games": games,
            "forward": passes,
            "backward": passes,
            "timed passes": len(part),
            "seconds per timed pass": round(mean, 4),
            "seconds, estimated": round(passes * mean),
        },
        "times fewer passes": round(passes / found.cost.forward),
        "times fewer seconds, estimated": round(passes * mean / seconds),
        "seconds per coalition, shared": round(seconds / found.evaluations, 4),
        "largest efficiency gap": float(found.gap.abs().max()),
        "standard error : value, root mean squares": None
        if errors is None
        else float((errors.square().mean() / between.square().mean()).sqrt()),
        "summed target against the sum of games, relative": distance,
    }


def arguments() -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Passes and seconds of the metagame of a whole answer.")
    parser.add_argument("--budget", type=int, default=640, help="coalitions of a game (default 640)")
    parser.add_argument("--single", type=int, default=12, help="passes timed of one game per token (default 12)")
    parser.add_argument("--quick", action="store_true", help="nothing written")
    return parser.parse_args()


def main() -> None:
    """Measure, print and keep."""
    options = arguments()
    torch.set_num_threads(1)
    found = {"machine": machine(), **measured(ap.load("demo"), options.budget, options.single)}
    text = json.dumps(found, indent=1)
    print(text)
    if not options.quick:
        draft = RESULTS.with_suffix(".draft")
        draft.write_text(text + "\n")
        draft.replace(RESULTS)


if __name__ == "__main__":
    main()
