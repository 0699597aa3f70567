"""What the second order shows of language: negation, agreement and questions, by a small language model.

    python -m benchmarks.studies.metagame_language

SmolLM2-135M-Instruct reads short prompts with few players, so that every game is exact. Interactions and the model's
own effects of pairs are kept beside the other studies' rows, and a run that was interrupted goes on where it was.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from math import comb

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

import apportion as ap
from apportion.evaluation import (
    PairEffects,
    effect_captured,
    one_score_a_pair,
    pair_effects,
    pair_payoff,
    pair_recall,
    random_recall,
)
from apportion.evaluation.agreement import agreement_sentences
from apportion.evaluation.questions import items_of, questions
from apportion.metagame.indices._pair_scores import pair_scores
from apportion.models.inputs._prompt import tokenizer_of
from apportion.results.evaluation._summary import intervals
from benchmarks.studies._study import RUNS, save, write_block

KEPT = RUNS / "metagame-language"
NEIGHBOUR = "shapley-taylor"

#: What was judged, an adjective that praises and one that blames.
JUDGED = (
    ("film", "good", "bad"),
    ("book", "interesting", "boring"),
    ("food", "great", "awful"),
    ("song", "beautiful", "ugly"),
    ("meeting", "useful", "useless"),
    ("hotel", "nice", "terrible"),
)
NEGATIONS = ("not", "never")
RECALLED = (1, 2, 3)
WORDING = "{context} {question} Answer:"


@dataclass(frozen=True)
class Way:
    """How a second order is found.

    Args:
        method: The first-order method inside, or the neighbour of the same name.
        masker: How words are made absent.
    """

    method: str
    masker: str

    @property
    def label(self) -> str:
        """As tables call it; the metagame of Shapley values is the Shapley–Taylor index."""
        absent = {"mean": "mean embedding", "delete": "deleted"}[self.masker]
        return f"{'shapley' if self.method == NEIGHBOUR else self.method}, {absent}"

    @property
    def file(self) -> str:
        """A part of the names of files."""
        return f"{self.method}-{self.masker}"


WAYS = tuple(Way(method, masker) for method in ("attnlrp", NEIGHBOUR) for masker in ("mean", "delete"))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt of the study.

    Args:
        id: Its name.
        part: `"negation"`, `"agreement"` or `"questions"`.
        prompt: The text.
        target: What is asked of the model.
        players: Character regions of the words that play; the rest is always present.
        roles: What some players are, such as `"subject"`, by their index.
    """

    id: str
    part: str
    prompt: str
    target: ap.Target | ap.Span
    players: tuple[tuple[int, int], ...]
    roles: dict[str, int]


def negations() -> Iterator[Asked]:
    """Judgements with a negation, and what comes next: praise or blame; the frame after them is always present."""
    target = ap.Target(" good", contrast=(" bad",))
    for (thing, praise, blame), negation in product(JUDGED, NEGATIONS):
        for adjective in (praise, blame):
            said = f"The {thing} was {negation} {adjective}"
            words = tuple(match.span() for match in re.finditer(r"\S+", said))
            yield Asked(
                id=f"{negation}-{adjective}",
                part="negation",
                prompt=f"{said}. Overall, it was",
                target=target,
                players=words,
                roles={"thing": 1, "negation": 3, "adjective": 4},
            )


def agreements(count: int) -> Iterator[Asked]:
    """Subjects with an attractor of the other number, and the verb that agrees against the one that does not."""
    made = agreement_sentences(seed=3, attractors=1, constructions="prepositional")
    short = (s for s in made if s.n_distractors == 1 and len(s.before.split()) == 5)
    for sentence in islice(short, count):
        words = tuple(match.span() for match in re.finditer(r"\S+", sentence.before))
        yield Asked(
            id=sentence.id,
            part="agreement",
            prompt=sentence.before,
            target=ap.Target(f" {sentence.good}", contrast=(f" {sentence.bad}",)),
            players=words,
            roles={"subject": 1, "preposition": 2, "attractor": 4},
        )


def retrievals(explainer: ap.Explainer, count: int) -> Iterator[Asked]:
    """Two facts of one kind and a question: subjects, values and the question's words play."""
    made = (replace(q, opening="") for q in questions(seed=5, facts=2) if q.groups["relations"] == 1)
    wanted = (q for q in made if q.groups["asks"] == "value" and " " not in q.answer)
    for item in islice(items_of(wanted, explainer, whole=True, wording=WORDING), count):
        context, question = item.prompt[: item.prompt.index("?")].rsplit(". ", 1)
        context += "."
        answer = next(iter(item.truth))
        facts, at = [], 0
        for sentence in context.split(". "):
            found = [m for m in re.finditer(r"[A-Za-z]+", sentence) if m[0] != "The"]
            facts += [(at + found[0].start(), at + found[0].end()), (at + found[-1].start(), at + found[-1].end())]
            at += len(sentence) + 2
        spelt = {item.prompt[a:b] for a, b in facts[::2]}
        asked = [m.span() for m in re.finditer(r"[A-Za-z]+", question) if m[0] in spelt]
        if answer not in facts or len(asked) != 1:
            continue
        start = len(context) + 1
        players = (*facts, (start + asked[0][0], start + asked[0][1]))
        place = players.index(answer)
        yield Asked(
            id=item.id,
            part="questions",
            prompt=item.prompt,
            target=item.target,
            players=players,
            roles={"entity": 4, "answer": place, "subject": place - 1},
        )


def spans(explainer: ap.Explainer, asked: Asked) -> dict[str, list[int]]:
    """The players as tokens, by a name with their number, since a word may come twice."""
    read = tokenizer_of(explainer.processor)(asked.prompt, add_special_tokens=False, return_offsets_mapping=True)
    found = {}
    for k, (start, end) in enumerate(asked.players):
        tokens = [i for i, (a, b) in enumerate(read["offset_mapping"]) if max(a, start) < min(b, end)]
        found[f"{asked.prompt[start:end]} {k}"] = tokens
    return found


def second_order(explainer: ap.Explainer, asked: Asked, way: Way) -> ap.Interactions:
    """The exact interactions of a prompt, from the file where they were kept."""
    path = KEPT / f"{asked.part}-{asked.id}-{way.file}.safetensors"
    if not path.exists():
        chosen = {"index": NEIGHBOUR} if way.method == NEIGHBOUR else {"method": way.method}
        explainer.interactions(
            asked.prompt,
            target=asked.target,
            progress=False,
            **chosen,
            game=ap.Game(players=spans(explainer, asked), masker=way.masker, estimator="exact"),
        ).save(path)
    return ap.Interactions.load(path)


def effects(explainer: ap.Explainer, asked: Asked, masker: str) -> PairEffects:
    """The model's own effects of a prompt's pairs, from the file where they were kept."""
    path = KEPT / f"{asked.part}-{asked.id}-effects-{masker}.json"
    if not path.exists():
        players = spans(explainer, asked)
        found = pair_effects(pair_payoff(explainer, asked.prompt, target=asked.target, players=players, masker=masker))
        kept = {"deletion": found.deletion.tolist(), "insertion": found.insertion.tolist(), "of": found.evaluations}
        path.write_text(json.dumps(kept))
    read = json.loads(path.read_text())
    deletion, insertion = (torch.tensor(read[name], dtype=torch.float64) for name in ("deletion", "insertion"))
    return PairEffects(deletion=deletion, insertion=insertion, evaluations=read["of"])


def scored(explainer: ap.Explainer, asked: Asked, way: Way) -> tuple[Tensor, Tensor]:
    """One score for every pair, of the second order and, by the same method, of the first order alone."""
    found = second_order(explainer, asked, way)
    return one_score_a_pair(found.values), pair_scores(found.first_order[:, None])[..., 0]


def interval(numbers: Sequence[float], digits: int = 2, *, signed: bool = False) -> str:
    """A mean with its interval, bootstrap over items."""
    found = intervals(np.array(numbers, dtype=float)[:, None])
    plus = "+" if signed else ""
    mean, low, high = (f"{float(one[0]):{plus}.{digits}f}" for one in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]".replace("-", "−")


def ranked(explainer: ap.Explainer, chosen: Sequence[Asked]) -> str:
    """A table: how much of the model's effects of pairs rankings capture, and second order less first, paired."""
    heads = " | ".join(f"{kind}: metagame | first order | difference" for kind in ("deletion", "insertion"))
    lines = [f"| method | prompts | {heads} |", f"|---|{'---:|' * 7}"]
    for way in WAYS:
        cells = []
        for kind in ("deletion", "insertion"):
            real = [_upper(getattr(effects(explainer, asked, way.masker), kind)) for asked in chosen]
            scores = [scored(explainer, asked, way) for asked in chosen]
            second, first = (
                [effect_captured(_upper(s[k]), r) for s, r in zip(scores, real, strict=True)] for k in range(2)
            )
            less = [a - b for a, b in zip(second, first, strict=True)]
            cells += [interval(second), interval(first), interval(less, signed=True)]
        lines.append(f"| {way.label} | {len(chosen)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def recalls(explainer: ap.Explainer, chosen: Sequence[Asked]) -> str:
    """A table: how often the question's entity and the answer are among the first pairs; ties by expectation."""
    rows: dict[str, list[list[float]]] = {}
    for way in WAYS:
        for asked in chosen:
            pair = (asked.roles["entity"], asked.roles["answer"])
            second, first = scored(explainer, asked, way)
            for name, scores in (("metagame", second), ("first-order pairs", first)):
                found = [pair_recall(scores, [pair], k) for k in RECALLED]
                rows.setdefault(f"{name}, {way.label}", []).append(found)
            if way.method == NEIGHBOUR:
                continue  # it has no directions
            values = second_order(explainer, asked, way).values
            unfair = [unfair_recall(values, pair, k) for k in RECALLED]
            rows.setdefault(f"unfair, best of two directions, {way.label}", []).append(unfair)
    heads = " | ".join(f"recall@{k}" for k in RECALLED)
    lines = [f"{len(chosen)} questions.", "", f"| ranking | {heads} |", f"|---|{'---:|' * len(RECALLED)}"]
    for name, numbers in sorted(rows.items(), key=lambda one: (one[0].startswith("unfair"), -np.mean(one[1]))):
        lines.append(f"| {name} | {' | '.join(interval(column) for column in zip(*numbers, strict=True))} |")
    players = len(chosen[0].players)
    expected = " | ".join(f"{random_recall(players, k):.2f}" for k in RECALLED)
    unfair = " | ".join(f"{random_best_of_two(players, k):.2f}" for k in RECALLED)
    lines += [
        f"| random order of pairs, expected | {expected} |",
        f"| unfair, random directions, expected | {unfair} |",
    ]
    return "\n".join(lines)


def unfair_recall(values: Tensor, pair: tuple[int, int], k: int) -> float:
    """Whether either direction of a pair is among the 2k best directions: two chances for the budget of k pairs."""
    sizes = values.abs().fill_diagonal_(-1)
    best = max(sizes[pair].item(), sizes[pair[::-1]].item())
    return float(int((sizes > best).sum()) < 2 * k)


def random_best_of_two(players: int, k: int) -> float:
    """The chance that either of two directions is among 2k of all directions in a random order."""
    every = players * (players - 1)
    return 1 - comb(every - 2, 2 * k) / comb(every, 2 * k)


def negated(explainer: ap.Explainer, chosen: Sequence[Asked]) -> str:
    """A table: how often numbers point as a negation does, down for praise and up for blame."""
    lines = [
        "| method | prompts | negation → adjective | thing → adjective (control) | the former is the largest | "
        "it turns the adjective's own sign | first order of the adjective | first order of the negation |",
        f"|---|{'---:|' * 7}",
    ]
    for way in WAYS:
        told: list[list[float]] = []
        for asked in chosen:
            found = second_order(explainer, asked, way)
            thing, j, i = (asked.roles[role] for role in ("thing", "negation", "adjective"))
            words = asked.prompt[slice(*asked.players[i])]
            turned = -1.0 if words in {praise for _, praise, _ in JUDGED} else 1.0
            values, first = found.values, found.first_order
            own, others = values[i, i], [values[k, i].abs() for k in range(len(values)) if k not in (i, j)]
            told.append(
                [
                    float(turned * values[j, i] > 0),
                    float(turned * values[thing, i] > 0),
                    float(values[j, i].abs() > max(others)),
                    float(turned * own < 0 and turned * (own + values[j, i]) > 0),
                    float(turned * first[i] > 0),
                    float(turned * first[j] > 0),
                ]
            )
        lines.append(row_of(way, told))
    return "\n".join(lines)


def row_of(way: Way, told: Sequence[Sequence[float]]) -> str:
    """A table's line: the way, how many prompts, and the mean of each column with its interval."""
    cells = " | ".join(interval(column) for column in zip(*told, strict=True))
    return f"| {way.label} | {len(told)} | {cells} |"


def agreed(explainer: ap.Explainer, chosen: Sequence[Asked]) -> str:
    """A table: what subject and attractor do to each other, in the logit of the right form less the wrong one."""
    lines = [
        "| method | sentences | subject | attractor | attractor → subject | subject → attractor | "
        "attractor → subject below 0 | first word → subject (control) | attractor alone | "
        "preposition → attractor | … above 0 |",
        f"|---|{'---:|' * 10}",
    ]
    for way in WAYS:
        told = []
        for asked in chosen:
            found = second_order(explainer, asked, way)
            s, p, a = (asked.roles[role] for role in ("subject", "preposition", "attractor"))
            first, values = found.first_order, found.values
            told.append(
                [
                    *(number.item() for number in (first[s], first[a], values[a, s], values[s, a])),
                    float(values[a, s] < 0),
                    *(number.item() for number in (values[0, s], values[a, a], values[p, a])),
                    float(values[p, a] > 0),
                ]
            )
        lines.append(row_of(way, told))
    return "\n".join(lines)


def pictures(explainer: ap.Explainer, everything: Sequence[Asked]) -> None:
    """A matrix of each part, by its first prompt."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
    by_id = {asked.id: asked for asked in everything}
    first = [next(a for a in everything if a.part == part) for part in ("agreement", "questions")]
    for axis, asked in zip(axes, [by_id["not-bad"], *first], strict=True):
        values = second_order(explainer, asked, WAYS[0]).values
        most = float(values.abs().max())
        names = [asked.prompt[start:end] for start, end in asked.players]
        shown = axis.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most)
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("target i")
        axis.set_ylabel("source j")
        axis.set_title(f"{asked.prompt[:44]}{'…' if len(asked.prompt) > 44 else ''}", fontsize=9)
        for j, row in enumerate(values.tolist()):
            for i, value in enumerate(row):
                colour = "white" if abs(value) > 0.6 * most else "black"
                axis.text(i, j, f"{value:.2f}".replace("-", "−"), ha="center", va="center", fontsize=7, color=colour)
        figure.colorbar(shown, ax=axis, shrink=0.7)
    save(figure, "metagame-language")


def _upper(scores: Tensor) -> Tensor:
    """One number a pair."""
    rows, columns = torch.triu_indices(len(scores), len(scores), 1)
    found: Tensor = scores[rows, columns]
    return found


def main() -> None:
    """Ask, and write the page's tables and its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--negations", type=int, default=24, help="at most 24")
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument(
        "--ranked", type=int, default=12, help="prompts of each part whose pairs are deleted and inserted"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    KEPT.mkdir(parents=True, exist_ok=True)
    explainer = ap.load("demo")
    parts = {
        "negation": list(islice(negations(), options.negations)),
        "agreement": list(agreements(options.sentences)),
        "questions": list(retrievals(explainer, options.questions)),
    }
    write_block("metagame", "negation", negated(explainer, parts["negation"]))
    write_block("metagame", "agreement", agreed(explainer, parts["agreement"]))
    write_block("metagame", "questions", recalls(explainer, parts["questions"]))
    for part, chosen in parts.items():
        write_block("metagame", f"{part} effects", ranked(explainer, chosen[: options.ranked]))
    pictures(explainer, [asked for chosen in parts.values() for asked in chosen])


if __name__ == "__main__":
    main()
