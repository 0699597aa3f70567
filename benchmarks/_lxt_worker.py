"""LXT as its documentation uses it, as a worker in LXT's own environment (see `_lxt_environment.py`).

`monkey_patch` changes transformers' classes for good, so a worker process has one patch or none: without one it
measures the plain gradient of this environment, which may differ from the other's since transformers does.
"""

import sys
import types
import warnings
from importlib.metadata import version

import _llama
from _worker import serve, worker_arguments


def patch_llama(recipe: str) -> None:
    """Patch transformers' Llama with one of LXT's recipes."""
    # lxt.efficient imports its vision models, and those torchvision; Llama needs neither.
    stand_in = types.ModuleType("lxt.efficient.models.vit_torch")
    torchvision = types.ModuleType("torchvision.models.vision_transformer")
    vars(stand_in).update(vision_transformer=torchvision, cp_LRP={})
    sys.modules[stand_in.__name__] = stand_in
    # It also warns that zennit, which serves the vision models, is missing.
    warnings.filterwarnings("ignore", message="'zennit' library")

    from lxt.efficient import monkey_patch
    from lxt.efficient.models import llama
    from transformers.models.llama import modeling_llama

    patch_map = {"attnlrp": llama.attnLRP, "cp-lrp": llama.cp_LRP}[recipe]
    with warnings.catch_warnings():
        # LXT warns and goes on when a patch fails, and the values would then be plain gradients.
        warnings.simplefilter("error")
        monkey_patch(modeling_llama, patch_map=patch_map)


def main() -> None:
    """Serve the plain gradient, or with `--recipe` LXT's relevance."""
    parser = worker_arguments()
    parser.add_argument("--recipe", choices=["attnlrp", "cp-lrp"])
    arguments = parser.parse_args()
    if arguments.recipe:
        patch_llama(arguments.recipe)
    model = _llama.llama_with_weights(arguments.weights, arguments.vocab)
    cases = {
        "one logit": lambda ids: _llama.input_x_gradient(model, ids),
        "all logits": lambda ids: _llama.input_x_gradient(model, ids, logits_to_keep=0),
    }
    versions = {package: version(package) for package in ("torch", "transformers", "lxt")}
    serve(cases, vocab=arguments.vocab, versions=versions)


if __name__ == "__main__":
    main()
