"""Whole models through the whole backend: compiler, machine code, runtime, fake driver and PTX interpreter, held
against the same graphs on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from tests.cuda import skip_without_compiler

skip_without_compiler()

from staticgraph.runtime.cuda.driver import SIGNATURES, set_library  # noqa: E402
from tests.cuda.fake_driver import FakeDriver  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def gpu() -> Iterator[FakeDriver]:
    fake = FakeDriver()
    set_library(fake)
    yield fake
    set_library(None)


def digits(count: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, count)
    images = rng.normal(size=(count, 16)).astype("float32") + labels[:, None].astype("float32")
    return images, labels


def model(device: str) -> tuple[Any, list[sg.Tensor], Any]:
    """A classifier with dropout and Adam: (step, parameters, predict)."""
    x, t = sg.placeholder("x", ("batch", 16)), sg.placeholder("t", ("batch",), "int64")
    rng = np.random.default_rng(1)
    w, v = (sg.variable((rng.normal(size=shape) * 0.3).astype("float32"), name)
            for shape, name in (((16, 24), "w"), ((24, 4), "v")))
    b, c = sg.variable(np.zeros(24, "float32"), "b"), sg.variable(np.zeros(4, "float32"), "c")
    generator = sg.random.generator(7)
    hidden = sg.nn.relu(x @ w + b)
    loss = sg.mean(sg.nn.cross_entropy(sg.nn.dropout(hidden, 0.2, generator) @ v + c, t))
    parameters = [w, b, v, c]
    step = sg.compile([x, t], loss, updates=sg.optim.Adam(0.05).updates(loss, parameters), device=device)
    return step, parameters, sg.compile([x], sg.argmax(hidden @ v + c, axis=1), device=device)


def test_training_is_that_of_the_cpu(gpu: FakeDriver) -> None:
    images, labels = digits(40)
    step, parameters, predict = model("cpu")
    gpu_step, gpu_parameters, gpu_predict = model("cuda")
    for start, stop in ((0, 40), (0, 16), (16, 32), (8, 24), (0, 40)):     # two batch sizes, one compile
        expected = step(images[start:stop], labels[start:stop])
        actual = gpu_step(images[start:stop], labels[start:stop])
        np.testing.assert_allclose(actual, expected, rtol=1e-4)
    assert sum(gpu.count(name) for name in SIGNATURES if name.startswith("cuGraphInstantiate")) == 2
    assert gpu.count("cuGraphLaunch") == 5
    for mine, other in zip(gpu_parameters, parameters, strict=True):
        np.testing.assert_allclose(mine.value, other.value, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(gpu_predict(images), predict(images))


def test_one_state_on_both_devices(gpu: FakeDriver) -> None:
    """Steps on the CPU and on the GPU in turn, on the same variables."""
    x = sg.placeholder("x", ("n", 3))
    w = sg.variable(np.ones(3, "float32"), "w")
    loss = sg.sum((x @ sg.reshape(w, (3, 1))) ** 2)
    updates = {w: w - 0.01 * sg.grad(loss, w)}
    given = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    cpu, cuda = (sg.compile([x], loss, updates=updates, device=device) for device in ("cpu", "cuda"))
    losses = [float(each(given)) for each in (cpu, cuda, cuda, cpu, cpu, cuda)]
    value = w.value
    w.value = np.ones(3, "float32")
    expected = [float(cpu(given)) for _ in range(6)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(value, w.value, rtol=1e-5)


def test_an_index_out_of_range_changes_nothing(gpu: FakeDriver) -> None:
    table = sg.variable(np.arange(12, dtype="float32").reshape(4, 3), "table")
    i = sg.placeholder("i", ("n",), "int64")
    rows = sg.take(table, i, axis=0)
    step = sg.compile([i], rows, updates={table: table - sg.grad(sg.sum(rows), table)}, device="cuda")
    with pytest.raises(sg.StaticGraphError, match="out of range") as caught:
        step(np.array([0, 9]))
    assert "test_training.py" in str(caught.value)
    np.testing.assert_array_equal(table.value, np.arange(12, dtype="float32").reshape(4, 3))
    np.testing.assert_array_equal(step(np.array([1, 1])), [[3, 4, 5]] * 2)
    np.testing.assert_array_equal(table.value[:2], [[0, 1, 2], [1, 2, 3]])
