"""Concepts ride along without changing the picture, and their maps are what the equations say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

pytest.importorskip("diffusers")

from diffusers.models.embeddings import apply_rotary_emb

from apportion import ApportionError
from apportion.diffusion import ConceptMaps, carrying_concepts, concept_maps
from tests.diffusion.tiny_diffusion import JOINT, TEXT, single, tiny


def _concepts(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(5)
    return {
        "cat": torch.randn(TEXT, generator=random, dtype=dtype),
        "red sofa": torch.randn(2, TEXT, generator=random, dtype=dtype),
        "background": torch.randn(1, TEXT, generator=random, dtype=dtype),
    }


def _hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("name", JOINT)
def test_the_output_is_bitwise_the_same_with_concepts(name: str) -> None:
    model, inputs = single(name)
    with torch.no_grad():
        alone = model(**inputs).sample
        with carrying_concepts(model, _concepts(torch.float32)) as seen:
            carrying = model(**inputs).sample
    assert torch.equal(carrying, alone)
    assert len(seen) == 1


@pytest.mark.parametrize("name", JOINT)
def test_the_maps_of_all_concepts_sum_to_one_at_each_patch(name: str) -> None:
    model, inputs = tiny(name)
    found = concept_maps(model, inputs, _concepts())
    rows = 4 if name.startswith("sd") else 3
    assert found.logits.shape == (3, rows, 4)
    assert len(found.layers) == 2
    assert_close(found.maps.sum(0), torch.ones(rows, 4, dtype=torch.float64))
    assert found.of("cat").std() > 0


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


def _heads(x: Tensor, attn: Any, norm: nn.Module | None) -> Tensor:
    x = x.reshape(len(x), attn.heads, -1)
    return x if norm is None else norm(x)


def _rotated(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    return apply_rotary_emb(x[None], rotary, sequence_dim=1)[0]


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """One loop per query and head."""
    out = torch.zeros(len(query), query.shape[1], value.shape[2], dtype=query.dtype)
    for i in range(len(query)):
        for h in range(query.shape[1]):
            weights = (key[:, h] @ query[i, h] / query.shape[2] ** 0.5).softmax(0)
            out[i, h] = weights @ value[:, h]
    return out.flatten(1)


@torch.no_grad()
def _flux_maps_by_hand(model: Any, inputs: dict[str, Any], concepts: Tensor) -> Tensor:
    """(layer, concept, patch): what the blocks compute, one stream after the other, with concepts beside the text."""
    image = model.x_embedder(inputs["hidden_states"])[0]
    text = model.context_embedder(inputs["encoder_hidden_states"])[0]
    riders = model.context_embedder(concepts)
    time = model.time_text_embed(inputs["timestep"] * 1000, inputs["pooled_projections"])[0]
    text_places = model.pos_embed(inputs["txt_ids"])
    image_places = model.pos_embed(inputs["img_ids"])
    rider_places = model.pos_embed(torch.zeros(len(concepts), 3, dtype=torch.float64))
    maps = []
    for block in model.transformer_blocks:
        attn = block.attn
        of_image = block.norm1.linear(nn.functional.silu(time)).chunk(6)
        of_text = block.norm1_context.linear(nn.functional.silu(time)).chunk(6)

        def stream(x: Tensor, parts: Any, names: str, places: Any, attn: Any = attn) -> tuple[Tensor, Tensor, Tensor]:
            x = _modulated(x, parts[1], parts[0])
            q, k, v = (getattr(attn, name) for name in names.split())
            added = "add" in names
            query = _heads(q(x), attn, attn.norm_added_q if added else attn.norm_q)
            key = _heads(k(x), attn, attn.norm_added_k if added else attn.norm_k)
            return _rotated(query, places), _rotated(key, places), _heads(v(x), attn, None)

        iq, ik, iv = stream(image, of_image, "to_q to_k to_v", image_places)
        tq, tk, tv = stream(text, of_text, "add_q_proj add_k_proj add_v_proj", text_places)
        cq, ck, cv = stream(riders, of_text, "add_q_proj add_k_proj add_v_proj", rider_places)
        image_out = _attended(iq, torch.cat([tk, ik]), torch.cat([tv, iv]))
        text_out = _attended(tq, torch.cat([tk, ik]), torch.cat([tv, iv]))
        rider_out = _attended(cq, torch.cat([ck, ik]), torch.cat([cv, iv]))
        maps.append(rider_out @ image_out.T)

        def onward(x: Tensor, out: Tensor, parts: Any, project: nn.Module, mlp: nn.Module) -> Tensor:
            x = x + parts[2] * project(out)
            return x + parts[5] * mlp(_modulated(x, parts[4], parts[3]))

        image = onward(image, image_out, of_image, attn.to_out[0], block.ff)
        text = onward(text, text_out, of_text, attn.to_add_out, block.ff_context)
        riders = onward(riders, rider_out, of_text, attn.to_add_out, block.ff_context)
    return torch.stack(maps)


def test_the_dot_products_equal_a_plain_computation_of_two_flux_blocks() -> None:
    model, inputs = tiny("flux")
    given = _concepts()
    every = torch.cat([part.reshape(-1, TEXT) for part in given.values()])
    by_hand = _flux_maps_by_hand(model, inputs, every)  # tokens: cat, red, sofa, background
    expected = torch.stack([by_hand[:, 0], by_hand[:, 1:3].mean(1), by_hand[:, 3]], 1)
    found = concept_maps(model, inputs, given)
    assert_close(found.by_layer.flatten(2), expected)
    assert_close(found.logits.flatten(1), expected.mean(0))
    assert_close(found.maps.flatten(1), (expected.softmax(1)[0] + expected.softmax(1)[1]) / 2)


@pytest.mark.parametrize("name", JOINT)
def test_the_prompt_itself_as_concepts_gets_the_prompts_own_attention_outputs(name: str) -> None:
    model, inputs = tiny(name)
    block = model.transformer_blocks[0].attn
    taken: dict[str, Tensor] = {}

    def take(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            taken.setdefault(name, arguments[0][0].detach())  # the first call is the model's own

        return hook

    block.to_out[0].register_forward_pre_hook(take("patches"))
    block.to_add_out.register_forward_pre_hook(take("prompt"))
    prompt = inputs["encoder_hidden_states"][0]
    found = concept_maps(model, inputs, {str(k): token for k, token in enumerate(prompt)}, layers=[0])
    assert_close(found.by_layer[0].flatten(1), taken["prompt"] @ taken["patches"].T)


def test_a_batch_needs_a_choice_and_then_equals_its_example_alone() -> None:
    model, inputs = tiny("sd3")
    other = {key: torch.cat([torch.randn_like(value), value]) for key, value in inputs.items()}
    with carrying_concepts(model, _concepts(), example=-1) as seen, torch.no_grad():
        model(**other)
    assert_close(seen[0].by_layer, concept_maps(model, inputs, _concepts()).by_layer)
    with pytest.raises(ApportionError, match="2 pictures were given"):
        concept_maps(model, other, _concepts())
    with (
        pytest.raises(ApportionError, match="not among 2 pictures"),
        carrying_concepts(model, _concepts(), example=2),
    ):
        model(**other)


def test_steps_are_seen_one_by_one_and_averaged_when_joined() -> None:
    model, inputs = tiny("flux")
    with carrying_concepts(model, _concepts()) as seen, torch.no_grad():
        model(**inputs)
        model(**{**inputs, "timestep": torch.tensor([0.9], dtype=torch.float64)})
    joined = ConceptMaps.joined(seen)
    assert joined.by_layer.shape[0] == 4
    assert not torch.equal(seen[0].maps, seen[1].maps)
    assert_close(joined.maps, (seen[0].maps + seen[1].maps) / 2)
    with pytest.raises(ApportionError, match="at least one"):
        ConceptMaps.joined([])


def test_chosen_layers_are_the_same_as_among_all() -> None:
    model, inputs = tiny("sd35")
    every = concept_maps(model, inputs, _concepts())
    last = concept_maps(model, inputs, _concepts(), layers=[1])
    assert last.layers == ("transformer_blocks.1",)
    assert torch.equal(last.by_layer[0], every.by_layer[1])


def test_the_model_is_given_back_also_after_an_error() -> None:
    model, inputs = tiny("sd3")
    before = _hooks(model)
    with pytest.raises(RuntimeError), carrying_concepts(model, _concepts()):
        model(**{**inputs, "pooled_projections": torch.randn(1, 3, dtype=torch.float64)})
    assert _hooks(model) == before
    concept_maps(model, inputs, _concepts())
    assert _hooks(model) == before


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    model, inputs = tiny("flux")
    with pytest.raises(ApportionError, match="no blocks of joint attention"):
        concept_maps(*tiny("dit"), _concepts())
    with pytest.raises(ApportionError, match=r"the concept 'cat' is \(7,\)"):
        concept_maps(model, inputs, {"cat": torch.randn(7)})
    with pytest.raises(ApportionError, match="no concepts"):
        concept_maps(model, inputs, {})
    with pytest.raises(ApportionError, match="numbers from 0 to 1"):
        concept_maps(model, inputs, _concepts(), layers=[2])
    with pytest.raises(ApportionError, match="no concept 'dog'"):
        concept_maps(model, inputs, _concepts()).of("dog")
    with pytest.raises(ApportionError, match="rows and columns"):
        concept_maps(model, {**inputs, "img_ids": inputs["img_ids"] * 0}, _concepts())
    masked = {**inputs, "joint_attention_kwargs": {"attention_mask": torch.ones(1, 1, 17, 17, dtype=torch.bool)}}
    with pytest.raises(ApportionError, match="attention mask"):
        concept_maps(model, masked, _concepts())
