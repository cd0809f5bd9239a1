"""Sums down columns take several rows at a time and tiles of columns: every remainder of both is exercised."""

import numpy as np
import pytest

import staticgraph as sg

ROWS = (*range(10), 15, 16, 17, 20, 31, 33, 67)     # blocks of 16, passes of 4, and what is left of each
COLUMNS = (1, 3, 37, 2049)     # the widest tile has 2048


@pytest.fixture(scope="module")
def sums() -> sg.Executable:
    x = sg.placeholder("x", ("n", "m"), "float32")
    w = sg.placeholder("w", ("m",), "float32")
    return sg.compile([x, w], (sg.sum(x, axis=0), sg.sum(x * x + w, axis=0)))


@pytest.mark.parametrize("columns", COLUMNS)
def test_every_remainder(sums: sg.Executable, columns: int) -> None:
    random = np.random.default_rng(columns)
    w = random.standard_normal(columns, np.float32)
    for rows in ROWS:
        x = random.standard_normal((rows, columns), np.float32)
        plain, squares = sums(x, w)
        exact = x.astype(np.float64)
        np.testing.assert_allclose(plain, exact.sum(0), rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(squares, (exact * exact + w).sum(0), rtol=1e-6, atol=1e-4)


def test_middle_axis_of_static_size() -> None:
    x = sg.placeholder("x", ("n", 11, "m"), "float64")
    values = np.random.default_rng(0).standard_normal((5, 11, 7))
    np.testing.assert_allclose(sg.compile([x], sg.sum(x, axis=1))(values), values.sum(1), rtol=1e-12)
