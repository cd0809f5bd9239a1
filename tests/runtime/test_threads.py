"""Chunks and workers: every chunk once, the same bits for any number of threads, nothing shared by accident."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from staticgraph.compiler.program import Argument, Check, InputSpec, OutputSpec, Step, VariableSpec
from staticgraph.errors import OutOfRangeError
from staticgraph.runtime import memory, threads
from staticgraph.runtime.cpu import executable as executable_module
from staticgraph.runtime.cpu.loader import load_kernel
from staticgraph.runtime.driver import CONTROL_SLOTS, CORE_SLOT, STEP_SLOTS, load_driver, load_worker
from staticgraph.runtime.executable import load

from .programs import (
    ADD_ONE,
    BATCH,
    COPY,
    PICK,
    Storage,
    at,
    buffer,
    chain_program,
    kernel,
    make,
    workspace_program,
)

ROOT = Path(__file__).resolve().parents[2]

COUNT = """
from staticgraph.runtime.cpu.language import pointer_int64

def count(args, start, stop):
    visits = pointer_int64(args, 0)
    for i in range(start, stop):
        visits[i] += 1
"""


@pytest.fixture(scope="module")
def four() -> threads.Pool:
    return threads.Pool(4)


@pytest.fixture
def four_threads(four: threads.Pool, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Executables loaded in the test use four threads, whatever the machine has; small chunks make them meet."""
    monkeypatch.setattr(executable_module, "thread_count", lambda: 4)
    monkeypatch.setattr(executable_module, "pool", lambda: four)
    monkeypatch.setattr(threads, "CHUNK_WORK", 64)
    monkeypatch.setattr(threads, "DENSE_CHUNK_WORK", 64)
    yield


@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_chunks_of_a_step(count: int) -> None:
    for extent in (0, 1, 2, 7, 63, 64, 65, 1000, 4097, 10**6, 10**9):
        for nbytes in (0, 10**5, 10**7, 10**12):
            for flops in (0, nbytes, 10 * nbytes):
                chunk = threads.chunk_of(extent, nbytes, flops, count)
                assert 1 <= chunk <= max(1, extent + 63)
                chunks = -(-extent // chunk)
                assert chunks <= max(threads.MAXIMUM_CHUNKS, 4 * count)
                if chunks > 1:
                    assert count > 1
                    assert max(extent, nbytes // 4, flops // 2) >= 2 * threads.CHUNK_WORK


@pytest.mark.parametrize(("m", "k", "n", "count", "chunk"), [
    (64, 64, 64, 2, 64), (128, 128, 128, 2, 64), (256, 256, 256, 2, 128), (4096, 256, 256, 2, 512),
    (64, 1024, 1024, 2, 32), (256, 256, 256, 16, 16), (10_000, 784, 10, 2, 1250),
])
def test_chunks_of_a_matmul(m: int, k: int, n: int, count: int, chunk: int) -> None:
    assert threads.chunk_of(m, 4 * (m * k + k * n + m * n), 2 * m * k * n, count) == chunk


def test_small_steps_are_not_cut() -> None:
    assert threads.chunk_of(10_000, 80_000, 10_000, 8) == 10_000
    assert threads.chunk_of(100_000, 800_000, 6_000_000, 2) == 25_000     # four that are even rather than five


@pytest.mark.parametrize("extents", [(1000,), (5, 0, 4097, 1, 333)])
def test_every_iteration_is_run_once(four: threads.Pool, extents: tuple[int, ...]) -> None:
    """Thousands of launches in a row, of changing sizes: a late worker never runs a chunk twice or of another step."""
    address = load_kernel(kernel(COUNT)).address
    visits = [np.zeros(max(extent, 1), np.int64) for extent in extents]
    arguments = np.array([each.ctypes.data for each in visits], np.int64)
    status = np.zeros(4, np.int64)
    rows = np.array([[address, arguments.ctypes.data + 8 * number, extent, 7 + 13 * number, 0]
                     for number, extent in enumerate(extents)], np.int64)
    assert rows.shape[1] == STEP_SLOTS
    rounds = 3000
    with four.busy:
        for turn in range(rounds):
            if turn % 100 == 0:
                four.wake()
            assert load_driver()(rows.ctypes.data, len(rows), status.ctypes.data, four.control) == -1
    for extent, each in zip(extents, visits):
        assert (each[:extent] == rounds).all() and not each[extent:].any()


def test_results_are_the_same_bits(four_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal(100_003).astype("float32")
    together = load(chain_program(3))
    shared = together(x)
    assert together._bindings[(x.shape,)].parallel
    monkeypatch.setattr(executable_module, "thread_count", lambda: 1)
    alone = load(chain_program(3))
    assert np.array_equal(alone(x), shared) and not alone._bindings[(x.shape,)].parallel
    assert np.array_equal(shared, x + np.float32(1) + np.float32(1) + np.float32(1))


def test_each_thread_has_its_own_workspace(four_threads: None) -> None:
    executable = load(workspace_program())
    for size in (10, 5000, 100_000, 777):
        for seed in range(20):
            x = np.random.default_rng(seed).standard_normal(size).astype("float32")
            assert np.array_equal(executable(x), np.square(x + 1))
    assert executable._bindings[((100_000,),)].parallel


def test_workspaces_that_would_be_too_large_are_not_multiplied(
        four_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PRIVATE_LIMIT", 10_000)
    executable = load(workspace_program())
    x = np.arange(5000, dtype="float32")
    assert np.array_equal(executable(x), np.square(x + 1))
    binding = executable._bindings[(x.shape,)]
    table = binding.row[-2 * STEP_SLOTS:].reshape(2, STEP_SLOTS)
    assert table[0, 3] < 5000 == table[1, 3]
    assert binding.arena_bytes == 5000 * 128


def test_what_a_workspace_is() -> None:
    program = workspace_program()
    assert memory.find_workspaces(program) == {3}
    assert memory.find_workspaces(chain_program(3)) == frozenset()
    result = (OutputSpec("float32", (BATCH,), 3, "workspace"),)
    assert memory.find_workspaces(make(**{**vars(program), "outputs": result})) == frozenset()


def test_a_failure_in_any_chunk_is_reported(four_threads: None) -> None:
    n = 20_000
    storage = Storage(np.zeros(n, "float32"))
    program = make(
        inputs=(InputSpec("x", "float32", (n,)), InputSpec("t", "int64", (n,))),
        outputs=(OutputSpec("float32", (n,), 2, "y"),),
        variables=(VariableSpec("w", "float32", (n,), written=True),),
        buffers=(buffer("x", "input", (n,)), buffer("t", "input", (n,), 1, "int64"), buffer("y", "output", (n,)),
                 buffer("w", "variable", (n,)), buffer("new_w", "arena", (n,))),
        kernels=(kernel(ADD_ONE), kernel(PICK), kernel(COPY)),
        steps=(Step(0, at(3, 4), n, reads=(3,), writes=(4,)),
               Step(1, (*at(0, 1, 2), Argument("size", n), Argument("status")), n, reads=(0, 1), writes=(2,)),
               Step(2, at(4, 3), n, stage="commit", reads=(4,), writes=(3,))),
        checks=(Check("index {value} of {size}"),),
        arena_bytes=80_000)
    executable = load(program, [storage])
    x, t = np.arange(n, dtype="float32"), np.arange(n)[::-1].copy()
    for place in (0, n // 2, n - 1):
        bad = t.copy()
        bad[place] = n + place
        with pytest.raises(OutOfRangeError, match=f"index {n + place} of {n}"):
            executable(x, bad)
        assert not storage.array.any()
    assert np.array_equal(executable(x, t), x[::-1])
    assert (storage.array == 1).all()


def test_calls_that_find_the_workers_busy_run_alone(four_threads: None, four: threads.Pool) -> None:
    executable = load(chain_program(3))
    x = np.arange(10_000, dtype="float32")
    with four.busy:
        assert np.array_equal(executable(x), x + 3)
    results: list[Any] = []

    def call_often() -> None:
        own = load(chain_program(3))
        results.extend(own(x) for _ in range(100))

    callers = [threading.Thread(target=call_often) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(results) == 300 and all(np.array_equal(result, x + 3) for result in results)


def test_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    count = threads.thread_count.__wrapped__
    monkeypatch.setenv("STATICGRAPH_NUM_THREADS", "3")
    assert count() == 3
    monkeypatch.setenv("STATICGRAPH_NUM_THREADS", "1" * 5000)
    assert count() == threads.MOST_THREADS
    for text in ("", "0", "00", "many", "²", "-1", "٣"):
        monkeypatch.setenv("STATICGRAPH_NUM_THREADS", text)
        assert 1 <= count() <= 16
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: set(range(100)), raising=False)
    for limit, expected in (("max 100000", 16), ("250000 100000", 2), ("50000 100000", 1)):
        monkeypatch.setattr(threads.Path, "read_text", lambda path, limit=limit: limit)
        assert count() == expected


def test_forked_children_start_workers_of_their_own() -> None:
    code = """if True:
        import os, sys, warnings
        import numpy as np
        from tests.runtime.programs import chain_program
        from staticgraph.runtime import threads
        from staticgraph.runtime.executable import load
        warnings.simplefilter("ignore")
        executable = load(chain_program(3))
        x = np.arange(500_000, dtype="float32")
        assert np.array_equal(executable(x), x + 3)
        parents = threads._pool
        assert parents is not None and len(parents._gates) == 2
        child = os.fork()
        if child == 0:
            right = threads._pool is None and np.array_equal(executable(x), x + 3) and threads._pool is not None
            os._exit(0 if right else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert threads._pool is parents and np.array_equal(executable(x), x + 3)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STATICGRAPH_NUM_THREADS": "3"}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True,
                         check=False, timeout=120)
    assert run.returncode == 0, run.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_forked_children_find_locks_open_that_other_threads_held() -> None:
    code = """if True:
        import os, signal, threading, warnings
        import numpy as np
        import staticgraph as sg
        warnings.simplefilter("ignore")
        x = sg.placeholder("x", ("n",))
        total = sg.variable(np.zeros(3), name="total")
        executable = sg.compile([x], sg.sum(sg.exp(x)), updates={total: total + 1})
        values = np.zeros(200_000, "float32")
        stop = threading.Event()

        def call():
            while not stop.is_set():
                executable(values)

        other = threading.Thread(target=call)
        other.start()
        codes = []
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(20)     # a closed lock would keep it for ever
                y = sg.placeholder("y", (2,))
                compiled = sg.compile([y], y + 1)(np.ones(2, "float32"))
                right = executable(values) == 200_000 and compiled[0] == 2 and total.value[0] >= 1
                os._exit(0 if right else 1)
            codes.append(os.waitpid(child, 0)[1])
        stop.set()
        other.join()
        assert codes == [0] * 10, codes
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "STATICGRAPH_NUM_THREADS": "2"}
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True,
                         check=False, timeout=300)
    assert run.returncode == 0, run.stderr


def test_an_executable_with_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "CHUNK_WORK", 64)
    x = np.arange(100_000, dtype="float32")
    alone, three, usual = load(chain_program(3), threads=1), load(chain_program(3), threads=3), load(chain_program(3))
    expected = alone(x)
    assert np.array_equal(expected, x + 3)
    for _ in range(3):
        assert np.array_equal(three(x), expected) and np.array_equal(usual(x), expected)
    assert "threads: 1" in alone.explain() and "threads: 3" in three.explain()
    if threads.thread_count() != 3:
        assert len(threads._others[3]._gates) == 2 and threads._others[3].busy is threads._busy
    assert 1 not in threads._others and threads.pool_of(1) is None


@pytest.mark.parametrize("granted", [0, 2])
def test_a_system_that_starts_no_more_threads(granted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def refuse(thread: threading.Thread) -> None:
        if len(started) == granted:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    usual = threading.stack_size()
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", refuse)
        few = threads.Pool(4)
    assert len(started) == granted and threading.stack_size() == usual
    monkeypatch.setattr(executable_module, "thread_count", lambda: 4)
    monkeypatch.setattr(executable_module, "pool", lambda: few)
    monkeypatch.setattr(threads, "CHUNK_WORK", 64)
    x = np.arange(100_000, dtype="float32")
    executable = load(chain_program(3))
    assert all(np.array_equal(executable(x), x + 3) for _ in range(3))


def test_the_process_may_end_right_after_a_call() -> None:
    """Workers are still looking for chunks then; they are neither waited for nor do they touch freed memory."""
    code = """if True:
        import numpy as np
        from tests.runtime.programs import chain_program
        from staticgraph.runtime.executable import load
        executable = load(chain_program(3), threads=4)
        for _ in range(20):
            result = executable(np.ones(500_000, "float32"))
    """
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
                         capture_output=True, text=True, check=False, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads choose their core on Linux only")
def test_a_worker_leaves_the_core_of_its_caller() -> None:
    """It stops looking at once there, looks with patience elsewhere, and what it may run on stays as it was."""
    found: list[object] = []

    def serve() -> None:
        allowed = os.sched_getaffinity(0)
        here = min(allowed)
        os.sched_setaffinity(0, {here})
        control = np.zeros(CONTROL_SLOTS, np.int64)
        control[CORE_SLOT] = here
        found.append(load_worker()(control.ctypes.data, 1, 200))
        found.append(threads._leave(here))     # there is no other core
        control[CORE_SLOT] = here + 1
        found.append(load_worker()(control.ctypes.data, 1, 200))
        os.sched_setaffinity(0, allowed)
        found.append(threads._leave(here) == (len(allowed) > 1))
        found.append(os.sched_getaffinity(0) == allowed)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert found == [-1, False, 0, True, True]
