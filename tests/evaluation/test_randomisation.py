"""Weight randomisation: what is randomised, that the user's model stays, and the correlation against scipy's."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from weakref import ref

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.testing import assert_close

from apportion import ApportionError, Explainer, Method, Shares
from apportion.evaluation import Case, Item, WeightRandomisation, as_measure, randomised
from apportion.evaluation._randomisation import blocks
from apportion.methods import as_method
from tests.checking import unchecked
from tests.tiny import InFloat64, Of, build, tiny, tokenizer

TEXT = "The man who owns the dogs"


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


def explainer(name: str = "llama") -> Explainer:
    return Explainer(build(name), tokenizer("masked" if name == "bert" else "causal"))


def case(text: str = TEXT, name: str = "llama", own: Explainer | None = None) -> Case:
    return Case(own or explainer(name), Item(id="0", prompt=text))


def found(measure: str | WeightRandomisation, method: str | Method, at: Case | None = None) -> dict:
    at, method = at or case(), as_method(method)
    return as_measure(measure).of(at, at.attribution(method), method)


@dataclass(frozen=True, kw_only=True)
class Given(Method):
    """The same shares for every model; with `of_embeddings`, what the token embeddings alone say."""

    name = "given"
    of_embeddings: bool = False
    constant: bool = False

    def attribute(self, task):
        ids = task.inputs["input_ids"][0]
        shares = task.head.model.get_input_embeddings().weight[ids].sum(-1) if self.of_embeddings else ids.double()
        return Shares(scores=[torch.ones_like(shares)[None] if self.constant else shares[None].detach()])


class Failing(Method):
    name = "failing"

    def attribute(self, task):
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("how", ["permute", "redraw"])
def test_the_model_comes_back_bit_by_bit_also_after_an_error(how):
    own = explainer()
    before = {name: value.clone() for name, value in own.model.state_dict().items()}
    flags = {name: p.requires_grad for name, p in own.model.named_parameters()}
    measure, at = WeightRandomisation(steps=3, how=how), case(own=own)
    measure.of(at, at.attribution(as_method("attnlrp")), as_method("attnlrp"))
    with pytest.raises(RuntimeError, match="on purpose"):
        measure.of(at, at.attribution(as_method("attnlrp")), Failing())
    after = own.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert flags == {name: p.requires_grad for name, p in own.model.named_parameters()}


def test_permuting_keeps_the_entries_of_each_weight_and_loses_their_order():
    own = explainer()
    other = dict(randomised(own).model.named_parameters())
    for name, weight in own.model.named_parameters():
        assert_close(other[name].flatten().sort().values, weight.flatten().sort().values, rtol=0, atol=0)
        assert not torch.equal(other[name], weight), name


def test_redrawing_keeps_mean_and_standard_deviation():
    own = Explainer(Of(lambda **_: None, weight=nn.Parameter(3 + 2 * torch.randn(200, 200))))
    (weight,) = randomised(own, how="redraw").model.parameters()
    assert abs(weight.mean() - 3) < 0.05
    assert abs(weight.std() - 2) < 0.05


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "qwen2"])
def test_blocks_are_the_layers_and_what_stands_before_and_after(name):
    found = blocks(tiny(name))
    assert len(found) == 4
    assert any("embed" in one or "wte" in one for one in found[0])
    assert all(".0." in one for one in found[1])
    assert all(".1." in one for one in found[2])


def test_tied_weights_belong_to_the_embeddings():
    own = explainer("qwen2")
    top = randomised(own, 0.25).model
    assert top.lm_head.weight is own.model.lm_head.weight
    assert top.model.norm.weight is not own.model.model.norm.weight
    whole = randomised(own).model
    assert whole.lm_head.weight is whole.model.embed_tokens.weight
    assert whole.lm_head.weight is not own.model.lm_head.weight


def test_randomisation_goes_from_the_top_and_copies_share_weights():
    own = explainer()
    half, whole = (dict(randomised(own, part).model.named_parameters()) for part in (0.5, 1.0))
    for k, names in enumerate(blocks(own.model)):
        for name in names:
            assert whole[name] is not dict(own.model.named_parameters())[name]
            assert half[name] is (dict(own.model.named_parameters())[name] if k < 2 else whole[name])


def test_a_copy_is_made_once_and_goes_with_the_explainer():
    own = explainer()
    assert randomised(own) is randomised(own)
    assert randomised(own) is not randomised(own, seed=1)
    copied, model = ref(randomised(own)), own.model
    del own
    gc.collect()
    assert copied() is None
    assert model.training is False


@pytest.mark.parametrize("method", ["attnlrp", "input-x-gradient", "leave-one-out"])
@pytest.mark.parametrize("scores", ["absolute", "signed"])
def test_equals_scipys_correlation_with_a_model_loaded_with_the_random_weights(method, scores):
    at = case()
    by_hand = build("llama")
    by_hand.load_state_dict(randomised(at.engine, seed=5).model.state_dict())
    label = at.attribution(as_method(method)).target.label
    target = int(at.task.trace.output.logits[0, -1].argmax())
    a = at.engine.explain(TEXT, method=method, progress=False)
    b = Explainer(by_hand, at.engine.processor).explain(TEXT, method=method, target=target, progress=False)
    assert b.target.label == label
    first, second = (one.scores[1:].abs() if scores == "absolute" else one.scores[1:] for one in (a, b))
    value = found(WeightRandomisation(scores=scores, seed=5), method, at)["randomised_spearman"]
    assert value == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_what_the_weights_do_not_change_has_1():
    assert found("weight-randomisation(steps=2)", Given()) == {
        "randomised_spearman": pytest.approx(1),
        "randomised_curve": pytest.approx([1, 1, 1]),
    }


def test_what_only_the_bottom_changes_shows_there():
    curve = found("weight-randomisation(steps=4)", Given(of_embeddings=True))["randomised_curve"]
    assert curve[:4] == pytest.approx([1, 1, 1, 1])
    assert curve[4] < 0.99
    assert found("weight-randomisation(layers=0.75)", Given(of_embeddings=True))["randomised_spearman"] == (
        pytest.approx(1)
    )


def test_the_curve_ends_at_the_number_and_is_the_same_under_a_seed():
    first, again, other = (found(f"weight-randomisation(steps=4, seed={seed})", "attnlrp") for seed in (3, 3, 4))
    assert len(first["randomised_curve"]) == 5
    assert first["randomised_curve"][-1] == first["randomised_spearman"]
    assert first == again
    assert first["randomised_curve"] != other["randomised_curve"]


@pytest.mark.parametrize(("text", "method"), [("cat", "attnlrp"), (TEXT, Given(constant=True))])
def test_one_player_or_a_constant_has_no_correlation(text, method):
    value = found("weight-randomisation", method, case(text))
    assert value["randomised_spearman"] != value["randomised_spearman"]


def test_a_quantised_weight_is_refused():
    weight = nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ApportionError, match=r"'weight' is quantised \(torch.int8\)"):
        randomised(Explainer(Of(lambda **_: None, weight=weight)))


@pytest.mark.parametrize(
    "options", ["layers=0", "layers=1.5", "layers='top'", "steps=0", "how='zero'", "scores='ranks'"]
)
def test_options_out_of_range_are_refused(options):
    with unchecked(), pytest.raises(ApportionError, match=options.partition("=")[0]):
        as_measure(f"weight-randomisation({options})")
