"""cuBLASLt, NVIDIA's library of matrix products: its functions by ctypes, and where it is.

It comes with the package nvidia-cublas, or with a CUDA toolkit on the system's loader path; nothing of it is imported,
and it is loaded when the first product is bound. `set_library` puts another object with the same functions in its
place, which is how the tests run without a GPU. Numbers and sizes are those of cublasLt.h; the few that are used here
are the same in CUDA 12 and 13.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
import weakref
from ctypes import POINTER, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from staticgraph.errors import DeviceError, OutOfMemoryError

from .device import Device

PACKAGE = "nvidia-cublas"
FILES = ("cu13/lib/libcublasLt.so.13", "cublas/lib/libcublasLt.so.12")
"""In the folder of the namespace package `nvidia`."""

NAMES = ("libcublasLt.so.13", "libcublasLt.so.12")
"""On the loader's path."""

NOT_FOUND = f'cuBLASLt not found: pip install "{PACKAGE}>=13,<14"'

ALLOC_FAILED, INVALID_VALUE, ARCH_MISMATCH, NOT_SUPPORTED = 3, 7, 8, 15

REFUSALS = frozenset((INVALID_VALUE, ARCH_MISMATCH, NOT_SUPPORTED))
"""Statuses that say before anything is done that it cannot be done."""

REAL32, REAL64 = 0, 1
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77
"""cudaDataType and cublasComputeType_t."""

EPILOGUE_DEFAULT, EPILOGUE_RELU, EPILOGUE_BIAS, EPILOGUE_GELU = 1, 2, 4, 32
"""cublasLtEpilogue_t; bias and a function together are their sum."""

REDUCTION_IN_COMPUTE_TYPE = 2
"""cublasLtReductionScheme_t: of a product whose k is split, the parts are added up by a step of their own. Products
that are not split are always allowed."""

ALGORITHM_ID, ALGORITHM_TILE, ALGORITHM_SPLITS = 0, 1, 2
"""cublasLtMatmulAlgoConfigAttributes_t."""

_HANDLE, _OUT = c_void_p, POINTER(c_void_p)


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t."""

    _fields_ = [("data", c_uint64 * 8)]


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = [("algorithm", Algorithm), ("workspace", c_size_t), ("state", c_int), ("waves", c_float),
                ("reserved", c_int * 4)]


SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cublasLtCreate": (_OUT,),
    "cublasLtMatmulDescCreate": (_OUT, c_int, c_int),
    "cublasLtMatmulDescSetAttribute": (_HANDLE, c_int, c_void_p, c_size_t),
    "cublasLtMatmulDescDestroy": (_HANDLE,),
    "cublasLtMatrixLayoutCreate": (_OUT, c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutSetAttribute": (_HANDLE, c_int, c_void_p, c_size_t),
    "cublasLtMatrixLayoutDestroy": (_HANDLE,),
    "cublasLtMatmulPreferenceCreate": (_OUT,),
    "cublasLtMatmulPreferenceSetAttribute": (_HANDLE, c_int, c_void_p, c_size_t),
    "cublasLtMatmulPreferenceDestroy": (_HANDLE,),
    "cublasLtMatmulAlgoGetHeuristic": (*(_HANDLE,) * 7, c_int, POINTER(Heuristic), POINTER(c_int)),
    "cublasLtMatmulAlgoConfigGetAttribute": (POINTER(Algorithm), c_int, c_void_p, c_size_t, POINTER(c_size_t)),
    "cublasLtMatmul": (_HANDLE, _HANDLE, c_void_p, *(_HANDLE,) * 4, c_void_p, *(_HANDLE,) * 4, POINTER(Algorithm),
                       c_void_p, c_size_t, _HANDLE),
}
"""Parameters of each function that returns a status, 0 for success."""

OTHERS: dict[str, tuple[Any, ...]] = {
    "cublasLtGetVersion": (c_size_t,),
    "cublasLtGetStatusName": (c_char_p, c_int),
    "cublasLtGetStatusString": (c_char_p, c_int),
}
"""What each other function returns, and its parameters."""

ATTRIBUTES: dict[str, dict[str, tuple[int, Any]]] = {
    "cublasLtMatmulDesc": {"transpose_a": (3, c_int32), "transpose_b": (4, c_int32), "epilogue": (7, c_uint32),
                           "bias": (8, c_void_p)},
    "cublasLtMatrixLayout": {"batch_count": (5, c_int32), "batch_stride": (6, c_int64)},
    "cublasLtMatmulPreference": {"workspace": (1, c_uint64), "reductions": (3, c_uint32), "align_a": (5, c_uint32),
                                 "align_b": (6, c_uint32), "align_c": (7, c_uint32), "align_d": (8, c_uint32)},
}
"""By kind of descriptor: number and type of each attribute that is set."""


class CublasError(DeviceError):
    """A function of cuBLASLt that failed. `status` is its cublasStatus_t."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class CublasShortage(CublasError, OutOfMemoryError):
    """The same for want of memory."""


class Library:
    """The loaded library: `version`, `place` (the file, or the name that it was found by)."""

    def __init__(self, functions: Any, place: str) -> None:
        self.functions = functions
        self.place = place
        number = int(functions.cublasLtGetVersion())
        self.version = f"{number // 10000}.{number % 10000 // 100}.{number % 100}"

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function; CublasError where it fails."""
        status = getattr(self.functions, name)(*arguments)
        if status:
            self.fail(name, status)

    def fail(self, name: str, status: int) -> None:
        """Raise the error of a function."""
        kind = CublasShortage if status == ALLOC_FAILED else CublasError
        raise kind(f"{name} failed: {self.describe(status)} (cuBLASLt {self.version})", status)

    def describe(self, status: int) -> str:
        """The name of a status, and what it means."""
        name, text = (function(status) or b"" for function in (self.functions.cublasLtGetStatusName,
                                                               self.functions.cublasLtGetStatusString))
        return f"{name.decode(errors='replace')} ({status}, {text.decode(errors='replace')})"


class Descriptor:
    """A descriptor of a kind of `ATTRIBUTES`: `handle`. It is destroyed when it is dropped; it belongs to no device."""

    def __init__(self, library: Library, kind: str, *arguments: int, **attributes: int) -> None:
        handle = c_void_p()
        library.call(f"{kind}Create", ctypes.byref(handle), *arguments)
        self.handle = handle.value or 0
        self._library = library
        self._kind = kind
        weakref.finalize(self, getattr(library.functions, f"{kind}Destroy"), self.handle).atexit = False
        self.set(**attributes)

    def set(self, **attributes: int) -> None:
        """Set attributes."""
        for name, given in attributes.items():
            number, kind = ATTRIBUTES[self._kind][name]
            value = kind(given)
            self._library.call(f"{self._kind}SetAttribute", self.handle, number, ctypes.addressof(value),
                               ctypes.sizeof(value))


class Handle:
    """A library's state for one device, which stays as long as the process does."""

    def __init__(self, library: Library) -> None:
        self.library = library
        value = c_void_p()
        library.call("cublasLtCreate", ctypes.byref(value))
        self.value = value.value or 0


def find() -> tuple[str, ...]:
    """What to load, in order: the file of a package, then names for the system's loader."""
    try:
        found = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        found = None
    folders = [Path(folder) for folder in (found.submodule_search_locations if found else None) or ()]
    files = [str(folder / name) for name in FILES for folder in folders if (folder / name).is_file()]
    return (*files, *NAMES)


_lock, _handle_lock = threading.Lock(), threading.Lock()
_library: Library | str | None = None
_substitute: Any = None


def find_library() -> Library | str:
    """The library of this process, or why there is none."""
    global _library
    with _lock:
        if _library is None:
            _library = Library(_substitute, "set_library") if _substitute is not None else _open()
        return _library


def set_library(library: Any) -> None:
    """Use an object with the functions of `SIGNATURES` and `OTHERS`; None puts the library that is installed back."""
    global _library, _substitute
    with _lock:
        _library, _substitute = None, library


def _open() -> Library | str:
    reasons = []
    for name in find():
        try:
            functions = ctypes.CDLL(name)
            for function, parameters in SIGNATURES.items():
                getattr(functions, function).argtypes = parameters
                getattr(functions, function).restype = c_int
            for function, (result, *others) in OTHERS.items():
                getattr(functions, function).argtypes = others
                getattr(functions, function).restype = result
            return Library(functions, name)
        except (OSError, AttributeError) as error:
            reasons.append(str(error))
    files = [reason for name, reason in zip(find(), reasons) if name not in NAMES]
    return f"cuBLASLt cannot be loaded: {files[0]}" if files else NOT_FOUND


def handle_of(device: Device) -> Handle | str:
    """The library's handle for a device whose context is current, or why there is none."""
    if device.driver.takes_ptx and _substitute is None:
        return "no machine code runs on this device, so no cuBLASLt either"
    library = find_library()
    if isinstance(library, str):
        return library
    with _handle_lock:
        known: Handle | str | None = device.parts.get("cublaslt")
        if known is None or (isinstance(known, Handle) and known.library is not library):
            try:
                known = Handle(library)
            except CublasShortage:
                raise
            except CublasError as error:
                known = f"cuBLASLt cannot be used on this device: {error}"
            device.parts["cublaslt"] = known
        return known
