"""Where the time of a call goes on a GPU: calls as they are, in phases, and in between each kernel between two events.

A call replays a graph, whose kernels cannot be told apart while it runs. So the same launches are put into the stream
one by one, with an event after each: what two events have between them is at least some microseconds, and small kernels
take less in the graph. What a call takes beside its kernels is not told apart: copies, launching, waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..convert import Array
from ..profile import (
    BUDGET,
    MAXIMUM_ROUNDS,
    MINIMUM_ROUNDS,
    CompileTime,
    Event,
    Part,
    Profile,
    fastest_quarter,
    make_steps,
)
from .device import Device, Stream
from .device import Event as Mark
from .launch import Launcher
from .layout import Binding


class Phases(NamedTuple):
    """When the phases of one call began, in seconds of the host's clock."""

    start: float
    accepted: float
    bound: float
    ran: float
    end: float


def measure_launches(launchers: Sequence[Launcher], marks: Sequence[Mark], stream: Stream) -> list[float]:
    """The time of each launch, without the graph, of a binding whose addresses are all filled in."""
    marks[0].record(stream.handle)
    for launcher, mark in zip(launchers, marks[1:]):
        launcher.launch(stream.handle)
        mark.record(stream.handle)
    stream.synchronize()
    return [after.seconds_since(before) for before, after in pairwise(marks)]


def measure_calls(call: Callable[[], tuple[Phases, Binding, Sequence[Launcher], Any]], device: Device,
                  stream: Stream) -> tuple[list[Phases], Binding, Array]:
    """Calls, and the times of their steps in turns: (calls, steps). `call` gives what keeps the results alive too."""
    phases: list[Phases] = []
    times: list[Array] = []
    marks: list[Mark] = []
    deadline = time.perf_counter() + BUDGET
    while True:
        found, binding, launchers, kept = call()
        marks = marks or [Mark(device, timing=True) for _ in range(len(launchers) + 1)]
        row = np.zeros(max((each.step for each in binding.launches), default=-1) + 1)
        for launching, seconds in zip(binding.launches, measure_launches(launchers, marks, stream)):
            row[launching.step] = seconds
        del kept     # alive until here: kernels write to it
        phases.append(found)
        times.append(row)
        if len(times) >= MINIMUM_ROUNDS and (len(times) >= MAXIMUM_ROUNDS or time.perf_counter() > deadline):
            return phases, binding, np.stack(times)


def make_profile(program: Any, sizes: Any, phases: Sequence[Phases], times: Array, compiling: tuple[CompileTime, ...],
                 account: str, display_hook: Any) -> Profile:
    """The profile of these calls. Steps that have nothing to do take no time."""
    steps = np.zeros((len(times), len(program.steps)))
    steps[:, :times.shape[1]] = times
    walls = np.array([each.end - each.start for each in phases])
    kept = fastest_quarter(walls)
    seconds = steps[kept].mean(0)
    profiled = make_steps(program, sizes, seconds, (seconds > 0).astype(float), seconds, {})
    wall = float(walls[kept].mean())
    parts = tuple(Part(name, float(value)) for name, value in _parts(phases, steps, kept) if value)
    return Profile(device=program.device, threads=1, sizes=dict(sizes), rounds=len(walls), seconds=wall,
                   plain_seconds=wall, overhead=0.0, steps=profiled, parts=parts, compiling=compiling, account=account,
                   events=tuple(_events(profiled)), program=program, display_hook=display_hook)


def _parts(phases: Sequence[Phases], steps: Array, kept: Array) -> Iterator[tuple[str, float]]:
    marks = np.array(phases)[kept]
    ran = (marks[:, 3] - marks[:, 2])
    kernels = np.minimum(steps[kept].sum(1), ran)
    yield "arguments", (marks[:, 1] - marks[:, 0]).mean()
    yield "binding", (marks[:, 2] - marks[:, 1]).mean()
    yield "kernels", kernels.mean()
    yield "device", (ran - kernels).mean()
    yield "results", (marks[:, 4] - marks[:, 3]).mean()


def _events(steps: Sequence[Any]) -> Iterator[Event]:
    """The steps one after the other, as the stream runs them."""
    start = 0.0
    for step in steps:
        if step.seconds:
            yield Event(0, step.number, step.kernel, start, step.seconds)
            start += step.seconds
