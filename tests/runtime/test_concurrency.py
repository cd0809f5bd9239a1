"""Many threads: calls that share memory take turns, others run side by side."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from staticgraph.compiler.program import InputSpec, OutputSpec, Step
from staticgraph.runtime.executable import load

from .programs import BATCH, Storage, add_one_program, at, buffer, chain_program, counter_program, kernel, make

MEET = """
from staticgraph.runtime.cpu.language import pointer_int64
from tests.runtime.atomics import load_acquire

def meet(args, start, stop):
    mine = pointer_int64(args, 0)
    theirs = pointer_int64(args, 1)
    met = pointer_int64(args, 2)
    mine[0] = 1
    turn = 0
    while turn < 1000000000 and load_acquire(theirs) == 0:
        turn += 1
    met[0] = load_acquire(theirs)
"""


def together(*jobs: Callable[[], None]) -> None:
    """Run the jobs in threads; the first error of any of them is raised here."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    if errors:
        raise errors[0]


def test_one_executable_in_many_threads() -> None:
    executable = load(chain_program(5))

    def job(seed: int) -> Callable[[], None]:
        def run() -> None:
            for turn in range(200):
                x = np.full(1 + (seed * 37 + turn) % 300, seed, "float32")
                assert np.array_equal(executable(x), x + 5)
        return run

    together(*(job(seed) for seed in range(8)))


def test_two_executables_that_share_a_variable_take_turns() -> None:
    storage = Storage(np.zeros(5000, "float32"))
    executables = [load(counter_program((5000,)), [storage]) for _ in range(2)]
    seen: list[float] = []

    def job(executable: Any) -> Callable[[], None]:
        def run() -> None:
            for _ in range(300):
                state = executable()
                assert (state == state[0]).all()
                seen.append(float(state[0]))
        return run

    together(*(job(executable) for executable in executables))
    assert sorted(seen) == list(range(600))
    assert (storage.array == 600).all()


def test_locks_are_taken_in_one_order() -> None:
    """Two programs that list the same two variables the other way round."""
    taken: list[int] = []

    class Noting:
        def __init__(self, number: int) -> None:
            self.number = number
            self.inner = threading.RLock()

        def acquire(self) -> None:
            taken.append(self.number)
            self.inner.acquire()

        def release(self) -> None:
            self.inner.release()

    storages = [Storage(np.zeros(4, "float32"), number, Noting(number)) for number in (5, 2, 5)]
    storages[2] = storages[0]
    program = counter_program()
    executable = load(make(**{**vars(program), "variables": program.variables * 3}), storages)
    executable()
    assert taken == [2, 5]


def test_executables_that_share_nothing_run_at_the_same_time() -> None:
    """Each kernel waits until it has seen the other at work: the native call holds no lock that both need."""
    flags = [Storage(np.zeros(1, "int64")), Storage(np.zeros(1, "int64"))]
    program = make(
        inputs=(InputSpec("mine", "int64", (1,)), InputSpec("theirs", "int64", (1,))),
        outputs=(OutputSpec("int64", (1,), 2, "met"),),
        buffers=(buffer("mine", "input", (1,), 0, "int64"), buffer("theirs", "input", (1,), 1, "int64"),
                 buffer("met", "output", (1,), 0, "int64")),
        kernels=(kernel(MEET),),
        steps=(Step(0, at(0, 1, 2), 1, reads=(0, 1), writes=(2,)),))
    met: list[int] = []

    def job(mine: Storage, theirs: Storage) -> Callable[[], None]:
        executable = load(program)
        return lambda: met.append(int(executable(mine.array, theirs.array)[0]))

    together(job(*flags), job(*reversed(flags)))
    assert met == [1, 1]


def test_loading_in_many_threads() -> None:
    def job() -> None:
        assert np.array_equal(load(add_one_program((BATCH, 2)))(np.zeros((1, 2), "float32")), np.ones((1, 2)))

    together(*[job] * 8)
