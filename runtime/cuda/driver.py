"""The CUDA driver: its library by ctypes, and its error codes as errors of this library.

Nothing of the CUDA toolkit is needed to run a program, only what an NVIDIA driver installs. The library is loaded when
it is first asked for. `set_library` puts another object with the same functions in its place, which is how the tests
run without a GPU. Symbols are the versioned ones that the headers of CUDA 12 and later map their names to, so that
their signatures do not depend on the driver.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from typing import Any, NoReturn

from staticgraph.errors import DeviceError, OutOfMemoryError

MINIMUM_VERSION = 12000
"""The oldest driver that has all functions below; the code of kernels may need a newer one."""

OUT_OF_MEMORY = 2
NO_DEVICE = 100
WRONG_CODE = {200: "its machine code is of no known form", 209: "its machine code is for other devices",
              218: "its PTX is invalid", 222: "its PTX is newer than the driver",
              223: "it needs the driver's compiler, which is missing"}
"""Codes that say that a module does not suit the driver or the device."""

FATAL = frozenset((4, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721))
"""Codes after which the context is gone for good: nothing in it works any more, and its memory is lost."""

_HANDLE, _OUT = c_void_p, POINTER(c_void_p)

SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDevicePrimaryCtxRetain": (_OUT, c_int),
    "cuCtxPushCurrent_v2": (_HANDLE,),
    "cuCtxPopCurrent_v2": (_OUT,),
    "cuCtxSynchronize": (),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostAlloc": (_OUT, c_size_t, c_uint),
    "cuMemFreeHost": (_HANDLE,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, _HANDLE, c_size_t, _HANDLE),
    "cuMemcpyDtoHAsync_v2": (_HANDLE, c_uint64, c_size_t, _HANDLE),
    "cuMemcpyDtoDAsync_v2": (c_uint64, c_uint64, c_size_t, _HANDLE),
    "cuMemsetD8Async": (c_uint64, c_ubyte, c_size_t, _HANDLE),
    "cuPointerGetAttribute": (_HANDLE, c_int, c_uint64),
    "cuStreamCreate": (_OUT, c_uint),
    "cuStreamDestroy_v2": (_HANDLE,),
    "cuStreamSynchronize": (_HANDLE,),
    "cuStreamWaitEvent": (_HANDLE, _HANDLE, c_uint),
    "cuStreamBeginCapture_v2": (_HANDLE, c_int),
    "cuStreamEndCapture": (_HANDLE, _OUT),
    "cuStreamGetCaptureInfo_v2": (_HANDLE, POINTER(c_int), POINTER(c_uint64), _OUT, POINTER(_OUT), POINTER(c_size_t)),
    "cuEventCreate": (_OUT, c_uint),
    "cuEventDestroy_v2": (_HANDLE,),
    "cuEventRecord": (_HANDLE, _HANDLE),
    "cuEventSynchronize": (_HANDLE,),
    "cuEventElapsedTime": (POINTER(c_float), _HANDLE, _HANDLE),
    "cuModuleLoadData": (_OUT, c_char_p),
    "cuModuleUnload": (_HANDLE,),
    "cuModuleGetFunction": (_OUT, _HANDLE, c_char_p),
    "cuLaunchKernel": (_HANDLE, *(c_uint,) * 7, _HANDLE, _HANDLE, _HANDLE),
    "cuGraphInstantiateWithFlags": (_OUT, _HANDLE, c_uint64),
    "cuGraphExecKernelNodeSetParams": (_HANDLE, _HANDLE, _HANDLE),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuGraphDestroy": (_HANDLE,),
}
"""Parameters of each function that is used; all of them return an error code, 0 for success."""

INSTALL = ("install the NVIDIA driver of your GPU (nvidia.com/drivers, or your system's package), then run "
           "`staticgraph doctor`")


class DriverError(DeviceError):
    """A driver function that failed, in a way that leaves everything else working. `code` is its CUresult."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Shortage(DriverError, OutOfMemoryError):
    """The same for want of memory."""


class Driver:
    """An initialised driver library."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.devices: dict[int, Any] = {}     # those in use, see `device`
        self.takes_ptx = bool(getattr(library, "takes_ptx", False))     # the tests' library runs PTX, not machine code
        code = library.cuInit(0)
        if code == NO_DEVICE:
            raise DeviceError("there is no CUDA device: the NVIDIA driver is installed, but it finds no GPU "
                              "(CUDA_VISIBLE_DEVICES may hide it); `staticgraph doctor` tells more")
        self.check("cuInit", code)
        version = c_int()
        self.call("cuDriverGetVersion", ctypes.byref(version))
        self.version = version.value
        if self.version < MINIMUM_VERSION:
            raise too_old(self.version, MINIMUM_VERSION)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function; DriverError where it fails."""
        self.check(name, getattr(self.library, name)(*arguments))

    def check(self, name: str, code: int) -> None:
        """Raise DriverError unless the code is 0."""
        if code:
            kind = Shortage if code == OUT_OF_MEMORY else DriverError
            raise kind(f"{name} failed: {self.describe(code)}", code)

    def describe(self, code: int) -> str:
        """The name of an error code, and what it means."""
        texts = []
        for function in (self.library.cuGetErrorName, self.library.cuGetErrorString):
            text = c_char_p()
            if function(code, ctypes.byref(text)) == 0 and text.value:
                texts.append(text.value.decode(errors="replace"))
        return f"{texts[0]} ({', '.join([str(code), *texts[1:]])})" if texts else f"CUDA error {code}"


def too_old(version: int, needed: int) -> DeviceError:
    """The error for a driver that supports an older CUDA than is needed."""
    return DeviceError(f"the NVIDIA driver is too old: it supports CUDA {dotted(version)}, and CUDA {dotted(needed)} "
                       f"or later is needed; update the driver (nvidia.com/drivers)")


def dotted(version: int) -> str:
    """A version as people write it, 13.0 for 13000."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _open_library() -> Any:
    names = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
    loader: Any = ctypes.WinDLL if sys.platform == "win32" else ctypes.CDLL     # type: ignore[attr-defined,unused-ignore]
    reason = ""
    for name in names:
        try:
            library = loader(name)
            break
        except OSError as error:
            reason = reason or str(error)
    else:
        raise DeviceError(f"no NVIDIA driver was found ({reason}); {INSTALL}")
    for name, parameters in SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            _refuse(library, name)
        function.argtypes, function.restype = parameters, c_int
    return library


def _refuse(library: Any, name: str) -> NoReturn:
    version = c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value < MINIMUM_VERSION:
        raise too_old(version.value, MINIMUM_VERSION)
    raise DeviceError(f"the NVIDIA driver's library lacks the function {name}; {INSTALL}")


_lock = threading.Lock()
_driver: Driver | None = None
_substitute: Any = None
_forked = False


def driver() -> Driver:
    """The driver of this process; DeviceError where there is none that can be used. Asked again, it looks again."""
    global _driver
    with _lock:
        if _forked:
            raise DeviceError(FORKED)
        if _driver is None:
            _driver = Driver(_open_library() if _substitute is None else _substitute)
        return _driver


def set_library(library: Any) -> None:
    """Use an object with the functions of `SIGNATURES` instead of the driver's library; None puts that back. What was
    loaded with another library keeps it."""
    global _driver, _substitute
    with _lock:
        _driver, _substitute = None, library


FORKED = ("CUDA cannot be used in a process that was forked from one that has used it; start worker processes with "
          "multiprocessing's 'spawn' or 'forkserver' method")


def _after_fork() -> None:
    global _forked, _lock
    _lock = threading.Lock()
    _forked = _driver is not None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
