"""Guards in kernels for a GPU: the first bad element is reported, and nothing is written then."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import staticgraph as sg
from tests.cuda import skip_without_compiler

skip_without_compiler()

from staticgraph.runtime.cuda.driver import set_library  # noqa: E402
from tests.cuda.fake_driver import FakeDriver  # noqa: E402
from tests.cuda.simulate import compile_simulated  # noqa: E402


def test_nan_and_assertions() -> None:
    x = sg.placeholder("x", ("n", 8))
    w = sg.variable(np.ones(8, "float32"), "w")
    y = sg.log(x)
    held = sg.assert_that(y, sg.logical_not(y >= 5), "small")
    compiled = compile_simulated([x], {"y": held}, updates={w: w + sg.sum(held, 0)}, options={"check": "nan"})
    given = np.full((12, 8), 2, "float32")
    np.testing.assert_allclose(compiled(given)["y"], np.log(given), rtol=1e-6)
    before = w.value
    for place in ((11, 7), (7, 3), (7, 2)):
        given[place] = -1
        with pytest.raises(sg.NonFiniteError, match=rf"output 'y' holds nan(.|\n)*first at \[{place[0]}, {place[1]}\]"):
            compiled(given)
    given[:] = 2
    given[4, 6] = given[5, 1] = 1000
    with pytest.raises(sg.AssertionFailed, match=r"small(.|\n)*first at \[4, 6\]"):
        compiled(given)
    np.testing.assert_array_equal(w.value, before)


@pytest.fixture
def gpu() -> Iterator[FakeDriver]:
    fake = FakeDriver()
    set_library(fake)
    yield fake
    set_library(None)


def test_the_whole_backend(gpu: FakeDriver) -> None:
    """Errors with their cause, also for inputs that are on the device; prints of results that stay there."""
    x = sg.placeholder("x", ("n", 3))
    w = sg.variable(np.ones(3, "float32"), "w")
    y = sg.debug_print(sg.log(x) * w, "logs")
    texts: list[str] = []
    step = sg.compile([x], y, updates={w: w + sg.sum(y, 0)}, device="cuda",
                      options={"check": "nan", "print_to": texts.append, "results": "device"})
    shift = sg.compile([x], x - 3, device="cuda", options={"results": "device"})
    given = np.full((4, 3), 2, "float32")
    np.testing.assert_allclose(step(given).numpy(), np.log(given), rtol=1e-6)
    before = w.value
    np.testing.assert_allclose(before, 1 + 4 * np.log(np.float32(2)), rtol=1e-6)
    assert len(texts) == 1 and texts[0].startswith("logs: float32[4, 3]")
    given[2:] = 4
    for made in (given - 3, shift(given)):
        with pytest.raises(sg.NonFiniteError, match=r"log: makes nan at \[0, 0\](.|\n)*where a = -1.0"):
            step(made)
    np.testing.assert_array_equal(w.value, before)
    assert len(texts) == 1
