"""Linear attention: one trained language model whose attention is associated as (QKᵀ)V or as Q(KᵀV).

Without a softmax the two are the same function. So what an explanation makes of the one and of the other shows whether
it depends on how a function is written (You et al. 2025, arXiv 2510.18810).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from apportion import CP_LRP, Composite
from apportion.evaluation import Item

Order = Literal["scores", "state"]
Items = Callable[[int, int], list[Item]]

COLOURS = ("red", "blue", "green", "black", "white", "brown")
DIGITS = ("0", "1", "2", "3", "4", "5")
BEGIN = "<s>"
#: How many coloured digits a sequence has, from and to.
FEWEST, MOST = 3, 6

LAYERS, HEADS, WIDTH = 3, 2, 32
STEPS, BATCH, RATE = 600, 64, 5e-3

#: CP-LRP for an attention without a softmax: what queries and keys decide is held constant, all goes to the values.
VALUES_ONLY: Composite = CP_LRP.within(Composite(name="constant", linear="cut"), modules="*.q_proj").within(
    Composite(name="constant", linear="cut"), modules="*.k_proj"
)


def linear_attention_model(
    order: Order = "scores", seed: int = 0
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, Items]:
    """A Llama with linear attention that recalls the digit of a colour, its tokenizer, and test sequences.

    Both orders of one seed have the same weights. A sequence names some colours, each with a digit, and then one of
    them again: `red3 blue1 green5 blue` is followed by `1`.

    Args:
        order: `"scores"` computes (QKᵀ)V, query by key; `"state"` computes Q(KᵀV), with KᵀV summed along the sequence.
        seed: Of the weights and of the training.

    Returns:
        The model, the tokenizer, and a function from a count and a seed to so many items: the digit's logit minus the
        mean of the other digits', with the place of the coloured digit that decides it as the truth.
    """
    model = copy.deepcopy(_trained(seed))
    model.config._attn_implementation = f"linear-{order}"
    return model, _tokenizer(), _items


def by_scores(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch head key d_head"],
    value: Float[Tensor, "batch head key d_head"],
) -> Float[Tensor, "batch head query d_head"]:
    """(QKᵀ)V, where a query sees the keys up to its own place; the last queries belong to the last keys."""
    scores = query @ key.transpose(-1, -2)
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(
        1 + key.shape[2] - query.shape[2]
    )
    return scores.masked_fill(hidden, 0) @ value


def by_state(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch head key d_head"],
    value: Float[Tensor, "batch head key d_head"],
) -> Float[Tensor, "batch head query d_head"]:
    """Q(KᵀV), where KᵀV is summed up to each place; see `by_scores`."""
    state = (key[..., :, None] * value[..., None, :]).cumsum(2)
    return (query[..., None, :] @ state[:, :, -query.shape[2] :]).squeeze(-2)


def _register(order: Order, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float,
        **options: Any,
    ) -> tuple[Tensor, None]:
        return function(query * scaling, key, value).transpose(1, 2).contiguous(), None

    AttentionInterface.register(f"linear-{order}", attend)
    # What follows is hidden in the attention itself, and padding stands on the right.
    AttentionMaskInterface.register(f"linear-{order}", lambda *arguments, **options: None)


_register("scores", by_scores)
_register("state", by_state)


@cache
def _trained(seed: int) -> LlamaForCausalLM:
    """The model, trained for seconds, in evaluation mode."""
    tokenizer = _tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                num_hidden_layers=LAYERS,
                num_attention_heads=HEADS,
                num_key_value_heads=HEADS,
                max_position_embeddings=32,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=None,
                pad_token_id=tokenizer.pad_token_id,
                attn_implementation="linear-scores",
            )
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    draw = random.Random(seed)
    for _ in range(STEPS):
        ids, answers = _batch(tokenizer, draw)
        logits = model(input_ids=ids, use_cache=False).logits[:, -1]
        optimizer.zero_grad()
        F.cross_entropy(logits, answers).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def _sequence(draw: random.Random, count: int) -> tuple[list[str], int]:
    """A sequence's words and which of them tells its answer."""
    colours = draw.sample(COLOURS, count)
    asked = draw.randrange(count)
    return [*(colour + draw.choice(DIGITS) for colour in colours), colours[asked]], asked


def _batch(tokenizer: PreTrainedTokenizerFast, draw: random.Random) -> tuple[Int[Tensor, "batch seq"], Tensor]:
    count = draw.randint(FEWEST, MOST)
    drawn = [_sequence(draw, count) for _ in range(BATCH)]
    ids = tokenizer([" ".join(words) for words, _ in drawn], return_tensors="pt").input_ids
    answers = tokenizer.convert_tokens_to_ids([words[asked][-1] for words, asked in drawn])
    return ids, torch.tensor(answers)


def _items(count: int, seed: int) -> list[Item]:
    draw = random.Random(f"test {seed}")
    items = []
    for k in range(count):
        words, asked = _sequence(draw, draw.randint(FEWEST, MOST))
        start = len(" ".join([*words[:asked], ""]))
        answer = words[asked][-1]
        items.append(
            Item(
                id=f"recall {seed}.{k}",
                prompt=" ".join(words),
                target=answer,
                contrast=tuple(digit for digit in DIGITS if digit != answer),
                truth=((start, start + len(words[asked])),),
                groups={"colours": len(words) - 1},
            )
        )
    return items


@cache
def _tokenizer() -> PreTrainedTokenizerFast:
    words = ["<unk>", "<pad>", BEGIN, *COLOURS, *DIGITS, *(colour + digit for colour in COLOURS for digit in DIGITS)]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, 2)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>", bos_token=BEGIN)
