"""What a user gets wrong, line by line; each line must be an error for mypy and for pyright, of the kind named on it.

It is never run. mypy complains about a `type: ignore` that silences nothing, pyright about such a `pyright: ignore`.
"""

from __future__ import annotations

from collections.abc import Sequence

import apportion as ap


def misspelt(explainer: ap.Explainer, a: ap.Attribution) -> None:
    explainer.explain("The keys", targets=" are")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    explainer.explain("The keys", " are", " is")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    explainer.explian("The keys")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert a.score  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    ap.LeaveOneOut(maskers="delete")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ap.Game(estimators="exact")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ap.Shapely()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def hidden() -> None:
    assert ap.torch  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert ap.cli  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def choices(explainer: ap.Explainer, a: ap.Attribution, g: ap.Generation) -> None:
    explainer.explain("The keys", unit="logits")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explainer.explain("The keys", features="wrods")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explainer.explain("The keys", regions="patch")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explainer.explain("The keys", positions="add")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explainer.interactions("The keys", index="sii")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    g.attribute_span("keys", unit="probability")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    g.attribute(part="answers")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a.top(by="name")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a.normalized("mean")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ap.Game(players="wrods")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ap.Game(order=4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ap.Target(" are", unit="bits")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ap.Composite(name="mine", linear="gama")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def values(explainer: ap.Explainer, a: ap.Attribution) -> None:
    explainer.explain("The keys", {"target": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explainer.explain("The keys", 0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explainer.explain("The keys", method=["gradient"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explainer.explain_many(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explainer.explain_pairs(("a", "b"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explainer.interactions("The keys", game="words")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explainer.generate("Why?", max_new_tokens="40")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    explainer.recommend(["a"], measures="abpc", by=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a.top("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    a.spans("The keys")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ap.Propagation("attnlrp")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def results(explainer: ap.Explainer, texts: Sequence[str]) -> None:
    a: ap.Attribution = explainer.explain_many(texts)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    explainer.explain("The keys").scores = a.scores  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    explainer.compare("The keys").words()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert a.ledger.total  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]


class NoShares(ap.Method):
    def attribute(self, task: ap.AttributionTask) -> ap.Attribution:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        raise NotImplementedError


class Nothing(ap.Masker):
    pass


Nothing()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]


@ap.register_rule("Fused")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def rule(operation: ap.Operation) -> float:
    return 0.5
