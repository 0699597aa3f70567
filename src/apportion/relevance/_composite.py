"""Composites: which rule each class of operation follows when relevance is propagated."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args, get_type_hints

from apportion.core import ApportionError
from apportion.relevance._treatment import rule_named


@dataclass(frozen=True, kw_only=True)
class Composite:
    """A set of rules as plain data, which can be printed, compared and saved.

    Args:
        name: The name in results.
        attention: `"gradient"`; `"uniform"`: half of a weighted sum's relevance goes to the values, half to the
            attention weights, and from the scores half each to queries and keys (so ¼, ¼, ½ for a fused kernel);
            `"values"`: the attention weights are held constant, all relevance goes to the values.
        product: If both factors carry relevance: `"gradient"` keeps each factor's derivative, `"uniform"` gives ½ to
            each, `"flat"` gives 1/N to each factor of a maximal chain of products, whatever its association.
        gate: In a gated product such as SiLU(W x) · (V x), `"product"` treats both factors by `product`;
            `"cut"` holds the factor that passed an activation constant.
        activation: `"gradient"`, or `"identity"`: the slope f(z)/z (secant through 0); a gate inside a written-out
            activation (the tanh of GELU) is held constant.
        norm: `"gradient"`, or `"frozen"`: the statistic (standard deviation, root mean square) is held constant.
        softmax: For a softmax outside attention, such as a router's: `"gradient"` or `"cut"`.
        residual: If a branch is added to its own input: `"sum"` keeps the derivative; `"gamma"` favours, in each
            element, the summand with the sum's sign.
        residual_gamma: How much to favour it, from 0 (a plain sum) up.
        linear: For maps with weights: `"epsilon"` keeps the derivative; `"gamma"` scales contributions with the
            pre-activation's sign by 1 + `gamma`; `"z-plus"` keeps only those; `"cut"` holds the map's result constant,
            which is useful for some modules only (see `within`).
        gamma: For `linear="gamma"`, from 0 (the derivative) up.
        query_share: For `attention="uniform"`, the share of a weighted sum's relevance for queries, from 0 to 1.
        key_share: The share for keys; the values get the rest.
        gate_share: For `product="uniform"` and `gate="product"`, the share of the factor that passed an activation; the
            other gets the rest.
        temperature: Divides the scores, above 0, in a softmax's derivative; its values do not change.
        overrides: Other composites for some layers or modules; the last that matches applies.

    `attention`, `product`, `activation`, `norm` and `softmax` also accept rules of your own; see `named_rule`.

    Source:
        AttnLRP: Achtibat et al. 2024, arXiv 2402.05602, eq. 8-16. CP-LRP: Ali et al. 2022, arXiv 2202.07304.
        `flat`: for the lack of implementation invariance shown by You et al. 2025, arXiv 2510.18810.
        `residual="gamma"`: Berend, Achtibat et al. 2026. `linear`: Montavon et al. 2019, extended to inputs and
        pre-activations of either sign. `temperature`: Edin et al. 2025, arXiv 2505.17630.
    """

    name: str = "custom"
    attention: Literal["gradient", "uniform", "values"] | str = "gradient"
    product: Literal["gradient", "uniform", "flat"] | str = "gradient"
    gate: Literal["product", "cut"] = "product"
    activation: Literal["gradient", "identity"] | str = "gradient"
    norm: Literal["gradient", "frozen"] | str = "gradient"
    softmax: Literal["gradient", "cut"] | str = "gradient"
    residual: Literal["sum", "gamma"] = "sum"
    residual_gamma: float = 1.0
    linear: Literal["epsilon", "gamma", "z-plus", "cut"] = "epsilon"
    gamma: float = 0.25
    query_share: float = 0.25
    key_share: float = 0.25
    gate_share: float = 0.5
    temperature: float = 1.0
    overrides: tuple[Override, ...] = ()

    def __post_init__(self) -> None:
        for option, hint in get_type_hints(Composite).items():
            literal, given = next((part for part in get_args(hint) if get_args(part)), hint), getattr(self, option)
            choices = get_args(literal)
            if hint is float:
                _check_number(option, given)
            elif option not in ("name", "overrides") and given not in choices and rule_named(option, given) is None:
                raise ApportionError(f"{option}={given!r} is not known; use one of {', '.join(map(repr, choices))}.")
        if self.query_share + self.key_share > 1:
            raise ApportionError(
                f"query_share={self.query_share} and key_share={self.key_share} sum to more than 1; the values get the "
                "rest, so give less."
            )

    def from_layer(self, layer: int, other: Composite) -> Composite:
        """This composite below `layer`, `other` in `layer` and above (layers count from 0)."""
        return self.within(other, first_layer=layer)

    def within(
        self, other: Composite, *, modules: str = "*", first_layer: int = 0, last_layer: int | None = None
    ) -> Composite:
        """This composite, with `other` in the modules that match a pattern and in a range of layers.

        Args:
            other: The composite to follow there; its own overrides are ignored.
            modules: A shell-style pattern of the module's path, such as `"*.mlp*"`.
            first_layer: The first layer of the range.
            last_layer: The last layer of the range, included; None for the model's last.
        """
        override = Override(
            composite=replace(other, overrides=()), modules=modules, first_layer=first_layer, last_layer=last_layer
        )
        return replace(self, name=f"{self.name}+{other.name}", overrides=(*self.overrides, override))

    def at(self, path: str) -> Composite:
        """The composite that applies in the module with this path."""
        override = self.override_at(path)
        return self if override is None else override.composite

    def override_at(self, path: str) -> Override | None:
        """The override that applies in the module with this path."""
        return next((override for override in reversed(self.overrides) if override.matches(path)), None)

    @property
    def reads_summands(self) -> bool:
        """Whether any rule needs the summands of residual sums, which autograd does not keep."""
        return any(c.residual != "sum" for c in (self, *(override.composite for override in self.overrides)))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; see `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Composite:
        """The inverse of `to_dict`."""
        overrides = tuple(
            Override(**{**override, "composite": cls.from_dict(override["composite"])})
            for override in values["overrides"]
        )
        return cls(**{**values, "overrides": overrides})

    def __str__(self) -> str:
        rules = [
            f"{f.name} {getattr(self, f.name)}"
            for f in fields(self)
            if f.name not in ("name", "overrides", *_SELDOM)
            or (f.name in _SELDOM and getattr(self, f.name) != f.default)
        ]
        lines = [f"{self.name}: {', '.join(rules)}"]
        lines += [f"  in {override}" for override in self.overrides]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Override:
    """Another composite for a part of the model; see `Composite.within`."""

    composite: Composite
    modules: str = "*"
    first_layer: int = 0
    last_layer: int | None = None

    def matches(self, path: str) -> bool:
        """Whether it applies to the module with this path; outside of layers only if its range is unlimited."""
        if not fnmatchcase(path, self.modules):
            return False
        if self.first_layer == 0 and self.last_layer is None:
            return True
        layer = layer_index(path)
        return layer is not None and self.first_layer <= layer and (self.last_layer is None or layer <= self.last_layer)

    def in_words(self) -> str:
        """Where it applies, and the name of the composite there."""
        last = "…" if self.last_layer is None else self.last_layer
        modules = "" if self.modules == "*" else f"modules {self.modules}, "
        return f"{modules}layers {self.first_layer}–{last}: {self.composite.name}"

    def __str__(self) -> str:
        return f"{self.in_words()} ({str(self.composite).partition(': ')[2]})"


def layer_index(path: str) -> int | None:
    """The index of the layer that contains a module: the first number in its path."""
    return next((int(part) for part in path.split(".") if part.isdigit()), None)


def is_layer(path: str) -> bool:
    """Whether a path is that of a layer itself: its first number is its last part."""
    return path.rpartition(".")[2].isdigit() and layer_index(path.rpartition(".")[0]) is None


def layer_label(path: str) -> str:
    """The name of a module's layer in ledgers: `"layer 3"`, `"decoder layer 3"`, or the path outside of layers."""
    layer = layer_index(path)
    if layer is None:
        return path or "model"
    before = path.split(f".{layer}", 1)[0].lower()
    stack = next((name for name in ("vision", "visual", "text_model", "decoder", "encoder") if name in before), None)
    return f"layer {layer}" if stack is None else f"{stack.replace('_model', '')} layer {layer}"


#: Options that are printed only if they differ from their defaults.
_SELDOM = ("residual", "residual_gamma", "linear", "gamma", "query_share", "key_share", "gate_share", "temperature")


def _check_number(option: str, given: Any) -> None:
    possible = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
    share = option.endswith("_share")
    if not possible or given < 0 or (option == "temperature" and given == 0) or (share and given > 1):
        fits = "a number above 0" if option == "temperature" else "a number from 0 " + ("to 1" if share else "up")
        raise ApportionError(f"{option}={given!r} is not possible; give {fits}.")


GRADIENT = Composite(name="gradient")
ATTNLRP = Composite(name="attnlrp", attention="uniform", product="uniform", activation="identity", norm="frozen")
CP_LRP = replace(ATTNLRP, name="cp-lrp", attention="values", gate="cut", softmax="cut")
RES_LRP = replace(ATTNLRP, name="res-lrp", residual="gamma")
GIM = replace(ATTNLRP, name="gim", activation="gradient", temperature=2.0)
RELP = replace(CP_LRP, name="relp", gate="product")
PA_LRP = replace(ATTNLRP, name="pa-lrp")
#: The step, input matrix and output matrix of a selective scan all come from this projection.
MAMBA_LRP = replace(
    ATTNLRP,
    name="mamba-lrp",
    overrides=(Override(composite=replace(ATTNLRP, name="held constant", linear="cut"), modules="*.x_proj"),),
)
#: The named composites.
NAMED = {composite.name: composite for composite in (GRADIENT, ATTNLRP, CP_LRP, RES_LRP, GIM, RELP, PA_LRP, MAMBA_LRP)}
