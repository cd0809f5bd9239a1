"""Which devices there are, and how a program is compiled for one."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only
from staticgraph.runtime.cuda import driver as driver_module
from staticgraph.runtime.cuda.driver import set_library
from staticgraph.runtime.devices import why_no_cuda

from . import needs_compiler
from .fake_driver import FakeDriver
from .programs import device, using


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = ctypes.CDLL

    def missing(name: str, *arguments: object, **options: object) -> object:
        if str(name).startswith("libcuda"):
            raise OSError("not there")
        return usual(name, *arguments, **options)     # type: ignore[arg-type]

    monkeypatch.setattr(driver_module.ctypes, "CDLL", missing)
    set_library(None)


def two_gpus() -> FakeDriver:
    fake = FakeDriver(gpus=2)
    fake.gpus[1].name, fake.gpus[1].capability, fake.gpus[1].multiprocessors = "Other GPU", (8, 6), 84
    return fake


def test_the_cpu_is_always_there(no_driver: None) -> None:
    (cpu,) = sg.devices()
    assert cpu.device == "cpu" and cpu.units >= 1 and cpu.compute_capability is None
    assert str(cpu).startswith(f"cpu: {cpu.name}, {cpu.units} thread") and 0 <= cpu.free_memory <= cpu.total_memory
    assert why_no_cuda().startswith("no NVIDIA driver was found (not there)")


def test_the_gpus_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    with using(two_gpus(), monkeypatch) as fake:
        found = sg.devices()
        assert [each.device for each in found] == ["cpu", "cuda:0", "cuda:1"]
        assert str(found[1]) == ("cuda:0: Fake GPU, compute capability 9.0, 132 multiprocessors, driver for CUDA 13.0, "
                                 "1.0 GiB")
        assert (found[2].name, found[2].compute_capability, found[2].units) == ("Other GPU", (8, 6), 84)
        assert why_no_cuda() == ""
        assert fake.count("cuDevicePrimaryCtxRetain") == 0     # looking makes no context
        assert found[1].free_memory == found[1].total_memory == 1 << 30


@pytest.mark.parametrize("fake", [FakeDriver(gpus=0), FakeDriver(version=11040)], ids=["no device", "old driver"])
def test_what_cannot_be_used_is_not_listed(monkeypatch: pytest.MonkeyPatch, fake: FakeDriver) -> None:
    with using(fake, monkeypatch):
        assert [each.device for each in sg.devices()] == ["cpu"]
        assert "no CUDA device" in why_no_cuda() or "too old" in why_no_cuda()


def test_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    with using(two_gpus(), monkeypatch):
        one, two = device(0).target(), device(1).target()
        assert (one.device, one.name, one.threads) == ("cuda", "sm_90", 132)
        assert (two.device, two.name, two.threads) == ("cuda", "sm_86", 84)


# compile().

def graph() -> tuple[sg.Tensor, sg.Tensor]:
    x = sg.placeholder("x", ("batch", 3))
    return x, sg.exp(x) + 1


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CUDA", 3])
def test_devices_that_do_not_exist(name: object) -> None:
    x, y = graph()
    with pytest.raises(sg.DeviceError) as caught:
        sg.compile([x], y, device=name)     # type: ignore[arg-type]
    assert str(caught.value) == (f"compile: there is no device {name!r}; devices are 'cpu', 'cuda' and 'cuda:1' and so "
                                 f"on")


def test_without_a_driver(no_driver: None) -> None:
    x, y = graph()
    with pytest.raises(sg.DeviceError) as caught:
        sg.compile([x], y, device="cuda")
    assert str(caught.value) == (
        "compile: device 'cuda' cannot be used: no NVIDIA driver was found (not there); install the NVIDIA driver of "
        "your GPU (nvidia.com/drivers, or your system's package), then run `staticgraph doctor`")
    program = compile_only([x], y, device="cuda").program
    assert program is not None and program.device == "cuda"
    assert all(kernel.launch is not None and "cuda.language" in kernel.text for kernel in program.kernels)


def test_a_gpu_that_does_not_exist(gpu: FakeDriver) -> None:
    x, y = graph()
    with pytest.raises(sg.DeviceError, match="device 'cuda:3' does not exist: there is only cuda:0"):
        sg.compile([x], y, device="cuda:3")


def test_options() -> None:
    x, y = graph()
    with pytest.raises(sg.ArgumentError, match="option 'results' is 'device' on CUDA only"):
        sg.compile([x], y, options={"results": "device"})
    with pytest.raises(sg.ArgumentError, match="option 'results' is 'host' or 'device', got 'gpu'"):
        sg.compile([x], y, options={"results": "gpu"})
    assert type(sg.compile([x], y, options={"results": "host"})(np.zeros((1, 3), "float32"))) is np.ndarray


@pytest.fixture
def interpreted() -> Iterator[FakeDriver]:
    """A driver that runs what the CUDA compiler makes of kernels, in the interpreter."""
    fake = FakeDriver(gpus=2)
    set_library(fake)
    yield fake
    set_library(None)


@needs_compiler
def test_from_the_graph_to_the_device(interpreted: FakeDriver) -> None:
    x, y = graph()
    given = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
    expected = sg.evaluate(y, {x: given})
    for name, ordinal in (("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)):
        executable = sg.compile([x], y, device=name)
        assert isinstance(executable, sg.Executable)
        np.testing.assert_allclose(executable(given), expected, rtol=3e-7)
        assert sum(interpreted.gpus[ordinal].memory.allocations.values()) > 0
        stays = sg.compile([x], y, device=name, options={"results": "device"})
        result = stays(given)
        assert isinstance(result, sg.DeviceArray) and result.device == f"cuda:{ordinal}"
        np.testing.assert_allclose(result.numpy(), expected, rtol=3e-7)
    assert sum(interpreted.gpus[1].memory.allocations.values()) > 0


def classifier(target: str) -> tuple[sg.Executable, list[sg.Tensor]]:
    """A training step of a small network."""
    generator = np.random.default_rng(0)
    x, t = sg.placeholder("x", ("batch", 16)), sg.placeholder("t", ("batch",), "int64")
    weights = [sg.variable(generator.normal(0, 0.3, shape).astype("float32"), f"w{number}")
               for number, shape in enumerate([(16, 24), (24,), (24, 10), (10,)])]
    hidden = sg.nn.relu(x @ weights[0] + weights[1])
    loss = sg.mean(sg.nn.cross_entropy(hidden @ weights[2] + weights[3], t))
    updates = {w: w - 0.1 * g for w, g in zip(weights, sg.grad(loss, weights))}
    return sg.compile([x, t], loss, updates=updates, device=target), weights


@needs_compiler
def test_training_gives_what_it_gives_on_the_cpu(interpreted: FakeDriver) -> None:
    there, here = classifier("cuda"), classifier("cpu")
    generator = np.random.default_rng(1)
    for batch in (4, 7, 4, 1):
        x, t = generator.normal(size=(batch, 16)).astype("float32"), generator.integers(0, 10, batch)
        np.testing.assert_allclose(there[0](x, t), here[0](x, t), rtol=1e-5)
    with pytest.raises(sg.OutOfRangeError):
        there[0](x, t + 100)
    for w, expected in zip(there[1], here[1]):
        np.testing.assert_allclose(w.value, expected.value, rtol=1e-4, atol=1e-6)
    assert interpreted.count("cuGraphLaunch") == 5 and interpreted.count("cuStreamBeginCapture_v2") == 4




@needs_compiler
def test_one_generator_on_all_devices(interpreted: FakeDriver) -> None:
    """Calls on any device take turns with its counter, and samples are the same bits everywhere."""
    def samples(*places: str) -> list[np.ndarray]:
        sample = sg.random.generator(5).normal((3, 4))
        executables = {place: sg.compile([], sample, device=place) for place in places}
        return [executables[place]() for place in places]

    order = ("cpu", "cuda:0", "cuda:1", "cuda:0", "cpu")
    for there, here in zip(samples(*order), samples(*["cpu"] * 5), strict=True):
        assert np.array_equal(there, here)


@needs_compiler
@pytest.mark.parametrize("results", ["host", "device"])
def test_results_of_all_kinds(interpreted: FakeDriver, results: str) -> None:
    """Views, inputs and constants as results, several sizes, none at all: each as it is on the CPU."""
    x = sg.placeholder("x", ("n", 5))
    outputs = {"flat": x.reshape((-1,)), "turned": x.T, "same": x, "more": x + 1, "again": x + 1, "sum": sg.sum(x),
               "positive": x > 0, "constant": sg.constant(np.arange(3))}
    here, there = sg.compile([x], outputs), sg.compile([x], outputs, device="cuda", options={"results": results})
    for rows in (3, 4, 0, 3):
        given = np.linspace(0, 1, rows * 5, dtype="float32").reshape(rows, 5)
        expected, got = here(given), there(given)
        assert list(got) == list(expected)
        for name, wanted in expected.items():
            value = got[name].numpy() if results == "device" else got[name]
            assert (value.dtype, value.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(value, wanted, rtol=1e-6, err_msg=name)
    assert sg.compile([x], [], device="cuda", options={"results": results})(given) == []
