"""Where the time of a call goes: plain data, and the arithmetic from what was noted in calls.

Comes in: `Sample`s, each a real call with the moments at which its phases began and the stamps of its kernels (see
`stamps`), and the times of calls without any of that in between. Goes out: a `Profile`.

Rows add up to the time of a call. What is noted in the calls is averaged over the fastest quarter of them, so rows
still add up, and what disturbs calls does not count, for it only makes them longer.

* A step lasts from the first thread's start to the last thread's end; `busy` is the time of its threads together.
* Steps of a chain take turns for some rows at a time, in every thread. Each of their blocks is stamped, so `busy` is
  known; the time of the chain is divided among its steps in that proportion.
* "waiting" is what the calling thread spends with nothing left to take until all other threads are done with a step.
* "interpreter" is what calling anything with these arguments costs, found by calling an object that does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from staticgraph.compiler.program import Program
from staticgraph.types import evaluate_size

from .convert import Array
from .cpu.peak import Peaks
from .stamps import Scale

BUDGET = 0.5
"""Seconds to spend, after the first rounds."""

MINIMUM_ROUNDS, MAXIMUM_ROUNDS = 5, 2000

PHASES = {
    "arguments": "put in order, converted, checked",
    "binding": "locks, tables, addresses, arrays for results",
    "copies in": "inputs to the device",
    "kernels": "the steps below",
    "waiting": "for other threads to finish a step",
    "driver": "between kernels, waking threads, native code",
    "results": "arrays, copies, the structure returned",
    "device": "copies, launches, waiting: not told apart",
    "interpreter": "entering and leaving a Python call",
    "not accounted": "",
}
"""What the time of a call is divided into."""

NATIVE = "native"
"""The phase that kernels run in."""


class Mark(NamedTuple):
    """A phase of one call: `name` is a key of PHASES or `NATIVE`. `entered` is what the time before the first kernel
    counts as."""

    name: str
    start: float
    end: float
    entered: str = "driver"


class Sample(NamedTuple):
    """One call. `entries` is calls, ticks, first start and last end of each (thread, step)."""

    start: float
    end: float
    marks: tuple[Mark, ...]
    entries: Array


@dataclass(frozen=True)
class StepProfile:
    """One step: seconds of a call, calls of its kernel (chunks of threads, blocks of rows), seconds of all threads
    together, bytes moved and floating point operations (0 where the compiler did not say). `touched` is the bytes of
    its buffers, `fits` the smallest cache that holds them, `dtype` its widest float, `chain` the first step of the
    chain that it goes with."""

    number: int
    kernel: str
    title: str
    lines: tuple[str, ...]
    stage: str
    seconds: float
    calls: float
    busy: float
    bytes_moved: int
    flops: int
    touched: int = 0
    fits: str = ""
    dtype: str = ""
    chain: int | None = None

    @property
    def gb_s(self) -> float:
        return self.bytes_moved / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gflop_s(self) -> float:
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0

    def against(self, peaks: Peaks | None) -> tuple[float, str]:
        """Percent of what the machine can do, and by what: "copy" or "FMA", whichever is more. A step that fits into a
        cache may be faster than copying memory is: then it is held against the multiply-adds, if it does any."""
        if peaks is None or not self.seconds:
            return 0.0, ""
        copying, adding = 100 * self.gb_s / peaks.copy_gb_s, 0.0
        if self.dtype:
            adding = 100 * self.gflop_s / (peaks.float64_gflop_s if self.dtype == "float64" else peaks.float32_gflop_s)
        if adding and (adding >= copying or (copying > 100 and self.fits not in ("", "memory"))):
            return adding, "FMA"
        return (copying, "copy") if copying else (0.0, "")


class KernelProfile(NamedTuple):
    """One kernel in all of its steps."""

    kernel: str
    steps: tuple[int, ...]
    calls: float
    seconds: float
    bytes_moved: int
    flops: int

    @property
    def gb_s(self) -> float:
        return self.bytes_moved / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gflop_s(self) -> float:
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0


@dataclass(frozen=True)
class Part:
    """One row of the time of a call; a key of `PHASES`."""

    name: str
    seconds: float

    @property
    def what(self) -> str:
        return PHASES[self.name]


@dataclass(frozen=True)
class CompileTime:
    """A pass of the compiler, or a kernel that was made ready. `kind`: "pass" | "kernel"."""

    kind: str
    name: str
    seconds: float
    remark: str = ""


@dataclass(frozen=True)
class Event:
    """A kernel call in the call that is shown as a trace, or a phase of it (step -1); seconds from its start."""

    thread: int
    step: int
    name: str
    start: float
    seconds: float


@dataclass(frozen=True)
class Profile:
    """A call of an executable with these inputs. `seconds` is a call while it is looked at, `plain_seconds` one without
    that, in between; `parts` add up to `seconds`. What notebooks show comes from `display_hook`."""

    device: str
    threads: int
    sizes: Mapping[str, int]
    rounds: int
    seconds: float
    plain_seconds: float
    overhead: float
    steps: tuple[StepProfile, ...]
    parts: tuple[Part, ...]
    compiling: tuple[CompileTime, ...]
    account: str = ""
    peaks: Peaks | None = None
    events: tuple[Event, ...] = field(default=(), repr=False)
    left_out: int = 0
    program: Program | None = field(default=None, repr=False)
    display_hook: Callable[[Any], str] | None = field(default=None, repr=False, compare=False)

    @property
    def rows(self) -> tuple[StepProfile, ...]:
        """The steps."""
        return self.steps

    def by_kernel(self) -> tuple[KernelProfile, ...]:
        """The kernels, the one that takes longest first; a kernel may serve several steps."""
        found: dict[str, list[StepProfile]] = {}
        for step in self.steps:
            number = self.program.steps[step.number].kernel if self.program is not None else step.kernel
            found.setdefault(f"{step.kernel} {number}", []).append(step)
        kernels = [KernelProfile(
            steps[0].kernel, tuple(step.number for step in steps), sum(step.calls for step in steps),
            sum(step.seconds for step in steps), sum(step.bytes_moved for step in steps),
            sum(step.flops for step in steps)) for steps in found.values()]
        return tuple(sorted(kernels, key=lambda each: -each.seconds))

    @property
    def accounted(self) -> float:
        """The share of a call's time that has a name."""
        if not self.seconds:
            return 1.0
        return 1 - sum(part.seconds for part in self.parts if part.name in ("not accounted", "device")) / self.seconds

    def __str__(self) -> str:
        from .profile_text import profile_text

        return profile_text(self)

    def _repr_html_(self) -> str | None:
        return self.display_hook(self) if self.display_hook is not None else None

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data for a machine to read, but the trace."""
        from .profile_text import profile_data

        return profile_data(self)

    def trace(self) -> dict[str, Any]:
        """One call and the compile as a Chrome trace, which ui.perfetto.dev and chrome://tracing show."""
        from .trace import chrome_trace

        return chrome_trace(self)


def make_steps(program: Program, sizes: Mapping[str, int], seconds: Sequence[float], calls: Sequence[float],
               busy: Sequence[float], caches: Mapping[str, int]) -> tuple[StepProfile, ...]:
    """What is known of each step, with the times that were found."""
    chain_of = {number: chain.first for chain in program.chains
                for number in range(chain.first, chain.first + chain.count)}

    def row(number: int) -> StepProfile:
        step = program.steps[number]
        note = program.notes[step.note]
        buffers = [program.buffers[index] for index in {*step.reads, *step.writes}]
        touched = sum(evaluate_size(buffer.nbytes, sizes) for buffer in buffers)
        floats = sorted(buffer.dtype for buffer in buffers if buffer.dtype.startswith("float"))
        return StepProfile(
            number, program.kernels[step.kernel].name, note.title, note.lines, step.stage, float(seconds[number]),
            float(calls[number]), float(busy[number]), evaluate_size(note.bytes_moved, sizes),
            evaluate_size(note.flops, sizes), touched,
            next((name for name, size in caches.items() if touched <= size), "memory" if caches else ""),
            floats[-1] if floats else "", chain_of.get(number))

    return tuple(row(number) for number in range(len(program.steps)))


class Division(NamedTuple):
    """Where the time of calls went: a number for each call, by part; and (calls, steps) of seconds, calls and busy."""

    parts: dict[str, Array]
    seconds: Array
    calls: Array
    busy: Array


def divide(samples: Sequence[Sample], scale: Scale, launched: Sequence[int], interpreter: float) -> Division:
    """The time of each call in its parts. `launched` is the first step of each launch, `interpreter` what calling an
    object that does nothing takes."""
    entries = np.stack([sample.entries for sample in samples])
    ran = entries[..., 0] > 0
    begun = np.where(ran, scale.seconds(entries[..., 2]), np.inf)
    ended = np.where(ran, scale.seconds(entries[..., 3]), -np.inf)
    busy = (entries[..., 1] * scale.seconds_per_tick).sum(1)
    wall = np.array([sample.end - sample.start for sample in samples])
    parts = {name: np.zeros(len(samples)) for name in PHASES}
    seconds = np.zeros(busy.shape)
    if len(launched):
        begin = np.minimum.reduceat(begun.min(1), launched, axis=1)
        end = np.maximum.reduceat(ended.max(1), launched, axis=1)
        caller = np.maximum.reduceat(ended[:, 0], launched, axis=1)
        span, within, after = _spans(begin, end, caller, np.logical_or.reduceat(ran[:, 1:].any(1), launched, axis=1))
        parts["waiting"] = within.sum(1) + after.sum(1)
        parts["kernels"] = span.sum(1) - within.sum(1)
        together = np.add.reduceat(busy, launched, axis=1)
        sizes = np.diff([*launched, busy.shape[1]])
        share = np.divide(span, together, out=np.zeros_like(span), where=together > 0)
        seconds = busy * np.repeat(share, sizes, axis=1)
    first = begun.min((1, 2), initial=np.inf)
    for number, sample in enumerate(samples):
        for mark in sample.marks:
            if mark.name != NATIVE:
                parts[mark.name][number] += mark.end - mark.start
                continue
            # the two clocks are a tenth of a microsecond apart: what is outside of kernels is divided, never more
            outside = max(mark.end - mark.start - parts["kernels"][number] - parts["waiting"][number], 0.0)
            entering = min(max(first[number] - mark.start, 0.0), outside)
            parts[mark.entered][number] += entering
            parts["driver"][number] += outside - entering
    rest = np.maximum(wall - sum(parts.values()), 0.0)
    parts["interpreter"] = np.minimum(interpreter, rest)
    parts["not accounted"] = rest - parts["interpreter"]
    return Division(parts, seconds, entries[..., 0].sum(1), busy)


def _spans(begin: Array, end: Array, caller: Array, shared: Array) -> tuple[Array, Array, Array]:
    """Of each (call, launch): how long it lasts, and how long the caller has nothing left to do: before its end, and
    from there to the next launch, where others took part. A thread that loses its core after its last chunk has yet to
    say that it is done. What comes after the last launch is not counted."""
    active = np.isfinite(begin)
    span = np.where(active, end - begin, 0.0)
    within = np.where(active, np.clip(end - np.maximum(caller, begin), 0.0, span), 0.0)
    following = np.minimum.accumulate(begin[:, ::-1], axis=1)[:, ::-1]     # the next one that began
    following = np.concatenate([following[:, 1:], np.full((len(begin), 1), np.inf)], axis=1)
    counted = active & shared & np.isfinite(following)
    after = np.where(counted, np.clip(np.where(counted, following, 0.0) - np.where(counted, end, 0.0), 0.0, None), 0.0)
    return span, within, after


def fastest_quarter(times: Array) -> Array:
    """The positions of the calls that took the least time, at least one: what disturbs a call makes it longer."""
    return np.argsort(times, kind="stable")[:-(-len(times) // 4)]
