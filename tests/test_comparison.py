"""Comparisons: many methods on one prediction, what they took and how far they agree."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

from apportion import CP_LRP, ApportionError, Attribution, Comparison, Explained, Explainer, Feature, Method, Shares
from tests.tiny import InFloat64, tiny, tokenizer

TEXT = "The man who owns the dogs"


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


def explainer(name: str = "llama") -> Explainer:
    return Explainer(tiny(name), tokenizer("causal"))


def attribution(*scores: float, template: tuple[int, ...] = ()) -> Attribution:
    features = tuple(Feature(label=f" w{i}", positions=(i,), template=i in template) for i in range(len(scores)))
    explained = (Explained(label="x", unit="logit", value=1.0),)
    return Attribution(scores=torch.tensor(scores), features=features, explained=explained, method="m")


class Refusing(Method):
    name = "refusing"

    def attribute(self, task):
        raise ApportionError("this method serves no model at all.")


class Constant(Method):
    name = "constant"

    def attribute(self, task):
        return Shares(scores=[torch.ones(len(task.targets), len(p.features)) for p in task.prompts])


def test_each_method_says_what_it_says_alone():
    found = explainer().compare(TEXT, methods=["attnlrp", "cp-lrp", "input-x-gradient"], target=" is")
    assert list(found) == ["attnlrp", "cp-lrp", "input-x-gradient"]
    for name, one in found.items():
        alone = explainer().explain(TEXT, method=name, target=" is")
        assert torch.equal(one.scores, alone.scores)
        # All share one; the plain gradient's ledger reads what the graph does not keep from a second.
        assert one.cost.forward == (1 if name == "input-x-gradient" else 0)
        assert one.cost.backward == 1
    assert found.shared.forward == 1
    assert found.shared.seconds > 0


def test_a_method_that_refuses_does_not_stop_the_others():
    found = explainer().compare(TEXT, methods=[Refusing(), "attnlrp"])
    assert list(found) == ["attnlrp"]
    assert str(found.refused["refusing"]) == "this method serves no model at all."
    with pytest.raises(ApportionError, match="refusing gave no attribution: this method serves no model"):
        found["refusing"]
    with pytest.raises(KeyError):
        found["unknown"]
    with pytest.raises(ApportionError, match="serves no model at all"):
        explainer().compare(TEXT, methods=[Refusing()])


def test_the_same_method_with_other_options_goes_by_its_whole_name_or_by_the_user_s():
    found = explainer().compare(TEXT, methods=["attnlrp", "attnlrp(gate='cut')"])
    assert list(found) == ["attnlrp", "attnlrp(gate='cut')"]
    assert not torch.equal(found["attnlrp"].scores, found["attnlrp(gate='cut')"].scores)
    named = explainer().compare(TEXT, methods={"one": "attnlrp", "two": CP_LRP})
    assert list(named) == ["one", "two"]
    with pytest.raises(ApportionError, match="two methods are called 'cp-lrp'"):
        explainer().compare(TEXT, methods=[CP_LRP, "cp-lrp"])
    with pytest.raises(ApportionError, match="methods is empty"):
        explainer().compare(TEXT, methods=[])


def compared(*attributions: Attribution) -> torch.Tensor:
    return Comparison(attributions={str(i): a for i, a in enumerate(attributions)}).rank_correlations()


def test_rank_correlation_is_spearman_s_by_its_textbook_formula():
    # Without ties ρ = 1 − 6 Σ d² / (n (n² − 1)), d being the difference of the ranks.
    values = (-0.5, 2.0, 0.1, 7.0)
    for order in itertools.permutations(range(4)):
        other = [float(place) - 2.5 for place in order]
        ranks = [sorted(values).index(v) for v in values]
        expected = 1 - 6 * sum((a - b) ** 2 for a, b in zip(ranks, order, strict=True)) / (4 * 15)
        assert compared(attribution(*values), attribution(*other))[0, 1].item() == pytest.approx(expected)


def test_ties_share_their_mean_rank():
    # Ranks (1.5, 1.5, 3) against (1, 2, 3): Pearson's correlation is 1.5 / sqrt(1.5 · 2).
    found = compared(attribution(-1.0, -1.0, 5.0), attribution(-3.0, 0.0, 1.0))[0, 1].item()
    assert found == pytest.approx(1.5 / 3**0.5)


def test_a_method_that_gives_sizes_is_compared_with_the_other_s_sizes():
    sizes, signed = attribution(3.0, 2.0, 1.0), attribution(-3.0, 2.0, -1.0)
    assert compared(sizes, signed)[0, 1].item() == pytest.approx(1.0)
    assert compared(signed, attribution(3.0, -2.0, -1.0))[0, 1].item() == pytest.approx(-1.0)


def test_template_tokens_do_not_count():
    one, other = attribution(9.0, -1.0, 1.0, 2.0, template=(0,)), attribution(-9.0, -1.0, 1.0, 2.0, template=(0,))
    assert compared(one, other)[0, 1].item() == pytest.approx(1.0)


def test_a_constant_method_agrees_with_nobody():
    found = explainer().compare(TEXT, methods=[Constant(), "attnlrp"])
    assert found.rank_correlations()[0, 1].isnan()
    assert found.to_dict()["rank_correlations"] == [[1.0, None], [None, 1.0]]
    json.dumps(found.to_dict(), allow_nan=False)


def test_words_are_compared_with_tokens_on_words():
    tokens = explainer().explain(TEXT)
    words = explainer().explain(TEXT, method="cp-lrp").words()
    assert len(words.features) < len(tokens.features)
    expected = compared(tokens.words(), words)[0, 1].item()
    assert compared(tokens, words)[0, 1].item() == pytest.approx(expected)
    assert compared(words, tokens)[0, 1].item() == pytest.approx(expected)


def test_several_targets_are_compared_one_by_one():
    found = explainer().compare(TEXT, methods=["attnlrp", "cp-lrp"], target=[" is", " are"])
    each = [explainer().compare(TEXT, methods=["attnlrp", "cp-lrp"], target=t) for t in (" is", " are")]
    expected = sum(one.rank_correlations()[0, 1].item() for one in each) / 2
    assert found.rank_correlations()[0, 1].item() == pytest.approx(expected)


def test_the_page_shows_every_method_every_share_and_who_refused(tmp_path):
    found = explainer().compare(TEXT, methods=["attnlrp", "cp-lrp", Refusing()], target=" is")
    page = found.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page
    assert page.count('<article class="card">') == 2
    assert page.count('data-i="text4"') == 2
    assert "serves no model at all" in page
    assert "http" not in page.replace("http-equiv", "")
    for one in found.values():
        top = f"{one.scores[4].item():+.6g}".replace("-", "−")
        assert top in page
    fragment = found._repr_html_()
    assert "<script" not in fragment
    assert "cp-lrp" in fragment


def test_the_terminal_and_the_figure_show_every_method():
    found = explainer().compare(TEXT, methods=["attnlrp", "cp-lrp", Refusing()])
    shown = repr(found)
    assert "refusing cannot serve here: this method serves no model at all." in shown
    assert "all share 1 forward pass" in shown
    shares, agreement = found.plot().axes
    assert [t.get_text() for t in shares.get_yticklabels()] == ["attnlrp", "cp-lrp"]
    assert len(agreement.texts) == 4
    shown_values = shares.images[0].get_array()
    one = found["cp-lrp"].scores
    assert torch.allclose(torch.tensor(shown_values[1]), one / one.abs().max())


def test_a_frame_has_a_row_per_method_and_feature():
    found = explainer().compare(TEXT, methods=["attnlrp", "cp-lrp"])
    frame = found.to_frame()
    assert len(frame) == 2 * 9
    assert frame[frame.method == "cp-lrp"].score.tolist() == pytest.approx(found["cp-lrp"].scores.tolist())
