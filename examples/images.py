"""Pictures of explained pictures: docs/gallery/*.html, each with a PNG of it where Chromium is there to draw one.

python -m examples.images [cat mosaic caption question speech readme]
"""

import argparse
import io
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

import apportion as ap
from benchmarks.shapes._models import shapes_clip, shapes_vlm
from benchmarks.shapes._pictures import pictures
from benchmarks.shapes._questions import questions
from benchmarks.studies import _dinov2
from benchmarks.studies._whisper import whisper

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "gallery"
SPEECH = ROOT / "benchmarks" / "studies" / "speech" / "sentence.wav"
#: The fitted probe is kept here, since it takes minutes.
KEPT = Path(tempfile.gettempdir()) / "apportion-gallery" / "probe"
METHODS = ("res-lrp", "attnlrp", "attnlrp-vision", "chefer", "integrated-gradients(steps=16)", "occlusion(window=3)")
#: The least probability of the answer that is shown.
SURE = 0.5
#: Bytes of a PNG.
LARGEST = 240_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def named(explainer: ap.Explainer, name: str) -> ap.Explainer:
    """The explainer of a model that reports shall call by this name."""
    explainer.model.config._name_or_path = name
    return explainer


def probe() -> ap.Explainer:
    """DINOv2-small with a linear probe fitted on twelve photographs."""
    if not KEPT.is_dir():
        _dinov2.probe().model.save_pretrained(KEPT)
        _dinov2.processor().save_pretrained(KEPT)
    return named(ap.load(KEPT), "DINOv2-small, linear probe")


def cat() -> None:
    """What makes it a cat, and what other methods say."""
    explainer, photograph = probe(), _dinov2.photographs()["cat"]
    write("cat", explainer.explain(photograph, target="cat"), height=820)
    compared = explainer.compare(photograph, target="cat", methods=METHODS, progress=False)
    write("cat-methods", compared, width=1240, height=880)


def mosaic() -> None:
    """Four photographs in one, asked for two of them."""
    explainer, photographs, half = probe(), _dinov2.photographs(), _dinov2.SIDE // 2
    picture = Image.new("RGB", (2 * half, 2 * half))
    for k, name in enumerate(("cat", "coffee", "rocket", "coins")):
        photograph = photographs[name]
        side = min(photograph.size)
        left, top = ((length - side) // 2 for length in photograph.size)
        square = photograph.crop((left, top, left + side, top + side)).resize((half, half))
        picture.paste(square, (k % 2 * half, k // 2 * half))
    found = explainer.explain(picture, target=["cat", "coffee"])
    write("mosaic", found, drawn=False)
    drawn = io.BytesIO()
    found.plot().savefig(drawn, dpi=100)
    keep(Image.open(drawn), "mosaic")


def caption() -> None:
    """A caption on a picture: shares of both, and the pairs, with a word pointed at."""
    explainer = named(ap.Explainer(*shapes_clip()), "CLIP of shapes")
    picture = next(p for p in pictures(200, seed=3, things=(2,)) if p.caption == "a green circle above a red cross")
    pair = ap.Pair(Image.fromarray(picture.image), picture.caption)
    write("caption", explainer.explain(pair), height=1130)
    write("caption-pairs", explainer.explain_pairs(pair), height=940, point=".side-1 [data-i='6']")


def question() -> None:
    """A question about a picture, answered; the answer's first word pointed at."""
    explainer = named(ap.Explainer(*shapes_vlm()), "LLaVA of shapes")
    for picture in pictures(200, seed=4, things=(2,)):
        asked = next((q for q in questions(picture) if q.kind == "colour"), None)
        if asked is None or len({thing.colour for thing in picture.things}) == 1:
            continue
        prompt = {"images": Image.fromarray(picture.image), "text": f"<image> {asked.text}"}
        sure = dict(explainer.explain(prompt).prediction).get(asked.answer, 0)
        if sure < SURE:
            continue
        generation = explainer.generate(prompt, max_new_tokens=4)
        if generation.text.strip() == asked.answer:
            break
    else:
        raise SystemExit("error: the model is sure of no answer; train it again.")
    write("question", generation.attribute(progress=False), height=860, point=".target-token")


def speech() -> None:
    """A recording, and what of it made one word of the transcript."""
    generation = named(whisper(), "Whisper tiny.en").generate({"audio": SPEECH})
    found = generation.attribute(progress=False)
    write("speech", found, drawn=False)
    word = next(k for k, target in enumerate(found.explained) if "kitchen" in target.label)
    write("speech-kitchen", found[word], height=760)


def readme() -> None:
    """The README's picture: the cat's page and the caption's pairs, side by side, from their PNGs."""
    wide = 1320
    parts = [Image.open(FOLDER / f"{name}.png").convert("RGB") for name in ("cat", "caption-pairs")]
    parts = [part.crop((0, 20, 1080, 785)) for part in parts]
    joined = Image.new("RGB", (sum(part.width for part in parts) + 2, parts[0].height), "#d8dbdf")
    joined.paste(parts[0], (0, 0))
    joined.paste(parts[1], (parts[0].width + 2, 0))
    joined = joined.resize((wide, round(joined.height * wide / joined.width)), Image.Resampling.LANCZOS)
    joined.save(ROOT / "docs" / "images" / "images.png", optimize=True)


def write(name: str, result: Any, *, width: int = 1100, height: int = 900, point: str = "", drawn: bool = True) -> None:
    """A result's page, and a PNG of it: its upper `height` pixels, with the pointer on what `point` selects."""
    path = FOLDER / f"{name}.html"
    page = result.to_html(path)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    print(f"{name}: {path.stat().st_size // 1000} kB")
    if browser is None or not drawn:
        return
    with tempfile.TemporaryDirectory() as folder:
        pointed = Path(folder) / "page.html"
        pointing = f"const at = document.querySelector({point!r}); for (const name of ['pointerenter', 'mouseover'])"
        script = f"<script>{pointing} at.dispatchEvent(new MouseEvent(name, {{ bubbles: true }}));</script>"
        pointed.write_text(page.replace("</body>", f"{script if point else ''}</body>"))
        shot = Path(folder) / "page.png"
        fixed = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=3000")
        places = (f"--user-data-dir={folder}/profile", f"--screenshot={shot}", f"--window-size={width},{height}")
        subprocess.run(
            [browser, *fixed, *places, pointed.as_uri()],
            check=True,
            capture_output=True,
            timeout=120,
        )
        keep(Image.open(shot), name)


def keep(picture: Image.Image, name: str) -> None:
    """Write a PNG, with 256 colours where it would be large."""
    path = FOLDER / f"{name}.png"
    picture.convert("RGB").save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        picture.convert("RGB").quantize(256).save(path, optimize=True)


PAGES = {made.__name__: made for made in (cat, mosaic, caption, question, speech, readme)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", help=f"of {', '.join(PAGES)}; all by default")
    FOLDER.mkdir(exist_ok=True)
    for page_name in parser.parse_args().pages or PAGES:
        PAGES[page_name]()
