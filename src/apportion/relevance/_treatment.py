"""A treatment: the class of one node of the graph, and the rule that replaces its derivative."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from apportion.core import ApportionError

Gradients = tuple[Tensor | None, ...]
Derivative = Callable[[Gradients, Gradients], Gradients]
Absorbed = Callable[[Gradients, Gradients], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """How relevance passes one node.

    Args:
        kind: The class of the node, such as `"product"`.
        rule: A description of the rule, for the audit.
        shares: The factor of each argument's gradient; None cuts it. Without shares all gradients are kept.
        derivative: Replaces the gradients of the arguments before the shares apply; takes (gradients of the arguments
            as autograd computed them, gradients of the results).
        absorbed: The relevance that does not reach the arguments, from the gradients of the arguments as passed on and
            those of the results.
        line: The ledger's line for absorbed relevance.
        carries: Whether relevance passes at all; False for a node that is held constant.
        in_place: Whether the shares may overwrite the gradients; only if autograd has just made them.
    """

    kind: str
    rule: str
    shares: tuple[float | None, ...] | None = None
    derivative: Derivative | None = None
    absorbed: Absorbed | None = None
    line: str = ""
    carries: bool = True
    in_place: bool = False

    @classmethod
    def keep(cls, kind: str = "linear", rule: str = "derivative kept") -> Treatment:
        """Relevance follows the ordinary derivative, as fits operations that are linear in everything live."""
        return cls(kind=kind, rule=rule)

    @classmethod
    def constant(cls, kind: str = "gate", rule: str = "held constant") -> Treatment:
        """Nothing passes: the node's result is treated as a constant."""
        return cls(kind=kind, rule=rule, carries=False)

    @classmethod
    def divide(cls, shares: Sequence[float | None], kind: str = "product", rule: str = "") -> Treatment:
        """Each argument's gradient times its share; None holds the argument constant."""
        words = rule or "shares " + ", ".join("0" if s is None else f"{s:g}" for s in shares)
        return cls(kind=kind, rule=words, shares=tuple(shares))

    @classmethod
    def secant(cls, slope: Callable[[], Tensor], kind: str = "activation", rule: str = "f(z)/z") -> Treatment:
        """An element-wise function passes all its relevance on: `slope()` returns f(z)/z at its input."""

        def derivative(arguments: Gradients, results: Gradients) -> Gradients:
            (grad,) = (g for g in results if g is not None)
            return (grad * slope(), *arguments[1:])

        return cls(kind=kind, rule=rule, derivative=derivative)


@dataclass(frozen=True, slots=True)
class Operation:
    """One node, as a registered rule receives it.

    Args:
        node: The autograd node; for a custom `torch.autograd.Function` its `ctx`, with `saved_tensors`.
        name: The operation, without `Backward`.
        module: The path of its module.
        live: For each argument of the forward, whether it carries relevance.
        options: The composite that applies to this node.
    """

    node: Any
    name: str
    module: str
    live: tuple[bool, ...]
    options: Any


OperationRule = Callable[[Operation], Treatment]
_REGISTERED: dict[str, OperationRule] = {}


def register_rule(operation: str | type[torch.autograd.Function]) -> Callable[[OperationRule], OperationRule]:
    """Register a rule for an unknown operation, such as a fused kernel.

    The decorated function gets an `Operation` and returns the `Treatment` for it:

        @register_rule(FusedSwiGLU)                  # or by name: "FusedSwiGLU"
        def fused_swiglu(operation):
            gate, up = operation.node.saved_tensors
            ...
            return Treatment(kind="product", rule="½ to gate and value", derivative=...)

    Args:
        operation: The custom autograd Function, or the operation's name as the audit shows it.
    """
    name = operation if isinstance(operation, str) else operation.__name__

    def register(rule: OperationRule) -> OperationRule:
        _REGISTERED[name] = rule
        return rule

    return register


#: Options of a composite that accept named rules.
NAMEABLE = ("activation", "attention", "norm", "product", "softmax")
_NAMED: dict[tuple[str, str], OperationRule] = {}


def named_rule(option: str, name: str) -> Callable[[OperationRule], OperationRule]:
    """Register a rule under a name for composites, such as `Composite(softmax="half")`.

        @named_rule("softmax", "half")
        def half(operation):
            return Treatment.divide([0.5], "softmax", "half passes on")

    Args:
        option: The composite's option: `"activation"`, `"attention"` (fused, or the products of a written-out one),
            `"norm"` (as one operation; written out it keeps its derivative), `"product"` (of two factors that both
            carry relevance) or `"softmax"`.
        name: The option's new value.

    Raises:
        ApportionError: The option is none of these.
    """
    if option not in NAMEABLE:
        raise ApportionError(f"option={option!r} takes no named rules; use one of {', '.join(map(repr, NAMEABLE))}.")

    def register(rule: OperationRule) -> OperationRule:
        _NAMED[option, name] = rule
        return rule

    return register


def rule_named(option: str, name: str) -> OperationRule | None:
    """The rule that was registered under this name, or None."""
    return _NAMED.get((option, name))


def unregister_rule(operation: str | type[torch.autograd.Function]) -> None:
    """Forget a registered rule; an unknown name is ignored."""
    _REGISTERED.pop(operation if isinstance(operation, str) else operation.__name__, None)


def registered_rules() -> Mapping[str, OperationRule]:
    """The registered rules, by operation."""
    return _REGISTERED


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Σ a·b, summed in float32 or better."""
    if a.dtype.itemsize < 4 or b.dtype.itemsize < 4:
        a, b = a.float(), b.float()
    return (a * b).sum()
