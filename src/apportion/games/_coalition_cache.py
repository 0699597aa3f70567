"""A cache file of evaluated coalitions, so that an interrupted game can be resumed."""

from __future__ import annotations

import os
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.core import ApportionError, write_atomically

FORMAT = "apportion game 1"


class CoalitionCache:
    """A safetensors file of coalitions and their payoffs.

    Args:
        path: The file, which need not exist yet.
        task: A fingerprint of everything that the payoff depends on.

    Raises:
        ApportionError: The file holds the game of another task, or something else.
    """

    def __init__(self, path: str | os.PathLike[str], task: str) -> None:
        self.path: Path = Path(path)
        self.task = task
        if not self.path.parent.is_dir():
            raise ApportionError(f"cannot keep a game in {str(path)!r}: there is no folder {str(self.path.parent)!r}.")
        self._found = self._read() if self.path.exists() else None

    @property
    def found(self) -> tuple[Bool[Tensor, "coalitions players"], Float[Tensor, "coalitions outputs"]] | None:
        """The coalitions and payoffs that the file held at first; None if there was no file."""
        return self._found

    def write(
        self, coalitions: Bool[Tensor, "coalitions players"], payoffs: Float[Tensor, "coalitions outputs"]
    ) -> None:
        """Replace the file atomically with all coalitions evaluated so far and their payoffs."""
        tensors = {"coalitions": coalitions.contiguous(), "payoffs": payoffs.contiguous()}
        write_atomically(self.path, safetensors.torch.save(tensors, {"format": FORMAT, "task": self.task}))

    def _read(self) -> tuple[Tensor, Tensor]:
        try:
            with safetensors.safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError) as error:
            raise ApportionError(f"{str(self.path)!r} is not a game's file: {error}; give another path.") from error
        if metadata.get("format") != FORMAT or tensors.keys() != {"coalitions", "payoffs"}:
            raise ApportionError(f"{str(self.path)!r} is not a game's file; give another path.")
        if metadata["task"] != self.task:
            raise ApportionError(
                f"{str(self.path)!r} holds the game of another task: the model, prompt, target, method, masker, "
                "players and targets must be the same; give another path, or delete the file."
            )
        return tensors["coalitions"], tensors["payoffs"].to(torch.float64)
