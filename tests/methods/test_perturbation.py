"""Perturbation methods against their literal twins, and reuse of the prefix against reading everything again."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from apportion import ApportionError, AtMan, Explainer, LeaveOneOut, Occlusion, Span, Target
from apportion.games import as_masker, players_of
from apportion.methods.perturbation import _atman, _last_layer, _prefix
from apportion.methods.perturbation._atman import _parts_of_keys
from apportion.methods.perturbation._prefix import PrefixReader
from apportion.task._task import AttributionTask
from apportion.task._variant import Variant
from tests.reference import literal_perturbation as literal
from tests.tiny import InFloat64, build, tiny, tokenizer

TEXT = "The man who owns the dogs"
LONG = "The old man who owns the new dogs sees the cat and the sad dog of the old man"
KINDS = {"bert": "masked", "bert_classifier": "masked", "t5": "seq2seq", "bart": "seq2seq"}
TARGET = 11
CAUSAL = ["llama", "gpt2", "qwen2", "gemma2", "mixtral"]
NARROW = {"sliding_window": 4}
STRETCHED = {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}}


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


@cache
def explainer(name: str = "llama") -> Explainer:
    return Explainer(tiny(name), tokenizer(KINDS.get(name, "causal")))


def task(own: Explainer, prompt: Any, *targets: Any) -> AttributionTask:
    return AttributionTask(own.head, own.prompts(prompt), targets or [Target(TARGET)])


def scores(method: Any, prompt: Any = TEXT, *, name: str = "llama", target: Any = TARGET, **options: Any) -> Tensor:
    return explainer(name).explain(prompt, method=method, target=target, progress=False, **options).scores


def ids_of(text: str, name: str = "llama") -> list[int]:
    return explainer(name).processor(text).input_ids


def twin(name: str, masker: str, position: int | None = None) -> tuple[literal.Value, list[int]]:
    """The target without some tokens, and which tokens of the text play."""
    ids = ids_of(TEXT, name)
    target = 1 if name == "bert_classifier" else TARGET
    row = None if name == "bert_classifier" else 0 if name == "t5" else len(ids) - 1 if position is None else position
    others = {"decoder_input_ids": torch.tensor([[1]])} if name == "t5" else {}
    special = explainer(name).processor.all_special_ids
    playing = [i for i, token in enumerate(ids) if token not in special]
    if masker == "delete":
        return literal.by_deleting(tiny(name), ids, row, target, **others), playing
    return literal.by_replacing(tiny(name), ids, row, target, explainer(name).processor.unk_token_id), playing


def by_place(found: Tensor, playing: list[int]) -> list[float]:
    others = [i for i in range(len(found)) if i not in playing]
    assert (found[others] == 0).all()
    return found[playing].tolist()


@pytest.mark.parametrize(
    ("name", "masker", "position"),
    [
        ("llama", "delete", None),
        ("llama", "delete", 4),
        ("llama", "replace", None),
        ("gpt2", "delete", None),
        ("gpt2", "replace", 6),
        ("mixtral", "delete", None),
        ("mamba", "delete", None),
        ("mamba", "delete", 5),
        ("bert_classifier", "delete", None),
        ("bert_classifier", "replace(unk)", None),
        ("t5", "delete", None),
    ],
)
def test_leave_one_out_is_the_difference_without_the_token(name, masker, position):
    value, playing = twin(name, masker, position)
    target = 1 if name == "bert_classifier" else TARGET
    found = scores(LeaveOneOut(masker=masker), name=name, target=target, position=position)
    assert_close(by_place(found, playing), literal.leave_one_out(value, playing), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (3, 2), (2, 2), (5, 4), (50, 7)])
@pytest.mark.parametrize("name", ["llama", "bert_classifier"])
def test_occlusion_is_the_mean_drop_over_the_windows_that_cover_a_token(name, window, stride):
    value, playing = twin(name, "delete")
    target = 1 if name == "bert_classifier" else TARGET
    found = scores(Occlusion(window=window, stride=stride, masker="delete"), name=name, target=target)
    size = min(window, len(playing))
    expected = literal.occlusion(value, playing, size, min(stride, size))
    assert_close(by_place(found, playing), expected, rtol=1e-9, atol=1e-10)


def test_windows_do_not_reach_from_the_source_into_the_decoder():
    given = {"input_ids": torch.tensor([[9, 10, 11]]), "decoder_input_ids": torch.tensor([[1, 12, 13]])}
    asked = task(explainer("t5"), given)
    windows = Occlusion(window=2)._windows(players_of(asked, 0))
    assert windows.int().tolist() == [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]


def test_windows_that_leave_players_uncovered_are_refused():
    for window, stride in ((0, 1), (2, 3), (3, 0)):
        with pytest.raises(ApportionError, match=f"window={window} with stride={stride}"):
            Occlusion(window=window, stride=stride)


@pytest.mark.parametrize("target", [TARGET, Span(" is sad cat"), [Target(5, position=4), Target(7, position=-1)]])
@pytest.mark.parametrize(
    ("name", "masker"),
    [
        *[(name, "delete") for name in CAUSAL],
        *[("llama", masker) for masker in ("replace", "attention-mask", "zero", "mean")],
        ("gpt2", "zero"),
        ("gemma2", "attention-mask"),
    ],
)
def test_reusing_the_prefix_changes_nothing(name, masker, target, monkeypatch):
    monkeypatch.setattr(_prefix, "TOKENS_AT_ONCE", 40)
    monkeypatch.setattr(_prefix, "VARIANTS_AT_ONCE", 3)
    monkeypatch.setattr(_prefix, "_CHECKED", 4)
    own = explainer(name)
    fast, whole = (
        own.explain(LONG, method=LeaveOneOut(masker=masker, prefix_cache=prefix_cache), target=target)
        for prefix_cache in (True, False)
    )
    assert_close(fast.scores, whole.scores, rtol=1e-10, atol=1e-10)
    assert (fast.scores != 0).any()
    assert fast.cost.forward < 0.8 * whole.cost.forward


@pytest.mark.parametrize(
    "players", ["words", {"begin": [1, 2], "who": "man who owns", "middle": [8, 9, 10], "end": [17, 18, 19]}]
)
def test_players_of_several_tokens_reuse_the_prefix_too(players):
    found = explainer().explain(LONG, method=LeaveOneOut(features=players), target=TARGET)
    whole = explainer().explain(LONG, method=LeaveOneOut(features=players, prefix_cache=False), target=TARGET)
    assert_close(found.scores, whole.scores, rtol=1e-10, atol=1e-10)
    assert found.features == players_of(task(explainer(), LONG), 0, players).features
    assert found.cost.forward % 1 > 0  # parts of passes
    assert whole.cost.forward % 1 == 0
    windows = [Occlusion(window=3, prefix_cache=reuse) for reuse in (True, False)]
    assert_close(*[scores(method, LONG) for method in windows], rtol=1e-10, atol=1e-10)


def test_a_word_is_left_out_with_all_its_tokens():
    found = scores(LeaveOneOut(features="words"))
    value, _ = twin("llama", "delete")
    expected = [0.0] + [value([]) - value(word) for word in ([1], [2], [3], [4, 5], [6], [7, 8])]
    assert_close(found.tolist(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_first_places_can_be_read_too(place):
    ids = ids_of(TEXT)[1:]
    found = explainer().explain(ids, method=LeaveOneOut(masker="delete"), target=Target(TARGET, position=place))
    whole = LeaveOneOut(masker="delete", prefix_cache=False)
    expected = explainer().explain(ids, method=whole, target=Target(TARGET, position=place))
    assert_close(found.scores, expected.scores, rtol=1e-10, atol=1e-10)
    assert found.scores.nonzero().flatten().tolist() == list(range(place + 1))


def test_what_stands_after_the_place_that_is_read_gets_exactly_nothing():
    found = scores(LeaveOneOut(masker="delete"), LONG, position=4)
    assert (found[1:5] != 0).all()
    assert (found[5:] == 0).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [("mamba", {}), ("gemma2", NARROW), ("llama", STRETCHED), ("t5", {}), ("bert_classifier", {})],
)
def test_where_the_cache_is_no_ordinary_one_everything_is_read_whole(name, options):
    own = Explainer(build(name, **options), tokenizer(KINDS.get(name, "causal")))
    asked = task(own, LONG, Target(1))
    assert PrefixReader.of(asked, 0) is None
    fast, whole = (
        own.explain(LONG, method=LeaveOneOut(masker="delete", prefix_cache=reuse), target=1) for reuse in (True, False)
    )
    assert_close(fast.scores, whole.scores, rtol=1e-12, atol=1e-12)


def test_a_cache_that_does_not_give_the_known_values_is_not_trusted(monkeypatch):
    assert PrefixReader.of(task(explainer(), LONG), 0) is not None
    forward = _last_layer.Kept.update
    monkeypatch.setattr(_last_layer.Kept, "update", lambda self, keys, values, *_: forward(self, keys * 1.01, values))
    assert PrefixReader.of(task(explainer(), LONG), 0) is None


def test_a_prefix_that_looks_ahead_is_not_trusted(monkeypatch):
    first = _prefix._first
    monkeypatch.setattr(
        _prefix, "_first", lambda prompt, count: {k: v.flip(-1) for k, v in first(prompt, count).items()}
    )
    assert PrefixReader.of(task(explainer(), LONG), 0) is None


def test_the_cache_that_all_variants_share_stays_as_it_was():
    asked = task(explainer(), LONG)
    reader = PrefixReader.of(asked, 0)
    before = [(keys.clone(), values.clone()) for keys, values in reader.layers]
    present = torch.ones(len(asked.prompts[0].features), dtype=torch.bool)
    present[5] = False
    variants = [as_masker("delete").variant(asked, 0, present)] * 3
    first = reader.values(variants, [5, 5, 5])
    assert_close(first, reader.values(variants, [5, 5, 5]), rtol=0, atol=0)
    for (keys, values), (kept_keys, kept_values) in zip(reader.layers, before, strict=True):
        assert torch.equal(keys, kept_keys)
        assert torch.equal(values, kept_values)
    assert_close(first[0], asked.evaluate(0, variants)[0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", ["leave-one-out", "occlusion", "atman"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert_classifier"])
def test_several_targets_are_each_alone(name, method):
    both = scores(method, name=name, target=[1, 2])
    for found, target in zip(both, (1, 2), strict=True):
        assert_close(found, scores(method, name=name, target=target), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("method", ["leave-one-out", "occlusion", "atman"])
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_the_explained_answer_stays_and_gets_nothing(name, method):
    found = explainer(name).explain(TEXT, method=method, target=Span(" is sad"))
    answer = [i for i, f in enumerate(found.features) if f.part in ("answer", "decoder") or f.template]
    assert (found.scores[answer] == 0).all()
    assert len(answer) < len(found.features)
    assert found.target.unit == "log-probability"


def test_the_mask_that_is_read_stays():
    text = "the man [MASK] sad ."
    place = ids_of(text, "bert").index(4)
    for method in ("leave-one-out", "occlusion", "atman"):
        found = scores(method, text, name="bert")
        assert found[[0, place, -1]].tolist() == [0, 0, 0]
        assert (found[1:place] != 0).all()


def test_atman_scales_the_scores_of_one_column_in_every_layer():
    ids = ids_of(TEXT)
    found = scores(AtMan(suppression=0.5))
    expected = literal.atman(tiny("llama"), ids, TARGET, 0.5)
    assert_close(by_place(found, list(range(1, len(ids)))), expected[1:], rtol=1e-8, atol=1e-10)


def test_atman_in_several_batches_is_the_same(monkeypatch):
    whole = scores(AtMan(), LONG)
    monkeypatch.setattr(_atman, "TOKENS_AT_ONCE", 45)
    assert_close(scores(AtMan(), LONG), whole, rtol=1e-10, atol=1e-11)


def test_atman_suppresses_alike_tokens_together():
    text = "the dog the cat the man"
    ids = ids_of(text)
    same = [i for i, token in enumerate(ids) if token == ids[1]]
    assert len(same) == 3
    factors = [0.1 if i in same else 1.0 for i in range(len(ids))]
    drop = literal.suppressed_logits(tiny("llama"), ids, [1.0] * len(ids)) - literal.suppressed_logits(
        tiny("llama"), ids, factors
    )
    found = scores(AtMan(similarity=0.999), text)
    assert_close(found[same], drop[-1, TARGET].expand(3), rtol=1e-8, atol=1e-10)
    embeddings = tiny("llama").get_input_embeddings().weight[ids].detach()
    cosine = torch.cosine_similarity(embeddings[2], embeddings[4], 0).item()
    asked = task(explainer(), text)
    mild = AtMan(similarity=abs(cosine) / 2)._factors(asked, 0, players_of(asked, 0))["input_ids"]
    assert mild[1, 4].item() == pytest.approx(1 - 0.9 * cosine if cosine > 0 else 1)
    assert mild[1, 2].item() == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_atman_knows_the_keys_of_the_source_from_those_of_the_decoder(name):
    given = {"input_ids": torch.tensor([[9, 10, 11]]), "decoder_input_ids": torch.tensor([[1, 12, 13]])}
    parts = _parts_of_keys(task(explainer(name), given), 0)
    paths = {path: parts[module] for path, module in tiny(name).named_modules() if module in parts}
    assert len(paths) == 6
    for path, part in paths.items():
        own = path.startswith(("model.decoder", "decoder"))
        crosses = "EncDec" in path or "encoder_attn" in path
        assert part == ("decoder_input_ids" if own and not crosses else "input_ids")
    found = scores("atman", given, name=name)
    assert (found[[0, 1, 2, 4, 5]] != 0).all()
    assert found[3] == 0


def test_atman_refuses_what_it_cannot_suppress_or_reproduce(monkeypatch):
    with pytest.raises(ApportionError, match=r"MambaForCausalLM has layers of .* leave-one-out and occlusion fit"):
        scores("atman", name="mamba")
    for option in ({"suppression": 0.0}, {"suppression": 1.5}, {"similarity": 0.0}):
        with pytest.raises(ApportionError, match="give a number above 0 and at most 1"):
            AtMan(**option)
    plain = _atman._plain
    monkeypatch.setattr(_atman, "_plain", lambda heads: (plain(heads)[0] * 1.01, None))
    with pytest.raises(ApportionError, match="in a way that atman does not reproduce"):
        scores("atman")
    implementations = {m.config._attn_implementation for m in tiny("llama").modules() if hasattr(m, "config")}
    assert "apportion" not in implementations


def test_variants_of_different_lengths_run_together():
    asked = task(explainer(), LONG, Target(TARGET), Target(TARGET, position=-2))
    reader = PrefixReader.of(asked, 0)
    masker, variants, starts = as_masker("delete"), [], []
    for absent in ([3], [3, 4, 5], [4, 9], [19, 20], [20]):
        present = torch.ones(len(asked.prompts[0].features), dtype=torch.bool)
        present[absent] = False
        variants.append(masker.variant(asked, 0, present))
        starts.append(absent[0])
    variants.append(Variant(asked.prompts[0], asked.rows[0]))
    starts.append(len(asked.prompts[0].features))
    values = reader.values(variants, starts)
    assert_close(values, asked.evaluate(0, variants), rtol=1e-10, atol=1e-10)
    assert_close(values[-1], torch.tensor(asked.target_values.values[0], dtype=torch.float64), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2", "mixtral"])
def test_the_last_layer_runs_only_where_it_is_read_and_is_given_back(name):
    asked = task(explainer(name), LONG)
    mlps = []
    layer = tiny(name).model.layers[-1]
    handle = layer.post_attention_layernorm.register_forward_hook(lambda *args: mlps.append(args[2].shape[1]))
    reader = PrefixReader.of(asked, 0)
    assert reader.last is layer
    present = torch.ones(len(asked.prompts[0].features), dtype=torch.bool)
    present[5] = False
    variant = as_masker("delete").variant(asked, 0, present)
    mlps.clear()
    found = reader.values([variant], [5])
    handle.remove()
    assert mlps == [1]
    assert_close(found, asked.evaluate(0, [variant]), rtol=1e-10, atol=1e-10)
    assert "forward" not in vars(layer)


def test_a_model_whose_last_layer_must_return_all_rows_is_run_in_full():
    reader = PrefixReader.of(task(explainer("gpt2"), LONG), 0)
    assert reader is not None
    assert reader.last is None
    assert "forward" not in vars(tiny("gpt2").transformer.h[-1])
