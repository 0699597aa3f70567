"""The model and how it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import apportion as ap
from apportion.cli._app import note, waiting
from apportion.cli._command import Options, given, running, what


@dataclass(frozen=True, kw_only=True)
class Runs(Options):
    """How a model runs."""

    dtype: Annotated[
        str | None, running("--dtype", metavar="TYPE", help="Of the weights, such as bfloat16. Default: float32.")
    ] = None
    device: Annotated[
        str | None, running("--device", metavar="NAME", help="Such as cpu, cuda or mps. Default: cpu.")
    ] = None

    def load(self, name: str, *, quiet: bool = False, **options: Any) -> ap.Explainer:
        """An explainer for a model by name."""
        from huggingface_hub.utils import logging as hub_logging
        from transformers.utils import logging as transformers_logging

        if "TRANSFORMERS_VERBOSITY" not in os.environ:
            transformers_logging.set_verbosity_error()
        if "HF_HUB_VERBOSITY" not in os.environ:
            hub_logging.set_verbosity_error()
        local = Path(name).is_dir()
        if not (local or quiet or name == "demo" or name.startswith((".", "/"))):
            note(f"looking for {name!r} in the Hugging Face hub's cache and on the hub …")
        # A download and the demo's conversion show their own progress.
        with waiting("loading the model", quiet=quiet or not local):
            return ap.load(name, **given(dtype=self.dtype, device=self.device, **options))


@dataclass(frozen=True, kw_only=True)
class Model(Runs):
    """A model by name."""

    name: Annotated[
        str,
        what(
            "--model",
            "-m",
            metavar="NAME",
            help="A folder as save_pretrained writes it, a name on the Hugging Face hub, or 'demo'.",
        ),
    ]

    def explainer(self, *, quiet: bool = False, **options: Any) -> ap.Explainer:
        """The model, ready to be explained; see `load`."""
        return self.load(self.name, quiet=quiet, **options)
