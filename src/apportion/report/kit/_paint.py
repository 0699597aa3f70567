"""Paint: heat maps and photographs as PNG images that a page can hold."""

from __future__ import annotations

import base64
import struct
import zlib

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from apportion.core import Picture

#: The colours of what adds and of what takes away, laid over photographs: the same on light and dark pages.
ADDS, TAKES = (255, 106, 0), (30, 128, 255)
#: The longest side of a photograph on a page, in pixels.
LONGEST = 768


def strengths(scores: Float[Tensor, " member"], largest: float) -> Float[Tensor, " member"]:
    """Where scores lie on the colour scale, from −1 to 1; 0 for what is not finite and where all scores are 0."""
    if largest == 0:
        return torch.zeros_like(scores)
    return torch.nan_to_num(scores / largest, nan=0.0, posinf=0.0, neginf=0.0).clamp(-1, 1)


def heat(
    cells: Int[Tensor, "row column"], strength: Float[Tensor, " member"], *, signed: bool
) -> UInt8[Tensor, "row column 4"]:
    """A map as red, green, blue and opacity: the stronger, the less of the photograph shines through.

    Args:
        cells: For each cell its member, -1 for none.
        strength: Of each member, from −1 to 1.
        signed: Whether what takes away is shown as well.
    """
    at = torch.cat([strength, strength.new_zeros(1)])[cells]
    colour = torch.where((at < 0)[..., None], torch.tensor(TAKES), torch.tensor(ADDS))
    opacity = at.abs() if signed else at.clamp_min(0)
    return torch.cat([colour, (opacity * 255).round()[..., None]], -1).to(torch.uint8)


def photograph(picture: Picture, *, longest: int = LONGEST) -> UInt8[Tensor, "height width 3"]:
    """A picture's pixels, scaled down where a page needs no more of them."""
    height, width = picture.pixels.shape[:2]
    if max(height, width) <= longest:
        return picture.pixels
    scale = longest / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(picture.pixels.permute(2, 0, 1)[None].float(), size=size, mode="area")
    return small[0].permute(1, 2, 0).round().to(torch.uint8)


def data_uri(pixels: UInt8[Tensor, "height width channel"]) -> str:
    """An image as a PNG in a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def png(pixels: UInt8[Tensor, "height width channel"]) -> bytes:
    """An image as a PNG file; three channels are red, green and blue, a fourth is the opacity.

    Source:
        PNG specification, third edition: chunks, colour types 2 and 6, filter type 1 (Sub).
    """
    height, width, channels = pixels.shape
    kind = {3: 2, 4: 6}[channels]
    values = pixels.cpu().to(torch.int16)
    left = F.pad(values, (0, 0, 1, 0))[:, :-1]
    rows = ((values - left) % 256).to(torch.uint8).reshape(height, -1)
    lines = torch.cat([torch.ones(height, 1, dtype=torch.uint8), rows], 1)
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    content = zlib.compress(lines.numpy().tobytes(), 6)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", content), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
