"""A plan: the treatment of every node of a graph under one composite, and the nodes that the ledger needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from apportion.core import RuleNotApplied, UnknownOperation
from apportion.relevance import _operations as ops
from apportion.relevance import _rules as rules
from apportion.relevance._composite import Composite, Override, layer_label
from apportion.relevance._gamma import Operands, linear_map, residual_sum, unknown_map
from apportion.relevance._graph import Graph, Places
from apportion.relevance._operations import Kind
from apportion.relevance._skips import Skips
from apportion.relevance._slopes import saved_axis, slope_of
from apportion.relevance._structure import ADDED, DEAD, LIVE, Structure
from apportion.relevance._treatment import Gradients, Operation, OperationRule, Treatment, registered_rules, rule_named


@dataclass(frozen=True)
class Plan:
    """The treatments of a graph's nodes.

    Args:
        graph: The graph.
        treatments: For each node its treatment, or None if its derivative is kept.
        live: For each node `LIVE` (depends on the inputs), `ADDED` (a parameter that is only added) or `DEAD`.
        needed: Whether relevance reaches the node.
        constants: Nodes whose result may contain a constant that is no leaf.
        unresolved: Nodes on the way whose arguments have to be captured.
        depends: Whether the node depends on the inputs, before the composite holds anything constant.
        missing: Descriptions of promised rules that apply nowhere.
    """

    graph: Graph
    treatments: list[Treatment | None]
    live: list[int]
    needed: list[bool]
    constants: list[int]
    unresolved: list[int]
    depends: list[bool]
    missing: tuple[str, ...] = ()

    def holds_constant(self, i: int) -> bool:
        """Whether an argument of a node depends on the inputs but carries no relevance."""
        return any(j >= 0 and self.depends[j] and not self.live[j] for j in self.graph.inputs[i])


def plan_treatments(
    graph: Graph,
    leaves: Mapping[Tensor, int],
    composite: Composite,
    places: Places,
    captured: Mapping[int, Operands] | None = None,
    inputs: Collection[Tensor] = (),
) -> Plan:
    """Decide every node's treatment, from the leaves to the roots, then find the nodes that relevance reaches.

    Args:
        graph: The recorded graph.
        leaves: `LIVE` or `ADDED` for the tensors that receive relevance.
        composite: The rules.
        places: The modules of the nodes, for overrides by layer and for names.
        captured: The arguments of nodes that an earlier plan called unresolved.
        inputs: The leaves that are the inputs themselves, rather than positions and the like.

    Raises:
        UnknownOperation: Relevance reaches an operation without a known rule.
        RuleNotApplied: An override of the composite applies nowhere.
    """
    planner = _Planner(graph, leaves, composite, places, captured or {}, inputs)
    planner.decide()
    planner.check_overrides()
    needed = planner.find_needed()
    return Plan(
        graph,
        planner.treatments,
        planner.live,
        needed,
        planner.constants(needed),
        [i for i in planner.unresolved if needed[i]],
        planner.depends,
        planner.missing(needed),
    )


class _Planner:
    def __init__(
        self,
        graph: Graph,
        leaves: Mapping[Tensor, int],
        composite: Composite,
        places: Places,
        captured: Mapping[int, Operands],
        inputs: Collection[Tensor],
    ) -> None:
        n = len(graph.nodes)
        self.graph, self.composite, self.places, self.captured = graph, composite, places, captured
        self.nodes, self.names, self.inputs = graph.nodes, graph.names, graph.inputs
        self.structure = Structure(graph, leaves)
        self.kinds, self.depends = self.structure.kinds, self.structure.depends
        self.treatments: list[Treatment | None] = [None] * n
        self.live = [DEAD] * n
        self.activated = [False] * n  # passed an activation, and since then only linear maps of one argument
        self.gated = [False] * n  # comes from a gate that is held constant
        self.attends = [False] * n  # comes from the softmax of an attention
        self.factors = [1] * n  # the length of the chain of products that ends here
        self.unresolved: list[int] = []
        self.unknown: set[int] = set()
        self.overridden: set[Override] = set()
        self.tempered: list[int] = []
        self.composites = (composite, *[override.composite for override in composite.overrides])
        self.weighs = any(c.linear != "epsilon" for c in self.composites)
        self.skips = Skips(graph, inputs, self.kinds) if composite.reads_summands else None
        self._handlers: dict[Kind, Callable[[int], Treatment | None]] = {
            "product": self._product,
            "attention": self._attention,
            "norm": self._norm,
            "statistic": self._statistic,
            "gate": self._gate,
            "activation": self._activation,
            "softmax": self._softmax,
            "quotient": self._quotient,
        }

    def decide(self) -> None:
        """Decide the treatments from the leaves up."""
        registered = registered_rules()
        for i, name in enumerate(self.names):
            kind = self.kinds[i]
            if kind == "leaf":
                self.live[i] = self.structure.leaf_state(i)
            elif name in registered:
                self._registered(i, registered[name])
            elif kind == "linear":
                self._linear(i, name)
            else:
                self._curved(i, kind)

    def _survey(self, i: int) -> tuple[int, int, bool]:
        """Of a node's arguments: the liveliest state, the only one that depends on the inputs (or −1), any dead one."""
        live, depends = self.live, self.depends
        top, source, dead, several = DEAD, -1, False, False
        for j in self.inputs[i]:
            if j < 0:
                continue
            if live[j] > top:
                top = live[j]
            elif not live[j]:
                dead = True
            if depends[j]:
                several = source >= 0
                source = j
        return top, -1 if several else source, dead

    def _linear(self, i: int, name: str) -> None:
        top, source, dead = self._survey(i)
        self.live[i] = top
        if source >= 0:
            self._inherit(i, source)
        if self.skips is not None and top == LIVE and name in ("Add", "Sub"):
            self.treatments[i] = self._residual(i, self.skips)
            if self.treatments[i] is not None:
                return
        if self.weighs and top == LIVE and (name in ops.MATRIX or name.startswith(ops.LINEAR_PREFIXES)):
            self._check_epsilon(i)
        if top and name in ops.BATCH_NORMS:
            self.treatments[i] = rules.batch_norm(self.nodes[i])
        elif top and (dead or name in ops.COEFFICIENTS):
            self.treatments[i] = self._blocking(i)

    def _curved(self, i: int, kind: Kind | None) -> None:
        top, source, _ = self._survey(i)
        if kind == "product" and source >= 0:
            self._inherit(i, source)
            if top == LIVE and len(self.inputs[i]) == 2 and -1 in self.inputs[i] and not self.weighs:
                self.live[i] = top  # multiplied by a constant
                return
        # A parameter that passes anything but linear maps is treated as a constant.
        if top == DEAD or (top == ADDED and kind not in ("product", None)):
            return
        self.live[i] = top
        if kind is None:
            self.unknown.add(i)
            return
        treatment = self._handlers[kind](i)
        if treatment is not None and not treatment.carries:
            self.live[i] = DEAD
        self.treatments[i] = treatment

    def find_needed(self) -> list[bool]:
        """Follow relevance from the roots; reject unknown operations on the way."""
        needed = [False] * len(self.names)
        for root in self.graph.roots:
            needed[root] = self.live[root] > DEAD
        for i in range(len(self.names) - 1, -1, -1):
            if not needed[i]:
                continue
            if i in self.unknown:
                raise UnknownOperation(self._unknown_message(i))
            treatment = self.treatments[i]
            shares = treatment.shares if treatment is not None else None
            for k, j in enumerate(self.inputs[i]):
                if j >= 0 and self.live[j] and (shares is None or k >= len(shares) or shares[k] is not None):
                    needed[j] = True
        return needed

    def constants(self, needed: list[bool]) -> list[int]:
        """Affine nodes on the way whose result may contain more than what comes from their live arguments."""
        affine = ((i, name) for i, name in enumerate(self.names) if needed[i] and name in ops.AFFINE)
        return [i for i, name in affine if self._may_hold_constant(i, name)]

    def _may_hold_constant(self, i: int, name: str) -> bool:
        edges, live, node, treatment = self.inputs[i], self.live, self.nodes[i], self.treatments[i]
        if treatment is not None and treatment.kind == "linear map":
            return False  # it absorbs the share of its bias itself
        if name in ("Convolution", "MkldnnConvolution"):
            # Without a bias its shape is (0,).
            return len(edges) > 2 and edges[2] < 0 and any(node._saved_bias_sym_sizes_opt or ())
        if name == "ConstantPadNd":
            return any(0 < amount < 2**63 for amount in node._saved_pad)  # autograd keeps −1 as 2⁶⁴ − 1
        if name in ("NativeLayerNorm", "NativeGroupNorm"):
            return edges[2] < 0 and getattr(node, "_saved_bias", True) is not None
        if name in ops.BATCH_NORMS or name in ("MaskedFill", "IndexFill"):
            return True
        if name in ops.PRODUCTS:
            # The first argument of addmm and the like is added; it may be a bias that is no leaf, or a bias added to a
            # product that carries nothing, as where a time step is embedded.
            return not (edges[0] >= 0 and live[edges[0]]) or not any(
                edges[k] >= 0 and live[edges[k]] for k in ops.PRODUCTS[name]
            )
        if name == "Rsub" and len(edges) == 1:
            return True  # a number minus the argument
        return any(j < 0 or not live[j] for j in edges)

    def _inherit(self, i: int, source: int) -> None:
        name = self.names[i]
        if name in ops.MATRIX:
            return
        self.activated[i] = self.activated[source] or name in ops.RECTIFIERS
        self.gated[i] = self.gated[source]
        self.attends[i] = self.attends[source]
        self.factors[i] = self.factors[source]

    def _blocking(self, i: int) -> Treatment | None:
        """The treatment of a node that keeps its derivative, except for arguments that are held constant."""
        edges, live = self.inputs[i], self.live
        coefficients = ops.COEFFICIENTS.get(self.names[i], ())
        blocked = [
            k
            for k, j in enumerate(edges)
            if j >= 0 and ((not live[j] and self.kinds[j] != "leaf") or k in coefficients)
        ]
        shares = [None if k in blocked else 1.0 for k in range(len(edges))]
        return Treatment.divide(shares, "linear", "constants left out") if blocked else None

    def _path(self, i: int) -> str:
        return self.places.path_of(self.nodes[i])

    def _at(self, i: int) -> Composite:
        """The composite that applies at a node, whose rule is followed there."""
        if not self.composite.overrides:
            return self.composite
        override = self.composite.override_at(self._path(i))
        if override is None:
            return self.composite
        self.overridden.add(override)
        return override.composite

    def check_overrides(self) -> None:
        """Reject an override that no operation follows, such as one for layers that do not exist."""
        for override in self.composite.overrides:
            if override not in self.overridden:
                raise RuleNotApplied(
                    f"{self.composite.name} has other rules in {override.in_words()}, but no operation there has "
                    "a rule; check the numbers of the layers (from 0) and the pattern of modules."
                )

    def _asked(self, i: int, rule: OperationRule) -> Treatment:
        """The treatment of a node by a user's rule."""
        live = tuple(j >= 0 and self.live[j] == LIVE for j in self.inputs[i])
        path = self._path(i)
        return rule(Operation(self.nodes[i], self.names[i], path, live, self.composite.at(path)))

    def _registered(self, i: int, rule: OperationRule) -> None:
        treatment = self._asked(i, rule)
        self.treatments[i] = treatment
        self.live[i] = self._survey(i)[0] if treatment.carries else DEAD

    def missing(self, needed: list[bool]) -> tuple[str, ...]:
        """Rules that the composite or its overrides promise, but that no node on the way follows."""
        broken = []
        if self.skips is not None and not self._applied("residual", needed):
            broken.append("residual gamma, but no branch is added to what it was computed from")
        if any(c.linear in ("gamma", "z-plus") for c in self.composites) and not self._applied("linear map", needed):
            broken.append("another rule for linear maps, but no map with weights carries relevance")
        if any(c.temperature != 1 for c in self.composites) and not any(needed[i] for i in self.tempered):
            broken.append("a softmax's derivative at another temperature, but relevance passes no softmax")
        return tuple(f"{self.composite.name} promises {promise}" for promise in broken)

    def _applied(self, kind: str, needed: list[bool]) -> bool:
        return any(t is not None and t.kind == kind and needed[i] for i, t in enumerate(self.treatments))

    def _residual(self, i: int, skips: Skips) -> Treatment | None:
        """A branch added to its own input, if the composite has a rule for it."""
        composite = self._composite_at(i)
        if composite.residual == "sum" or any(self.live[j] != LIVE for j in self.inputs[i]) or not skips.joins(i):
            return None
        self._at(i)
        if i not in self.captured:
            self.unresolved.append(i)
            return Treatment.keep("residual", "summands not captured")
        return residual_sum(self.names[i], self.captured[i], composite.residual_gamma)

    def _weighted(self, i: int, arguments: list[int], source: int) -> Treatment | None:
        """A map with weights, if the composite has a rule for it other than its derivative."""
        composite, edges = self._composite_at(i), self.inputs[i]
        other = next(edges[k] for k in arguments if k != source)
        if composite.linear == "epsilon" or (other >= 0 and self.depends[other]):
            return None
        self._at(i)
        if composite.linear == "cut":
            return Treatment.constant("linear map", "held constant")
        if i not in self.captured:
            self.unresolved.append(i)
            return Treatment.keep("linear map", "input not captured")
        added = next((edges[k] for k in range(len(edges)) if k not in arguments), -1)
        held = added >= 0 and self.depends[added] and not self.live[added]
        constant = "" if added >= 0 and self.live[added] else "held constant" if held else "constants"
        gamma = composite.gamma if composite.linear == "gamma" else None
        node, name, path = self.nodes[i], self.names[i], self._path(i)
        return linear_map(node, name, self.captured[i], source, gamma=gamma, path=path, constant=constant)

    def _check_epsilon(self, i: int) -> None:
        """Reject other rules for a kernel that computes many maps."""
        name = self.names[i]
        if ("_mm" in name or name in ops.MATRIX) and self._composite_at(i).linear != "epsilon":
            raise unknown_map(name, self._path(i))

    def _composite_at(self, i: int) -> Composite:
        """The composite that applies at a node, whose rule is not followed there (yet)."""
        return self.composite.at(self._path(i)) if self.composite.overrides else self.composite

    def _product(self, i: int) -> Treatment | None:
        name, edges, live = self.names[i], self.inputs[i], self.live
        if name == "Convolution" and len(edges) < 2:
            return None
        arguments = [k for k in ops.PRODUCTS[name] if k < len(edges)]
        factors = tuple(k for k in arguments if edges[k] >= 0 and live[edges[k]] == LIVE)
        if len(factors) < 2:
            return self._single_factor(i, arguments, factors)
        composite = self._at(i)
        a, b = (edges[k] for k in factors)
        if composite.activation == "gradient" and composite.product != "gradient" and self._is_curve(name, a, b):
            return self._shared(i, factors, "gradient", "activation")
        if (name in ops.MATRIX and (self.attends[a] or self.attends[b])) or (
            composite.attention != composite.product and name in ops.MATRIX and self.structure.reaches_softmax(i)
        ):
            return self._shared(i, factors, composite.attention, "attention")
        if composite.gate == "cut" and self.activated[a] != self.activated[b]:
            gate, value = factors if self.activated[a] else factors[::-1]
            shares: dict[int, float | None] = {gate: None, value: 1.0}
            words = "gate held constant, all to the value"
            return rules.product(self.nodes[i], name, factors, shares, "product", words)
        return self._shared(i, factors, composite.product, "product")

    def _shared(self, i: int, factors: tuple[int, ...], rule: str, kind: str) -> Treatment:
        node, name = self.nodes[i], self.names[i]
        counts = [self.factors[self.inputs[i][k]] for k in factors]
        self.factors[i] = sum(counts)
        option = "attention" if kind == "attention" else "product"
        if (named := rule_named(option, rule)) is not None:
            return self._asked(i, named)
        if rule == "gradient":
            return rules.product(node, name, factors, dict.fromkeys(factors, 1.0), kind, "derivative kept")
        if rule == "flat":
            shares: dict[int, float | None] = {k: c / sum(counts) for k, c in zip(factors, counts, strict=True)}
            return rules.product(node, name, factors, shares, kind, f"1/{sum(counts)} to each factor of the chain")
        return rules.split_product(node, name, factors, self._split(i, factors), kind)

    def _split(self, i: int, factors: tuple[int, ...]) -> tuple[float, float]:
        """The shares of two factors under the uniform rule: ½ each, unless the composite has other shares."""
        composite, name = self._composite_at(i), self.names[i]
        a, b = (self.inputs[i][k] for k in factors)
        scores = composite.query_share + composite.key_share
        if name in ops.MATRIX and self.attends[a] != self.attends[b]:
            return (scores, 1 - scores) if self.attends[a] else (1 - scores, scores)
        if composite.query_share != composite.key_share and name in ops.MATRIX and self.structure.reaches_softmax(i):
            return composite.query_share / scores, composite.key_share / scores
        if name not in ops.MATRIX and self.activated[a] != self.activated[b]:
            gate = composite.gate_share
            return (gate, 1 - gate) if self.activated[a] else (1 - gate, gate)
        return 0.5, 0.5

    def _single_factor(self, i: int, arguments: list[int], factors: tuple[int, ...]) -> Treatment | None:
        """A product with at most one live factor, which is linear in it."""
        edges, live = self.inputs[i], self.live
        if self.weighs and len(factors) == 1 and self.names[i] in ops.MATRIX:
            treatment = self._weighted(i, arguments, factors[0])
            if treatment is not None:
                return treatment
        added = [k for k in arguments if edges[k] >= 0 and live[edges[k]] == ADDED]
        others = [k for k, j in enumerate(edges) if k not in arguments and j >= 0 and live[j]]
        if not factors and len(added) == 1 and all(edges[k] < 0 for k in arguments if k not in added):
            factors = tuple(added)
        if not factors and not others:
            return Treatment.constant("product", "no live factor")
        dependent = [edges[k] for k in arguments if edges[k] >= 0 and self.depends[edges[k]]]
        if len(dependent) == 2 and self._gates_itself(*dependent):
            self.activated[i] = True
        kept = {*factors, *others}
        blocked = [k for k, j in enumerate(edges) if j >= 0 and k not in kept and (live[j] or self.kinds[j] != "leaf")]
        if not blocked:
            return None
        shares = [None if k in blocked else 1.0 for k in range(len(edges))]
        return Treatment.divide(shares, "product", "the other factor held constant")

    def _gates_itself(self, a: int, b: int) -> bool:
        """Whether one of two factors is a gate, held constant, that was computed from the other."""
        if self.live[a] and self.live[b]:
            return False
        value, gate = (a, b) if self.live[a] else (b, a)
        return self.gated[gate] and self.structure.same_source(value, gate)

    def _is_curve(self, name: str, a: int, b: int) -> bool:
        """Whether two live factors are one activation written out: x · x, or x · sigmoid(x)."""
        if name in ops.MATRIX or self.gated[a] == self.gated[b]:
            return name not in ops.MATRIX and a == b
        return self.structure.same_source(*((b, a) if self.gated[a] else (a, b)))

    def _attention(self, i: int) -> Treatment:
        composite = self._at(i)
        rule, queries, keys = composite.attention, composite.query_share, composite.key_share
        live = tuple(j >= 0 and self.live[j] == LIVE for j in self.inputs[i])
        if (named := rule_named("attention", rule)) is not None:
            return self._asked(i, named)
        if rule == "values" and not live[2]:
            return Treatment.constant("attention", "values not live")
        split, line = (queries, keys, 1 - queries - keys), self._softmax_line(i, rule)
        temperature = self._temperature(i)
        return rules.fused_attention(self.nodes[i], rule, live, line, split=split, temperature=temperature)

    def _softmax(self, i: int) -> Treatment:
        composite, name = self._at(i), self.names[i]
        attends = name != "LogSoftmax" and self.structure.reaches(i, lambda p: self.names[p] in ops.MATRIX)
        self.attends[i] = attends
        option = "attention" if attends else "softmax"
        if (named := rule_named(option, getattr(composite, option))) is not None:
            return self._asked(i, named)
        cut = name != "LogSoftmax" and (composite.attention == "values" if attends else composite.softmax == "cut")
        kind = "attention" if attends else "softmax"
        if cut:
            return Treatment.constant(kind, "softmax held constant")
        line = self._softmax_line(i, composite.attention)
        temperature = self._temperature(i) if name != "LogSoftmax" else 1.0
        return rules.softmax(self.nodes[i], name, kind, line, temperature=temperature)

    def _temperature(self, i: int) -> float:
        temperature = self._at(i).temperature
        if temperature != 1:
            self.tempered.append(i)
        return temperature

    def _softmax_line(self, i: int, rule: str) -> str:
        if rule == "gradient":
            return rules.CURVATURE
        return f"softmax remainder, {layer_label(self._path(i))}"

    def _norm(self, i: int) -> Treatment:
        chosen = self._at(i).norm
        if (named := rule_named("norm", chosen)) is not None:
            return self._asked(i, named)
        return (rules.frozen_norm if chosen == "frozen" else rules.curved_norm)(self.nodes[i], self.names[i])

    def _statistic(self, i: int) -> Treatment:
        composite, name = self._at(i), self.names[i]
        if (composite.norm == "frozen") if name in ops.DIVISORS else (composite.activation == "identity"):
            self.gated[i] = name in ops.MODULATORS
            return Treatment.constant("statistic")
        assert name in ops.DIVISORS or name in ops.MODULATORS
        self.gated[i] = name in ops.MODULATORS and composite.activation == "gradient"
        return rules.curved_statistic(self.nodes[i], name)

    def _quotient(self, i: int) -> Treatment | None:
        name, edges = self.names[i], self.inputs[i]
        denominator = {"Div": 1, "LinalgSolveTriangular": 0, "Addcdiv": 2}[name]
        numerator = 1 if name == "LinalgSolveTriangular" else 0
        if len(edges) <= denominator or edges[denominator] < 0:
            if any(j >= 0 and self.depends[j] for j in edges):
                self._inherit(i, next(j for j in edges if j >= 0 and self.depends[j]))
            return None
        composite = self._at(i)
        curve = composite.activation == "gradient" and self.gated[edges[denominator]]  # x / (1 + exp −x)
        frozen = composite.norm == "frozen" and not curve
        numerators = [k for k, j in enumerate(edges) if k != denominator and j >= 0 and self.live[j]]
        if frozen or not self.live[edges[denominator]]:
            if not numerators:
                return Treatment.constant("quotient", "only the denominator is live")
            if len(numerators) == 1:
                above, below = edges[numerators[0]], edges[denominator]
                self._inherit(i, above)
                if self.gated[below] and self.structure.same_source(above, below):
                    self.activated[i] = True  # x / (1 + exp −x)
            shares = [None if k == denominator else 1.0 for k in range(len(edges))]
            return Treatment.divide(shares, "quotient", "denominator held constant")
        if not numerators or name != "Div":
            return Treatment.keep("quotient")
        return rules.curved_quotient(self.nodes[i], numerator)

    def _gate(self, i: int) -> Treatment | None:
        if self._at(i).activation == "identity" and self.structure.reaches(i, lambda p: True):
            self.gated[i] = True
            return Treatment.constant("gate")
        self.gated[i] = self._at(i).activation == "gradient"
        return self._activation(i)

    def _activation(self, i: int) -> Treatment | None:
        node, name, composite = self.nodes[i], self.names[i], self._at(i)
        if name == "Pow" and (treatment := self._power(i, composite)) is not None:
            return treatment
        self.activated[i] = True
        if (named := rule_named("activation", composite.activation)) is not None:
            return self._asked(i, named)
        if name == "Glu" and composite.activation == "identity":
            return self._glu(i)
        if composite.activation == "gradient":
            return rules.curved_activation(node, name)
        slope = slope_of(name, node, self._captured_input(i))
        if slope is None:
            self.unresolved.append(i)
            return Treatment.keep("activation", "input not captured")
        return rules.identity(slope)

    def _captured_input(self, i: int) -> Tensor | None:
        return next(a for a in self.captured[i][0] if isinstance(a, Tensor)) if i in self.captured else None

    def _power(self, i: int, composite: Composite) -> Treatment | None:
        node = self.nodes[i]
        exponent = node._saved_exponent
        if hasattr(exponent, "numel"):
            if exponent.numel() != 1:
                self.unknown.add(i)
                return Treatment.keep("activation", "unknown exponents")
            exponent = exponent.item()
        if exponent >= 1:
            return None
        return Treatment.constant("statistic") if composite.norm == "frozen" else rules.curved_activation(node, "Pow")

    def _glu(self, i: int) -> Treatment:
        node, axis = self.nodes[i], saved_axis(self.nodes[i])

        def derivative(arguments: Gradients, results: Gradients) -> Gradients:
            gate = node._saved_self.chunk(2, axis)[1]
            grad = results[0]
            assert grad is not None
            passed = grad * gate.sigmoid()
            return (torch.cat([passed, torch.zeros_like(passed)], axis),)

        return Treatment(kind="activation", rule="gate held constant", derivative=derivative)

    def _unknown_message(self, i: int) -> str:
        name, path = self.names[i], self._path(i) or "the model itself"
        return (
            f"no rule is known for the operation {name!r} in {path}, so relevance cannot pass it. "
            "If it is a fused or compiled kernel, load the model without it (attn_implementation='sdpa', "
            f"use_kernels=False); otherwise register a rule for it: @apportion.register_rule({name!r})."
        )
