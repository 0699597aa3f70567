"""Loading: what was saved comes back as it was, and what cannot be explained is refused in one line."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.testing import assert_close
from transformers.utils import logging as transformers_logging

from apportion.core._errors import ApportionError
from apportion.models import _demo, load

SIZES = {
    "vocab_size": 12,
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def save_tokenizer(folder: Path) -> None:
    words = ["<unk>", "<s>", "</s>", "the", "man", "who", "owns", "dogs", "is", "are", ".", ","]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)


@pytest.fixture
def llama(tmp_path):
    """A random Llama and the folder it was saved in, with a tokenizer."""
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)).eval()
    model.save_pretrained(tmp_path / "llama")
    save_tokenizer(tmp_path / "llama")
    return model, tmp_path / "llama"


def edit_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def refusal(name, **options):
    """The message `load` refuses with, which must be one line."""
    with pytest.raises(ApportionError) as refused:
        load(name, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_what_was_saved_comes_back(llama):
    saved, folder = llama
    model, tokenizer = load(folder)
    ids = tokenizer("the man who owns the dogs", return_tensors="pt").input_ids
    assert ids.tolist() == [[3, 4, 5, 6, 3, 7]]
    assert_close(model(ids).logits, saved(ids).logits, rtol=0, atol=0)
    assert not model.training
    assert model.config._attn_implementation == "sdpa"


def test_the_name_may_be_a_string(llama):
    assert type(load(str(llama[1]))[0]) is transformers.LlamaForCausalLM


def test_half_precision_weights_load_in_float32_unless_asked(llama):
    saved, folder = llama
    saved.half().save_pretrained(folder)
    assert load(folder)[0].dtype == torch.float32
    assert load(folder, dtype=torch.bfloat16)[0].dtype == torch.bfloat16
    assert load(folder, dtype="float64")[0].dtype == torch.float64


def test_attention_can_be_chosen(llama):
    assert load(llama[1], attention="eager")[0].config._attn_implementation == "eager"


@pytest.mark.parametrize(
    "model_class",
    [
        transformers.BertForMaskedLM,
        transformers.BertForSequenceClassification,
        transformers.BertForTokenClassification,
        transformers.BertLMHeadModel,
    ],
)
def test_the_head_it_was_saved_with_is_the_head_it_gets(tmp_path, model_class):
    model_class(transformers.BertConfig(**SIZES, is_decoder="LM" in model_class.__name__)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    assert type(load(tmp_path)[0]) is model_class


def test_an_encoder_decoder_loads(tmp_path):
    sizes = {"vocab_size": 12, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    assert type(load(tmp_path)[0]) is transformers.T5ForConditionalGeneration


def test_a_model_without_a_head_is_refused(tmp_path):
    transformers.BertModel(transformers.BertConfig(**SIZES)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    message = refusal(tmp_path)
    assert "BertModel" in message
    assert "sequence classifiers" in message


def test_a_checkpoint_that_names_no_class_is_refused(llama):
    edit_config(llama[1], architectures=None)
    assert "no class at all" in refusal(llama[1])


def test_weights_that_the_checkpoint_lacks_are_not_made_up(llama):
    edit_config(llama[1], num_hidden_layers=2)
    message = refusal(llama[1])
    assert "lacks 9 of the weights" in message
    assert "model.layers.1.input_layernorm.weight" in message


def test_weights_of_another_shape_are_not_made_up(llama):
    edit_config(llama[1], intermediate_size=16)
    assert "model.layers.0.mlp.down_proj.weight" in refusal(llama[1])


def test_broken_weights_are_refused(llama):
    (llama[1] / "model.safetensors").write_bytes(b"half a file")
    assert "does not load as LlamaForCausalLM" in refusal(llama[1])


def test_a_model_without_a_tokenizer_is_refused(llama):
    for file in llama[1].glob("tokenizer*"):
        file.unlink()
    assert "no tokenizer that loads" in refusal(llama[1])


def test_a_config_that_transformers_does_not_know_is_refused(llama):
    edit_config(llama[1], model_type="made-up")
    assert "made-up" in refusal(llama[1])
    (llama[1] / "config.json").write_text("{")
    assert "config.json" in refusal(llama[1])


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    assert "there is no folder" in refusal(tmp_path / "nowhere")
    assert "there is no folder" in refusal("./nowhere")


def test_a_folder_that_is_no_model_and_a_file_are_refused(tmp_path):
    assert "holds no config.json" in refusal(tmp_path)
    (tmp_path / "model.gguf").touch()
    assert "is a file" in refusal(tmp_path / "model.gguf")


@pytest.mark.parametrize("name", ["gpt2", "nobody/nothing"])
def test_a_hub_name_that_is_not_here_is_refused_offline(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refusal(name)
    assert repr(name) in message
    assert "while online" in message


@pytest.mark.parametrize("dtype", ["float31", "int8", torch.int64, "nn"])
def test_a_dtype_that_is_not_floating_is_refused(llama, dtype):
    assert "must be a floating type" in refusal(llama[1], dtype=dtype)


def test_a_device_that_is_not_there_is_refused(llama):
    assert "device" in refusal(llama[1], device="abacus")
    if not torch.cuda.is_available():
        assert "'cuda'" in refusal(llama[1], device="cuda")


def test_loading_is_silent_and_gives_transformers_its_voice_back(llama, capfd):
    transformers_logging.set_verbosity_info()
    transformers_logging.enable_progress_bar()
    try:
        load(llama[1])
        refusal(llama[1].parent)
        edit_config(llama[1], num_hidden_layers=2)
        refusal(llama[1])
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity_warning()
    assert "".join(capfd.readouterr()) == ""


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _demo.cache_folder() == tmp_path / "apportion"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")  # to be ignored, says the XDG specification
    assert _demo.cache_folder() == Path.home() / ".cache" / "apportion"


def test_an_interrupted_folder_leaves_nothing(tmp_path):
    def interrupted():
        with _demo.written_whole(tmp_path / "cache" / "model") as draft:
            (draft / "config.json").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_appears_only_when_it_is_whole(tmp_path):
    with _demo.written_whole(tmp_path / "model") as draft:
        (draft / "config.json").write_text("whole")
        assert not (tmp_path / "model").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "config.json").read_text() == "whole"


def test_the_first_of_two_processes_wins(tmp_path):
    with _demo.written_whole(tmp_path / "model") as slow:
        (slow / "config.json").write_text("slow")
        with _demo.written_whole(tmp_path / "model") as fast:
            (fast / "config.json").write_text("fast")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "config.json").read_text() == "fast"


def test_what_a_killed_process_left_goes_after_a_day(tmp_path):
    for name, age in (".model-old", 25 * 3600), (".model-young", 3600):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with _demo.written_whole(tmp_path / "model"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model-young", "model"]


def test_a_demo_without_its_wheel_says_what_to_install(monkeypatch):
    monkeypatch.setattr(_demo, "WHEEL", "no-such-wheel==1.0")
    assert "pip install --no-deps no-such-wheel==1.0" in refusal("demo")


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """A wheel that is there, and an empty cache."""
    monkeypatch.setattr(_demo, "_find_wheel", lambda: ("0.1.2", tmp_path / "model.gguf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "model.gguf"


def test_a_demo_without_gguf_says_what_to_install(monkeypatch, wheel):
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "pip install 'apportion[demo]'" in refusal("demo")
    assert list(_demo.cache_folder().iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, wheel, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert "XDG_CACHE_HOME" in refusal("demo")


def test_the_demo_is_converted_once(monkeypatch, wheel, llama):
    conversions = []

    def convert(gguf_file, folder):
        conversions.append(gguf_file)
        llama[0].half().save_pretrained(folder)
        save_tokenizer(folder)

    monkeypatch.setattr(_demo, "convert", convert)
    for _ in range(2):
        model, tokenizer = load("demo")
    assert conversions == [wheel]
    assert model.dtype == torch.float32
    assert model.name_or_path == tokenizer.name_or_path == "SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo, converted for these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield load("demo")


def next_token_logits(demo, prompt):
    model, tokenizer = demo
    with torch.inference_mode():
        logits = model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1]
    return lambda word: logits[tokenizer(word).input_ids].item(), tokenizer.decode(logits.argmax())


@pytest.mark.real
def test_the_demo_says_what_the_examples_show(demo):
    logit, best = next_token_logits(demo, "The capital of France is")
    assert best == " Paris"
    logit, _ = next_token_logits(demo, "The man who owns the dogs")
    assert logit(" is") > logit(" are") + 1


@pytest.mark.real
def test_the_demo_equals_transformers_reading_of_the_file(demo):
    model, tokenizer = demo
    file = _demo._find_wheel()[1]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    expected = theirs.state_dict()
    assert model.state_dict().keys() == expected.keys()
    for name, weight in model.state_dict().items():
        assert_close(weight, expected[name].half().float(), rtol=0, atol=0, msg=name)
    ids = tokenizer("The man who owns the dogs", return_tensors="pt").input_ids
    with torch.inference_mode():
        assert_close(model(ids).logits, theirs.eval()(ids).logits, rtol=0, atol=0.1)  # float16 weights


@pytest.mark.real
def test_the_demo_s_tokenizer_splits_words_as_transformers_does_and_numbers_into_digits(demo):
    _, tokenizer = demo
    file = _demo._find_wheel()[1]
    theirs = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    text = "Don't panic — naïve “quotes”,\n\n\ttabs   and 日本語 <|im_start|>user\nHi<|im_end|>"
    assert tokenizer(text).input_ids == theirs(text).input_ids
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.tokenize("in  2024") == ["in", "ĠĠ", "2", "0", "2", "4"]
    chat = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == theirs.apply_chat_template(chat, tokenize=False)
