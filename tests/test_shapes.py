"""The shapes: their pictures are what they say, and the models that ship with them work."""

from itertools import islice

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from PIL import Image

from benchmarks.shapes._answers import answered
from benchmarks.shapes._clip import batches, pixel_values
from benchmarks.shapes._models import shapes_clip, shapes_vlm
from benchmarks.shapes._naming import PLACED, UNCLEAR, crowd, names_of, places_of
from benchmarks.shapes._pictures import PAINT, Picture, draw, pictures
from benchmarks.shapes._questions import Question, questions, random_question
from benchmarks.shapes._retrieval import held_out, retrieval_accuracy
from benchmarks.shapes._scenes import SHAPES, WORDS, Scene, neighbours
from benchmarks.shapes._tokenizer import IMAGE, chat_tokenizer, tokenizer
from benchmarks.shapes._vlm import IGNORED, question_tokens


@pytest.fixture(scope="module", params=[64, 32])
def some(request: pytest.FixtureRequest) -> list[Picture]:
    return list(pictures(60, seed=5, side=request.param))


@pytest.fixture(scope="module")
def clip():
    return shapes_clip()


@pytest.fixture(scope="module")
def vlm():
    return shapes_vlm()


def test_a_mask_is_where_the_colour_is(some):
    """Pixels are named anew by the nearest of all paints and grey, in hue alone."""
    hues = {name: np.array(rgb) - np.mean(rgb) for name, rgb in PAINT.items()}
    for picture in some:
        pixels = picture.image.astype(float)
        hue = pixels - pixels.mean(-1, keepdims=True)
        covered = np.linalg.norm(hue, axis=-1) > 40
        nearest = np.array(list(hues))[np.argmax([hue @ h / np.linalg.norm(h) for h in hues.values()], axis=0)]
        for colour in PAINT:
            mask = picture.mask_of(colour)
            seen = covered & (nearest == colour)
            inside, around = _shrunk(mask), ~_shrunk(~mask)  # the edge is mixed with the background
            assert seen[inside].all()
            assert not seen[~around].any()


def test_a_caption_says_what_the_masks_show(some):
    for picture in some:
        first, *rest = picture.things
        assert picture.caption.startswith(f"a {first.colour} {first.shape}")
        if not rest:
            assert picture.relation is None
            assert len(picture.caption.split()) == 3
            continue
        (second,) = rest
        assert picture.caption == f"a {first.colour} {first.shape} {picture.relation} a {second.colour} {second.shape}"
        (x, y), (other_x, other_y) = (np.argwhere(thing.mask)[:, ::-1].mean(0) for thing in picture.things)
        across, down = other_x - x, other_y - y
        seen = {"above": down, "below": -down, "left of": across, "right of": -across}
        assert max(seen, key=seen.get) == picture.relation


def test_things_are_whole_apart_and_boxed(some):
    for picture in some:
        side = len(picture.image)
        for thing in picture.things:
            left, top, right, bottom = thing.box
            assert 0 <= left < right <= side
            assert 0 <= top < bottom <= side
            box = np.zeros_like(thing.mask)
            box[top:bottom, left:right] = True
            assert not thing.mask[~box].any()
            assert thing.mask[:, [left, right - 1]].any(0).all()
            assert thing.mask[[top, bottom - 1]].any(1).all()
            assert thing.mask.sum() > 0.015 * side**2
        assert np.sum([thing.mask for thing in picture.things], axis=0).max() == 1
        assert len({(thing.colour, thing.shape) for thing in picture.things}) == len(picture.things)


def test_shapes_fill_their_boxes_as_geometry_says():
    parts = {"circle": np.pi / 4, "square": 1, "triangle": 1 / 2, "cross": 1 - (1 - 0.36) ** 2}
    for shape, part in parts.items():
        picture = draw(Scene((("red", shape),), None), default_rng(0), side=512)
        left, top, right, bottom = picture.things[0].box
        assert abs((right - left) - (bottom - top)) <= 2
        assert picture.things[0].mask[top:bottom, left:right].mean() == pytest.approx(part, abs=0.02)


def test_the_same_seed_gives_the_same_pictures_at_every_size():
    first, again, other = (list(pictures(8, seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(a.image, b.image) and a.caption == b.caption for a, b in zip(first, again, strict=True))
    assert not all(a.caption == b.caption for a, b in zip(first, other, strict=True))
    small = list(pictures(8, 3, side=32))
    assert [picture.caption for picture in small] == [picture.caption for picture in first]
    for one, other in zip(first, small, strict=True):
        assert np.allclose(one.things[0].box, 2 * np.array(other.things[0].box), atol=2)


def test_the_number_of_things_is_as_asked():
    assert {len(picture.things) for picture in pictures(20, 0, things=(2,))} == {2}
    assert {len(picture.things) for picture in pictures(20, 0, things=(1, 2))} == {1, 2}
    with pytest.raises(ValueError, match="1 or 2"):
        list(pictures(1, 0, things=(3,)))


def test_neighbours_differ_in_the_respect_they_name():
    scene = Scene((("red", "circle"), ("blue", "square")), "above")
    found = list(neighbours(scene))
    assert [respect for respect, _ in found].count("relation") == 3
    assert [respect for respect, _ in found].count("colour") == 8
    assert [respect for respect, _ in found].count("shape") == 6
    assert [near.caption for respect, near in found if respect == "binding"] == ["a blue circle above a red square"]
    assert not any(near.same(scene) for _, near in found)
    assert scene.turned.caption == "a blue square below a red circle"
    assert scene.same(scene.turned)


def test_a_patch_bears_the_name_of_what_lies_on_it():
    random = default_rng(0)
    for _ in range(5):
        image, things = crowd(random, 64)
        assert image.shape == (64, 64, 3)
        assert np.sum([thing.mask for thing in things], axis=0).max() == 1
        names = names_of([things], 64, 8)[0].tolist()
        for patch, name in enumerate(names):
            y, x = 8 * (patch // 8), 8 * (patch % 8)
            touching = [thing for thing in things if thing.mask[y : y + 8, x : x + 8].any()]
            if not touching:
                assert name == 0
            elif len(touching) > 1 or touching[0].mask[y : y + 8, x : x + 8].sum() < 16:
                assert name == UNCLEAR
            else:
                assert divmod(name - 1, 4) == (list(PAINT).index(touching[0].colour), SHAPES.index(touching[0].shape))


def test_a_word_is_placed_where_its_only_thing_is():
    for picture in pictures(10, seed=1):
        for word, place in zip(PLACED, places_of([picture.things], 64)[0], strict=True):
            named = [thing for thing in picture.things if word in (thing.colour, thing.shape)]
            if len(named) == 1:
                rows, columns = np.nonzero(named[0].mask)
                middle = [(columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2]
                assert place.tolist() == pytest.approx((np.array(middle) - 32) / 16)
            else:
                assert place.isnan().all()


def test_a_batch_holds_no_caption_that_is_true_of_another_picture():
    for shown, captions in islice(batches(0, 16), 2):
        assert len(shown) == 64
        assert [picture.caption for picture in shown] == captions[:64]
        true = [{picture.scene.caption, picture.scene.turned.caption} for picture in shown]
        assert all((caption in names) == (k == j) for k, names in enumerate(true) for j, caption in enumerate(captions))


def test_every_word_is_one_token():
    words = tokenizer()
    for picture in pictures(30, 0):
        ids = words(picture.caption).input_ids
        assert words.decode(ids) == f"<|startoftext|> {picture.caption} <|endoftext|>"
        assert len(ids) == len(picture.caption.split()) + 2
    assert words("a Red circle").input_ids == words("a red circle").input_ids
    assert words("a pink circle").input_ids.count(words.unk_token_id) == 1
    assert set(WORDS) < set(chat_tokenizer().get_vocab())


def test_questions_are_answered_by_the_thing_they_are_about():
    for picture in pictures(40, seed=9):
        for question in questions(picture):
            assert question.thing is None or set(question.answer.split()) <= {
                question.thing.colour,
                question.thing.shape,
                (picture.relation or "").removesuffix(" of"),
                (picture.scene.turned.relation or "").removesuffix(" of"),
            }
    scene = Scene((("red", "circle"), ("blue", "circle")), "left of")
    asked = {question.text: question.answer for question in questions(draw(scene, default_rng(0)))}
    assert asked == {
        "what shape is red ?": "circle",
        "what shape is blue ?": "circle",
        "where is the red circle ?": "left",
        "where is the blue circle ?": "right",
        "what is left of the blue circle ?": "red circle",
        "what is right of the blue circle ?": "nothing",
        "what is above the blue circle ?": "nothing",
        "what is below the blue circle ?": "nothing",
        "what is left of the red circle ?": "nothing",
        "what is right of the red circle ?": "blue circle",
        "what is above the red circle ?": "nothing",
        "what is below the red circle ?": "nothing",
        "how many things ?": "two",
    }


def test_clip_finds_captions_and_pictures(clip):
    by_picture, by_caption = retrieval_accuracy(*clip, held_out(60))
    assert by_picture >= 0.95
    assert by_caption >= 0.95


def test_training_sees_what_the_processors_make_of_pictures(clip, vlm):
    shown = list(pictures(2, 0))
    for _, processor in (clip, vlm):
        made = processor.image_processor([Image.fromarray(picture.image) for picture in shown], return_tensors="pt")
        assert torch.allclose(made["pixel_values"], pixel_values(shown), atol=1e-6)


def test_the_vlm_answers(vlm):
    assert np.mean(answered(*vlm, _asked(60))) >= 0.75  # docs/shapes.md has the accuracy by kind of question


def test_greedy_generation_gives_what_answered_says(vlm):
    model, processor = vlm
    asked = _asked(6)
    said = []
    for picture, question in asked:
        inputs = processor(images=picture.image, text=f"<image> {question.text}", return_tensors="pt")
        made = model.generate(**inputs, max_new_tokens=4, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        said.append(processor.decode(made) == f"{question.answer} <|endoftext|>")
    assert said == answered(model, processor, asked)


def test_text_chat_and_training_give_the_same_tokens(vlm):
    _, processor = vlm
    ((picture, question),) = _asked(1)
    image = Image.fromarray(picture.image)
    chat = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question.text}]}]
    by_chat = processor.apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt")
    by_text = processor(images=image, text=f"<image> {question.text}", return_tensors="pt")
    tokens, labels = question_tokens(processor, [[question]])
    assert by_chat["input_ids"].tolist() == by_text["input_ids"].tolist()
    assert tokens["input_ids"][labels == IGNORED].tolist() == by_text["input_ids"][0].tolist()
    assert by_text["input_ids"][0].tolist().count(processor.tokenizer.convert_tokens_to_ids(IMAGE)) == 64


def test_the_vlm_sees_through_clips_eyes(clip, vlm):
    theirs, ours = clip[0].vision_model.state_dict(), vlm[0].model.vision_tower.state_dict()
    assert all(torch.equal(theirs[name], weight) for name, weight in ours.items())


def _asked(count: int) -> list[tuple[Picture, Question]]:
    random = default_rng(11)
    return [(picture, random_question(picture, random)) for picture in pictures(count, seed=2_000_000)]


def _shrunk(mask: np.ndarray) -> np.ndarray:
    """Without the pixels that touch others; beyond the picture's edge all is as at the edge."""
    wide = np.pad(mask, 1, mode="edge")
    around = [wide[1 + y : len(mask) + 1 + y, 1 + x : len(mask) + 1 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return np.all(around, axis=0)
