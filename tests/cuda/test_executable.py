"""Programs on a GPU: what is put into the stream, what is replayed, and what a call gives back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.compiler.program import InputSpec, OutputSpec, Step, VariableSpec
from staticgraph.errors import DeviceError, OutOfRangeError, ShapeError, VerificationError
from staticgraph.runtime.cuda import launch, layout
from staticgraph.runtime.cuda.launch import KernelLauncher
from staticgraph.runtime.executable import BINDINGS_KEPT, Executable, load
from staticgraph.types import Dim
from tests.runtime.programs import (
    BATCH,
    add_one_program,
    at,
    buffer,
    chain_program,
    counter_program,
    make,
    pick_and_update_program,
)

from .fake_driver import OUT_OF_MEMORY, FakeDriver
from .programs import THREADS, device, kernel, on_cuda, ramp, state

LARGE = layout.STAGED_LIMIT // 4 + 1
"""Elements of a float32 array that is copied without a stop in pinned memory."""


def test_the_first_call_captures_and_the_second_is_one_launch(gpu: FakeDriver) -> None:
    executable = load(on_cuda(chain_program(3)))
    gpu.calls.clear()
    assert np.array_equal(executable(ramp(1000)), ramp(1000) + 3)
    assert gpu.names() == [
        "cuMemAlloc_v2", "cuMemHostAlloc", "cuMemsetD8Async",
        "cuStreamBeginCapture_v2", "cuMemcpyHtoDAsync_v2", *["cuLaunchKernel"] * 3, "cuMemcpyDtoHAsync_v2",
        "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch", "cuStreamSynchronize"]
    for x in (ramp(1000) * 2, ramp(1000)[::-1]):
        gpu.calls.clear()
        assert np.array_equal(executable(x), x + 3)
        assert gpu.names() == ["cuGraphLaunch", "cuStreamSynchronize"]
        assert [name for name, _ in gpu.calls] == ["cuCtxPushCurrent_v2", *gpu.names(), "cuCtxPopCurrent_v2"]


def test_launches_are_in_order_with_their_arguments(gpu: FakeDriver) -> None:
    executable = load(on_cuda(chain_program(4)))
    executable(ramp(300))
    names, blocks, threads, arguments = zip(*gpu.launched)
    assert names == ("add_one",) * 4 and blocks == (3,) * 4 and threads == (THREADS,) * 4
    places = [each[0] for each in arguments] + [arguments[-1][1]]
    assert [each[1] for each in arguments] == places[1:]                # each reads what the one before it wrote
    assert {each[2] for each in arguments} == {300}                     # the extent comes last
    assert places[1] == places[3] != places[2] and len(set(places)) == 4   # two arena buffers take turns
    assert all(place % 64 == 0 for place in places)


def test_another_size_captures_a_graph_of_its_own(gpu: FakeDriver) -> None:
    executable = load(on_cuda(chain_program(2)))
    for size in (500, 3, 0, 499):
        assert np.array_equal(executable(ramp(size)), ramp(size) + 2)
    captured = gpu.count("cuStreamBeginCapture_v2")
    assert captured == 4
    for size in (3, 499, 0, 500, 500):
        assert np.array_equal(executable(ramp(size)), ramp(size) + 2)
    assert gpu.count("cuStreamBeginCapture_v2") == captured             # the arena did not move: all serve again
    assert gpu.count("cuMemAlloc_v2") == 1


def test_graphs_of_before_are_captured_again_when_the_arena_moves(gpu: FakeDriver) -> None:
    executable = load(on_cuda(chain_program(2)))
    for size in (3, 5000, 3, 50_000, 5000, 3):
        assert np.array_equal(executable(ramp(size)), ramp(size) + 2)
    assert gpu.count("cuMemAlloc_v2") == 3 and gpu.count("cuMemFree_v2") == 2
    assert gpu.count("cuStreamBeginCapture_v2") == 6


def test_more_sizes_than_are_kept(gpu: FakeDriver) -> None:
    executable = load(on_cuda(chain_program(2)))
    for size in [*range(2 * BINDINGS_KEPT), *range(2 * BINDINGS_KEPT)]:
        assert np.array_equal(executable(ramp(size)), ramp(size) + 2)
    assert len(gpu.executables) == len(gpu.graphs) == BINDINGS_KEPT


def test_steps_without_iterations_are_not_launched(gpu: FakeDriver) -> None:
    executable = load(on_cuda(add_one_program()))
    result = executable(np.zeros((0, 3), "float32"))
    assert result.shape == (0, 3) and gpu.launched == []


def test_a_launch_of_too_many_blocks_is_refused(gpu: FakeDriver) -> None:
    program = on_cuda(add_one_program((BATCH,), steps=(Step(0, at(0, 1), BATCH * 2**40, reads=(0,), writes=(1,)),)))
    with pytest.raises(DeviceError, match=r"step 0, kernel '\w+' \(.*\) needs 8589934592 blocks of threads, a GPU "
                                          "launches 2147483647 at most"):
        load(program)(ramp(1))


def test_large_arrays_are_not_staged(gpu: FakeDriver) -> None:
    executable = load(on_cuda(chain_program(2)))
    x = ramp(LARGE)
    first = executable(x)
    assert np.array_equal(first, x + 2)
    gpu.calls.clear()
    second = executable(x)
    assert gpu.names() == ["cuMemcpyHtoDAsync_v2", "cuGraphLaunch", "cuMemcpyDtoHAsync_v2", "cuStreamSynchronize"]
    copies = [arguments for name, arguments in gpu.calls if "Memcpy" in name]
    assert copies[0][1] == x.ctypes.data and copies[1][0] == second.ctypes.data
    assert not np.shares_memory(first, second) and executable.memory.pinned < x.nbytes


def test_results_belong_to_the_caller(gpu: FakeDriver) -> None:
    executable = load(on_cuda(add_one_program()))
    x = np.zeros((2, 3), "float32")
    first = executable(x)
    kept = first.copy()
    second = executable(x + 5)
    assert first.flags.owndata and first.flags.writeable and not np.shares_memory(first, second)
    assert np.array_equal(first, kept)
    assert type(load(on_cuda(add_one_program(())))(2.0)) is np.ndarray


def test_inputs_are_taken_as_on_the_cpu(gpu: FakeDriver) -> None:
    executable = load(on_cuda(add_one_program((BATCH, 2))))
    x = np.arange(8, dtype="float32").reshape(4, 2)
    readonly = x.copy()
    readonly.flags.writeable = False
    for given in (x.tolist(), np.asfortranarray(x), x.astype("float16"), readonly, x[::-1][::-1]):
        assert np.array_equal(executable(given), x + 1)
        assert np.array_equal(executable(x=given), x + 1)
    with pytest.raises(ShapeError, match="dimension 1 is 3, expected 2"):
        executable(np.zeros((4, 3), "float32"))
    with pytest.raises(TypeError, match="which float32 cannot hold without loss"):
        executable(np.zeros((4, 2)))
    with pytest.raises(TypeError, match="missing input 'x'"):
        executable()


def many_results(results: str = "host") -> tuple[Executable, Any]:
    """An input, a constant, a variable's old state, the arena, a computed result, and that result once more."""
    shape = (3,)
    program = on_cuda(make(
        inputs=(InputSpec("x", "float32", shape),), variables=(VariableSpec("w", "float32", shape, written=True),),
        constants=(np.arange(6, dtype="float32").reshape(3, 2)[:, 1],),
        buffers=(buffer("x", "input", shape), buffer("c", "constant", shape), buffer("w", "variable", shape),
                 buffer("hidden", "arena", shape, offset=64), buffer("y", "output", shape, index=4)),
        outputs=tuple(OutputSpec("float32", shape, number, "") for number in (0, 1, 2, 3, 4, 4)),
        kernels=(kernel("add_one"), kernel("copy")),
        steps=(Step(0, at(0, 3), 3, reads=(0,), writes=(3,)), Step(0, at(3, 4), 3, reads=(3,), writes=(4,)),
               Step(1, at(3, 2), 3, stage="commit", reads=(3,), writes=(2,))),
        arena_bytes=128, structure=("list", 6)))
    storage = state(np.full(3, 9))
    return load(program, [storage], results=results), storage


def test_results_from_anywhere(gpu: FakeDriver) -> None:
    executable, storage = many_results()
    for start in (1, 5):
        old = storage.read()
        x = ramp(3) + start
        results = executable(x)
        for result, wanted in zip(results, [x, ramp(3) * 2 + 1, old, x + 1, x + 2, x + 2], strict=True):
            assert result.flags.owndata and np.array_equal(result, wanted)
        assert np.array_equal(storage.read(), x + 1)
    assert gpu.count("cuStreamBeginCapture_v2") == 1


def test_updates_read_the_old_state(gpu: FakeDriver) -> None:
    storage = state(ramp(4))
    executable = load(on_cuda(counter_program()), [storage])
    for turn in range(3):
        assert np.array_equal(executable(), ramp(4) + turn)
    assert np.array_equal(storage.read(), ramp(4) + 3)


def test_a_failed_check_leaves_variables_alone(gpu: FakeDriver) -> None:
    storage = state(np.zeros(4))
    executable = load(on_cuda(pick_and_update_program()), [storage])
    assert np.array_equal(executable([5, 6, 7], [2, 0]), [7, 5])
    with pytest.raises(OutOfRangeError) as caught:
        executable([5, 6, 7], [2, 0, -4, 3])
    assert str(caught.value) == "take: index -4 is out of range for an axis of size 3\n  t: int64[n]   model.py:4"
    assert np.array_equal(storage.read(), np.ones(4))
    for sizes in ([2, 0], [1, 1, 1, 1], [2, 0]):
        assert np.array_equal(executable([5, 6, 7], sizes), np.array([5, 6, 7])[sizes])     # the report was taken back
    assert np.array_equal(storage.read(), np.full(4, 4))


def test_reports_do_not_outlive_a_change_of_sizes(gpu: FakeDriver) -> None:
    """The status blocks of two bindings are in one pinned area, where each has inputs or results of the other."""
    storage = state(np.zeros(4))
    executable = load(on_cuda(pick_and_update_program()), [storage])
    for count in (3, 40, 3, 400, 40, 3):
        x = np.full(count, -1, "float32")
        assert np.array_equal(executable(x, [0] * count), x)


def test_updates_are_written_after_a_change_of_sizes(gpu: FakeDriver) -> None:
    """A program without checks is not told its status, yet its updates look at the block."""
    storage = state(np.zeros(4))
    program = on_cuda(make(
        inputs=(InputSpec("x", "float32", (BATCH,)),), outputs=(OutputSpec("float32", (BATCH,), 2),),
        variables=(VariableSpec("w", "float32", (4,), written=True),),
        buffers=(buffer("x", "input", (BATCH,)), buffer("w", "variable", (4,)), buffer("y", "output", (BATCH,)),
                 buffer("new_w", "arena", (4,))),
        kernels=(kernel("add_one"), kernel("copy")),
        steps=(Step(0, at(0, 2), BATCH, reads=(0,), writes=(2,)), Step(0, at(1, 3), 4, reads=(1,), writes=(3,)),
               Step(1, at(3, 1), 4, stage="commit", reads=(3,), writes=(1,))),
        arena_bytes=64))
    executable = load(program, [storage])
    for turn, size in enumerate((4, 400, 4, 40, 400, 400, 4), 1):
        x = np.full(size, -1, "float32")
        assert np.array_equal(executable(x), x + 1) and np.array_equal(storage.read(), np.full(4, turn))


def test_an_unknown_report_is_a_bug_of_the_kernel(gpu: FakeDriver) -> None:
    def report(memory: Any, blocks: int, threads: int, x: int, t: int, y: int, n: int, status: int, stop: int) -> None:
        memory.write(status, np.array([77]))

    gpu.kernels["pick"] = report
    executable = load(on_cuda(pick_and_update_program()), [state(np.zeros(4))])
    with pytest.raises(VerificationError, match="reported check 76, which does not exist"):
        executable([5.0], [0])


def test_explain_names_the_device(gpu: FakeDriver) -> None:
    executable = load(on_cuda(chain_program(3)))
    assert "device: cuda:0, Fake GPU, compute capability 9.0" in executable.explain()
    assert "def add_one" in executable.source()
    assert repr(executable) == "<Executable(x) on cuda: 3 steps>"
    assert isinstance(executable, sg.Executable)


def test_profile_times_each_step_and_changes_nothing(gpu: FakeDriver) -> None:
    storage = state(ramp(4))
    executable = load(on_cuda(counter_program()), [storage])
    executable()
    profile = executable.profile()
    assert [step.kernel for step in profile.steps] == ["add_one", "copy"]
    assert all(step.seconds > 0 for step in profile.steps)
    assert {"kernels", "results"} <= {part.name for part in profile.parts} and 0 < profile.accounted <= 1
    assert sum(part.seconds for part in profile.parts) == pytest.approx(profile.seconds, rel=0.01)
    assert "on cuda" in str(profile) and len(profile.trace()["traceEvents"]) > len(profile.events) == 2
    assert np.array_equal(storage.read(), ramp(4) + 1)
    assert np.array_equal(executable(), ramp(4) + 1)


# Launchers of libraries.

class Library:
    """Does what add_one does, by a kernel of its own."""

    movable = False
    remark = "copies"
    made: list[Library] = []

    def __init__(self, otherwise: KernelLauncher, kernel: Any, workspace: Any) -> None:
        self.device = otherwise.device
        self.launching = otherwise.launching
        self.prepared = 0
        Library.made.append(self)

    def prepare(self, stream: int) -> None:
        self.prepared += 1

    def launch(self, stream: int) -> None:
        addresses = self.launching.values()
        self.device.call("cuMemcpyDtoDAsync_v2", addresses[1], addresses[0], 4 * addresses[2], stream)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Executable]:
    monkeypatch.setitem(launch.LIBRARIES, "copying", Library)
    Library.made = []

    def build(**options: Any) -> Executable:
        program = on_cuda(add_one_program((BATCH,)))
        kernels = tuple(replace(each, library="copying") for each in program.kernels)
        return load(replace(program, kernels=kernels), **options)

    return build


def test_a_library_may_take_the_place_of_a_kernel(gpu: FakeDriver, library: Callable[..., Executable]) -> None:
    executable = library()
    for x in (ramp(5), ramp(5) * 3):
        assert np.array_equal(executable(x), x) and gpu.launched == []
    assert len(Library.made) == 1 and Library.made[0].prepared == gpu.count("cuMemcpyDtoDAsync_v2") == 1
    Library.made.clear()


def test_a_library_that_declines_leaves_the_kernel(gpu: FakeDriver, library: Callable[..., Executable],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(launch.LIBRARIES, "copying", lambda otherwise, kernel, workspace: otherwise)
    assert np.array_equal(library()(ramp(5)), ramp(5) + 1)


# Threads.

def test_calls_from_many_threads(gpu: FakeDriver) -> None:
    shared = state(np.zeros(4))
    executables = [load(on_cuda(counter_program()), [shared]), load(on_cuda(counter_program()), [shared]),
                   load(on_cuda(chain_program(3)))]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(30):
                executables[number % 2]()
                x = ramp(1 + (number + turn) % 5)
                assert np.array_equal(executables[2](x), x + 3)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    assert np.array_equal(shared.read(), np.full(4, 120))


def test_garbage_collected_within_a_capture_is_released_after_it(gpu: FakeDriver,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    dropped = [load(on_cuda(chain_program(3)))]
    dropped[0](ramp(5))
    usual = KernelLauncher.launch

    def launch_and_drop(self: KernelLauncher, stream: int) -> None:
        dropped.clear()
        usual(self, stream)

    executable = load(on_cuda(chain_program(2)))
    monkeypatch.setattr(KernelLauncher, "launch", launch_and_drop)
    gpu.calls.clear()
    assert np.array_equal(executable(ramp(5)), ramp(5) + 2)
    names = gpu.names()
    assert "cuMemFree_v2" in names[names.index("cuStreamEndCapture"):]
    assert not set(names[:names.index("cuStreamEndCapture")]) & {"cuMemFree_v2", "cuMemFreeHost", "cuGraphExecDestroy"}


def test_every_symbolic_size_in_the_row(gpu: FakeDriver) -> None:
    """Offsets and sizes that are formulas, of two symbols."""
    n = Dim.symbol("n")
    program = on_cuda(make(
        inputs=(InputSpec("x", "float32", (BATCH,)), InputSpec("z", "float32", (n,))),
        outputs=(OutputSpec("float32", (BATCH * 2,), 2, "y"),),
        buffers=(buffer("x", "input", (BATCH,)), buffer("z", "input", (n,), 1), buffer("y", "output", (BATCH * 2,)),
                 buffer("a", "arena", (BATCH,), offset=n * 64)),
        kernels=(kernel("add_one"),),
        steps=(Step(0, at(0, 3), BATCH, reads=(0,), writes=(3,)),
               Step(0, (*at(3), *at(2)), BATCH, reads=(3,), writes=(2,)),
               Step(0, (at(0)[0], at(2)[0].__class__("buffer", 2, BATCH * 4)), BATCH, reads=(0,), writes=(2,))),
        arena_bytes=n * 64 + BATCH * 64))
    executable = load(program)
    for batch, size in ((4, 1), (2, 7), (4, 1)):
        x = ramp(batch)
        assert np.array_equal(executable(x, ramp(size)), np.concatenate([x + 2, x + 1]))


def test_an_arena_buffer_must_lie_in_the_arena(gpu: FakeDriver) -> None:
    program = on_cuda(make(**{**vars(chain_program(3)), "arena_bytes": 64}))
    with pytest.raises(VerificationError, match="outside of the arena's 64 bytes"):
        load(program)(ramp(100))


@pytest.mark.parametrize("code", [OUT_OF_MEMORY, 999])
def test_a_failed_capture_is_an_error(gpu: FakeDriver, code: int) -> None:
    executable = load(on_cuda(chain_program(2)))
    gpu.fail("cuLaunchKernel", code, after=1)
    with pytest.raises(DeviceError, match="cuLaunchKernel failed"):
        executable(ramp(4))
    assert gpu.held().get("graphs", 0) == 0
    assert np.array_equal(executable(ramp(4)), ramp(4) + 2)


def test_step_by_step_an_error_names_its_kernel(gpu: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_CUDA_BLOCKING", "1")
    storage = state(np.zeros(4))
    executable = load(on_cuda(pick_and_update_program()), [storage])
    for turn in range(2):
        assert np.array_equal(executable([5, 6, 7], [2, 0]), [7, 5])
        assert np.array_equal(storage.read(), np.full(4, turn + 1))
    assert gpu.count("cuGraphLaunch") == 0 and gpu.count("cuStreamSynchronize") > 10
    with pytest.raises(OutOfRangeError):
        executable([5, 6, 7], [3])
    gpu.fail("cuLaunchKernel", 700, after=1)
    with pytest.raises(DeviceError, match=r"step 1, kernel 'pick' \(something; .*\): device cuda:0 .* is lost"):
        executable([5, 6, 7], [2, 0])
    device().lost = ""


def test_pinned_memory_has_a_limit(gpu: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "STAGED_TOTAL", 1024)
    executable, _ = many_results()
    assert len(executable(ramp(3))) == 6 and executable.memory.pinned == 256 + 256 + 4 * 256
    gpu.calls.clear()
    results = executable(ramp(3))
    assert gpu.count("cuMemcpyDtoHAsync_v2") == 2      # two of six did not fit
    assert np.array_equal(results[5], ramp(3) + 2)


@pytest.mark.parametrize("program", ["counter", "chain"])
def test_programs_that_cannot_fail_do_without_the_status(gpu: FakeDriver, program: str) -> None:
    """A status block of zeros is all that they need; nothing is copied but inputs and results."""
    if program == "counter":
        executable = load(on_cuda(counter_program()), [state(np.zeros(4))])
        executable()
        assert gpu.count("cuMemsetD8Async") == 1
        captured = gpu.names()[gpu.names().index("cuStreamBeginCapture_v2"):]
        assert captured.count("cuMemcpyHtoDAsync_v2") == 0 and captured.count("cuMemcpyDtoHAsync_v2") == 1
    else:
        given = load(on_cuda(chain_program(2)), results="device")(ramp(9))
        executable = load(on_cuda(chain_program(2)), results="device")
        gpu.calls.clear()
        assert np.array_equal(executable(given).numpy(), ramp(9) + 4)
        graph = gpu.names()[gpu.names().index("cuStreamBeginCapture_v2"):gpu.names().index("cuGraphLaunch")]
        assert set(graph) == {"cuStreamBeginCapture_v2", "cuLaunchKernel", "cuStreamGetCaptureInfo_v2",
                              "cuStreamEndCapture", "cuGraphInstantiateWithFlags"}
