"""One ordinary forward pass, recorded: the model is lent for its duration and given back as it was."""

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
from torch.utils.hooks import RemovableHandle

from apportion.core import ApportionError
from apportion.relevance._composite import is_layer
from apportion.relevance._graph import Visit
from apportion.relevance._leaf import Leaf, Role
from apportion.relevance._site import Site, site_watched, the_site
from apportion.relevance._visual_tokens import visual_tokens_watched

#: Computes something more from what a model returned.
Then = Callable[[Any], Any]

#: From the path of a module that embeds tokens (or the name of an input of embeddings), the name of the model's input
#: that it looked up and what it returned, to what the model shall compute with instead, in the same shape.
Embedded = Callable[[str, str, Tensor], Tensor]


@dataclass(frozen=True)
class Recording:
    """What one forward pass left: its output, the leaves of its graph and the calls of its modules.

    Args:
        output: What the model returned.
        leaves: What can receive relevance.
        visits: The calls of modules.
        start: The number of the first node.
        rotary: Whether cosines and sines of rotary embeddings are among the leaves.
        site: The output of a module whose gradient is wanted.
        then: What was computed from the model's output, as part of the graph.
        visual: Whether what the model makes of images before its language part reads it is among the leaves.
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
        model: Any module; it is given back as it was, also after an error.
        inputs: Its keyword arguments. Integer tensors that an embedding looks up become tokens; floating-point
            tensors that take part become leaves of their own.
        detail: Whether calls of all modules are told apart, or only those of layers, which is faster.
        around: Makes a context manager to run the forward pass in, from the number of the first node.
        embedded: Puts other embeddings in the place of the tokens' own.
        rotary: Whether cosines and sines of rotary embeddings become leaves as well.
        site: Path or pattern of one module whose output is kept.
        then: Computes something more from the model's output, as part of the graph; its result is the output.
        visual: Whether relevance ends at visual tokens, what the model's language part reads of images.

    Raises:
        ApportionError: The model is compiled, or has no weights to compute with; `site` is not one module that runs
            once; or the model makes no visual tokens.
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
    """All modules of a model by path, refusing one that hides its operations or has no weights.

    Raises:
        ApportionError: It is no module, is compiled, or has parameters on the meta device.
    """
    if not isinstance(model, nn.Module):
        raise ApportionError(
            f"the model is a {type(model).__name__}; give a torch module, such as a transformers model."
        )
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
    """The model in evaluation mode, following only the parameters that are added; then as it was."""
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
    """The role of a parameter that, by its name in its module, is added to what flows through the model.

    Only a guess that saves time: a parameter that is not found here is met as a constant in the graph, and one that
    is found here but does not arrive by addition gets no share.
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
    handles: list[RemovableHandle] = []
    try:
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
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _watched_rotation(modules: list[tuple[str, nn.Module]], leaves: list[Leaf]) -> Iterator[None]:
    """Cosines and sines as leaves: what a module returns as a pair of tensors whose squares sum to the same everywhere.

    They must not depend on the inputs' values; each call makes leaves of its own.
    """
    handles: list[RemovableHandle] = []

    def turn(path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
            if not _is_rotation(output):
                return None
            turned = []
            for name, value in zip(("cos", "sin"), output, strict=True):
                source = value.detach().requires_grad_(True)
                edge = get_gradient_edge(source)
                leaves.append(Leaf(f"{path}.{name}", "positions", source.detach(), edge, source))
                turned.append(source.clone())
            return tuple(turned)

        return hook

    try:
        handles += [module.register_forward_hook(turn(path)) for path, module in modules]
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_rotation(output: Any) -> bool:
    if not isinstance(output, tuple) or len(output) != 2 or not all(isinstance(x, Tensor) for x in output):
        return False
    cos, sin = output
    if cos.shape != sin.shape or cos.ndim < 2 or not cos.is_floating_point() or cos.requires_grad or sin.requires_grad:
        return False
    squares = cos.double() ** 2 + sin.double() ** 2
    # Models compute angles in float32, whatever they return.
    rounding = 8 * max(torch.finfo(cos.dtype).eps, torch.finfo(torch.float32).eps)
    return cos.numel() > 0 and bool(torch.allclose(squares, squares.flatten()[0], rtol=rounding, atol=0))


class _Watch:
    """What the hooks note down during one forward pass."""

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
        i = self._open.pop()
        self.visits[i].end = _get_sequence_nr()

    def number(self, path: str) -> Callable[..., Any]:
        """Cuts the graph behind the sines and cosines of a number, such as a diffusion model's time step."""

        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
            number = arguments[0] if arguments else None
            ids = next(
                (name for name in ("guidance", "timestep") if _comes_from(number, self.inputs.get(name))), "timestep"
            )
            source = output.detach().requires_grad_(True)
            self.leaves.append(Leaf(path, "inputs", source.detach(), get_gradient_edge(source), source, ids))
            return source.clone()

        return hook

    def embed(self, path: str, *, is_token_module: bool) -> Callable[..., Any]:
        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
            if not isinstance(output, Tensor) or output.requires_grad or not output.is_floating_point():
                return None
            looked_up = next((a for a in (*arguments, *keywords.values()) if isinstance(a, Tensor)), None)
            ids = _matching_input(looked_up, self.inputs)
            if not is_token_module and _embedding_role(path.rpartition(".")[2]) == "positions":
                ids = None  # some read only the shape of the ids
            if ids is None and is_token_module and looked_up is not None and not looked_up.is_floating_point():
                ids = next((name for name in ("input_ids", "decoder_input_ids") if name in self.inputs), None)
                if ids is not None:
                    _refuse_turned(looked_up, self.inputs[ids])
            role = "tokens" if ids is not None else _embedding_role(path)
            if ids is not None and self.embedded is not None:
                output = self.embedded(path, ids, output.detach())
            source = output.detach().requires_grad_(True)
            self.leaves.append(Leaf(path, role, source.detach(), get_gradient_edge(source), source, ids))
            # A copy, since some models add to their embeddings in place, which a leaf does not allow.
            return source.clone()

        return hook


def _comes_from(number: Any, given: Any) -> bool:
    """Whether one number is another, up to the thousand that some models multiply it by."""
    if not isinstance(number, Tensor) or not isinstance(given, Tensor) or number.shape != given.shape:
        return False
    return any(torch.allclose(number.double(), given.double() * factor) for factor in (1, 1000))


def _refuse_turned(ids: Tensor, given: Any) -> None:
    """Refuse a batch that the model turns to (token, example): where both are as many, nobody could tell."""
    if isinstance(given, Tensor) and given.ndim == 2 and len(given) > 1 and torch.equal(ids.T.to(given), given):
        raise ApportionError("the model turns its batch about; explain one text at a time (batch_size=1).")


def token_embedding(model: nn.Module) -> nn.Module | None:
    """The module that looks up tokens, where the model tells."""
    try:
        get: Any = model.get_input_embeddings  # a method of transformers' models
        found = get()
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(found, nn.Module) else None


def _embedding_role(path: str) -> Role:
    """The role of an embedding of something else than tokens, by its name."""
    name = path.lower()
    if "pos" in name or "wpe" in name or "relative" in name:
        return "positions"
    return "token types" if "type" in name or "segment" in name else "constants"


def _matching_input(ids: Tensor | None, inputs: Mapping[str, Any]) -> str | None:
    """The name of the model's input that holds the same integers, if one does."""
    if ids is None or ids.is_floating_point():
        return None
    given = {n: v for n, v in inputs.items() if n.endswith("input_ids") and isinstance(v, Tensor)}
    for name, value in given.items():
        # The very tensor, or a view of some of it, such as one codebook of several. First of all, since two inputs may
        # hold the same integers.
        if value is ids or value.untyped_storage().data_ptr() == ids.untyped_storage().data_ptr():
            return name
    for name, value in given.items():
        if value.numel() == ids.numel() and torch.equal(value.reshape(ids.shape).to(ids), ids):
            return name
    return None


def _input_leaf(name: str, value: Any, leaves: list[Leaf], embedded: Embedded | None) -> Any:
    """Make a floating-point input a leaf of the graph; masks and integers pass as they are."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or "mask" in name:
        return value
    role: Role = "tokens" if name.endswith("inputs_embeds") else "inputs"
    if embedded is not None:
        value = embedded(name, name, value.detach())
    leaf = value.detach().requires_grad_(True)
    leaves.append(Leaf(name, role, leaf.detach(), get_gradient_edge(leaf), leaf, name))
    return leaf.clone()
