"""Where the time of a call goes on a GPU: each step between two events, with the steps before it run in between."""

from __future__ import annotations

import time
from collections.abc import Sequence

from staticgraph.compiler.program import Program

from ..profile import BUDGET, MAXIMUM_ROUNDS, MINIMUM_ROUNDS, Profile, rows
from .device import Device, Event, Stream
from .launch import Launcher
from .layout import Binding


def measure_launches(program: Program, binding: Binding, launchers: Sequence[Launcher], device: Device,
                     stream: Stream) -> Profile:
    """Time each step of a binding whose addresses are all filled in, without its graph. Steps that have nothing to do
    take no time."""
    marks = [Event(device, timing=True) for _ in range(len(launchers) + 1)]
    times: list[list[float]] = [[] for _ in program.steps]
    rounds, deadline = 0, time.perf_counter() + BUDGET
    while rounds < MAXIMUM_ROUNDS and (rounds < MINIMUM_ROUNDS or time.perf_counter() < deadline):
        marks[0].record(stream.handle)
        for launcher, mark in zip(launchers, marks[1:]):
            launcher.launch(stream.handle)
            mark.record(stream.handle)
        stream.synchronize()
        spent = {launching.step: after.seconds_since(before)
                 for launching, before, after in zip(binding.launches, marks, marks[1:])}
        for number, each in enumerate(times):
            each.append(spent.get(number, 0.0))
        rounds += 1
    return Profile(rows(program, binding.sizes, times), rounds)
