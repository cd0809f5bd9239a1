"""Real calls, looked at: the stages of `CpuExecutable.__call__` with the clock read in between, over a launch table
whose kernels are stamped (`stamps`).

It runs on a copy of the executable's outside: arena, tables, kernels and variables are the executable's own, but the
locks are not, because whoever profiles holds those for the whole time, so that no other thread's call falls in between
and variables can be put back. Plain calls of that copy alternate with those that are looked at; what they take is what
a call takes, and how much more the others take is the overhead that is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from staticgraph import locks

from .. import profile as profiling
from ..memory import Binding
from ..profile import NATIVE, Event, Mark, Profile, Sample, divide, fastest_quarter, make_steps
from ..residence import come_home, resident
from ..stamps import Scale, StampedTable, Stamps, load_now, look
from .peak import cache_bytes, measured_peaks

if TYPE_CHECKING:
    from .executable import CpuExecutable

Clock = Callable[[], float]

LEAST_SPAN = 0.02
"""Seconds between two looks at both clocks, so that the scale between them is right to a hundredth of a percent."""

SAMPLE_SLOTS = 4 * 2**20
"""Numbers of stamps kept at most, over all calls."""

TRACED = 5
"""Calls of which the middle one becomes the trace."""


NATIVE_WAY = (("binding", ""), (NATIVE, "arguments"), ("results", ""))
ORDINARY_WAY = (("arguments", ""), ("binding", ""), (NATIVE, "driver"), ("results", ""))
"""Phases in their order, and what the time before the first kernel counts as in the one that runs them."""


class MarkedCalls:
    """Called like the executable. `stamps` are what the kernels of the last call left."""

    def __init__(self, executable: CpuExecutable, clock: Clock) -> None:
        self._executable, self._clock = executable, clock
        self._tables: dict[int, tuple[StampedTable, Binding]] = {}
        self._calls: dict[int, Any] = {}
        self._table: StampedTable | None = None
        self._latest: Binding | None = None
        self._launches = 0
        self._times: tuple[float, ...] = ()

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The phases of the last call; they are not made before they are asked for, which takes a while."""
        way = NATIVE_WAY if len(self._times) == len(NATIVE_WAY) + 1 else ORDINARY_WAY
        return tuple(Mark(name, start, end, entered)
                     for (name, entered), start, end in zip(way, self._times, self._times[1:]))

    def reset(self, events: bool) -> None:
        """Forget the last call's stamps. With `events`, the next one leaves one for each kernel."""
        if self._table is not None:
            self._table.reset(events)

    def entries(self) -> Any:
        """Numbers of the last call, by thread and step."""
        assert self._table is not None
        return self._table.entries()

    def stamps(self) -> Stamps:
        """What the kernels of the last call left."""
        assert self._table is not None
        return self._table.read()

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        clock, executable = self._clock, self._executable
        start = clock()
        recent = executable._recent
        stamped = None if recent is None or kwargs else self._calls.get(id(recent))
        if stamped is None:
            return self._ordinary(start, args, kwargs)
        done: Any = None
        own, held = executable._locks, 0
        try:
            for lock in own:
                lock.acquire()
                held += 1
            results = recent.results.take()
            if executable._early:
                executable._copy_before(results, ())
            taken = clock()
            done = stamped(*args, *results)
            ran = clock()
            if done is True:
                if executable._late or executable._copies:
                    executable._copy_after(results, recent)
            elif done is not None:
                executable._raise_failed(recent, executable._layout.launched[done], args)
        finally:
            while held:
                held -= 1
                own[held].release()
        if done is True:
            packed = executable._pack(results)
            self._times = (start, taken, ran, clock())
            return packed
        del results
        return self._ordinary(start, args, kwargs)

    def _ordinary(self, start: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        clock, executable = self._clock, self._executable
        arrays, args = executable._convert(args, kwargs)
        converted = clock()
        own, held = executable._locks, 0
        try:
            for lock in own:
                lock.acquire()
                held += 1
            if resident:
                come_home(executable._storages, executable._written)
            binding, results = executable._prepare(arrays, args)
            launches = self._stamped(binding)
            bound = clock()
            drive = executable._drive_together if binding.parallel else executable._drive_alone
            failed = drive(launches, executable._launch_count, binding.status)
            ran = clock()
            if failed >= 0:
                executable._raise_failed(binding, executable._layout.launched[failed], arrays)
            if executable._late or executable._copies:
                executable._copy_after(results, binding)
        finally:
            while held:
                held -= 1
                own[held].release()
        packed = executable._pack(results)
        self._times = (start, converted, bound, ran, clock())
        return packed

    def _stamped(self, binding: Binding) -> int:
        """The address of the stamped table of a binding, and a native call for it where it has one."""
        if binding is self._latest:
            return self._launches
        if id(binding) not in self._tables:
            executable = self._executable
            program = executable._program
            table = StampedTable(binding, executable._layout.launched, program.chains, len(program.steps),
                                 executable._threads)
            self._tables[id(binding)] = table, binding     # kept alive: the number is its own as long as it lives
            if binding.call is not None:
                assert executable._last is not None
                self._calls[id(binding)] = executable._make_call(binding, executable._last, table.launches)
        self._latest, self._table = binding, self._tables[id(binding)][0]
        self._launches = self._table.launches
        return self._launches


class _Nothing:
    """What `MarkedCalls` is measured against: enters and leaves, and keeps some times."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._executable = clock, None
        self._times: tuple[float, ...] = (0.0, 0.0)

    @property
    def inside(self) -> float:
        return self._times[-1] - self._times[0]

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        clock, executable = self._clock, self._executable
        start = clock()
        self._times = (start, start, start, clock())
        return executable


def interpreter_seconds(args: tuple[Any, ...], kwargs: dict[str, Any], clock: Clock, rounds: int = 200) -> float:
    """What calling anything with these arguments takes, reading the clock apart."""
    nothing, found = _Nothing(clock), []
    for _ in range(rounds):
        start = clock()
        nothing(*args, **kwargs)
        end = clock()
        found.append(end - start - nothing.inside)
    return float(np.median(found))


def profile_calls(executable: CpuExecutable, args: tuple[Any, ...], kwargs: dict[str, Any], budget: float | None = None,
                  peaks: bool = True, clock: Clock = time.perf_counter) -> Profile:
    """Call an executable some times with these inputs. Variables are as they were before, whatever happens."""
    compiling = executable.compile_times()
    with ExitStack() as stack:
        for lock in executable._locks:
            stack.enter_context(lock)
        if resident:
            come_home(executable._storages, [False] * len(executable._storages))
        for spec, storage in zip(executable._program.variables, executable._storages):
            if spec.written:
                stack.callback(np.copyto, storage.array, storage.array.copy())
        plain = _twin(executable)
        plain._locks = [locks.lock() for _ in executable._locks]
        stack.callback(_adopt, executable, plain)
        profile = _Measurement(plain, args, kwargs, clock).run(profiling.BUDGET if budget is None else budget, peaks)
        return replace(profile, compiling=compiling)


def _twin(executable: CpuExecutable) -> CpuExecutable:
    """Another executable with all that this one has. `copy` gives the same one, since users are to have no two."""
    twin = object.__new__(type(executable))
    twin.__dict__.update(executable.__dict__)
    return twin


def _adopt(executable: CpuExecutable, plain: CpuExecutable) -> None:
    """The binding that the copy used last is the one that the arena fits."""
    executable._last, executable._recent = plain._last, plain._recent


class _Measurement:
    """One profile in the making."""

    def __init__(self, plain: CpuExecutable, args: tuple[Any, ...], kwargs: dict[str, Any], clock: Clock) -> None:
        self._plain, self._args, self._kwargs, self._clock = plain, args, kwargs, clock
        self._marked = MarkedCalls(plain, clock)
        self._plain_times: list[float] = []
        self._samples: list[Sample] = []

    def run(self, budget: float, peaks: bool) -> Profile:
        executable, clock = self._plain, self._clock
        now = load_now()
        self._warm_up()
        first = look(clock, now)
        most = SAMPLE_SLOTS // max(1, 4 * executable._threads * len(executable._program.steps))
        most = max(profiling.MINIMUM_ROUNDS, min(profiling.MAXIMUM_ROUNDS, most))
        deadline = clock() + budget
        while len(self._samples) < most and (
                len(self._samples) < profiling.MINIMUM_ROUNDS or clock() < deadline):
            self._round()
        traced = [(self._sample(events=True), self._marked.stamps()) for _ in range(TRACED)]
        while clock() < first.seconds + LEAST_SPAN:
            pass
        scale = Scale.between(first, look(clock, now))
        trace = sorted(traced, key=lambda each: each[0].end - each[0].start)[TRACED // 2]
        return self._profile(scale, trace, peaks)

    def _warm_up(self) -> None:
        """What only first calls do: tables, the native way in, fresh memory. Errors of a call come from here."""
        self._plain(*self._args, **self._kwargs)
        recent, self._plain._recent = self._plain._recent, None
        self._marked(*self._args, **self._kwargs)
        self._plain._recent = recent
        self._marked(*self._args, **self._kwargs)

    def _round(self) -> None:
        """A call of each kind; who is first changes."""
        if len(self._samples) % 2:
            self._plain_call()
            self._samples.append(self._sample())
        else:
            self._samples.append(self._sample())
            self._plain_call()

    def _plain_call(self) -> None:
        clock, call, args, kwargs = self._clock, self._plain, self._args, self._kwargs
        self._marked.reset(False)     # as before the others: what was done before is seen in the caches
        start = clock()
        kept = call(*args, **kwargs)
        self._plain_times.append(clock() - start)
        del kept     # to let go of results is the caller's affair

    def _sample(self, events: bool = False) -> Sample:
        clock, call, args, kwargs = self._clock, self._marked, self._args, self._kwargs
        call.reset(events)
        start = clock()
        kept = call(*args, **kwargs)
        end = clock()
        del kept
        return Sample(start, end, call.marks, call.entries())

    def _profile(self, scale: Scale, trace: tuple[Sample, Stamps], peaks: bool) -> Profile:
        executable, program = self._plain, self._plain.program
        sizes: Mapping[str, int] = executable.last_sizes or {}
        walls = np.array([sample.end - sample.start for sample in self._samples])
        plain = np.array(self._plain_times)
        found = divide(self._samples, scale, executable._layout.launched,
                       interpreter_seconds(self._args, self._kwargs, self._clock))
        kept, undisturbed = fastest_quarter(walls), plain[fastest_quarter(plain)].mean()
        steps = make_steps(program, sizes, found.seconds[kept].mean(0), found.calls[kept].mean(0),
                           found.busy[kept].mean(0), cache_bytes())
        parts = tuple(profiling.Part(name, float(times[kept].mean())) for name, times in found.parts.items()
                      if times[kept].any() or name == "not accounted")
        sample, stamps = trace
        return Profile(
            device=program.device, threads=executable._threads, sizes=dict(sizes), rounds=len(walls),
            seconds=float(walls[kept].mean()), plain_seconds=float(undisturbed),
            overhead=float(walls[kept].mean() / undisturbed) - 1, steps=steps, parts=parts,
            compiling=(), account=executable.account,
            peaks=measured_peaks(executable._threads) if peaks and program.steps else None,
            events=tuple(_events(sample, stamps, scale, steps)), left_out=stamps.left_out, program=program,
            display_hook=executable.display_hook)


def _events(sample: Sample, stamps: Stamps, scale: Scale, steps: tuple[profiling.StepProfile, ...]) -> Any:
    """Phases and kernels of one call, in seconds from its start. The two clocks are apart by a tenth of a microsecond:
    kernels are kept inside of the phase that runs them."""
    inside = [(mark.start, mark.end) for mark in sample.marks if mark.name == NATIVE]
    for mark in sample.marks:
        yield Event(0, -1, mark.name, mark.start - sample.start, mark.end - mark.start)
    for thread, step, *ticks in stamps.events.tolist():
        start, end = (min(max(float(scale.seconds(each)), inside[0][0]), inside[0][1]) for each in ticks)
        yield Event(thread, step, steps[step].kernel, start - sample.start, end - start)
