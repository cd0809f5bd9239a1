"""Running programs: sizes, results, variables and failures."""

import threading
from typing import Any

import numpy as np
import pytest

from staticgraph.compiler.program import InputSpec, OutputSpec, Step, VariableSpec
from staticgraph.errors import DeviceError, OutOfRangeError, ShapeError, VerificationError
from staticgraph.runtime import memory
from staticgraph.runtime.cpu import loader
from staticgraph.runtime.executable import BINDINGS_KEPT, load
from staticgraph.types import Dim, product

from .programs import (
    ADD_ONE,
    BATCH,
    COPY,
    Storage,
    add_one_program,
    at,
    buffer,
    chain_program,
    counter_program,
    kernel,
    make,
    pick_and_update_program,
)


def zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, "float32")


def test_any_batch_size_with_one_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    executable = load(chain_program(7))
    monkeypatch.setattr(loader, "link_cached", None)     # whatever loads a kernel from here on fails
    for size in (3, 1000, 5, 0, 1, 100_000, 3, 17):
        x = np.arange(size, dtype="float32")
        assert np.array_equal(executable(x), x + 7)


def test_more_sizes_than_are_kept() -> None:
    executable = load(chain_program(3))
    for size in [*range(3 * BINDINGS_KEPT), *range(3 * BINDINGS_KEPT)]:
        assert np.array_equal(executable(zeros(size)), np.full(size, 3, "float32"))
    assert len(executable._bindings) == BINDINGS_KEPT


def test_bindings_follow_the_arena_when_it_moves() -> None:
    executable = load(chain_program(3))
    small, large = zeros(10), zeros(1_000_000)
    for x in (small, large, small, large, small):
        assert np.array_equal(executable(x), x + 3)


def test_results_belong_to_the_caller() -> None:
    executable = load(add_one_program())
    x = zeros(2, 3)
    first = executable(x)
    kept = first.copy()
    second = executable(x + 5)
    assert first.flags.owndata and first.flags.writeable and not np.shares_memory(first, second)
    assert np.array_equal(first, kept)
    first[...] = 77
    assert np.array_equal(executable(x), x + 1)


def test_results_without_dimensions_are_arrays() -> None:
    result = load(add_one_program(()))(2.0)
    assert type(result) is np.ndarray and result.shape == () and result == 3.0


@pytest.mark.parametrize("shape", [(0, 3), (0,)])
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    executable = load(add_one_program((BATCH, *shape[1:])))
    assert executable(zeros(*shape)).shape == shape
    assert executable(zeros(2, *shape[1:])).shape == (2, *shape[1:])


def many_results(structure: tuple[Any, ...]) -> Any:
    """An input, a constant, a variable's old state, the arena, a computed result, and that result once more."""
    shape = (3,)
    names = ("x", "c", "w", "hidden", "y", "y")
    program = make(
        inputs=(InputSpec("x", "float32", shape),),
        variables=(VariableSpec("w", "float32", shape, written=True),),
        constants=(np.arange(6, dtype="float32").reshape(3, 2)[:, 1],),
        buffers=(buffer("x", "input", shape), buffer("c", "constant", shape), buffer("w", "variable", shape),
                 buffer("hidden", "arena", shape, offset=64), buffer("y", "output", shape, index=4)),
        outputs=tuple(OutputSpec("float32", shape, number, name) for number, name in zip((0, 1, 2, 3, 4, 4), names)),
        kernels=(kernel(ADD_ONE), kernel(COPY)),
        steps=(Step(0, at(0, 3), 3, reads=(0,), writes=(3,)), Step(0, at(3, 4), 3, reads=(3,), writes=(4,)),
               Step(1, at(3, 2), 3, stage="commit", reads=(3,), writes=(2,))),
        arena_bytes=128, structure=structure)
    storage = Storage(np.full(3, 9, "float32"))
    return load(program, [storage]), storage


@pytest.mark.parametrize("structure", [("list", 6), ("tuple", 6), ("dict", ("a", "b", 3, "d", "e", "f"))])
def test_results_from_anywhere_in_any_structure(structure: tuple[Any, ...]) -> None:
    executable, storage = many_results(structure)
    x = np.array([1, 2, 3], "float32")
    results = executable(x)
    if structure[0] == "dict":
        assert list(results) == list(structure[1])
        results = list(results.values())
    else:
        assert type(results).__name__ == structure[0]
    expected = [x, np.array([1, 3, 5]), np.full(3, 9), x + 1, x + 2, x + 2]
    for result, wanted in zip(results, expected, strict=True):
        assert result.flags.owndata and np.array_equal(result, wanted)
    memories = [*results, x, storage.array]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(memories) for b in memories[:i])
    assert np.array_equal(storage.array, x + 1)


def test_updates_read_the_old_state() -> None:
    storage = Storage(np.arange(4, dtype="float32"))
    executable = load(counter_program(), [storage])
    for round_ in range(3):
        assert np.array_equal(executable(), np.arange(4) + round_)
    assert np.array_equal(storage.array, np.arange(4) + 3)
    storage.array[...] = 100     # what the language does when a value is assigned
    assert np.array_equal(executable(), np.full(4, 100))


def test_a_failed_step_leaves_variables_alone() -> None:
    storage = Storage(np.zeros(4, "float32"))
    executable = load(pick_and_update_program(), [storage])
    assert np.array_equal(executable([5, 6, 7], [2, 0]), [7, 5])
    assert np.array_equal(storage.array, np.full(4, 1))
    with pytest.raises(OutOfRangeError) as caught:
        executable([5, 6, 7], [2, 0, -4, 3])
    assert str(caught.value) == ("take: index -4 is out of range for an axis of size 3\n  t: int64[n]   model.py:4")
    assert isinstance(caught.value, IndexError)
    assert np.array_equal(storage.array, np.full(4, 1))
    assert np.array_equal(executable([5, 6, 7], [2, 0]), [7, 5])     # the report was taken back
    assert np.array_equal(storage.array, np.full(4, 2))


def test_failed_checks_leave_variables_and_locks_alone() -> None:
    storage = Storage(np.zeros(4, "float32"))
    executable = load(pick_and_update_program(), [storage])
    for args in ((), ([1.0], [0.5]), (zeros(2, 2), [0])):
        with pytest.raises((TypeError, ValueError)):
            executable(*args)
    assert np.array_equal(storage.array, zeros(4))
    taken = []
    thread = threading.Thread(target=lambda: taken.append(storage.lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    assert taken == [True]


def test_memory_that_runs_out_leaves_the_executable_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    executable = load(chain_program(3))
    x = zeros(100)
    assert np.array_equal(executable(x), x + 3)

    def full(*arguments: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(memory.np, "empty", full)
        with pytest.raises(MemoryError):
            executable(zeros(5_000_000))
    assert np.array_equal(executable(x), x + 3)


def test_arena_offsets_are_held_to_the_arena() -> None:
    program = chain_program(3)
    with pytest.raises(VerificationError, match="outside of the arena's 64 bytes"):
        load(make(**{**vars(program), "arena_bytes": 64}))(zeros(100))


def test_arena_is_aligned_and_reused() -> None:
    arena = memory.Arena()
    arena.reserve(100)
    assert arena.address % 64 == 0 and arena.nbytes == 4096
    place = arena.address, arena.generation
    arena.reserve(4000)
    assert (arena.address, arena.generation) == place
    arena.reserve(4097)
    assert arena.nbytes == 8192 and arena.generation == place[1] + 1
    arena.view(64, (3,), np.dtype("float32"))[...] = 7
    assert arena.view(68, (), np.dtype("float32")) == 7


@pytest.mark.parametrize("shape", [(), (1,), (7, 3), (0,)])
def test_address_of(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape)
    assert memory.address_of(array) == array.ctypes.data


def test_devices() -> None:
    with pytest.raises(DeviceError, match="device 'tpu' does not exist"):
        load(add_one_program(device="tpu"))


@pytest.mark.parametrize("array", [zeros(5), np.zeros(4), zeros(4, 2)[:, 0]], ids=["shape", "dtype", "strides"])
def test_storage_must_fit(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(VerificationError, match="variable 'w' is float32"):
        load(counter_program(), [Storage(array)])
    with pytest.raises(VerificationError, match="1 variables, got 0 storages"):
        load(counter_program())


def test_a_program_that_breaks_its_rules_is_refused() -> None:
    program = counter_program()
    steps = tuple(reversed(program.steps))
    with pytest.raises(VerificationError):
        load(make(**{**vars(program), "steps": steps}), [Storage(zeros(4))])


def test_arguments_stay_alive_during_the_call() -> None:
    executable = load(add_one_program((BATCH,)))
    for size in (10, 30_000):
        for _ in range(20):
            assert np.array_equal(executable(np.arange(size, dtype="int16")), np.arange(size) + 1)


def test_symbolic_offsets_and_sizes_of_arguments() -> None:
    """The second half of x, plus one: a view is an offset into its buffer."""
    half = Dim.symbol("half")
    program = make(
        inputs=(InputSpec("h", "float32", (half,)), InputSpec("x", "float32", (Dim.symbol("n"),))),
        outputs=(OutputSpec("float32", (half,), 2, "y"),),
        buffers=(buffer("h", "input", (half,)), buffer("x", "input", (Dim.symbol("n"),), 1),
                 buffer("y", "output", (half,))),
        kernels=(kernel(ADD_ONE),),
        steps=(Step(0, (at(1)[0].__class__("buffer", 1, half * 4), *at(2)), product((half,)), reads=(1,),
                    writes=(2,)),))
    executable = load(program)
    for size in (1, 4):
        x = np.arange(2 * size, dtype="float32")
        assert np.array_equal(executable(zeros(size), x), x[size:] + 1)


def test_shape_error_before_the_memory_is_touched() -> None:
    executable = load(chain_program(3, (BATCH, 2)))
    with pytest.raises(ShapeError):
        executable(zeros(10**6, 3))
    assert executable.memory.reserved == 0


def test_a_kernel_that_raises_is_a_bug_and_is_said_so() -> None:
    text = """
def raising(args, start, stop):
    if stop > 2:
        raise ValueError("too many")
"""
    program = add_one_program((BATCH,), kernels=(kernel(text),))
    executable = load(program)
    assert executable(zeros(2)).shape == (2,)
    for size in (3, 1_000_000):
        with pytest.raises(VerificationError, match="step 0: kernel 'raising' raised a Python exception"):
            executable(zeros(size))
    assert executable(zeros(1)).shape == (1,)


def test_a_check_that_does_not_exist() -> None:
    program = pick_and_update_program()
    with pytest.raises(VerificationError, match="kernel 'pick' reported check 0, which does not exist"):
        load(make(**{**vars(program), "checks": ()}), [Storage(zeros(4))])([1.0], [1])
