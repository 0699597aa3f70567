"""The closed form of the concept game is what enumerating every coalition gives."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

pytest.importorskip("diffusers")

from apportion import ApportionError
from apportion.diffusion import ConceptInteractions, ConceptMaps, _concept_game, concept_maps
from apportion.diffusion._concept_game import concept_game
from tests.diffusion.tiny_diffusion import TEXT, tiny

NAMES = ("cat", "sofa", "lamp", "sky")


def _enumerated(logits: Tensor, always: float = 0.0) -> tuple[Tensor, Tensor]:
    """Played map and values at one patch, by the definition: one loop per target, source and coalition."""
    count = len(logits)
    e = (logits - logits.max()).exp().tolist()
    always *= math.exp(-logits.max().item())

    def of(target: int, others: tuple[int, ...]) -> float:
        return e[target] / (e[target] + always + sum(e[k] for k in others))

    def coalitions(players: list[int], weigh: int) -> list[tuple[float, tuple[int, ...]]]:
        sizes = range(len(players) + 1)
        found = [(size, group) for size in sizes for group in itertools.combinations(players, size)]
        return [(1 / (weigh * math.comb(weigh - 1, size)), group) for size, group in found]

    coalition_mean, values = torch.zeros(count, dtype=torch.float64), torch.zeros(count, count, dtype=torch.float64)
    for c in range(count):
        others = [k for k in range(count) if k != c]
        coalition_mean[c] = sum(weight * of(c, group) for weight, group in coalitions(others, count))
        values[c, c] = of(c, ())
        for k in others:
            rest = [j for j in others if j != k]
            values[k, c] = sum(w * (of(c, (*group, k)) - of(c, group)) for w, group in coalitions(rest, count - 1))
    return coalition_mean, values


def _logits(count: int, spread: float, seed: int = 0) -> Tensor:
    drawn = torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    reach = (drawn.max() - drawn.min()).item()
    return drawn * spread / reach if reach else drawn


@pytest.mark.parametrize("always", [0.0, 0.3, 40.0])
@pytest.mark.parametrize(("count", "spread"), [(1, 0), (2, 3), (3, 0), (7, 1), (8, 8), (7, 50), (6, 600)])
def test_both_orders_equal_enumeration_of_all_coalitions(count: int, spread: float, always: float) -> None:
    logits = _logits(count, spread)
    mass = torch.full((1, 1), math.log(always)) if always else None
    found = concept_game(logits[None, :, None], mass)
    coalition_mean, values = _enumerated(logits, always)
    assert_close(found.coalition_mean[:, 0], coalition_mean, rtol=0, atol=2e-8)
    assert_close(found.values[..., 0], values, rtol=0, atol=2e-8)


def test_twelve_concepts_in_two_layers_equal_the_mean_of_enumerations() -> None:
    logits = torch.stack([_logits(12, 6, seed=1), _logits(12, 2, seed=2)])
    found = concept_game(logits[..., None])
    each = [_enumerated(layer) for layer in logits]
    assert_close(found.coalition_mean[:, 0], (each[0][0] + each[1][0]) / 2, rtol=0, atol=1e-8)
    assert_close(found.values[..., 0], (each[0][1] + each[1][1]) / 2, rtol=0, atol=1e-8)


def test_two_hundred_concepts_keep_efficiency_and_few_nodes_in_p_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.stack([_logits(200, 12, seed) for seed in (3, 4)], 1)[None]
    found = concept_game(logits)
    assert_close(found.values.sum(0), logits[0].softmax(0), rtol=0, atol=2e-8)
    assert len(_concept_game._chances(200)[0]) < 40
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(100))
    monkeypatch.setattr(_concept_game, "_chances", lambda concepts: ((nodes + 1) / 2, weights / 2))
    assert_close(concept_game(logits, pairs=False).coalition_mean, found.coalition_mean, rtol=0, atol=1e-9)


def test_chunks_of_patches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(2, 5, 9, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    always = torch.randn(2, 9, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    whole = concept_game(logits, always)
    monkeypatch.setattr(_concept_game, "CELLS", 5 * 44 * 3 * 2)
    parts = concept_game(logits, always)
    assert_close(parts.coalition_mean, whole.coalition_mean, rtol=0, atol=1e-12)
    assert_close(parts.values, whole.values, rtol=0, atol=1e-12)
    alone = concept_game(logits, always, pairs=False)
    assert alone.values is None
    assert_close(alone.coalition_mean, whole.coalition_mean, rtol=0, atol=1e-12)


def test_equal_concepts_share_alike_and_a_hopeless_one_takes_nothing() -> None:
    found = concept_game(torch.zeros(1, 4, 1, dtype=torch.float64))
    harmonic = sum(1 / size for size in range(1, 5)) / 4
    assert_close(found.coalition_mean[:, 0], torch.full((4,), harmonic, dtype=torch.float64), rtol=0, atol=1e-8)
    assert_close(found.values[..., 0], torch.full((4, 4), -0.25).fill_diagonal_(1).double(), rtol=0, atol=1e-8)
    hopeless = concept_game(torch.tensor([[[0.0], [0.5], [-3000.0]]], dtype=torch.float64))
    assert_close(hopeless.values[2, :2, 0], torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-8)
    # It has the patch where it is alone, and otherwise nothing.
    assert_close(hopeless.values[:2, 2, 0], torch.full((2,), -0.5, dtype=torch.float64), rtol=0, atol=1e-8)
    assert_close(hopeless.coalition_mean[2, 0].item(), 1 / 3, rtol=0, atol=1e-8)


def _maps(layers: int = 2, seed: int = 5) -> ConceptMaps:
    by_layer = 2 * torch.randn(layers, 4, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ConceptMaps(concepts=NAMES, by_layer=by_layer, layers=tuple(f"blocks.{k}" for k in range(layers)))


def test_the_maps_are_divided_among_the_concepts() -> None:
    maps = _maps()
    found = maps.interactions()
    assert_close(found.maps, maps.maps)
    assert found.gap.abs().max() < 1e-8
    assert_close(found.main_effect, torch.ones(4, 2, 3, dtype=torch.float64))
    off = ~torch.eye(4, dtype=torch.bool)
    assert (found.values[off] < 0).all()
    assert (found.coalition_mean > found.maps).all()
    assert (found.coalition_mean >= 0.25).all()
    assert_close(maps.coalition_mean(), found.coalition_mean)


def test_padding_is_always_there_and_does_not_play() -> None:
    maps = _maps()
    found = maps.interactions(padding=["lamp", "sky"])
    assert found.concepts == ("cat", "sofa")
    assert_close(found.maps, maps.maps[:2])
    e = maps.by_layer.exp()
    mass = e[:, 2:].sum(1, keepdim=True)
    assert_close(found.main_effect, (e[:, :2] / (e[:, :2] + mass)).mean(0))
    taken = (e[:, 0] / (e[:, 0] + e[:, 1] + mass[:, 0]) - e[:, 0] / (e[:, 0] + mass[:, 0])).mean(0)
    assert_close(found.values[1, 0], taken, rtol=0, atol=1e-8)
    assert_close(maps.coalition_mean(padding=["lamp", "sky"]), found.coalition_mean)
    assert_close(maps.interactions(padding=["cat", "sofa", "lamp"]).coalition_mean, maps.maps[3:], rtol=0, atol=1e-8)


def test_within_a_layer_the_played_maps_rank_concepts_as_the_softmax_does() -> None:
    maps = _maps(layers=1)
    assert torch.equal(maps.coalition_mean().argsort(0), maps.maps.argsort(0))
    assert torch.equal(maps.coalition_mean(padding=["sky"]).argsort(0), maps.maps[:3].argsort(0))


def test_readers_name_the_source_and_the_target() -> None:
    found = _maps().interactions()
    assert_close(found.outgoing("sofa")[2], found.values[1, 2])
    assert_close(found.incoming("sofa")[2], found.values[2, 1])
    pairs = {(NAMES[j], NAMES[i]): found.values[j, i].sum().item() for j in range(4) for i in range(4) if i != j}
    best = min(pairs, key=lambda pair: pairs[pair])
    assert found.top(1) == [(*best, pytest.approx(pairs[best]))]
    assert len(found.top(100)) == 12
    assert f"{best[0]!r} takes {-pairs[best]:.2f} patches from {best[1]!r}" in repr(found)


def test_interactions_of_a_transformer_divide_its_maps_in_single_precision() -> None:
    model, inputs = tiny("sd3")
    random = torch.Generator().manual_seed(1)
    concepts = {name: torch.randn(TEXT, generator=random, dtype=torch.float64) for name in NAMES}
    maps = concept_maps(model, inputs, concepts)
    single = ConceptMaps(concepts=NAMES, by_layer=maps.by_layer.float(), layers=maps.layers)
    found = single.interactions()
    assert found.values.dtype == torch.float32
    assert_close(found.values.double(), maps.interactions().values, rtol=0, atol=1e-6)
    assert found.gap.abs().max() < 1e-6


def test_the_takings_from_one_concept_are_interactions_over_its_picture() -> None:
    found = _maps().interactions()
    image = torch.randint(0, 256, (8, 12, 3), dtype=torch.uint8)
    of = found.of("sofa", image.numpy())
    place = NAMES.index("sofa")
    assert [f.label for f in of.sources] == [name for name in NAMES if name != "sofa"]
    assert_close(of.values[0].reshape(2, 3), found.values[0 if place else 1, place])
    assert_close(of.first_order.reshape(2, 3), found.maps[place])
    assert_close(of.main_effect.reshape(2, 3), found.main_effect[place])
    assert_close(of.gap.reshape(2, 3), found.gap[place])
    assert torch.equal(of.pictures[0].pixels, image)
    assert of.pictures[0].owner[0].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert of.pictures[0].owner[:, 0].tolist() == [0] * 4 + [3] * 4
    assert "sofa" in of.to_html()
    assert found.of("sofa").pictures[0].pixels.shape == (32, 48, 3)
    with pytest.raises(ApportionError, match="no concept 'dog'"):
        found.of("dog")
    alone = ConceptMaps(concepts=("cat",), by_layer=torch.zeros(1, 1, 2, 3), layers=("blocks.0",))
    with pytest.raises(ApportionError, match="is the only player"):
        alone.interactions().of("cat")


def test_saving_and_loading_gives_the_same(tmp_path: Path) -> None:
    found = _maps().interactions(padding=["sky"])
    loaded = ConceptInteractions.load(found.save(tmp_path / "found.safetensors"))
    assert (loaded.concepts, loaded.padding) == (found.concepts, found.padding)
    for name in ("maps", "coalition_mean", "values"):
        assert torch.equal(getattr(loaded, name), getattr(found, name))
    with pytest.raises(ApportionError, match="there is no file"):
        ConceptInteractions.load(tmp_path / "lost.safetensors")
    (tmp_path / "text").write_text("no tensors at all")
    with pytest.raises(ApportionError, match="not a safetensors file"):
        ConceptInteractions.load(tmp_path / "text")


def test_what_makes_no_game_is_refused() -> None:
    maps = _maps()
    with pytest.raises(ApportionError, match="no concept 'dog'"):
        maps.interactions(padding=["dog"])
    with pytest.raises(ApportionError, match="no concept 'dog'"):
        maps.interactions().outgoing("dog")
    with pytest.raises(ApportionError, match="is one text"):
        maps.interactions(padding="sky")
    with pytest.raises(ApportionError, match="there is no player"):
        maps.interactions(padding=NAMES)
    maps.by_layer[0, 1, 0, 0] = -math.inf
    with pytest.raises(ApportionError, match="of sofa are not finite"):
        maps.coalition_mean()


@pytest.mark.parametrize("with_picture", [False, True])
def test_the_figure_shows_maps_before_and_after_and_the_strongest_takings(with_picture: bool) -> None:
    pytest.importorskip("matplotlib")
    found = _maps().interactions()
    drawn = found.plot(torch.rand(8, 12, 3) if with_picture else None)
    titles = [axis.get_title() for axis in drawn.axes]
    assert [f"{name}: map" in titles and f"{name}: coalition mean" in titles for name in NAMES] == [True] * 4
    assert sum("takes" in title for title in titles) == 6
    assert ("picture" in titles) == with_picture
    some = [axis.get_title() for axis in found.plot(concepts=["sofa"]).axes]
    assert "sofa: map" in some
    assert "cat: map" not in some
    assert [title.endswith("patches from\nsofa") for title in some if "takes" in title] == [True] * 3
    alone = _maps().interactions(padding=NAMES[1:])
    assert not any("takes" in axis.get_title() for axis in alone.plot().axes)
    with pytest.raises(ApportionError, match=r"give \(height, width, 3\)"):
        found.plot(torch.rand(3, 8, 12))
    with pytest.raises(ApportionError, match="no concept 'dog'"):
        found.plot(concepts=["dog"])
