"""Schedules: learning rates that depend on the number of steps done so far.

A schedule is a function from that number, a 0-d tensor of the parameters' dtype, to the rate of the next step; what is
returned here is graph when it is called, and runs inside of the compiled step. Any function of a tensor will do:

>>> optimizer = sg.optim.SGD(lr=lambda count: 0.1 / (1 + 0.01 * count))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError
from ..ops.elementwise import cos, exp, floor, minimum
from ..tensor import Tensor

__all__ = ["cosine_decay", "exponential_decay", "step_decay", "warmup"]

Schedule = Callable[[Tensor], Any]


def exponential_decay(lr: float, rate: float, steps: float = 1) -> Schedule:
    """lr * rate**(count / steps): multiplied by `rate` every so many steps, smoothly."""
    _positive("exponential_decay", rate=rate, steps=steps)
    return lambda count: lr * exp(count * (math.log(rate) / steps))


def step_decay(lr: float, rate: float, steps: int) -> Schedule:
    """lr * rate**floor(count / steps): multiplied by `rate` every so many steps, at once."""
    _positive("step_decay", rate=rate, steps=steps)
    return lambda count: lr * exp(floor(count / steps) * math.log(rate))


def cosine_decay(lr: float, steps: int, floor: float = 0.0) -> Schedule:
    """From lr down to `floor` along half a cosine, over so many steps, and there it stays."""
    _positive("cosine_decay", steps=steps)
    return lambda count: floor + (lr - floor) * (0.5 + 0.5 * cos(minimum(count, steps) * (math.pi / steps)))


def warmup(schedule: Schedule | float, steps: int) -> Schedule:
    """The schedule (or constant rate), scaled up evenly from 1/steps to 1 over the first steps; it keeps its own count
    from the start."""
    _positive("warmup", steps=steps)
    return lambda count: (schedule(count) if callable(schedule) else schedule) * minimum((count + 1) / steps, 1)


def _positive(schedule: str, **numbers: float) -> None:
    for name, value in numbers.items():
        if not value > 0:
            raise ArgumentError(f"{schedule}: {name} must be above 0, got {value!r}")
