"""Matrix products by cuBLASLt, in place of a kernel that names ``matmul`` as its library.

The words of `Kernel.library` after it say what else the kernel does: ``tf32`` lets it round its factors, ``bias``,
``relu`` and ``gelu`` (the tanh form) are done to the product in that order. Its arguments are

    a, b, c, batch, m, n, k, strides of a (batch, row, column), strides of b, [bias]

and c is contiguous. To the library matrices are stored by columns: what it makes is c' = b' a', n x m, so that b comes
first and the bias belongs to the rows of c'.

Levels: `problem_of` says for a binding's sizes whether the library can do it; `MatmulLauncher` asks it for an algorithm
once the addresses are known, as their alignment matters. Whatever it declines runs the kernel's own text, and `remark`
tells why. The algorithm is the first that the library offers which adds up in an order of its own choice but always the
same one, for a workspace of a fixed size, so results are equal from run to run. The first run of an algorithm loads its
code, so there is one before the capture; the step's result is not yet anybody's then.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from staticgraph.compiler.program import Kernel
from staticgraph.errors import VerificationError

from . import cublaslt
from .cublaslt import CublasError, Descriptor, Handle, Heuristic, Library
from .launch import KernelLauncher, Launcher
from .memory import GRAIN, WORKSPACE_BYTES, Workspace

LARGEST = 2**31 - 1
"""Rows, columns and leading dimensions that the library takes."""

FUNCTIONS = {"relu": cublaslt.EPILOGUE_RELU, "gelu": cublaslt.EPILOGUE_GELU}
OFFERS = 8
"""How many algorithms are asked for."""

KINDS: dict[str, tuple[int, int, Any]] = {
    "float32": (cublaslt.REAL32, cublaslt.COMPUTE_32F, ctypes.c_float),
    "float64": (cublaslt.REAL64, cublaslt.COMPUTE_64F, ctypes.c_double)}
"""Type of the data, of the computation, of scalars."""


@dataclass(frozen=True)
class Routine:
    """What a kernel computes."""

    dtype: str
    tf32: bool = False
    bias: bool = False
    function: str = ""

    @property
    def epilogue(self) -> int:
        return (self.bias * cublaslt.EPILOGUE_BIAS + FUNCTIONS.get(self.function, 0)) or cublaslt.EPILOGUE_DEFAULT

    @property
    def compute(self) -> int:
        return cublaslt.COMPUTE_32F_FAST_TF32 if self.tf32 and self.dtype == "float32" else KINDS[self.dtype][1]

    def __str__(self) -> str:
        words = (self.dtype, "tf32" * self.tf32, "bias" * self.bias, self.function)
        return " ".join(word for word in words if word)


def routine_of(kernel: Kernel) -> Routine:
    """What a kernel computes, by its name and its library."""
    known = re.match(r"matmul_(float32|float64)(?![0-9a-z])", kernel.name)
    words = kernel.library.split(":")[1:]
    functions = [word for word in words if word in FUNCTIONS]
    if known is None or len(functions) > 1 or set(words) - {"tf32", "bias", *FUNCTIONS}:
        raise VerificationError(f"kernel '{kernel.name}' names the library routine '{kernel.library}', which is none")
    return Routine(known.group(1), "tf32" in words, "bias" in words, "".join(functions))


@dataclass(frozen=True)
class Operand:
    """A matrix as it is stored, by columns: `rows` x `columns`, a column every `leading` elements."""

    transposed: bool
    rows: int
    columns: int
    leading: int
    batch_stride: int


@dataclass(frozen=True)
class Problem:
    """c' = b' a', `count` times; c' is `rows` x `columns`."""

    first: Operand
    second: Operand
    rows: int
    columns: int
    depth: int
    count: int

    def __str__(self) -> str:
        letters = "".join("NT"[each.transposed] for each in (self.first, self.second))
        return f"{letters} {self.rows} x {self.columns} x {self.depth}" + f", {self.count} of them" * (self.count > 1)


def problem_of(values: Sequence[int]) -> Problem | str:
    """The product of these arguments, or why the library cannot do it."""
    batch, m, n, k = values[3:7]
    a_batch, a_row, a_column, b_batch, b_row, b_column = values[7:13]
    if k == 0:
        return "there is nothing to add up"
    if batch > 1 and b_batch == 0 and (m == 1 or a_batch == m * a_row):
        # The rows of a follow each other through the whole batch: they make one matrix.
        whole = _operand(batch * m, k, a_row if m > 1 else a_batch, a_column, 0)
        if whole is not None:
            return problem_of([*values[:3], 1, batch * m, n, k, 0, a_row if m > 1 else a_batch, *values[9:13]])
    first = _operand(k, n, b_row, b_column, b_batch)
    second = _operand(m, k, a_row, a_column, a_batch)
    for name, operand, strides in (("a", second, values[7:10]), ("b", first, values[10:13])):
        if operand is None or (batch > 1 and operand.batch_stride < 0):
            return f"cuBLASLt cannot express the strides of {name}, {tuple(strides)} elements"
    assert first is not None and second is not None
    if max(batch, n, m, k, first.leading, second.leading) > LARGEST:
        return "cuBLASLt cannot express sizes of 2**31 and more"
    return Problem(first, second, n, m, k, batch)


def _operand(rows: int, columns: int, row: int, column: int, batch: int) -> Operand | None:
    """A matrix with these strides for an operand that the library is to see transposed. Along an axis of one element
    any stride is right."""
    if (column == 1 or columns == 1) and (row >= columns or rows == 1):
        return Operand(False, columns, rows, columns if rows == 1 else row, batch)
    if (row == 1 or rows == 1) and column >= rows:
        return Operand(True, rows, columns, column, batch)
    return None


class MatmulLauncher:
    """Runs a product with the addresses that the row of its binding holds at that moment."""

    movable = False

    def __init__(self, otherwise: KernelLauncher, handle: Handle, routine: Routine, problem: Problem,
                 workspace: Workspace) -> None:
        self._otherwise = otherwise
        self._handle = handle
        self._library = library = handle.library
        self._routine = routine
        self._problem = problem
        self._workspace = workspace
        self._chosen: dict[tuple[int, ...], Heuristic | None] = {}
        data, _, scalar = KINDS[routine.dtype]
        self._one, self._zero = scalar(1), scalar(0)
        self._operation = Descriptor(
            library, "cublasLtMatmulDesc", routine.compute, data, epilogue=routine.epilogue,
            transpose_a=int(problem.first.transposed), transpose_b=int(problem.second.transposed))
        result = Operand(False, problem.rows, problem.columns, problem.rows, problem.rows * problem.columns)
        self._layouts = [_layout(library, data, each, problem.count)
                         for each in (problem.first, problem.second, result)]
        self.remark = ""
        places = otherwise.launching.parameters
        self._slots = [ctypes.c_int64.from_address(places[slot]) for slot in (0, 1, 2, *(13,) * routine.bias)]
        self._run: Callable[..., int] = library.functions.cublasLtMatmul

    def prepare(self, stream: int) -> None:
        """Choose an algorithm for the addresses of now and run it once."""
        addresses = self._addresses()
        key = _alignments(addresses)
        if key in self._chosen:
            return
        try:
            found = self._choose(addresses, key)
            if found.workspace:
                self._workspace.reserve()
            self._launch(stream, addresses, found)
        except CublasError as error:
            if error.status not in cublaslt.REFUSALS:
                raise
            self._chosen[key] = None
            self.remark = f"own kernel: {error}"
            self._otherwise.prepare(stream)
            return
        self._chosen[key] = found
        self.remark = f"cuBLASLt {self._library.version}: {self._routine}, {self._problem}, {self._describe(found)}"

    def launch(self, stream: int) -> None:
        """Put it into the stream; `prepare` was called with addresses of this alignment."""
        addresses = self._addresses()
        found = self._chosen[_alignments(addresses)]
        if found is None:
            self._otherwise.launch(stream)
        else:
            self._launch(stream, addresses, found)

    def _addresses(self) -> list[int]:
        return [slot.value for slot in self._slots]

    def _choose(self, addresses: Sequence[int], alignments: Sequence[int]) -> Heuristic:
        self._set_bias(addresses)
        library, (first, second, result) = self._library, self._layouts
        preference = Descriptor(
            library, "cublasLtMatmulPreference", workspace=WORKSPACE_BYTES,
            reductions=cublaslt.REDUCTION_IN_COMPUTE_TYPE, align_a=alignments[1], align_b=alignments[0],
            align_c=alignments[2], align_d=alignments[2])
        offers, count = (Heuristic * OFFERS)(), ctypes.c_int()
        library.call("cublasLtMatmulAlgoGetHeuristic", self._handle.value, self._operation.handle, first.handle,
                     second.handle, result.handle, result.handle, preference.handle, OFFERS, offers,
                     ctypes.byref(count))
        for offer in offers[:count.value]:
            if offer.state == 0 and offer.workspace <= WORKSPACE_BYTES:
                return offer
        library.fail("cublasLtMatmulAlgoGetHeuristic", cublaslt.NOT_SUPPORTED)
        raise AssertionError

    def _set_bias(self, addresses: Sequence[int]) -> None:
        if self._routine.bias:
            self._operation.set(bias=addresses[3])

    def _launch(self, stream: int, addresses: Sequence[int], found: Heuristic) -> None:
        self._set_bias(addresses)
        a, b, c = addresses[:3]
        first, second, result = self._layouts
        status = self._run(
            self._handle.value, self._operation.handle, ctypes.addressof(self._one), b, first.handle, a, second.handle,
            ctypes.addressof(self._zero), c, result.handle, c, result.handle, ctypes.byref(found.algorithm),
            self._workspace.address if found.workspace else None, found.workspace, stream)
        if status:
            self._library.fail("cublasLtMatmul", status)

    def _describe(self, found: Heuristic) -> str:
        """For people; what the library does not tell is left out."""
        facts, ask = [], self._library.functions.cublasLtMatmulAlgoConfigGetAttribute
        for name, attribute in (("algorithm", cublaslt.ALGORITHM_ID), ("tile", cublaslt.ALGORITHM_TILE),
                                ("splits", cublaslt.ALGORITHM_SPLITS)):
            value, written = ctypes.c_int32(), ctypes.c_size_t()
            if ask(ctypes.byref(found.algorithm), attribute, ctypes.addressof(value), ctypes.sizeof(value),
                   ctypes.byref(written)) == 0:
                facts.append(f"{name} {value.value}")
        return ", ".join([*facts, f"workspace {found.workspace}"])


def _layout(library: Library, data: int, operand: Operand, count: int) -> Descriptor:
    batches = {"batch_count": count, "batch_stride": operand.batch_stride} if count > 1 else {}
    return Descriptor(library, "cublasLtMatrixLayout", data, operand.rows, operand.columns, operand.leading, **batches)


def _alignments(addresses: Sequence[int]) -> tuple[int, ...]:
    """The largest power of two that divides each address, as far as it matters."""
    return tuple([min(address & -address, GRAIN) or GRAIN for address in addresses])


def make_matmul(otherwise: KernelLauncher, kernel: Kernel, workspace: Workspace) -> Launcher:
    """The launcher of a product: the library's where it can do it, otherwise the kernel's own."""
    routine, values = routine_of(kernel), otherwise.launching.values()
    expected = 14 + routine.bias
    if len(values) != expected:
        raise VerificationError(f"kernel '{kernel.name}' has {len(values)} parameters, its library routine "
                                f"'{kernel.library}' has {expected}")
    handle, problem = cublaslt.handle_of(otherwise.device), problem_of(values)
    reason = handle if isinstance(handle, str) else problem
    if isinstance(handle, Handle) and isinstance(problem, Problem):
        try:
            return MatmulLauncher(otherwise, handle, routine, problem, workspace)
        except CublasError as error:
            if error.status not in cublaslt.REFUSALS:
                raise
            reason = str(error)
    otherwise.remark = f"own kernel: {reason}"
    return otherwise
