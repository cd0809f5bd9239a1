"""What rates are set against: the loop computes what it says, and the numbers are numbers of this machine."""

import ctypes

import numpy as np
import pytest

from staticgraph.bench.peak import peaks
from staticgraph.runtime.cpu.peak import ACCUMULATORS, loop_of_multiply_adds


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_loop_multiplies_and_adds_in_every_accumulator(dtype: str) -> None:
    """a = a * x + x three times from 0: x + x**2 + x**3 in each accumulator, whose sum is stored with 2x added."""
    engine, address, lanes = loop_of_multiply_adds(dtype)
    place = np.linspace(-1, 1, lanes).astype(dtype)
    x = place.copy()
    ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(address)(3, place.ctypes.data)
    np.testing.assert_allclose(place, 2 * x + ACCUMULATORS * (x + x**2 + x**3), rtol=1e-5, atol=1e-5)
    del engine


def test_peaks_are_found() -> None:
    found = peaks(2, "wall", tiny=True)
    assert set(found) == {"copy_gb_s", "float32_gflop_s", "float64_gflop_s", "seconds"}
    assert all(value > 0 for value in found.values())
