"""apportion's cases, and a worker that serves them from a fresh process, where peak memory is measured."""

from importlib.metadata import version

import _llama
import torch
from _worker import serve, worker_arguments
from torch import Tensor
from transformers import LlamaForCausalLM

import apportion as ap

RECIPES = ("attnlrp", "cp-lrp")


def apportion_cases(model: LlamaForCausalLM) -> _llama.Cases:
    """The plain gradient, each recipe as `explain` does by default (ledger included), and both on one forward pass."""
    explainer = ap.Explainer(model)
    return {
        "gradient": lambda ids: _llama.input_x_gradient(model, ids),
        "attnlrp": lambda ids: explainer.explain(ids, method="attnlrp").scores,
        "cp-lrp": lambda ids: explainer.explain(ids, method="cp-lrp").scores,
        "attnlrp + cp-lrp": lambda ids: both_recipes(explainer, ids),
    }


def both_recipes(explainer: ap.Explainer, ids: Tensor) -> Tensor:
    """Scores of both recipes from one forward pass."""
    return torch.stack([attribution.scores for attribution in explainer.compare(ids, methods=RECIPES).values()])


def main() -> None:
    """Serve apportion's cases."""
    arguments = worker_arguments().parse_args()
    model = _llama.llama_with_weights(arguments.weights, arguments.vocab)
    versions = {package: version(package) for package in ("torch", "transformers")}
    serve(apportion_cases(model), vocab=arguments.vocab, versions=versions)


if __name__ == "__main__":
    main()
