"""Shared by the tests of the source notebooks: every number is computed twice, compiled and by the NumPy meaning."""

from typing import Any

import numpy as np

import staticgraph as sg

Array = np.ndarray[Any, Any]


def feed_of(**arrays: Any) -> tuple[dict[sg.Tensor, Array], list[sg.Tensor]]:
    """A placeholder for each array, and what is fed to it: ({placeholder: array}, [placeholder, ...])."""
    feed = {}
    for name, given in arrays.items():
        array = np.asarray(given, None if isinstance(given, np.ndarray) else np.float64)
        feed[sg.placeholder(name, array.shape, array.dtype)] = array
    return feed, list(feed)


def run(outputs: Any, feed: dict[sg.Tensor, Any] | None = None, rtol: float = 1e-12) -> Any:
    """The compiled values, after a comparison with what `sg.evaluate` gives."""
    given = feed or {}
    compiled = sg.compile(list(given), outputs)(*given.values())
    expected = sg.evaluate(outputs, given)
    pairs = [(compiled, expected)] if isinstance(outputs, sg.Tensor) else list(zip(compiled, expected, strict=True))
    for ours, reference in pairs:
        assert ours.dtype == reference.dtype and ours.shape == reference.shape
        np.testing.assert_allclose(ours, reference, rtol=rtol)
    return compiled


def close(ours: Any, expected: Any, rtol: float = 1e-12) -> None:
    """Equal up to rounding, shape included."""
    expected = np.asarray(expected)
    assert np.shape(ours) == expected.shape, f"shape {np.shape(ours)}, needed {expected.shape}"
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=0)


def printed(ours: Any, expected: Any, decimals: int = 8) -> None:
    """Equal to a number that was printed with so many decimals."""
    np.testing.assert_allclose(ours, expected, rtol=0, atol=0.505 * 10.0**-decimals)


def emulated_seed_1(*draws: str) -> list[Array]:
    """The weights of notebook 1: its Tensor drew an id from NumPy's global generator, "id", between the weights.

    A draw is "id", "rand 2 3" or "randn 3 1"; the arrays come back in order.
    """
    state = np.random.RandomState(42)
    arrays = []
    for draw in draws:
        kind, *shape = draw.split()
        if kind == "id":
            state.randint(0, 100000)
        else:
            arrays.append(getattr(state, kind)(*map(int, shape)))
    return arrays
