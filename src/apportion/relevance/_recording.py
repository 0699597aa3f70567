"""Recording one ordinary forward pass; the model is changed only as long as it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._autograd import _get_sequence_nr
from torch.autograd.graph import get_gradient_edge

from apportion.core import ApportionError, temporary_hooks
from apportion.relevance._composite import is_layer
from apportion.relevance._graph import Visit
from apportion.relevance._leaf import Leaf, Role, cut_at
from apportion.relevance._site import Site, site_watched, the_site
from apportion.relevance._visual_tokens import visual_tokens_watched

#: Computes the trace's output from the model's output.
Then = Callable[[Any], Any]

#: Maps the path of a module that embeds tokens (or the name of an input of embeddings), the name of the model's input
#: that it looked up and its output to the embeddings to use instead, in the same shape.
Embedded = Callable[[str, str, Tensor], Tensor]


@dataclass(frozen=True)
class Recording:
    """A recorded forward pass: its output, the leaves of its graph and the calls of its modules.

    Args:
        output: The model's output, or what `then` made of it.
        leaves: The tensors that can receive relevance.
        visits: The calls of modules.
        start: The number of the first node.
        rotary: Whether cosines and sines of rotary embeddings are leaves.
        site: The output of an inner module whose gradient is kept.
        then: Computes the output from the model's output, as part of the graph.
        visual: Whether visual tokens are leaves.
    """

    output: Any
    leaves: tuple[Leaf, ...]
    visits: tuple[Visit, ...]
    start: int
    rotary: bool = False
    site: Site | None = None
    then: Then | None = None
    visual: bool = False


def record_forward(
    model: nn.Module,
    inputs: Mapping[str, Any],
    *,
    detail: bool = True,
    around: Callable[[int], Any] | None = None,
    embedded: Embedded | None = None,
    rotary: bool = False,
    site: str | None = None,
    then: Then | None = None,
    visual: bool = False,
) -> Recording:
    """Run the model once, with its parameters frozen, its dropout off and its graph kept.

    Args:
        model: Any module; it is restored, also after an error.
        inputs: Its keyword arguments. Integer tensors that an embedding looks up become tokens; floating-point
            tensors that take part become leaves of their own.
        around: Makes a context manager to run the forward pass in, from the number of the first node.
        detail, embedded, rotary, site, then, visual: As in `record`.

    Raises:
        ApportionError: The model is compiled or has no weights, `site` is not one module that runs once, or the model
            makes no visual tokens.
    """
    modules = usable_modules(model)
    leaves: list[Leaf] = []
    watch = _Watch(model, inputs, leaves, embedded)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        _frozen(modules, leaves),
        _watched(modules, watch, detail=detail),
        _watched_rotation(modules, leaves) if rotary else contextlib.nullcontext(),
        visual_tokens_watched(model, leaves) if visual else contextlib.nullcontext(),
        site_watched(modules, site) as sites,
    ):
        arguments = {name: _input_leaf(name, value, leaves, embedded) for name, value in inputs.items()}
        start = _get_sequence_nr()
        with contextlib.nullcontext() if around is None else around(start):
            output = model(**arguments)
            output = output if then is None else then(output)
    reached = None if site is None else the_site(site, sites)
    return Recording(output, tuple(leaves), tuple(watch.visits), start, rotary, reached, then, visual)


def usable_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """All modules of a model by path; rejects a model that is compiled or has no weights.

    Raises:
        ApportionError: It is not a module, is compiled, or has parameters on the meta device.
    """
    if not isinstance(model, nn.Module):
        raise ApportionError(f"the model is a {type(model).__name__}; give a torch module, as of transformers.")
    modules = list(model.named_modules())
    for path, module in modules:
        if module._compiled_call_impl is not None or "_orig_mod" in module._modules:
            where = f"its module {path!r}" if path else "it"
            raise ApportionError(
                f"the model cannot be explained because {where} is compiled, which hides its operations; "
                "give the model as it was before torch.compile (compiled._orig_mod)."
            )
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta:
                full = f"{path}.{name}".strip(".")
                raise ApportionError(
                    f"the parameter {full!r} is on the meta device, so it has no values; load the weights first "
                    "(from_pretrained, or model.to_empty and load_state_dict)."
                )
    return modules


@contextmanager
def _frozen(modules: list[tuple[str, nn.Module]], leaves: list[Leaf]) -> Iterator[None]:
    """The model in evaluation mode with gradients only for additive parameters; restored at the end."""
    training = [module for _, module in modules if module.training]
    changed: list[tuple[nn.Parameter, bool]] = []
    seen: set[nn.Parameter] = set()
    try:
        for module in training:
            module.training = False
        for path, module in modules:
            for name, parameter in module._parameters.items():
                if parameter is None or parameter in seen:
                    continue
                seen.add(parameter)
                role = _additive_role(name) if parameter.is_floating_point() else None
                if parameter.requires_grad != (role is not None):
                    changed.append((parameter, parameter.requires_grad))
                    parameter.requires_grad_(role is not None)
                if role is not None:
                    full = f"{path}.{name}".strip(".")
                    leaves.append(
                        Leaf(full, role, parameter.detach(), get_gradient_edge(parameter), parameter, added=True)
                    )
        yield
    finally:
        for parameter, required in changed:
            parameter.requires_grad_(required)
        for module in training:
            module.training = True


@cache
def _additive_role(last: str) -> Role | None:
    """The role of a parameter that, by its name in its module, is added to hidden states.

    Only a guess that saves time: other parameters are found as constants in the graph, and parameters that are not
    added after all get no share.
    """
    if "bias" in last:
        return "biases"
    if last.startswith(("pos_", "position_", "positional_")) or last.endswith(("_pos", "_position", "_positions")):
        return "positions"
    if last.endswith(("_token", "_tokens")) or last == "class_embedding":
        return "special tokens"
    return None


@contextmanager
def _watched(modules: list[tuple[str, nn.Module]], watch: _Watch, *, detail: bool) -> Iterator[None]:
    """The modules with hooks that note which nodes each call makes and cut the graph at the embeddings."""
    with temporary_hooks() as handles:
        for path, module in modules:
            is_token_module = module is watch.token_module
            if is_token_module or isinstance(module, nn.Embedding):
                hook = watch.embed(path, is_token_module=is_token_module)
                handles.append(module.register_forward_hook(hook, with_kwargs=True))
            elif type(module).__name__ == "Timesteps":
                handles.append(module.register_forward_hook(watch.number(path)))
            if detail or is_layer(path):
                enter = watch.enter(path, type(module).__name__)
                handles.append(module.register_forward_pre_hook(enter, prepend=True))
                handles.append(module.register_forward_hook(watch.leave))
        yield


@contextmanager
def _watched_rotation(modules: list[tuple[str, nn.Module]], leaves: list[Leaf]) -> Iterator[None]:
    """Cosines and sines as leaves: pairs of tensors that a module returns and whose squares have a constant sum.

    They must not depend on the inputs' values; each call makes new leaves.
    """

    def turn(path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
            if not _is_rotation(output):
                return None
            named = zip(("cos", "sin"), output, strict=True)
            return tuple([cut_at(value, leaves, f"{path}.{name}", "positions") for name, value in named])

        return hook

    with temporary_hooks() as handles:
        handles += [module.register_forward_hook(turn(path)) for path, module in modules]
        yield


def _is_rotation(output: Any) -> bool:
    if not isinstance(output, tuple) or len(output) != 2 or not all(isinstance(x, Tensor) for x in output):
        return False
    cos, sin = output
    if cos.shape != sin.shape or cos.ndim < 2 or not cos.is_floating_point() or cos.requires_grad or sin.requires_grad:
        return False
    squares = cos.double() ** 2 + sin.double() ** 2
    # Models compute angles in float32, whatever dtype they return.
    rounding = 8 * max(torch.finfo(cos.dtype).eps, torch.finfo(torch.float32).eps)
    return cos.numel() > 0 and bool(torch.allclose(squares, squares.flatten()[0], rtol=rounding, atol=0))


class _Watch:
    """The state of the hooks during one forward pass."""

    def __init__(
        self, model: nn.Module, inputs: Mapping[str, Any], leaves: list[Leaf], embedded: Embedded | None
    ) -> None:
        self.token_module = token_embedding(model)
        self.inputs, self.leaves, self.embedded = inputs, leaves, embedded
        self.visits: list[Visit] = []
        self._open: list[int] = []

    def enter(self, path: str, class_name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, arguments: Any) -> None:
            parent = self._open[-1] if self._open else -1
            self._open.append(len(self.visits))
            first = _get_sequence_nr()
            self.visits.append(Visit(path, class_name, first, first, parent))

        return hook

    def leave(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self.visits[self._open.pop()].end = _get_sequence_nr()

    def number(self, path: str) -> Callable[..., Any]:
        """A hook that cuts the graph after the sines and cosines of a number, such as a diffusion model's time step."""

        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
            is_guidance = bool(arguments) and _comes_from(arguments[0], self.inputs.get("guidance"))
            return cut_at(output, self.leaves, path, "inputs", "guidance" if is_guidance else "timestep")

        return hook

    def embed(self, path: str, *, is_token_module: bool) -> Callable[..., Any]:
        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
            if not isinstance(output, Tensor) or output.requires_grad or not output.is_floating_point():
                return None
            looked_up = next((a for a in (*arguments, *keywords.values()) if isinstance(a, Tensor)), None)
            ids = _matching_input(looked_up, self.inputs)
            if not is_token_module and _embedding_role(path.rpartition(".")[2]) == "positions":
                ids = None  # some use only the shape of the ids
            if ids is None and is_token_module and looked_up is not None and not looked_up.is_floating_point():
                ids = next((name for name in ("input_ids", "decoder_input_ids") if name in self.inputs), None)
                if ids is not None:
                    _check_batch_first(looked_up, self.inputs[ids])
            role = "tokens" if ids is not None else _embedding_role(path)
            if ids is not None and self.embedded is not None:
                output = self.embedded(path, ids, output.detach())
            return cut_at(output, self.leaves, path, role, ids)

        return hook


def _comes_from(number: Any, given: Any) -> bool:
    """Whether two numbers are equal, up to a factor of 1000 that some models use."""
    if not isinstance(number, Tensor) or not isinstance(given, Tensor) or number.shape != given.shape:
        return False
    return any(torch.allclose(number.double(), given.double() * factor) for factor in (1, 1000))


def _check_batch_first(ids: Tensor, given: Any) -> None:
    """Reject a batch that the model transposes to (token, example), since the axes could be confused."""
    if isinstance(given, Tensor) and given.ndim == 2 and len(given) > 1 and torch.equal(ids.T.to(given), given):
        raise ApportionError("the model transposes its batch; explain one text at a time (batch_size=1).")


def token_embedding(model: nn.Module) -> nn.Module | None:
    """The module that looks up tokens, if the model declares it."""
    try:
        found: Any = model.get_input_embeddings()  # type: ignore[operator]  # a method of transformers' models
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(found, nn.Module) else None


def _embedding_role(path: str) -> Role:
    """The role of an embedding other than that of tokens, by its name."""
    name = path.lower()
    if "pos" in name or "wpe" in name or "relative" in name:
        return "positions"
    return "token types" if "type" in name or "segment" in name else "constants"


def _matching_input(ids: Tensor | None, inputs: Mapping[str, Any]) -> str | None:
    """The name of the model's input with the same integers, or None."""
    if ids is None or ids.is_floating_point():
        return None
    given = {n: v for n, v in inputs.items() if n.endswith("input_ids") and isinstance(v, Tensor)}
    for name, value in given.items():
        # The same tensor, or a view of it, such as one codebook of several. Checked first, since two inputs may hold
        # the same integers.
        if value is ids or value.untyped_storage().data_ptr() == ids.untyped_storage().data_ptr():
            return name
    for name, value in given.items():
        if value.numel() == ids.numel() and torch.equal(value.reshape(ids.shape).to(ids), ids):
            return name
    return None


def _input_leaf(name: str, value: Any, leaves: list[Leaf], embedded: Embedded | None) -> Any:
    """Make a floating-point input a leaf of the graph; masks and integers are not changed."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or "mask" in name:
        return value
    role: Role = "tokens" if name.endswith("inputs_embeds") else "inputs"
    if embedded is not None:
        value = embedded(name, name, value.detach())
    return cut_at(value, leaves, name, role, name)
