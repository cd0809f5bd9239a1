"""Where the time of a call goes: every step by itself, with the bytes it moves and the arithmetic it does.

A step is run alone by the same driver, many times over with the steps before it in between, so that caches are as they
are in a real call. Times are medians. Variables are put back as they were, so profiling has no effect on a model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from staticgraph.compiler.program import Program
from staticgraph.types import evaluate_size

from .driver import STEP_SLOTS
from .memory import SLOT_BYTES, Binding
from .report import section

BUDGET = 0.5
"""Seconds to spend, after the first rounds."""

MINIMUM_ROUNDS, MAXIMUM_ROUNDS = 5, 200


@dataclass(frozen=True)
class StepProfile:
    """One step: median seconds, bytes moved and floating point operations (0 where the compiler did not say)."""

    kernel: str
    title: str
    lines: tuple[str, ...]
    seconds: float
    bytes_moved: int
    flops: int


@dataclass(frozen=True)
class Profile:
    """All steps of a program, for the sizes of one call."""

    steps: tuple[StepProfile, ...]
    rounds: int

    @property
    def seconds(self) -> float:
        """The steps together."""
        return sum(step.seconds for step in self.steps)

    def __str__(self) -> str:
        total = self.seconds or 1.0
        table = section(
            f"{total * 1e6:.1f} us in {len(self.steps)} steps, medians of {self.rounds} rounds",
            ("", "kernel", "us", "%", "GB/s", "GFLOP/s", "computes", "lines"),
            ((str(number), step.kernel, f"{step.seconds * 1e6:.1f}", f"{100 * step.seconds / total:.0f}",
              _rate(step.bytes_moved, step.seconds), _rate(step.flops, step.seconds), step.title,
              ", ".join(step.lines)) for number, step in enumerate(self.steps)))
        return table or "no steps"


def _rate(amount: int, seconds: float) -> str:
    return f"{amount / seconds / 1e9:.1f}" if amount and seconds else "-"


def measure_steps(program: Program, binding: Binding, drive: Callable[[int, int, int], int],
                  check: Callable[[int], None]) -> Profile:
    """Time each step of a binding whose addresses are all filled in. `check` raises what a kernel of the step has
    reported."""
    places = [binding.steps + SLOT_BYTES * STEP_SLOTS * number for number in range(len(program.steps))]
    times: list[list[float]] = [[] for _ in places]
    clock, rounds, deadline = time.perf_counter, 0, time.perf_counter() + BUDGET
    while rounds < MAXIMUM_ROUNDS and (rounds < MINIMUM_ROUNDS or clock() < deadline):
        for number, place in enumerate(places):
            start = clock()
            drive(place, 1, binding.status)
            times[number].append(clock() - start)
            check(number)
        rounds += 1
    return Profile(rows(program, binding.sizes, times), rounds)


def rows(program: Program, sizes: Mapping[str, int], times: Sequence[Sequence[float]]) -> tuple[StepProfile, ...]:
    """What is known of each step, from the times of each."""
    def row(number: int) -> StepProfile:
        step = program.steps[number]
        note = program.notes[step.note]
        return StepProfile(program.kernels[step.kernel].name, note.title, note.lines, float(np.median(times[number])),
                           evaluate_size(note.bytes_moved, sizes), evaluate_size(note.flops, sizes))

    return tuple(row(number) for number in range(len(program.steps)))
