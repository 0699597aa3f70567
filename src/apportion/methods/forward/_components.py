"""Components: each token's part of every tensor of a forward pass, carried along to the outputs that targets read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from apportion.core import ApportionError
from apportion.methods.forward._captured_attention import outputs_read
from apportion.methods.forward._layer_inputs import reading_through
from apportion.models.anatomy import Heads, anatomy, attention_through, in_evaluation, same, tolerance_of
from apportion.task import AttributionTask

ACTIVATIONS = {"gelu", "silu", "relu", "relu6", "leaky_relu", "elu", "mish", "tanh", "sigmoid", "softplus", "hardswish"}
ADDITIONS, SUBTRACTIONS = {"add", "radd", "iadd"}, {"sub", "isub"}
PRODUCTS = {"mul", "rmul", "imul", "multiply"}
#: The most numbers that are carried along with one tensor.
MOST_NUMBERS = 2**30


def components_of_outputs(task: AttributionTask, firsts: Sequence[str]) -> list[Float[Tensor, "component ..."]]:
    """The components of the tensors that the targets read: one for each token, and last the rest.

    Every bias is divided among the components v_k at its place by |b · v_k| / Σ_j |b · v_j|. The components start as
    the input of the first layer, whose path is given, of a model that is one stack of layers.

    Raises:
        ApportionError: The components do not sum to the model's outputs, or would be too many numbers.
    """
    model = task.head.model
    layers = anatomy(model, task.inputs).layers
    carrying = _Carrying({module.get_parameter("weight") for a in layers for module in (a.value, a.projection)})

    def attend(heads: Heads) -> tuple[Tensor, Tensor | None]:
        carrying.forget(heads.query)
        carrying.forget(heads.key)
        probabilities = heads.probabilities()
        return heads.mixed(probabilities), probabilities

    with (
        in_evaluation(model),
        torch.no_grad(),
        attention_through(model, attend),
        reading_through(model, firsts, lambda number, hidden: carrying.begin(hidden)),
        carrying,
    ):
        output = model(**task.inputs)
    task.passes.forward += 1 + task.prompts[0].length
    found = []
    for read in outputs_read(task, output):
        carried = carrying.of(read)
        if carried is None or not same(carried.vectors.sum(0), read, tolerance_of(read)):
            raise ApportionError(
                f"the vectors of the tokens do not sum to the output of {type(model).__name__}, since it has "
                "operations that cannot be decomposed; decompx(bias='token') or cp-lrp serve it."
            )
        found.append(carried.vectors)
    return found


@dataclass(frozen=True)
class _Carried:
    """The components of a tensor, which sum to it.

    Args:
        vectors: An axis of components before the tensor's own: tokens, and last the biases not yet divided.
        gate: Whether the tensor passed an activation since the last linear map.
    """

    vectors: Tensor
    gate: bool = False


class _Carrying(TorchFunctionMode):
    """Carries components through the operations of a model while it runs.

    An operation counts as linear if the images of the components sum to the image of the tensor; any other result,
    such as a norm's statistic, is held fixed and has no components. The biases of the linear maps with weights in
    `waiting`, those of the values and of the heads' projection, are divided at the residual sum after the attention.
    """

    def __init__(self, waiting: set[Tensor]) -> None:
        super().__init__()
        self.waiting = waiting
        self.known: Any = WeakTensorKeyDictionary()

    def of(self, tensor: Any) -> _Carried | None:
        """A tensor's components."""
        return self.known.get(tensor) if isinstance(tensor, Tensor) else None

    def forget(self, tensor: Tensor) -> None:
        """Hold a tensor fixed from here on."""
        self.known.pop(tensor, None)

    def begin(self, hidden: Tensor) -> Tensor:
        """Start a component for each place."""
        length = hidden.shape[1]
        vectors = hidden.new_zeros(length + 1, *hidden.shape)
        places = torch.arange(length)
        vectors[places, 0, places] = hidden[0]
        self.known[hidden] = _Carried(vectors)
        return hidden

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not any(self.of(argument) for argument in torch.utils._pytree.tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        rule = self._rule(getattr(func, "__name__", "").strip("_"))
        components = None if rule is None else rule(func, args, kwargs)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        version = None if first is None else first._version
        out = func(*args, **kwargs)
        overwritten = first is not None and first._version != version
        if first is not None and overwritten:
            self.forget(first)
        if components is not None:
            self._keep(out, components)
        elif rule is None and out is not first and not overwritten:
            self._linear(func, args, kwargs, out)
        return out

    def _rule(self, name: str) -> Callable[[Any, Any, Any], _Carried | None] | None:
        if name in ("linear", "addmm"):
            return self._affine
        if name == "layer_norm":
            return self._layer_norm
        if name in ACTIVATIONS or name == "rms_norm":
            return self._slope
        if name in ADDITIONS | SUBTRACTIONS:
            return self._sum
        if name == "index_add":
            return self._scattered
        return self._product if name in PRODUCTS else None

    def _keep(self, tensor: Tensor, carried: _Carried) -> None:
        if carried.vectors.numel() > MOST_NUMBERS:
            raise ApportionError(
                f"the prompt is too long to carry a vector for each token: {carried.vectors.numel():.1e} numbers at "
                "one place; shorten it, or use decompx(bias='token'), which needs no vectors."
            )
        self.known[tensor] = carried

    def _affine(self, func: Any, args: Any, kwargs: Any) -> _Carried | None:
        if func.__name__ == "addmm":
            bias, x, weight = args
            matrix = weight
        else:
            x, weight, bias = (*args, *kwargs.values(), None)[:3]
            matrix = weight.T
        carried = self.of(x)
        if carried is None:
            return None
        vectors = carried.vectors @ matrix
        if bias is not None:
            vectors[-1] += bias
        return _Carried(vectors if weight in self.waiting else _divided(vectors))

    def _layer_norm(self, func: Any, args: Any, kwargs: Any) -> _Carried | None:
        names = ("input", "normalized_shape", "weight", "bias", "eps")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        x, weight, bias = given["input"], given.get("weight"), given.get("bias")
        carried = self.of(x)
        if carried is None or len(given["normalized_shape"]) != 1:
            return None
        deviation = (x.var(-1, correction=0, keepdim=True) + given.get("eps", 1e-5)).sqrt()
        vectors = (carried.vectors - carried.vectors.mean(-1, keepdim=True)) / deviation
        vectors = vectors if weight is None else vectors * weight
        if bias is not None:
            vectors[-1] += bias
        return _Carried(_divided(vectors))

    def _slope(self, func: Any, args: Any, kwargs: Any) -> _Carried | None:
        carried = self.of(args[0] if args else kwargs.get("input"))
        if carried is None:
            return None
        x = args[0] if args else kwargs["input"]
        near = torch.where(x == 0, torch.finfo(x.dtype).eps, x)
        rest = {name: value for name, value in kwargs.items() if name not in ("input", "inplace")}
        slope = func(near, *args[1:], **rest) / near
        return _Carried(carried.vectors * slope, gate=func.__name__ != "rms_norm")

    def _sum(self, func: Any, args: Any, kwargs: Any) -> _Carried | None:
        sign = -1 if func.__name__.strip("_") in SUBTRACTIONS else 1
        one, other = self.of(args[0]), self.of(args[1])
        if kwargs or (one is None and sign < 0):
            return None
        if one is not None and other is not None:
            ndim = max(one.vectors.ndim, other.vectors.ndim) - 1
            return _Carried(_divided(_aligned(one.vectors, ndim) + sign * _aligned(other.vectors, ndim)))
        carried, constant = (one, args[1]) if one is not None else (_known(other), args[0])
        # Anything else may depend on the tokens through something held fixed, so it is no bias.
        if not isinstance(constant, nn.Parameter | int | float):
            return None
        vectors = carried.vectors.clone()
        vectors[-1] += sign * constant
        return _Carried(_divided(vectors), gate=carried.gate)

    def _product(self, func: Any, args: Any, kwargs: Any) -> _Carried | None:
        one, other = self.of(args[0]), self.of(args[1])
        if one is not None and other is not None:
            if one.gate == other.gate:
                return None
            one, other = (one, None) if other.gate else (None, other)
        carried, factor = (one, args[1]) if one is not None else (_known(other), args[0])
        ndim = max(carried.vectors.ndim - 1, torch.as_tensor(factor).ndim)
        return replace(carried, vectors=_aligned(carried.vectors, ndim) * factor)

    def _scattered(self, func: Any, args: Any, kwargs: Any) -> _Carried | None:
        """Rows added in their places, as the outputs of experts are."""
        if kwargs or len(args) != 4 or not isinstance(args[1], int):
            return None
        base, dim, index, rows = args
        before, added = self.of(base), self.of(rows)
        if added is None or (before is None and bool(base.any())):
            return None
        start = base.new_zeros(len(added.vectors), *base.shape) if before is None else before.vectors
        return _Carried(start.index_add(dim % base.ndim + 1, index, added.vectors))

    def _linear(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Give components to the result of an operation without a rule, if it is linear."""
        outs = out if isinstance(out, tuple | list) else (out,)
        if not all(isinstance(o, Tensor) and o.is_floating_point() for o in outs):
            return
        flat, spec = torch.utils._pytree.tree_flatten((args, kwargs))
        places = [i for i, argument in enumerate(flat) if self.of(argument) is not None]
        carried = [_known(self.of(flat[i])) for i in places]

        def image(*vectors: Tensor) -> Any:
            replaced = list(flat)
            for i, vector in zip(places, vectors, strict=True):
                replaced[i] = vector
            again, keywords = torch.utils._pytree.tree_unflatten(replaced, spec)
            result = func(*again, **keywords)
            return tuple(result) if isinstance(result, tuple | list) else (result,)

        try:
            images = torch.func.vmap(image)(*(c.vectors for c in carried))
        except (RuntimeError, TypeError, ValueError):
            return  # it cannot run for each component, so it is held fixed; the check at the end detects an error
        gate = all(c.gate for c in carried)
        for one, vectors in zip(outs, images, strict=True):
            if same(vectors.sum(0), one, tolerance_of(one)):
                self._keep(one, _Carried(vectors, gate))


def _divided(vectors: Float[Tensor, "component *shape d"]) -> Float[Tensor, "component *shape d"]:
    """The waiting biases divided among the tokens' components by |b · v_k| (AbsDot)."""
    waiting, tokens = vectors[-1], vectors[:-1]
    if not bool(waiting.any()):
        return vectors
    sizes = (tokens * waiting).sum(-1, keepdim=True).abs()
    total = sizes.sum(0)
    shares = torch.where(total > 0, sizes / total.where(total > 0, 1), 0)
    rest = torch.where(total > 0, torch.zeros_like(waiting), waiting)
    return torch.cat([tokens + shares * waiting, rest[None]])


def _aligned(vectors: Tensor, ndim: int) -> Tensor:
    """Axes of size 1 behind that of components, so that the others are `ndim`."""
    return vectors.reshape(len(vectors), *[1] * (ndim + 1 - vectors.ndim), *vectors.shape[1:])


def _known(carried: _Carried | None) -> _Carried:
    assert carried is not None
    return carried
