"""A similarity divided among pairs of features, against one backward pass a dimension and side."""

from typing import Any

import pytest
import torch
from torch import Tensor

import apportion as ap
import apportion.methods.backward._pairwise as module
from tests.architectures import build
from tests.checking import unchecked
from tests.test_pairs import ONE, OTHER, bert, dinov2, picture, words

METHODS = ("attnlrp", "cp-lrp", "input-x-gradient")


def one_dimension_at_a_time(explainer: ap.Explainer, prompt: Any, read: Any, size: int, method: str) -> Tensor:
    """The relevance of each dimension by itself: (dimension, feature)."""
    found = [
        explainer.explain(prompt, target=lambda output, k=k: read(output)[0, k], method=method) for k in range(size)
    ]
    return torch.stack([one.scores for one in found])


def mean(output: Any) -> Tensor:
    return output.last_hidden_state.mean(1)


@pytest.mark.parametrize("method", METHODS)
def test_equals_the_sum_over_dimensions(method):
    explainer = ap.Explainer(bert())
    found = explainer.explain_pairs(ap.Pair(ONE, OTHER), method=method)
    sides = [one_dimension_at_a_time(explainer, ids, mean, 16, method) for ids in (ONE, OTHER)]
    lengths = [mean(explainer.model(input_ids=torch.tensor([ids]))).norm().item() for ids in (ONE, OTHER)]
    by_hand = sides[0].T @ sides[1] / (lengths[0] * lengths[1])
    torch.testing.assert_close(found.scores, by_hand.double())


def clip_inputs(name: str = "clip") -> tuple[Any, dict[str, Tensor], Tensor]:
    built = build("zero_shot_image_classification", name)
    inputs = {k: v[:1].double() if v.is_floating_point() else v[:1] for k, v in built.inputs.items()}
    return built.model.double(), inputs, inputs["pixel_values"][0]


def test_equals_the_sum_over_dimensions_for_an_image_and_a_text():
    model, inputs, image = clip_inputs()
    explainer = ap.Explainer(model)
    ids = inputs["input_ids"][0].tolist()
    found = explainer.explain_pairs(ap.Pair(image, ids), method="attnlrp")
    given = {"pixel_values": image[None], "input_ids": torch.tensor([ids])}
    size = model.config.projection_dim
    images = one_dimension_at_a_time(explainer, given, lambda o: o.image_embeds, size, "attnlrp")
    texts = one_dimension_at_a_time(explainer, given, lambda o: o.text_embeds, size, "attnlrp")
    patches = len(found.rows)
    torch.testing.assert_close(found.scores, (images[:, :patches].T @ texts[:, patches:]).double())
    assert [f.kind for f in found.rows] == ["patch"] * patches
    assert [f.positions for f in found.columns] == [(k,) for k in range(len(ids))]


def test_the_order_of_the_pair_is_that_of_rows_and_columns():
    model, inputs, image = clip_inputs()
    explainer, ids = ap.Explainer(model), inputs["input_ids"][0].tolist()
    found = explainer.explain_pairs(ap.Pair(image, ids))
    turned = explainer.explain_pairs(ap.Pair(ids, image))
    for mine, other in (
        (found.scores, turned.scores.T),
        (found.row_rest, turned.column_rest),
        (found.column_values, turned.row_values),
    ):
        torch.testing.assert_close(mine, other)
    turn = {"first": "second", "second": "first"}
    for line, amount in found.ledger.lines.items():
        other = " ".join(turn.get(word, word) for word in line.split())
        torch.testing.assert_close(amount, turned.ledger.lines[other])


def pairs() -> dict[str, Any]:
    model, inputs, image = clip_inputs()
    siglip, more, picture_of = clip_inputs("siglip")
    return {
        "two texts": (bert(), ap.Pair(ONE, OTHER)),
        "equal texts": (bert(), ap.Pair(ONE, ONE)),
        "two images": (dinov2(), ap.Pair(picture(0), picture(1))),
        "image and text": (model, ap.Pair(image, inputs["input_ids"][0].tolist())),
        "siglip": (siglip, ap.Pair(picture_of, more["input_ids"][0].tolist())),
    }


@pytest.mark.parametrize("name", ["two texts", "equal texts", "two images", "image and text", "siglip"])
@pytest.mark.parametrize("positions", ["apart", "added"])
def test_the_matrix_its_rests_and_the_ledger_balance(name, positions):
    model, pair = pairs()[name]
    explainer = ap.Explainer(model)
    found = explainer.explain_pairs(pair, positions=positions)
    # A feature's row and its rest are what it has of the cosine to the other encoding: twice its share.
    torch.testing.assert_close(found.scores.sum(1) + found.row_rest, found.row_values)
    torch.testing.assert_close(found.scores.sum(0) + found.column_rest, found.column_values)
    first_order = explainer.explain(pair, positions=positions)
    both = torch.cat([found.row_values, found.column_values])
    torch.testing.assert_close(both, 2 * first_order.scores.double())
    assert abs(found.ledger.residual.item()) < 1e-9
    torch.testing.assert_close(found.ledger.total.item(), first_order.target.value)
    assert found.explained.value == pytest.approx(first_order.target.value)
    torch.testing.assert_close(found.ledger.lines["pairs"], found.scores.sum())
    by_rows = sum(v for k, v in found.ledger.lines.items() if k.startswith("first × "))
    by_columns = sum(v for k, v in found.ledger.lines.items() if k.startswith("second × "))
    rest = found.row_rest.sum() if len(found.rows) <= len(found.columns) else found.column_rest.sum()
    torch.testing.assert_close(by_rows + by_columns, rest)


def test_a_pass_a_feature_gives_what_a_pass_a_dimension_gives(monkeypatch):
    explainer, pair = ap.Explainer(bert()), ap.Pair(ONE, OTHER)
    fast = explainer.explain_pairs(pair)
    asked = []

    def refused(*arguments: Any) -> Tensor:
        asked.append(arguments)
        raise RuntimeError("no second derivative")

    monkeypatch.setattr(module, "relevance_by_output", refused)
    direct = explainer.explain_pairs(pair)
    assert asked
    assert direct.cost.backward > fast.cost.backward
    torch.testing.assert_close(fast.scores, direct.scores)
    # A wrong answer is noticed, since the features' shares of the whole are known.
    monkeypatch.setattr(module, "relevance_by_output", lambda *a: torch.ones(len(OTHER), 16, dtype=torch.float64))
    torch.testing.assert_close(explainer.explain_pairs(pair).scores, direct.scores)


def test_words_sum_tokens_on_both_sides():
    explainer = ap.Explainer(bert(), words())
    pair = ap.Pair("a b-c", "d a")
    tokens, found = explainer.explain_pairs(pair), explainer.explain_pairs(pair, features="words")
    torch.testing.assert_close(found.scores.sum(), tokens.scores.sum())
    torch.testing.assert_close(found.scores.sum(1) + found.row_rest, found.row_values)
    assert all(f.kind == "word" for f in found.rows if not f.template)


def test_a_row_is_an_attribution_of_the_other_side():
    model, inputs, image = clip_inputs()
    found = ap.Explainer(model).explain_pairs(ap.Pair(inputs["input_ids"][0].tolist(), image))
    row = found.row(1)
    torch.testing.assert_close(row.scores, found.scores[1])
    assert row.features == found.columns
    assert row.pictures
    assert abs(row.ledger.residual.item()) < 1e-9
    column = found.column("patch 0,1")
    torch.testing.assert_close(column.scores, found.scores[:, 1])
    with pytest.raises(ap.ApportionError, match="there is no row 99"):
        found.row(99)
    with pytest.raises(ap.ApportionError, match="0 columns are labelled 'elsewhere'"):
        found.column("elsewhere")


def test_the_best_pairs_leave_special_tokens_out_unless_asked():
    found = ap.Explainer(bert(), words()).explain_pairs(ap.Pair("a b", "d a"))
    assert not any(r.template or c.template for r, c, _ in found.top(99))
    assert len(found.top(99)) == 4
    every = found.top(99, template=True)
    assert len(every) == found.scores.numel()
    assert [abs(s) for _, _, s in every] == sorted((abs(s) for _, _, s in every), reverse=True)
    row, column, score = every[0]
    assert score == found.scores[found.rows.index(row), found.columns.index(column)].item()
    assert found.top(1, by="value")[0][2] == max(s for _, _, s in found.top(99))


def test_what_was_saved_is_read_again(tmp_path):
    model, inputs, image = clip_inputs()
    found = ap.Explainer(model).explain_pairs(ap.Pair(image, inputs["input_ids"][0].tolist()))
    again = ap.Pairwise.load(found.save(tmp_path / "pair.safetensors"))
    for name in ("scores", "row_rest", "column_rest", "row_values", "column_values"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    assert (again.rows, again.columns, again.explained) == (found.rows, found.columns, found.explained)
    assert again.ledger.lines == found.ledger.lines
    assert torch.equal(again.pictures[0].owner, found.pictures[0].owner)
    assert repr(again) == repr(found)
    with pytest.raises(ap.ApportionError, match="holds Attribution, not Pairwise"):
        ap.Pairwise.load(ap.Explainer(bert()).explain(ap.Pair(ONE, OTHER)).save(tmp_path / "other.safetensors"))
    with pytest.raises(ap.ApportionError, match="there is no file"):
        ap.Pairwise.load(tmp_path / "missing")


def test_the_table_has_a_line_for_each_pair():
    found = ap.Explainer(bert()).explain_pairs(ap.Pair(ONE, OTHER))
    table = found.to_frame()
    assert len(table) == len(ONE) * len(OTHER)
    torch.testing.assert_close(torch.tensor(table.score.to_numpy().reshape(len(ONE), -1)), found.scores)


@pytest.mark.parametrize("method", ["rollout", "leave-one-out", "gradient"])
def test_methods_without_fixed_rules_are_refused(method):
    with pytest.raises(ap.ApportionError, match="under fixed rules"):
        ap.Explainer(bert()).explain_pairs(ap.Pair(ONE, OTHER), method=method)


def test_only_a_pair_has_pairs_of_features():
    with unchecked(), pytest.raises(ap.ApportionError, match=r"takes an ap\.Pair"):
        ap.Explainer(bert()).explain_pairs(ONE)  # type: ignore[arg-type]


def test_rules_for_modules_of_neither_side_are_refused():
    model, inputs, image = clip_inputs()
    pair = ap.Pair(image, inputs["input_ids"][0].tolist())
    assert ap.Explainer(model).explain_pairs(pair).method == "res-lrp"
    with pytest.raises(ap.RuleNotApplied, match="on either side"):
        ap.Explainer(model).explain_pairs(pair, method=ap.ResLRP(modules="nowhere*"))
