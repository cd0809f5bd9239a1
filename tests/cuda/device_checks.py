"""Kernels on a GPU and in the PTX interpreter, side by side: same inputs, same PTX, same bits.

Not part of `make test`: ``staticgraph doctor --gpu-check`` gives this file to pytest together with the plugin
`on_device`. The programs are those of `test_skeletons` and, in part, of the table-driven suite; for each call of one
the interpreter and the device start from the same state, and both results are compared to the bit. A nan is any nan:
its bits are the hardware's choice.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.compiler.program import Kernel
from staticgraph.runtime.cuda.device import Device, Stream, find_device
from staticgraph.runtime.cuda.launch import LIBRARIES, load_module
from staticgraph.runtime.cuda.loader import load_kernel
from staticgraph.runtime.cuda.memory import Block
from staticgraph.runtime.executable import load
from tests.compiler import test_ops as table
from tests.cuda import simulate
from tests.cuda import test_skeletons as skeletons
from tests.cuda.simulate import Simulated, compile_program
from tests.ptx import kernels as handmade

Array = np.ndarray[Any, Any]


def differences(one: Array, other: Array) -> int:
    """Elements whose bits differ; nan equals nan."""
    if one.dtype.kind != "f":
        return int(np.sum(one != other))
    bits = {4: np.uint32, 8: np.uint64}[one.dtype.itemsize]
    same = (one.view(bits) == other.view(bits)) if one.ndim else np.array(one.tobytes() == other.tobytes())
    return int(np.sum(~(same | (np.isnan(one) & np.isnan(other)))))


def compare(what: str, simulated: Array, measured: Array) -> None:
    assert simulated.shape == measured.shape and simulated.dtype == measured.dtype, what
    one, other = np.ascontiguousarray(simulated), np.ascontiguousarray(measured)
    wrong = differences(one, other)
    assert not wrong, f"{what}: {wrong} of {one.size} elements have other bits on the device"


class Both(Simulated):
    """A program that runs on the device and in the interpreter."""

    def __init__(self, program: Any, storages: Sequence[Any] = ()) -> None:
        super().__init__(program, storages)
        self.executable = load(program, storages)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for storage in self.storages:
            storage.fetch()
        before = [storage.array.copy() for storage in self.storages]
        error, measured = outcome(self.executable, *args, **kwargs)
        after = [self._value(storage) for storage in self.storages]
        for storage, value in zip(self.storages, before, strict=True):
            storage.array[...] = value
            storage.overwritten()
        simulated_error, simulated = outcome(super().__call__, *args, **kwargs)
        assert type(error) is type(simulated_error), f"device: {error!r}; interpreter: {simulated_error!r}"
        for number, (storage, value) in enumerate(zip(self.storages, after, strict=True)):
            compare(f"variable {number}", storage.array, value)
        if simulated_error is not None:
            raise simulated_error
        for number, pair in enumerate(zip(_leaves(simulated), _leaves(measured), strict=True)):
            compare(f"result {number}", *pair)
        return simulated

    def _value(self, storage: Any) -> Array:
        storage.fetch()
        value: Array = storage.array.copy()
        return value


def outcome(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Exception | None, Any]:
    """The error of a call, or its result."""
    try:
        return None, function(*args, **kwargs)
    except sg.StaticGraphError as error:
        return error, None


def _leaves(results: Any) -> list[Array]:
    if isinstance(results, Mapping):
        return list(results.values())
    return list(results) if isinstance(results, list | tuple) else [results]


def compile_both(inputs: Any, outputs: Any = (), *, updates: Any = None, device: str = "cuda",
                 options: Mapping[str, Any] | None = None) -> Both:
    compilation = compile_program(inputs, outputs, updates, options)
    assert compilation.program is not None
    return Both(compilation.program, [node._state for node in compilation.variables])


def code_for_device(kernel: Kernel) -> Any:
    """The PTX that the device's machine code is made of."""
    return load_kernel(kernel, find_device(0).compute_capability).code


@pytest.fixture(autouse=True)
def side_by_side(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(skeletons, "compile_simulated", compile_both)
    monkeypatch.setattr(sg, "compile", compile_both)
    monkeypatch.setattr(simulate, "translated", code_for_device)
    monkeypatch.setattr(simulate, "modules", {})
    for library in list(LIBRARIES):
        monkeypatch.delitem(LIBRARIES, library)     # its products have other bits, and no PTX
    yield


globals().update({name: value for name, value in vars(skeletons).items() if name.startswith(("Test", "test_"))})

test_binary = table.test_binary
test_unary = table.test_unary
test_astype = table.test_astype
test_reductions_of_specials = table.test_reductions_of_specials
test_scans = table.test_scans
test_sorts = table.test_sorts


# Kernels written by hand: shuffles, shared memory, barriers, vectors, failed checks, 64-bit division, casts.


@pytest.mark.parametrize("name", handmade.CASES)
def test_handmade_kernels(name: str) -> None:
    case = handmade.CASES[name]
    device = find_device(0)
    ptx = handmade.ptx_of(case, device.compute_capability)
    simulated, _ = handmade.run_case(case, ptx)
    with device:
        measured = launch_case(device, case)
    for number, pair in enumerate(zip(simulated, measured, strict=True)):
        compare(f"output {number}", *pair)


def launch_case(device: Device, case: handmade.Case) -> list[Array]:
    """A launch on the device; what it does not write is poisoned before."""
    code = handmade.translated(case.name, case.text, case.threads, device.compute_capability)
    module, stream = load_module(device, case.name, code), Stream(device)
    blocks: dict[int, Block] = {}
    values = []
    for number, argument in enumerate(case.arguments):
        if isinstance(argument, np.ndarray):
            block = blocks[number] = Block(device, argument.nbytes, "an argument")
            if number in case.outputs and not argument.any():
                device.call("cuMemsetD8Async", block.address, 0xFF, argument.nbytes, stream.handle)
            else:
                device.call("cuMemcpyHtoDAsync_v2", block.address, argument.ctypes.data, argument.nbytes, stream.handle)
        values.append(blocks[number].address if number in blocks else argument)
    slots = [ctypes.c_int64(value) for value in values]
    table_of_slots = (ctypes.c_void_p * len(slots))(*[ctypes.addressof(slot) for slot in slots])
    device.call("cuLaunchKernel", module.function, case.grid, 1, 1, case.threads, 1, 1, 0, stream.handle,
                ctypes.addressof(table_of_slots), None)
    results = []
    for number in case.outputs:
        results.append(np.empty_like(case.arguments[number]))
        device.call("cuMemcpyDtoHAsync_v2", results[-1].ctypes.data, blocks[number].address, results[-1].nbytes,
                    stream.handle)
    stream.synchronize()
    return results


# Arrays of other libraries that are on the device, used where they are.


@pytest.mark.parametrize("library", ["torch", "cupy", "jax"])
def test_exchange(library: str) -> None:
    foreign = pytest.importorskip(library)
    x = sg.placeholder("x", ("n",))
    double = sg.api.compile([x], x * 2 + 1, device="cuda", options={"results": "device"})
    given = np.arange(1000, dtype="float32")
    own = double(given)
    if library == "torch":
        if not foreign.cuda.is_available():
            pytest.skip("torch is there, but has no CUDA")
        there = foreign.from_dlpack(own) + 0
        back = foreign.from_dlpack(double(there)).cpu().numpy()
    elif library == "cupy":
        there = foreign.from_dlpack(own) + 0
        back = foreign.asnumpy(foreign.asarray(double(there)))
    else:
        if foreign.default_backend() != "gpu":
            pytest.skip("jax is there, but has no CUDA")
        there = foreign.numpy.from_dlpack(own) + 0
        back = np.asarray(foreign.numpy.from_dlpack(double(there)))
    np.testing.assert_array_equal(back, (given * 2 + 1) * 2 + 1)
