"""Kernels on a device: their modules, and launchers, which put one step into a stream.

A step is put into a stream by its *launcher*, an object with `launch(stream)`. Usually that launches the step's kernel.
A kernel that names a library routine may get a launcher from `LIBRARIES` instead, which puts that routine's own kernels
into the stream. `launch` may be called while the stream captures, so it must not allocate or wait for anything; what
has to, `prepare` does, which is called before, once all addresses are known.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from staticgraph.compiler.program import Kernel
from staticgraph.errors import DeviceError

from .device import Device
from .driver import WRONG_CODE, DriverError, dotted, too_old
from .layout import Launching
from .memory import Workspace


class Code(Protocol):
    """Machine code of a kernel, as the loader gives it."""

    @property
    def ptx(self) -> str: ...

    @property
    def cubin(self) -> bytes: ...

    @property
    def symbol(self) -> str: ...


class Launcher(Protocol):
    """Puts one step into a stream. `movable`: its addresses can be changed in a graph (see `graph`). `remark` tells
    what it runs, and why, where there was a choice."""

    @property
    def movable(self) -> bool: ...

    @property
    def remark(self) -> str: ...

    def prepare(self, stream: int) -> None: ...

    def launch(self, stream: int) -> None: ...


class Module:
    """A kernel loaded into the context of a device: `function`."""

    def __init__(self, device: Device, name: str, code: Code) -> None:
        driver, needed = device.driver, _cuda_of(code)
        if driver.version < needed:
            raise too_old(driver.version, needed)
        image = code.ptx.encode() + b"\0" if driver.takes_ptx else code.cubin
        try:
            handle = device.handle("cuModuleLoadData", image)
        except DriverError as error:
            if error.code not in WRONG_CODE:
                raise
            raise DeviceError(
                f"the driver cannot load kernel '{name}' for {device.name} (compute capability "
                f"{'{}.{}'.format(*device.compute_capability)}): {WRONG_CODE[error.code]}; the driver supports CUDA "
                f"{dotted(driver.version)}, the kernel was compiled with CUDA {needed // 1000}; `staticgraph doctor` "
                f"tells more") from error
        device.own(self, "cuModuleUnload", handle)
        self.function = device.handle("cuModuleGetFunction", handle, code.symbol.encode())


def _cuda_of(code: Code) -> int:
    """The CUDA version that made the code, as a driver counts (13000), without its minor number: all drivers of a major
    version run the machine code of that version. It stands in the first lines of the PTX, which is at 9 in CUDA 13."""
    stated = re.search(r"^\.version\s+(\d+)", code.ptx, re.MULTILINE)
    return (int(stated.group(1)) + 4) * 1000 if stated else 0


_lock = threading.Lock()


def load_module(device: Device, name: str, code: Code) -> Module:
    """The module of a kernel; executables that run the same code on a device share it. The context is current."""
    with _lock:
        known: weakref.WeakValueDictionary[bytes, Module] = device.parts.setdefault(
            "modules", weakref.WeakValueDictionary())
        key = hashlib.sha256(code.symbol.encode() + b"\0" + code.cubin + code.ptx.encode()).digest()
        module = known.get(key)
        if module is None:
            module = known[key] = Module(device, name, code)
        return module


class NodeParameters(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS, in its first version."""

    _fields_ = [("function", ctypes.c_void_p),
                *((name, ctypes.c_uint) for name in ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z",
                                                     "shared_bytes")),
                ("parameters", ctypes.c_void_p), ("extra", ctypes.c_void_p)]


class KernelLauncher:
    """Launches a kernel with the parameters that the row of its binding holds at that moment."""

    movable = True

    def __init__(self, device: Device, module: Module, launching: Launching) -> None:
        self.device = device
        self.launching = launching
        self.remark = ""
        self._module = module     # kept alive
        self._launch: Any = device.driver.library.cuLaunchKernel

    def prepare(self, stream: int) -> None:
        """There is nothing to do before."""

    def launch(self, stream: int) -> None:
        """Put it into the stream."""
        each = self.launching
        code = self._launch(self._module.function, each.blocks, 1, 1, each.threads, 1, 1, 0, stream,
                            ctypes.addressof(each.parameters), None)
        if code:
            self.device.fail("cuLaunchKernel", code)

    def node_parameters(self) -> NodeParameters:
        """The same as the parameters of a node of a graph."""
        each = self.launching
        return NodeParameters(self._module.function, each.blocks, 1, 1, each.threads, 1, 1, 0,
                              ctypes.addressof(each.parameters), None)


MakeLauncher = Callable[[KernelLauncher, Kernel, Workspace], Launcher]

LIBRARIES: dict[str, MakeLauncher] = {}
"""By the first word of `Kernel.library`: what makes the launcher of a step. It is given the one that runs the kernel's
own text, with the parameters of the step (they may change before each `launch`), and gives it back where that is what
shall run, say because the library is not installed."""
