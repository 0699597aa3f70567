"""What every test gets: no network, the same random examples each time, and shapes checked as the code runs."""

from __future__ import annotations

import os

import torch
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Both before anything imports transformers or apportion.
os.environ["HF_HUB_OFFLINE"] = "1"
install_import_hook("apportion", "beartype.beartype")

# Slowness is measured in benchmarks/, and torch's first call is slow.
settings.register_profile(
    "apportion", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("apportion")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the workers share the cores already
