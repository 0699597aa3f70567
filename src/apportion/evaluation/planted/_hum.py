"""The hum: what the fillers of a text add to the answer together, whichever they are."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from apportion.evaluation.planted._circuit import AttentionHead, looking
from apportion.evaluation.planted._space import kind
from apportion.evaluation.planted._words import FILLERS


def hum(out: Float[Tensor, "one features"], *, sharpness: float) -> AttentionHead:
    """A head that writes something with strength 1, in every text.

    It takes the mean, over the fillers, of something that is 1 for each of them: a constant. Exchanging a filler
    changes nothing, but derivatives and decompositions give each of n fillers 1/n of the constant.

    Args:
        out: What is written.
        sharpness: The score of a filler in attention.
    """
    filler = kind(FILLERS[0])
    return looking(filler, sharpness=sharpness, value=filler, out=out, else_start=False)
