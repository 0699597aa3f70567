"""Fingerprints: digests of the values that a run depends on, equal across processes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# The number of entries to read of each weight; training changes all of them.
SAMPLED = 8


def fingerprint(value: Any) -> str:
    """A digest of values, tensors, dataclasses and containers of these; functions and other objects count by name."""
    digest = hashlib.blake2b(digest_size=8)
    for piece in _pieces(value):
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()


def weights_fingerprint(model: nn.Module) -> str:
    """A digest of a few entries of every weight, which differs after further training."""
    return fingerprint({name: _sample(weight) for name, weight in model.state_dict().items()})


def _sample(weight: Any) -> Any:
    if not isinstance(weight, Tensor) or weight.is_meta or weight.numel() == 0:
        return None
    flat = weight.detach().reshape(-1)
    places = torch.linspace(0, len(flat) - 1, min(SAMPLED, len(flat)), dtype=torch.float64).long()
    return list(weight.shape), flat[places.to(flat.device)]


def _pieces(value: Any) -> Iterator[bytes]:
    if value is None or isinstance(value, bool | int | float | str):
        yield f"{type(value).__name__} {value!r}".encode(errors="surrogatepass")
    elif isinstance(value, Tensor):
        plain = value.detach().cpu()
        yield f"tensor {plain.dtype} {tuple(plain.shape)}".encode()
        yield (plain.float() if plain.dtype is torch.bfloat16 else plain).contiguous().numpy().tobytes()
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"array {value.dtype} {value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif type(value).__module__.startswith("PIL."):
        yield from _pieces(np.asarray(value))
    elif isinstance(value, Mapping):
        yield f"mapping of {len(value)}".encode()
        for key in value:
            yield from _pieces(key)
            yield from _pieces(value[key])
    elif isinstance(value, list | tuple | set | frozenset):
        yield f"{type(value).__name__} of {len(value)}".encode()
        for one in sorted(value, key=repr) if isinstance(value, set | frozenset) else value:
            yield from _pieces(one)
    else:
        named = value if isinstance(value, type) or hasattr(value, "__qualname__") else type(value)
        yield f"{named.__module__}.{named.__qualname__}".encode()
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _pieces({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
