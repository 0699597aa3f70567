"""Which recipe points at the thing? Mosaics of photographs, captions and questions about shapes, words of a recording.

python -m benchmarks.studies.localisation [--limit 60] [--only mosaics]
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import apportion as ap
from apportion.evaluation import Evaluation, Item
from apportion.methods import default_method
from benchmarks.shapes._models import shapes_clip, shapes_vlm
from benchmarks.shapes._pictures import pictures
from benchmarks.shapes._questions import questions
from benchmarks.studies import _dinov2
from benchmarks.studies._study import run, table, write_block
from benchmarks.studies._whisper import whisper

COLUMNS = {"rma": "relevance inside", "pg1": "pointing game", "rra": "rank accuracy"}
FAITHFUL = {"abpc": "SRG (logit)", "abpc_probability": "SRG (probability)"}
MEASURED = ["ground-truth"]
SPEECH = Path(__file__).parent / "speech"
SOUND: dict[str, Any] = {
    "gradient (L2)": "gradient",
    "input-x-gradient": "input-x-gradient",
    "attnlrp": "attnlrp",
    "res-lrp": "res-lrp",
    "cp-lrp": "cp-lrp",
}

# Those that draw samples or steps draw fewer than by default.
METHODS: dict[str, Any] = {
    "gradient (L2)": "gradient",
    "input-x-gradient": "input-x-gradient",
    "integrated-gradients": "integrated-gradients(steps=8)",
    "smoothgrad": "smoothgrad(samples=4)",
    "attnlrp": "attnlrp",
    "attnlrp-vision": "attnlrp-vision",
    "res-lrp": "res-lrp",
    "cp-lrp": "cp-lrp",
    "gim": "gim",
    "rollout": "rollout",
    "grad-rollout": "grad-rollout",
    "chefer": "chefer",
    "grad-cam": "grad-cam",
    "leave-one-out": "leave-one-out",
}

CURVED = ("input-x-gradient", "attnlrp", "attnlrp-vision", "res-lrp", "cp-lrp", "chefer", "grad-cam")


def mosaics(count: int, seed: int = 5) -> Iterator[Item]:
    """Squares of four photographs of different classes; each of the four is asked for in its turn."""
    rng = np.random.default_rng(seed)
    half = _dinov2.SIDE // 2
    by_class: dict[str, list[Image.Image]] = {}
    for name, crop in _dinov2.crops(8 * len(_dinov2.CLASSES), seed, half="test", least=0.6):
        by_class.setdefault(name, []).append(crop)
    for k in range(count):
        names = rng.choice(_dinov2.CLASSES, 4, replace=False)
        picture = Image.new("RGB", (_dinov2.SIDE, _dinov2.SIDE))
        for place, name in enumerate(names):
            crop = by_class[name][int(rng.integers(len(by_class[name])))].resize((half, half))
            picture.paste(crop, (place % 2 * half, place // 2 * half))
        asked = k % 4
        mask = np.zeros((_dinov2.SIDE, _dinov2.SIDE), dtype=bool)
        mask[asked // 2 * half :, asked % 2 * half :][:half, :half] = True
        yield Item(id=f"mosaic-{k}", prompt=picture, target=str(names[asked]), truth=mask, regions=2 * _dinov2.PATCH)


def single_crops(count: int, seed: int = 9) -> Iterator[Item]:
    """Crops of photographs, for perturbation curves."""
    for k, (name, crop) in enumerate(_dinov2.crops(count, seed, half="test")):
        yield Item(id=f"crop-{k}", prompt=crop, target=name, regions=2 * _dinov2.PATCH)


def captions(count: int, seed: int = 11) -> Iterator[Item]:
    """Two things in a picture and a caption that names one of them: the similarity shall rest on that thing."""
    for k, picture in enumerate(pictures(count, seed=seed, things=(2,))):
        thing = picture.things[k % 2]
        text = f"a {thing.colour} {thing.shape}"
        yield Item(id=f"caption-{k}", prompt=ap.Pair(Image.fromarray(picture.image), text), truth=thing.mask)


def asked(count: int, seed: int = 13) -> Iterator[Item]:
    """Questions for what lies beside a thing; the answer's first word, its colour, shall rest on what is asked for."""
    made = 0
    for picture in pictures(4 * count, seed=seed, things=(2,)):
        found = [q for q in questions(picture) if q.kind == "what" and q.thing is not None]
        if not found or made == count:
            continue
        question = found[made % len(found)]
        prompt = {"images": Image.fromarray(picture.image), "text": f"<image> {question.text}"}
        truth = question.thing.mask
        yield Item(id=f"question-{made}", prompt=prompt, target=question.answer.split()[0], truth=truth)
        made += 1


@cache
def probe() -> ap.Explainer:
    found = _dinov2.probe()
    print(f"The probe names {found.accuracy:.1%} of held-out crops.")
    return ap.Explainer(found.model, _dinov2.processor())


def towered(explainer: ap.Explainer, *left_out: str) -> dict[str, Any]:
    """The methods, with ResLRP's rule in the vision tower alone, as is the default for such models."""
    chosen = {name: method for name, method in METHODS.items() if name not in left_out}
    return {**chosen, "res-lrp": default_method(explainer.model, pixels=True)}


def on_mosaics(limit: int) -> Evaluation:
    return run("localisation-mosaics", probe(), mosaics(limit), methods=METHODS, measures=MEASURED, limit=limit)


def faithful(limit: int) -> Evaluation:
    chosen = {name: METHODS[name] for name in CURVED}
    measures = ["perturbation-curves(steps=8)"]
    return run(
        "localisation-faithful",
        probe(),
        single_crops(limit),
        methods=chosen,
        measures=measures,
        limit=limit,
        masker="blur",
    )


def on_captions(limit: int) -> Evaluation:
    explainer = ap.Explainer(*shapes_clip())
    return run(
        "localisation-captions", explainer, captions(limit), methods=towered(explainer), measures=MEASURED, limit=limit
    )


def on_questions(limit: int) -> Evaluation:
    explainer = ap.Explainer(*shapes_vlm())
    forward = ("rollout", "grad-rollout", "chefer", "grad-cam")
    methods = towered(explainer, *forward)
    return run("localisation-questions", explainer, asked(limit), methods=methods, measures=MEASURED, limit=limit)


def heard() -> str:
    """A table: for each method, how much of each recognised word's relevance to sound falls into its time."""
    times = json.loads((SPEECH / "sentence.json").read_text())
    generation = whisper().generate({"audio": SPEECH / "sentence.wav"}, max_new_tokens=16)
    said = [feature.label.strip().lower() for feature in generation.features[-len(generation.ids) :]]
    lines = ["| method | words | relevance inside | pointing game |", "|---|---:|---:|---:|"]
    for name, method in SOUND.items():
        found = generation.attribute(method=method, progress=False)
        frames = [k for k, f in enumerate(found.features) if f.part == "sound" and not f.template]
        inside, pointed, at = [], [], 0
        for row, word in zip(found, said, strict=True):
            spoken = next((k for k in range(at, len(times)) if times[k]["word"] == word), None)
            if spoken is None:
                continue
            at = spoken + 1
            scores = row.scores[frames].clamp(min=0)
            # A frame belongs to the word if its middle does; features are a tenth of a second long.
            middles = torch.arange(len(frames)) / 10 + 0.05
            within = (middles > times[spoken]["start"] - 0.05) & (middles < times[spoken]["end"] + 0.05)
            inside.append((scores[within].sum() / scores.sum()).item())
            pointed.append(bool(within[scores.argmax()]))
        lines.append(f"| {name} | {len(inside)} | {np.mean(inside):.2f} | {np.mean(pointed):.2f} |")
    return "\n".join([f"Heard: “{generation.text.strip()}”.", "", *lines])


STUDIES: dict[str, tuple[Callable[[int], Evaluation], dict[str, str], float]] = {
    "mosaics": (on_mosaics, COLUMNS, 1.0),
    "captions": (on_captions, COLUMNS, 2.0),
    "questions": (on_questions, COLUMNS, 2.0),
    "faithful": (faithful, FAITHFUL, 0.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=60, help="mosaics; the other sets follow from it")
    parser.add_argument("--only", choices=(*STUDIES, "sound"), action="append", help="only these sets")
    options = parser.parse_args()
    for name in options.only or [*STUDIES, "sound"]:
        if name == "sound":
            write_block("localisation", "sound", heard())
            continue
        study, columns, share = STUDIES[name]
        found = study(int(options.limit * share))
        write_block("localisation", name, table(found.summary(), columns))
        write_block("localisation", f"{name} paired", _paired(found, next(iter(columns)), next(iter(columns.values()))))
        refused = "\n".join(f"- {row.method}: {row.reason}" for row in found.refusals().itertuples())
        write_block("localisation", f"{name} refusals", refused)


def _paired(found: Evaluation, measure: str, called: str) -> str:
    """ResLRP less AttnLRP on the same items."""
    rows = found.differences(measure, to="attnlrp")
    row = rows[rows.method == "res-lrp"].iloc[0]
    text = f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]".replace("-", "−")
    return f"ResLRP less AttnLRP on the same items, {called}: {text}."


if __name__ == "__main__":
    main()
