"""Maskers by name: one, or one for text and one for images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from apportion.core import ApportionError, made_by_name, name_in
from apportion.games.maskers._image_masker import ImageMasker, MeanColour, ZeroPixels
from apportion.games.maskers._masker import MASKERS, AnyMasker, Masker, Replace
from apportion.games.maskers._mixed_masker import Mixed

#: Names that are of tokens and stand for these where images are meant; see `in_prompt`.
_OF_IMAGES: Mapping[str, Callable[..., ImageMasker]] = {"zero": ZeroPixels, "mean": MeanColour}


def as_masker(masker: AnyMasker) -> Masker:
    """The masker with a name.

    `"replace(pad)"` and `"replace(0)"` name the token, `"blur(sigma=10)"` sets an option, and `"delete+blur"` names
    a masker for text and one for images.

    Raises:
        ApportionError: There is no masker of that name, or both are for text or both for images.
    """
    if isinstance(masker, Masker):
        return masker
    names = [name.strip() for name in re.split(r"\+(?![^(]*\))", masker)]
    if len(names) == 1:
        return _named(masker)
    of_image = [name not in _OF_IMAGES and isinstance(_named(name), ImageMasker) for name in names]
    if len(names) == 2 and of_image[0] and not of_image[1]:
        names, of_image = names[::-1], of_image[::-1]
    image = _OF_IMAGES[names[1]]() if names[1] in _OF_IMAGES else _named(names[1])
    if len(names) > 2 or of_image[0] or not isinstance(image, ImageMasker):
        raise ApportionError(f"masker={masker!r} must name one for text and one for images, such as 'delete+blur'.")
    return Mixed(_named(names[0]), image)


def _named(name: str) -> Masker:
    by = re.fullmatch(r"replace\(\s*(?:token\s*=\s*)?['\"]?(\w+)['\"]?\s*\)", name)
    if by is not None:
        return Replace(int(by[1]) if by[1].isdecimal() else by[1])  # type: ignore[arg-type]
    if name_in(name) in MASKERS:
        return made_by_name(name, MASKERS, what="masker", example="blur(sigma=10)")
    raise ApportionError(
        f"there is no masker {name!r}; the maskers are {', '.join(MASKERS)} and, to name a token, replace(pad)."
    )
