"""How long a similarity's division among pairs takes, against one backward pass for every dimension of both sides.

The other way is what a plain implementation does: both encoders run once, and each dimension of each encoding is sent
back by itself with `retain_graph`, without rules; the products are then summed (timed on some dimensions).
Both run on one thread, in turn.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel

import apportion as ap

#: Of each encoding so many dimensions are sent back; the time is scaled to all of them, since each takes as long.
DIMENSIONS = 32
RESULTS = Path(__file__).parent / "results" / "bilrp_speed.json"


def minilm() -> tuple[nn.Module, ap.Pair, Callable[[], Tensor]]:
    """A random BERT of MiniLM-L6's size, two texts of 16 tokens."""
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}
    model = BertModel(BertConfig(vocab_size=30522, **sizes)).eval()
    texts = [torch.randint(1000, 30000, (1, 16)) for _ in range(2)]

    def plain() -> Tensor:
        jacobians = []
        for ids in texts:
            embedded = model.embeddings.word_embeddings(ids).detach().requires_grad_(True)
            encoding = model(inputs_embeds=embedded).last_hidden_state.mean(1)[0]
            jacobians.append(one_by_one(encoding / encoding.norm().detach(), embedded))
        return jacobians[0].T @ jacobians[1]

    return model, ap.Pair(*(ids[0].tolist() for ids in texts)), plain


def clip() -> tuple[nn.Module, ap.Pair, Callable[[], Tensor]]:
    """A random CLIP ViT-B/32, an image of 224 × 224 pixels and a text of 12 tokens."""
    model = CLIPModel(CLIPConfig()).eval()
    ids, pixels = torch.randint(1000, 40000, (1, 12)), torch.randn(1, 3, 224, 224)
    ids[0, -1] = model.config.text_config.eos_token_id

    def plain() -> Tensor:
        image = pixels.clone().requires_grad_(True)
        encoding = model.get_image_features(pixel_values=image).pooler_output[0]
        by_pixel = one_by_one(encoding / encoding.norm().detach(), image, keep=True)
        patches = by_pixel.unfold(3, 32, 32).unfold(4, 32, 32).sum((1, 2, 5, 6)).flatten(1)
        held: list[Tensor] = []

        def cut(module: nn.Module, arguments: object, output: Tensor) -> Tensor:
            held.append(output.detach().requires_grad_(True))
            return held[0]

        handle = model.text_model.embeddings.token_embedding.register_forward_hook(cut)
        encoding = model.get_text_features(input_ids=ids).pooler_output[0]
        handle.remove()
        return patches.T @ one_by_one(encoding / encoding.norm().detach(), held[0])

    return model, ap.Pair(pixels[0], ids[0].tolist()), plain


def one_by_one(encoding: Tensor, leaf: Tensor, *, keep: bool = False) -> Tensor:
    """Input times gradient of every dimension, (dimension, place), or in the leaf's own shape."""
    found = []
    for value in encoding[:DIMENSIONS]:
        (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True)
        amount = gradient * leaf.detach()
        found.append(amount if keep else amount[0].sum(-1))
    return torch.stack(found)


def main() -> None:
    """Time both ways in turn and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    found = {}
    cases = (("MiniLM-L6 size, 16 × 16 tokens", minilm, 384), ("CLIP ViT-B/32, 12 tokens × 49 patches", clip, 512))
    for name, made, size in cases:
        torch.manual_seed(0)
        model, pair, plain = made()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        explainer = ap.Explainer(model)
        ways = {
            "explain_pairs": lambda e=explainer, p=pair: e.explain_pairs(p, method="attnlrp"),
            "explain": lambda e=explainer, p=pair: e.explain(p, method="attnlrp"),
            "one backward a dimension": plain,
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for k in range(rounds + 1):
            for way, run in ways.items():
                start = time.perf_counter()
                run()
                taken = time.perf_counter() - start
                if k:  # the first round warms up
                    seconds[way].append(taken * (size / DIMENSIONS if run is plain else 1))
        medians = {way: round(median(times), 3) for way, times in seconds.items()}
        ratio = round(medians["one backward a dimension"] / medians["explain_pairs"], 1)
        found[name] = {"seconds": medians, "times faster": ratio}
        print(name, found[name], flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
