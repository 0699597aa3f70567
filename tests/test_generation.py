"""Generations: every token of an answer against its own `explain`, given answers, parts and spans."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import apportion.explain._generation as generation_module
from apportion import CP_LRP, ApportionError, Attribution, Explainer, Game, Generation, Span, Target
from apportion.models.inputs._thinking import parts_of_answer
from tests.tiny import InFloat64, build, tiny, tokenizer

TEXT = "The man who owns the dogs"
CHAT = [{"role": "user", "content": "who sees the cat"}]
CAUSAL = ("llama", "gpt2", "mixtral")
NEW = 7


@pytest.fixture(autouse=True)
def in_float64():
    """Without the models' detours through float32, so that rows agree to the last digits."""
    with InFloat64():
        yield


@cache
def explainer(name: str = "llama") -> Explainer:
    return Explainer(tiny(name), tokenizer("seq2seq" if name == "t5" else "causal"))


@cache
def generated(name: str = "llama") -> Generation:
    with InFloat64():
        return explainer(name).generate(TEXT, max_new_tokens=NEW)


@cache
def attributed(name: str = "llama", method: str = "attnlrp", unit: Any = "logit") -> Attribution:
    with InFloat64():
        return generated(name).attribute(method=method, unit=unit)


def explained_alone(generation: Generation, token: int, **options: Any) -> Attribution:
    """One token of an answer by `explain`, after everything before it."""
    inputs = {name: generation.prompt.inputs[name] for name in generation.prompt.parts}
    name = list(inputs)[-1]
    said = torch.tensor([generation.ids[:token]], dtype=torch.long)
    inputs[name] = torch.cat([inputs[name], said], 1)
    return generation.engine.explain(inputs, target=Target(generation.ids[token], **options.pop("of", {})), **options)


@pytest.mark.parametrize("method", ["attnlrp", "cp-lrp", "gradient", "leave-one-out"])
@pytest.mark.parametrize("name", [*CAUSAL, "t5"])
def test_every_row_equals_its_own_explain(name, method):
    generation, found = generated(name), attributed(name, method)
    assert found.scores.shape == (NEW, len(generation.features))
    for t in range(NEW):
        alone = explained_alone(generation, t, method=method)
        count = len(alone.features)
        assert_close(found.scores[t, :count], alone.scores, rtol=1e-9, atol=1e-12)
        assert found.explained[t].label == alone.target.label
        assert found.explained[t].value == pytest.approx(alone.target.value)
        if alone.ledger is not None:
            for line, amount in alone.ledger.lines.items():
                assert_close(found.ledger.lines[line][t], amount, rtol=1e-9, atol=1e-11)
            assert_close(found.ledger.total[t], alone.ledger.total)
        if alone.position_scores is not None:
            assert_close(found.position_scores[t, :count], alone.position_scores, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("unit", ["log-probability", "probability"])
def test_units_are_those_of_explain(unit):
    found = attributed(unit=unit)
    alone = explained_alone(generated(), 4, of={"unit": unit})
    assert_close(found.scores[4, : len(alone.features)], alone.scores)
    assert found.explained[4].unit == unit


@pytest.mark.parametrize(
    ("name", "method"), [("llama", "attnlrp"), ("llama", "leave-one-out"), ("llama", "rollout"), ("t5", "attnlrp")]
)
def test_a_token_and_later_ones_get_exactly_nothing(name, method):
    found = attributed(name, method)
    for t, explained in enumerate(found.explained):
        assert found.features[explained.feature].label == generated(name).tokens[t]
        assert bool((found.scores[t, explained.feature :] == 0).all())
        assert bool((found.scores[t, : explained.feature] != 0).any())


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_tokens_together_in_any_number_give_the_same(at_once, monkeypatch):
    monkeypatch.setattr(generation_module, "TARGETS_AT_ONCE", at_once)
    found = generated().attribute(progress=False)
    assert_close(found.scores, attributed().scores, rtol=1e-10, atol=1e-12)
    assert_close(found.ledger.residual, attributed().ledger.residual, rtol=0, atol=1e-11)
    assert found.cost.forward == -(-NEW // at_once)
    assert found.cost.backward == NEW


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_given_answer_equals_the_same_one_generated(name):
    generation = generated(name)
    given = explainer(name).answer(TEXT, generation.ids)
    assert (given.ids, given.tokens, given.text) == (generation.ids, generation.tokens, generation.text)
    assert_close(given.attribute().scores, attributed(name).scores)


def test_a_given_text_is_the_span_that_explain_takes():
    given = explainer().answer(TEXT, " is sad")
    assert given.tokens == (" is", " sad")
    total = given.attribute(unit="log-probability").scores.sum(0)
    assert_close(total[:-1], explainer().explain(TEXT, target=Span(" is sad")).scores)


@pytest.mark.parametrize("name", [*CAUSAL, "t5"])
def test_greedy_is_the_likeliest_token_each_time_and_every_row_reads_it(name):
    found = attributed(name)
    for t in range(NEW):
        assert explained_alone(generated(name), t).prediction[0][0] == generated(name).tokens[t]
    assert [e.label.strip('"') for e in found.explained] == list(generated(name).tokens)


def test_drawing_follows_its_seed():
    drawn = [explainer().generate(TEXT, max_new_tokens=5, do_sample=True, seed=seed).ids for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("method", ["attnlrp", "cp-lrp"])
@pytest.mark.parametrize("unit", ["log-probability", "logit"])
def test_a_span_in_one_pass_is_the_sum_of_its_rows(method, unit):
    rows, span = attributed(method=method, unit=unit), generated().attribute_span(range(2, 6), method=method, unit=unit)
    assert_close(span.scores, rows.scores[2:6].sum(0), rtol=1e-9, atol=1e-12)
    assert span.target.value == pytest.approx(sum(e.value for e in rows.explained[2:6]))
    assert span.target.unit == ("log-probability" if unit == "log-probability" else "logit, summed")
    assert span.features == rows.features


def test_of_a_part_or_words_of_the_answer_the_same_rows_are_left():
    generation, found = generated(), attributed()
    chosen = generation.attribute(of=[6, 3, 4])
    assert_close(chosen.scores, found.scores[[3, 4, 6]])
    words = "".join(generation.tokens[3:5])
    if "".join(generation.tokens).count(words) == 1:
        assert_close(generation.attribute(of=words).scores, found.scores[3:5])
    assert_close(generation.attribute(part="answer").scores, found.scores)


def test_between_spans_rows_and_columns_add_up_and_the_books_balance():
    found = attributed(unit="log-probability")
    first = found.explained[0].feature
    spans = found.between({"begin": [first, first + 1], "end": range(first + 2, first + NEW)}, ["The man", " dogs"])
    assert [f.label for f in spans.features] == ["The man", " dogs", "(the rest)"]
    assert [(e.label, e.unit) for e in spans.explained] == [("begin", "log-probability"), ("end", "log-probability")]
    labels = [f.label for f in found.features]
    man = [labels.index("The"), labels.index(" man")]
    assert_close(spans.scores[0, 0], found.scores[:2][:, man].sum())
    assert_close(spans.scores.sum(1)[1], found.scores[2:].sum())
    assert_close(spans.ledger.lines["tokens"], spans.scores.sum(1))
    assert bool((spans.ledger.relative_residual < 1e-11).all())
    assert spans.explained[1].value == pytest.approx(sum(e.value for e in found.explained[2:]))
    assert attributed().between().explained[0].unit == "logit, summed"


def test_between_words_counts_every_token_of_a_word():
    found = attributed()
    assert_close(found.words().between().scores.sum(), found.scores.sum())


def test_a_chat_keeps_its_roles_and_turns_and_the_answer_joins_them():
    generation = explainer().generate(CHAT, max_new_tokens=4)
    said = generation.features[-4:]
    assert {(f.part, f.role, f.turn) for f in said} == {("answer", "assistant", 1)}
    spans = generation.attribute().between()
    assert [f.label for f in spans.features] == ["user · turn 0", "assistant · turn 1", "answer · assistant · turn 1"]
    assert [e.label for e in spans.explained] == ["answer · assistant · turn 1"]


def test_the_token_that_ends_an_answer_is_explained_as_one_of_the_template():
    ends = generated().ids[3]
    model = build("llama")
    model.generation_config.eos_token_id = ends
    generation = Explainer(model, tokenizer()).generate(TEXT, max_new_tokens=NEW)
    assert generation.ids == generated().ids[: generated().ids.index(ends) + 1]
    given = explainer().answer(TEXT, [9, 3])
    assert [f.template for f in given.features[-2:]] == [False, True]
    assert given.attribute().scores.shape[0] == 2


def test_thinking_is_a_part_of_its_own():
    labels = ["<think>", " old", " dog", "</think>", "\n", "The", " man"]
    thinking = ["thinking"] * 4 + ["answer"] * 3
    assert parts_of_answer(labels) == thinking
    assert parts_of_answer(["<th", "ink>", "x", "</", "think>", "y"]) == ["thinking"] * 5 + ["answer"]
    assert parts_of_answer(labels[1:], before="<|assistant|><think>\n") == thinking[1:]
    assert parts_of_answer(labels[1:]) == thinking[1:]
    assert parts_of_answer(labels[:3]) == ["thinking"] * 3
    assert parts_of_answer(["a", "<think>", "b", "</think>", "c"]) == ["answer", *["thinking"] * 3, "answer"]
    assert parts_of_answer(["no", " thinking"], before="<think>\n\n</think>\n\n") == ["answer"] * 2
    assert parts_of_answer(["x", "<|end|>"]) == ["answer"] * 2


def test_the_parts_of_an_answer_are_explained_apart():
    known = tokenizer()
    known.add_tokens(["<think>", "</think>"])
    thinks = Explainer(tiny("llama"), known)
    generation = thinks.answer(TEXT, known.encode("<think> old</think> is sad", add_special_tokens=False))
    assert list(generation.parts) == ["thinking", "answer"]
    assert "old" in generation.parts["thinking"]
    assert generation.parts["answer"] == "is sad"
    both = generation.attribute()
    apart = [generation.attribute(part=part) for part in ("thinking", "answer")]
    assert_close(torch.cat([one.scores for one in apart]), both.scores)
    assert [e.label for e in both.between().explained] == ["thinking", "answer"]


def test_any_composite_and_a_saved_result_work(tmp_path):
    found = generated().attribute(method=CP_LRP)
    assert_close(found.scores, attributed(method="cp-lrp").scores)
    loaded = Attribution.load(found.save(tmp_path / "a.safetensors"))
    assert loaded.explained == found.explained
    assert_close(loaded.between().scores, found.between().scores)


def test_the_model_is_given_back():
    model = build("llama")
    settings = model.generation_config
    before, configured = settings.to_dict(), model.config.to_dict()
    model.train()
    Explainer(model, tokenizer()).generate(TEXT, max_new_tokens=3).attribute()
    assert model.generation_config is settings
    assert (settings.to_dict(), model.config.to_dict(), model.training) == (before, configured, True)
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.forward = None
    with pytest.raises(TypeError):
        Explainer(model, tokenizer()).generate(TEXT, max_new_tokens=3)
    assert model.generation_config is settings


def test_a_models_own_penalties_and_temperature_are_left_out():
    model = build("llama")
    model.generation_config.update(repetition_penalty=9.0, do_sample=True, temperature=5.0)
    assert Explainer(model, tokenizer()).generate(TEXT, max_new_tokens=NEW).ids == generated().ids


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda e: e.generate([TEXT, TEXT]), "an answer takes one prompt, and 2"),
        (lambda e: e.generate(TEXT, max_new_tokens=0), "max_new_tokens=0"),
        (lambda e: e.generate(TEXT, max_new_tokens=40), "the model's context is 32"),
        (lambda e: e.generate(TEXT, temperature=0.5), "do_sample=True"),
        (lambda e: e.generate(TEXT, do_sample=True, temperature=0.0), "temperature=0.0"),
        (lambda e: e.generate(TEXT, do_sample=True, top_p=0.0), "top_p=0.0"),
        (lambda e: e.answer(TEXT, ""), "empty"),
        (lambda e: e.answer(TEXT, []), "empty"),
        (lambda e: e.answer(TEXT, [9999]), "out of the vocabulary"),
        (lambda e: e.answer(TEXT, " is sad").attribute(of=" glad"), "occurs 0 times in the answer"),
        (lambda e: e.answer(TEXT, " is sad").attribute(of=[2]), "indices are 0 to 1"),
        (lambda e: e.answer(TEXT, " is sad").attribute(part="thinking"), "no part 'thinking'"),
        (lambda e: e.answer(TEXT, " is sad").attribute(of=[0], part="answer"), "not both"),
        (lambda e: e.answer(TEXT, " is sad .").attribute_span([0, 2]), "stand together"),
        (lambda e: e.answer(TEXT, " is sad").attribute_span([0, 1], unit="probability"), "does not add up"),
        (lambda e: e.explain(TEXT).between(), "between needs"),
        (lambda e: e.answer(TEXT, " is sad").attribute().between(" old"), "occurs 0 times"),
        (lambda e: e.answer(TEXT, " is sad").attribute().between(None, ["The man", " man"]), "overlap"),
        (lambda e: e.answer(TEXT, " is sad").attribute().between({"a": [0]}), "feature 0"),
        (lambda e: Explainer(tiny("bert"), tokenizer("masked")).generate(TEXT), "does not generate"),
        (lambda e: Explainer(tiny("bert"), tokenizer("masked")).answer(TEXT, " is"), "writes no answers"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(ask, said):
    from tests.checking import unchecked

    with unchecked(), pytest.raises(ApportionError, match=said) as caught:
        ask(explainer())
    assert "\n" not in str(caught.value)


def test_a_model_that_looks_ahead_is_refused():
    class LooksAhead(type(tiny("llama"))):
        def forward(self, input_ids=None, **inputs: Any) -> Any:
            output = super().forward(input_ids=input_ids, **inputs)
            ahead = self.get_input_embeddings()(input_ids).sum((1, 2))[:, None, None]
            output.logits = output.logits * (1 + ahead.square())
            return output

    model = build("llama")
    model.__class__ = LooksAhead
    generation = Explainer(model, tokenizer()).answer(TEXT, " is sad and old")
    with pytest.raises(ApportionError, match="does not write from left to right"):
        generation.attribute(method="input-x-gradient")


def test_prompt_and_answer_are_shown():
    shown = repr(generated())
    assert TEXT in shown.replace("\n", " ")
    assert f"{NEW} new tokens" in shown
    assert "<b>" in generated()._repr_html_()


@pytest.mark.parametrize("method", ["attnlrp", "cp-lrp", "gradient"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_many_targets_of_one_prompt_go_back_some_at_a_time(name, method, monkeypatch):
    ids = generated(name).ids
    targets = [Target(i, position=k % 6 + 1) for k, i in enumerate(dict.fromkeys(ids))]
    together = explainer(name).explain(TEXT, target=targets, method=method)
    monkeypatch.setattr("apportion.relevance._trace.TARGETS_AT_ONCE", 2)
    some = explainer(name).explain(TEXT, target=targets, method=method)
    assert_close(some.scores, together.scores, rtol=1e-10, atol=1e-12)
    if together.ledger is not None:
        assert list(some.ledger.lines) == list(together.ledger.lines)
        assert_close(some.ledger.residual, together.ledger.residual, rtol=0, atol=1e-11)
        assert_close(some.ledger.details, together.ledger.details, rtol=1e-9, atol=1e-11)


def test_interactions_of_an_answer_are_those_of_its_summed_log_probability() -> None:
    generation = explainer().generate(CHAT, max_new_tokens=3)
    found = generation.interactions(of="features", progress=False, game=Game(players="words"))
    whole = generation.attribute_span(range(3), unit="log-probability")
    assert [f.label.strip() for f in found.sources] == ["who", "sees", "the", "cat"]
    assert_close(found.first_order, whole.scores[: len(found.features)].double())
    assert whole.scores[len(found.features) :].tolist() == [0]  # the last token of the answer is only predicted
    assert found.target.label == f'"{"".join(generation.tokens)}"'
    assert float(found.gap.abs().max()) < 1e-10
    assert found.evaluations == 2**4


def test_what_the_model_wrote_before_a_phrase_moves_it_too() -> None:
    generation = explainer().answer("the cat", " is sad and old")
    found = generation.interactions(" old", progress=False)
    assert [f.label for f in found.sources] == ["▁the", "▁cat", "▁is", "▁sad", "▁and"] or len(found.sources) == 5
    assert [f.part for f in found.sources[-3:]] == ["answer"] * 3


def test_interactions_refuse_tokens_apart() -> None:
    generation = explainer().answer("the cat", " is sad and old")
    with pytest.raises(ApportionError, match="stand together"):
        generation.interactions([0, 2])
