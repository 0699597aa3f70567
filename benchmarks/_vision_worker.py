"""The vision benchmark's cases besides Captum, and a worker that serves them from a fresh process to measure memory."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

import _llama
import torch
from _vit import random_images, random_vit
from _worker import serve
from torch import Tensor

import apportion as ap
from apportion.relevance import ATTNLRP, CP_LRP, RES_LRP, Composite, record

RECIPES: Mapping[str, Composite] = {"attnlrp": ATTNLRP, "res-lrp": RES_LRP, "cp-lrp": CP_LRP}


def vision_cases() -> _llama.Cases:
    """The plain gradient, each recipe with its ledger, and the method of Chefer et al."""
    cases: dict[str, _llama.Case] = {"gradient": gradient}
    cases |= {name: _propagating(composite) for name, composite in RECIPES.items()}
    cases |= {f"{name}, explained": _explaining(name) for name in RECIPES}
    cases["chefer"] = chefer
    return cases


def gradient(images: Tensor) -> Tensor:
    """The gradient of each image's largest logit by its pixels: the unit of the benchmark."""
    pixels = images.clone().requires_grad_()
    best = random_vit()(pixel_values=pixels).logits.max(-1).values
    return torch.autograd.grad(best.sum(), pixels)[0]


def _propagating(composite: Composite) -> _llama.Case:
    """Relevance of the pixels for each image's largest logit, by the engine alone, with one ledger for the batch."""

    def relevance(images: Tensor) -> Tensor:
        inputs = {"pixel_values": images}
        trace = record(random_vit(), inputs, detail=False, summands=composite.reads_summands)
        logits = trace.output.logits
        seed = torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1)
        found = trace.propagate(logits, seed[None], composite, keep_graph=False)
        assert found.ledger is not None
        return found.relevance["pixel_values"][0]

    return relevance


def _explaining(method: str) -> _llama.Case:
    """Scores of the patches, as a user gets them; several images run as a batch, without a ledger."""

    def scores(images: Tensor) -> Tensor:
        found = _explainer().explain_many(
            {"pixel_values": images}, method=method, batch_size=len(images), progress=False
        )
        return torch.stack([attribution.scores for attribution in (found if isinstance(found, list) else [found])])

    return scores


@cache
def _explainer() -> ap.Explainer:
    return ap.Explainer(random_vit())


def chefer(images: Tensor) -> Tensor:
    """Chefer, Gur and Wolf 2021, eq. 5 and 6, for the class token, as a user without a library writes it.

    Attention has to be written out (`eager`), so that its probabilities are there and have a gradient. The rule needs
    no gradient below the first layer's attention, and with frozen weights nothing else is computed either.
    """
    pixels = images.clone().requires_grad_()
    output = random_vit("eager")(pixel_values=pixels, output_attentions=True)
    gradients = torch.autograd.grad(output.logits.max(-1).values.sum(), output.attentions)
    relevance = torch.eye(output.attentions[0].shape[-1]).expand(len(images), -1, -1)
    for attention, gradient_of_it in zip(output.attentions, gradients, strict=True):
        weighted = (attention.detach() * gradient_of_it).clamp(min=0).mean(1)
        relevance = relevance + weighted @ relevance
    return relevance[:, 0, 1:]


def main() -> None:
    """Serve the cases."""
    versions = {package: version(package) for package in ("torch", "transformers")}
    serve(vision_cases(), versions=versions, inputs=random_images, warm_up=1)


if __name__ == "__main__":
    main()
