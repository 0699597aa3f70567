"""How the benchmark measures time and memory.

Time is wall time of one call, after a garbage collection outside the clock: a call that leaves reference cycles would
otherwise bill them to whichever call comes next. What a call leaves behind is reported by itself, as `kept`.

Peak memory on a CPU has no counter in torch such as `torch.cuda.max_memory_allocated`, so two are taken, each in a
process that does nothing else, above what is in use after building the model and a warm-up on eight tokens:

- `tensors`: the profiler reports every allocation and release of torch's CPU allocator; their running sum gives the
  highest number of bytes that tensors held at once. The number is exact, the same on every run and machine, and
  blind to the work space of the BLAS and to Python objects. The ratios between the methods are taken from it.
- `resident`: the process's own high-water mark (`VmHWM`, reset through `/proc/self/clear_refs`). It sees everything,
  and the C allocator's habits too: freed blocks that are not given back, arenas, pages. It is there to check the first
  against what a user's machine will say. Linux only; absent elsewhere. `ru_maxrss` is the same mark but can't be
  reset, and building the model has pushed it up before the measurement starts.

The resident mark is taken on a call of its own, since the profiler's records take memory too.
"""

import ctypes
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of one call, in bytes above what was in use before it.

    Args:
        tensors: Most that tensors held at once.
        resident: Growth of the process's high-water mark; None where the system does not tell.
        kept: What tensors still hold after the call's result is dropped and garbage is collected; 0 is right.
    """

    tensors: int
    resident: int | None
    kept: int


def seconds(call: Call) -> float:
    """Wall time of one call."""
    gc.collect()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def memory(call: Call) -> Memory:
    """Peak memory of one call; run a small one first, so that caches and lazy imports are not counted."""
    resident = _resident_growth(call)
    tensors, kept = _tensor_bytes(call)
    return Memory(tensors=tensors, resident=resident, kept=kept)


def _tensor_bytes(call: Call) -> tuple[int, int]:
    """Peak and final value of the bytes that tensors hold above the start."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
        del result
        gc.collect()
    # The public averages per operation lose the order of allocations, so the raw events are read.
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns())
    held = peak = 0
    for change in changes:
        held += change.nbytes()
        peak = max(peak, held)
    return peak, held


def _resident_growth(call: Call) -> int | None:
    """Growth of the process's high-water mark during a call."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        call()
        return _status("VmHWM") - before
    except OSError:
        return None


def _status(field: str) -> int:
    """A line of `/proc/self/status`, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
