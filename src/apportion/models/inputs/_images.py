"""Images as users give them, and the pixels to display."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from apportion.core import ApportionError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def is_image(given: Any) -> bool:
    """Whether something is an image: a PIL image, an array or tensor of pixels, or the path of a picture file."""
    if isinstance(given, str | os.PathLike):
        return names_picture(given)
    if isinstance(given, np.ndarray):
        return given.ndim == 3 or (given.ndim == 2 and given.dtype == np.uint8)
    if isinstance(given, Tensor):
        return given.ndim == 3 and (given.is_floating_point() or given.dtype == torch.uint8)
    return type(given).__module__.startswith("PIL.")


def names_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a path has the suffix of a picture file."""
    return str(path).lower().endswith(SUFFIXES)


def as_image(given: Any) -> Any:
    """The image as a PIL image in red, green and blue.

    Raises:
        ApportionError: The file is missing or no picture, or the pixels have an unknown form.
    """
    image_module = _pillow()
    if isinstance(given, str | os.PathLike):
        path = Path(given).expanduser()
        try:
            with image_module.open(path) as file:
                return file.convert("RGB")
        except FileNotFoundError as error:
            raise ApportionError(f"there is no file {str(given)!r}.") from error
        except (OSError, ValueError, SyntaxError) as error:
            raise ApportionError(
                f"{str(given)!r} is no picture that can be read, or it is damaged: {error}."
            ) from error
    if isinstance(given, np.ndarray | Tensor):
        return image_module.fromarray(_bytes(given), "RGB")
    if is_image(given):
        return given.convert("RGB")
    raise ApportionError(
        f"the image is a {type(given).__name__}; give a PIL image, an array (height, width, 3) of uint8 or of floats "
        "from 0 to 1, a tensor (3, height, width), or a file's path."
    )


def processed(image: Any, processor: Any, model: nn.Module) -> dict[str, Any]:
    """The model's inputs for one image, in the model's dtype.

    Raises:
        ApportionError: There is no image processor, or the image does not fit it.
    """
    images = image_processor_of(processor)
    if images is None:
        if isinstance(image, Tensor) and image.ndim == 3 and image.is_floating_point():
            return {"pixel_values": image[None].to(dtype_of(model))}
        raise ApportionError(
            "an image was given but no image processor: Explainer(model, processor), or give the model's own "
            "{'pixel_values': …}."
        )
    return model_inputs(_run(images, as_image(image)), model)


def model_inputs(found: Mapping[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """The tensors that a processor returned, in the model's dtype."""
    dtype = dtype_of(model)
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in found.items() if isinstance(v, Tensor)}


def _run(images: Any, image: Any, **options: Any) -> dict[str, Any]:
    try:
        return dict(images(images=image, return_tensors="pt", **options))
    except (ValueError, TypeError, RuntimeError) as error:
        size = "×".join(map(str, getattr(image, "size", ())))
        raise ApportionError(
            f"the image processor refuses this image ({size} pixels): {str(error).splitlines()[0]}"
        ) from error


def processed_map(numbers: Any, image: Any, processor: Any) -> Tensor:
    """A map of whole numbers from 0 in an image's size, cropped and scaled as the processor does the image.

    Raises:
        ApportionError: The map does not have the image's size.
    """
    given = np.asarray(numbers)
    width, height = as_image(image).size
    if given.shape != (height, width):
        raise ApportionError(
            f"regions has the size {given.shape}; the image has {(height, width)} (height, width), so they do not fit."
        )
    coded = np.stack([given % 256, given // 256 % 256, given // 65536], -1).astype(np.uint8)
    options = {"do_rescale": False, "do_normalize": False, "resample": 0}  # 0 is the nearest pixel
    found = _run(image_processor_of(processor), _pillow().fromarray(coded, "RGB"), **options)["pixel_values"]
    if found.ndim != 4:
        raise ApportionError("this model's processor cuts images in pieces, so masks cannot follow; use 'patches'.")
    red, green, blue = found[0].round().long()
    return red + 256 * green + 65536 * blue


def shown(image: Float[Tensor, "height width channel"], processor: Any) -> UInt8[Tensor, "height width 3"]:
    """Pixels to display: without the processor's normalisation, else stretched from 0 to 1."""
    images = image_processor_of(processor)
    image = image.detach().float().cpu()
    mean, deviation = getattr(images, "image_mean", None), getattr(images, "image_std", None)
    if images is not None and getattr(images, "do_normalize", False) and mean is not None and deviation is not None:
        image = image * torch.tensor(deviation) + torch.tensor(mean)
    elif images is None or not getattr(images, "do_rescale", False):
        low, high = image.min(), image.max()
        image = (image - low) / (high - low).clamp_min(1e-12)
    image = image if image.shape[-1] == 3 else image[..., :1].expand(*image.shape[:-1], 3)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def image_processor_of(processor: Any) -> Any:
    """The part of a processor that makes pixel values; None if there is none."""
    part = getattr(processor, "image_processor", None)
    if part is not None:
        return part
    return processor if hasattr(processor, "do_resize") or hasattr(processor, "image_mean") else None


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype that the model computes with."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def named_masks(regions: Any) -> tuple[Any, list[str]]:
    """Masks by name as one map of numbers, with the names; a map of numbers is returned unchanged, without names.

    Raises:
        ApportionError: The masks differ in size, overlap or are empty.
    """
    if not isinstance(regions, Mapping):
        return regions, []
    from apportion.models.inputs._regions import divided

    sizes = {tuple(np.asarray(mask).shape) for mask in regions.values()}
    if len(sizes) != 1 or len(next(iter(sizes))) != 2:
        raise ApportionError(f"the masks have the sizes {sorted(sizes)}; give all in the image's size (height, width).")
    owner, labels, _ = divided(regions, next(iter(sizes)), None)
    return owner.numpy(), labels


def _bytes(given: Any) -> Any:
    """An array of bytes (height, width, 3) from an array or a tensor."""
    if isinstance(given, Tensor):
        if given.ndim != 3 or given.shape[0] not in (1, 3):
            raise ApportionError(f"the image is a tensor of shape {tuple(given.shape)}; give (3, height, width).")
        given = given.detach().cpu().permute(1, 2, 0).numpy()
    array = np.asarray(given)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4):
        raise ApportionError(f"the image is an array of shape {array.shape}; give (height, width, 3).")
    array = array[..., :3] if array.shape[-1] != 1 else np.repeat(array, 3, -1)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if not np.issubdtype(array.dtype, np.floating) or array.min() < 0 or array.max() > 1:
        raise ApportionError(
            f"the image holds {array.dtype} from {array.min():g} to {array.max():g}; give uint8, or floats from 0 to 1."
        )
    return np.ascontiguousarray((array * 255).round().astype(np.uint8))


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ApportionError("images need pillow: pip install 'apportion[vision]' or pillow itself.") from error
    return Image
