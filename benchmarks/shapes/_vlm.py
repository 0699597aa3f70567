"""A small LLaVA that answers questions about pictures of shapes; it looks through the eyes of the trained CLIP."""

from collections.abc import Sequence
from itertools import islice

import torch
from numpy.random import Generator, default_rng
from rich.progress import track
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    CLIPModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from benchmarks.shapes._clip import PATCH, image_processor, pixel_values
from benchmarks.shapes._optimisers import Descent
from benchmarks.shapes._pictures import Picture, pictures
from benchmarks.shapes._questions import Question, random_question
from benchmarks.shapes._tokenizer import IMAGE, chat_tokenizer

IGNORED = -100


def new_vlm(clip: CLIPModel, words: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """CLIP's vision tower as it is, read at the last but one layer; a random projector, a random Llama of 3 layers."""
    llama = LlamaConfig(
        vocab_size=len(words),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=128,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    image_token = words.convert_tokens_to_ids(IMAGE)
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=clip.config.vision_config, text_config=llama, image_token_id=image_token)
    )
    model.model.vision_tower.load_state_dict(clip.vision_model.state_dict())
    return model


def vlm_processor(words: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Puts as many <image> tokens as the picture has patches: 64."""
    return LlavaProcessor(
        image_processor(),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=words.chat_template,
        num_additional_image_tokens=1,
    )


def train_vlm(
    clip: CLIPModel, steps: int, *, seed: int = 1, batch: int = 32
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Train projector and Llama on `steps` batches of new pictures; the tower stays as it is.

    Each picture comes with a dialogue of three questions. The loss is the cross-entropy of the answers and of the ends
    that follow them.
    """
    torch.manual_seed(seed)
    processor = vlm_processor(chat_tokenizer())
    model = new_vlm(clip, processor.tokenizer).train()
    model.model.vision_tower.requires_grad_(False)
    random, descent, mean = default_rng(seed), Descent([model], steps, rate=2e-3), 0.0
    shown = pictures(steps * batch, seed, things=(1, 2, 2, 2))
    for step in track(range(steps), "VLM"):
        seen = list(islice(shown, batch))
        tokens, labels = question_tokens(processor, [_dialogue(picture, random) for picture in seen])
        logits = model(pixel_values=pixel_values(seen), **tokens).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        mean += (loss.item() - mean) / min(step + 1, 50)
        descent.step(loss)
        if step % 50 == 49:
            print(f"step {step + 1}: loss {mean:.3f}")
    return model.eval().requires_grad_(True), processor


def question_tokens(
    processor: LlavaProcessor, dialogues: Sequence[Sequence[Question]]
) -> tuple[dict[str, Tensor], Tensor]:
    """The tokens of dialogues with their answers, and the labels: the answers' tokens alone, `IGNORED` elsewhere."""
    words = processor.tokenizer
    patches = (processor.image_processor.crop_size["height"] // processor.patch_size) ** 2
    rows = []
    for dialogue in dialogues:
        ids = words(IMAGE * patches).input_ids
        labels = [IGNORED] * len(ids)
        for question in dialogue:
            asked = words(question.text, add_special_tokens=False).input_ids
            answer = [*words(question.answer, add_special_tokens=False).input_ids, words.eos_token_id]
            ids += asked + answer
            labels += [IGNORED] * len(asked) + answer
        rows.append((torch.tensor(ids), torch.tensor(labels)))
    all_ids, all_labels = zip(*rows, strict=True)
    padded = pad_sequence(all_ids, batch_first=True, padding_value=words.pad_token_id)
    mask = (padded != words.pad_token_id).long()
    return {"input_ids": padded, "attention_mask": mask}, pad_sequence(all_labels, True, IGNORED)


def _dialogue(picture: Picture, random: Generator) -> list[Question]:
    """Three different questions."""
    asked: dict[str, Question] = {}
    while len(asked) < 3:
        question = random_question(picture, random)
        asked.setdefault(question.text, question)
    return list(asked.values())
