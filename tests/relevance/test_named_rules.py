"""Rules under a name of their own: a composite chooses them like the built-in ones, and they apply where these do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from torch.testing import assert_close

import apportion as ap
from apportion.methods import METHODS
from apportion.relevance import _treatment
from tests.tiny import tiny

IDS = [9, 12, 7, 30, 11]

HALVES: Callable[[ap.Operation], ap.Treatment] = lambda operation: ap.Treatment.divide(  # noqa: E731
    [0.5 if live else 1.0 for live in operation.live]
)
KEPT: Callable[[ap.Operation], ap.Treatment] = lambda operation: ap.Treatment.keep()  # noqa: E731


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registries, given back without what a test adds."""
    monkeypatch.setattr(_treatment, "_NAMED", dict(_treatment._NAMED))
    before = dict(METHODS)
    monkeypatch.setattr("apportion.methods._registry.METHODS", METHODS)
    yield  # type: ignore[misc]
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.parametrize(
    ("option", "rule", "built_in"),
    [("product", HALVES, "uniform"), ("activation", KEPT, "gradient"), ("norm", KEPT, "gradient")],
)
def test_a_named_rule_applies_where_the_built_in_one_does(
    option: str, rule: Callable[[ap.Operation], ap.Treatment], built_in: str
) -> None:
    ap.named_rule(option, "mine")(rule)
    mine, other = (replace(ap.CP_LRP, gate="product", **{option: choice}) for choice in ("mine", built_in))
    explainer = ap.Explainer(tiny("llama"))
    assert_close(explainer.explain(IDS, 4, method=mine).scores, explainer.explain(IDS, 4, method=other).scores)


@pytest.mark.parametrize(("option", "model"), [("softmax", "mixtral"), ("attention", "llama"), ("norm", "gpt2")])
def test_a_named_rule_is_asked(option: str, model: str) -> None:
    asked: list[str] = []

    @ap.named_rule(option, "asked")
    def rule(operation: ap.Operation) -> ap.Treatment:
        asked.append(operation.name)
        return ap.Treatment.keep()

    composite = replace(ap.ATTNLRP, name="asked", **{option: "asked"})
    ap.Explainer(tiny(model)).explain(IDS, 4, method=composite)
    assert asked


def test_a_name_that_no_rule_has_is_refused() -> None:
    with pytest.raises(ap.ApportionError, match="softmax='half' is not known; use one of 'gradient', 'cut'"):
        ap.Composite(softmax="half")
    with pytest.raises(ap.ApportionError, match="option='gamma' takes no named rules"):
        ap.named_rule("gamma", "half")


def test_a_recipe_is_used_by_its_name() -> None:
    composite = replace(ap.ATTNLRP, name="free-norms", norm="gradient")
    ap.register_recipe(composite, source="nobody")
    explainer = ap.Explainer(tiny("llama"))
    found = explainer.explain(IDS, 4, method="free-norms")
    assert found.method == "free-norms"
    assert_close(found.scores, explainer.explain(IDS, 4, method=composite).scores)
    with pytest.raises(ap.ApportionError, match="is taken"):
        ap.register_recipe(replace(composite, name="attnlrp"))
