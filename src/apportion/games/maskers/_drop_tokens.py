"""Dropping tokens: absent patches are removed from the sequence of a vision transformer."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, final
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from apportion.core import ApportionError, temporary_hooks
from apportion.games.maskers._image_masker import ImageMasker
from apportion.games.maskers._masker import register_masker
from apportion.games.maskers._same_values import as_before, rounding
from apportion.models.anatomy import in_evaluation
from apportion.models.inputs import ContinuousInput, layout_of
from apportion.task import AttributionTask, Change, Variant

#: The most tokens before the patches: a class token, distillation, registers.
MOST_BEFORE = 16


@register_masker("drop-tokens")
@final
@dataclass(frozen=True)
class DropTokens(ImageMasker):
    """Removes the tokens of absent patches from the sequence, after their positions are added.

    Nothing replaces the absent patches, as when a word is deleted. It fits plain stacks such as ViT, DeiT, DINOv2 and
    the towers of CLIP and SigLIP, where the order of the patch tokens no longer matters once their positions are added;
    this is tested on the model. Only whole patches are dropped, so regions must not share a patch.
    """

    def changed(
        self, task: AttributionTask, example: int, variant: Variant, present: Bool[Tensor, " features"]
    ) -> Variant:
        """The variant with fewer tokens of the image.

        Raises:
            ApportionError: The model is not a plain stack, a patch is partly absent, or no token would be left.
        """
        if bool(present[: task.prompts[example].before_tokens].all()):
            return variant
        sequence, continuous = patch_sequence(task, example, "the masker 'drop-tokens'")
        there = whole_patches(task, example, continuous, present[: continuous.count])
        places = torch.cat([torch.arange(sequence.before), sequence.before + there.nonzero().flatten()])
        if not len(places):
            raise ApportionError(
                f"{type(task.head.model).__name__} has no token beside its patches, so they cannot all be dropped; "
                "use masker='mean' or 'blur'."
            )
        return replace(variant, change=Reordered(sequence.module, places))


@dataclass(frozen=True)
class PatchSequence:
    """The sequence of a vision transformer's patches: the output of `module`, with `before` tokens before them."""

    module: nn.Module
    before: int
    patches: int


class Reordered(Change):
    """Keeps only some tokens of the sequence that a module returns, in a given order."""

    def __init__(self, module: nn.Module, places: Int[Tensor, " tokens"]) -> None:
        self.module, self.places = module, places

    @property
    def kind(self) -> Hashable:
        """Examples with the same number of tokens run together."""
        return id(self.module), len(self.places)

    @contextmanager
    def applied_to(self, model: nn.Module, changes: Sequence[Change]) -> Iterator[None]:
        """The model with a shorter sequence for each example, as long as the context lasts."""
        places = torch.stack([change.places for change in changes if isinstance(change, Reordered)])

        def cut(module: nn.Module, arguments: Any, output: Any) -> Any:
            tokens = output[0] if isinstance(output, tuple) else output
            mine = places.to(tokens.device)
            chosen = tokens[torch.arange(len(mine), device=tokens.device)[:, None], mine]
            return (chosen, *output[1:]) if isinstance(output, tuple) else chosen

        with temporary_hooks() as handles:
            handles.append(self.module.register_forward_hook(cut))
            yield


#: For each task and example, so that a model is tested only once.
_TRIED: WeakKeyDictionary[AttributionTask, dict[int, PatchSequence]] = WeakKeyDictionary()


def patch_sequence(task: AttributionTask, example: int, doing: str) -> tuple[PatchSequence, ContinuousInput]:
    """The sequence of patches of a plain stack, and their continuous input; `doing` is what needs it, for errors.

    Raises:
        ApportionError: There is no such sequence, the order of its tokens matters, or the target reads single tokens.
    """
    prompt, model = task.prompts[example], task.head.model
    refusal = f"{doing} needs a plain stack of patches (ViT, DeiT, DINOv2, CLIP, SigLIP), and "
    other = "; leave-one-out or occlusion with masker='mean' or 'blur' fit."
    continuous = prompt.continuous_inputs[0] if len(prompt.continuous_inputs) == 1 else None
    if continuous is None or continuous.patches is None or not continuous.batched:
        raise ApportionError(f"{refusal}{type(model).__name__} has none for this prompt{other}")
    for target in task.targets:
        if target.single_place is not None:
            raise ApportionError(f"{refusal}the target reads of={target.single_place!r}, whose place would move{other}")
    known = _TRIED.setdefault(task, {})
    if example not in known:
        found = _found(task, example, continuous)
        if found is None:
            raise ApportionError(f"{refusal}{type(model).__name__} makes no sequence of them{other}")
        if not _order_is_free(task, example, found):
            raise ApportionError(f"{refusal}in {type(model).__name__} the order of the patches matters{other}")
        known[example] = found
    return known[example], continuous


def whole_patches(
    task: AttributionTask, example: int, continuous: ContinuousInput, present: Bool[Tensor, " features"]
) -> Bool[Tensor, " patches"]:
    """For each of the model's patches whether it is present.

    Raises:
        ApportionError: A patch is partly present.
    """
    inputs = task.prompts[example].inputs
    there = continuous.present(present).expand(inputs[continuous.name].shape).to(torch.float32)
    (image,) = layout_of(task.head.model, continuous.name, dict(inputs)).images(there)
    assert continuous.patches is not None
    rows, columns = continuous.patches
    height, width = image.shape[0] // rows, image.shape[1] // columns
    cells = image[: rows * height, : columns * width, 0].reshape(rows, height, columns, width)
    shares = cells.transpose(1, 2).reshape(rows * columns, -1).mean(1)
    if bool(((shares > 0) & (shares < 1)).any()):
        raise ApportionError(
            "a region covers a part of a patch, and only whole patches can be dropped; use regions='patches', or "
            "masker='mean' or 'blur'."
        )
    return shares > 0


def _found(task: AttributionTask, example: int, continuous: ContinuousInput) -> PatchSequence | None:
    """The outermost module that embeds patches and returns a sequence of them."""
    model = task.head.model
    assert continuous.patches is not None
    patches = continuous.patches[0] * continuous.patches[1]
    candidates: list[PatchSequence] = []

    def look(module: nn.Module, arguments: Any, output: Any) -> None:
        tokens = output[0] if isinstance(output, tuple) and output else output
        if isinstance(tokens, Tensor) and tokens.ndim == 3 and 0 <= tokens.shape[1] - patches <= MOST_BEFORE:
            candidates.append(PatchSequence(module, tokens.shape[1] - patches, patches))

    with temporary_hooks() as handles:
        handles += [module.register_forward_hook(look) for module in model.modules() if _embeds(module)]
        with in_evaluation(model), torch.no_grad():
            model(**task.single(example).inputs)
    task.passes.forward += 1
    # Inner modules return first, so the last one that contains the first is the outermost.
    around = [one for one in candidates if candidates[0].module in one.module.modules()]
    return around[-1] if around else None


def _embeds(module: nn.Module) -> bool:
    """Whether a module makes patches but contains no layers."""
    inside = list(module.modules())
    convolves = any(isinstance(one, nn.Conv2d | nn.Conv3d) for one in inside[1:])
    return convolves and not any(isinstance(one, nn.ModuleList | nn.Sequential) for one in inside)


def _order_is_free(task: AttributionTask, example: int, sequence: PatchSequence) -> bool:
    """Whether the targets keep their values when the patch tokens are shuffled, and can be read without one of them."""
    prompt, rows = task.prompts[example], task.rows[example]
    shuffled = torch.randperm(sequence.patches, generator=torch.Generator().manual_seed(0))
    before = torch.arange(sequence.before)
    moved = Reordered(sequence.module, torch.cat([before, sequence.before + shuffled]))
    fewer = Reordered(sequence.module, torch.arange(max(1, sequence.before + sequence.patches - 1)))
    try:
        values = task.evaluate(example, [Variant(prompt, rows, moved), Variant(prompt, rows, fewer)])
    except (ApportionError, AssertionError, IndexError, RuntimeError, TypeError, ValueError):
        return False  # later modules expect the usual number of tokens
    return as_before(task, example, values[0], 1000 * rounding(task))
