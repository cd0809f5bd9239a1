"""Guards in kernels for a GPU: the first bad element is reported, and nothing is written then."""

from __future__ import annotations

import numpy as np
import pytest

import staticgraph as sg
from tests.cuda import skip_without_compiler

skip_without_compiler()

from tests.cuda.simulate import compile_simulated  # noqa: E402


def test_nan_and_assertions() -> None:
    x = sg.placeholder("x", ("n", 40))
    w = sg.variable(np.ones(40, "float32"), "w")
    y = sg.log(x)
    held = sg.assert_that(y, sg.logical_not(y >= 5), "small")
    compiled = compile_simulated([x], {"y": held}, updates={w: w + sg.sum(held, 0)}, options={"check": "nan"})
    given = np.full((50, 40), 2, "float32")
    np.testing.assert_allclose(compiled(given)["y"], np.log(given), rtol=1e-6)
    before = w.value
    for place in ((49, 39), (7, 3), (7, 2)):
        given[place] = -1
        with pytest.raises(sg.NonFiniteError, match=rf"output 'y' holds nan(.|\n)*first at \[{place[0]}, {place[1]}\]"):
            compiled(given)
    given[:] = 2
    given[4, 30] = given[5, 1] = 1000
    with pytest.raises(sg.AssertionFailed, match=r"small(.|\n)*first at \[4, 30\]"):
        compiled(given)
    np.testing.assert_array_equal(w.value, before)
