"""Shapley, Banzhaf and ContextCite on tiny models: against their definitions on prompts changed by hand."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from sklearn.linear_model import Lasso
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError, Banzhaf, ContextCite, Explainer, Shapley, Span, Target
from tests.checking import unchecked
from tests.reference import literal_games as literal
from tests.tiny import InFloat64, tiny, tokenizer

TEXT = "the man sees the old cat"
EIGHT = "The man who owns the dogs"
LONGER = "The man who owns the dogs sees the cat"
SENTENCES = "The man is old. The dog sees the cat. The cat is sad."
KINDS = {"bert": "masked", "bert_classifier": "masked", "t5": "seq2seq"}
SHAPLEY = [
    Shapley(estimator="exact"),
    Shapley(estimator="permutation", budget=80),
    Shapley(estimator="kernel", budget=80),
    Shapley(estimator="leverage", budget=80),
]
METHODS = [*SHAPLEY, Banzhaf(), Banzhaf(budget=60), ContextCite(ablations=40)]
every = pytest.mark.parametrize("method", METHODS, ids=repr)


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


@cache
def explainer(name: str = "llama") -> Explainer:
    return Explainer(tiny(name), tokenizer(KINDS.get(name, "causal")))


def ids_of(text: str) -> list[int]:
    return explainer().processor(text)["input_ids"]


def logits_of(ids: list[int]) -> Tensor:
    with torch.no_grad():
        return tiny("llama")(input_ids=torch.tensor([ids])).logits[0]


def without_absent(ids: list[int], members: frozenset[int]) -> list[int]:
    """The prompt with only the players of a coalition, after the <s> that always stays."""
    return [ids[0], *[token for player, token in enumerate(ids[1:]) if player in members]]


@pytest.mark.parametrize(
    ("method", "definition"), [(Shapley(masker="delete"), literal.shapley_by_subsets), (Banzhaf(), literal.banzhaf)]
)
def test_exact_values_on_a_model_are_those_of_the_definition(method, definition):
    ids, target = ids_of(TEXT), 20
    paid = {
        members: logits_of(without_absent(ids, members))[-1, target].item() for members in literal.subsets([*range(6)])
    }
    found = explainer().explain(TEXT, target=target, method=method)
    expected = [0.0, *definition(6, paid.__getitem__)]
    assert_close(found.scores.tolist(), expected, rtol=1e-10, atol=1e-12)
    assert found.scores[0].item() == 0
    assert found.standard_errors is None
    assert found.cost.forward == 64
    if isinstance(method, Shapley):
        assert found.ledger.lines["target with nothing present"].item() == pytest.approx(paid[frozenset()], rel=1e-10)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba", "bert", "bert_classifier", "t5"])
@pytest.mark.parametrize("method", [SHAPLEY[0], SHAPLEY[3]], ids=["exact", "leverage"])
def test_shapley_divides_what_the_prompt_adds_to_nothing(method, name):
    text = f"{TEXT} [MASK]" if name == "bert" else TEXT
    found = explainer(name).explain(text, method=method)
    assert list(found.ledger.lines) == ["tokens", "target with nothing present"]
    assert found.ledger.total.item() == pytest.approx(found.target.value, rel=1e-12)
    assert found.ledger.lines["tokens"].item() == pytest.approx(found.scores.sum().item(), rel=1e-12)
    assert found.ledger.relative_residual.item() < 1e-11
    always = [f.template or f.part == "decoder" or f.label.strip() == "[MASK]" for f in found.features]
    assert (found.scores == 0).tolist() == always


@every
def test_a_batch_and_several_targets_are_as_each_alone(method):
    texts = ["the old cat is new", "the cat is old", "the dog and the man"]
    targets = [20, Target(30, contrast=(31,)), Target(12, unit="log-probability")]
    together = explainer().explain_many(texts, target=targets, method=method, batch_size=3)
    for text, found in zip(texts, together, strict=True):
        assert found.ledger is None
        for k, target in enumerate(targets):
            alone = explainer().explain(text, target=target, method=method)
            assert_close(found.scores[k], alone.scores, rtol=1e-7, atol=1e-8)
            assert (found.standard_errors is None) == (alone.standard_errors is None)
            if alone.standard_errors is not None:
                assert_close(found.standard_errors[k], alone.standard_errors, rtol=1e-7, atol=1e-8)


def test_auto_is_exact_where_it_can_be_then_a_regression_then_orders():
    def by(estimator: str, budget: int) -> Tensor:
        return explainer().explain(EIGHT, method=Shapley(estimator=estimator, budget=budget)).scores

    assert len(ids_of(EIGHT)) - 1 == 8
    for budget, expected in [(256, "exact"), (48, "leverage"), (47, "permutation")]:
        assert_close(by("auto", budget), by(expected, budget), rtol=0, atol=0)
    assert float((by("leverage", 48) - by("permutation", 48)).abs().max()) > 1e-3
    with pytest.raises(ApportionError, match=r"^budget=15 is too small for the orders of 8 players[^\n]*$"):
        by("auto", 15)


def test_errors_stand_beside_the_scores_that_they_belong_to():
    found = explainer().explain(EIGHT, method=Shapley(estimator="leverage", budget=100))
    exact = explainer().explain(EIGHT, method=Shapley(estimator="exact"))
    assert found.standard_errors[0].item() == 0
    relative = (found.scores - exact.scores)[1:] / found.standard_errors[1:]
    assert 0.3 < float(relative.pow(2).mean().sqrt()) < 2
    assert found.cost.forward == 100


def test_a_span_is_divided_among_the_prompt_and_never_among_itself():
    found = explainer().explain(TEXT, target=Span(" and the dog"), method="shapley")
    answer = [f.part == "answer" for f in found.features]
    assert sum(answer) == 2  # the last token is only predicted
    assert not bool((found.scores[answer] != 0).any())
    assert found.ledger.relative_residual.item() < 1e-11


def test_players_may_be_words_or_spans():
    found = explainer().explain(LONGER, method=Shapley(features="words"))
    assert [f.label.strip() for f in found.features] == ["<s>", *LONGER.split()]
    assert found.ledger.relative_residual.item() < 1e-11
    found = explainer().explain(LONGER, method=Shapley(features={"who": "who owns", "what": "the dogs"}))
    playing = {f.label: score for f, score in zip(found.features, found.scores.tolist(), strict=True) if score}
    assert list(playing) == ["who", "what"]


def test_context_cite_divides_among_sentences_where_there_are_three_else_among_words():
    found = explainer().explain(SENTENCES, method="context-cite")
    assert [f.label.strip() for f in found.features if not f.template] == [
        "The man is old.",
        "The dog sees the cat.",
        "The cat is sad.",
    ]
    found = explainer().explain(LONGER, method="context-cite")
    assert [f.label.strip() for f in found.features if not f.template] == LONGER.split()


@pytest.mark.parametrize(
    ("target", "method"),
    [
        (Span(" and the dog"), ContextCite(features="tokens", ablations=32)),
        (Target(20, unit="log-probability"), ContextCite(features="tokens", ablations=32)),
        (Target(20, unit="probability"), ContextCite(features="tokens", ablations=32)),
        (Target(20, unit="log-probability"), ContextCite(features="tokens", ablations=32, link="identity")),
        (Target(20), ContextCite(features="tokens", ablations=32, alpha=0.05)),
        (Target(20, contrast=(21,), unit="log-probability"), ContextCite(features="tokens", ablations=32)),
    ],
    ids=str,
)
def test_context_cite_is_the_lasso_of_its_paper(target, method):
    """As in the authors' code: a scaler and a LASSO on log-odds by number of tokens, scaled back."""
    ids = ids_of(TEXT)
    answer = ids_of(TEXT + " and the dog")[len(ids) :] if isinstance(target, Span) else []
    drawn = torch.rand(32, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) < 0.5

    def paid(present: Tensor) -> float:
        kept = without_absent(ids, frozenset(present.nonzero().flatten().tolist()))
        rows = logits_of([*kept, *answer]).log_softmax(-1)
        if answer:
            log_probability = sum(rows[len(kept) - 1 + k, token] for k, token in enumerate(answer))
        elif target.unit == "logit":
            return logits_of(kept)[-1, 20].item()
        elif target.contrast:
            return (rows[-1, 20] - rows[-1, 21]).item()
        else:
            log_probability = rows[-1, 20]
        if method.link == "identity":
            return log_probability.item()
        return (log_probability - torch.log1p(-log_probability.exp())).item()

    tokens = max(1, len(answer))
    scaler, lasso = StandardScaler(), Lasso(alpha=method.alpha, tol=1e-8)
    make_pipeline(scaler, lasso).fit(drawn.double().numpy(), [paid(present) / tokens for present in drawn])
    expected = [0.0, *(lasso.coef_ / scaler.scale_ * tokens).tolist(), *[0.0] * len(answer[:-1])]
    found = explainer().explain(TEXT, target=target, method=method)
    assert_close(found.scores.tolist(), expected, rtol=1e-4, atol=1e-5)
    assert found.ledger is None
    assert found.standard_errors is None


def test_certainty_has_finite_odds():
    model = tiny("llama")
    best = int(logits_of(ids_of(TEXT))[-1].argmax())
    head = model.lm_head.weight.detach().clone()
    try:
        with torch.no_grad():
            model.lm_head.weight *= 1e4
        found = explainer().explain(TEXT, target=Target(best, unit="log-probability"), method="context-cite")
    finally:
        with torch.no_grad():
            model.lm_head.weight.copy_(head)
    assert bool(torch.isfinite(found.scores).all())


@every
def test_the_same_is_found_again(method):
    first, again = (explainer().explain(TEXT, method=method) for _ in range(2))
    assert_close(first.scores, again.scores, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shapley(estimator="tree"), r"^estimator='tree' is not known; use 'auto', 'exact'[^\n]*\.$"),
        (lambda: Shapley(masker="nothing"), r"^there is no masker 'nothing'[^\n]*$"),
        (lambda: Banzhaf(masker="nothing"), r"^there is no masker 'nothing'[^\n]*$"),
        (lambda: ContextCite(link="log"), r"^link='log' is not known[^\n]*$"),
        (lambda: ContextCite(alpha=0), r"^alpha=0 is not possible[^\n]*$"),
        (lambda: explainer().explain(TEXT, method="shapley(features='letters')"), r"^'letters' names no parts[^\n]*$"),
        (lambda: explainer().explain(LONGER, method="shapley(budget=3)"), r"^budget=3 is too small[^\n]*$"),
        (lambda: explainer().explain(LONGER, method="banzhaf(budget=3)"), r"^budget=3 is too small[^\n]*$"),
        (lambda: explainer().explain(LONGER, method="context-cite(ablations=3)"), r"^ablations=3 is too small[^\n]*$"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(make, message):
    with unchecked(), pytest.raises(ApportionError, match=message):
        make()
