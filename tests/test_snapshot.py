"""No number moves: what the library computes for many models, methods and results is what `snapshot.json` holds.

`python -m tests.test_snapshot` writes the file again; only where a number is meant to change, and the commit says why.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel
from typer.testing import CliRunner

import apportion as ap
from apportion import cli
from apportion.diffusion import Region, Step, concept_maps
from apportion.evaluation import Item
from apportion.methods import method_names
from tests import tiny
from tests.diffusion import tiny_diffusion
from tests.metagame import test_words_to_patches as captioned
from tests.test_images import explainer as of_images
from tests.test_images import photo
from tests.test_pairs import bert, picture, words
from tests.test_sound import given as recording
from tests.test_sound import speech
from tests.test_vision_language import chat as illustrated_chat
from tests.test_vision_language import llava

SNAPSHOT = Path(__file__).parent / "reference" / "snapshot.json"
DIGITS = 12

#: A number may differ by this part of the largest one beside it. The models are in float64 and run without
#: transformers' detours through float32, so that processors differ by far less.
TOLERANCE = 1e-6
#: Where the input itself is made in float32: an image by its processor, the spectrum of a recording.
LOOSER = {"llava": 1e-5, "sound": 1e-5}
#: Numbers that are 0 but for rounding, as a part of the largest one of the whole case.
ROUNDING = 1e-10

Numbers = Mapping[str, Any]

TEXT = "The man sees dogs"
TEXTS = [TEXT, "the old cat and the dog", "The sad man is", "the new dog of the cat", "The man sees the man"]
ITEMS = [Item(id=text, prompt=text, truth=((4, 7),), groups={"long": len(text) > 18}) for text in TEXTS]
JUDGED = ["attnlrp", "gradient", "leave-one-out", "alti-logit"]
MEASURES = [
    "perturbation-curves",
    "comprehensiveness-sufficiency",
    "infidelity",
    "leave-one-out-agreement",
    "ground-truth",
    "layer-agreement",
    "weight-randomisation",
]


# The models, each with a prompt.


@dataclass(frozen=True)
class Subject:
    """A model, a prompt for it, and what else a request needs to fit it."""

    explainer: Callable[[], ap.Explainer]
    prompt: Callable[[], Any] = lambda: TEXT
    request: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[Any, Any] = (" dog", " cat")
    corrupt: Any = None
    """A prompt that differs in a word, for a method that compares two."""


@cache
def of_text(name: str) -> ap.Explainer:
    kinds: Any = {"bert": "masked", "bert_classifier": "masked", "bert_token_classifier": "masked"}
    kind = "seq2seq" if name in tiny.ENCODER_DECODERS else kinds.get(name, "causal")
    return ap.Explainer(built(name), tiny.tokenizer(kind))


@cache
def built(name: str) -> PreTrainedModel:
    """The tiny model from a seed: Mamba keeps some of the weights that transformers draws."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return tiny.build(name)


image_explainer = cache(of_images)


@cache
def of_captions() -> ap.Explainer:
    model = deepcopy(captioned.model())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.parameters():  # in float64, in which every processor draws the same
            torch.nn.init.normal_(parameter, std=0.4)
    return ap.Explainer(model, captioned.tokenizer())


@cache
def encoder() -> ap.Explainer:
    return ap.Explainer(bert(), words())


CHAT = [{"role": "user", "content": "who sees the cat"}]
LABELS = ("sad", "glad")
SUBJECTS: dict[str, Subject] = {
    **{
        name: Subject(partial(of_text, name), corrupt="The cat sees dogs")
        for name in ("llama", "gpt2", "mixtral", "mamba", "t5", "bart")
    },
    "chat": Subject(partial(of_text, "qwen2"), lambda: CHAT, corrupt=[{"role": "user", "content": "who sees the dog"}]),
    "bert": Subject(partial(of_text, "bert"), lambda: "The [MASK] sees dogs", corrupt="the [MASK] sees dogs"),
    "bert_classifier": Subject(partial(of_text, "bert_classifier"), classes=LABELS, corrupt="The cat sees dogs"),
    "bert_token_classifier": Subject(
        partial(of_text, "bert_token_classifier"),
        request={"position": 2},
        classes=LABELS,
        corrupt="The cat sees dogs",
    ),
    "vit": Subject(partial(image_explainer, "vit"), photo, classes=(0, 1)),
    "swin": Subject(partial(image_explainer, "swin"), photo, classes=(0, 1)),
    "clip": Subject(of_captions, lambda: ap.Pair(picture(), captioned.TEXT)),
    "texts": Subject(encoder, lambda: ap.Pair("a b c", "d a")),
    "llava": Subject(llava, illustrated_chat),
    "sound": Subject(speech, recording),
}

#: Every method, with options where it needs some or would take long.
METHODS: dict[str, str] = {
    **{name: name for name in method_names() if name != "relp"},
    "banzhaf": "banzhaf(budget=64)",
    "context-cite": "context-cite(ablations=32)",
    "shapley": "shapley(budget=160)",
    "shifted": "shifted(count=4)",
    "expected-gradients": "expected-gradients(samples=4)",
    "integrated-gradients": "integrated-gradients(steps=8)",
    "smoothgrad": "smoothgrad(samples=4)",
}


# Each kind of result: one call of the library, then its numbers.


def attributed(model: str, method: Any = None, target: Any = None, **request: Any) -> ap.Attribution:
    subject = SUBJECTS[model]
    return subject.explainer().explain(
        subject.prompt(), target=target, method=method, progress=False, **subject.request, **request
    )


def attributed_together(model: str, prompts: Any, batch_size: int) -> list[ap.Attribution]:
    return list(SUBJECTS[model].explainer().explain_many(prompts, batch_size=batch_size, progress=False))


def compared(model: str, methods: Any) -> ap.Comparison:
    subject = SUBJECTS[model]
    return subject.explainer().compare(subject.prompt(), methods=methods, progress=False, **subject.request)


@cache
def answered(model: str) -> ap.Generation:
    return SUBJECTS[model].explainer().generate(SUBJECTS[model].prompt(), max_new_tokens=5)


def answer_attributed(model: str, method: str, unit: Any, **of: Any) -> ap.Attribution:
    return answered(model).attribute(method=method, unit=unit, progress=False, **of)


def span_attributed(model: str, method: str, unit: Any) -> ap.Attribution:
    return answered(model).attribute_span([1, 2, 3], method=method, unit=unit, progress=False)


def answer_interacting(model: str, method: str) -> ap.Interactions:
    return answered(model).interactions(
        method=method, unit="log-probability", game=ap.Game(players="words"), progress=False
    )


def interacting(
    model: str,
    index: Any = "metagame",
    method: Any = None,
    target: Any = None,
    of: Any = "auto",
    regions: Any = "patches",
    **game: Any,
) -> Any:
    subject = SUBJECTS[model]
    return subject.explainer().interactions(
        subject.prompt(),
        index=index,
        method=method,
        target=target,
        of=of,
        regions=regions,
        game=ap.Game(**game),
        progress=False,
        **subject.request,
    )


def paired(model: str, method: Any, positions: Any) -> ap.Pairwise:
    return SUBJECTS[model].explainer().explain_pairs(SUBJECTS[model].prompt(), method=method, positions=positions)


@cache
def evaluated(model: str) -> Any:
    return SUBJECTS[model].explainer().evaluate(ITEMS, methods=JUDGED, measures=MEASURES, seed=3, progress=False)


def recommended(model: str) -> Any:
    return SUBJECTS[model].explainer().recommend(TEXTS, methods=JUDGED, measures=MEASURES[:2], seed=3, progress=False)


def audited(model: str, method: Any) -> ap.Audit:
    return SUBJECTS[model].explainer().audit(SUBJECTS[model].prompt(), method=method, **SUBJECTS[model].request)


def step_attributed(model: str, method: Any, region: Region) -> ap.Attribution:
    transformer, inputs = tiny_diffusion.tiny(model)
    return ap.Explainer(transformer).explain(Step(inputs), target=region, method=method, progress=False)


def concepts_mapped(model: str, concepts: Mapping[str, Tensor]) -> Any:
    return concept_maps(*tiny_diffusion.tiny(model), concepts)


def shell(model: str, *options: str) -> Any:
    """What the command that explains a text prints as JSON, of a saved model in float64."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        built(model).save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        done = CliRunner().invoke(cli.app, ["explain", "-m", folder, TEXT, *options, "--dtype", "float64", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def labels(features: Sequence[Any]) -> str:
    return "|".join(feature.label for feature in features)


def listed(values: Tensor | None) -> Any:
    return None if values is None else values.tolist()


def of_attribution(found: ap.Attribution) -> Numbers:
    ledger = found.ledger
    return {
        "features": labels(found.features),
        "targets": [f"{one.label} ({one.unit})" for one in found.explained],
        "values": [one.value for one in found.explained],
        "shares": listed(found.scores),
        "position shares": listed(found.position_scores),
        "standard errors": listed(found.standard_errors),
        "accounts": None if ledger is None else {"total": listed(ledger.total), **in_lists(ledger.lines)},
    }


def in_lists(amounts: Mapping[str, Tensor]) -> Numbers:
    return {name: amount.tolist() for name, amount in amounts.items()}


def of_details(found: ap.Attribution) -> Numbers:
    return {line: in_lists(entries) for line, entries in found.ledger.details.items()}


def of_spans_of_answer(found: ap.Attribution) -> Numbers:
    last = len(found.features) - 1
    return of_attribution(found.between({"said": [last - 1, last], "before": [last - 3]}, {"first": [1, 2]}))


def of_several(found: Sequence[ap.Attribution]) -> Numbers:
    return {f"{k}, {name}": value for k, one in enumerate(found) for name, value in of_attribution(one).items()}


def of_comparison(found: ap.Comparison) -> Numbers:
    return {
        "methods": list(found),
        "refused": list(found.refused),
        "rank correlations": listed(found.rank_correlations()),
    }


def of_interactions(found: ap.Interactions) -> Numbers:
    return {
        "sources": labels(found.sources),
        "targets": labels(found.features),
        "source of": list(found.source_of),
        "target": f"{found.target.label} ({found.target.unit})",
        "value": found.target.value,
        "effects": listed(found.values),
        "alone": listed(found.main_effect),
        "first order": listed(found.first_order),
        "standard errors": listed(found.standard_errors),
        "third": listed(found.third),
        "evaluations": found.evaluations,
    }


def of_several_interactions(found: Sequence[ap.Interactions]) -> Numbers:
    return {f"{k}, {name}": value for k, one in enumerate(found) for name, value in of_interactions(one).items()}


def of_pairwise(found: ap.Pairwise) -> Numbers:
    return {
        "rows": labels(found.rows),
        "columns": labels(found.columns),
        "shares": listed(found.scores),
        "row rest": listed(found.row_rest),
        "column rest": listed(found.column_rest),
        "row values": listed(found.row_values),
        "column values": listed(found.column_values),
        "value": found.explained.value,
        "accounts": {"total": listed(found.ledger.total), **in_lists(found.ledger.lines)},
    }


def of_evaluation(found: Any) -> Numbers:
    return {
        "accuracy": list(found.accuracy),
        "items": len(found),
        "refused": [str(method) for method in found.refusals()["method"]],
    } | of_table("agreement of measures", found.rank_correlations())


def of_table(name: str, table: Any) -> Numbers:
    """A pandas table, column by column."""
    return {f"{name}: {column}": table[column].tolist() for column in table}


#: What the snapshot calls otherwise than the library.
RENAMED = {"level": "tied"}


def of_recommendation(found: Any) -> Numbers:
    names = ("mean", "low", "high", "behind", "behind_low", "behind_high", "first", "level", "above_random", "ranks")
    return {
        "decided by": found.measure.name,
        "order": [one.method for one in found.candidates],
        "random": list(found.random),
        **{name: [getattr(one, RENAMED.get(name, name)) for one in found.candidates] for name in names},
    }


def of_audit(found: ap.Audit) -> Numbers:
    counts: Counter[str] = Counter()
    for row in found.rows:
        counts[f"{row.kind}: {row.rule}"] += row.count
    return {"nodes": dict(counts), "rows": len(found.rows), "reached": found.reached, "missing": len(found.missing)}


def of_concepts(found: Any) -> Numbers:
    played = found.interactions(padding=["background"])
    return {
        "concepts": list(found.concepts),
        "layers": list(found.layers),
        "maps": listed(found.maps),
        "logits": listed(found.logits),
        "played": listed(played.coalition_mean),
        "effects": listed(played.values),
    }


def of_shell(found: Mapping[str, Any]) -> Numbers:
    return {
        "shares": found["scores"],
        "accounts": found["ledger"]["lines"],
        "total": found["ledger"]["total"],
        "prediction": found["prediction"],
    }


# The cases: for each model and name of a result what computes its numbers.

Case = Callable[[], Numbers]
CASES: dict[tuple[str, str], Case] = {}


def case(model: str, name: str, numbers: Callable[[Any], Numbers], result: Callable[..., Any], *args: Any, **kw: Any):
    assert (model, name) not in CASES
    CASES[model, name] = lambda: numbers(result(model, *args, **kw))


for _model in SUBJECTS:
    for _method, _given in METHODS.items():
        if (_model, _method) != ("texts", "atman"):  # which fails in torch, since the texts differ in length
            case(_model, f"shares by {_method}", of_attribution, attributed, _given)
    if (_corrupt := SUBJECTS[_model].corrupt) is not None:
        case(_model, "shares by relp", of_attribution, attributed, ap.RelP(corrupt=_corrupt))
    case(_model, "rank correlations", of_comparison, compared, ["attnlrp", "gradient", "alti-logit", "leave-one-out"])
    for _method in ("attnlrp", "cp-lrp", "res-lrp"):
        case(_model, f"audit of {_method}", of_audit, audited, _method)

for _model in ("llama", "gpt2", "t5", "bert", "bert_classifier", "bert_token_classifier", "vit", "llava"):
    _one, _other = SUBJECTS[_model].classes
    case(_model, "one target", of_attribution, attributed, target=_one)
    for _method in ("attnlrp", "integrated-gradients(steps=4)", "alti-logit", "leave-one-out"):
        case(_model, f"several targets by {_method}", of_attribution, attributed, _method, [_one, _other])
    case(_model, "contrast", of_attribution, attributed, target=_one, contrast=_other)
    for _unit in ("log-probability", "probability"):
        case(_model, _unit, of_attribution, attributed, target=_one, unit=_unit)
    case(_model, "details of the accounts", of_details, attributed)
    case(_model, "composite by layers", of_attribution, attributed, ap.ATTNLRP.from_layer(1, ap.CP_LRP))

for _model in ("llama", "gpt2", "t5", "bert_classifier", "llava", "chat"):
    case(_model, "words asked for", of_attribution, attributed, features="words")
    case(_model, "words afterwards", lambda found: of_attribution(found.words()), attributed, "leave-one-out")
for _model in ("llama", "gpt2", "bert_classifier"):
    _within = ap.ATTNLRP.within(ap.GRADIENT, modules="*intermediate*" if _model[0] == "b" else "*mlp*", last_layer=0)
    case(_model, "composite by modules", of_attribution, attributed, _within)
    case(_model, "spans asked for", of_attribution, attributed, features={"seen": " dogs", "who": [1, 2]})
    case(_model, "spans afterwards", lambda found: of_attribution(found.spans([" man sees"])), attributed)
    case(_model, "normalised", lambda found: of_attribution(found.normalized("sum")), attributed)
    case(_model, "batch", of_several, attributed_together, TEXTS[:3], 2)
    case(_model, "one by one", of_several, attributed_together, TEXTS[:2], 1)
for _model in ("gpt2", "bert_classifier", "vit"):
    case(_model, "positions added", of_attribution, attributed, positions="added")
for _model in ("llama", "gpt2", "t5", "llava"):
    for _unit in ("logit", "log-probability"):
        case(_model, f"span, {_unit}", of_attribution, attributed, target=ap.Span(" dog cat", _unit))
for _side in ("left", "right"):
    _ids, _pad = [2, 9, 17, 30, 21], [1, 1]
    _row = _pad + _ids[:3] if _side == "left" else _ids[:3] + _pad
    _padded = {
        "input_ids": torch.tensor([_ids, _row]),
        "attention_mask": (torch.tensor([_ids, _row]) != 1).long(),
    }
    case("llama", f"padded {_side}", of_several, attributed_together, _padded, 2)

_HALVES = torch.zeros(40, 50, dtype=torch.long)
_HALVES[:, 25:] = 1
for _model in ("vit", "swin"):
    case(_model, "squares", of_attribution, attributed, regions=16)
    case(_model, "halves", of_attribution, attributed, regions=_HALVES)
    case(_model, "halves by occlusion", of_attribution, attributed, "occlusion", regions=_HALVES)
    case(_model, "halves by Shapley values", of_attribution, attributed, "shapley", regions=_HALVES)
case("llava", "visual tokens", of_attribution, attributed, regions="visual-tokens")

for _model in ("llama", "gpt2", "mamba", "t5", "chat"):
    case(_model, "answer", lambda found: {"ids": list(found.ids), "features": labels(found.features)}, answered)
    for _method in ("attnlrp", "gradient", "leave-one-out"):
        case(_model, f"answer by {_method}", of_attribution, answer_attributed, _method, "logit")
    for _unit in ("log-probability", "probability"):
        case(_model, f"answer, {_unit}", of_attribution, answer_attributed, "attnlrp", _unit)
        case(
            _model, f"answer between parts, {_unit}", lambda found: of_attribution(found.between()),
            answer_attributed, "attnlrp", _unit,
        )  # fmt: skip
    case(_model, "answer between spans", of_spans_of_answer, answer_attributed, "attnlrp", "logit")
    case(_model, "some of the answer", of_attribution, answer_attributed, "attnlrp", "logit", of=[1, 3])
    for _method in ("attnlrp", "integrated-gradients(steps=4)"):
        for _unit in ("logit", "log-probability"):
            case(_model, f"span of the answer by {_method}, {_unit}", of_attribution, span_attributed, _method, _unit)
    case(_model, "interactions of the answer", of_interactions, answer_interacting, "attnlrp")

for _model in ("llama", "bert_classifier"):
    for _index in ("shapley-taylor", "shapley-interaction", "integrated-hessians", "first-order-pairs"):
        case(_model, f"interactions: {_index}", of_interactions, interacting, _index)
    for _estimator in ("exact", "regression", "permutations"):  # not "tree-proxy": rounding decides where trees split
        case(
            _model, f"interactions: {_estimator}", of_interactions, interacting,
            estimator=_estimator, budget="auto" if _estimator == "exact" else 24,
        )  # fmt: skip
    case(
        _model, "interactions: several targets", of_several_interactions, interacting,
        target=list(SUBJECTS[_model].classes), players="words",
    )  # fmt: skip
    case(_model, "interactions: third order", of_interactions, interacting, order=3, players="words")
    case(_model, "interactions: words", of_interactions, interacting, players="words", of="features")
    case(_model, "interactions: summed", lambda found: of_interactions(found.words()), interacting)
    case(
        _model, "interactions: spans, by a gradient, deleted", of_interactions, interacting,
        method="gradient", players={"who": " man", "what": " dogs"}, masker="delete",
    )  # fmt: skip
    for _method in ("alti-logit", "leave-one-out", "shapley"):
        case(_model, f"interactions of {_method}", of_interactions, interacting, method=_method, players="words")
for _players, _of in (("auto", "auto"), ("patches", "patches"), ("words", "features")):
    case("clip", f"interactions: {_players} on {_of}", of_interactions, interacting, players=_players, of=_of)
case("vit", "interactions: patches", of_interactions, interacting, regions=16)

for _model in ("clip", "texts"):
    for _rules in (ap.ATTNLRP, ap.CP_LRP, ap.GRADIENT):
        case(_model, f"pairs by {_rules.name}", of_pairwise, paired, _rules, "apart")
    case(_model, "pairs, positions added", of_pairwise, paired, None, "added")
    case(_model, "pairs of words", lambda found: of_pairwise(found.words()), paired, None, "apart")

for _model in ("llama", "bert_classifier"):
    case(_model, "evaluation", of_evaluation, evaluated)
    for _name, _table in {
        "means": lambda found: found.summary(),
        "means by length": lambda found: found.summary(by="long"),
        "curves": lambda found: found.curves(),
        "differences": lambda found: found.differences("abpc", to="gradient"),
    }.items():
        case(_model, f"evaluation, {_name}", lambda found, of=_table, name=_name: of_table(name, of(found)), evaluated)
    case(_model, "recommendation", of_recommendation, recommended)

_random = partial(torch.randn, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
_CONCEPTS = {
    "cat": _random(tiny_diffusion.TEXT),
    "red sofa": _random(2, tiny_diffusion.TEXT),
    "background": _random(1, tiny_diffusion.TEXT),
}
for _model in ("sd3", "flux"):
    case(_model, "concepts", of_concepts, concepts_mapped, _CONCEPTS)
    for _method in ("attnlrp", "cp-lrp", "gradient"):
        case(_model, f"denoising step by {_method}", of_attribution, step_attributed, _method, Region())

case("llama", "shell", of_shell, shell)
case("llama", "shell, with options", of_shell, shell, "--features", "words", "--unit", "probability")


# Compared and written.


def computed(model: str, name: str) -> Numbers:
    """A case's numbers as JSON has them; that a request is refused is one of them."""
    with tiny.InFloat64():
        try:
            return json.loads(json.dumps(rounded(CASES[model, name]())))
        except ap.ApportionError:
            return {"refused": True}


def rounded(value: Any) -> Any:
    """The numbers with so many digits; what is None is left out."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: rounded(one) for name, one in value.items() if one is not None}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(one, f"{path}, {name}" if path else str(name))
    else:
        yield path, value


def largest(value: Any) -> float:
    return max((abs(one) for _, one in leaves(value) if isinstance(one, float) and math.isfinite(one)), default=0.0)


def moved(kept: Numbers, found: Numbers, tolerance: float) -> list[str]:
    """What differs, in words."""
    if missing := set(kept) ^ set(found):
        return [f"only one of both has {', '.join(sorted(missing))}"]
    differing = []
    for name in kept:
        margin = tolerance * largest(kept[name]) + ROUNDING * largest(kept)
        before, after = dict(leaves(kept[name], name)), dict(leaves(found[name], name))
        if before.keys() != after.keys():
            differing.append(f"{name} has other parts: {sorted(before.keys() ^ after.keys())[:5]}")
        differing += [
            f"{path}: {before[path]} was {after[path]}"
            for path in before
            if path in after and not same(before[path], after[path], margin)
        ]
    return differing


def same(one: Any, other: Any, margin: float) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= margin or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


@cache
def snapshot() -> Mapping[str, Mapping[str, Numbers]]:
    return json.loads(SNAPSHOT.read_text())


@pytest.mark.parametrize(("model", "result"), CASES, ids=[f"{model}: {result}" for model, result in CASES])
def test_no_number_moves(model: str, result: str) -> None:
    differing = moved(snapshot()[model][result], computed(model, result), LOOSER.get(model, TOLERANCE))
    assert not differing, "\n".join(differing[:20])


def test_the_snapshot_holds_these_cases_and_every_method() -> None:
    assert {(model, result) for model, kept in snapshot().items() for result in kept} == set(CASES)
    serving = {result for kept in snapshot().values() for result, numbers in kept.items() if "shares" in numbers}
    assert {f"shares by {name}" for name in method_names()} <= serving


def write() -> None:
    """Write the file of numbers again, a line for each case."""
    found: dict[str, list[str]] = {}
    for model, result in CASES:
        numbers = json.dumps(computed(model, result), separators=(",", ":"), ensure_ascii=False)
        found.setdefault(model, []).append(f"{json.dumps(result)}: {numbers}")
    models = [f"{json.dumps(model)}: {{\n" + ",\n".join(lines) + "\n}" for model, lines in found.items()]
    SNAPSHOT.write_text("{\n" + ",\n".join(models) + "\n}\n")


if __name__ == "__main__":
    write()
