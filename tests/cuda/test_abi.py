"""The binding of the driver as ctypes really calls it: every call goes out as C and comes back in as a C callback.

The other tests hand Python objects to the fake driver. Here its functions are behind C function pointers with the
prototypes that the library gets, so a handle that loses bits, a pointer that is none or a text that is not ended shows.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from staticgraph.errors import DeviceError, OutOfRangeError
from staticgraph.runtime.cuda.driver import SIGNATURES, set_library
from staticgraph.runtime.executable import load
from tests.runtime.programs import chain_program, pick_and_update_program

from .fake_driver import FakeDriver
from .programs import device, leaks, on_cuda, state, using

TEXTS = {("cuDeviceGetName", 0): 256}
"""Texts that a function writes; it reads the others."""

Function = Callable[..., int]


class Native:
    """A fake driver behind C."""

    takes_ptx = True

    def __init__(self, fake: FakeDriver) -> None:
        self._kept: list[Any] = []
        for name, parameters in SIGNATURES.items():
            inside = ctypes.CFUNCTYPE(ctypes.c_int, *[_incoming(kind) for kind in parameters])(
                _received(name, parameters, getattr(fake, name)))
            address = ctypes.cast(inside, ctypes.c_void_p).value
            self._kept.append(inside)
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *parameters)(address or 0))


def _incoming(kind: Any) -> Any:
    return ctypes.c_void_p if kind is ctypes.c_char_p else kind     # which ctypes would make a Python text of


def _received(name: str, parameters: tuple[Any, ...], function: Function) -> Function:
    def call(*arguments: Any) -> int:
        converted = []
        for number, (kind, argument) in enumerate(zip(parameters, arguments, strict=True)):
            if (name, number) in TEXTS:
                argument = (ctypes.c_char * TEXTS[name, number]).from_address(argument)
            elif kind is ctypes.c_char_p:
                argument = ctypes.string_at(argument)
            elif isinstance(argument, ctypes._Pointer):
                argument = ctypes.byref(argument.contents)
            converted.append(argument)
        return function(*converted)

    return call


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    with using(FakeDriver(), monkeypatch) as fake:
        set_library(Native(fake))
        yield fake
        gc.collect()
        assert leaks(fake) == {}


def test_calls_by_way_of_c(native: FakeDriver) -> None:
    storage = state(np.zeros(4))
    executable = load(on_cuda(pick_and_update_program()), [storage])
    for turn in range(1, 4):
        assert np.array_equal(executable(np.arange(turn + 2, dtype="float32"), [2, 0]), [2, 0])
        assert np.array_equal(storage.read(), np.full(4, turn))
    with pytest.raises(OutOfRangeError, match="index 3 is out of range for an axis of size 3"):
        executable([5, 6, 7], [2, 3])
    profile = executable.profile([5, 6, 7], [2, 0])
    assert len(profile.steps) == 3 and all(step.seconds > 0 for step in profile.steps)
    assert np.array_equal(storage.read(), np.full(4, 3))
    large = np.arange(300_000, dtype="float32")
    assert np.array_equal(executable(large, np.arange(300_000)), large)
    assert device().name == "Fake GPU" and device().free_memory() < device().total_memory == 1 << 30


def test_arrays_on_the_device_by_way_of_c(native: FakeDriver) -> None:
    """Results that stay, inputs by both protocols, and graphs whose launches are moved."""
    executable = load(on_cuda(chain_program(3)), results="device")
    x = np.arange(6, dtype="float32")
    first, second = executable(x), executable(x * 2)
    assert np.array_equal(executable(first).numpy(), x + 6)
    assert np.array_equal(executable(second).numpy(), x * 2 + 6)
    assert native.count("cuGraphExecKernelNodeSetParams") > 0

    class Foreign:
        __cuda_array_interface__ = {**first.__cuda_array_interface__, "stream": 1}

    assert np.array_equal(executable(Foreign()).numpy(), x + 6)
    assert native.count("cuStreamWaitEvent") == native.count("cuPointerGetAttribute") == 1


def test_errors_by_way_of_c(native: FakeDriver) -> None:
    native.fail("cuMemAlloc_v2", 2)
    native.fail("cuGraphInstantiateWithFlags", 999)
    executable = load(on_cuda(chain_program(3)))
    with pytest.raises(DeviceError, match=r"cuGraphInstantiateWithFlags failed: CUDA_ERROR_UNKNOWN \(999, unknown err"):
        executable(np.zeros(3, "float32"))
    assert np.array_equal(executable(np.zeros(3, "float32")), np.full(3, 3))
