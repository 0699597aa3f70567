"""A user's file that takes every public name in hand; it is never run, only read by mypy and pyright.

`assert_type` says what a user's editor shows; see `make types`.
"""

# pyright: strict, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, assert_type

import pandas
import torch
from matplotlib.figure import Figure
from shapiq import InteractionValues
from torch import Tensor, nn

import apportion as ap

IMAGE = Path("cat.png")


def explainers(model: nn.Module, tokenizer: Any) -> list[ap.Explainer]:
    loaded = ap.load("demo", dtype=torch.bfloat16, device="cpu", attention="eager", pooling="mean", encoder=False)
    assert_type(loaded, ap.Explainer)
    assert_type(loaded.name, str)
    assert_type(loaded.vocabulary, int | None)
    assert_type(loaded.model, nn.Module)
    return [loaded, ap.Explainer(model, tokenizer), ap.Explainer(model), ap.Explainer(model, tokenizer, pooling="cls")]


def explained(explainer: ap.Explainer) -> ap.Attribution:
    for target in (None, " are", 7, ap.Target(" are", (" is",), unit="probability"), ap.Span(" Paris"), [" a", " b"]):
        assert_type(explainer.explain("The keys", target), ap.Attribution)
    assert_type(explainer.explain("The keys", lambda output: output.logits[0, -1].max()), ap.Attribution)
    assert_type(
        explainer.explain(
            ap.Pair(IMAGE, "a cat"),
            contrast=[" is", 5],
            method=ap.ATTNLRP,
            unit="log-probability",
            position=-1,
            features={"cat": "a cat", "rest": [0, 1]},
            regions=16,
            positions="added",
            progress=False,
        ),
        ap.Attribution,
    )
    return explainer.explain("The keys", features=["The", " keys"], method="integrated-gradients(steps=50)")


def read(a: ap.Attribution) -> None:
    assert_type(a.scores, Tensor)
    assert_type(a.features, tuple[ap.Feature, ...])
    assert_type(a.explained, tuple[ap.Explained, ...])
    assert_type(a.target, ap.Explained)
    assert_type(a.target.label, str)
    assert_type(a.target.value, float)
    assert_type(a.method, str)
    assert_type(a.options, Mapping[str, Any])
    assert_type(a.ledger, ap.Ledger | None)
    assert_type(a.position_scores, Tensor | None)
    assert_type(a.standard_errors, Tensor | None)
    assert_type(a.prediction, tuple[tuple[str, float], ...])
    assert_type(a.cost, ap.Cost | None)
    assert_type(a.pictures, tuple[ap.Picture, ...])
    assert_type(a.several, bool)
    assert_type(len(a), int)
    assert_type(a[0], ap.Attribution)
    assert_type(list(a), list[ap.Attribution])
    assert_type(ap.Attribution.joined([a, a]), ap.Attribution)
    assert_type(a.words().sentences().paragraphs().with_positions(), ap.Attribution)
    assert_type(a.spans({"subject": "The keys", "verb": [3]}), ap.Attribution)
    assert_type(a.grouped("words"), ap.Attribution)
    assert_type(a.between("are", {"subject": "keys"}), ap.Attribution)
    assert_type(a.normalized("sum"), ap.Attribution)
    assert_type(a.top(3, by="value"), list[tuple[ap.Feature, float]])
    assert_type(a.to_frame(), pandas.DataFrame)
    assert_type(a.to_dict(), dict[str, Any])
    assert_type(a.to_html("a.html"), str)
    assert_type(a.plot(), Figure)
    assert_type(a.save("a.safetensors"), Path)
    assert_type(ap.Attribution.load("a.safetensors"), ap.Attribution)


def parts(a: ap.Attribution) -> None:
    ledger, cost, picture, feature = a.ledger, a.cost, a.pictures[0], a.features[0]
    if ledger is not None and cost is not None:
        assert_type(ledger.total, Tensor)
        assert_type(ledger.lines, Mapping[str, Tensor])
        assert_type(ledger.details, Mapping[str, Mapping[str, Tensor]])
        assert_type(ledger.residual, Tensor)
        assert_type(ledger.relative_residual, Tensor)
        assert_type(ledger[0].batched, ap.Ledger)
        assert_type(ledger.summed(torch.ones(1, 1)), ap.Ledger)
        assert_type(ap.Ledger.joined([ledger]), ap.Ledger)
        assert_type(ledger.to_frame(), pandas.DataFrame)
        assert_type(cost.seconds + cost.forward + cost.backward, float)
    assert_type(picture.painted(a.scores), Tensor)
    assert_type(picture.pixels, Tensor)
    assert_type(feature.label, str)
    assert_type(feature.positions, tuple[int, ...])
    assert_type(feature.of_text, bool)
    assert_type(ap.Feature.from_dict(feature.to_dict()), ap.Feature)


def many(explainer: ap.Explainer, texts: Iterator[str]) -> None:
    found = explainer.explain_many(texts, " are", contrast=" is", method=ap.CPLRP(), batch_size=8)
    assert_type(found, ap.Attributions)
    assert_type(list(found), list[ap.Attribution])
    assert_type(dict(found.items()), dict[int, ap.Attribution])
    assert_type(found[3], ap.Attribution)
    assert_type(found.failed, Mapping[int, str])
    assert_type(found.to_frame(), pandas.DataFrame)
    assert_type(found.to_dict(), dict[str, Any])
    assert_type(found.to_html(), str)
    assert_type(found.save("found.safetensors"), Path)
    assert_type(ap.Attributions.load("found.safetensors"), ap.Attributions)


def compared(explainer: ap.Explainer) -> None:
    found = explainer.compare("The keys", " are", methods={"mine": ap.CP_LRP, "theirs": "gradient"}, regions="pixels")
    assert_type(found, ap.Comparison)
    assert_type(explainer.compare("The keys", methods=["attnlrp", ap.Gradient(norm="l1")]), ap.Comparison)
    assert_type(explainer.compare("The keys", methods="all"), ap.Comparison)
    assert_type(found["mine"], ap.Attribution)
    assert_type(dict(found), dict[str, ap.Attribution])
    assert_type(found.refused, Mapping[str, ap.ApportionError])
    assert_type(found.rank_correlations(), Tensor)
    assert_type(found.to_frame(), pandas.DataFrame)
    assert_type(found.plot(), Figure)
    assert_type(ap.Comparison.load(found.save("found.safetensors")), ap.Comparison)
    assert_type(explainer.methods(), dict[str, str | None])


def interactions(explainer: ap.Explainer) -> None:
    game = ap.Game(players="words", masker="delete", estimator="exact", budget=64, tolerance=0.05, order=3, path="g")
    found = explainer.interactions("The film", " good", index="metagame", of="features", game=game)
    assert_type(found, ap.Interactions)
    assert_type(found.values, Tensor)
    assert_type(found.main_effect, Tensor)
    assert_type(found.gap, Tensor)
    assert_type(found.symmetric + found.antisymmetric + found.between, Tensor)
    assert_type(found.diagonal, Tensor)
    assert_type(found.adds_up, bool)
    assert_type(found.square, bool)
    assert_type(found[0].words(), ap.Interactions)
    assert_type(list(found), list[ap.Interactions])
    assert_type(found.top(3, by="size", template=True), list[tuple[ap.Feature, ap.Feature, float]])
    assert_type(found.outgoing("film"), ap.Attribution)
    assert_type(found.incoming(1), ap.Attribution)
    assert_type(found.features, tuple[ap.Feature, ...])
    assert_type(found.sources, tuple[ap.Feature, ...])
    assert_type(found.to_frame(), pandas.DataFrame)
    assert_type(found.plot("graph", top=5), Figure)
    assert_type(found.to_shapiq(), InteractionValues)
    assert_type(ap.Interactions.load("i.safetensors"), ap.Interactions)


def pairs(explainer: ap.Explainer) -> None:
    found = explainer.explain_pairs(ap.Pair("a cat", "a dog"), features="words")
    assert_type(found, ap.Pairwise)
    assert_type(found.scores, Tensor)
    assert_type(found.rows + found.columns, tuple[ap.Feature, ...])
    assert_type(found.words(), ap.Pairwise)
    assert_type(found.top(3), list[tuple[ap.Feature, ap.Feature, float]])
    assert_type(found.row("cat"), ap.Attribution)
    assert_type(found.column(0), ap.Attribution)
    assert_type(found.to_frame(), pandas.DataFrame)
    assert_type(ap.Pairwise.load("p.safetensors"), ap.Pairwise)


def generated(explainer: ap.Explainer) -> None:
    g = explainer.generate("Why?", max_new_tokens=40, do_sample=True, temperature=0.7, top_p=0.9, seed=1)
    assert_type(g, ap.Generation)
    assert_type(explainer.answer("Why?", " Because."), ap.Generation)
    assert_type(explainer.answer("Why?", [5, 6]), ap.Generation)
    assert_type(g.text, str)
    assert_type(g.tokens, tuple[str, ...])
    assert_type(g.ids, tuple[int, ...])
    assert_type(g.parts, dict[str, str])
    assert_type(g.attribute(of=" Because", part=None, unit="probability"), ap.Attribution)
    assert_type(g.attribute_span([0, 1], unit="log-probability"), ap.Attribution)
    assert_type(g.interactions(" Because", game=ap.Game(players="sentences")), ap.Interactions)
    assert_type(g.to_frame(), pandas.DataFrame)
    assert_type(g.to_html(), str)
    assert_type(ap.Generation.load(g.save("g.safetensors"), explainer), ap.Generation)


def audited(explainer: ap.Explainer) -> None:
    found = explainer.audit("The keys", " are", contrast=" is", method=ap.ATTNLRP.from_layer(3, ap.GRADIENT))
    assert_type(found, ap.Audit)
    assert_type(found.check(), ap.Audit)
    assert_type(found.composite, ap.Composite)
    assert_type([(row.module, row.operation, row.rule) for row in found.rows], list[tuple[str, str, str]])
    assert_type(found.reached + found.recorded, int)
    assert_type(found.missing, tuple[str, ...])
    assert_type(found.to_frame(), pandas.DataFrame)
    assert_type(ap.Audit.load("audit.safetensors"), ap.Audit)


def evaluated(explainer: ap.Explainer, texts: Sequence[str]) -> None:
    items = [ap.Item(id="a", prompt="The keys", target=" are", contrast=" is", truth=((4, 8),), groups={"n": 1})]
    assert_type(items[0].has_truth, bool)
    found = explainer.evaluate(
        items, methods=["attnlrp"], measures=["abpc", Length()], path="run", limit=5, masker=ap.Delete(), seed=1
    )
    assert_type(found, ap.Evaluation)
    assert_type(found.methods, list[str])
    assert_type([column.name for column in found.columns], list[str])
    assert_type([row.item for row in found], list[str])
    assert_type(found.summary(by="n", only="correct"), pandas.DataFrame)
    assert_type(found.differences("abpc", to="gradient"), pandas.DataFrame)
    assert_type(found.curves(), pandas.DataFrame)
    assert_type(found.costs(), pandas.DataFrame)
    assert_type(found.refusals(), pandas.DataFrame)
    assert_type(found.rank_correlations(), pandas.DataFrame)
    assert_type(found.to_frame(), pandas.DataFrame)
    assert_type(found.accuracy, tuple[int, int])
    assert_type(found.groups, list[str])
    assert_type(found.values_of("n"), set[Any])
    found.to_csv("rows.csv")
    found.to_parquet("rows.parquet")
    assert_type(found.plot(measure="abpc"), Figure)
    assert_type(found.save("run"), Path)
    assert_type(ap.Evaluation.load("run"), ap.Evaluation)
    advice = explainer.recommend(texts, by="abpc", limit=20)
    assert_type(advice, ap.Recommendation)
    assert_type(advice.best.method, str)
    assert_type(advice.best.mean, float)
    assert_type(advice.best.beats_random, bool)
    assert_type([one.method for one in advice.tied], list[str])
    if advice.best_other is not None:
        assert_type(advice.best_other.ranks, Mapping[str, int])
    explainer.explain("The keys", method=advice.method)
    assert_type(advice.verdict, str)
    assert_type(advice.evaluation, ap.Evaluation)
    assert_type(advice.preferred_by(), dict[str, list[str]])
    assert_type(advice.to_frame(), pandas.DataFrame)
    assert_type(ap.Recommendation.load("run"), ap.Recommendation)


def concepts(transformer: nn.Module, inputs: Mapping[str, Any], embedded: Mapping[str, Tensor]) -> None:
    maps = ap.diffusion.concept_maps(transformer, inputs, embedded, layers=[3, 4])
    assert_type(maps, ap.ConceptMaps)
    assert_type(maps.maps, Tensor)
    assert_type(maps.of("cat"), Tensor)
    assert_type(maps.coalition_mean(padding=["sky"]), Tensor)
    assert_type(maps.attribution(), ap.Attribution)
    assert_type(maps.interactions(padding=["sky"]), ap.diffusion.ConceptInteractions)
    assert_type(maps.to_frame(), pandas.DataFrame)
    assert_type(ap.ConceptMaps.joined([maps, maps]), ap.ConceptMaps)


def methods() -> Sequence[ap.Method]:
    recipe = ap.register_recipe(ap.Composite(name="half-frozen", norm="frozen"), conserves="no")
    assert_type(recipe(), ap.Propagation)
    return [
        ap.ALTI(),
        ap.ALTILogit(remainder="last"),
        ap.AtMan(suppression=0.5),
        ap.AttentionGradCAM(layer=-2, at="features"),
        ap.AttnLRP(),
        ap.AttnLRPVision(mlp=0.1),
        ap.Banzhaf(budget=64, features="words"),
        ap.Chefer(identity=False),
        ap.ContextCite(ablations=32),
        ap.CPLRP(),
        ap.DecompX(bias="token"),
        ap.ExpectedGradients(samples=8, references=["a", "b"]),
        ap.GIM(temperature=2.0),
        ap.GlobEnc(),
        ap.Gradient(norm="l2"),
        ap.GradRollout(),
        ap.InputXGradient(),
        ap.IntegratedGradients(steps=8, baseline="mean"),
        ap.LeaveOneOut(masker="delete"),
        ap.MambaLRP(),
        ap.Occlusion(window=2),
        ap.PALRP(),
        ap.Propagation(ap.CP_LRP),
        ap.RelP(corrupt="The keys"),
        ap.ResLRP(),
        ap.Rollout(residual=0.5),
        ap.Shapley(budget=64, masker=ap.MeanEmbedding()),
        ap.Shifted("gradient", count=4),
        ap.SmoothGrad(samples=4, score="input-x-gradient"),
        ap.ValueZeroing(),
        recipe(),
        First(weight=2.0),
    ]


def maskers() -> Sequence[ap.Masker]:
    images: list[ap.ImageMasker] = [ap.Blur(kernel=31), ap.DropTokens(), ap.Inpaint(), ap.MeanColour(), ap.ZeroPixels()]
    tokens = [ap.AttentionMask(), ap.Delete(), ap.MeanEmbedding(), ap.Replace("mask"), ap.ZeroEmbedding(), Blank()]
    named = ap.as_masker("delete+mean")
    assert_type(named, ap.Masker)
    return [*images, *tokens, named]


def targets(direction: Tensor) -> Sequence[ap.AnyTarget]:
    return [
        ap.Target(" are", position="keys"),
        ap.Span((5, 6), unit="logit"),
        ap.Cosine(direction, of=(1, 2)),
        ap.Projection(direction, of="cls", bias=0.5),
        ap.Similarity(),
        Norm(),
    ]


def recipes(model: nn.Module) -> Sequence[ap.Composite]:
    mixed = ap.ATTNLRP.within(ap.GRADIENT, modules="*.mlp*", first_layer=2)
    assert_type(mixed, ap.Composite)
    assert_type(mixed.at("h.0.mlp"), ap.Composite)
    assert_type(ap.Composite.from_dict(mixed.to_dict()), ap.Composite)
    assert_type(ap.attnlrp_vision(model, mlp=0.1), ap.Composite)
    return [mixed, ap.CP_LRP, ap.Composite(name="mine", softmax="half")]


def failing(explainer: ap.Explainer) -> str:
    try:
        explainer.audit("The keys").check()
    except (ap.UnknownOperation, ap.RuleNotApplied, ap.NonFiniteRelevance) as error:
        assert_type(error, ap.UnknownOperation | ap.RuleNotApplied | ap.NonFiniteRelevance)
    except ap.ApportionError as error:
        return str(error)
    return ap.__version__


@ap.register("first", family="own", conserves="exactly", cost="nothing", source="by hand")
@dataclass(frozen=True, kw_only=True)
class First(ap.Method):
    """A method: all to the first feature."""

    weight: float = 1.0

    def attribute(self, task: ap.AttributionTask) -> ap.Shares:
        scores: list[Tensor] = []
        for prompt, values in zip(task.prompts, task.target_values.values, strict=True):
            shares = torch.zeros(len(task.targets), len(prompt.features))
            shares[:, 0] = self.weight * torch.tensor(values)
            scores.append(shares)
        return ap.Shares(scores=scores)


@ap.register_masker("blank")
@dataclass(frozen=True)
class Blank(ap.Masker):
    """A masker: it changes nothing."""

    def variant(self, task: ap.AttributionTask, example: int, present: Tensor) -> ap.Variant:
        return ap.Variant(task.prompts[example], task.rows[example])


@ap.register_measure("length")
@dataclass(frozen=True, kw_only=True)
class Length(ap.Measure):
    """A measure: how many features there are."""

    columns: ClassVar = (ap.evaluation.Column(name="length", better="", meaning="the number of features"),)

    def of(
        self, case: ap.evaluation.Case, attribution: ap.Attribution, method: ap.Method
    ) -> Mapping[str, float | Sequence[float]]:
        assert_type(case.task, ap.AttributionTask)
        assert_type(case.masker, ap.Masker)
        assert_type(case.item, ap.Item)
        return {"length": float(len(attribution.features))}


class Norm(ap.Computed):
    """A target: the length of the pooled output."""

    label = "norm"

    def values(self, output: Any, prompts: Sequence[Any]) -> Tensor:
        norm: Tensor = output.pooler_output.norm(dim=-1)
        return norm


@ap.named_rule("softmax", "half")
def half(operation: ap.Operation) -> ap.Treatment:
    assert_type(operation.live, tuple[bool, ...])
    return ap.Treatment.divide([0.5], "softmax", "half passes on")


@ap.register_rule("FusedSwiGLU")
def swiglu(operation: ap.Operation) -> ap.Treatment:
    return ap.Treatment.constant() if operation.name == "gate" else ap.Treatment.keep()


@dataclass(frozen=True, kw_only=True, repr=False)
class Halves(ap.Shown, ap.Saved):
    """A result: two numbers."""

    first: Tensor
    second: Tensor


def page(halves: Halves) -> str:
    return f"<!doctype html><title>{halves.first}</title>"


def figure(halves: Halves) -> Figure:
    return Figure(figsize=(halves.first.item(), 1))


view = ap.View[Halves](terminal=page, fragment=page, page=page, figure=figure)
ap.register_view(Halves, view)


@ap.register_kind("scorer")
class Scorer(ap.Kind):
    """A kind of model: one number for each text."""

    mappings: ClassVar = ("MODEL_FOR_SCORING_MAPPING_NAMES",)


def own_result(halves: Halves, explainer: ap.Explainer) -> None:
    assert_type(halves.to_html("halves.html"), str)
    assert_type(halves.plot(), Figure)
    assert_type(halves.save("halves.safetensors"), Path)
    assert_type(Halves.load("halves.safetensors"), Halves)
    explainer.explain("The keys", method=First(weight=0.5), unit="logit")


def rooms(payoff: Any) -> None:
    game = ap.games.CooperativeGame(3, payoff)
    assert_type(game.full, Tensor)
    assert_type(ap.games.exact_shapley(game).values, Tensor)
    assert_type(ap.metagame.MetaGame(3, payoff, [0, None]).targets, int)
    assert_type(ap.relevance.RES_LRP, ap.Composite)
    ap.report.register_view(Halves, view)
    assert_type(ap.evaluation.read_texts("texts.txt"), Iterator[ap.Item])
