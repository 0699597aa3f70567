"""Captum's integrated gradients as its documentation uses them, as a worker in Captum's own environment."""

from importlib.metadata import version

import _llama
from _worker import serve, worker_arguments
from captum.attr import IntegratedGradients, LayerIntegratedGradients
from torch import Tensor
from transformers import LlamaForCausalLM


def captum_cases(model: LlamaForCausalLM, *, target: int, baseline: int, steps: int, tokens: int) -> _llama.Cases:
    """By layer as in Captum's tutorials on text, and on the embeddings themselves; of all logits, or only of one.

    Args:
        model: The model.
        target: The token whose logit at the last position is explained.
        baseline: The token whose embedding every path begins at.
        steps: Points of the Gauss–Legendre rule, which is Captum's default.
        tokens: How many tokens make an internal batch.
    """
    embed = model.get_input_embeddings()

    def by_layer(ids: Tensor) -> Tensor:
        def logit(input_ids: Tensor) -> Tensor:
            return model(input_ids=input_ids, use_cache=False).logits[:, -1, target]

        attributions, _ = LayerIntegratedGradients(logit, embed).attribute(
            ids[None],
            baselines=ids[None] * 0 + baseline,
            n_steps=steps,
            internal_batch_size=max(1, tokens // len(ids)),
            return_convergence_delta=True,
        )
        return attributions.sum(-1)[0]

    def on_embeddings(ids: Tensor, logits_to_keep: int) -> Tensor:
        def logit(inputs_embeds: Tensor) -> Tensor:
            kept = model(inputs_embeds=inputs_embeds, use_cache=False, logits_to_keep=logits_to_keep)
            return kept.logits[:, -1, target]

        attributions, _ = IntegratedGradients(logit).attribute(
            embed(ids[None]),
            baselines=embed(ids[None] * 0 + baseline),
            n_steps=steps,
            internal_batch_size=max(1, tokens // len(ids)),
            return_convergence_delta=True,
        )
        return attributions.sum(-1)[0]

    return {
        "captum, by layer": by_layer,
        "captum, embeddings": lambda ids: on_embeddings(ids, 0),
        "captum, one logit": lambda ids: on_embeddings(ids, 1),
    }


def main() -> None:
    """Serve Captum's cases."""
    parser = worker_arguments()
    for name in ("target", "baseline", "steps", "tokens"):
        parser.add_argument(name, type=int)
    arguments = parser.parse_args()
    model = _llama.llama_with_weights(arguments.weights, arguments.vocab)
    cases = captum_cases(
        model,
        target=arguments.target,
        baseline=arguments.baseline,
        steps=arguments.steps,
        tokens=arguments.tokens,
    )
    versions = {package: version(package) for package in ("torch", "transformers", "captum")}
    serve(cases, vocab=arguments.vocab, versions=versions)


if __name__ == "__main__":
    main()
