"""What the documentation's examples find: tiny models under the documented names, images, texts, a recording."""

from __future__ import annotations

import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import apportion as ap
from apportion.evaluation.agreement import agreement_sentences
from apportion.evaluation.questions import questions
from tests.docs.pages import DOCS, PAGES, ROOT, blocks
from tests.test_sound import speech

WEIGHTS = ROOT / "benchmarks" / "shapes" / "weights"
CHAT = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>{% endif %}"
)
SIZES: dict[str, Any] = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
LABELS = ["tabby", "tiger", "cat", "coffee"]
IMAGES = ("cat.png", "yard.png", "shapes.png", "mosaic.png")
TEXTS = [
    "The keys to the cabinet",
    "The capital of France is",
    "The man who owns the dogs",
    "Why is the sky blue?",
    "A cat on a sofa",
]
RATE = 16_000


def make(folder: Path) -> None:
    """Fill a folder with everything that the examples name."""
    texts = [block.code for page in PAGES for block in blocks(page) if block.language in ("python", "sh", "json")]
    texts += [f"{sentence.text} {sentence.bad}" for sentence in agreement_sentences(count=200)]
    texts += [text for asked in questions(count=200) for text in (asked.context, asked.question, asked.opening)]
    language_model(folder / "my-model", texts)
    sentence_encoder(folder / "sentence-transformers" / "all-MiniLM-L6-v2", texts)
    image_model(folder / "my-vit", "ViTForImageClassification")
    image_model(folder / "dinov2", "ViTModel")
    (folder / "openai").mkdir()
    for name in ("clip", "openai/clip-vit-base-patch16"):
        (folder / name).symlink_to(WEIGHTS / "clip", target_is_directory=True)
    (folder / "vlm").symlink_to(WEIGHTS / "vlm", target_is_directory=True)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    for name in IMAGES:
        Image.fromarray(pixels).save(folder / name)
    with wave.open(str(folder / "sentence.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((8000 * np.sin(np.arange(RATE // 2) / 9)).astype("<i2").tobytes())
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    (items,) = (block.code for block in blocks(DOCS / "evaluation.md") if block.language == "json")
    (folder / "mine.jsonl").write_text(items)


def tokenizer(texts: list[str], *, begin: str, end: str) -> transformers.PreTrainedTokenizerFast:
    """Whole words as tokens, with the space before them: every word of the texts."""
    raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<unk>", "<pad>", begin, end]
    # Each word in the middle of a text as well as at its beginning.
    both = [text for whole in texts for text in (whole, *(f" {word}" for word in whole.split()), *whole.split())]
    raw.train_from_iterator(both, trainers.WordLevelTrainer(vocab_size=30_000, special_tokens=special))
    raw.post_processor = processors.TemplateProcessing(f"{begin} $A", special_tokens=[(begin, 2)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token=begin,
        eos_token=end,
        chat_template=CHAT,
    )


def language_model(folder: Path, texts: list[str]) -> None:
    """A random Llama whose vocabulary has the words of all examples."""
    words = tokenizer(texts, begin="<s>", end="</s>")
    torch.manual_seed(0)
    ids = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
    config = transformers.LlamaConfig(vocab_size=len(words), max_position_embeddings=512, **SIZES, **ids)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)


def sentence_encoder(folder: Path, texts: list[str]) -> None:
    words = tokenizer(texts, begin="[CLS]", end="[SEP]")
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **SIZES)).save_pretrained(folder)
    words.save_pretrained(folder)


def image_model(folder: Path, architecture: str) -> None:
    """A random vision transformer with 8 × 8 patches."""
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: k for k, name in enumerate(LABELS)}}
    config = transformers.ViTConfig(image_size=64, patch_size=8, **SIZES, **names)
    getattr(transformers, architecture)(config).save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)


def names(page: str) -> dict[str, Any]:
    """What a page's Python blocks may use without having made it."""
    return {"ap": ap, **OTHERS.get(page, language)()}


def language() -> dict[str, Any]:
    explainer = ap.load("./my-model")
    made = {"explainer": explainer, "model": explainer.model, "tokenizer": explainer.processor}
    return {**made, "prompt": TEXTS[0], "texts": TEXTS}


def vision() -> dict[str, Any]:
    """Models that see, and what they are asked."""
    vit = ap.load("./my-vit")
    backbone = transformers.ViTModel.from_pretrained("./dinov2").eval()
    asked = [{"type": "image", "image": "shapes.png"}, {"type": "text", "text": "what colour is the circle ?"}]
    models = {"vit": vit, "clip": ap.load("./clip"), "vlm": ap.load("./vlm"), "dinov2": backbone}
    files = {"PATH": "./my-vit", "image": picture(), "processor": vit.processor}
    return {**models, **files, "direction": torch.ones(8), "messages": [{"role": "user", "content": asked}]}


def gallery() -> dict[str, Any]:
    return {**vision(), "explainer": ap.load("./my-vit"), "whisper": speech()}


def picture() -> Image.Image:
    with Image.open("cat.png") as opened:
        return opened.convert("RGB")


def diffusion() -> dict[str, Any]:
    """A tiny Flux in the place of a pipeline's transformer."""
    pytest.importorskip("diffusers")
    from tests.diffusion.tiny_diffusion import PROMPT, TEXT, tiny

    transformer, inputs = tiny("flux")
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1] = True
    pipe = Pipeline(transformer, inputs, TEXT)
    return {"pipe": pipe, "inputs": inputs, "tokens": TEXTS[0].split()[:PROMPT], "mask": mask}


class Pipeline:
    """What the examples use of a diffusers pipeline."""

    def __init__(self, transformer: torch.nn.Module, inputs: dict[str, Any], width: int) -> None:
        self.transformer, self.inputs, self.width = transformer, inputs, width

    def encode_prompt(self, text: str) -> tuple[torch.Tensor]:
        generator = torch.Generator().manual_seed(len(text))
        return (torch.randn(1, 1, self.width, dtype=torch.float64, generator=generator),)

    def __call__(self, prompt: str) -> SimpleNamespace:
        with torch.no_grad():
            self.transformer(**self.inputs)
        return SimpleNamespace(images=[picture()])


OTHERS = {
    "docs/diffusion.md": diffusion,
    "docs/gallery.md": gallery,
    "docs/images.md": vision,
    "docs/index.md": lambda: {**vision(), **language()},
}
