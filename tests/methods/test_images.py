"""Every method on images: against plain re-computation, in batches, and what each model is refused."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import apportion as ap
from apportion.methods import METHODS, required_options
from tests import architectures
from tests.checking import unchecked
from tests.methods.test_every_method import state
from tests.reference import literal_vision as literal
from tests.tiny import InFloat64

MODELS = {
    "vit": ("image_classification", "vit"),
    "dinov2": ("image_classification", "dinov2_with_registers"),
    "swin": ("image_classification", "swin"),
    "clip": ("zero_shot_image_classification", "clip"),
    "siglip": ("zero_shot_image_classification", "siglip"),
    "llava": ("vision_language", "llava"),
    "qwen2_vl": ("vision_language", "qwen2_vl"),
    "qwen3_vl": ("vision_language", "qwen3_vl"),
}
NAMES = [n for n in METHODS if not required_options(n) and METHODS[n].about.family in ("backward", "forward")]
SMALL = {
    "integrated-gradients": "integrated-gradients(steps=3)",
    "smoothgrad": "smoothgrad(samples=2)",
    "expected-gradients": "expected-gradients(samples=2)",
    "shifted": "shifted(count=2)",
}
OF_TEXT = {"mamba-lrp", "alti", "alti-logit", "decompx", "globenc"}
OF_ATTENTION = {"rollout", "grad-rollout", "chefer", "grad-cam", "value-zeroing"}
MOVING = {"integrated-gradients", "smoothgrad", "expected-gradients", "shifted"}
#: By model and regions, the methods that refuse it.
REFUSED = {
    ("vit", "patches"): OF_TEXT,
    ("dinov2", "patches"): OF_TEXT,
    ("swin", "patches"): OF_TEXT | OF_ATTENTION | {"pa-lrp"},
    ("clip", "patches"): OF_TEXT,
    ("llava", "patches"): OF_TEXT | OF_ATTENTION,
    ("llava", "visual-tokens"): OF_TEXT | MOVING | {"attnlrp-vision"},
    ("qwen2_vl", "visual-tokens"): OF_TEXT | MOVING | {"attnlrp-vision"},
}
SIDE, PATCH, PATCHES = 32, 8, 16


@pytest.fixture(autouse=True)
def in_float64():
    with InFloat64():
        yield


@cache
def built(name: str) -> tuple[Any, dict[str, Tensor]]:
    torch.manual_seed(0)
    made = architectures.build(*MODELS[name])
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in made.inputs.items()}
    return made.model.double().eval(), inputs


def explain(name: str, method: Any, **options: Any) -> Any:
    model, inputs = built(name)
    return ap.Explainer(model).explain(inputs, method=method, progress=False, **options)


def logit(number: int, output: Any) -> Tensor:
    return output.logits[0, number]


def pixels() -> Tensor:
    return built("vit")[1]["pixel_values"]


def eager(name: str, value: Any) -> tuple[Any, Tensor]:
    model, inputs = built(name)
    return literal.eager(model, inputs, value)


@pytest.mark.parametrize("model", [name for name, regions in REFUSED if regions == "patches"])
@pytest.mark.parametrize("method", NAMES)
def test_a_method_serves_images_alone_and_in_batches_or_refuses_in_one_line(method, model):
    own, inputs = built(model)
    explainer, name = ap.Explainer(own), SMALL.get(method, method)
    before = state(own)
    if method in REFUSED[model, "patches"]:
        with pytest.raises(ap.ApportionError) as refusal:
            explainer.explain(inputs, method=name, progress=False)
        assert "\n" not in str(refusal.value)
        assert state(own) == before
        return
    both = {k: torch.cat([v, v.flip(-1)]) if k == "pixel_values" else torch.cat([v, v]) for k, v in inputs.items()}
    first, second = explainer.explain_many(both, method=name, batch_size=2, progress=False)
    alone = explainer.explain(inputs, method=name, progress=False)
    assert state(own) == before
    count = (SIDE // built(model)[0].config.patch_size) ** 2 if model == "swin" else PATCHES
    assert sum(feature.kind == "patch" for feature in alone.features) == count
    assert alone.scores.shape == (len(alone.features),)
    assert alone.scores.isfinite().all()
    assert (alone.scores[:count] != 0).any()
    assert_close(first.scores, alone.scores, rtol=1e-8, atol=1e-10)
    assert not torch.allclose(second.scores, alone.scores) or method == "grad-cam"
    if alone.conserves == "no":
        assert alone.ledger is None
        return
    assert alone.ledger is not None
    assert alone.ledger.relative_residual.item() < 1e-6
    assert alone.ledger.lines["image"].item() == pytest.approx(alone.scores[:count].sum().item(), abs=1e-10)


@pytest.mark.parametrize("model", [name for name, regions in REFUSED if regions == "visual-tokens"])
@pytest.mark.parametrize("method", NAMES)
def test_a_method_serves_visual_tokens_or_refuses_in_one_line(method, model):
    name = SMALL.get(method, method)
    if method in REFUSED[model, "visual-tokens"]:
        with pytest.raises(ap.ApportionError) as refusal:
            explain(model, name, regions="visual-tokens")
        assert "\n" not in str(refusal.value)
        return
    found = explain(model, name, regions="visual-tokens")
    held = [i for i, feature in enumerate(found.features) if feature.kind == "placeholder"]
    assert found.scores.isfinite().all()
    assert (found.scores[: len(held)] != 0).any() or method == "grad-cam"
    assert (found.scores[held] == 0).all()


def test_the_gradient_of_a_region_is_the_norm_over_its_pixels():
    slope = literal.gradient(built("vit")[0], pixels(), partial(logit, 1))[0]
    assert_close(explain("vit", "gradient", target=1).scores, literal.by_patch(slope**2, PATCH).sqrt())
    assert_close(explain("vit", "gradient(norm='l1')", target=1).scores, literal.by_patch(slope.abs(), PATCH))
    found = explain("vit", "gradient", target=1, regions=16).scores
    assert_close(found, literal.by_patch(slope**2, 16).sqrt())


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_integrated_gradients_are_a_plain_loop_over_steps(baseline):
    start = {
        "zero": torch.zeros_like(pixels()),
        "mean": pixels().mean((2, 3), keepdim=True).expand_as(pixels()),
        "blur": literal.blurred(pixels(), 3.2),
    }[baseline]
    model, value = built("vit")[0], partial(logit, 1)
    amounts = literal.integrated(model, pixels(), start, value, steps=5)[0]
    name = f"integrated-gradients(steps=5, quadrature='riemann-midpoint', baseline={baseline!r})"
    found = explain("vit", name, target=1)
    assert_close(found.scores, literal.by_patch(amounts, PATCH))
    assert found.ledger.lines["target at the baseline"].item() == pytest.approx(
        value(model(pixel_values=start)).item(), abs=1e-12
    )


@pytest.mark.parametrize("model", ["vit", "clip", "llava", "qwen2_vl"])
def test_images_and_words_move_together_so_that_many_steps_leave_no_gap(model):
    found = explain(model, "integrated-gradients(steps=64, baseline='mean')")
    assert abs(found.ledger.lines["completeness gap"].item()) < 1e-4
    apart = explain(model, "integrated-gradients(steps=4, baseline='mean', batch_size=1)").scores
    assert_close(explain(model, "integrated-gradients(steps=4, baseline='mean', batch_size=4)").scores, apart)


def test_gim_takes_the_baseline_off_the_image():
    model = built("vit")[0]
    plain, moved = explain("vit", "gim", target=1), explain("vit", "gim(baseline='blur')", target=1)
    # GIM's gradient is what its scores of single elements are when divided by them.
    single = torch.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    start = literal.blurred(pixels(), 3.2)
    gone = plain.scores - moved.scores
    assert moved.ledger.relative_residual.item() < 1e-9
    assert moved.ledger.lines["baseline"].item() == pytest.approx(gone.sum().item(), abs=1e-12)
    only = pixels().clone()
    only[:, 1:] = 0  # one channel, so that a pixel's score is one product
    of_pixels = ap.Explainer(model).explain(
        {"pixel_values": only}, method="gim", target=1, regions=single, progress=False
    )
    slope = of_pixels.scores.reshape(SIDE, SIDE) / only[0, 0]
    start = literal.blurred(only, 3.2)[0, :1]
    of_only = ap.Explainer(model).explain({"pixel_values": only}, method="gim(baseline='blur')", target=1)
    assert_close(of_only.scores, literal.by_patch((only[0, :1] - start) * slope, PATCH), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("model", ["vit", "dinov2"])
def test_attention_maps_are_the_rows_that_the_target_reads(model):
    output, number = eager(model, partial(logit, 1))
    attentions = output.attentions
    places = attentions[0].shape[-1]
    reading = torch.zeros(places).to(number)
    if model == "vit":
        reading[0] = 1
    else:  # CLS and the mean of patches; registers are not read
        reading[[0, *range(places - PATCHES, places)]] = 1 / (1 + PATCHES)
    expected = {
        "rollout": literal.rollout(attentions),
        "rollout(residual=0.2)": literal.rollout(attentions, 0.2),
        "grad-rollout": literal.grad_rollout(attentions, number),
        "chefer": literal.chefer(attentions, number),
        "grad-cam": literal.attention_cam(attentions[-1], number),
        "grad-cam(layer=0)": literal.attention_cam(attentions[0], number),
    }
    for method, joint in expected.items():
        assert_close(explain(model, method, target=1).scores, (reading @ joint)[-PATCHES:])
    for layer in (0, 1):
        cam = literal.feature_cam(output.hidden_states[layer], number, PATCHES)
        assert_close(explain(model, f"grad-cam(at='features', layer={layer})", target=1).scores, cam)


def test_value_zeroing_is_layer_after_layer_without_a_value():
    model = built("vit")[0]
    output, _ = eager("vit", partial(logit, 1))
    values = next(name for name, _ in model.vit.layers[0].named_modules() if name.endswith(("v_proj", "value")))
    joint = literal.value_zeroing(list(model.vit.layers), output.hidden_states, values)
    assert_close(explain("vit", "value-zeroing", target=1).scores, joint[0, -PATCHES:], rtol=1e-6, atol=1e-9)


def similarity(output: Any) -> Tensor:
    return torch.cosine_similarity(output.image_embeds[0], output.text_embeds[0], dim=0)


@pytest.mark.parametrize("model", ["clip", "siglip"])
def test_each_tower_of_a_pair_has_its_own_row_for_the_similarity(model):
    output, number = eager(model, similarity)
    of_image, of_text = output.vision_model_output, output.text_model_output
    (length,) = built(model)[1]["input_ids"].shape[1:]
    own = built(model)[0]
    if model == "clip":
        looked = torch.eye(PATCHES + 1)[0].to(number)
        ends = [place for place in range(length) if attends(own, place)]
        (end,) = ends
    else:
        head = own.vision_model.head
        hidden = of_image.last_hidden_state
        weights = head.attention(head.probe.expand(1, -1, -1), hidden, hidden)[1]
        looked, end = weights[0, 0], length - 1
    found = explain(model, "chefer").scores
    expected = looked @ literal.chefer(of_image.attentions, number)
    assert_close(found[:PATCHES], expected[-PATCHES:])
    assert_close(found[PATCHES:], literal.chefer(of_text.attentions, number)[end])
    expected = looked @ literal.rollout(of_image.attentions)
    assert_close(explain(model, "rollout").scores[:PATCHES], expected[-PATCHES:])


def attends(model: Any, place: int) -> bool:
    """Whether CLIP's text is read at a place: where its last layer's output changes the embedding."""
    found = []
    layer = model.text_model.encoder.layers[-1]

    def note(module: Any, arguments: Any, output: Any) -> None:
        found.append(output if isinstance(output, Tensor) else output[0])

    handle = layer.register_forward_hook(note)
    output = model(**built("clip")[1])
    handle.remove()
    (slope,) = torch.autograd.grad(output.text_embeds.sum() + output.text_embeds[0, 0], found[0])
    return bool((slope[0, place] != 0).any())


def test_attention_of_a_language_part_is_laid_over_visual_tokens():
    model, inputs = built("llava")
    output, number = eager("llava", lambda output: output.logits[0, -1, 5])
    joint = literal.chefer(output.attentions, number)
    found = explain("llava", "chefer", regions="visual-tokens", target=5)
    held = [i for i, token in enumerate(inputs["input_ids"][0].tolist()) if token == model.config.image_token_id]
    words = [i for i in range(joint.shape[0]) if i not in held]
    assert_close(found.scores[:PATCHES], joint[-1, held])
    assert_close(found.scores[PATCHES:][words], joint[-1, words])


def test_regions_of_several_patches_get_the_sum_of_their_patches():
    patches = explain("vit", "chefer").scores.reshape(4, 4)
    found = explain("vit", "chefer", regions=16).scores
    assert_close(found, torch.stack([patches[r : r + 2, c : c + 2].sum() for r in (0, 2) for c in (0, 2)]))
    with pytest.raises(ap.ApportionError, match="whole patches of 8 × 8 pixels"):
        explain("vit", "chefer", regions=5)


def test_the_patch_that_a_target_reads_is_the_row():
    output, _ = eager("dinov2", partial(logit, 1))
    own = built("dinov2")[0]
    direction = torch.arange(1.0, own.config.hidden_size + 1)
    backbone = own.dinov2_with_registers
    target = ap.Projection(direction, of=(1, 2))
    found = ap.Explainer(backbone).explain(built("dinov2")[1], target=target, method="rollout", progress=False)
    joint = literal.rollout(output.attentions)
    assert_close(found.scores, joint[-PATCHES + 6, -PATCHES:])


def nine() -> list[tuple[int, int]]:
    return [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]


def test_shift_averaging_credits_each_pixel_to_the_region_that_it_came_from():
    model, value = built("vit")[0], partial(logit, 1)
    each, numbers = [], []
    for offset in nine():
        image = literal.shifted(pixels(), *offset)
        amounts = (image * literal.gradient(model, image, value))[0].sum(0)
        each.append(literal.by_patch(literal.moved_back(amounts, *offset)[None], PATCH))
        numbers.append(value(model(pixel_values=image)).item())
    found = explain("vit", ap.Shifted("input-x-gradient", pixels=1, count=9), target=1)
    assert_close(found.scores, torch.stack(each).mean(0))
    assert_close(found.standard_errors, torch.stack(each).std(0) / 3)
    at_rest = value(model(pixel_values=pixels())).item()
    assert found.ledger.total.item() == pytest.approx(at_rest)
    assert found.ledger.lines["change by shifting"].item() == pytest.approx(at_rest - sum(numbers) / 9, abs=1e-12)
    assert found.ledger.relative_residual.item() < 1e-12
    assert found.ledger.lines["image"].item() == pytest.approx(found.scores.sum().item())


def test_shifted_maps_of_patches_are_moved_back_pixel_by_pixel():
    model, each = built("vit")[0], []
    for offset in nine():
        output, _ = literal.eager(model, {"pixel_values": literal.shifted(pixels(), *offset)}, partial(logit, 1))
        row = literal.rollout(output.attentions)[0, -PATCHES:].reshape(4, 4) / PATCH**2
        spread = row.repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
        each.append(literal.by_patch(literal.moved_back(spread, *offset)[None], PATCH))
    found = explain("vit", "shifted(method='rollout', pixels=1, count=9)", target=1)
    assert_close(found.scores, torch.stack(each).mean(0))
    assert found.conserves == "no"
    assert found.options["method"] == "rollout"


def test_shift_averaging_keeps_the_class_and_repeats_with_its_seed():
    found = explain("vit", ap.Shifted("res-lrp", count=3, seed=1))
    again = explain("vit", ap.Shifted("res-lrp", count=3, seed=1))
    other = explain("vit", ap.Shifted("res-lrp", count=3, seed=2))
    assert torch.equal(found.scores, again.scores)
    assert not torch.allclose(found.scores, other.scores)
    assert found.explained == explain("vit", "res-lrp").explained
    assert found.options["pixels"] == PATCH // 2


@pytest.mark.parametrize(
    ("model", "method", "words"),
    [
        ("qwen2_vl", "shifted(count=2)", "moves one image of shape"),
        ("vit", "shifted(pixels=40)", "out of its 32 rows"),
        ("vit", "shifted(pixels=1, count=10)", "there are 9 shifts"),
        ("vit", "shifted(method='shifted')", "averages a method over shifts already"),
        ("vit", "integrated-gradients(baseline='pad')", "only images; use 'zero', 'mean' or 'blur'"),
        ("vit", "attnlrp-vision(mlp=-1)", "is no γ"),
        ("vit", "grad-cam(at='pixels')", "use 'attention' or 'features'"),
        ("vit", "grad-cam(layer=2)", "2 layers of attention; use -2 to 1"),
        ("swin", "rollout", "no map of the image's 8 × 8 patches"),
        ("llava", "chefer", "use regions='visual-tokens'"),
    ],
)
def test_what_does_not_fit_an_image_is_refused(model, method, words):
    with pytest.raises(ap.ApportionError, match=words) as refusal, unchecked():
        explain(model, method)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("model", ["vit", "dinov2", "clip"])
def test_the_vision_recipe_is_its_composite_by_name(model):
    own = built(model)[0]
    by_composite = explain(model, ap.attnlrp_vision(own, mlp=0.1, patches=0.5))
    by_name = explain(model, "attnlrp-vision(mlp=0.1, patches=0.5)")
    assert torch.equal(by_name.scores, by_composite.scores)
    assert by_name.method == "attnlrp-vision"
    assert not torch.allclose(by_name.scores, explain(model, "attnlrp").scores)
    audit = ap.Explainer(own).audit(built(model)[1], method="attnlrp-vision")
    assert audit.composite.overrides == ap.attnlrp_vision(own).overrides


@pytest.mark.parametrize("model", ["vit", "dinov2", "clip"])
def test_gamma_applies_by_a_pattern_of_modules(model):
    from dataclasses import replace

    gamma = replace(ap.ATTNLRP, name="γ 0.05", linear="gamma", gamma=0.05)
    modules = "vision_model*.mlp.*" if model == "clip" else "*.mlp.*"
    found = explain(model, ap.ATTNLRP.within(gamma, modules=modules))
    assert found.ledger.relative_residual.item() < 1e-9
    of_mlps = explain(model, "attnlrp-vision(mlp=0.05, patches=0)")
    if model != "clip":  # whose recipe is for its vision tower as well
        assert_close(found.scores, of_mlps.scores)
    assert not torch.allclose(found.scores, explain(model, "attnlrp").scores)


class Straight(nn.Module):
    """A linear function of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 2, PATCH, PATCH)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.patches(pixel_values).flatten(2) @ torch.arange(1, PATCHES + 1).to(pixel_values)


def test_expected_gradients_leave_no_gap_on_a_linear_function_of_pixels():
    model = Straight().double()
    found = ap.Explainer(model).explain(
        {"pixel_values": pixels()},
        method="expected-gradients(samples=3)",
        target=lambda output: output[0, 1],
        progress=False,
    )
    assert abs(found.ledger.lines["sampling gap"].item()) < 1e-9
    assert abs(found.ledger.lines["image"].item()) > 1e-3
    assert (found.standard_errors > 0).all()


def test_smoothgrad_is_a_plain_mean_over_noisy_images():
    generator = torch.Generator().manual_seed(3)
    model, spread = built("vit")[0], 0.2 * (pixels().max() - pixels().min())
    slopes = [
        literal.gradient(
            model,
            pixels() + spread * torch.randn(pixels().shape, generator=generator, dtype=torch.float32),
            partial(logit, 1),
        )
        for _ in range(4)
    ]
    expected = literal.by_patch(torch.stack(slopes).mean(0)[0] ** 2, PATCH).sqrt()
    assert_close(explain("vit", "smoothgrad(samples=4, noise=0.2, seed=3)", target=1).scores, expected)
