"""Time stamps of kernels in a real call, by each thread that runs them.

A launch table (see `memory`) is copied, with every kernel replaced by `STAMPED`: a native function that is called like
a kernel, looks at the clock, calls the kernel, and looks again. Where nothing comes between two steps of a thread, the
end of the one is the start of the other (`FOLLOWING`), and the clock is read once. The driver runs such a table like
any other and knows nothing of it, so calls that nobody profiles cost what they did. A part of a chain is stamped for
each block of rows.

What a thread finds for a step goes into an entry of its own, one line of cache:

    kernel | its arguments | the thread's log | step | calls | ticks | first start | last end

and, while events are asked for, into the thread's log, which has room for so many: (step, start, end).

The clock is the processor's: the time stamp counter of x86, the virtual count of 64-bit ARM, both read in some ten
nanoseconds; elsewhere the system's monotonic clock. What a tick is follows from looking at both clocks twice
(`Scale`). All this is LLVM assembly, made and kept as the driver is.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from staticgraph.compiler.program import Chain

from .chains import HEAD_SLOTS, PART_SLOTS
from .convert import Array
from .cpu.loader import link_cached
from .cpu.objects import linker
from .cpu.translate import Compiled
from .driver import STEP_SLOTS, load_driver
from .memory import SLOT_BYTES, Binding, address_of

ENTRY_SLOTS = 8
KERNEL, ARGUMENTS, LOG, STEP, CALLS, TICKS, FIRST, LAST = range(ENTRY_SLOTS)
LOG_HEAD, EVENT_SLOTS = 8, 3
EVENTS_KEPT = 4096
"""Of a thread in one call."""

LINE = 64

COUNTERS = {
    "x86_64": """
declare i64 @llvm.readcyclecounter()
define internal i64 @now() alwaysinline {
entry:
  %ticks = call i64 @llvm.readcyclecounter()
  ret i64 %ticks
}
""",
    "aarch64": """
declare i64 @llvm.read_volatile_register.i64(metadata)
define internal i64 @now() alwaysinline {
entry:
  %ticks = call i64 @llvm.read_volatile_register.i64(metadata !0)
  ret i64 %ticks
}
!0 = !{!"cntvct_el0"}
""",
    "": """
declare i32 @clock_gettime(i32, ptr)
define internal i64 @now() {
entry:
  %time = alloca [2 x i64]
  %ignored = call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %rest.place = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest.place
  %whole = mul i64 %seconds, 1000000000
  %ticks = add i64 %whole, %rest
  ret i64 %ticks
}
"""}
"""The clock by machine. No assembly in the text: that would need a parser which is not there."""

NAMES = {"amd64": "x86_64", "arm64": "aarch64"}
STAMPED, FOLLOWING = "staticgraph_stamped", "staticgraph_stamped_following"
NOW, NOTHING = "staticgraph_now", "staticgraph_nothing"


def assembly(machine: str) -> str:
    """Text for a machine as `platform` names it."""
    return COUNTERS.get(NAMES.get(machine.lower(), machine.lower()), COUNTERS[""]) + f"""
define i64 @{NOW}() {{
entry:
  %ticks = call i64 @now()
  ret i64 %ticks
}}

; A kernel that does nothing, to find out what a stamp costs.
define i32 @{NOTHING}(ptr %arguments, i64 %start, i64 %stop) {{
entry:
  ret i32 0
}}

{_stamped(STAMPED, START)}
{_stamped(FOLLOWING, START_AFTER)}"""


START = """  %before = call i64 @now()
"""
START_AFTER = f"""  %previous.place = getelementptr i64, ptr %entry.place, i64 {LAST - ENTRY_SLOTS}
  %previous = load i64, ptr %previous.place
  %ran = icmp ne i64 %previous, 0
  br i1 %ran, label %known, label %ask
ask:
  %asked = call i64 @now()
  br label %known
known:
  %before = phi i64 [ %previous, %entry ], [ %asked, %ask ]
"""
"""When a kernel starts: now; or when the step before it ended in this thread, where nothing comes between the two."""


def _stamped(name: str, start: str) -> str:
    return f"""
define i32 @{name}(ptr %entry.place, i64 %start, i64 %stop) {{
entry:
  %arguments.place = getelementptr i64, ptr %entry.place, i64 {ARGUMENTS}
  %kernel = load ptr, ptr %entry.place
  %arguments = load ptr, ptr %arguments.place
{start}  %code = call i32 %kernel(ptr %arguments, i64 %start, i64 %stop)
  %after = call i64 @now()
  %calls.place = getelementptr i64, ptr %entry.place, i64 {CALLS}
  %ticks.place = getelementptr i64, ptr %entry.place, i64 {TICKS}
  %first.place = getelementptr i64, ptr %entry.place, i64 {FIRST}
  %last.place = getelementptr i64, ptr %entry.place, i64 {LAST}
  %calls = load i64, ptr %calls.place
  %calls.next = add i64 %calls, 1
  store i64 %calls.next, ptr %calls.place
  %spent = sub i64 %after, %before
  %ticks = load i64, ptr %ticks.place
  %ticks.next = add i64 %ticks, %spent
  store i64 %ticks.next, ptr %ticks.place
  store i64 %after, ptr %last.place
  %initial = icmp eq i64 %calls, 0
  br i1 %initial, label %begin, label %log
begin:
  store i64 %before, ptr %first.place
  br label %log
log:
  %log.place = getelementptr i64, ptr %entry.place, i64 {LOG}
  %events = load ptr, ptr %log.place
  %wanted = icmp ne ptr %events, null
  br i1 %wanted, label %look, label %back
look:
  %used = load i64, ptr %events
  %used.next = add i64 %used, 1
  store i64 %used.next, ptr %events
  %room = icmp ult i64 %used, {EVENTS_KEPT}
  br i1 %room, label %keep, label %back
keep:
  %step.place = getelementptr i64, ptr %entry.place, i64 {STEP}
  %step = load i64, ptr %step.place
  %slot = mul i64 %used, {EVENT_SLOTS}
  %all = getelementptr i64, ptr %events, i64 {LOG_HEAD}
  %event = getelementptr i64, ptr %all, i64 %slot
  %event.start = getelementptr i64, ptr %event, i64 1
  %event.end = getelementptr i64, ptr %event, i64 2
  store i64 %step, ptr %event
  store i64 %before, ptr %event.start
  store i64 %after, ptr %event.end
  br label %back
back:
  ret i32 %code
}}
"""


@cache
def _address(symbol: str) -> int:
    text = assembly(platform.machine())
    return link_cached(symbol, text, lambda key: Compiled(linker().assemble(text), symbol)).address


@cache
def load_now() -> Callable[[], int]:
    """The processor's clock."""
    return ctypes.CFUNCTYPE(ctypes.c_int64)(_address(NOW))


class Moment(NamedTuple):
    """Both clocks at once: `slack` is how long looking took, so far apart they may be."""

    seconds: float
    ticks: int
    slack: float


def look(clock: Callable[[], float], now: Callable[[], int], tries: int = 30) -> Moment:
    """The tightest of some looks at both clocks."""
    found = []
    for _ in range(tries):
        before = clock()
        ticks = now()
        after = clock()
        found.append(Moment((before + after) / 2, ticks, after - before))
    return min(found, key=lambda each: each.slack)


class Scale(NamedTuple):
    """Ticks to seconds of the other clock."""

    origin: Moment
    seconds_per_tick: float

    def seconds(self, ticks: Any) -> Any:
        """When that was; also of arrays."""
        return self.origin.seconds + (ticks - self.origin.ticks) * self.seconds_per_tick

    @staticmethod
    def between(first: Moment, second: Moment) -> Scale:
        """From two moments some time apart."""
        return Scale(first, (second.seconds - first.seconds) / max(1, second.ticks - first.ticks))


@dataclass(frozen=True)
class Stamps:
    """What one call left. `entries` is calls, ticks, first start and last end of each (thread, step); `events` are
    (thread, step, start, end) in ticks; `left_out` is how many had no room."""

    entries: Array
    events: Array
    left_out: int


class StampedTable:
    """The launch table of a binding with stamped kernels. It points into the binding's own tables, so it is right for
    every call of that binding."""

    def __init__(self, binding: Binding, launched: Sequence[int], chains: Sequence[Chain], steps: int,
                 threads: int) -> None:
        self._binding = binding     # its row is pointed into
        self._threads, self._steps = threads, steps
        room = sum(HEAD_SLOTS + PART_SLOTS * chain.count for chain in chains)
        chain_slots = -(-room * SLOT_BYTES // LINE) * LINE // SLOT_BYTES
        sizes = (threads * steps * ENTRY_SLOTS, threads * chain_slots, threads * (LOG_HEAD + EVENT_SLOTS * EVENTS_KEPT),
                 STEP_SLOTS * len(launched))
        self._block = np.zeros(sum(sizes) + LINE // SLOT_BYTES, np.int64)
        start = -address_of(self._block) % LINE // SLOT_BYTES
        parts = []
        for size in sizes:
            parts.append(self._block[start: start + size])
            start += size
        self._entries = parts[0].reshape(threads, steps, ENTRY_SLOTS)
        self._tables = parts[1].reshape(threads, chain_slots)
        self._logs = parts[2].reshape(threads, -1)
        self._rows = parts[3].reshape(-1, STEP_SLOTS)
        self.launches = address_of(self._rows)
        self._fill(launched, {chain.first: chain for chain in chains})

    def _fill(self, launched: Sequence[int], chains: dict[int, Chain]) -> None:
        row = self._binding.row
        base = address_of(row)
        start = (self._binding.launches - base) // SLOT_BYTES
        table = row[start: start + STEP_SLOTS * len(launched)].reshape(-1, STEP_SLOTS)
        place, alone = 0, False
        for entry, original, step in zip(self._rows, table, launched):
            entry[:] = original
            follows, alone = alone, bool(original[3] >= original[2])     # in one piece, by the thread that calls
            if step in chains:
                count = chains[step].count
                own = row[(int(original[1]) - base) // SLOT_BYTES:][:HEAD_SLOTS + PART_SLOTS * count]
                self._fill_chain(own, step, place)
                entry[1] = address_of(self._tables[:, place:])
                entry[4] = self._tables.strides[0]
                place += HEAD_SLOTS + PART_SLOTS * count
            else:
                entry[0] = _address(FOLLOWING if follows and alone else STAMPED)
                entry[1] = self._fill_entries(step, int(original[0]), int(original[1]), int(original[4]))
                entry[4] = self._entries.strides[0]

    def _fill_chain(self, own: Array, first: int, place: int) -> None:
        """A table of the chain for each thread, its parts stamped."""
        for thread in range(self._threads):
            table = self._tables[thread, place: place + len(own)]
            table[:] = own
            for number, part in enumerate(table[HEAD_SLOTS:].reshape(-1, PART_SLOTS)):
                self._fill_entries(first + number, int(own[HEAD_SLOTS + PART_SLOTS * number]), int(part[1]), 0)
                part[0] = _address(FOLLOWING if number else STAMPED)
                part[1] = address_of(self._entries[thread, first + number])

    def _fill_entries(self, step: int, kernel: int, arguments: int, stride: int) -> int:
        """The entry of a step for each thread; the address of the first."""
        for thread in range(self._threads):
            entry = self._entries[thread, step]
            entry[:CALLS] = (kernel, arguments + stride * thread, 0, step)
        return address_of(self._entries[0, step])

    def reset(self, events: bool = False) -> None:
        """Forget the last call. With `events`, the next one leaves those too."""
        for thread, log in enumerate(self._logs):
            self._entries[thread, :, LOG] = address_of(log) if events else 0
        self._entries[:, :, CALLS:] = 0
        self._logs[:, 0] = 0

    def entries(self) -> Array:
        """Calls, ticks, first start and last end of each (thread, step) in the last call."""
        return self._entries[:, :, CALLS:].copy()

    def read(self) -> Stamps:
        """The same, and the events."""
        found, left_out = [], 0
        for thread, log in enumerate(self._logs):
            used = int(log[0])
            kept = log[LOG_HEAD:][:EVENT_SLOTS * min(used, EVENTS_KEPT)].reshape(-1, EVENT_SLOTS)
            found.append(np.insert(kept, 0, thread, axis=1))
            left_out += max(0, used - EVENTS_KEPT)
        return Stamps(self.entries(), np.concatenate(found), left_out)


@cache
def stamp_seconds(clock: Callable[[], float], rows: int = 256, rounds: int = 40) -> float:
    """What a stamp costs: the driver's time for kernels that do nothing, stamped and not, interleaved."""
    steps = np.zeros((rows, STEP_SLOTS), np.int64)
    stamped = np.zeros((rows, STEP_SLOTS), np.int64)
    entry, status = np.zeros(ENTRY_SLOTS, np.int64), np.zeros(4, np.int64)
    entry[:CALLS] = (_address(NOTHING), 0, 0, 0)
    steps[:] = (_address(NOTHING), 0, 1, 1, 0)
    stamped[:] = (_address(STAMPED), address_of(entry), 1, 1, 0)
    drive, best = load_driver(), [float("inf"), float("inf")]
    for _ in range(rounds):
        for number, table in enumerate((steps, stamped)):
            entry[CALLS:] = 0
            start = clock()
            drive(address_of(table), rows, address_of(status), 0)
            best[number] = min(best[number], clock() - start)
    return max(0.0, best[1] - best[0]) / rows
