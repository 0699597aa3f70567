"""Interactions: the result, and the front door on small models of several kinds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

import apportion as ap
from apportion import Feature, Interactions, Picture
from tests.checking import unchecked
from tests.tiny import VOCABULARY, build, tokenizer

FEATURES = tuple(
    Feature(label=label, positions=(k,), start=start, end=start + len(label))
    for k, (label, start) in enumerate([("The", 0), (" key", 3), ("s", 7), (" are", 8)])
)
VALUES = torch.tensor([[1.0, 2.0, 3.0, -7.0], [0.5, 5.0, -1.0, 0.0], [4.0, 0.25, 6.0, 2.5], [0.0, -0.5, 8.0, 9.0]])


def interactions(**changed: object) -> Interactions:
    values = VALUES.double()
    given = {
        "values": values,
        "main_effect": values.diagonal(),
        "first_order": values.sum(0) + torch.tensor([0.0, 0.0, 0.5, 0.0]),
        "sources": FEATURES,
        "features": FEATURES,
        "source_of": (0, 1, 2, 3),
        "explained": (ap.Explained(label='" home"', unit="logit", value=3.0),),
        "index": "metagame",
        "method": "attnlrp",
        "options": {"masker": "delete"},
        "standard_errors": torch.full((4, 4), 0.1, dtype=torch.float64),
        "third": torch.arange(64, dtype=torch.float64).reshape(4, 4, 4),
        "evaluations": 15,
        "model": "tiny",
        "cost": ap.Cost(seconds=1.0, forward=15, backward=15),
    }
    return Interactions(**{**given, **changed})  # type: ignore[arg-type]


def of_image() -> Interactions:
    picture = Picture(pixels=torch.zeros(2, 2, 3, dtype=torch.uint8), owner=torch.arange(4).reshape(2, 2), label="")
    patches = tuple(Feature(label=f"patch {k}", kind="patch", positions=(k,), part="image", image=0) for k in range(4))
    return interactions(
        features=patches,
        source_of=(None,) * 4,
        main_effect=torch.tensor([0.5, 0.0, 0.0, -0.5], dtype=torch.float64),
        pictures=(picture,),
        third=None,
    )


def llama() -> ap.Explainer:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=64, **sizes)).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return ap.Explainer(model, tokenizer())


def test_the_gap_is_what_the_values_lack_of_the_first_order() -> None:
    assert interactions().gap.tolist() == [0, 0, 0.5, 0]
    found = of_image()
    assert_close(found.gap, found.first_order - found.values.sum(0) - found.main_effect)


def test_the_values_are_their_symmetric_and_antisymmetric_parts() -> None:
    found = interactions()
    assert_close(found.symmetric + found.antisymmetric, found.values)
    assert torch.equal(found.symmetric, found.symmetric.T)
    assert torch.equal(found.antisymmetric, -found.antisymmetric.T)
    assert found.diagonal.tolist() == [1, 5, 6, 9]
    assert found.between.diagonal().tolist() == [0, 0, 0, 0]
    assert_close(found.between + found.diagonal.diag(), found.values)


@pytest.mark.parametrize("part", ["symmetric", "antisymmetric", "diagonal"])
def test_other_targets_than_sources_have_no_such_parts(part: str) -> None:
    with pytest.raises(ap.ApportionError, match="only where the features are the sources; here 4 sources move 4"):
        getattr(of_image(), part)


def test_the_top_pairs_leave_out_the_diagonal_and_template_tokens() -> None:
    found = interactions()
    assert [(s.label, t.label, v) for s, t, v in found.top(2)] == [(" are", "s", 8.0), ("The", " are", -7.0)]
    assert [value for _, _, value in found.top(2, by="value")] == [8.0, 4.0]
    marked = (*FEATURES[:3], Feature(label=" are", template=True))
    found = interactions(sources=marked, features=marked)
    assert found.top(1)[0][2] == 4.0
    assert found.top(1, template=True)[0][2] == 8.0
    assert len(found.top(99)) == 6


def test_words_sum_their_tokens_on_both_sides() -> None:
    found = interactions().words()
    assert [f.label for f in found.sources] == ["The", " keys", " are"]
    assert_close(found.values, torch.tensor([[1, 5, -7], [4.5, 10.25, 2.5], [0, 7.5, 9]], dtype=torch.float64))
    assert_close(found.main_effect, torch.tensor([1, 10.25, 9], dtype=torch.float64))
    assert found.gap.tolist() == [0, 0.5, 0]
    assert found.source_of == (0, 1, 2)
    assert found.standard_errors is not None
    assert_close(found.standard_errors[1, 1].item(), 0.4)
    assert found.third is not None
    assert found.third[0, 1, 1] == sum(interactions().third[0, j, i] for j in (1, 2) for i in (1, 2))  # type: ignore[index]


def test_words_of_a_caption_leave_patches_as_they_are() -> None:
    found = of_image().words()
    assert found.values.shape == (3, 4)
    assert_close(found.values[1], VALUES.double()[1] + VALUES.double()[2])
    assert_close(found.gap, of_image().gap)
    assert found.source_of == (None,) * 4


def test_a_target_that_is_part_of_a_word_of_the_sources_is_no_source_after_words() -> None:
    found = interactions(
        values=VALUES.double()[:, 1:3],
        main_effect=VALUES.double().diagonal()[1:3],
        first_order=VALUES.double().sum(0)[1:3],
        features=FEATURES[1:3],
        source_of=(1, 2),
        standard_errors=None,
        third=None,
    ).words()
    assert found.source_of == (1,)
    assert_close(found.gap, torch.zeros(1, dtype=torch.float64))


def test_lines_of_the_matrix_are_attributions() -> None:
    found = interactions()
    given, received = found.outgoing("The"), found.incoming(3)
    assert given.scores.tolist() == [1, 2, 3, -7]
    assert received.scores.tolist() == [-7, 0, 2.5, 9]
    assert given.features == FEATURES
    with pytest.raises(ap.ApportionError, match="no source 9"):
        found.outgoing(9)
    assert of_image().outgoing("The").pictures


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    for found in (interactions(), of_image()):
        back = Interactions.load(found.save(tmp_path / "found.safetensors"))
        assert back.to_dict() == found.to_dict()
        assert len(back.pictures) == len(found.pictures)
        json.dumps(found.to_dict())


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ap.ApportionError, match="no file"):
        Interactions.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("nothing")
    with pytest.raises(ap.ApportionError, match="not a safetensors file"):
        Interactions.load(tmp_path / "text.safetensors")
    other = llama().explain([5, 9], target=4).save(tmp_path / "attribution.safetensors")
    with pytest.raises(ap.ApportionError, match="holds Attribution, not Interactions"):
        Interactions.load(other)


def test_a_frame_has_a_line_for_each_pair() -> None:
    frame = interactions().to_frame()
    assert len(frame) == 16
    line = frame[(frame["from"] == " are") & (frame["to"] == "s")].iloc[0]
    assert (line["value"], line["standard error"], bool(line["diagonal"])) == (8.0, 0.1, False)
    assert int(frame["diagonal"].sum()) == 4


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ap.ApportionError, match="3 sources, 4 features"):
        interactions(sources=FEATURES[:3])


def test_the_first_order_is_what_explain_gives() -> None:
    explainer = llama()
    found = explainer.interactions("The old dog sees", target=" is", contrast=" are", progress=False)
    whole = explainer.explain("The old dog sees", target=" is", contrast=" are")
    plays = [i for i, feature in enumerate(whole.features) if not feature.template]
    assert_close(found.first_order, whole.scores[plays].double())
    assert [f.label for f in found.sources] == [whole.features[i].label for i in plays]
    assert float(found.gap.abs().max()) < 1e-10
    assert found.target == whole.target


def test_all_features_may_be_moved_and_then_the_books_are_those_of_the_attribution() -> None:
    explainer = llama()
    found = explainer.interactions(
        "The old dog sees", target=" is", of="features", progress=False, game=ap.Game(players="words")
    )
    whole = explainer.explain("The old dog sees", target=" is")
    assert_close(found.first_order, whole.scores.double())
    assert found.source_of[0] is None  # the token that begins the text never plays
    assert float(found.gap.abs().max()) < 1e-10


def test_several_targets_share_one_game() -> None:
    explainer = llama()
    both = explainer.interactions("The old dog sees", target=[" is", " are"], progress=False)
    alone = explainer.interactions("The old dog sees", target=" are", progress=False)
    assert both[0].evaluations == alone.evaluations
    assert both.values.shape == (2, *alone.values.shape)
    assert_close(both[1].values, alone.values)
    assert_close(both[1].main_effect, alone.main_effect)
    assert [one.target.label for one in both] == ['" is"', '" are"']
    assert_close(both.words()[1].values, alone.words().values)
    assert_close(both.outgoing(1)[1].scores, alone.outgoing(1).scores)
    assert len(both.to_frame()) == 2 * len(alone.to_frame())
    assert repr(both) == f"{both[0]!r}\n\n{both[1]!r}"
    page = both.to_html()
    assert page.count("<section") >= 2
    assert all(label in page for label in ("&#34; is&#34;", "&#34; are&#34;"))
    with pytest.raises(ap.ApportionError, match=r"has 2 targets: take one by its index, such as a\[0\].top"):
        both.top()


def test_spans_play_and_everything_else_stays() -> None:
    explainer = llama()
    found = explainer.interactions(
        "The old dog sees the cat",
        target=" is",
        of="features",
        progress=False,
        game=ap.Game(players=["old dog", "the cat"]),
    )
    assert [f.label.strip() for f in found.sources] == ["old dog", "the cat"]
    assert found.evaluations == 4
    assert found.source_of == (None,) * len(found.features)


def test_words_of_the_source_move_the_decoder_of_an_encoder_decoder() -> None:
    explainer = ap.Explainer(build("t5"), tokenizer("seq2seq"))
    found = explainer.interactions("The dog", target=" is", method="cp-lrp", of="features", progress=False)
    assert {f.part for f in found.sources} == {"source"}  # the token that starts a decoder never plays
    assert {f.part for f in found.features} == {"source", "decoder"}
    assert float(found.gap.abs().max()) < 1e-6 * float(found.first_order.abs().max())


def test_requests_that_do_not_fit_are_refused_in_one_line() -> None:
    explainer = llama()
    with pytest.raises(ap.ApportionError, match="interactions takes one prompt, and 2 were given"):
        explainer.interactions(["The dog", "the cat"], target=" is")
    with unchecked(), pytest.raises(ap.ApportionError, match="order=4"):
        explainer.interactions("The dog", target=" is", game=ap.Game(order=4))
    with unchecked(), pytest.raises(ap.ApportionError, match="estimator='best'"):
        explainer.interactions("The dog", target=" is", game=ap.Game(estimator="best"))
    with pytest.raises(ap.ApportionError, match="of='patches' names nothing"):
        explainer.interactions("The dog", target=" is", of="patches")
    before = {name: value.clone() for name, value in explainer.model.state_dict().items()}
    hooks = sum(len(module._forward_hooks) for module in explainer.model.modules())
    with pytest.raises(ap.ApportionError):
        explainer.interactions("The dog", target=" is", method="chefer(rule='none')")
    assert hooks == sum(len(module._forward_hooks) for module in explainer.model.modules())
    assert all(torch.equal(value, before[name]) for name, value in explainer.model.state_dict().items())
