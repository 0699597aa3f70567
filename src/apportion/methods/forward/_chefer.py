"""Chefer et al.: the positive part of attention times its gradient, accumulated over the layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.core import ApportionError
from apportion.methods._method import OneByOne, Shares
from apportion.methods._registry import forward_method
from apportion.methods.forward._captured_attention import Attention, CapturedAttention, refuse_images
from apportion.methods.forward._stacks import Stack, stacks_of, sum_of
from apportion.task import AttributionTask


@forward_method("chefer", cost="2 forward, 3 backward", source="Chefer, Gur and Wolf 2021, arXiv 2103.15679")
@dataclass(frozen=True, kw_only=True)
class Chefer(OneByOne):
    r"""Attention weighted by its gradient, accumulated from the first layer to the predicting position.

    With $\bar A = \frac1H \sum_h (\nabla A_h \odot A_h)^+$ in each layer, $R \leftarrow R + \bar A R$ from $R = I$
    (eq. 5-6); the scores are the predicting position's row of R, found from the last layer down without R itself.
    If a target reads several positions, such as a span or a mean over tokens, the scores are the mean of their
    rows. Encoder-decoders follow eq. 7-10; the scores of the source are the relevance of the encoder's tokens for the
    decoder's. Images as in `Rollout`; in a dual encoder each tower has its own R, for the same similarity.

    Args:
        identity: Whether scores start from R = I as in the paper, which adds 1 to the predicting position; if not,
            that 1 is subtracted again.

    Source:
        Chefer, Gur and Wolf 2021, arXiv 2103.15679.
    """

    identity: bool = True

    def alone(self, task: AttributionTask) -> Shares:
        """Accumulate the weighted attention."""
        seen = CapturedAttention(task)
        if len(task.prompts[0].parts) < 2:
            return Shares(scores=[sum_of([s.laid(self._rows(s, seen)) for s in stacks_of(seen, self.name)])])
        refuse_images(task.prompts[0], f"{self.name} of encoder-decoders")
        rows = []
        for target, start in enumerate(seen.reading):
            row = _two_stacks(seen, target, start)
            if not self.identity:
                row[-len(start) :] -= start
            rows.append(row)
        return Shares(scores=[torch.stack(rows)])

    def _rows(self, stack: Stack, seen: CapturedAttention) -> Float[Tensor, "targets places"]:
        rows = torch.stack([_one_stack(stack, seen, target) for target in range(len(stack.reading))])
        return rows if self.identity else rows - stack.reading


def weighted_attention(probabilities: Tensor, gradient: Tensor) -> Float[Tensor, "query key"]:
    """The mean over heads of the positive part of attention times gradient (eq. 5)."""
    return (probabilities[0].detach() * gradient).clamp(min=0).double().mean(0).cpu()


def _one_stack(stack: Stack, seen: CapturedAttention, target: int) -> Float[Tensor, " places"]:
    calls, row = stack.calls(seen), stack.reading[target].clone()
    for call, gradient in zip(reversed(calls), reversed(stack.gradients(seen, target)), strict=True):
        row = row + row @ weighted_attention(call.probabilities, gradient)
    return row


def _two_stacks(seen: CapturedAttention, target: int, start: Float[Tensor, " tokens"]) -> Float[Tensor, " features"]:
    """Scores of the encoder's tokens and then of the decoder's."""
    source, decoded = seen.task.prompts[0].parts.values()
    encoder_calls, decoder_calls = _by_stack(seen)
    weighted = {
        call: weighted_attention(call.probabilities, gradient)
        for call, gradient in zip(seen.attentions, seen.gradients(target), strict=True)
    }
    of_source = torch.eye(source, dtype=torch.float64)
    for call in encoder_calls:
        seen.expect(call, source, source)
        of_source = of_source + weighted[call] @ of_source
    own, across = torch.eye(decoded, dtype=torch.float64), torch.zeros(decoded, source, dtype=torch.float64)
    for looking_back, looking_across in zip(decoder_calls[::2], decoder_calls[1::2], strict=True):
        seen.expect(looking_back, decoded, decoded)
        seen.expect(looking_across, decoded, source)
        own, across = own + weighted[looking_back] @ own, across + weighted[looking_back] @ across
        across = across + _normalised(own).T @ weighted[looking_across] @ _normalised(of_source)
    return torch.cat([start @ across, start @ own])


def _normalised(relevance: Float[Tensor, "token token"]) -> Float[Tensor, "token token"]:
    """Rows without the identity scaled to sum 1, and the identity again (eq. 8-9)."""
    identity = torch.eye(len(relevance), dtype=relevance.dtype)
    gained = relevance - identity
    total = gained.sum(-1, keepdim=True)
    return torch.where(total > 0, gained / total.where(total > 0, 1), 0) + identity


def _by_stack(seen: CapturedAttention) -> tuple[list[Attention], list[Attention]]:
    """Calls in the encoder; and in the decoder, whose layers attend to their own tokens and then to the encoder's."""
    model = seen.task.head.model
    encoder = getattr(model, "get_encoder", lambda: None)()
    inside = set() if encoder is None else set(encoder.modules())
    encoder_calls = [call for call in seen.attentions if call.module in inside]
    decoder_calls = [call for call in seen.attentions if call.module not in inside]
    if encoder is None or not encoder_calls or len(decoder_calls) % 2:
        raise ApportionError(
            f"the decoder of {type(model).__name__} does not attend to its own tokens and the encoder's by turns, as "
            "chefer needs; attnlrp or leave-one-out fit."
        )
    return encoder_calls, decoder_calls
