"""What the machine can do at most, measured by the clock that everything of a run is measured by.

Copying is tried by `np.copyto` (one thread, stores that skip the caches) and by a kernel of ours (as many threads as
kernels get): the better one counts. The arithmetic is the runtime's loop of fused multiply-adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import staticgraph as sg

from ..runtime.cpu.peak import FLOATS, best_of, multiply_add_peak
from .contest import CLOCKS

COPY_BYTES = 128 * 2**20
TURNS = 2_000_000


def copy_bandwidth(nbytes: int, clock: str, rounds: int = 7) -> float:
    """Bytes read and written per second between arrays far larger than the caches."""
    source = np.ones(nbytes // 8, np.float64)
    target = np.zeros_like(source)
    x = sg.placeholder("x", ("n",), "float64")
    negate = sg.compile([x], -x)
    ways: Sequence[Callable[[], Any]] = (partial(np.copyto, target, source), partial(negate, source))
    return 2 * source.nbytes / min(best_of(way, CLOCKS[clock], rounds) for way in ways)


def peaks(threads: int, clock: str, *, tiny: bool = False) -> dict[str, Any]:
    """Everything that rates are set against. `tiny` tries it out and measures nothing."""
    start = time.perf_counter()
    nbytes, rounds, turns = (2**20, 1, 1000) if tiny else (COPY_BYTES, 7, TURNS)
    found: dict[str, Any] = {"copy_gb_s": copy_bandwidth(nbytes, clock, rounds) / 1e9}
    for dtype in FLOATS:
        found[f"{dtype}_gflop_s"] = multiply_add_peak(dtype, threads, CLOCKS[clock], rounds, turns) / 1e9
    found["seconds"] = time.perf_counter() - start
    return found
