"""Schedules against their formulas, as part of the compiled step."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import staticgraph as sg

optim = sg.optim

SCHEDULES: dict[str, tuple[Any, Callable[[int], float]]] = {
    "exponential": (optim.exponential_decay(0.5, 0.8, 3), lambda n: 0.5 * 0.8 ** (n / 3)),
    "step": (optim.step_decay(0.5, 0.1, 3), lambda n: 0.5 * 0.1 ** (n // 3)),
    "cosine": (optim.cosine_decay(0.5, 6), lambda n: 0.25 * (1 + math.cos(math.pi * min(n, 6) / 6))),
    "cosine to a floor": (optim.cosine_decay(0.5, 6, floor=0.1),
                          lambda n: 0.1 + 0.2 * (1 + math.cos(math.pi * min(n, 6) / 6))),
    "warm constant": (optim.warmup(0.5, 4), lambda n: 0.5 * min((n + 1) / 4, 1)),
    "warm cosine": (optim.warmup(optim.cosine_decay(0.5, 6), 4),
                    lambda n: 0.25 * (1 + math.cos(math.pi * min(n, 6) / 6)) * min((n + 1) / 4, 1)),
    "own": (lambda count: 1 / (1 + count), lambda n: 1 / (1 + n)),
    "a number": (lambda count: 0.25, lambda n: 0.25),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 1e-5)])
def test_rates(name: str, dtype: str, rtol: float) -> None:
    """With a gradient of -1, SGD adds up the rates."""
    schedule, formula = SCHEDULES[name]
    w = sg.variable(np.zeros(3, dtype), name="w")
    loss = -sg.sum(w)
    optimizer = optim.SGD(schedule)
    step = sg.compile([], loss, updates=optimizer.updates(loss, [w]))
    for number in range(9):
        step()
        expected = math.fsum(formula(each) for each in range(number + 1))
        np.testing.assert_allclose(w.value, expected, rtol=rtol)
    assert optimizer.count.value == 9
    assert w.value.dtype == dtype


def test_adam_and_its_schedule_share_the_count() -> None:
    w = sg.variable(np.zeros(2), name="w")
    loss = sg.sum(w * np.array([1.0, -3.0]))
    optimizer = optim.Adam(lambda count: 1.0 + count, eps=0.0)
    step = sg.compile([], loss, updates=optimizer.updates(loss, [w]))
    for _ in range(3):
        step()
    np.testing.assert_allclose(w.value, [-6.0, 6.0], rtol=1e-12)     # steps of 1, 2 and 3 against the sign
    assert [each.name for each in optimizer.state()] == ["adam.count", "w.mean", "w.spread"]


@pytest.mark.parametrize("build", [
    lambda: optim.cosine_decay(0.1, 0), lambda: optim.exponential_decay(0.1, -1.0),
    lambda: optim.step_decay(0.1, 0.5, 0), lambda: optim.warmup(0.1, 0)])
def test_refusals(build: Any) -> None:
    with pytest.raises(sg.ArgumentError, match="must be above 0"):
        build()


def test_a_schedule_gives_one_number() -> None:
    w = sg.variable(np.zeros(2), name="w")
    with pytest.raises(sg.ShapeError, match="one number"):
        optim.SGD(lambda count: count * np.ones(2)).updates(sg.sum(w), [w])
    with pytest.raises(sg.ArgumentError, match="lr is a number, got None"):
        optim.SGD(lambda count: None).updates(sg.sum(w), [w])
