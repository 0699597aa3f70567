"""Pairs: similarities of two texts, two images, or one of each, divided among both sides."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
)

import apportion as ap
from apportion.targets._computed import Computed
from tests.architectures import build
from tests.checking import unchecked

ONE, OTHER = [5, 9, 3, 7, 2], [8, 3, 6, 11]
DUAL = ("clip", "siglip", "metaclip_2")


def bert() -> BertModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = BertModel(BertConfig(vocab_size=32, max_position_embeddings=16, **sizes)).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def dinov2() -> Dinov2Model:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    return Dinov2Model(Dinov2Config(**sizes)).double().eval()


def words() -> PreTrainedTokenizerFast:
    vocabulary = {word: k for k, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "a", "b", "c", "d"])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    named = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **named)


def picture(seed: int = 0) -> torch.Tensor:
    return torch.randn(3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def encoding(model: BertModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)


@dataclass(frozen=True, eq=False)
class ToDirection(Computed):
    """The cosine of a text's mean, or of one of a model's encodings, to a fixed direction."""

    direction: torch.Tensor
    name: str = "last_hidden_state"

    def values(self, output: Any, prompts: Any) -> torch.Tensor:
        vector = getattr(output, self.name)
        vector = vector.mean(1) if vector.ndim == 3 else vector
        return (vector / vector.norm(dim=-1, keepdim=True)) @ (self.direction / self.direction.norm())


def balanced(attribution: ap.Attribution) -> None:
    assert abs(attribution.ledger.residual.item()) < 1e-9
    torch.testing.assert_close(attribution.ledger.total.item(), attribution.target.value)


@pytest.mark.parametrize("name", DUAL)
def test_the_books_of_an_image_and_a_text_balance(name):
    built = build("zero_shot_image_classification", name)
    found = ap.Explainer(built.model.double()).explain(
        {k: v.double() if v.is_floating_point() else v for k, v in one(built.inputs).items()}
    )
    balanced(found)
    assert {"image", "biases"} <= set(found.ledger.lines)


def one(inputs: dict[str, Any]) -> dict[str, Any]:
    return {k: v[:1] if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}


def test_the_books_of_two_texts_balance_and_the_value_is_the_cosine():
    model = bert()
    found = ap.Explainer(model).explain(ap.Pair(ONE, OTHER))
    balanced(found)
    cosine = torch.cosine_similarity(encoding(model, ONE), encoding(model, OTHER), dim=0)
    torch.testing.assert_close(found.target.value, cosine.item())
    assert [f.part for f in found.features] == ["first"] * len(ONE) + ["second"] * len(OTHER)
    assert found.options["pooling"] == "mean"


def test_each_side_gets_half_of_its_cosine_to_the_other_encoding():
    model = bert()
    explainer = ap.Explainer(model)
    pair = explainer.explain(ap.Pair(ONE, OTHER))
    halves = []
    for ids, other in ((ONE, OTHER), (OTHER, ONE)):
        alone = explainer.explain(ids, target=ToDirection(encoding(model, other)))
        balanced(alone)
        torch.testing.assert_close(alone.target.value, pair.target.value)
        halves.append(alone)
    torch.testing.assert_close(pair.scores, torch.cat([alone.scores for alone in halves]) / 2)
    torch.testing.assert_close(pair.position_scores, torch.cat([alone.position_scores for alone in halves]) / 2)
    for line, amount in pair.ledger.lines.items():
        torch.testing.assert_close(amount, sum(alone.ledger.lines[line] for alone in halves) / 2)


@pytest.mark.parametrize("name", DUAL)
def test_image_and_text_each_get_half_of_their_cosine_to_the_other(name):
    built = build("zero_shot_image_classification", name)
    model = built.model.double()
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in one(built.inputs).items()}
    with torch.no_grad():
        output = model(**inputs)
    explainer = ap.Explainer(model)
    pair, total = explainer.explain(inputs, method="attnlrp"), 0.0
    for mine, other in (("image_embeds", "text_embeds"), ("text_embeds", "image_embeds")):
        alone = explainer.explain(inputs, target=ToDirection(getattr(output, other)[0], mine), method="attnlrp")
        balanced(alone)
        total = total + alone.scores / 2
    torch.testing.assert_close(pair.scores, total)


def test_equal_texts_on_both_sides_are_told_apart():
    found = ap.Explainer(bert()).explain(ap.Pair(ONE, ONE))
    torch.testing.assert_close(found.target.value, 1.0)
    torch.testing.assert_close(found.scores[: len(ONE)], found.scores[len(ONE) :])
    torch.testing.assert_close(found.position_scores[: len(ONE)], found.position_scores[len(ONE) :])
    balanced(found)


def test_turning_a_pair_turns_its_shares_and_those_of_positions():
    explainer, same_length = ap.Explainer(bert()), [*OTHER, 4]
    found, turned = explainer.explain(ap.Pair(ONE, same_length)), explainer.explain(ap.Pair(same_length, ONE))
    for scores, other in ((found.scores, turned.scores), (found.position_scores, turned.position_scores)):
        torch.testing.assert_close(scores, torch.cat([other[len(ONE) :], other[: len(ONE)]]))


@pytest.mark.parametrize("masker", ["delete", "attention-mask"])
def test_a_token_is_left_out_of_its_own_side_alone(masker):
    explainer, same_length = ap.Explainer(bert()), [*OTHER, 4]
    found = explainer.explain(ap.Pair(ONE, same_length), method=ap.LeaveOneOut(masker=masker))
    if masker == "delete":
        without = explainer.explain(ap.Pair(ONE, same_length[:1] + same_length[2:])).target.value
        torch.testing.assert_close(found.scores[len(ONE) + 1].item(), found.target.value - without)
    else:
        model, mask = explainer.model, torch.tensor([[1, 1, 0, 1, 1]])
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([ONE]), attention_mask=mask).last_hidden_state[0]
        kept = hidden[mask[0].bool()].mean(0)
        without = torch.cosine_similarity(kept, encoding(model, same_length), dim=0)
        torch.testing.assert_close(found.scores[2].item(), found.target.value - without.item())


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_is_what_it_says(pooling):
    model = bert()
    found = ap.Explainer(model, pooling=pooling).explain(ap.Pair(ONE, OTHER))
    vectors = []
    for ids in (ONE, OTHER):
        with torch.no_grad():
            output = model(input_ids=torch.tensor([ids]))
        hidden = output.last_hidden_state[0]
        by_hand = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}
        vectors.append(by_hand[pooling])
    torch.testing.assert_close(found.target.value, torch.cosine_similarity(*vectors, dim=0).item())
    balanced(found)


def test_padding_is_not_pooled():
    model, padded = bert(), {"input_ids": torch.tensor([[*ONE, 0, 0]])}
    padded["attention_mask"] = torch.tensor([[1] * len(ONE) + [0, 0]])
    from apportion.models._pair_encoder import TextPairEncoder

    encoder = TextPairEncoder(model, "mean", "here")
    with torch.no_grad():
        torch.testing.assert_close(encoder.encoding(padded)[0], encoding(model, ONE))
        last = TextPairEncoder(model, "last", "here").encoding(padded)[0]
        torch.testing.assert_close(last, model(input_ids=torch.tensor([ONE])).last_hidden_state[0, -1])


def folder(tmp_path, model, pooling, modules=("Transformer", "Pooling", "Normalize")):
    kinds = [{"type": f"sentence_transformers.models.{k}", "path": "1_Pooling"} for k in modules]
    (tmp_path / "modules.json").write_text(json.dumps(kinds))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    model.config._name_or_path = str(tmp_path)
    return ap.Explainer(model)


def test_the_models_folder_says_how_it_pools(tmp_path):
    model = bert()
    by_cls = ap.Explainer(model, pooling="cls").explain(ap.Pair(ONE, OTHER))
    found = folder(tmp_path, model, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    found = found.explain(ap.Pair(ONE, OTHER))
    assert found.target.value == by_cls.target.value
    assert found.options["pooling from"] == "1_Pooling/config.json"


@pytest.mark.parametrize(
    ("pooling", "modules", "said"),
    [
        ({"pooling_mode_mean_tokens": True}, ("Transformer", "Pooling", "Dense"), "Dense module"),
        ({"pooling_mode_max_tokens": True}, ("Transformer", "Pooling"), "pooling_mode_max_tokens"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}, ("Transformer", "Pooling"), "pools by"),
    ],
)
def test_a_folder_that_asks_for_more_is_refused(tmp_path, pooling, modules, said):
    with pytest.raises(ap.ApportionError, match=said):
        folder(tmp_path, bert(), pooling, modules).explain(ap.Pair(ONE, OTHER))


def test_what_is_no_encoder_is_refused():
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    body = LlamaModel(LlamaConfig(vocab_size=32, **sizes))
    with pytest.raises(ap.ApportionError, match="is a causal model"):
        ap.Explainer(body).explain(ap.Pair(ONE, OTHER))
    assert ap.Explainer(body.double(), pooling="last").explain(ap.Pair(ONE, OTHER)).options["pooling"] == "last"
    with pytest.raises(ap.ApportionError, match="no encoder"):
        ap.Explainer(build("causal_lm", "gpt2").model).explain(ap.Pair(ONE, OTHER))
    clip = build("zero_shot_image_classification", "clip").model
    with pytest.raises(ap.ApportionError, match="leave `pooling` out"):
        ap.Explainer(clip, pooling="mean").explain(ap.Pair(ONE, OTHER))
    with unchecked(), pytest.raises(ap.ApportionError, match="is not known; use 'mean'"):
        ap.Explainer(bert(), pooling="max").explain(ap.Pair(ONE, OTHER))
    with pytest.raises(ap.ApportionError, match="no tokenizer"):
        ap.Explainer(bert()).explain(ap.Pair("a text", OTHER))


@pytest.mark.parametrize("pooling", [None, "mean"])
def test_two_images_are_divided_among_the_patches_of_both(pooling):
    model = dinov2()
    found = ap.Explainer(model, pooling=pooling).explain(ap.Pair(picture(0), picture(1)), method="attnlrp")
    balanced(found)
    vectors = []
    for image in (picture(0), picture(1)):
        with torch.no_grad():
            output = model(pixel_values=image[None])
        vectors.append(output.pooler_output[0] if pooling is None else output.last_hidden_state[0, 1:].mean(0))
    torch.testing.assert_close(found.target.value, torch.cosine_similarity(*vectors, dim=0).item())
    assert [f.part for f in found.features] == ["first"] * 4 + ["second"] * 4
    assert [p.label for p in found.pictures] == ["first", "second"]
    for k, side in enumerate(("first", "second")):
        shares = found.scores[4 * k : 4 * k + 4].sum().double()
        torch.testing.assert_close(found.ledger.lines[f"{side} image"], shares)


def test_the_default_for_two_images_is_reslrp():
    found = ap.Explainer(dinov2()).explain(ap.Pair(picture(0), picture(0)))
    assert found.method == "res-lrp"
    torch.testing.assert_close(found.scores[:4], found.scores[4:])
    balanced(found)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_two_texts_of_a_dual_encoder_are_compared_by_its_own_encodings(name):
    model = build("zero_shot_image_classification", name).model.double()
    found = ap.Explainer(model).explain(ap.Pair(ONE, OTHER))
    with torch.no_grad():
        vectors = [model.get_text_features(input_ids=torch.tensor([ids])).pooler_output[0] for ids in (ONE, OTHER)]
    torch.testing.assert_close(found.target.value, torch.cosine_similarity(*vectors, dim=0).item())
    balanced(found)


def test_siglip_reads_a_text_with_its_padding_and_without_a_mask():
    model = build("zero_shot_image_classification", "siglip").model.double()
    length = model.config.text_config.max_position_embeddings
    found = ap.Explainer(model, words()).explain(ap.Pair("a b", "c a d"))
    assert [f.part for f in found.features].count("first") == length
    assert [f.label for f in found.features[:5]] == ["[CLS]", "a", " b", "[SEP]", "[PAD]"]
    assert [f.template for f in found.features[:5]] == [True, False, False, True, True]
    ids = [[1, 3, 4, 2] + [0] * (length - 4), [1, 5, 3, 6, 2] + [0] * (length - 5)]
    with torch.no_grad():
        vectors = [model.get_text_features(input_ids=torch.tensor([one])).pooler_output[0] for one in ids]
    torch.testing.assert_close(found.target.value, torch.cosine_similarity(*vectors, dim=0).item())
    with pytest.raises(ap.ApportionError, match="Shorten"):
        ap.Explainer(model, words()).explain(ap.Pair("a b", " ".join("abcd" * length)))


def test_several_pairs_give_a_list():
    explainer = ap.Explainer(bert(), words())
    found = explainer.explain_many([ap.Pair("a b", "c"), ap.Pair("d c", "a")], batch_size=2, progress=False)
    alone = explainer.explain(ap.Pair("d c", "a"))
    assert len(found) == 2
    torch.testing.assert_close(found[1].scores, alone.scores)


def test_words_do_not_cross_sides():
    found = ap.Explainer(bert(), words()).explain(ap.Pair("a b", "c d"), features="words")
    assert [(f.part, f.label.strip()) for f in found.features if not f.template] == [
        ("first", "a"), ("first", "b"), ("second", "c"), ("second", "d"),
    ]  # fmt: skip
