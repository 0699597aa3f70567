"""What cannot be explained is refused in one line that says what was given and what to do; the model stays the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from apportion import ApportionError, Attribution, Explainer, NonFiniteRelevance, Span, Target
from apportion.relevance import ATTNLRP, record
from tests.checking import unchecked
from tests.tiny import Of, build, tiny, tokenizer

TEXT = "The man who owns the dogs"
KINDS = {"bert": "masked", "bert_classifier": "masked", "bert_token_classifier": "masked", "t5": "seq2seq"}


@pytest.fixture(autouse=True)
def as_users_call_it() -> Iterator[None]:
    with unchecked():
        yield


@cache
def explainer(name: str = "llama") -> Explainer:
    return Explainer(tiny(name), tokenizer(KINDS.get(name, "causal")))


def state_of(model: nn.Module) -> list[Any]:
    """What an error in the middle could leave behind."""
    hooks = [len(v) for m in model.modules() for k, v in vars(m).items() if k.endswith("_hooks")]
    return [hooks, [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]]


def refusal(call: Callable[[], Any], model: nn.Module | None = None, error: type[Exception] = ApportionError) -> str:
    """The message of a refusal, which is one line, and leaves the model as it was."""
    before = state_of(model) if model is not None else None
    with pytest.raises(error) as refused:
        call()
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) > 20
    assert model is None or state_of(model) == before
    return message


def asked(prompt: Any = TEXT, *, of: str = "llama", **options: Any) -> str:
    """How `explain` refuses."""
    return refusal(lambda: explainer(of).explain(prompt, progress=False, **options), tiny(of))


PROMPTS: dict[str, tuple[Any, str, list[str]]] = {
    "empty text": ("", "llama", ["''", "empty"]),
    "only white space": ("  \n ", "llama", ["empty"]),
    "only what the tokenizer adds": ("", "bert_classifier", ["empty"]),
    "an empty list": ([], "llama", ["empty list", "give a text"]),
    "an empty text in a list": ([TEXT, ""], "llama", ["empty"]),
    "no ids": (torch.zeros(1, 0, dtype=torch.long), "llama", ["no tokens"]),
    "ids that are floats": (torch.tensor([[1.0, 2.0]]), "llama", ["integers", "inputs_embeds"]),
    "ids out of the vocabulary": ([5, 96], "llama", ["96", "0 to 95", "tokenizer"]),
    "ids below 0": (torch.tensor([[5, -1]]), "llama", ["-1", "0 to 95"]),
    "a number": (3.5, "llama", ["float", "give a text"]),
    "nothing": (None, "llama", ["NoneType"]),
    "longer than the context": ("the" + " the" * 39, "llama", ["41 tokens", "32", "Shorten"]),
    "longer than GPT-2's context": ("the" + " the" * 39, "gpt2", ["41 tokens", "32"]),
    "inputs without ids": ({"attention_mask": torch.ones(1, 3)}, "llama", ["attention_mask", "input_ids"]),
    "a mask with a hole": (
        {"input_ids": torch.tensor([[5, 9, 9]]), "attention_mask": torch.tensor([[1, 0, 1]])},
        "llama",
        ["holes"],
    ),
    "a mask that hides everything": (
        {"input_ids": torch.tensor([[5, 9]]), "attention_mask": torch.tensor([[0, 0]])},
        "llama",
        ["hides every token"],
    ),
    "a message without content": ([{"role": "user"}], "llama", ["'content'"]),
    "empty messages": ([{"role": "user", "content": " "}], "llama", ["empty"]),
    "messages without a template": ([{"role": "user", "content": "the"}], "t5", ["no chat template", "one text"]),
    "no mask": ("the man is", "bert", ["0 [MASK]", "position="]),
    "two masks": ("the [MASK] is [MASK]", "bert", ["2 [MASK]", "choose one"]),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_a_prompt_that_does_not_fit_is_refused(case):
    prompt, model, words = PROMPTS[case]
    message = asked(prompt, of=model)
    assert all(word in message for word in words), message


OPTIONS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "an unknown method": ("llama", {"method": "shap"}, ["'shap'", "attnlrp", "cp-lrp"]),
    "an unknown class": ("bert_classifier", {"target": "happy"}, ["'happy'", "sad, glad, none"]),
    "a class out of range": ("bert_classifier", {"target": 3}, ["3", "0 to 2"]),
    "a target of two tokens": ("llama", {"target": " dogs"}, ["2 tokens", "' dog' + 's'", "Span(' dogs')"]),
    "a masked target of two tokens": ("bert", {"target": " dogs", "position": 1}, ["2 tokens", "choose one"]),
    "a contrast of two tokens": ("llama", {"target": " is", "contrast": " dogs"}, ["' dogs'", "2 tokens"]),
    "an empty target": ("llama", {"target": ""}, ["0 tokens", "nothing"]),
    "a target id out of range": ("llama", {"target": 96}, ["96", "0 to 95"]),
    "a target id below 0": ("llama", {"target": -1}, ["-1", "0 to 95"]),
    "a target of another type": ("llama", {"target": 1.5}, ["1.5", "float"]),
    "no targets": ("llama", {"target": []}, ["empty list"]),
    "a contrast equal to the target": ("llama", {"target": " is", "contrast": ["is"]}, ["both", "always 0"]),
    "a misspelt unit": ("llama", {"unit": "logits"}, ["'logits'", "'logit', 'log-probability', 'probability'"]),
    "a position out of range": ("llama", {"position": 9}, ["9", "9 tokens"]),
    "a negative position out of range": ("llama", {"position": -10}, ["-10", "9 tokens"]),
    "a position that is a word twice": ("llama", {"position": "s"}, ["'s'", "matches 2"]),
    "a position that is no word": ("bert_token_classifier", {"position": "cat"}, ["'cat'", "matches 0"]),
    "a position for a text's class": ("bert_classifier", {"position": 0}, ["one output per text"]),
    "a token classifier without position": ("bert_token_classifier", {"target": "glad"}, ["position=0", "dog"]),
    "a span for a classifier": (
        "bert_classifier",
        {"target": Span("glad")},
        ["continuation", "BertForSequenceClassification"],
    ),
    "a span for a masked model": ("bert", {"target": Span(" is")}, ["continuation"]),
    "a span out of the vocabulary": ("llama", {"target": Span((5, 96))}, ["96", "0 to 95"]),
    "a span and another target": ("llama", {"target": [Span(" is"), " are"]}, ["only target"]),
    "a contrast to a function": ("llama", {"target": lambda o: o.logits.sum(), "contrast": " is"}, ["inside Target"]),
    "a function of several numbers": ("llama", {"target": lambda o: o.logits[0, -1]}, ["shape (96,)", "one number"]),
    "a function of no output": ("llama", {"target": lambda o: torch.zeros(())}, ["does not depend"]),
    "a detached function": ("llama", {"target": lambda o: o.logits.detach().sum()}, ["does not depend"]),
    "unknown features": ("llama", {"features": "letters"}, ["'letters'", "'words'"]),
    "a span of features that is not there": ("llama", {"features": ["cats"]}, ["'cats'", "0 times"]),
    "a span of features that is there twice": ("llama", {"features": ["he"]}, ["'he'", "2 times"]),
    "spans of features that overlap": ("llama", {"features": ["man who", "who owns"]}, ["overlap"]),
    "unknown positions": ("gpt2", {"positions": "together"}, ["'together'", "'added'"]),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_an_option_that_does_not_fit_is_refused(case):
    model, options, words = OPTIONS[case]
    message = asked(of=model, **options)
    assert all(word in message for word in words), message


def test_a_batch_of_none_is_refused():
    assert "batch_size=0" in refusal(lambda: explainer().explain_many([TEXT], batch_size=0))


def test_a_misspelt_option_is_a_type_error():
    with pytest.raises(TypeError, match="methd"):
        explainer().explain(TEXT, methd="cp-lrp")  # type: ignore[call-arg]


def test_a_wrong_unit_in_a_target_is_refused_where_it_is_written():
    assert "'logits'" in refusal(lambda: Target(" is", unit="logits"))  # type: ignore[arg-type]
    assert "empty" in refusal(lambda: Span(""))


def test_a_text_or_a_chat_needs_a_tokenizer():
    bare = Explainer(tiny("llama"))
    for prompt in (TEXT, [{"role": "user", "content": "the"}]):
        assert "Explainer(model, tokenizer)" in refusal(lambda p=prompt: bare.explain(p))
    assert "token ids" in refusal(lambda: bare.explain([5, 9], target=" is"))
    assert "position=" in refusal(lambda: Explainer(tiny("bert")).explain([5, 9]))


def test_a_tokenizer_of_another_model_is_refused():
    large = tokenizer()
    large.add_tokens([f"word{i}" for i in range(40)])
    message = refusal(lambda: Explainer(tiny("llama"), large))
    assert str(len(large)) in message
    assert "96" in message
    assert "same place" in message


def test_the_name_of_a_model_is_no_model():
    assert "str" in refusal(lambda: Explainer("gpt2"))  # type: ignore[arg-type]


def test_the_name_of_a_tokenizer_is_no_tokenizer():
    assert "str" in refusal(lambda: Explainer(tiny("llama"), "gpt2"))


def test_a_model_without_weights_is_refused():
    with torch.device("meta"):
        model = Of(lambda input_ids, inner: inner(input_ids), inner=nn.Embedding(4, 2))
    message = refusal(lambda: Explainer(model))
    assert "'inner.weight'" in message
    assert "meta device" in message


compiling = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@compiling
def test_a_compiled_model_is_refused():
    in_place = build("gpt2")
    in_place.compile()
    for compiled in (torch.compile(build("gpt2")), in_place):
        message = refusal(lambda c=compiled: Explainer(c))
        assert "compiled" in message
        assert "_orig_mod" in message


@compiling
def test_a_model_with_a_compiled_part_is_refused():
    model = build("gpt2")
    model.transformer.h[1].mlp.compile()
    assert "transformer.h.1.mlp" in refusal(lambda: Explainer(model))


@compiling
def test_a_model_that_is_compiled_after_the_explainer_was_made_is_refused():
    model = build("gpt2")
    made = Explainer(model)
    model.compile()
    assert "compiled" in refusal(lambda: made.explain([5, 9]))


@pytest.mark.parametrize("method", ["attnlrp", "cp-lrp", "input-x-gradient"])
def test_weights_that_are_nan_are_named(method):
    model = build("gpt2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = math.nan
    message = refusal(lambda: Explainer(model).explain([5, 9, 12], method=method, target=3), model, NonFiniteRelevance)
    assert "'transformer.h.1.mlp.c_fc.weight'" in message


def test_an_output_that_was_detached_is_refused():
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(4, 2)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return self.embedding(input_ids).detach().sum(1)

    model = Detached()
    trace = record(model, {"input_ids": torch.tensor([[1, 2]])})
    message = refusal(lambda: trace.propagate(trace.output, torch.ones(1, 1, 2), ATTNLRP), model)
    assert "detached" in message


def test_a_model_without_logits_needs_a_function():
    model = build("gpt2").transformer
    bare = Explainer(model)
    assert "no logits" in refusal(lambda: bare.explain([5, 9]), model)
    found = bare.explain([5, 9], target=lambda output: output.last_hidden_state[0, -1, 0])
    assert found.ledger.relative_residual.item() < 1e-12


def test_one_prompt_at_a_time_is_compared():
    assert "2 were given" in refusal(lambda: explainer().compare([TEXT, TEXT]))
    assert "two methods are called" in refusal(lambda: explainer().compare(TEXT, methods=["attnlrp", "attnlrp"]))


def test_a_file_that_is_no_attribution_is_refused(tmp_path):
    from safetensors.torch import save_file

    assert "no file" in refusal(lambda: Attribution.load(tmp_path / "none"))
    (tmp_path / "text").write_text("half a file")
    assert "not a safetensors file" in refusal(lambda: Attribution.load(tmp_path / "text"))
    save_file({"a": torch.ones(2)}, tmp_path / "other")
    assert "holds no result" in refusal(lambda: Attribution.load(tmp_path / "other"))
    found = explainer().explain(TEXT)
    assert "no folder" in refusal(lambda: found.save(tmp_path / "nowhere" / "a.safetensors"))


def test_an_attribution_of_several_targets_is_indexed_first():
    several = explainer().explain(TEXT, target=[" is", " are"])
    for call in (lambda: several.target, several.top, lambda: several[0][0]):
        assert "index" in refusal(call)


def test_after_every_refusal_the_next_question_is_answered():
    model, words = build("gpt2"), tokenizer()
    made = Explainer(model, words)
    expected = made.explain(TEXT).scores
    for prompt, options in [
        ("", {}),
        (TEXT, {"target": 96}),
        (TEXT, {"position": 40}),
        ("the " * 40, {}),
        (TEXT, {"target": lambda o: 1}),
    ]:
        refusal(lambda p=prompt, o=options: made.explain(p, **o), model)
    assert torch.equal(made.explain(TEXT).scores, expected)
    assert isinstance(words, PreTrainedTokenizerFast)
