"""One small example of every kind of result, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from apportion import (
    Attribution,
    Attributions,
    Audit,
    Comparison,
    Generation,
    Interactions,
    Ledger,
    Pairwise,
    UnknownOperation,
)
from apportion.core import Feature, Picture
from apportion.diffusion import ConceptInteractions, ConceptMaps
from apportion.evaluation import MEASURES, Evaluation
from apportion.evaluation._recommend import recommendation_of
from apportion.models.inputs import ContinuousInput, Prompt
from apportion.relevance import ATTNLRP, AuditRow
from apportion.results import Cost, Explained
from apportion.results.evaluation import Recommendation
from tests.report.conftest import attribution_of, features_of, ledger_for

PICTURE = Picture(
    pixels=(torch.arange(48) * 5 % 256).to(torch.uint8).reshape(4, 4, 3),
    owner=torch.arange(4, dtype=torch.int32).reshape(2, 2).repeat_interleave(2, 0).repeat_interleave(2, 1),
    label="image 2",
)
PATCHES = tuple(Feature(label=f"patch {i}", kind="patch", positions=(i,), part="image", image=0) for i in range(4))
WORDS = tuple(features_of(["The", " keys", "."]))


def attribution(folder: Path | None = None) -> Attribution:
    return attribution_of(
        torch.tensor([1.5, -0.5, 0.25, 0.0, 2.0, -1.0, 0.75], dtype=torch.float64),
        (*PATCHES, *WORDS),
        options={"steps": 5, "baseline": None, "layers": [1, 2]},
        cost=Cost(seconds=0.25, forward=1.0, backward=2.0),
        pictures=(PICTURE,),
    )


def attributions(folder: Path | None = None) -> Attributions:
    return Attributions(found={0: attribution(), 2: attribution()}, reasons={1: "the prompt is empty"})


def comparison(folder: Path | None = None) -> Comparison:
    one, other = attribution(), attribution()
    refused = {"relp": UnknownOperation("no rule for Fused")}
    return Comparison(attributions={"attnlrp": one, "gradient": other}, refused=refused)


def interactions(folder: Path | None = None) -> Interactions:
    values = torch.arange(9, dtype=torch.float64).reshape(3, 3) - 3
    return Interactions(
        values=values,
        main_effect=values.diagonal(),
        first_order=values.sum(0),
        sources=WORDS,
        features=WORDS,
        source_of=(0, 1, 2),
        explained=(Explained(label='" are"', unit="logit", value=9.0),),
        index="metagame",
        method="attnlrp",
        third=torch.zeros(3, 3, 3, dtype=torch.float64),
    )


def pairwise(folder: Path | None = None) -> Pairwise:
    scores = torch.tensor([[1.0, 2.0, -1.0, 0.5]], dtype=torch.float64)
    return Pairwise(
        scores=scores,
        rows=WORDS[:1],
        columns=PATCHES,
        row_rest=torch.zeros(1).double(),
        column_rest=torch.zeros(4).double(),
        row_values=scores.sum(1),
        column_values=scores.sum(0),
        explained=Explained(label="similarity", unit="cosine", value=2.5),
        ledger=Ledger(total=scores.sum(), lines={"pairs": scores.sum()}),
        method="attnlrp",
        pictures=(PICTURE,),
    )


def evaluation(folder: Path) -> Evaluation:
    columns = [asdict(column) for column in MEASURES["perturbation-curves"].columns]
    methods = {"attnlrp": 2.0, "gradient": 1.0, "random": 0.0}
    settings = {
        "model": "by hand",
        "methods": {method: {} for method in methods},
        "measures": {"perturbation-curves": {}},
        "columns": columns,
        "seed": 0,
    }
    run = folder / "run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps(settings))
    rows = [
        {"item": f"i{i}", "method": method, "values": {columns[0]["name"]: value + i / 8}, "seconds": 1.0}
        | {"forward": 1.0, "backward": 1.0, "curves": {c["name"]: [3.0, 1.0, 0.0] for c in columns if c["curve"]}}
        for i in range(8)
        for method, value in methods.items()
    ]
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Evaluation.load(run)


def recommendation(folder: Path) -> Recommendation:
    found = evaluation(folder)
    return recommendation_of(found, found.columns[0], {"attnlrp": "attnlrp"})


def audit(folder: Path | None = None) -> Audit:
    rows = [AuditRow(f"h.{i}.mlp", "Silu", "activation", "f(z)/z", 1 + i) for i in range(3)]
    rows += [AuditRow("", "Add", "linear", "derivative kept", 4)]
    return Audit(ATTNLRP.from_layer(1, ATTNLRP), tuple(rows), 10, 12, ("no norm in h.1",))


def ledger(folder: Path | None = None) -> Ledger:
    return ledger_for(torch.tensor([[1.0, 2.0], [0.5, -3.0]]))


def concept_maps(folder: Path | None = None) -> ConceptMaps:
    by_layer = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    return ConceptMaps(concepts=("cat", "sofa", "sky"), by_layer=by_layer, layers=("blocks.0", "blocks.1"))


def concept_interactions(folder: Path | None = None) -> ConceptInteractions:
    return concept_maps().interactions(padding=["sky"])


def generation(folder: Path | None = None) -> Generation:
    features = (*WORDS, *(Feature(label=t, positions=(3 + i,), part="answer") for i, t in enumerate([" are", " old"])))
    continuous = ContinuousInput(
        name="pixel_values", owner=PICTURE.owner[None, None].long(), features=PATCHES, pictures=(PICTURE,)
    )
    return Generation(
        prompt=Prompt(
            inputs={"input_ids": torch.tensor([[5, 6, 7]]), "pixel_values": torch.ones(1, 3, 4, 4), "use": None},
            features=WORDS,
            parts={"input_ids": 3},
            continuous_inputs=(continuous,),
        ),
        ids=(8, 9),
        features=features,
        text="are old",
        parts={"answer": "are old"},
        model="tiny",
    )


MAKERS: dict[str, Callable[[Path], Any]] = {
    maker.__name__: maker
    for maker in (
        attribution,
        attributions,
        comparison,
        generation,
        interactions,
        pairwise,
        evaluation,
        recommendation,
        audit,
        ledger,
        concept_maps,
        concept_interactions,
    )
}
