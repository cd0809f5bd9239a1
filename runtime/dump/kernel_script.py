"""What the script of a kernel does when it runs: it compiles the kernel, checks what it computes, and times it.

The text of this module is copied into the scripts: it uses NumPy and Numba and nothing of this package. A kernel is
``kernel(args, start, stop)``: `args` is the address of a table of int64 (addresses of arrays, sizes, the address of a
status block), and ``start, stop`` a range of its iterations.
"""

from __future__ import annotations

import ast
import ctypes
import inspect
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from numba import cfunc, types

from ..cpu.arithmetic import Beyond
from ..cpu.front_end import emit_function
from ..cpu.optimise import optimise, tuned_machine

ALIGNMENT = 64
"""Bytes; every array starts at a multiple."""

STATUS_SLOTS = 4
"""int64 of a status block: [check + 1, or 0 if all is well; value; the size it was held against; free]."""

SECONDS, ROUNDS = 0.2, 1000
"""What a timing takes at most."""


class Buffer(NamedTuple):
    """An array of a step. use: "read", "write", "update" (read and written) or "scratch"."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    use: str


class At(NamedTuple):
    """An argument: the address of a buffer, some bytes further on."""

    buffer: int
    offset: int = 0


class Case(NamedTuple):
    """A step of the program, as it was called: its iterations and its arguments. A number is itself; the word "status"
    stands for the address of the status block. `nbytes` and `flops` are what the compiler says that it moves and
    does."""

    step: int
    extent: int
    arguments: tuple[int | str | At, ...]
    buffers: tuple[Buffer, ...]
    nbytes: int
    flops: int


class Machine(NamedTuple):
    """A kernel in machine code, and what has to stay alive as long as it."""

    call: Any
    kept: Any


def compile_kernel(kernel: Any, by_numba: bool = False) -> Machine:
    """The kernel in machine code for this CPU: as the program has it, down to the bit. Numba compiles the same text to
    the same results, except that sums which may be added up in any order may come out in another one; it takes what is
    beyond the program's own front end."""
    if not by_numba:
        try:
            (tree,) = ast.parse(inspect.getsource(kernel)).body
            assert isinstance(tree, ast.FunctionDef)
            return link(optimise(emit_function(tree, kernel.__globals__, kernel.__name__)), kernel.__name__)
        except Beyond as reason:
            print(f"{kernel.__name__} is compiled by Numba: {reason}")
    compiled = cfunc(types.void(types.int64, types.int64, types.int64), error_model="numpy")(kernel)
    return Machine(SIGNATURE(compiled.address), compiled)


SIGNATURE: Any = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


def link(module: Any, name: str) -> Machine:
    """Machine code of a module, brought to memory."""
    code = tuned_machine().emit_object(module)
    builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
    for each in module.functions:
        place = llvm.address_of_symbol(each.name) if each.is_declaration else None
        if place is not None:
            builder.import_symbol(each.name, place)
    target = llvm.Target.from_triple(llvm.get_process_triple())
    session = llvm.create_lljit_compiler(target.create_target_machine(
        opt=2, reloc="static", codemodel="jitdefault", jit=True), suppress_errors=True)
    library = builder.export_symbol(name).link(session, name)
    return Machine(SIGNATURE(library[name]), (session, library))


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """A new array of zeros at a multiple of the alignment."""
    dtype = np.dtype(dtype)
    nbytes = int(np.prod(shape)) * dtype.itemsize
    block: np.ndarray[Any, Any] = np.zeros(nbytes + ALIGNMENT, np.uint8)
    start = -block.ctypes.data % ALIGNMENT
    return np.ndarray(shape, dtype, block, start)


def difference(got: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> str:
    """In words, where an array is not the other one bit for bit; nothing if it is."""
    if (got.dtype, got.shape) != (wanted.dtype, wanted.shape):
        return f"it is {got.dtype}{list(got.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
    size = wanted.dtype.itemsize
    bits = [np.ascontiguousarray(each).reshape(-1).view(np.uint8).reshape(-1, size) for each in (got, wanted)]
    wrong = np.flatnonzero((bits[0] != bits[1]).any(axis=1))
    if not wrong.size:
        return ""
    one, other = got.reshape(-1)[wrong], wanted.reshape(-1)[wrong]
    with np.errstate(all="ignore"):
        largest = float(np.nanmax(np.abs(one.astype(float) - other.astype(float)), initial=0.0))
    place = ", ".join(str(int(each)) for each in np.unravel_index(wrong[0], wanted.shape))
    return (f"{wrong.size} of {wanted.size} elements differ, by {largest:.3g} at most; "
            f"[{place}] is {one[0]} instead of {other[0]}")


def rates(seconds: float, nbytes: int, flops: int) -> str:
    """A time, with the traffic and the arithmetic it means."""
    parts = [f"{seconds * 1e6:.1f} us"]
    parts += [f"{nbytes / seconds / 1e9:.1f} GB/s"] if nbytes else []
    parts += [f"{flops / seconds / 1e9:.1f} GFlop/s"] if flops else []
    return ", ".join(parts)


class Call:
    """A case with its arrays, ready to be run."""

    def __init__(self, case: Case, data: Any) -> None:
        self.case = case
        self.before: list[Any] = []
        self.after: list[Any] = []
        self.arrays = [aligned(buffer.shape, buffer.dtype) for buffer in case.buffers]
        for number in range(len(case.buffers)):
            for when, arrays in (("before", self.before), ("after", self.after)):
                key = f"step{case.step}_{when}{number}"
                arrays.append(data[key] if key in data.files else None)
        self.status = np.zeros(STATUS_SLOTS, np.int64)
        self.table = np.array([self.slot(argument) for argument in case.arguments], np.int64)
        self.address = int(self.table.ctypes.data)
        self.prepare()

    def slot(self, argument: int | str | At) -> int:
        """What an argument is in the table."""
        if isinstance(argument, At):
            return int(self.arrays[argument.buffer].ctypes.data) + argument.offset
        return int(self.status.ctypes.data) if isinstance(argument, str) else argument

    def prepare(self) -> None:
        """Everything as the step found it."""
        for array, before in zip(self.arrays, self.before):
            if before is not None:
                array[...] = before

    def run(self, function: Any) -> None:
        function(self.address, 0, self.case.extent)

    def check(self) -> list[str]:
        """What is not as the program left it."""
        found = [f"it reports check {self.status[0] - 1}"] if self.status[0] else []
        for buffer, array, after in zip(self.case.buffers, self.arrays, self.after):
            text = difference(array, after) if after is not None else ""
            found += [f"{buffer.name}: {text}"] if text else []
        return found

    def measure(self, function: Any) -> float:
        """The median time of many runs."""
        updated = any(buffer.use == "update" for buffer in self.case.buffers)
        times: list[float] = []
        end = time.perf_counter() + SECONDS
        while len(times) < ROUNDS and (len(times) < 3 or time.perf_counter() < end):
            if updated:
                self.prepare()
            start = time.perf_counter()
            self.run(function)
            times.append(time.perf_counter() - start)
        return float(np.median(times))


def check_and_time(kernel: Any, cases: tuple[Case, ...], data: Path, by_numba: bool) -> int:
    """Compile the kernel and run each of its cases: the exit status, 1 if any result is wrong."""
    start = time.perf_counter()
    machine = compile_kernel(kernel, by_numba)
    function = machine.call
    print(f"{kernel.__name__}: compiled in {time.perf_counter() - start:.2f} s")
    wrong = 0
    with np.load(data, allow_pickle=False) as arrays:
        for case in cases:
            call = Call(case, arrays)
            call.run(function)
            problems = call.check()
            wrong += bool(problems)
            seconds = call.measure(function)
            print(f"  step {case.step}: {'WRONG' if problems else 'the same bits'}; {case.extent} iterations in "
                  f"{rates(seconds, case.nbytes, case.flops)}")
            for problem in problems:
                print(f"    {problem}")
    if wrong:
        print("  (the bits are those of the machine that recorded this: another CPU may add up in another order)")
    return int(wrong > 0)


def main(kernel: Any, cases: tuple[Case, ...], file: str) -> None:
    """Run as a script: the data lies beside it, under the same name. With --numba, Numba compiles the kernel."""
    sys.exit(check_and_time(kernel, cases, Path(file).resolve().with_suffix(".npz"), "--numba" in sys.argv[1:]))
