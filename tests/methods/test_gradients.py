"""The gradient family: against literal loops, and the properties that each method promises."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import XLNetConfig, XLNetForSequenceClassification

from apportion import (
    ApportionError,
    Attribution,
    ExpectedGradients,
    Explainer,
    Gradient,
    IntegratedGradients,
    Method,
    SmoothGrad,
    Span,
    Target,
)
from apportion.relevance import record
from tests.checking import unchecked
from tests.reference.literal_gradients import (
    drawn_tokens,
    literal_expected_gradients,
    literal_gradient,
    literal_integrated_gradients,
    literal_smoothgrad,
    steps_of,
)
from tests.tiny import VOCABULARY, InFloat64, inputs_of, tiny, tokenizer, with_random_weights

TEXT = "The man who owns the dogs"
TEXTS = [TEXT, "the cat", "The old man sees the new dog"]
KINDS = {"bert": "masked", "bert_classifier": "masked", "t5": "seq2seq", "bart": "seq2seq"}
FAMILY = {
    "gradient": Gradient(),
    "integrated-gradients": IntegratedGradients(steps=5, baseline="mean"),
    "smoothgrad": SmoothGrad(samples=5),
    "expected-gradients": ExpectedGradients(samples=5),
}
every_method = pytest.mark.parametrize("method", FAMILY)


@pytest.fixture(autouse=True)
def in_float64():
    """Without the models' detours through float32, so that a small mistake cannot hide in their rounding."""
    with InFloat64():
        yield


@cache
def explainer(name: str = "llama") -> Explainer:
    return Explainer(tiny(name), tokenizer(KINDS.get(name, "causal")))


def explained(
    method: Method | str, name: str = "llama", prompt: object = TEXT, target: object = 7, **options: object
) -> Attribution:
    return explainer(name).explain(prompt, method=method, target=target, progress=False, **options)


@cache
def literally(name: str) -> tuple[Callable[[Tensor], Tensor], Tensor, Tensor]:
    """The target as a function of the tokens' embeddings, those embeddings, and the whole table."""
    table = tiny(name).get_input_embeddings().weight.detach()
    ids = explainer(name).processor(TEXT, return_tensors="pt").input_ids[0]
    column, row = (1, (0,)) if name == "bert_classifier" else (7, (0, -1))
    return lambda x: tiny(name)(inputs_embeds=x[None]).logits[(*row, column)], table[ids], table


def target_of(name: str) -> int:
    return 1 if name == "bert_classifier" else 7


both = pytest.mark.parametrize("name", ["llama", "bert_classifier"])


@both
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_the_gradient_is_the_literal_one(name, norm):
    target, x, _ = literally(name)
    found = explained(Gradient(norm=norm), name, target=target_of(name))
    assert_close(found.scores.tolist(), literal_gradient(target, x, norm))
    assert found.ledger is None
    assert found.conserves == "no"


@both
@pytest.mark.parametrize(
    ("quadrature", "steps", "baseline"),
    [
        ("gauss-legendre", 3, "mean"),
        ("gauss-legendre", 3, "pad"),
        ("gauss-legendre", 3, 9),
        ("gauss-legendre", 3, "zero"),
        ("riemann-left", 4, "mean"),
        ("riemann-right", 4, "mean"),
        ("riemann-midpoint", 4, "mean"),
        ("trapezoid", 4, "mean"),
    ],
)
def test_integrated_gradients_are_the_literal_ones(name, quadrature, steps, baseline):
    target, x, table = literally(name)
    row = {"zero": 0 * table[0], "mean": table.mean(0), "pad": table[1], 9: table[9]}[baseline]
    found = explained(
        IntegratedGradients(steps=steps, quadrature=quadrature, baseline=baseline), name, target=target_of(name)
    )
    expected = literal_integrated_gradients(target, x, row.expand_as(x), steps_of(quadrature, steps))
    assert_close(found.scores.tolist(), expected, rtol=1e-9, atol=1e-12)
    assert found.ledger.lines["target at the baseline"].item() == pytest.approx(target(row.expand_as(x)).item())


@both
@pytest.mark.parametrize("score", ["l2", "l1", "input-x-gradient"])
def test_smoothgrad_is_the_literal_one(name, score):
    target, x, _ = literally(name)
    found = explained(SmoothGrad(samples=4, noise=0.15, score=score, seed=3), name, target=target_of(name))
    scores, errors = literal_smoothgrad(target, x, samples=4, noise=0.15, seed=3, score=score)
    assert_close(found.scores.tolist(), scores)
    assert_close(found.standard_errors.tolist(), errors)


@both
def test_expected_gradients_are_the_literal_ones(name):
    target, x, table = literally(name)
    tokens, alphas = drawn_tokens(VOCABULARY, 4, len(x), 3)
    found = explained(ExpectedGradients(samples=4, seed=3), name, target=target_of(name))
    scores, errors = literal_expected_gradients(target, x, [table[row] for row in tokens], alphas.tolist())
    assert_close(found.scores.tolist(), scores)
    assert_close(found.standard_errors.tolist(), errors)
    there = sum(target(table[row]).item() for row in tokens) / 4
    assert found.ledger.lines["mean target at the references"].item() == pytest.approx(there)


@pytest.mark.parametrize(
    ("name", "left"),
    [("gpt2", 1e-10), ("bert_classifier", 1e-10), ("bart", 1e-10), ("llama", 1e-6), ("mamba", 1e-6), ("t5", 0.05)],
)
def test_the_completeness_gap_closes_with_more_steps(name, left):
    gaps = []
    for steps in (3, 12, 100):
        found = explained(IntegratedGradients(steps=steps, baseline="pad"), name, target=1)
        ledger = found.ledger
        assert list(ledger.lines) == ["tokens", "target at the baseline", "completeness gap"]
        assert ledger.total.item() == pytest.approx(found.target.value)
        assert ledger.lines["tokens"].item() == pytest.approx(found.scores.sum().item())
        assert abs(ledger.residual.item()) < 1e-12
        gaps.append(abs(ledger.lines["completeness gap"].item()))
    assert gaps[2] < 0.2 * gaps[0]
    assert gaps[2] < left  # T5 has a kink at every ReLU


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_both_inputs_of_an_encoder_decoder_move_and_positions_stay(name):
    found = explained(IntegratedGradients(), name)
    assert [f.part for f in found.features].count("decoder") == 1
    assert (found.scores != 0).all()
    with torch.no_grad():
        nothing = torch.zeros(1, len(found.features) - 1, 16, dtype=torch.float64)
        logits = tiny(name)(inputs_embeds=nothing, decoder_inputs_embeds=nothing[:, :1]).logits
    assert found.ledger.lines["target at the baseline"].item() == pytest.approx(logits[0, -1, 7].item())


def test_source_and_decoder_come_in_their_order():
    embed = tiny("t5").get_input_embeddings()
    ids, start = explainer("t5").processor(TEXT, return_tensors="pt").input_ids, torch.tensor([[1]])
    parts = [embed(tokens).detach().requires_grad_(True) for tokens in (ids, start)]
    logit = tiny("t5")(inputs_embeds=parts[0], decoder_inputs_embeds=parts[1]).logits[0, -1, 7]
    expected = torch.cat([gradient[0].norm(dim=-1) for gradient in torch.autograd.grad(logit, parts)])
    assert_close(explained(Gradient(), "t5").scores, expected)


def test_positions_that_read_the_shape_of_the_ids_are_no_tokens():
    leaves = record(tiny("bart"), inputs_of("bart")).leaves
    roles = {name: leaf.role for name, leaf in leaves.items() if not leaf.added}
    assert {name for name, role in roles.items() if role == "tokens"} == {
        "model.encoder.embed_tokens",
        "model.decoder.embed_tokens",
    }


def test_a_batch_that_the_model_turns_about_is_read_one_by_one():
    config = XLNetConfig(vocab_size=VOCABULARY, d_model=16, n_layer=1, n_head=2, d_inner=20)
    model = with_random_weights(XLNetForSequenceClassification(config))
    turned = Explainer(model, tokenizer("masked"))
    together = turned.explain_many([TEXT, TEXT], method="gradient", target=1, batch_size=2, progress=False)
    assert_close(together[1].scores, turned.explain(TEXT, method="gradient", target=1).scores)
    alone = turned.explain_many(
        [TEXT, TEXT], method=IntegratedGradients(steps=30, baseline="mean"), target=1, progress=False
    )
    assert torch.equal(alone[0].scores, alone[1].scores)
    again = turned.explain(TEXT, method=IntegratedGradients(steps=30, baseline="mean"), target=1)
    assert abs(again.ledger.lines["completeness gap"].item()) < 1e-6


@pytest.mark.parametrize("unit", ["log-probability", "probability"])
def test_a_target_that_bends_is_integrated_as_it_is(unit):
    target = Target(7, unit=unit)
    found = explained(IntegratedGradients(steps=100, baseline="mean"), target=target)
    value = literally("llama")[1].new_tensor(found.target.value)
    assert found.ledger.total.item() == value
    assert abs(found.ledger.lines["completeness gap"].item()) < 1e-6 * abs(value)


@pytest.mark.parametrize("method", [name for name in FAMILY if name not in ("gradient", "smoothgrad")])
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_difference_of_targets_gets_the_difference_of_their_scores(name, method):
    first, second = (explained(FAMILY[method], name, target=target) for target in (7, 20))
    difference = explained(FAMILY[method], name, target=Target(7, contrast=(20,)))
    assert_close(difference.scores, first.scores - second.scores)
    assert_close(
        difference.ledger.lines["tokens"],
        first.ledger.lines["tokens"] - second.ledger.lines["tokens"],
        check_dtype=False,
    )


@every_method
def test_the_output_that_is_most_likely_unchanged_is_explained_throughout(method):
    likely = explainer().model(input_ids=explainer().processor(TEXT, return_tensors="pt").input_ids).logits[0, -1]
    found, expected = (explained(FAMILY[method], target=target) for target in (None, int(likely.argmax())))
    assert_close(found.scores, expected.scores)


@every_method
@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_tokens_that_the_target_cannot_see_get_nothing(name, method):
    found = explained(FAMILY[method], name, target=Target(7, position=3))
    assert (found.scores[:4] != 0).all()
    assert (found.scores[4:] == 0).all()


def test_a_token_that_equals_the_baseline_gets_nothing():
    ids = explainer().processor(TEXT, return_tensors="pt").input_ids[0].tolist()
    found = explained(IntegratedGradients(steps=4, baseline=ids[2]))
    assert [i for i, score in enumerate(found.scores.tolist()) if score == 0] == [2]


@every_method
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_several_targets_are_each_alone(name, method):
    together = explained(FAMILY[method], name, target=[1, None, 2])
    for found, target in zip(together, (1, None, 2), strict=True):
        alone = explained(FAMILY[method], name, target=target)
        assert_close(found.scores, alone.scores)
        assert found.target.label == alone.target.label
        assert (found.ledger is None) == (alone.ledger is None)
        if alone.ledger is not None:
            assert_close(dict(found.ledger.lines), dict(alone.ledger.lines))
        if alone.standard_errors is not None:
            assert_close(found.standard_errors, alone.standard_errors)


@every_method
@pytest.mark.parametrize("name", ["llama", "mamba", "bert_classifier", "t5"])
def test_a_batch_of_prompts_equals_each_alone(name, method):
    single = [explained(FAMILY[method], name, text, target=None) for text in TEXTS]
    together = explainer(name).explain_many(TEXTS, method=FAMILY[method], batch_size=3, progress=False)
    for found, alone in zip(together, single, strict=True):
        assert_close(found.scores, alone.scores)
        assert found.target.label == alone.target.label


@pytest.mark.parametrize(
    "method", [IntegratedGradients(steps=7, batch_size=3), SmoothGrad(samples=7), ExpectedGradients(samples=7)]
)
@pytest.mark.parametrize("name", ["mixtral", "t5"])
def test_how_many_points_run_together_changes_nothing(name, method):
    found = [explained(type(method)(**{**method.options, "batch_size": size}), name) for size in (1, 3, None)]
    assert_close(found[0].scores, found[1].scores)
    assert_close(found[0].scores, found[2].scores)
    assert found[0].cost.backward == found[2].cost.backward == 7


@every_method
def test_embeddings_are_explained_like_the_tokens_they_stand_for(method):
    ids = explainer().processor(TEXT, return_tensors="pt").input_ids
    embeddings = tiny("llama").get_input_embeddings()(ids).detach()
    found = explained(FAMILY[method], prompt={"inputs_embeds": embeddings})
    assert_close(found.scores, explained(FAMILY[method]).scores)


@every_method
def test_a_function_of_the_output_is_explained_like_the_output_it_reads(method):
    found = explained(FAMILY[method], target=lambda output: output.logits[0, -1, 7])
    assert_close(found.scores, explained(FAMILY[method], target=7).scores)


@every_method
def test_a_span_is_divided_among_the_prompt_and_what_it_says_before(method):
    found = explained(FAMILY[method], target=Span(" is sad"))
    assert found.features[-1].part == "answer"
    assert (found.scores != 0).all()


@pytest.mark.parametrize("method", ["smoothgrad", "expected-gradients"])
def test_a_seed_decides(method):
    first, again, other = (explained(f"{method}(samples=3, seed={seed})").scores for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, rtol=1e-3)


def test_smoothgrad_with_little_noise_is_the_gradient():
    for score in ("l2", "l1"):
        found = explained(SmoothGrad(samples=2, noise=1e-9, score=score))
        assert_close(found.scores, explained(Gradient(norm=score)).scores, rtol=1e-5, atol=1e-8)
    product = explained(SmoothGrad(samples=2, noise=1e-9, score="input-x-gradient"))
    assert_close(product.scores, explained("input-x-gradient").scores, rtol=1e-5, atol=1e-7)


def test_expected_gradients_of_one_reference_near_integrated_gradients():
    found = explained(ExpectedGradients(samples=200, references=[[1] * 12]), "gpt2")
    integrated = explained(IntegratedGradients(steps=40, baseline=1), "gpt2")
    assert ((found.scores - integrated.scores).abs() < 4 * found.standard_errors).all()
    there = integrated.ledger.lines["target at the baseline"]
    assert_close(found.ledger.lines["mean target at the references"], there)
    assert found.ledger.lines["sampling gap"].abs() < 0.1 * found.scores.abs().sum()


def test_references_are_read_as_texts_or_ids():
    texts = ["the old cat and the sad dog of the man", "The cat sees the man who owns the old dog"]
    ids = [explainer().processor(text).input_ids for text in texts]
    by_text = explained(ExpectedGradients(samples=4, references=texts))
    assert_close(by_text.scores, explained(ExpectedGradients(samples=4, references=ids)).scores)
    assert not torch.allclose(by_text.scores, explained(ExpectedGradients(samples=4, references=texts[:1])).scores)
    assert by_text.options["references"] == texts


@pytest.mark.parametrize("method", [SmoothGrad(samples=8), ExpectedGradients(samples=8)])
def test_standard_errors_say_how_far_another_seed_would_be(method):
    found = [
        explained(type(method)(**{**method.options, "seed": seed}), "bert_classifier", target=1) for seed in range(12)
    ]
    spread = torch.stack([one.scores for one in found]).std(0)
    said = torch.stack([one.standard_errors for one in found]).mean(0)
    assert 0.6 < (said / spread).median().item() < 1.6


def test_costs_are_counted():
    found = explained(IntegratedGradients(steps=6), target=[1, 2])
    assert (found.cost.forward, found.cost.backward) == (7, 12)  # the unchanged prompt was read before
    found = explained(ExpectedGradients(samples=6), target=[1, 2])
    assert (found.cost.forward, found.cost.backward) == (12, 12)
    found = explained(Gradient(), target=[1, 2])
    assert (found.cost.forward, found.cost.backward) == (0, 2)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda: Gradient(norm="max"), "norm='max' is not known; use 'l2' or 'l1'."),
        (lambda: IntegratedGradients(steps=0), "steps=0 is not possible; give a whole number of 1 or more."),
        (lambda: IntegratedGradients(steps=1, quadrature="trapezoid"), "steps=1 is not possible"),
        (lambda: IntegratedGradients(quadrature="simpson"), "quadrature='simpson' is not known; use 'gauss-legendre'"),
        (lambda: IntegratedGradients(baseline="blank"), "baseline='blank' is not known; use one of 'zero', 'mean'"),
        (lambda: IntegratedGradients(baseline=-1), "baseline=-1 is not known"),
        (lambda: IntegratedGradients(batch_size=0), "batch_size=0 is not possible"),
        (lambda: SmoothGrad(samples=1), "samples=1 is not possible; give a whole number of 2 or more."),
        (lambda: SmoothGrad(noise=0.0), "noise=0.0 is not possible; give a number above 0"),
        (lambda: SmoothGrad(score="max"), "score='max' is not known"),
        (lambda: ExpectedGradients(samples=1), "samples=1 is not possible"),
        (lambda: ExpectedGradients(references=TEXT), "give a list of texts, or of lists of token ids."),
        (lambda: ExpectedGradients(references=[]), "give a list of texts, or of lists of token ids."),
        (lambda: ExpectedGradients(references=[TEXT, [1]]), "give a list of texts, or of lists of token ids."),
        (lambda: ExpectedGradients(references=[[0.5]]), "give a list of texts, or of lists of token ids."),
    ],
)
def test_options_that_do_not_fit_are_refused(method, message):
    with unchecked(), pytest.raises(ApportionError, match=re.escape(message)):
        method()


@pytest.mark.parametrize(
    ("method", "name", "message"),
    [
        (IntegratedGradients(baseline="mask"), "llama", "has no mask token; use 'pad', 'unk', 'eos', 'bos', 'zero'"),
        (IntegratedGradients(baseline=96), "llama", "the model knows tokens 0 to 95"),
        (
            ExpectedGradients(references=["the cat"]),
            "llama",
            "has 3 tokens and the prompt 9; give one at least as long",
        ),
        (ExpectedGradients(references=[[96] * 9]), "llama", "has tokens outside the vocabulary (0 to 95)"),
        (
            ExpectedGradients(references=[TEXT]),
            "t5",
            "this model reads input_ids and decoder_input_ids; leave them out",
        ),
    ],
)
def test_what_the_model_cannot_serve_is_refused(method, name, message):
    with pytest.raises(ApportionError, match=re.escape(message)) as refused:
        explained(method, name)
    assert "\n" not in str(refused.value)


def test_a_baseline_by_name_needs_a_tokenizer():
    ids = explainer().processor(TEXT, return_tensors="pt").input_ids
    alone = Explainer(tiny("llama"))
    with pytest.raises(ApportionError, match="baseline='pad' needs a tokenizer"):
        alone.explain(ids, method=IntegratedGradients(baseline="pad"))
    found = alone.explain(ids, method=IntegratedGradients(steps=4, baseline=1), target=7)
    assert_close(found.scores, explained(IntegratedGradients(steps=4, baseline="pad")).scores)
