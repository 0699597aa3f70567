"""The command line on images: it says what the library says, and refuses what does not fit in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import apportion as ap
from apportion.cli._prompt import as_seen, regions_in
from tests.architectures import build
from tests.test_cli import _plain, done, refusal  # noqa: F401 - the plain terminal is a fixture


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    path = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    names = {0: "tabby", 1: "dog"}
    config = transformers.ViTConfig(
        **sizes, image_size=16, patch_size=4, id2label=names, label2id={n: i for i, n in names.items()}
    )
    transformers.ViTForImageClassification(config).save_pretrained(path)
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(path)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path / "cat.png")
    return path


@pytest.fixture(scope="module")
def backbone(vit, tmp_path_factory):
    path = tmp_path_factory.mktemp("backbone")
    transformers.ViTModel(transformers.ViTConfig.from_pretrained(vit)).save_pretrained(path)
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(path)
    return path


def test_it_says_what_the_library_says(vit):
    found = json.loads(done("explain", "-m", vit, "-i", vit / "cat.png", "-t", "tabby", "--json").stdout)
    expected = ap.load(vit).explain(vit / "cat.png", target="tabby")
    assert found["method"] == expected.method == "res-lrp"
    assert found["scores"] == expected.scores.tolist()
    assert len(found["features"]) == 16


def test_regions_are_those_asked_for(vit):
    base = ("explain", "-m", vit, "-i", vit / "cat.png", "--json", "-q")
    assert len(json.loads(done(*base, "--regions", "8").stdout)["features"]) == 4
    mask = np.zeros((24, 20, 3), dtype=np.uint8)
    mask[:12, :, 1] = 200
    Image.fromarray(mask).save(vit / "mask.png")
    found = json.loads(done(*base, "--regions-mask", vit / "mask.png").stdout)
    assert [f["kind"] for f in found["features"]] == ["region", "region"]
    whole = json.loads(done(*base).stdout)
    assert sum(found["scores"]) == pytest.approx(sum(whole["scores"]), abs=1e-6)


def test_each_colour_of_a_mask_is_a_region(vit):
    colours = [[(0, 0, 0), (0, 1, 0)], [(1, 0, 0), (0, 1, 0)]]
    Image.fromarray(np.array(colours, dtype=np.uint8)).save(vit / "four.png")
    assert regions_in(vit / "four.png").tolist() == [[0, 1], [2, 1]]


def test_the_report_and_the_files_show_the_picture(vit):
    shown = done("explain", "-m", vit, "-i", vit / "cat.png", "--html", "a.html", "--plot", "a.png").stdout
    assert "image: 16 patches, together" in shown
    assert shown.count("patch ") == 6
    with Image.open("a.png") as drawn:
        assert drawn.width > 300
    assert "apportionImages" in Path("a.html").read_text()


@pytest.mark.parametrize("command", ["compare", "audit"])
def test_other_commands_take_images(vit, command):
    extra = ("--method", "attnlrp", "--method", "res-lrp") if command == "compare" else ()
    assert done(command, "-m", vit, "-i", vit / "cat.png", *extra).stdout


def test_requests_that_do_not_fit_are_refused(vit, backbone):
    cat = vit / "cat.png"
    (vit / "broken.png").write_bytes(cat.read_bytes()[:100])
    Image.fromarray(np.arange(300 * 300 * 3, dtype=np.uint32).astype(np.uint8).reshape(300, 300, 3)).save(
        vit / "many.png"
    )
    for args, said in [
        (("-i", "none.png"), "there is no file"),
        (("-i", vit / "broken.png"), "damaged"),
        (("-i", cat, "-i", cat), "one image and no text"),
        (("-i", cat, "a text"), "one image and no text"),
        (("a text",), "reads images alone"),
        (("-i", cat, "--regions", "foo"), "not known"),
        (("-i", cat, "--regions", "8", "--regions-mask", cat), "both given"),
        (("-i", cat, "--chat"), "needs a text"),
        ((), "--image"),
    ]:
        assert said in refusal("explain", "-m", vit, *args)
    assert "has no head" in refusal("explain", "-m", backbone, "-i", cat)


def test_a_backbone_loads_for_targets_that_are_computed(backbone):
    explainer = ap.load(backbone)
    assert type(explainer.model).__name__ == "ViTModel"
    assert type(explainer.processor).__name__ == "ViTImageProcessorPil"


def test_a_model_of_images_without_its_processor_is_refused(vit, tmp_path):
    transformers.ViTForImageClassification.from_pretrained(vit).save_pretrained(tmp_path)
    with pytest.raises(ap.ApportionError, match="no image processor that loads"):
        ap.load(tmp_path)


class _Processor:
    image_token, chat_template = "<image>", None


def test_text_and_images_become_one_prompt_that_fits_the_model():
    clip = ap.Explainer(build("zero_shot_image_classification", "clip").model)
    pair = as_seen("a cat", ["image"], clip)
    assert (pair.first, pair.second) == ("image", "a cat")
    with pytest.raises(ap.ApportionError, match="give the text as well"):
        as_seen(None, ["image"], clip)
    with pytest.raises(ap.ApportionError, match="compares one image with one text"):
        as_seen("a cat", ["one", "two"], clip)
    llava = ap.Explainer(build("vision_language", "llava").model)
    llava.processor = _Processor()
    assert as_seen("what?", ["one", "two"], llava) == {"images": ["one", "two"], "text": "<image><image>\nwhat?"}
    assert as_seen("<image> what?", ["one"], llava)["text"] == "<image> what?"
    (message,) = as_seen([{"role": "user", "content": "what?"}], ["one"], llava)
    assert message["content"] == [{"type": "image", "image": "one"}, {"type": "text", "text": "what?"}]


def shapes_processor(kind, path):
    """A processor of 16 × 16 pixels and whole words, with what a chat's template needs."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["<pad>", "<s>", "</s>", "<image>", "a", "red", "circle", "what", "?"]
    raw = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "additional_special_tokens": ["<image>"]}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **special)
    seen = transformers.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    if kind == "clip":
        transformers.CLIPProcessor(seen, tokenizer).save_pretrained(path)
        return
    template = (
        "{% for m in messages %}{% for p in m['content'] %}{% if p['type'] == 'image' %}<image> "
        "{% else %}{{ p['text'] }} {% endif %}{% endfor %}{% endfor %}"
    )
    transformers.LlavaProcessor(
        seen,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=template,
    ).save_pretrained(path)


TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
VISION = {**{k: v for k, v in TEXT.items() if k != "vocab_size"}, "image_size": 16, "patch_size": 8}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={**TEXT, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        vision_config=VISION,
        projection_dim=8,
    )
    transformers.CLIPModel(config).save_pretrained(path)
    shapes_processor("clip", path)
    return path


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    path = tmp_path_factory.mktemp("llava")
    torch.manual_seed(0)
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**{**VISION, "num_hidden_layers": 2}),
        text_config=transformers.LlamaConfig(**TEXT, bos_token_id=1, eos_token_id=2, pad_token_id=0),
        image_token_index=3,
        image_seq_length=4,
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(path)
    shapes_processor("llava", path)
    return path


def test_a_caption_is_explained_with_its_image(vit, clip):
    found = json.loads(done("explain", "-m", clip, "-i", vit / "cat.png", "a red circle", "--json").stdout)
    assert [f["label"] for f in found["features"]][-3:] == ["a", " red", " circle"]
    expected = ap.load(clip).explain(ap.Pair(str(vit / "cat.png"), "a red circle"))
    assert found["scores"] == expected.scores.tolist()


def test_pairs_are_those_of_the_library(vit, clip):
    cat = vit / "cat.png"
    found = json.loads(done("pairs", "-m", clip, "-i", cat, "a red circle", "--json", "--html", "p.html").stdout)
    expected = ap.load(clip).explain_pairs(ap.Pair(Image.open(cat), "a red circle"))
    assert found == json.loads(json.dumps({**expected.to_dict(), "cost": found["cost"]}))
    assert "apportionImages" in Path("p.html").read_text()
    shown = done("pairs", "-m", clip, "a circle", "a red circle", "--features", "words", "--save", "p.safetensors")
    assert "circle · circle" in shown.stdout
    assert ap.Pairwise.load("p.safetensors").scores.shape == (2, 3)


def test_encoders_of_texts_have_pairs_too(tmp_path):
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**TEXT, max_position_embeddings=8)).save_pretrained(tmp_path)
    shapes_processor("clip", tmp_path)
    shown = done("pairs", "-m", tmp_path, "a circle", "a red circle", "--pooling", "cls")
    assert "largest pairs of 2 × 3 features" in shown.stdout
    found = json.loads(done("pairs", "-m", tmp_path, "a circle", "red circle", "--pooling", "cls", "--json").stdout)
    assert found["options"]["pooling"] == "cls"
    with pytest.raises(ap.ApportionError, match="none of the heads"):
        ap.load(tmp_path)


def test_pairs_that_do_not_fit_are_refused(vit, clip, llava):
    cat = vit / "cat.png"
    for model, args, said in [
        (clip, ("a circle",), "1 texts and 0 images"),
        (clip, ("a", "red", "circle"), "3 texts"),
        (clip, ("-i", cat, "a", "red"), "2 texts and 1 images"),
        (clip, ("-i", cat, "a", "--method", "gradient"), "gradient"),
        (llava, ("-i", cat, "a circle"), "does not compare images with texts"),
        (vit, ("-i", cat, "-i", cat), "is no encoder"),
    ]:
        assert said in refusal("pairs", "-m", model, *args)


def test_an_answer_about_an_image_is_divided_over_its_patches_and_the_words(vit, llava):
    args = ("-m", llava, "-i", vit / "cat.png", "what circle ?")
    found = json.loads(done("generate", *args, "--max-new-tokens", "2", "--json").stdout)
    labels = [f["label"].strip() for f in found["features"] if f["kind"] != "placeholder" and f["part"] != "answer"]
    assert labels == ["patch 0,0", "patch 0,1", "patch 1,0", "patch 1,1", "what", "circle", "?"]
    said = [f["label"] for f in found["features"] if f["role"] == "user"]
    assert said == [" what", " circle", " ?"]
    for command in ("explain", "audit"):
        assert done(command, *args).stdout
    shown = done("compare", *args, "--method", "res-lrp", "--method", "attnlrp").stdout
    assert "what" in shown


def test_a_comparison_of_images_begins_with_their_default_method(vit):
    found = json.loads(done("compare", "-m", vit, "-i", vit / "cat.png", "--json", "-q").stdout)
    assert list(found["attributions"])[:2] == ["res-lrp", "attnlrp"]
