"""Profiles: the arithmetic with a clock that is put in, and calls that are looked at without leaving a trace."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.compiler.program import Chain, Note
from staticgraph.errors import ArgumentError, OutOfRangeError
from staticgraph.runtime import profile as profiling
from staticgraph.runtime.cpu import profiled
from staticgraph.runtime.cpu.peak import Peaks
from staticgraph.runtime.cpu.profiled import MarkedCalls, profile_calls
from staticgraph.runtime.executable import Executable, load
from staticgraph.runtime.profile import NATIVE, Mark, Sample, divide, fastest_quarter
from staticgraph.runtime.profile_text import brief_lines, profile_text
from staticgraph.runtime.stamps import Moment, Scale, look
from staticgraph.types import product

from .programs import (
    BATCH,
    Storage,
    add_one_program,
    chain_program,
    counter_program,
    make,
    pick_and_update_program,
    workspace_program,
)

SCALE = Scale(Moment(0.0, 0, 0.0), 1.0)
"""A tick is a second."""


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "BUDGET", 0.0)
    monkeypatch.setattr(profiled, "measured_peaks", lambda threads: Peaks(threads, 10.0, 100.0, 50.0))


# The arithmetic.

def entries(*threads: dict[int, tuple[int, int, int, int]], steps: int) -> np.ndarray[Any, Any]:
    """(calls, ticks, first, last) by step of each thread."""
    found = np.zeros((len(threads), steps, 4), np.int64)
    for thread, each in enumerate(threads):
        for step, numbers in each.items():
            found[thread, step] = numbers
    return found


def test_one_thread_adds_up() -> None:
    """A call from 0 to 100: 10 for arguments, kernels at 20..50 and 55..80, results from 90 on, 3 for entering."""
    marks = (Mark("arguments", 2, 12), Mark(NATIVE, 12, 90, "driver"), Mark("results", 90, 97))
    stamps = entries({0: (1, 30, 20, 50), 1: (1, 25, 55, 80)}, steps=2)
    found = divide([Sample(0, 100, marks, stamps)], SCALE, [0, 1], 3)
    parts = {name: float(times[0]) for name, times in found.parts.items() if times[0]}
    assert parts == {"arguments": 10, "kernels": 55, "driver": 8 + 5 + 10, "results": 7, "interpreter": 3,
                     "not accounted": 2}
    assert found.seconds.tolist() == [[30, 25]] and found.calls.tolist() == [[1, 1]]
    assert sum(parts.values()) == 100


def test_time_before_the_first_kernel_counts_as_what_it_is_said_to() -> None:
    marks = (Mark(NATIVE, 0, 40, "arguments"),)
    found = divide([Sample(0, 40, marks, entries({0: (1, 20, 15, 35)}, steps=1))], SCALE, [0], 0)
    assert {name: float(times[0]) for name, times in found.parts.items() if times[0]} == {
        "arguments": 15, "kernels": 20, "driver": 5}


def test_the_caller_waits_until_all_others_are_done() -> None:
    """Step 0: the caller until 30, a worker until 50, seen at 60; step 1 is the caller's alone, until 70."""
    each = entries({0: (3, 20, 10, 30), 1: (1, 10, 60, 70)}, {0: (2, 35, 12, 50)}, steps=2)
    found = divide([Sample(0, 80, (Mark(NATIVE, 5, 75),), each)], SCALE, [0, 1], 0)
    parts = {name: float(times[0]) for name, times in found.parts.items() if times[0]}
    assert parts == {"waiting": 20 + 10, "kernels": 20 + 10, "driver": 5 + 5, "not accounted": 10}
    assert found.seconds.tolist() == [[40, 10]] and found.busy.tolist() == [[55, 10]]


def test_steps_of_a_chain_share_its_time_by_what_their_blocks_took() -> None:
    """Two threads go through both steps from 0 to 40; 30 and 50 seconds of them are in step 0 and in step 1."""
    each = entries({0: (2, 15, 0, 30), 1: (2, 25, 10, 40)}, {0: (2, 15, 0, 25), 1: (2, 25, 5, 40)}, steps=3)
    found = divide([Sample(0, 40, (Mark(NATIVE, 0, 40),), each)], SCALE, [0, 2], 0)
    assert found.seconds.tolist() == [[15, 25, 0]] and found.busy.tolist() == [[30, 50, 0]]
    assert float(found.parts["kernels"][0]) == 40


def test_nothing_to_run_is_all_driver() -> None:
    found = divide([Sample(0, 10, (Mark(NATIVE, 1, 9),), np.zeros((1, 0, 4), np.int64))], SCALE, [], 1)
    assert {name: float(times[0]) for name, times in found.parts.items() if times[0]} == {
        "driver": 8, "interpreter": 1, "not accounted": 1}


def test_the_fastest_quarter_is_what_nobody_disturbed() -> None:
    assert fastest_quarter(np.array([9.0, 1, 5, 3, 100, 4, 2, 7])).tolist() == [1, 6]
    assert fastest_quarter(np.array([3.0])).tolist() == [0]
    assert fastest_quarter(np.array([2.0, 1, 3, 1, 5])).tolist() == [1, 3]


def test_both_clocks_are_read_as_close_together_as_can_be() -> None:
    """Looks take 5, 1 and 3 seconds: the second one is believed."""
    times = iter([0.0, 5.0, 10.0, 11.0, 20.0, 23.0])
    ticks = iter([100, 200, 300])
    moment = look(lambda: next(times), lambda: next(ticks), tries=3)
    assert moment == Moment(10.5, 200, 1.0)
    scale = Scale.between(moment, Moment(20.5, 2200, 0.0))
    assert scale.seconds_per_tick == 0.005 and scale.seconds(1200) == 15.5


# Real calls.

def counted(program: Any, *inputs: Any, threads: int = 1, storages: Any = ()) -> tuple[Executable, profiling.Profile]:
    executable = load(program, storages, threads=threads)
    return executable, executable.profile(*inputs)


def test_each_step_with_its_rates() -> None:
    size = product((BATCH, 3))
    notes = (Note("x + 1", ("add",), ("model.py:4",), flops=size, bytes_moved=size * 8),)
    executable, result = counted(add_one_program(notes=notes), np.zeros((1000, 3), "float32"))
    (step,) = result.rows
    assert (step.kernel, step.title, step.lines, step.dtype) == ("add_one", "x + 1", ("model.py:4",), "float32")
    assert (step.bytes_moved, step.flops, step.touched, step.calls) == (24000, 3000, 24000, 1)
    assert result.rounds == profiling.MINIMUM_ROUNDS and result.sizes == executable.last_sizes == {"batch": 1000}
    assert step.gb_s == pytest.approx(24e-6 / step.seconds) and result.seconds > step.seconds > 0
    assert step.against(None) == (0.0, "")


def test_a_step_is_held_against_what_bounds_it() -> None:
    """10 GB/s and 100 or 50 GFlop/s; one second."""
    peaks = Peaks(1, 10.0, 100.0, 50.0)

    def against(gbytes: int, gflops: int, dtype: str = "float32", fits: str = "memory") -> tuple[float, str]:
        return profiling.StepProfile(0, "k", "", (), "compute", 1.0, 1, 1.0, gbytes * 10**9, gflops * 10**9, 0, fits,
                                     dtype).against(peaks)

    assert against(8, 10) == (80.0, "copy") and against(1, 40) == (40.0, "FMA")
    assert against(1, 40, "float64") == (80.0, "FMA") and against(0, 0) == (0.0, "")
    assert against(30, 20, fits="L2") == (20.0, "FMA") and against(30, 20) == (300.0, "copy")
    assert against(30, 0, fits="L2") == (300.0, "copy") and against(4, 7, dtype="") == (40.0, "copy")


def test_parts_add_up_to_a_call() -> None:
    _, result = counted(chain_program(20), np.zeros(50_000, "float32"))
    assert sum(part.seconds for part in result.parts) == pytest.approx(result.seconds, rel=0.01)
    assert sum(step.seconds for step in result.steps) == pytest.approx(
        next(part.seconds for part in result.parts if part.name == "kernels"))
    assert 0.5 < result.accounted <= 1 and result.plain_seconds > 0


@pytest.mark.parametrize("threads", [1, 2])
def test_every_kernel_call_of_every_thread_is_counted(threads: int) -> None:
    x = np.zeros(1 << 20, "float32")
    executable, result = counted(chain_program(3), x, threads=threads)
    chunks = 1 if threads == 1 else 64
    assert [step.calls for step in result.steps] == [chunks] * 3
    kernels = [event for event in result.events if event.step >= 0]
    assert len(kernels) == 3 * chunks and result.left_out == 0
    assert {event.thread for event in kernels} <= set(range(threads))
    for thread in range(threads):
        mine = sorted((event.start, event.seconds) for event in kernels if event.thread == thread)
        assert all(start + seconds <= after + 1e-9 for (start, seconds), (after, _) in itertools.pairwise(mine))
    assert np.array_equal(executable(x), x + 3)


def test_steps_of_a_chain_are_stamped_block_by_block() -> None:
    from dataclasses import replace

    program = replace(chain_program(3), chains=(Chain(0, 3, BATCH),))
    x = np.arange(500_000, dtype="float32")
    executable, result = counted(program, x)
    calls = {step.calls for step in result.steps}
    assert len(calls) == 1 and calls.pop() > 1 and [step.chain for step in result.steps] == [0, 0, 0]
    assert all(step.seconds > 0 for step in result.steps)
    _, shared = counted(program, x, threads=2)
    assert all(step.calls > 1 for step in shared.steps) and np.array_equal(executable(x), x + 3)
    assert "steps of a chain" in str(result)


def test_a_workspace_is_each_threads_own() -> None:
    x = np.arange(400_000, dtype="float32") / 1000
    executable = load(workspace_program(), threads=2)
    marked = MarkedCalls(executable, itertools.count().__next__)     # type: ignore[arg-type]
    assert np.array_equal(marked(x), (x + 1) ** 2) and np.array_equal(executable(x), (x + 1) ** 2)


@pytest.mark.parametrize("threads", [1, 2])
def test_same_bits_and_same_state_looked_at_or_not(threads: int) -> None:
    def trained() -> tuple[sg.Tensor, Executable]:
        x = sg.placeholder("x", ("n", 64), "float32")
        w = sg.variable(np.linspace(-1, 1, 64 * 32, dtype="float32").reshape(64, 32), name="w")
        loss = sg.mean(sg.nn.softmax(sg.tanh(x @ w)) ** 2)
        return w, sg.compile([x], loss, updates={w: w - 0.1 * sg.grad(loss, w)}, options={"threads": threads})

    x = np.sin(np.arange(64 * 500, dtype="float32")).reshape(500, 64)
    (w, plain), (v, looked_at) = trained(), trained()
    marked = MarkedCalls(looked_at, itertools.count().__next__)     # type: ignore[arg-type]
    for _ in range(4):
        a, b = plain(x), marked(x)
        assert a.tobytes() == b.tobytes() and w.value.tobytes() == v.value.tobytes()
        assert (marked.entries()[:, :, 0] > 0).any(0).all()     # every step was stamped
    before = w.value
    profile = plain.profile(x)
    assert w.value.tobytes() == before.tobytes() and len(profile.steps) == len(plain.program.steps)
    assert plain(x).tobytes() == looked_at(x).tobytes()


def test_variables_are_put_back() -> None:
    storage = Storage(np.arange(4, dtype="float32"))
    executable, result = counted(counter_program(), storages=[storage])
    assert len(result.steps) == 2
    assert np.array_equal(storage.array, np.arange(4))
    assert np.array_equal(executable(), np.arange(4))


def test_errors_are_those_of_a_call() -> None:
    storage = Storage(np.zeros(4, "float32"))
    executable = load(pick_and_update_program(), [storage])
    with pytest.raises(ArgumentError):
        executable.profile()
    with pytest.raises(OutOfRangeError, match="index 7 is out of range"):
        executable.profile([1.0], [7])
    assert not storage.array.any()
    assert executable([1.0], [0]) == 1.0


def test_a_kernel_that_fails_while_it_is_looked_at() -> None:
    """The error is a call's; state is put back, locks are free, and calls go on."""
    storage = Storage(np.zeros(4, "float32"))
    executable = load(pick_and_update_program(), [storage])
    good, bad = np.zeros(2, "int64"), np.full(2, 9)
    x = np.ones(5, "float32")
    marked = MarkedCalls(executable, itertools.count().__next__)     # type: ignore[arg-type]
    for _ in range(2):
        marked(x, good)
    with pytest.raises(OutOfRangeError, match="index 9 is out of range"):
        marked(x, bad)
    assert np.array_equal(executable(x, good), [1, 1])
    indices = np.zeros(2, "int64")
    clock, reads = itertools.count().__next__, itertools.count().__next__

    def spoil() -> float:
        if reads() == 30:     # the clock is read in the middle of things
            indices[:] = 9
        return float(clock())

    state = storage.array.copy()
    with pytest.raises(OutOfRangeError, match="index 9 is out of range"):
        profile_calls(executable, (x, indices), {}, 1.0, clock=spoil)
    assert np.array_equal(storage.array, state) and np.array_equal(executable(x, good), [1, 1])


def test_lists_names_and_conversions_are_profiled_as_they_are_given() -> None:
    executable = load(add_one_program())
    result = executable.profile(x=[[1.0, 2.0, 3.0]])
    names = [part.name for part in result.parts]
    assert {"arguments", "binding", "kernels", "results"} <= set(names) and result.sizes == {"batch": 1}


def test_other_threads_wait_and_their_updates_stay() -> None:
    storage = Storage(np.zeros(4, "float32"), lock=threading.Lock())
    executable = load(counter_program(), [storage])
    stop, calls = threading.Event(), 0

    def count() -> None:
        nonlocal calls
        while not stop.is_set():
            executable()
            calls += 1

    thread = threading.Thread(target=count)
    thread.start()
    for _ in range(3):
        executable.profile()
    stop.set()
    thread.join()
    assert np.array_equal(storage.array, np.full(4, calls))


def test_a_kernel_of_several_steps() -> None:
    _, result = counted(chain_program(3), np.zeros(1000, "float32"))
    (kernel,) = result.by_kernel()
    assert (kernel.kernel, kernel.steps, kernel.calls) == ("add_one", (0, 1, 2), 3)
    assert kernel.seconds == pytest.approx(sum(step.seconds for step in result.steps))


def test_nothing_to_do() -> None:
    result = load(make(structure=("list", 0))).profile()
    assert "no steps" in str(result) and result.steps == () and result.peaks is None


# What is made of it.

def a_profile() -> profiling.Profile:
    notes = (Note("x + 1", ("add",), ("model.py:4", "model.py:9", "other.py:1"), flops=BATCH, bytes_moved=BATCH * 8),)
    return counted(add_one_program(notes=notes), np.zeros((100, 3), "float32"))[1]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_the_table_fits_its_width(width: int) -> None:
    text = profile_text(a_profile(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "add_one" in text and "model.py:4,9" in text and "GB/s" in text and "% of it accounted for" in text
    assert ("other.py" in text and "bytes" in text) or width < 120


@pytest.mark.parametrize("width", [80, 100])
def test_many_steps_are_told_by_kernel_and_the_longest_alone(width: int) -> None:
    found = a_profile()
    steps = tuple(replace(found.steps[0], number=number, seconds=1e-6 * (number + 1)) for number in range(100))
    program = SimpleNamespace(steps=[SimpleNamespace(kernel=0)] * 100)
    many = replace(found, steps=steps, program=program, seconds=1e-2)     # type: ignore[arg-type]
    text = profile_text(many, width)
    assert max(map(len, text.splitlines())) <= width
    assert re.search(r"add_one +100  5\.05 ms  50\.5", text)
    assert "these are the 40 longest steps; 60 shorter ones take 18.3%" in " ".join(text.split())
    rows = [int(row) for row in re.findall(r"^  (\d+) +add_one", text, re.MULTILINE)]
    assert rows == list(range(60, 100))
    everything = profile_text(many, width, verbose=True)
    assert re.findall(r"^  (\d+) +add_one", everything, re.MULTILINE) == [str(number) for number in range(100)]
    assert "longest steps" not in everything


def test_lines_name_each_file_once() -> None:
    assert brief_lines(["a.py:3", "a.py:12", "b.py:1", "somewhere"]) == "a.py:3,12 b.py:1 somewhere"


def test_data_for_a_machine() -> None:
    data = json.loads(json.dumps(a_profile().to_json()))
    assert data["kind"] == "profile" and data["version"] == 1 and data["sizes"] == {"batch": 100}
    (step,) = data["steps"]
    assert step["kernel"] == "add_one" and step["bytes"] == 800 and step["bound_by"] in ("copy", "FMA")
    assert sum(part["seconds"] for part in data["parts"]) == pytest.approx(data["seconds"], rel=0.01)
    assert data["compiling"][0]["kind"] == "kernel" and data["peaks"]["copy_gb_s"] == 10.0


def check_trace(trace: dict[str, Any], check: Callable[[dict[str, Any]], None] = lambda event: None) -> None:
    """The format of Chrome's traces: every event has its fields, and every thread its name."""
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"} and trace["displayTimeUnit"] in ("ns", "ms")
    named = set()
    for event in trace["traceEvents"]:
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int) and isinstance(event["name"], str)
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name") and isinstance(event["args"]["name"], str)
            named.add((event["pid"], event["tid"]))
        else:
            assert event["ph"] == "X" and event["dur"] >= 0 and isinstance(event["ts"], float | int)
            assert (event["pid"], event["tid"]) in named and isinstance(event["cat"], str)
            check(event)


def test_a_trace_of_threads_steps_and_the_compile() -> None:
    x = sg.placeholder("x", ("n", 8), "float32")
    step = sg.compile([x], sg.nn.softmax(x @ np.ones((8, 8), "float32")), options={"threads": 2})
    trace = json.loads(json.dumps(step.profile(np.ones((50, 8), "float32")).trace()))
    check_trace(trace)
    kinds = {event["cat"] for event in trace["traceEvents"] if event["ph"] == "X"}
    assert kinds == {"phase", "kernel", "pass"}
    kernels = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["cat"] == "kernel"]
    called = [event for event in kernels if event["pid"] == 1]
    assert called and all({"step", "lines", "bytes", "flops", "computes"} <= set(event["args"]) for event in called)
    assert any("test_profile.py:" in line for event in called for line in event["args"]["lines"])
    phases = [event for event in trace["traceEvents"] if event["ph"] == "X" and event["cat"] == "phase"]
    for event in called:     # slices of a thread lie inside of one another or apart
        assert event["tid"] or any(phase["ts"] - 1e-3 <= event["ts"] and event["ts"] + event["dur"] <= phase["ts"]
                                   + phase["dur"] + 1e-3 for phase in phases)


def test_the_passes_are_timed_for_a_program_from_the_cache_too() -> None:
    def make_step() -> Executable:
        x = sg.placeholder("x", ("n",), "float32")
        return sg.compile([x], sg.sin(x) + 1)

    for step in (make_step(), make_step()):
        names = [each.name for each in step.profile(np.ones(3, "float32")).compiling]
        assert "fuse" in names and "lower" in names and step.program.kernels[0].name in names
