"""A case against the model read by hand: who plays, what coalitions are worth, where the cause stands."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from apportion import ApportionError, Explainer, Span, Target
from apportion.evaluation import Case, Item, PerturbationCurves, Random
from apportion.methods import as_method
from tests.evaluation.played import explainer
from tests.tiny import InFloat64, tiny, tokenizer

TEXT = "The old man, who owns the dogs"


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


def case(prompt=TEXT, *, name="llama", masker="auto", seed=0, **item):
    return Case(explainer(name), Item(id="a", prompt=prompt, **item), masker=masker, seed=seed)


def labels(own: Case, attribution, columns) -> list[str]:
    return [attribution.features[i].label for i in columns]


def without(own: Case, *gone: int):
    """What the game pays without some players."""
    coalition = torch.ones(1, len(own.players.groups), dtype=torch.bool)
    coalition[0, list(gone)] = False
    return own.game(own.players).values(coalition)[0]


def read(name: str, ids: list[int], row: int = -1):
    """The logits that a model gives for token ids."""
    with torch.no_grad():
        return tiny(name)(input_ids=torch.tensor([ids])).logits[0, row]


def test_coalitions_are_worth_the_target_and_its_probability():
    own = case(target=11, masker="delete")
    ids = explainer().processor(TEXT).input_ids
    kept = [token for i, token in enumerate(ids) if i not in (2, 5)]
    logits = read("llama", kept)
    assert_close(without(own, 1, 4), torch.stack([logits[11], logits.softmax(-1)[11]]), rtol=1e-9, atol=1e-10)


def test_contrasts_are_subtracted_in_both_units():
    own = case(target=11, contrast=(12, 13), unit="log-probability", masker="delete")
    logits = read("llama", explainer().processor(TEXT).input_ids[:-1])
    units = [logits.log_softmax(-1), logits.softmax(-1)]
    expected = torch.stack([unit[11] - (unit[12] + unit[13]) / 2 for unit in units])
    assert_close(without(own, 9), expected, rtol=1e-9, atol=1e-10)


def test_the_target_stays_what_the_whole_prompt_makes_likeliest():
    own = case(masker="delete")
    ids = explainer().processor(TEXT).input_ids
    likeliest = int(read("llama", ids).argmax())
    assert_close(without(own, *range(10))[0], read("llama", ids[:1])[likeliest], rtol=1e-9, atol=1e-10)
    assert int(read("llama", ids[:1]).argmax()) != likeliest


def test_an_explained_answer_always_stays():
    own = case(target=Span(" is sad"), masker="delete")
    ids = explainer().processor(TEXT).input_ids
    answer = explainer().processor(" is sad", add_special_tokens=False).input_ids
    kept = ids[:3] + ids[4:]
    with torch.no_grad():
        logits = tiny("llama")(input_ids=torch.tensor([kept + answer])).logits[0].log_softmax(-1)
    value = sum(logits[len(kept) - 1 + k, token] for k, token in enumerate(answer))
    assert len(own.players.groups) == len(ids) - 1
    assert_close(without(own, 2), torch.stack([value, value.exp()]), rtol=1e-9, atol=1e-10)
    ranked = own.ranked(own.attribution(as_method("attnlrp")))
    assert labels(own, own.attribution(as_method("attnlrp")), ranked.players.columns)[-1] == "s"


def test_a_sum_of_logits_has_no_probability():
    assert without(case(target=Span(" is sad", unit="logit")), 2).shape == (1,)


def test_a_function_of_the_output_has_no_probability():
    def margin(output):
        return output.logits[0, -1, 11] - output.logits[0, -1].mean()

    own = case(target=margin, masker="delete")
    logits = read("llama", explainer().processor(TEXT).input_ids[:-1])
    assert_close(without(own, 9), (logits[11] - logits.mean())[None], rtol=1e-9, atol=1e-10)
    found = PerturbationCurves().of(own, own.attribution(as_method("attnlrp")), as_method("attnlrp"))
    assert found["abpc"] == found["abpc"]
    assert found["abpc_probability"] != found["abpc_probability"]
    assert_close(own.leave_one_out.scores[-1].item(), own.task.target_values.values[0][0] - without(own, 9)[0].item())
    assert own.correct is None


def test_the_mask_that_is_read_always_stays_and_others_are_masked():
    text = "The old [MASK] who owns"
    own = case(text, name="bert", target=11)
    ids = explainer("bert").processor(text).input_ids
    mask = explainer("bert").processor.mask_token_id
    place = ids.index(mask)
    ids[2] = mask
    logits = read("bert", ids, place)
    assert mask not in [
        explainer("bert").processor.convert_tokens_to_ids(f.label) for f in own.players.features[:place]
    ]
    assert (place,) not in own.players.groups
    assert_close(without(own, 1), torch.stack([logits[11], logits.softmax(-1)[11]]), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("target", [None, Span(" is sad")])
def test_the_source_and_a_begun_answer_of_an_encoder_decoder_play(target):
    given = {"input_ids": torch.tensor([[20, 21, 22]]), "decoder_input_ids": torch.tensor([[1, 12, 13]])}
    own = case(given, name="t5", target=target)
    attribution = own.attribution(as_method("attnlrp"))
    ranked = own.ranked(attribution)
    parts = [(attribution.features[i].part, attribution.features[i].positions) for i in ranked.players.columns]
    assert parts == [("source", (0,)), ("source", (1,)), ("source", (2,)), ("decoder", (1,)), ("decoder", (2,))]
    assert ranked.players.groups == own.players.groups


@pytest.mark.parametrize("method", ["shapley(features='words', budget=16)", "context-cite(features='words')"])
def test_words_are_removed_whole(method):
    own = case(target=11, masker="delete")
    attribution = own.attribution(as_method(method))
    ranked = own.ranked(attribution)
    assert labels(own, attribution, ranked.players.columns) == [
        "The",
        " old",
        " man",
        ",",
        " who",
        " owns",
        " the",
        " dogs",
    ]
    assert_close(ranked.scores, attribution.scores[1:].double())
    coalition = torch.ones(1, 8, dtype=torch.bool)
    coalition[0, [5, 7]] = False
    assert_close(ranked.game.values(coalition)[0], without(own, 5, 6, 8, 9), rtol=1e-9, atol=1e-10)


def test_spans_play_beside_the_tokens_outside():
    own = case(target=11, masker="delete")
    attribution = own.attribution(as_method("attnlrp")).spans(["old man", "the dogs"])
    ranked = own.ranked(attribution)
    assert [len(group) for group in ranked.players.groups] == [1, 2, 1, 1, 1, 1, 3]
    assert ranked.scores[6] == attribution.scores[-1]


@pytest.mark.parametrize("name", ["llama", "bert_classifier", "t5"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("method", ["attnlrp", "shapley(features='words', budget=16)"])
def test_padding_changes_nothing(name, side, method):
    own = explainer(name)
    padding = tokenizer({"llama": "causal", "t5": "seq2seq"}.get(name, "masked"), padding_side=side)
    given = dict(padding(TEXT, return_tensors="pt", padding="max_length", max_length=16))
    given.pop("token_type_ids", None)
    cases = [case(prompt, name=name, target=1) for prompt in (TEXT, given)]
    asked = as_method(method)
    plain, padded = (one.ranked(one.attribution(asked)) for one in cases)
    assert_close(padded.scores, plain.scores, rtol=1e-9, atol=1e-9)
    if method == "attnlrp":
        assert padded.players.groups == plain.players.groups
    assert isinstance(own, Explainer)


def test_games_are_shared_by_methods_that_divide_among_the_same():
    own = case(target=11)
    ranked = [own.ranked(own.attribution(as_method(method))) for method in ("attnlrp", "gradient", "leave-one-out")]
    words = own.ranked(own.attribution(as_method("shapley(features='words', budget=16)")))
    assert ranked[0].game is ranked[1].game is ranked[2].game is own.game(own.players)
    assert words.game is not ranked[0].game


def test_shares_that_are_no_numbers_are_refused():
    own = case(target=11)
    found = own.attribution(Random())
    scores = found.scores.clone()
    scores[2] = float("nan")
    with pytest.raises(ApportionError, match="random gave 1 of 10 shares that are no finite numbers for the item 'a'"):
        own.ranked(replace(found, scores=scores))


def test_the_cause_is_where_its_characters_are():
    #       The old man, who owns the dogs
    assert case(truth=((8, 11),)).truth.nonzero().flatten().tolist() == [2]
    assert case(truth=((9, 10), (17, 21))).truth.nonzero().flatten().tolist() == [2, 5, 6]
    # A space before a word belongs to no word.
    assert case(truth=((4, 8),)).truth.nonzero().flatten().tolist() == [1]
    words = case(truth=((17, 21),))
    players = words.ranked(words.attribution(as_method("shapley(features='words', budget=16)"))).players
    assert words.truth_of(players).nonzero().flatten().tolist() == [5]


def test_a_word_of_one_letter_is_found_whether_or_not_its_token_holds_the_space():
    own = case("The man is a dog", truth=((11, 12),))
    assert [own.players.features[i].label.strip() for i in (1 + own.truth.nonzero()).flatten().tolist()] == ["a"]
    features = own.task.prompts[0].features
    moved = tuple(replace(f, start=None if f.start is None else f.start + f.label.startswith(" ")) for f in features)
    own.task.prompts[0] = replace(own.task.prompts[0], features=moved)
    assert own.truth_of(own.players).tolist() == own.truth.tolist()


def test_a_cause_that_cannot_be_found_is_refused():
    with pytest.raises(ApportionError, match="no token of the item 'a' stands where its cause does"):
        _ = case(truth=((3, 4),)).truth
    with pytest.raises(ApportionError, match="its prompt is a list; give a text"):
        _ = case([9, 10, 11], truth=((0, 1),)).truth
    assert not case().truth.any()


def test_correct_is_preferring_the_target_to_each_contrast():
    order = read("llama", explainer().processor(TEXT).input_ids).argsort(descending=True).tolist()
    assert case(target=order[0]).correct is True
    assert case(target=order[1]).correct is False
    assert case(target=order[3], contrast=order[5]).correct is True
    assert case(target=order[5], contrast=order[3]).correct is False
    # Above the mean of both, but not above each.
    assert case(target=order[2], contrast=(order[1], order[-1])).correct is False
    assert case(target=order[0], contrast=(order[1], order[-1])).correct is True
    assert case().correct is None
    assert case(target=Target(contrast=(order[4],))).correct is None
    assert case(target=Span(" is")).correct is None


def test_random_numbers_depend_on_the_seed_the_item_and_their_purpose_alone():
    def drawn(purpose, *, seed=0, id="a"):
        own = Case(explainer(), Item(id=id, prompt=TEXT), seed=seed)
        own.generator("another").random(7)
        return own.generator(purpose).random()

    first = drawn("ties")
    assert drawn("ties") == first
    assert len({first, drawn("ties", seed=1), drawn("ties", id="b"), drawn("infidelity")}) == 4


@pytest.mark.parametrize("masker", ["auto", "delete"])
def test_leave_one_out_is_done_once_for_the_methods_and_the_measures(masker):
    own = case(target=11, masker="delete")
    found = own.attribution(as_method(f"leave-one-out(masker={masker!r})"))
    forward = own.task.passes.forward
    assert own.leave_one_out is found
    assert own.task.passes.forward == forward


@pytest.mark.parametrize("options", ["masker='replace(3)'", "features='words'"])
def test_another_leave_one_out_than_the_case_s_is_done_for_itself(options):
    own = case(target=11, masker="delete")
    alone = explainer().explain(TEXT, target=11, method=f"leave-one-out({options})")
    found = own.attribution(as_method(f"leave-one-out({options})"))
    assert_close(found.scores, alone.scores, rtol=1e-9, atol=1e-10)
    assert found is not own.leave_one_out
