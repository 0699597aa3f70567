"""What every test gets: no network, the same random examples each time, and shapes checked as the code runs."""

from __future__ import annotations

import os
import sys

import torch
from hypothesis import HealthCheck, settings

from tests.checking import Checking

# Both before anything imports transformers or apportion.
os.environ["HF_HUB_OFFLINE"] = "1"
sys.meta_path.insert(0, Checking())

# Slowness is measured in benchmarks/, and torch's first call is slow.
settings.register_profile(
    "apportion", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("apportion")

# The tensors are tiny: a second thread only waits, and the machine is often busy.
torch.set_num_threads(1)
