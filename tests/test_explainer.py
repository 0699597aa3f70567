"""The explainer from the outside: every form of prompt and target, against the model's own logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForSequenceClassification

from apportion import CP_LRP, AttnLRP, Attribution, Explainer, Span, Target
from tests.tiny import InFloat64, tiny, tokenizer

TEXT = "The man who owns the dogs"
TEXTS = ["The man who owns the dogs", "the cat", "The old man sees the new dog of the man"]
CHAT = [
    {"role": "user", "content": "the dogs are old"},
    {"role": "assistant", "content": "the cat is"},
    {"role": "user", "content": "who sees the cat"},
]
KINDS = {
    "bert": "masked",
    "bert_classifier": "masked",
    "bert_token_classifier": "masked",
    "t5": "seq2seq",
    "bart": "seq2seq",
}
METHODS = ("attnlrp", "cp-lrp", "input-x-gradient")


@pytest.fixture(autouse=True)
def in_float64():
    """Without the models' detours through float32, so that batches and single prompts agree to the last digits."""
    with InFloat64():
        yield


@cache
def explainer(name: str = "llama") -> Explainer:
    return Explainer(tiny(name), tokenizer(KINDS.get(name, "causal")))


def ids_of(text: str, name: str = "llama") -> Tensor:
    return explainer(name).processor(text, return_tensors="pt").input_ids


def logits_of(ids: Tensor, name: str = "llama", **inputs: Any) -> Tensor:
    with torch.no_grad():
        return tiny(name)(input_ids=ids, **inputs).logits[0]


def token(text: str, name: str = "llama") -> int:
    (found,) = explainer(name).processor.encode(text, add_special_tokens=False)
    return found


def same(ours: Attribution, theirs: Attribution, rtol: float = 1e-9) -> None:
    assert_close(ours.scores, theirs.scores, rtol=rtol, atol=rtol)
    assert [f.label for f in ours.features] == [f.label for f in theirs.features]
    assert [e.label for e in ours.explained] == [e.label for e in theirs.explained]
    assert [e.value for e in ours.explained] == pytest.approx([e.value for e in theirs.explained])


def balanced(attribution: Attribution) -> bool:
    return bool((attribution.ledger.relative_residual < 1e-11).all())


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2", "gemma2", "mixtral", "mamba"])
@pytest.mark.parametrize("method", METHODS)
def test_a_text_is_divided_among_its_tokens_and_the_books_balance(name, method):
    found = explainer(name).explain(TEXT, method=method)
    assert found.method == method
    assert [f.label for f in found.features] == ["<s>", "The", " man", " who", " own", "s", " the", " dog", "s"]
    assert [f.template for f in found.features] == [True, *[False] * 8]
    best = logits_of(ids_of(TEXT), name)[-1]
    assert found.target.value == pytest.approx(best.max().item())
    assert found.ledger.total.item() == pytest.approx(found.target.value)
    assert found.ledger.lines["tokens"].item() == pytest.approx(found.scores.sum().item())
    assert balanced(found)
    probabilities = best.softmax(-1)
    assert [p for _, p in found.prediction] == pytest.approx(probabilities.topk(5).values.tolist(), rel=1e-5)


def test_every_form_of_the_same_prompt_gives_the_same():
    ids = ids_of(TEXT)
    expected = explainer().explain(TEXT)
    encoded = explainer().processor(TEXT, return_tensors="pt")
    forms = [
        ids,
        ids[0],
        ids[0].tolist(),
        {"input_ids": ids},
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        encoded,
    ]
    for form in forms:
        found = explainer().explain(form)
        assert_close(found.scores, expected.scores, rtol=1e-10, atol=1e-12)
        assert found.target == expected.target
    (listed,) = explainer().explain_many([TEXT])
    same(listed, expected)


def test_without_a_tokenizer_ids_are_explained_by_their_numbers():
    found = Explainer(tiny("llama")).explain(ids_of(TEXT), target=7)
    assert [f.label for f in found.features] == [f" {i}" for i in ids_of(TEXT)[0].tolist()]
    assert found.target.label == "7"
    assert_close(found.scores, explainer().explain(TEXT, target=7).scores)


def test_embeddings_are_explained_like_the_tokens_they_stand_for():
    embeddings = tiny("llama").get_input_embeddings()(ids_of(TEXT)).detach()
    found = explainer().explain({"inputs_embeds": embeddings})
    assert_close(found.scores, explainer().explain(TEXT).scores)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "gemma2", "bert_classifier", "t5", "bart"])
def test_a_batch_equals_its_prompts_one_by_one(name, method):
    single = [explainer(name).explain(text, method=method) for text in TEXTS]
    for size in (1, 2, 3):
        found = explainer(name).explain_many(TEXTS, method=method, batch_size=size, progress=False)
        for ours, theirs in zip(found, single, strict=True):
            same(ours, theirs)


@pytest.mark.parametrize("name", ["llama", "bert_classifier"])
def test_permuting_the_batch_permutes_the_result(name):
    found = explainer(name).explain_many(TEXTS, batch_size=3, progress=False)
    permuted = explainer(name).explain_many([TEXTS[i] for i in (2, 0, 1)], batch_size=3, progress=False)
    for ours, i in zip(permuted, (2, 0, 1), strict=True):
        same(ours, found[i])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert_classifier", "t5"])
def test_pads_get_exactly_nothing_and_change_nothing(name, side, method):
    padding = tokenizer(KINDS.get(name, "causal"), padding_side=side)
    batch = padding(TEXTS, return_tensors="pt", padding=True)
    batch.pop("token_type_ids", None)
    found = explainer(name).explain_many(dict(batch), method=method, batch_size=2, progress=False)
    for b, (ours, text) in enumerate(zip(found, TEXTS, strict=True)):
        alone = explainer(name).explain(text, method=method)
        length = batch["input_ids"].shape[1]
        kept = batch["attention_mask"][b].bool()
        assert sum(f.part in ("text", "source") for f in ours.features) == length
        assert (ours.scores[:length][~kept] == 0).all()
        assert [f.label for f in ours.features[:length]] == [
            "<pad>"
            if not k
            else padding.convert_ids_to_tokens(i).replace("▁", " ").removeprefix(" " if n == first(kept) else "")
            for n, (k, i) in enumerate(zip(kept.tolist(), batch["input_ids"][b].tolist(), strict=True))
        ]
        together = torch.cat([ours.scores[:length][kept], ours.scores[length:]])
        assert_close(together, alone.scores, rtol=1e-9, atol=1e-9)
        assert ours.target.value == pytest.approx(alone.target.value)


def first(kept: Tensor) -> int:
    return int(kept.long().argmax())


def test_an_output_is_found_by_text_id_or_as_the_most_likely():
    logits = logits_of(ids_of(TEXT))[-1]
    for target in (" is", "is", token(" is"), Target(" is")):
        found = explainer().explain(TEXT, target=target)
        assert found.target.value == pytest.approx(logits[token(" is")].item())
        assert (found.target.label, found.target.unit) == ('" is"', "logit")
    best = explainer().explain(TEXT)
    same(explainer().explain(TEXT, target=int(logits.argmax())), best)


VALUES: dict[str, tuple[dict[str, Any], Callable[[Tensor, int, int, int], Tensor], str]] = {
    "contrast": ({"contrast": " are"}, lambda z, a, b, c: z[a] - z[b], "logit difference"),
    "contrasts": ({"contrast": [" are", " cat"]}, lambda z, a, b, c: z[a] - (z[b] + z[c]) / 2, "logit difference"),
    "log-probability": ({"unit": "log-probability"}, lambda z, a, b, c: z.log_softmax(-1)[a], "log-probability"),
    "probability": ({"unit": "probability"}, lambda z, a, b, c: z.softmax(-1)[a], "probability"),
    "log odds": (
        {"unit": "log-probability", "contrast": " are"},
        lambda z, a, b, c: z[a] - z[b],
        "log-probability difference",
    ),
    "probability difference": (
        {"unit": "probability", "contrast": " are"},
        lambda z, a, b, c: z.softmax(-1)[a] - z.softmax(-1)[b],
        "probability difference",
    ),
}


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("value", VALUES)
def test_what_is_read_is_what_the_logits_say(value, name):
    asked, direct, unit = VALUES[value]
    tokens = [token(text) for text in (" is", " are", " cat")]
    for place in (-1, 4):
        position = {} if place == -1 else {"position": place}
        found = explainer(name).explain(TEXT, target=" is", **asked, **position)
        expected = direct(logits_of(ids_of(TEXT), name)[place], *tokens).item()
        assert found.target.value == pytest.approx(expected)
        assert found.target.unit == unit
        assert found.ledger.total.item() == pytest.approx(expected)
        assert balanced(found)
        assert (found.scores[5:] == 0).all() == (place == 4)


def test_a_contrast_is_the_difference_of_two_attributions():
    two = explainer().explain(TEXT, target=[" is", " are"])
    found = explainer().explain(TEXT, target=" is", contrast=" are")
    assert_close(found.scores, two.scores[0] - two.scores[1], rtol=1e-9, atol=1e-10)


def test_a_list_of_targets_is_each_alone():
    targets = [" is", token(" are"), Target(" is", contrast=(" cat",)), Target(" dog", unit="probability")]
    found = explainer("gpt2").explain(TEXT, target=targets, method="cp-lrp")
    assert len(found) == 4
    for ours, target in zip(found, targets, strict=True):
        alone = explainer("gpt2").explain(TEXT, target=target, method="cp-lrp")
        same(ours, alone)
        assert ours.ledger.total.item() == pytest.approx(alone.ledger.total.item())
        assert_close(ours.position_scores, alone.position_scores)
    assert balanced(found)


def test_a_function_of_the_output_is_a_target():
    def spread(output: Any) -> Tensor:
        return output.logits[0, -1].std()

    found = explainer().explain(TEXT, target=spread)
    assert found.target.value == pytest.approx(logits_of(ids_of(TEXT))[-1].std().item())
    assert (found.target.label, found.target.unit) == ("spread", "spread")
    same_logit = explainer().explain(TEXT, target=lambda output: output.logits[0, -1, token(" is")])
    assert_close(same_logit.scores, explainer().explain(TEXT, target=" is").scores)


@pytest.mark.parametrize("name", ["llama", "t5", "bart"])
def test_a_span_is_the_sum_of_its_tokens_log_probabilities(name):
    span = Span(" is sad")
    pieces = explainer(name).processor.encode(" is sad", add_special_tokens=False)
    found = explainer(name).explain(TEXT, target=span)
    ids = ids_of(TEXT, name)
    if name == "llama":
        logits = logits_of(torch.cat([ids, torch.tensor([pieces])], 1))[len(ids[0]) - 1 : -1]
    else:
        start = tiny(name).config.decoder_start_token_id
        logits = logits_of(ids, name, decoder_input_ids=torch.tensor([[start, *pieces[:-1]]]))
    expected = logits.log_softmax(-1)[range(len(pieces)), pieces].sum().item()
    assert found.target.value == pytest.approx(expected)
    assert found.target.unit == "log-probability"
    assert balanced(found)
    last = {"llama": "answer", "t5": "decoder", "bart": "decoder"}[name]
    assert found.features[-1].part == last
    assert found.features[-1].label == " is"
    by_ids = explainer(name).explain(TEXT, target=Span(tuple(pieces)))
    assert_close(by_ids.scores, found.scores)


def test_a_masked_model_is_read_at_its_mask():
    text = "the man [MASK] sad ."
    ids = ids_of(text, "bert")
    (place,) = (ids[0] == 4).nonzero()[0].tolist()
    found = explainer("bert").explain(text, target=" is", contrast=" are")
    logits = logits_of(ids, "bert")[place]
    assert found.target.value == pytest.approx((logits[token(" is")] - logits[token(" are")]).item())
    assert balanced(found)
    assert found.features[place].label == "[MASK]"
    assert not found.features[place].template  # the user put it there
    same(explainer("bert").explain(text, target=" is", contrast=" are", position=place), found)
    same(explainer("bert").explain(text, target=" is", contrast=" are", position=place - len(ids[0])), found)


def test_a_classifier_is_asked_by_the_name_of_the_class():
    logits = logits_of(ids_of(TEXT, "bert_classifier"), "bert_classifier")
    for target in ("glad", "GLAD", 1):
        found = explainer("bert_classifier").explain(TEXT, target=target)
        assert found.target.value == pytest.approx(logits[1].item())
        assert found.target.label == "glad"
        assert balanced(found)
    assert {label for label, _ in found.prediction} == {"sad", "glad", "none"}


def test_a_token_classifier_is_asked_at_a_token():
    logits = logits_of(ids_of(TEXT, "bert_token_classifier"), "bert_token_classifier")
    for position in (7, "dog", -3):
        found = explainer("bert_token_classifier").explain(TEXT, target="glad", position=position)
        assert found.target.value == pytest.approx(logits[7, 1].item())
        assert balanced(found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_source_and_decoder_both_get_shares(name, method):
    start = tiny(name).config.decoder_start_token_id
    first = explainer(name).explain(TEXT, method=method, target=" is")
    parts = [f.part for f in first.features]
    assert parts == ["source"] * (len(parts) - 1) + ["decoder"]
    assert first.target.value == pytest.approx(
        logits_of(ids_of(TEXT, name), name, decoder_input_ids=torch.tensor([[start]]))[-1, token(" is")].item()
    )
    decoder = torch.tensor([[start, 9, 12]])
    found = explainer(name).explain({"input_ids": ids_of(TEXT, name), "decoder_input_ids": decoder}, method=method)
    assert [f.part for f in found.features].count("decoder") == 3
    assert (found.scores != 0).all()
    assert balanced(found)
    assert found.ledger.lines["tokens"].item() == pytest.approx(found.scores.sum().item())


def test_a_chat_is_rendered_and_its_tokens_know_who_spoke():
    found = explainer().explain(CHAT)
    rendered = explainer().processor.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert "".join(f.label for f in found.features) == rendered
    for turn, message in enumerate(CHAT):
        mine = [f for f in found.features if f.turn == turn]
        assert {f.role for f in mine} == {message["role"]}
        assert "".join(f.label for f in mine if not f.template) == message["content"]
        assert [f.label for f in mine if f.template] == [f"<|{message['role']}|>", "<|end|>"]
    last = found.features[-1]
    assert (last.label, last.role, last.turn, last.template) == ("<|assistant|>", "assistant", 3, True)
    ids = explainer().processor(rendered, add_special_tokens=False, return_tensors="pt").input_ids
    assert_close(found.scores, explainer().explain(ids).scores)


def test_a_list_of_chats_gives_a_list():
    found = explainer().explain_many([CHAT, CHAT[:1]], batch_size=2, progress=False)
    same(found[0], explainer().explain(CHAT))
    same(found[1], explainer().explain(CHAT[:1]))


def test_a_chat_that_ends_with_the_assistant_goes_on_from_there():
    found = explainer().explain(CHAT[:2])
    assert (found.features[-1].label, found.features[-1].turn) == (" is", 1)
    assert "".join(f.label for f in found.features).endswith("<|assistant|>the cat is")


def test_words_sum_their_tokens():
    tokens = explainer("gpt2").explain(TEXT)
    words = tokens.words()
    assert [f.label for f in words.features] == ["<s>", "The", " man", " who", " owns", " the", " dogs"]
    assert words.features[4].positions == (4, 5)
    assert words.scores[4].item() == pytest.approx((tokens.scores[4] + tokens.scores[5]).item())
    assert words.scores.sum().item() == pytest.approx(tokens.scores.sum().item())
    assert words.position_scores.sum().item() == pytest.approx(tokens.position_scores.sum().item())
    same(explainer("gpt2").explain(TEXT, features="words"), words)


def test_spans_sum_what_they_name_and_leave_the_rest():
    tokens = explainer().explain(TEXT)
    found = tokens.spans({"owner": "man who owns", "last": [7, 8]})
    assert [f.label for f in found.features] == ["<s>", "The", "owner", " the", "last"]
    assert found.scores[2].item() == pytest.approx(tokens.scores[2:6].sum().item())
    assert found.scores[4].item() == pytest.approx(tokens.scores[7:].sum().item())
    same(explainer().explain(TEXT, features={"owner": "man who owns", "last": [7, 8]}), found)
    assert explainer().explain(TEXT, features=["the dogs"]).features[-1].label == "the dogs"


@pytest.mark.parametrize("name", ["gpt2", "bert_classifier", "bart"])
def test_positions_stand_apart_or_are_added(name):
    apart = explainer(name).explain(TEXT)
    added = explainer(name).explain(TEXT, positions="added")
    assert_close(added.scores, apart.scores + apart.position_scores)
    assert added.position_scores is None
    assert balanced(added)
    assert added.ledger.lines["tokens and positions"].item() == pytest.approx(added.scores.sum().item())
    assert apart.ledger.lines["positions"].item() == pytest.approx(apart.position_scores.sum().item())


def test_a_model_without_positions_has_no_shares_for_them():
    assert explainer().explain(TEXT).position_scores is None
    same(explainer().explain(TEXT, positions="added"), explainer().explain(TEXT))


def test_the_largest_shares_come_first():
    found = explainer().explain(TEXT)
    by_size = found.top(3)
    sizes = [abs(share) for _, share in by_size]
    assert sizes == sorted(found.scores.abs().tolist(), reverse=True)[:3]
    assert by_size[0][0] == found.features[int(found.scores.abs().argmax())]
    assert [share for _, share in found.top(4, by="value")] == sorted(found.scores.tolist(), reverse=True)[:4]
    assert len(found.top(100)) == len(found.features)


def test_shares_are_scaled_as_asked():
    found = explainer("gpt2").explain(TEXT)
    assert found.normalized().scores.abs().max().item() == pytest.approx(1)
    assert found.normalized("sum").scores.abs().sum().item() == pytest.approx(1)
    total = found.normalized("total")
    assert_close(total.scores, found.scores / found.target.value)
    assert_close(total.position_scores, found.position_scores / found.target.value)
    assert total.ledger is None
    several = explainer().explain(TEXT, target=[" is", " are"]).normalized("max")
    assert_close(several.scores.abs().amax(-1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("name", ["llama_with_biases", "gpt2", "t5"])
@pytest.mark.parametrize("target", [" is", [" is", " are"]])
def test_what_is_saved_comes_back(name, target, tmp_path):
    saved = explainer(name).explain(TEXT, target=target)
    read = Attribution.load(saved.save(tmp_path / "a.safetensors"))
    for field in ("features", "explained", "prediction", "method", "model"):
        assert getattr(read, field) == getattr(saved, field)
    assert json.dumps(dict(read.options)) == json.dumps(dict(saved.options))
    exactly = {"rtol": 0, "atol": 0}
    assert_close(read.scores, saved.scores, **exactly)
    assert (read.position_scores is None) == (saved.position_scores is None)
    if saved.position_scores is not None:
        assert_close(read.position_scores, saved.position_scores, **exactly)
    assert_close(read.ledger.total, saved.ledger.total, **exactly)
    assert_close(dict(read.ledger.lines), dict(saved.ledger.lines), **exactly)
    assert list(read.ledger.lines) == list(saved.ledger.lines)
    assert_close(
        {k: dict(v) for k, v in read.ledger.details.items()},
        {k: dict(v) for k, v in saved.ledger.details.items()},
        **exactly,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("target", [" is", [" is", " are"], Span(" is sad"), lambda output: output.logits[0, -1, 3]])
def test_an_attribution_is_json_ready(target):
    found = explainer("llama").explain(TEXT, target=target)
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["scores"] == found.scores.tolist()
    assert len(again["features"]) == len(found.features)
    assert again["ledger"]["residual"] == found.ledger.residual.tolist()


def test_a_frame_has_a_row_per_feature_and_target():
    pytest.importorskip("pandas")
    found = explainer("gpt2").explain(TEXT, target=[" is", " are"])
    frame = found.to_frame()
    assert len(frame) == 2 * len(found.features)
    assert frame["score"].tolist() == pytest.approx(found.scores.flatten().tolist())
    assert frame["position_score"].tolist() == pytest.approx(found.position_scores.flatten().tolist())
    assert set(frame["target"]) == {'" is"', '" are"'}


def test_compare_is_each_method_alone():
    composite = CP_LRP.within(AttnLRP().composite, modules="*mlp*")
    methods = ["attnlrp", "cp-lrp", "input-x-gradient", composite, AttnLRP(product="flat")]
    with pytest.raises(ValueError, match="two methods are called"):
        explainer().compare(TEXT, methods=methods)
    found = explainer().compare(TEXT, methods=methods[:-1], target=" is", contrast=" are")
    assert list(found) == ["attnlrp", "cp-lrp", "input-x-gradient", "cp-lrp+attnlrp"]
    for method, ours in zip(methods, found.values(), strict=False):
        same(ours, explainer().explain(TEXT, method=method, target=" is", contrast=" are"))


@pytest.mark.parametrize("name", ["llama", "bert_classifier", "bart"])
def test_the_audit_says_what_explain_would_do(name):
    audit = explainer(name).audit(TEXT, method="cp-lrp").check()
    assert {row.rule for row in audit.rows if row.kind == "attention"} >= {"weights held constant, all to the values"}


def test_the_options_tell_how_the_result_was_made():
    found = explainer().explain(TEXT, method=AttnLRP(product="flat"))
    assert found.options["composite"]["product"] == "flat"
    assert found.model


def test_words_end_at_punctuation_and_at_white_space():
    words = explainer().explain("the dogs, the cat . , old").words()
    assert [f.label for f in words.features] == ["<s>", "the", " dogs", ",", " the", " cat", " .", " ,", " old"]


def test_a_classifier_without_a_padding_token_reads_a_batch_one_text_at_a_time():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=32, **sizes, num_labels=3)
    own = Explainer(LlamaForSequenceClassification(config).double().eval())
    prompts = [[5, 9, 3], [7, 2, 4]]
    together = own.explain_many([torch.tensor(ids) for ids in prompts], target=1, batch_size=2)
    for ids, found in zip(prompts, together, strict=True):
        assert_close(found.scores, own.explain(ids, target=1).scores)
    alone = own.explain([5, 9, 3], target=1, method="leave-one-out").scores
    assert alone.shape == (3,)
