"""The driver library: how it is found, what its errors become, and what happens when it is lost."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from staticgraph.errors import DeviceError, StaticGraphError
from staticgraph.runtime.cuda import driver as driver_module
from staticgraph.runtime.cuda import executable as executable_module
from staticgraph.runtime.cuda import layout
from staticgraph.runtime.cuda.device import Event, Stream, find_device
from staticgraph.runtime.cuda.driver import FATAL, SIGNATURES, DriverError, driver
from staticgraph.runtime.cuda.exchange import DeviceArray
from staticgraph.runtime.executable import Executable, load
from staticgraph.tensor import VariableState
from tests.runtime.programs import chain_program, pick_and_update_program

from . import fake_driver, programs
from .fake_driver import FakeDriver
from .programs import device, on_cuda, state, using

pytestmark = pytest.mark.usefixtures("quick_collections")

ROOT = Path(__file__).resolve().parents[2]


# Finding it.

def opening(monkeypatch: pytest.MonkeyPatch, opened: Callable[[str], Any]) -> None:
    """Let ctypes find what `opened` gives or raises."""
    monkeypatch.setattr(driver_module.ctypes, "CDLL", opened)
    driver_module.set_library(None)


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    opening(monkeypatch, missing)
    with pytest.raises(DeviceError) as caught:
        driver()
    assert str(caught.value) == (
        "no NVIDIA driver was found (libcuda.so.1: cannot open shared object file); install the NVIDIA driver of your "
        "GPU (nvidia.com/drivers, or your system's package), then run `staticgraph doctor`")


class Symbols:
    """A library as ctypes gives it: functions that take a prototype. `lacks` are missing."""

    def __init__(self, fake: FakeDriver, lacks: str = "") -> None:
        self.functions: dict[str, Any] = {}
        for name in SIGNATURES:
            if name != lacks:
                self.functions[name] = type("Function", (), {"__call__": staticmethod(getattr(fake, name))})()

    def __getattr__(self, name: str) -> Any:
        try:
            return self.functions[name]
        except KeyError:
            raise AttributeError(f"undefined symbol: {name}") from None


def test_functions_get_their_prototypes(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = Symbols(FakeDriver())
    opening(monkeypatch, lambda name: symbols)
    assert driver().library is symbols and driver() is driver()
    for name, parameters in SIGNATURES.items():
        assert symbols.functions[name].argtypes == parameters and symbols.functions[name].restype is ctypes.c_int
    driver_module.set_library(None)


@pytest.mark.parametrize(("version", "expected"), [
    (11040, "the NVIDIA driver is too old: it supports CUDA 11.4, and CUDA 12.0 or later is needed; update the driver "
            "(nvidia.com/drivers)"),
    (12080, "the NVIDIA driver's library lacks the function cuGraphLaunch; install the NVIDIA driver of your GPU "
            "(nvidia.com/drivers, or your system's package), then run `staticgraph doctor`")])
def test_a_library_that_lacks_a_function(monkeypatch: pytest.MonkeyPatch, version: int, expected: str) -> None:
    opening(monkeypatch, lambda name: Symbols(FakeDriver(version=version), "cuGraphLaunch"))
    with pytest.raises(DeviceError) as caught:
        driver()
    assert str(caught.value) == expected


def test_an_old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    with using(FakeDriver(version=11080), monkeypatch), pytest.raises(DeviceError) as caught:
        driver()
    assert str(caught.value) == ("the NVIDIA driver is too old: it supports CUDA 11.8, and CUDA 12.0 or later is "
                                 "needed; update the driver (nvidia.com/drivers)")


def test_code_that_is_newer_than_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    code = programs.Code("//\n.version 9.0\n.target sm_90\n", b"", "add_one")
    with using(FakeDriver(version=12040), monkeypatch), monkeypatch.context() as patch:
        patch.setattr(executable_module, "load_kernel", lambda kernel, capability: programs.Loaded(code))
        with pytest.raises(DeviceError) as caught:
            load(on_cuda(chain_program(2)))
    assert str(caught.value) == ("the NVIDIA driver is too old: it supports CUDA 12.4, and CUDA 13.0 or later is "
                                 "needed; update the driver (nvidia.com/drivers)")


def test_code_that_the_driver_does_not_want(gpu: FakeDriver) -> None:
    gpu.fail("cuModuleLoadData", 209)
    with pytest.raises(DeviceError, match=r"^the driver cannot load kernel 'add_one' for Fake GPU \(compute capability "
                                          r"9.0\): its machine code is for other devices; the driver supports CUDA 13"):
        load(on_cuda(chain_program(2)))


def test_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    with using(FakeDriver(gpus=0), monkeypatch), pytest.raises(DeviceError, match="there is no CUDA device: the NVIDIA "
                                                               "driver is installed, but it finds no GPU"):
        driver()


def test_a_device_that_does_not_exist(gpus: FakeDriver) -> None:
    assert find_device(1).index == 1 and find_device(1) is find_device(1)
    with pytest.raises(DeviceError, match="device 'cuda:2' does not exist: there is only cuda:0 to cuda:1"):
        find_device(2)


def test_nothing_of_cuda_is_loaded_before_it_is_needed() -> None:
    code = ("import sys, numpy as np, staticgraph as sg\n"
            "x = sg.placeholder('x', (3,))\nprint(sg.compile([x], x + 1)(np.zeros(3, 'float32')))\n"
            "packages = ('staticgraph.runtime.cuda', 'numba.cuda', 'numba_cuda', 'cuda', 'nvidia')\n"
            "print([name for name in sys.modules if name.startswith(packages)])")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[1] == "[]"


# Errors.

def test_errors_are_named(gpu: FakeDriver) -> None:
    with device() as found:
        gpu.fail("cuStreamCreate", 999)
        with pytest.raises(DriverError) as caught:
            Stream(found)
        assert str(caught.value) == "cuStreamCreate failed: CUDA_ERROR_UNKNOWN (999, unknown error)"
        gpu.fail("cuStreamCreate", 12345)
        with pytest.raises(DriverError, match=r"cuStreamCreate failed: CUDA error 12345"):
            Stream(found)
    assert isinstance(caught.value, StaticGraphError) and caught.value.code == 999


@pytest.mark.parametrize("code", sorted(FATAL))
def test_a_lost_context_fails_at_once_ever_after(gpu: FakeDriver, code: int) -> None:
    storage = state(np.zeros(4))
    executable = load(on_cuda(pick_and_update_program()), [storage])
    executable([1.0], [0])
    storage.read()
    gpu.fail("cuGraphLaunch", code)
    with pytest.raises(DeviceError) as first:
        executable([1.0], [0])
    assert str(first.value).startswith("device cuda:0 (Fake GPU) is lost: cuGraphLaunch reported CUDA")
    assert str(first.value).endswith("what it held is gone, and the process must be restarted to use it again")
    gpu.calls.clear()
    for call in (lambda: executable([1.0], [0]), lambda: load(on_cuda(chain_program(2))),
                 lambda: executable.profile([1.0], [0])):
        with pytest.raises(DeviceError) as later:
            call()
        assert str(later.value) == str(first.value)
    assert {name for name, _ in gpu.calls} <= {"cuDeviceGetCount"}
    device().lost = ""     # so that the end of the test finds no leaks


def test_what_a_lost_device_held_is_dropped_in_silence(gpu: FakeDriver) -> None:
    storage = state(np.zeros(4))
    executable = load(on_cuda(pick_and_update_program()), [storage])
    executable([1.0], [0])
    found = device()
    gpu.lose()
    with pytest.raises(DeviceError):
        executable([1.0], [0])
    gpu.calls.clear()
    del executable, storage
    gc.collect()
    assert gpu.calls == []
    gpu.lose(0)
    found.lost = ""
    for table in (gpu.graphs, gpu.executables, gpu.modules, gpu.events, gpu.pinned):
        table.clear()
    gpu.streams = {number: each for number, each in gpu.streams.items()
                   if number in (1, 2) or (found._transfers and number == found._transfers.handle)}
    for address in list(gpu.gpus[0].memory.allocations):
        gpu.gpus[0].memory.free(address)


# Every function fails once at every place where it is called.

class Scene:
    """A program with everything: host and device inputs, small and large results, a variable that is written, a check;
    results on the host and on the device."""

    LARGE = 4000

    def __init__(self, fake: FakeDriver) -> None:
        self.storage = state(np.zeros(4))
        self.executables = [load(on_cuda(pick_and_update_program()), [self.storage], 0, results)
                            for results in ("host", "device")]
        self.chain = load(on_cuda(chain_program(2)), results="device")
        self.turns = 0

    def play(self) -> None:
        x, t = np.array([5, 6, 7], "float32"), np.array([2, 0])
        for executable in self.executables:
            result = executable(x, t)
            self.turns += 1
            given = self.chain(np.arange(3, dtype="float32"))
            assert np.array_equal(_host(result), [7, 5])
            assert np.array_equal(_host(executable(given, t)), [4, 2])
            self.turns += 1
            other = self.chain(np.arange(3, dtype="float32") * 2)
            assert np.array_equal(_host(executable(other, t)), [6, 2])
            self.turns += 1
            big = np.arange(2000, dtype="float32")
            assert np.array_equal(_host(executable(big, np.arange(2000))), big)
            self.turns += 1
            executable.profile(x, t)
            assert self.storage.read()[0] == self.turns


def _host(result: Any) -> Any:
    return result.numpy() if isinstance(result, DeviceArray) else result


def calls_of_a_scene(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    with using(FakeDriver(), monkeypatch) as fake:
        Scene(fake).play()
        return {name: fake.count(name) for name in SIGNATURES if fake.count(name)}


NEVER_CHECKED = ("cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2", "cuMemFree_v2", "cuMemFreeHost", "cuStreamDestroy_v2",
                 "cuEventDestroy_v2", "cuModuleUnload", "cuGraphExecDestroy", "cuGraphDestroy")
"""What gives something back, or is called for that too: nothing could be done about its failure."""


@pytest.fixture(scope="module")
def how_often() -> dict[str, int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "STAGED_LIMIT", Scene.LARGE)
        return calls_of_a_scene(patch)


SCENE = sorted(set(SIGNATURES) - set(NEVER_CHECKED) - {"cuGetErrorName", "cuGetErrorString", "cuCtxSynchronize",
                                                       "cuMemGetInfo_v2", "cuPointerGetAttribute", "cuStreamWaitEvent"})


@pytest.mark.parametrize("name", SCENE)
def test_any_failure_is_an_error_that_changes_nothing(monkeypatch: pytest.MonkeyPatch, how_often: dict[str, int],
                                                      name: str) -> None:
    """After the failure the variable is what it was before the call, later calls are right, and nothing leaks."""
    count = how_often[name]
    monkeypatch.setattr(layout, "STAGED_LIMIT", Scene.LARGE)
    for after in sorted({*range(min(count, 4)), *np.linspace(0, count - 1, 4, dtype=int).tolist()}):
        with using(FakeDriver(), monkeypatch) as fake:
            fake.fail(name, fake_driver.INVALID_VALUE, after)
            _play_with_a_failure(fake, name)
            gc.collect()
            _nothing_leaks(fake)


def _play_with_a_failure(fake: FakeDriver, name: str) -> None:
    scene = None
    try:
        scene = Scene(fake)
        scene.play()
    except DeviceError as error:
        assert name in str(error) and "CUDA_ERROR_INVALID_VALUE" in str(error)
    else:
        raise AssertionError(f"the failure of {name} went unnoticed")
    if scene is not None and not device().lost:
        scene.turns = int(scene.storage.read()[0])     # whole calls only, the same for all elements:
        assert np.array_equal(scene.storage.read(), np.full(4, scene.turns))
        scene.play()


def _nothing_leaks(fake: FakeDriver) -> None:
    if not driver().devices or not device().lost:
        assert programs.leaks(fake) == {}
    else:
        device().lost = ""


def test_a_context_that_cannot_be_made_current(gpu: FakeDriver) -> None:
    storage = state(np.zeros(4))
    executable = load(on_cuda(pick_and_update_program()), [storage])
    executable([1.0], [0])
    gpu.fail("cuCtxPushCurrent_v2", fake_driver.INVALID_VALUE)
    with pytest.raises(DeviceError, match="cuCtxPushCurrent_v2 failed"):
        executable([1.0], [0])
    assert np.array_equal(executable([1.0], [0]), [1]) and np.array_equal(storage.read(), np.full(4, 2))


# Processes.

FORK = """
import os, sys
import numpy as np, pytest
from staticgraph.runtime.executable import load
from tests.cuda.programs import FakeDriver, on_cuda, state, using
from tests.runtime.programs import chain_program, counter_program, ADD_ONE
from staticgraph.runtime.cuda.device import find_device
import staticgraph as sg
with using(FakeDriver(), pytest.MonkeyPatch()) as fake:
    storage = state(np.zeros(4))
    executable, count = load(on_cuda(chain_program(2))), load(on_cuda(counter_program()), [storage])
    here = load(counter_program(), [storage])
    x = np.zeros(3, "float32")
    executable(x), count()
    child = os.fork()
    fake.calls.clear()
    if child == 0:
        for call in (lambda: executable(x), count, storage.read, here, lambda: find_device(0)):
            try:
                call()
                print("no error")
            except sg.DeviceError as error:
                print(error)
        storage.assign(np.full(4, 5, "float32"))
        print(here(), storage.read(), [str(each)[:3] for each in sg.devices()])
        del executable, count
        print(fake.calls)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    print(executable(x), count())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_is_told_so() -> None:
    run = subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stderr
    text = ("CUDA cannot be used in a process that was forked from one that has used it; start worker processes with "
            "multiprocessing's 'spawn' or 'forkserver' method")
    lost = f"the value of variable 'w' is lost: {text}"
    assert lines[:5] == [text, text, lost, lost, text]
    assert lines[5] == "[5. 5. 5. 5.] [6. 6. 6. 6.] ['cpu']"
    assert lines[6:] == ["[]", "[2. 2. 2.] [1. 1. 1. 1.]"], run.stderr


EXIT = """
import numpy as np, pytest, staticgraph as sg
from staticgraph.runtime.executable import load
from tests.cuda.programs import FakeDriver, on_cuda, state, using
from tests.runtime.programs import chain_program, counter_program
context = using(FakeDriver(), pytest.MonkeyPatch())
fake = context.__enter__()
kept = load(on_cuda(chain_program(2)), results="device"), load(on_cuda(counter_program()), [state(np.zeros(4))])
results = kept[0](np.zeros(3, "float32")), kept[1]()
capsule = results[0].__dlpack__()
cycle = [kept, results]
cycle.append(cycle)
print("done")
"""


def test_the_end_of_the_process_is_quiet() -> None:
    run = subprocess.run([sys.executable, "-X", "dev", "-W", "ignore", "-c", EXIT], cwd=ROOT, capture_output=True,
                         text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")


# Small parts.

def test_events_measure(gpu: FakeDriver) -> None:
    with device() as found:
        stream = Stream(found)
        first, second = Event(found, timing=True), Event(found, timing=True)
        first.record(stream.handle)
        second.record(stream.handle)
        assert second.seconds_since(first) == pytest.approx(1e-6)


def test_the_context_of_the_thread_is_put_back(gpus: FakeDriver) -> None:
    one, two = device(0), device(1)
    with one:
        with two:
            assert gpus._gpu.ordinal == 1
        assert gpus._gpu.ordinal == 0
        with pytest.raises(ZeroDivisionError), two:
            raise ZeroDivisionError
        assert gpus._gpu.ordinal == 0
    assert gpus._stack() == []
    assert (gpus.gpus[0].retained, gpus.gpus[1].retained) == (1, 1)


def test_storages_of_the_language_are_what_the_runtime_wants() -> None:
    storage = VariableState(np.zeros(3, "float32"))
    assert storage.copies == {} and storage.newest is None
    storage.fetch()
    storage.overwritten()
    assert isinstance(load(chain_program(2)), Executable)
