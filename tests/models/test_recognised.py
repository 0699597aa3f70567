"""A prompt's form is decided once, and lists and batches are split into their prompts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import BatchEncoding

import apportion as ap
from apportion.models.inputs import Form, each_of, recognised
from apportion.models.inputs._recognised import singles
from tests.test_vision_language import chat, llava


class Reader(nn.Module):
    """Reads text."""

    def forward(self, input_ids: Tensor) -> None: ...


class Seer(nn.Module):
    """Reads images."""

    def forward(self, pixel_values: Tensor) -> None: ...


class Both(nn.Module):
    """Reads images and text."""

    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> None: ...


PIL = Image.new("RGB", (4, 3))
BYTES = np.zeros((3, 4, 3), np.uint8)
PIXELS = torch.zeros(3, 4, 4)
MESSAGES = [{"role": "user", "content": "Hi"}]
SHOWN = [{"role": "user", "content": [{"type": "image", "path": "a.png"}, {"type": "text", "text": "Hi"}]}]
OWN = SimpleNamespace(as_prompt=lambda model: None)
IDS = torch.tensor([[1, 2], [3, 4]])

TABLE: list[tuple[Any, nn.Module, Form, bool, int]] = [
    ("Hi", Reader(), "text", False, 0),
    ("a.png", Reader(), "text", False, 0),
    ("a.png", Both(), "image", False, 1),
    ("a picture", Both(), "text", False, 0),
    ("a picture", Seer(), "image", False, 1),
    (Path("a"), Seer(), "image", False, 1),
    (PIL, Seer(), "image", False, 1),
    (BYTES, Both(), "image", False, 1),
    (PIXELS, Seer(), "image", False, 1),
    (MESSAGES, Reader(), "chat", False, 0),
    (SHOWN, Both(), "mixed", False, 1),
    ({"images": [PIL, PIL], "text": "Hi"}, Both(), "mixed", False, 2),
    ({"image": PIL, "text": "Hi"}, Both(), "mixed", False, 1),
    ([1, 2], Reader(), "ids", False, 0),
    ((1, 2), Reader(), "ids", False, 0),
    (IDS[0], Reader(), "ids", False, 0),
    (IDS[:1], Reader(), "ids", False, 0),
    (IDS, Reader(), "ids", True, 0),
    (BatchEncoding({"input_ids": IDS[:1]}), Reader(), "tensors", False, 0),
    (BatchEncoding({"input_ids": IDS}), Reader(), "tensors", True, 0),
    ({"input_ids": [[1, 2], [3, 4]]}, Reader(), "tensors", True, 0),
    ({"pixel_values": PIXELS[None].expand(2, -1, -1, -1)}, Seer(), "tensors", True, 0),
    ({"audio": np.zeros(9), "sampling_rate": 16000}, Reader(), "sound", False, 0),
    (ap.Pair("a", "b"), Reader(), "texts", False, 0),
    (ap.Pair("a.png", [1, 2]), Reader(), "texts", False, 0),
    (ap.Pair(PIL, "a.png"), Seer(), "images", False, 2),
    (ap.Pair({"pixel_values": PIXELS[None]}, PIL), Seer(), "images", False, 2),
    (ap.Pair("a cat", PIL), Both(), "caption", False, 1),
    (ap.Pair(PIL, ["a cat", "a dog"]), Both(), "caption", False, 1),
    (OWN, Reader(), "own", False, 0),
    ([], Reader(), "list", True, 0),
    (["Hi"], Reader(), "list", True, 0),
    ([[1, 2], [3]], Reader(), "list", True, 0),
    ([MESSAGES, MESSAGES], Reader(), "list", True, 0),
    ([{"image": PIL, "text": "Hi"}], Both(), "list", True, 0),
    ([PIL, PIL], Seer(), "list", True, 0),
    ((word for word in "ab"), Reader(), "list", True, 0),
]


@pytest.mark.parametrize("row", range(len(TABLE)))
def test_a_prompt_is_recognised(row: int) -> None:
    prompt, model, form, several, images = TABLE[row]
    found = recognised(prompt, model)
    assert (found.form, found.several, len(found.images)) == (form, several, images)
    assert found.given is prompt
    assert (found.image is None) == (images != 1)
    assert found.is_pair == isinstance(prompt, ap.Pair)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_caption_has_an_image_and_a_text_in_either_order(swapped: bool) -> None:
    found = recognised(ap.Pair("a cat", PIL) if swapped else ap.Pair(PIL, "a cat"), Both())
    assert found.image is PIL
    assert found.text == "a cat"


@pytest.mark.parametrize(
    ("prompt", "model", "words"),
    [
        (3.5, Reader(), ["float", "give a text", "token ids"]),
        (None, Seer(), ["NoneType", "an image"]),
        (BYTES, Reader(), ["ndarray", "give a text"]),
        (torch.zeros(1, 2), Reader(), ["integers", "inputs_embeds"]),
    ],
)
def test_what_is_no_prompt_is_refused(prompt: Any, model: nn.Module, words: list[str]) -> None:
    with pytest.raises(ap.ApportionError) as refused:
        recognised(prompt, model)
    assert all(word in str(refused.value) for word in words)


def test_lists_and_batches_are_split_into_their_members() -> None:
    assert each_of("Hi", Reader()) == ["Hi"]
    assert each_of(MESSAGES, Reader()) == [MESSAGES]
    assert list(each_of([MESSAGES, 3.5, IDS], Reader())) == [MESSAGES, 3.5, IDS]
    assert [row["input_ids"].tolist() for row in each_of(IDS, Reader())] == [[[1, 2]], [[3, 4]]]
    batch = {"input_ids": IDS, "attention_mask": torch.tensor([[0, 1], [1, 1]]), "scale": torch.tensor(2.0)}
    first, second = each_of(batch, Reader())
    assert first["attention_mask"].tolist() == [[0, 1]]
    assert second["attention_mask"].tolist() == [[1, 1]]
    assert first["scale"] == second["scale"] == 2.0


def test_single_prompts_are_found_in_lists_of_lists_and_batches() -> None:
    found = singles([["Hi", [1, 2]], IDS, ap.Pair("a", "b")], Reader())
    assert [one.form for one in found] == ["text", "ids", "tensors", "tensors", "texts"]
    with pytest.raises(ap.ApportionError, match="empty list"):
        singles([[]], Reader())


def test_a_batch_whose_images_have_no_row_for_each_example_is_refused() -> None:
    with pytest.raises(ap.ApportionError, match="'pixel_values' has no row for each of the 2 examples"):
        each_of({"input_ids": IDS, "pixel_values": torch.zeros(5, 3, 4, 4)}, Both())


def test_a_prompt_that_is_made_keeps_its_form() -> None:
    (made,) = llava().prompts(chat())
    assert made.form == "mixed"
    assert [made.form for made in llava().prompts([[5, 6], {"input_ids": IDS}])] == ["ids", "tensors", "tensors"]


def test_several_chats_with_images_are_explained_like_each_alone() -> None:
    other = [{"role": "user", "content": [chat()[0]["content"][0], {"type": "text", "text": "the cat"}]}]
    together = llava().explain_many([chat(), other], target=5, progress=False)
    for prompt, found in zip([chat(), other], together, strict=True):
        torch.testing.assert_close(found.scores, llava().explain(prompt, target=5, progress=False).scores)
