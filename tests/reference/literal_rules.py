"""The LRP equations one by one, as they stand in the papers: relevance in, relevance out, no autograd.

Every rule moves relevance itself (not a gradient), in messages R_{i<-j} from an output j to an input i, in
float64. Slow on purpose: the fast engine is compared with these. All tensors are float64 and belong to one sequence.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Composite = Literal["attnlrp", "cp_lrp"]


def per_unit(relevance: Float[Tensor, "*shape"], z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""The factor $R_j / z_j$ that every message shares.

    Raises:
        ZeroDivisionError: Some z is exactly 0, where the equations leave the share undefined.
    """
    if bool((z == 0).any()):
        raise ZeroDivisionError(
            f"{int((z == 0).sum())} of {z.numel()} values are exactly 0, so their relevance cannot be shared; "
            "use other random weights."
        )
    return relevance / z


def linear_map(
    x: Float[Tensor, "seq d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None
) -> Float[Tensor, "seq d_out"]:
    r"""$z_j = \sum_i w_{ji} x_i + b_j$ at each position."""
    z = x @ weight.T
    return z if bias is None else z + bias


def linear_rule(
    x: Float[Tensor, "seq d_in"],
    weight: Float[Tensor, "d_out d_in"],
    bias: Float[Tensor, " d_out"] | None,
    relevance: Float[Tensor, "seq d_out"],
) -> tuple[Float[Tensor, "seq d_in"], float]:
    r"""Share the relevance of a linear map by what each input and the bias contributed.

    $R_{i \leftarrow j} = x_i w_{ji} R_j / z_j$, $R_i = \sum_j R_{i \leftarrow j}$, and the bias keeps
    $\sum_j b_j R_j / z_j$, with $z_j = \sum_i x_i w_{ji} + b_j$.

    Returns:
        Relevance of the input, and what the bias keeps (summed over its entries and over positions).

    Source:
        Bach et al. 2015, eq. 58, doi:10.1371/journal.pone.0130140, in the limit of no stabiliser.
    """
    factor = per_unit(relevance, linear_map(x, weight, bias))
    relevance_of_x = torch.zeros_like(x)
    kept = 0.0
    for position in range(len(x)):
        messages = x[position, None, :] * weight * factor[position, :, None]  # [d_out, d_in]: from j to i
        relevance_of_x[position] = messages.sum(0)
        if bias is not None:
            kept += float((bias * factor[position]).sum())
    return relevance_of_x, kept


def sum_rule(terms: list[Float[Tensor, "*shape"]], relevance: Float[Tensor, "*shape"]) -> list[Float[Tensor, "*shape"]]:
    r"""Share the relevance of a sum, such as a residual connection, by each term's size: $R_a = a R_y / (a + b)$.

    Source:
        The linear rule with weights of 1.
    """
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return [term * per_unit(relevance, total) for term in terms]


def identity_rule(relevance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Pass the relevance of an element-wise function whole to its only input: R_z = R_f(z).

    Source:
        Achtibat et al. 2024, arXiv 2402.05602, sec. 3: an element-wise non-linearity has one input per output.
    """
    return relevance


def product_rule(
    relevance: Float[Tensor, "*shape"], composite: Composite
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Share the relevance of `gate * up`: one half each under AttnLRP, all to `up` under CP-LRP.

    Returns:
        Relevance of the gate (the factor that passed an activation), and of the other factor.

    Source:
        Achtibat et al. 2024, arXiv 2402.05602, prop. 3.2 (uniform rule); CP-LRP holds the gate constant
        (Ali et al. 2022, arXiv 2202.07304, as implemented in LXT's CP-LRP preset).
    """
    if composite == "attnlrp":
        return relevance / 2, relevance / 2
    return torch.zeros_like(relevance), relevance


def layer_norm(
    x: Float[Tensor, "seq d_model"], weight: Float[Tensor, " d_model"], bias: Float[Tensor, " d_model"], eps: float
) -> Float[Tensor, "seq d_model"]:
    r"""$y_i = \gamma_i (x_i - \bar x) / \sigma + \beta_i$, $\sigma^2 = \mathrm{mean}_i (x_i - \bar x)^2 + \epsilon$."""
    centred = x - x.mean(-1, keepdim=True)
    sigma = ((centred**2).mean(-1, keepdim=True) + eps).sqrt()
    return weight * centred / sigma + bias


def layer_norm_rule(
    x: Float[Tensor, "seq d_model"],
    weight: Float[Tensor, " d_model"],
    bias: Float[Tensor, " d_model"],
    eps: float,
    relevance: Float[Tensor, "seq d_model"],
) -> tuple[Float[Tensor, "seq d_model"], float]:
    r"""Share the relevance of a layer norm as that of the linear map it is once $\sigma$ is held constant.

    At each position $y = M x + \beta$ with $M_{ij} = \gamma_i (\delta_{ij} - 1/d) / \sigma$, so the linear rule
    applies: the mean subtraction is part of the map and $\beta$ keeps its share.

    Returns:
        Relevance of the input, and what the bias keeps.

    Source:
        Ali et al. 2022, arXiv 2202.07304 (the statistic detached, the centring linear).
    """
    d_model = x.shape[-1]
    centring = torch.eye(d_model, dtype=x.dtype) - 1 / d_model
    relevance_of_x = torch.zeros_like(x)
    kept = 0.0
    for position in range(len(x)):
        here = slice(position, position + 1)
        sigma = ((x[here] - x[here].mean()) ** 2).mean().add(eps).sqrt()
        relevance_of_x[here], kept_here = linear_rule(
            x[here], weight[:, None] * centring / sigma, bias, relevance[here]
        )
        kept += kept_here
    return relevance_of_x, kept


def rms_norm(
    x: Float[Tensor, "seq d_model"], weight: Float[Tensor, " d_model"], eps: float
) -> Float[Tensor, "seq d_model"]:
    r"""$y_i = \gamma_i x_i / \sigma$ with $\sigma^2 = \mathrm{mean}_i x_i^2 + \epsilon$."""
    return weight * x / ((x**2).mean(-1, keepdim=True) + eps).sqrt()


def rms_norm_rule(relevance: Float[Tensor, "seq d_model"]) -> Float[Tensor, "seq d_model"]:
    """Pass the relevance of an RMS norm on: with the statistic constant, each output has its own single input.

    Source:
        Achtibat et al. 2024, arXiv 2402.05602, prop. 3.4.
    """
    return relevance


def rotation(angles: Float[Tensor, " half"]) -> Float[Tensor, "d_head d_head"]:
    r"""The matrix of a rotary embedding at one position, in the layout that pairs i with i + d/2.

    $y_i = x_i \cos\theta_i - x_{i+d/2} \sin\theta_i$ and $y_{i+d/2} = x_{i+d/2} \cos\theta_i + x_i \sin\theta_i$.
    """
    half = len(angles)
    matrix = torch.zeros(2 * half, 2 * half, dtype=torch.float64)
    for i in range(half):
        cos, sin = angles[i].cos().double(), angles[i].sin().double()
        matrix[i, i], matrix[i, i + half] = cos, -sin
        matrix[i + half, i + half], matrix[i + half, i] = cos, sin
    return matrix


def softmax_rule(
    x: Float[Tensor, " key"], s: Float[Tensor, " key"], relevance: Float[Tensor, " key"]
) -> Float[Tensor, " key"]:
    r"""Share the relevance of a softmax by its first-order Taylor expansion at its input.

    $R_i = x_i (R_i - s_i \sum_j R_j)$. The relevance in and out differ: the expansion's remainder, a virtual
    bias, keeps the rest.

    Source:
        Achtibat et al. 2024, arXiv 2402.05602, prop. 3.1.
    """
    return x * (relevance - s * relevance.sum())


def visible_keys(query: int, length: int, *, causal: bool) -> slice:
    """The keys that a query attends to: those up to its own position, or all."""
    return slice(0, query + 1 if causal else length)


def attention_head(
    q: Float[Tensor, "query d_head"],
    k: Float[Tensor, "key d_head"],
    v: Float[Tensor, "key d_head"],
    *,
    causal: bool,
) -> Float[Tensor, "query d_head"]:
    r"""$o_t = \sum_s a_{ts} v_s$ with $a_t = \mathrm{softmax}_s(q_t \cdot k_s / \sqrt d)$ over the visible keys."""
    output = torch.zeros(len(q), v.shape[-1], dtype=v.dtype)
    for query in range(len(q)):
        visible = visible_keys(query, len(k), causal=causal)
        weights = torch.softmax(k[visible] @ q[query] / math.sqrt(q.shape[-1]), -1)
        output[query] = weights @ v[visible]
    return output


def attention_head_rule(
    q: Float[Tensor, "query d_head"],
    k: Float[Tensor, "key d_head"],
    v: Float[Tensor, "key d_head"],
    relevance: Float[Tensor, "query d_head"],
    *,
    causal: bool,
    composite: Composite,
) -> tuple[Float[Tensor, "query d_head"], Float[Tensor, "key d_head"], Float[Tensor, "key d_head"], float]:
    r"""Share the relevance of one attention head among its queries, keys and values.

    The contribution of key s to output dimension d of query t is $a_{ts} v_{sd}$, with relevance
    $a_{ts} v_{sd} R_{td} / o_{td}$. AttnLRP gives half to $v_{sd}$ and half to $a_{ts}$; the latter goes through
    the softmax rule to the score $x_{ts} = \sum_d q_{td} k_{sd} / \sqrt d$ and from there, by the contributions to
    that sum, half to $q_{td}$ and half to $k_{sd}$. CP-LRP holds $a$ constant and gives all to $v$.

    Returns:
        Relevance of queries, keys and values, and what the softmax keeps (0 for CP-LRP).

    Source:
        Achtibat et al. 2024, arXiv 2402.05602, prop. 3.1 and 3.3; Ali et al. 2022, arXiv 2202.07304.
    """
    relevance_q, relevance_k, relevance_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    kept = 0.0
    for query in range(len(q)):
        visible = visible_keys(query, len(k), causal=causal)
        products = q[query] * k[visible] / math.sqrt(q.shape[-1])  # [key, d_head]
        x = products.sum(-1)
        s = torch.softmax(x, -1)
        factor = per_unit(relevance[query], s @ v[visible])
        messages = s[:, None] * v[visible] * factor  # [key, d_head]
        if composite == "cp_lrp":
            relevance_v[visible] += messages
            continue
        relevance_v[visible] += messages / 2
        relevance_s = messages.sum(-1) / 2
        relevance_x = softmax_rule(x, s, relevance_s)
        kept += float(relevance_s.sum() - relevance_x.sum())
        messages = products * per_unit(relevance_x, x)[:, None]
        relevance_q[query] += messages.sum(0) / 2
        relevance_k[visible] += messages / 2
    return relevance_q, relevance_k, relevance_v, kept
