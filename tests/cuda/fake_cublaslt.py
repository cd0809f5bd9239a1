"""cuBLASLt as a Python object, beside the fake driver: it computes products with NumPy in the driver's memory.

It has the functions of `cublaslt.SIGNATURES`, takes what ctypes would take for them, records every call, and holds the
caller to what the library's header says: sizes of attributes, alignments that were promised to the heuristic, the
workspace, matrices that agree with each other and lie in allocated memory. Work goes into the driver's streams, so it
may be captured; but an algorithm that runs for the first time loads its code, which is an error during a capture.

The numbers below are those of cublasLt.h, written down once more: they are what the binding is checked against.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from staticgraph.runtime.cuda import cublaslt

from .fake_driver import FakeDriver, Gpu, Memory

Array = np.ndarray[Any, Any]

SUCCESS, NOT_INITIALIZED, ALLOC_FAILED, INVALID_VALUE, ARCH_MISMATCH = 0, 1, 3, 7, 8
EXECUTION_FAILED, INTERNAL_ERROR, NOT_SUPPORTED = 13, 14, 15

NAMES = {0: ("CUBLAS_STATUS_SUCCESS", "success"),
         1: ("CUBLAS_STATUS_NOT_INITIALIZED", "the library was not initialized"),
         3: ("CUBLAS_STATUS_ALLOC_FAILED", "the resource allocation failed"),
         7: ("CUBLAS_STATUS_INVALID_VALUE", "an unsupported value or parameter was passed to the function"),
         8: ("CUBLAS_STATUS_ARCH_MISMATCH", "the function requires an architectural feature absent from the device"),
         13: ("CUBLAS_STATUS_EXECUTION_FAILED", "the function failed to launch on the GPU"),
         14: ("CUBLAS_STATUS_INTERNAL_ERROR", "an internal operation failed"),
         15: ("CUBLAS_STATUS_NOT_SUPPORTED", "the requested functionality is not supported")}

ATTRIBUTES: dict[str, dict[int, tuple[str, int]]] = {
    "operation": {0: ("compute", 4), 1: ("scale", 4), 2: ("pointer_mode", 4), 3: ("transpose_a", 4),
                  4: ("transpose_b", 4), 5: ("transpose_c", 4), 7: ("epilogue", 4), 8: ("bias", 8),
                  10: ("bias_stride", 8)},
    "layout": {0: ("type", 4), 1: ("order", 4), 2: ("rows", 8), 3: ("columns", 8), 4: ("leading", 8), 5: ("count", 4),
               6: ("batch_stride", 8)},
    "preference": {0: ("mode", 4), 1: ("workspace", 8), 3: ("reductions", 4), 5: ("align_a", 4), 6: ("align_b", 4),
                   7: ("align_c", 4), 8: ("align_d", 4), 12: ("implementations", 8)}}
"""Number -> name and bytes of an attribute."""

DEFAULTS = {"operation": {"pointer_mode": 0, "transpose_a": 0, "transpose_b": 0, "transpose_c": 0, "epilogue": 1,
                          "bias": 0, "bias_stride": 0},
            "layout": {"order": 0, "count": 1, "batch_stride": 0},
            "preference": {"mode": 0, "workspace": 0, "reductions": 7, "align_a": 256, "align_b": 256, "align_c": 256,
                           "align_d": 256, "implementations": 2**64 - 1}}

TYPES = {0: np.dtype("float32"), 1: np.dtype("float64")}
COMPUTES = {68: "float32", 77: "float32", 70: "float64"}
FAST_TF32 = 77
EPILOGUES = {1: (False, ""), 2: (False, "relu"), 4: (True, ""), 6: (True, "relu"), 32: (False, "gelu"),
             36: (True, "gelu")}


@dataclass
class Descriptor:
    kind: str
    values: dict[str, int]


@dataclass(frozen=True)
class Matrix:
    """A layout, stored by columns."""

    dtype: np.dtype[Any]
    rows: int
    columns: int
    leading: int
    count: int
    stride: int

    @classmethod
    def of(cls, descriptor: Descriptor) -> Matrix:
        assert descriptor.kind == "layout"
        values = descriptor.values
        assert values["order"] == 0
        return cls(TYPES[values["type"]], values["rows"], values["columns"], values["leading"], values["count"],
                   values["batch_stride"])

    def is_valid(self) -> bool:
        return 0 < self.rows < 2**31 and 0 < self.columns < 2**31 and self.leading >= self.rows and self.count > 0

    def read(self, memory: Memory, address: int, item: int, strict: bool) -> Array:
        """One of them as an array; `strict`: all of it was written."""
        size = self.dtype.itemsize
        start = address + item * self.stride * size
        data = memory.peek(start, ((self.columns - 1) * self.leading + self.rows) * size)
        if strict:
            assert all(memory.is_written(start + column * self.leading * size, self.rows * size)
                       for column in range(self.columns)), "a product of elements that nobody has written"
        return np.ndarray((self.rows, self.columns), self.dtype, data.tobytes(), 0, (size, self.leading * size))

    def write(self, memory: Memory, address: int, item: int, values: Array) -> None:
        for column in range(self.columns):
            memory.write(address + (item * self.stride + column * self.leading) * self.dtype.itemsize,
                         values[:, column])


@dataclass
class Operation:
    """A call of the library, with everything that it depends on as it was at that moment."""

    compute: int
    bias: int
    function: str
    transpose: tuple[bool, bool]
    matrices: tuple[Matrix, Matrix, Matrix]
    addresses: tuple[int, int, int] = (0, 0, 0)

    def run(self, memory: Memory, strict: bool) -> None:
        first, second, result = self.matrices
        for item in range(result.count):
            factors = [each.read(memory, address, item, strict).T if turned else
                       each.read(memory, address, item, strict)
                       for each, address, turned in zip((first, second), self.addresses, self.transpose)]
            if self.compute == FAST_TF32:
                factors = [rounded_to_tf32(each) for each in factors]
            with np.errstate(all="ignore"):
                values = self._finish(factors[0] @ factors[1], memory, strict)
            result.write(memory, self.addresses[2], item, values)

    def _finish(self, product: Array, memory: Memory, strict: bool) -> Array:
        dtype, rows = product.dtype, product.shape[0]
        if self.bias:
            product = product + Matrix(dtype, rows, 1, rows, 1, 0).read(memory, self.bias, 0, strict)
        if self.function == "relu":
            return np.maximum(product, dtype.type(0))
        if self.function == "gelu":
            inner = np.sqrt(2 / np.pi) * (product + 0.044715 * product**3)
            return np.asarray(0.5 * product * (1 + np.tanh(inner)), dtype)
        return product


def rounded_to_tf32(values: Array) -> Array:
    """To the nearest number with ten bits of mantissa, ties away from zero."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


@dataclass
class FakeCublasLt:
    """See above. `workspace` is what algorithms ask for; `supports` says which operations there is one for."""

    driver: FakeDriver
    version: int = 131000
    workspace: int = 0
    supports: Callable[[Operation], bool] = lambda operation: True
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    descriptors: dict[int, Descriptor] = field(default_factory=dict)
    handles: dict[int, Gpu] = field(default_factory=dict)
    ran: list[Operation] = field(default_factory=list)
    loaded: set[bytes] = field(default_factory=set)
    _failures: dict[str, list[int]] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: itertools.count(0x9000, 16))

    def count(self, name: str) -> int:
        return sum(each == name for each, _ in self.calls)

    def fail(self, name: str, status: int, after: int = 0) -> None:
        """Let a call of the function fail, after so many that do not."""
        self._failures[name] = [after, status]

    # How functions are called.

    def __getattr__(self, name: str) -> Callable[..., Any]:
        parameters = cublaslt.SIGNATURES.get(name) or cublaslt.OTHERS.get(name, (None,))[1:]
        if name not in cublaslt.SIGNATURES and name not in cublaslt.OTHERS:
            raise AttributeError(f"the library has no function {name}")
        function = getattr(type(self), "_" + name)

        def call(*arguments: Any) -> Any:
            assert len(arguments) == len(parameters), f"{name} takes {len(parameters)} arguments"
            for kind, argument in zip(parameters, arguments):
                kind.from_param(argument)     # what ctypes does; raises what ctypes raises
            with self.driver._lock:
                self.calls.append((name, arguments))
                failure = self._failures.get(name)
                if failure is not None:
                    if failure[0] == 0:
                        del self._failures[name]
                        return failure[1]
                    failure[0] -= 1
                result = function(self, *arguments)
            return SUCCESS if result is None else result

        return call

    def _cublasLtGetVersion(self) -> int:
        return self.version

    def _cublasLtGetStatusName(self, status: int) -> bytes:
        return NAMES.get(status, ("unrecognized status",))[0].encode()

    def _cublasLtGetStatusString(self, status: int) -> bytes:
        return NAMES.get(status, ("", "unrecognized status"))[1].encode()

    def _is_capturing(self) -> bool:
        return any(each.capture is not None and each.capturer == threading.get_ident()
                   for each in self.driver.streams.values())

    # Handles and descriptors.

    def _cublasLtCreate(self, out: Any) -> int | None:
        if not self.driver._stack():
            return NOT_INITIALIZED
        if self._is_capturing():
            return ALLOC_FAILED
        number = next(self._numbers)
        self.handles[number] = self.driver._gpu
        out._obj.value = number
        return None

    def _create(self, out: Any, kind: str, **values: int) -> None:
        number = next(self._numbers)
        self.descriptors[number] = Descriptor(kind, {**DEFAULTS[kind], **values})
        out._obj.value = number

    def _set(self, kind: str, number: int, attribute: int, address: int, nbytes: int) -> int | None:
        descriptor = self.descriptors[number]
        assert descriptor.kind == kind
        known = ATTRIBUTES[kind].get(attribute)
        if known is None or known[1] != nbytes:
            return INVALID_VALUE
        descriptor.values[known[0]] = int.from_bytes(ctypes.string_at(address, nbytes), "little", signed=known[0] in (
            "transpose_a", "transpose_b", "count", "batch_stride"))
        return None

    def _destroy(self, kind: str, number: int) -> None:
        assert self.descriptors.pop(number).kind == kind

    def _cublasLtMatmulDescCreate(self, out: Any, compute: int, scale: int) -> int | None:
        if compute not in COMPUTES or TYPES[scale].name != COMPUTES[compute]:
            return INVALID_VALUE
        self._create(out, "operation", compute=compute, scale=scale)
        return None

    def _cublasLtMatmulDescSetAttribute(self, *arguments: int) -> int | None:
        return self._set("operation", *arguments)

    def _cublasLtMatmulDescDestroy(self, number: int) -> None:
        self._destroy("operation", number)

    def _cublasLtMatrixLayoutCreate(self, out: Any, kind: int, rows: int, columns: int, leading: int) -> None:
        self._create(out, "layout", type=kind, rows=rows, columns=columns, leading=leading)

    def _cublasLtMatrixLayoutSetAttribute(self, *arguments: int) -> int | None:
        return self._set("layout", *arguments)

    def _cublasLtMatrixLayoutDestroy(self, number: int) -> None:
        self._destroy("layout", number)

    def _cublasLtMatmulPreferenceCreate(self, out: Any) -> None:
        self._create(out, "preference")

    def _cublasLtMatmulPreferenceSetAttribute(self, *arguments: int) -> int | None:
        return self._set("preference", *arguments)

    def _cublasLtMatmulPreferenceDestroy(self, number: int) -> None:
        self._destroy("preference", number)

    # Products.

    def _operation(self, number: int, first: int, second: int, third: int, result: int) -> Operation | None:
        """What descriptors say, or nothing where they do not fit together."""
        operation = self.descriptors[number]
        assert operation.kind == "operation" and third == result
        values = operation.values
        matrices = tuple(Matrix.of(self.descriptors[each]) for each in (first, second, result))
        (a, b, c), turned = matrices, (bool(values["transpose_a"]), bool(values["transpose_b"]))
        inner = (a.rows if turned[0] else a.columns, b.columns if turned[1] else b.rows)
        outer = (a.columns if turned[0] else a.rows, b.rows if turned[1] else b.columns)
        with_bias, function = EPILOGUES[values["epilogue"]]
        if (inner[0] != inner[1] or outer != (c.rows, c.columns) or len({each.count for each in matrices}) > 1
                or not all(each.is_valid() for each in matrices) or with_bias != bool(values["bias"])
                or any(each.dtype.name != COMPUTES[values["compute"]] for each in matrices)
                or (c.count > 1 and c.stride < c.rows * c.columns)):
            return None
        return Operation(values["compute"], values["bias"], function, turned, (a, b, c))

    def _cublasLtMatmulAlgoGetHeuristic(self, handle: int, operation: int, first: int, second: int, third: int,
                                        result: int, preference: int, wanted: int, out: Any, count: Any) -> int | None:
        known = self._operation(operation, first, second, third, result)
        if known is None or self.handles[handle] is not self.driver._gpu or wanted < 1:
            return INVALID_VALUE
        preferred = self.descriptors[preference].values
        assert preferred["reductions"] in (0, 2), "sums in an order that may differ from run to run"
        if not self.supports(known) or self.workspace > preferred["workspace"]:
            return NOT_SUPPORTED
        alignments = [preferred[f"align_{each}"] for each in "abc"]
        assert preferred["align_c"] == preferred["align_d"]
        offers = [(NOT_SUPPORTED, 3), (SUCCESS, 7), (SUCCESS, 8)][:wanted]
        for place, (state, number) in enumerate(offers):
            offer = out[place]
            data = (number, *alignments, min(known.bias & -known.bias, 256), self._digest(known))
            offer.algorithm.data[:len(data)] = data
            offer.workspace, offer.state = self.workspace, state
        count._obj.value = len(offers)
        return None

    @staticmethod
    def _digest(operation: Operation) -> int:
        facts = (operation.compute, operation.function, operation.transpose, operation.matrices)
        return int.from_bytes(hashlib.sha256(repr(facts).encode()).digest()[:8], "little")

    def _cublasLtMatmulAlgoConfigGetAttribute(self, algorithm: Any, attribute: int, out: int, nbytes: int,
                                              written: Any) -> int | None:
        assert nbytes == 4 and attribute in (0, 1, 2)
        ctypes.c_int32.from_address(out).value = (algorithm._obj.data[0], 20, 1)[attribute]
        written._obj.value = 4
        return None

    def _cublasLtMatmul(self, handle: int, operation: int, alpha: int, a: int, a_layout: int, b: int, b_layout: int,
                        beta: int, c: int, c_layout: int, d: int, d_layout: int, algorithm: Any, workspace: int | None,
                        nbytes: int, stream: int) -> int | None:
        known = self._operation(operation, a_layout, b_layout, c_layout, d_layout)
        gpu = self.driver._gpu
        if known is None or c != d or self.handles[handle] is not gpu or stream not in self.driver.streams:
            return INVALID_VALUE
        scalar = ctypes.c_double if known.compute == 70 else ctypes.c_float
        assert (scalar.from_address(alpha).value, scalar.from_address(beta).value) == (1, 0)
        known.addresses = (a, b, c)
        chosen = tuple(algorithm._obj.data)
        assert chosen[0] == 7 and chosen[5] == self._digest(known), "another's algorithm"
        promised = zip((*known.addresses, known.bias), chosen[1:5])
        if any(address % alignment for address, alignment in promised if alignment):
            return INVALID_VALUE
        if self.workspace and not self._has_workspace(gpu.memory, workspace, nbytes):
            return INVALID_VALUE
        first_time = bytes(algorithm._obj) not in self.loaded
        if first_time and self._is_capturing():
            return INTERNAL_ERROR
        self.loaded.add(bytes(algorithm._obj))
        captured = self._is_capturing()

        def work() -> None:
            self.ran.append(known)
            known.run(gpu.memory, strict=captured)     # what runs before that reads what happens to be there

        return self.driver._enqueue(stream, "matmul", known.addresses, work)

    def _has_workspace(self, memory: Memory, address: int | None, nbytes: int) -> bool:
        return (address is not None and address % 256 == 0 and nbytes >= self.workspace
                and any(start <= address and address + nbytes <= start + size
                        for start, size in memory.allocations.items()))
