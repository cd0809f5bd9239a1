"""Variables that live on a GPU: whoever reads one finds what was written last, whoever wrote it."""

from __future__ import annotations

import itertools
import random
import threading

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.compiler.program import InputSpec, OutputSpec, Program, Step, VariableSpec
from staticgraph.errors import DeviceError, OutOfRangeError
from staticgraph.runtime.cuda.device import Stream
from staticgraph.runtime.executable import load
from staticgraph.tensor import VariableState
from tests.runtime.programs import ADD_ONE, COPY, at, buffer, counter_program, make, pick_and_update_program
from tests.runtime.programs import kernel as cpu_kernel

from .fake_driver import ILLEGAL_ADDRESS, FakeDriver
from .programs import on_cuda, state


def reader_program() -> Program:
    """y = w + 1."""
    return make(
        outputs=(OutputSpec("float32", (4,), 1, "y"),), variables=(VariableSpec("w", "float32", (4,)),),
        buffers=(buffer("w", "variable", (4,)), buffer("y", "output", (4,))), kernels=(cpu_kernel(ADD_ONE),),
        steps=(Step(0, at(0, 1), 4, reads=(0,), writes=(1,)),))


def setter_program() -> Program:
    """w = x, without reading w."""
    return make(
        inputs=(InputSpec("x", "float32", (4,)),), outputs=(), structure=("list", 0),
        variables=(VariableSpec("w", "float32", (4,), written=True),),
        buffers=(buffer("x", "input", (4,)), buffer("w", "variable", (4,))), kernels=(cpu_kernel(COPY),),
        steps=(Step(0, at(0, 1), 4, stage="commit", reads=(0,), writes=(1,)),))


def transfers(fake: FakeDriver) -> tuple[int, int]:
    """Copies of the variable to and from devices, made outside of graphs."""
    graphs = fake.count("cuStreamBeginCapture_v2")
    assert graphs == 0
    return fake.count("cuMemcpyHtoDAsync_v2"), fake.count("cuMemcpyDtoHAsync_v2")


def test_a_variable_stays_on_the_device(gpu: FakeDriver) -> None:
    storage = state([0, 1, 2, 3])
    count, read = load(on_cuda(counter_program()), [storage]), load(on_cuda(reader_program()), [storage])
    count(), read()
    gpu.calls.clear()
    for turn in range(1, 5):
        assert np.array_equal(count(), np.arange(4) + turn)
        assert np.array_equal(read(), np.arange(4) + turn + 2)
    assert set(gpu.names()) == {"cuGraphLaunch", "cuStreamSynchronize"}
    assert np.array_equal(storage.array, np.arange(4))        # the host's array is out of date, and knows it
    assert np.array_equal(storage.read(), np.arange(4) + 5)
    assert transfers(gpu) == (0, 1)
    storage.read(), read()
    assert transfers(gpu) == (0, 1)                           # both are up to date


def test_reading_the_value_does_not_send_it_back(gpu: FakeDriver) -> None:
    storage = state(np.zeros(4))
    count = load(on_cuda(counter_program()), [storage])
    count()
    gpu.calls.clear()
    for turn in range(1, 4):
        assert np.array_equal(storage.read(), np.full(4, turn))
        count()
    assert transfers(gpu) == (0, 3)


def test_assigning_sends_the_value_once(gpu: FakeDriver) -> None:
    storage = state(np.zeros(4))
    count = load(on_cuda(counter_program()), [storage])
    count()
    gpu.calls.clear()
    storage.assign(np.full(4, 10, "float32"))
    storage.assign(np.full(4, 20, "float32"))
    assert np.array_equal(count(), np.full(4, 20)) and np.array_equal(count(), np.full(4, 21))
    assert transfers(gpu) == (1, 0)


def test_variables_of_the_language(gpu: FakeDriver) -> None:
    w = sg.variable(np.zeros(4, "float32"), "w")
    assert isinstance(w._state, VariableState)
    count = load(on_cuda(counter_program()), [w._state])
    count()
    assert np.array_equal(w.value, np.ones(4)) and np.array_equal(sg.evaluate(w + 1, {}), np.full(4, 2))
    w.value = np.full(4, 7.0, "float32")
    assert np.array_equal(count(), np.full(4, 7))
    assert np.array_equal(sg.evaluate(w * 2, {}), np.full(4, 16))
    with pytest.raises(ValueError, match="cannot hold this value"):
        w.value = np.zeros(5, "float32")
    assert np.array_equal(w.value, np.full(4, 8))


OPERATIONS = ("cpu counts", "gpu 0 counts", "gpu 1 counts", "cpu reads", "gpu 0 reads", "gpu 1 reads", "value",
              "assign", "gpu 0 sets", "cpu sets", "gpu 0 fails")


class Model:
    """One variable, used by a CPU and two GPUs; `expected` is what it must be."""

    def __init__(self) -> None:
        self.storage = state(np.zeros(4))
        self.expected = 0.0
        storages = [self.storage]
        self.count = {"cpu": load(counter_program(), storages)}
        self.read = {"cpu": load(reader_program(), storages)}
        self.set = {"cpu": load(setter_program(), storages)}
        for index in (0, 1):
            self.count[f"gpu {index}"] = load(on_cuda(counter_program()), storages, index)
            self.read[f"gpu {index}"] = load(on_cuda(reader_program()), storages, index)
            self.set[f"gpu {index}"] = load(on_cuda(setter_program()), storages, index)
        self.fail = load(on_cuda(pick_and_update_program()), storages)

    def do(self, operation: str, number: int) -> None:
        place, _, verb = operation.rpartition(" ")
        if verb == "counts":
            assert np.array_equal(self.count[place](), np.full(4, self.expected)), operation
            self.expected += 1
        elif verb == "reads":
            assert np.array_equal(self.read[place](), np.full(4, self.expected + 1)), operation
        elif verb == "sets":
            self.expected = 100.0 * number
            self.set[place](np.full(4, self.expected, "float32"))
        elif verb == "assign":
            self.expected = -100.0 * number
            self.storage.assign(np.full(4, self.expected, "float32"))
        elif verb == "fails":
            with pytest.raises(OutOfRangeError):
                self.fail([1.0], [3])
        else:
            assert np.array_equal(self.storage.read(), np.full(4, self.expected)), operation


def test_every_order_of_three(gpus: FakeDriver) -> None:
    model = Model()
    for number, operations in enumerate(itertools.product(OPERATIONS, repeat=3)):
        for each in operations:
            model.do(each, number)


@pytest.mark.parametrize("seed", range(4))
def test_random_orders(gpus: FakeDriver, seed: int) -> None:
    model, generator = Model(), random.Random(seed)
    for number in range(300):
        model.do(generator.choice(OPERATIONS), number)


def test_threads_on_all_devices(gpus: FakeDriver) -> None:
    storage = state(np.zeros(4))
    executables = [load(counter_program(), [storage]), load(on_cuda(counter_program()), [storage]),
                   load(on_cuda(counter_program()), [storage], 1)]
    seen: list[float] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(40):
                seen.append(float(executables[(number + turn) % 3]()[0]))
                storage.read()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    assert sorted(seen) == list(range(120)) and np.array_equal(storage.read(), np.full(4, 120))


def test_two_variables_of_one_executable_keep_apart(gpu: FakeDriver) -> None:
    """A change of one variable does not make the executable forget that the other is newer on the device."""
    one, two = state(np.zeros(4)), state(np.zeros(4))
    count_one, count_two = load(on_cuda(counter_program()), [one]), load(on_cuda(counter_program()), [two])
    for turn in range(5):
        count_one(), count_two()
        one.read()
        one.assign(np.full(4, 50, "float32"))
        assert np.array_equal(two.read(), np.full(4, turn + 1))
        assert np.array_equal(count_one(), np.full(4, 50))


def test_an_interrupted_wait_leaves_no_doubt(gpu: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the device works: the update has been made, and everybody finds it."""
    storage = state(np.zeros(4))
    count, here = load(on_cuda(counter_program()), [storage]), load(reader_program(), [storage])
    usual = Stream.synchronize

    def interrupted(self: Stream) -> None:
        usual(self)
        raise KeyboardInterrupt

    count()
    for turn in range(1, 4):
        storage.read()     # so that the array of the host is up to date before the call
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Stream, "synchronize", interrupted)
            count()
        assert np.array_equal(here(), np.full(4, 2 * turn + 1)) and np.array_equal(count(), np.full(4, 2 * turn))


def test_a_value_on_a_lost_device_is_lost(gpu: FakeDriver) -> None:
    storage = state(np.zeros(4))
    count, here = load(on_cuda(counter_program()), [storage]), load(reader_program(), [storage])
    count()
    gpu.lose(ILLEGAL_ADDRESS)
    with pytest.raises(DeviceError, match=r"cuda:0 .Fake GPU. is lost: cu.* CUDA_ERROR_ILLEGAL_ADDRESS"):
        count()
    with pytest.raises(DeviceError, match="the value of variable 'w' is lost: device cuda:0"):
        storage.read()
    with pytest.raises(DeviceError, match="the value of variable 'w' is lost"):
        here()
    storage.assign(np.full(4, 3, "float32"))                 # it goes on with a new one
    assert np.array_equal(here(), np.full(4, 4)) and np.array_equal(storage.read(), np.full(4, 3))
    gpu.lose(0)
    with pytest.raises(DeviceError, match="must be restarted"):
        count()
    count._device.lost = ""     # type: ignore[attr-defined]     # so that the end of the test finds no leaks


def test_a_device_that_fails_to_take_a_variable_changes_nothing(gpu: FakeDriver) -> None:
    storage = state([1, 2, 3, 4])
    count = load(on_cuda(counter_program()), [storage])
    for name in ("cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2"):
        gpu.fail(name, 999)
        with pytest.raises(DeviceError, match=rf"{name} failed: CUDA_ERROR_UNKNOWN .999, unknown error."):
            count()
        assert np.array_equal(storage.read(), [1, 2, 3, 4])
    assert np.array_equal(count(), [1, 2, 3, 4]) and np.array_equal(storage.read(), [2, 3, 4, 5])
