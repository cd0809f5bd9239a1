"""Devices: the GPUs of this process, each with its primary context.

The primary context is the one that the CUDA runtime, and with it every other library in the process, uses too, so
that memory can be handed to and fro. It is retained once and made current only while one of our calls runs
(``with device:``), so that whatever was current for other libraries stays so.

Things that belong to a device (memory, streams, modules, graphs) are released when their Python owner is dropped, from
whatever thread that happens in. During a capture the thread may not release anything: that is put off until it ends. At
the end of the process nothing is released: the driver does it. A context that is lost, or that belongs to a forked
process's parent, is never touched again, and every call fails with the same message.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from staticgraph.compiler.target import Target
from staticgraph.errors import DeviceError

from .driver import FATAL, FORKED, Driver, driver

MAJOR, MINOR, MULTIPROCESSORS = 75, 76, 16
"""Numbers of device attributes."""

NON_BLOCKING = 1
"""A stream that does not wait for the legacy default stream."""


class Device:
    """A GPU: `driver`, `index`, `name`, `compute_capability`, `total_memory`, `multiprocessors`.

    ``with device:`` makes its context current. `lost` is why it cannot be used any more, or empty.
    """

    def __init__(self, driver: Driver, index: int) -> None:
        self.driver = driver
        self.index = index
        self.lost = ""
        self._library = driver.library
        number = ctypes.c_int()
        driver.call("cuDeviceGet", ctypes.byref(number), index)
        self._number = number.value
        text = ctypes.create_string_buffer(256)
        driver.call("cuDeviceGetName", text, len(text), self._number)
        self.name = text.value.decode(errors="replace")
        self.compute_capability = self._attribute(MAJOR), self._attribute(MINOR)
        self.multiprocessors = self._attribute(MULTIPROCESSORS)
        total = ctypes.c_size_t()
        driver.call("cuDeviceTotalMem_v2", ctypes.byref(total), self._number)
        self.total_memory = total.value
        self.parts: dict[str, Any] = {}     # what other files keep for it: modules, the pool of results
        self._context = 0
        self._transfers: Stream | None = None
        self._lock = threading.Lock()
        self._put_off: deque[tuple[str, int]] = deque()
        self._capturing = threading.local()

    def _attribute(self, attribute: int) -> int:
        value = ctypes.c_int()
        self.driver.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, self._number)
        return value.value

    def __enter__(self) -> Device:
        if self.lost:
            raise DeviceError(self.lost)
        code = self._library.cuCtxPushCurrent_v2(self._context or self._retain())
        if code:
            self.fail("cuCtxPushCurrent_v2", code)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))     # fails only where the context is lost

    def _retain(self) -> int:
        with self._lock:
            if not self._context:
                context = ctypes.c_void_p()
                self.driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._number)
                self._context = context.value or 0
            return self._context

    def call(self, name: str, *arguments: Any) -> None:
        """Call a driver function with this device's context current. DriverError where it fails; DeviceError where the
        context is lost by it."""
        code = getattr(self._library, name)(*arguments)
        if code:
            self.fail(name, code)

    def must(self, name: str, *arguments: Any) -> None:
        """The same where any failure means that nobody knows what has been done: the device counts as lost."""
        code = getattr(self._library, name)(*arguments)
        if code:
            self.fail(name, code, True)

    def fail(self, name: str, code: int, fatal: bool = False) -> NoReturn:
        """Raise the error of a driver function."""
        if code not in FATAL and not fatal:
            self.driver.check(name, code)
        if not self.lost:
            self.lost = (f"device cuda:{self.index} ({self.name}) is lost: {name} reported "
                         f"{self.driver.describe(code)}; what it held is gone, and the process must be restarted to "
                         f"use it again")
        raise DeviceError(self.lost)

    def handle(self, name: str, *arguments: Any) -> int:
        """What a function that creates something puts through its first parameter."""
        value = ctypes.c_void_p()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value or 0

    def own(self, owner: Any, name: str, handle: int) -> weakref.finalize[Any, Any]:
        """Release `handle` with the driver function `name` once `owner` is dropped."""
        finalizer = weakref.finalize(owner, self.release, name, handle)
        finalizer.atexit = False
        return finalizer

    def release(self, name: str, handle: int) -> None:
        """Give something back now, or after the capture that this thread is in."""
        if self.lost:
            return
        if getattr(self._capturing, "on", False):
            self._put_off.append((name, handle))
        elif not self._library.cuCtxPushCurrent_v2(self._context):
            getattr(self._library, name)(handle)     # there is nothing that could be done about a failure
            self._library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))

    def capturing(self, on: bool) -> None:
        """Say that this thread begins or ends a capture."""
        self._capturing.on = on
        while not on and self._put_off:
            self.release(*self._put_off.popleft())

    def transfers(self) -> Stream:
        """The stream of copies that belong to no program; whoever uses it waits for it."""
        with self._lock:
            if self._transfers is None:
                self._transfers = Stream(self)
            return self._transfers

    def free_memory(self) -> int:
        """Bytes that could be allocated at this moment."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        with self:
            self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def target(self) -> Target:
        """What the compiler is told."""
        return cuda_target(self.compute_capability, self.multiprocessors)

    def __repr__(self) -> str:
        return f"<cuda:{self.index} {self.name}>"


class Stream:
    """A stream of its own. Work in it runs in order."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.handle = device.handle("cuStreamCreate", NON_BLOCKING)
        device.own(self, "cuStreamDestroy_v2", self.handle)
        self._wait: Callable[[int], int] = device.driver.library.cuStreamSynchronize

    def synchronize(self) -> None:
        """Wait until all of it is done. What has been done where this fails, nobody knows."""
        code = self._wait(self.handle)
        if code:
            self.device.fail("cuStreamSynchronize", code, True)

    def settle(self) -> None:
        """Wait after a failure, whose error is the one to tell."""
        if not self.device.lost:
            self._wait(self.handle)


class Event:
    """A point in a stream."""

    def __init__(self, device: Device, timing: bool = False) -> None:
        self.device = device
        self.handle = device.handle("cuEventCreate", 0 if timing else 2)
        device.own(self, "cuEventDestroy_v2", self.handle)

    def record(self, stream: int) -> None:
        self.device.call("cuEventRecord", self.handle, stream)

    def seconds_since(self, earlier: Event) -> float:
        """The time from an earlier event to this one, once it has come."""
        milliseconds = ctypes.c_float()
        self.device.call("cuEventSynchronize", self.handle)
        self.device.call("cuEventElapsedTime", ctypes.byref(milliseconds), earlier.handle, self.handle)
        return milliseconds.value / 1e3


DEFAULT_CAPABILITY, DEFAULT_MULTIPROCESSORS = (9, 0), 132


def cuda_target(capability: tuple[int, int] = DEFAULT_CAPABILITY,
                multiprocessors: int = DEFAULT_MULTIPROCESSORS) -> Target:
    """The target of a GPU, present or not."""
    return Target("cuda", "sm_{}{}".format(*capability), vector_bytes=16, threads=multiprocessors)


_known: weakref.WeakSet[Device] = weakref.WeakSet()
_lock = threading.Lock()


def device_count() -> int:
    """How many GPUs there are; DeviceError where CUDA cannot be used at all."""
    count = ctypes.c_int()
    driver().call("cuDeviceGetCount", ctypes.byref(count))
    return count.value


def find_device(index: int = 0) -> Device:
    """A GPU by its number; DeviceError where it does not exist."""
    count = device_count()
    if not 0 <= index < count:
        have = "no CUDA device" if not count else "only cuda:0" if count == 1 else f"only cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"device 'cuda:{index}' does not exist: there is {have}; `staticgraph doctor` tells more")
    current = driver()
    with _lock:
        device: Device | None = current.devices.get(index)
        if device is None:
            device = current.devices[index] = Device(current, index)
            _known.add(device)
        return device


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for device in _known:
        device.lost = FORKED


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
