"""Calls in native code: the arguments of the usual call are looked at, put into the table and run without Python.

A *block* of int64 slots says what a call of one binding expects: for each input the dtype, the rank, the flags and the
sizes, where the address of each argument goes, and what is to be run. `make_call` makes a Python function of a block:

    call(*inputs, *results)    True: it has run; None: an input is not as expected, nothing has happened;
                               a number: the step that failed

Whatever the block does not expect is left to the ordinary way, with its conversions and messages. The interpreter lock
is released while steps run, unless they are done in less time than giving it up and getting it back may take.

It is LLVM assembly over CPython's and NumPy's object headers, whose layout neither has changed in ten years; even so it
is believed only where a trial agrees with what Python says, and only where an interpreter lock exists. The functions of
the interpreter come by address, so the object code is the same for every process.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from .convert import Array
from .cpu.loader import link_cached
from .cpu.objects import linker
from .cpu.translate import Compiled
from .driver import run_address

Call = Callable[..., Any]

CALL = "staticgraph_call"
HEADER = object.__basicsize__     # of an array: data, int rank, sizes, strides, base, dtype, int flags
RANK, SIZES, DTYPE, FLAGS = HEADER + 8, HEADER + 16, HEADER + 40, HEADER + 48
READY = 0x0101
"""NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED."""

FIXED_SLOTS, INPUT_SLOTS, PATCH_SLOTS, FASTCALL = 16, 3, 3, 0x0080

ASSEMBLY = f"""
define ptr @{CALL}(ptr %self, ptr %arguments, i64 %given) {{
entry:
  %block.place = getelementptr i8, ptr %self, i64 {HEADER}
  %block = load ptr, ptr %block.place
  %total.place = getelementptr i64, ptr %block, i64 14
  %total = load i64, ptr %total.place
  %complete = icmp eq i64 %given, %total
  br i1 %complete, label %start, label %refuse
start:
  %class.place = getelementptr i64, ptr %block, i64 12
  %class = load ptr, ptr %class.place
  %inputs.place = getelementptr i64, ptr %block, i64 13
  %inputs = load i64, ptr %inputs.place
  br label %input

; every input: an array itself, of the dtype, rank, flags and sizes that are expected
input:
  %i = phi i64 [ 0, %start ], [ %i.next, %good ]
  %more = icmp slt i64 %i, %inputs
  br i1 %more, label %look, label %patches
look:
  %argument.place = getelementptr ptr, ptr %arguments, i64 %i
  %argument = load ptr, ptr %argument.place
  %kind.place = getelementptr i8, ptr %argument, i64 8
  %kind = load ptr, ptr %kind.place
  %is.array = icmp eq ptr %kind, %class
  br i1 %is.array, label %facts, label %refuse
facts:
  %fact.number = mul i64 %i, {INPUT_SLOTS}
  %fact.slot = add i64 %fact.number, {FIXED_SLOTS}
  %fact = getelementptr i64, ptr %block, i64 %fact.slot
  %dtype.wanted = load ptr, ptr %fact
  %rank.wanted.place = getelementptr i64, ptr %fact, i64 1
  %rank.wanted = load i64, ptr %rank.wanted.place
  %sizes.wanted.place = getelementptr i64, ptr %fact, i64 2
  %sizes.wanted = load ptr, ptr %sizes.wanted.place
  %dtype.place = getelementptr i8, ptr %argument, i64 {DTYPE}
  %dtype = load ptr, ptr %dtype.place
  %same.dtype = icmp eq ptr %dtype, %dtype.wanted
  %rank.place = getelementptr i8, ptr %argument, i64 {RANK}
  %rank.short = load i32, ptr %rank.place
  %rank = sext i32 %rank.short to i64
  %same.rank = icmp eq i64 %rank, %rank.wanted
  %flags.place = getelementptr i8, ptr %argument, i64 {FLAGS}
  %flags = load i32, ptr %flags.place
  %masked = and i32 %flags, {READY}
  %ready = icmp eq i32 %masked, {READY}
  %fits.so.far = and i1 %same.dtype, %same.rank
  %fits = and i1 %fits.so.far, %ready
  br i1 %fits, label %shape, label %refuse
shape:
  %sizes.place = getelementptr i8, ptr %argument, i64 {SIZES}
  %sizes = load ptr, ptr %sizes.place
  br label %axis
axis:
  %j = phi i64 [ 0, %shape ], [ %j.next, %same ]
  %axes.left = icmp slt i64 %j, %rank
  br i1 %axes.left, label %size, label %good
size:
  %size.place = getelementptr i64, ptr %sizes, i64 %j
  %one = load i64, ptr %size.place
  %wanted.place = getelementptr i64, ptr %sizes.wanted, i64 %j
  %other = load i64, ptr %wanted.place
  %equal = icmp eq i64 %one, %other
  br i1 %equal, label %same, label %refuse
same:
  %j.next = add i64 %j, 1
  br label %axis
good:
  %i.next = add i64 %i, 1
  br label %input

; the addresses of inputs and results go into the table
patches:
  %count.place = getelementptr i64, ptr %block, i64 15
  %count = load i64, ptr %count.place
  %first.slot = mul i64 %inputs, {INPUT_SLOTS}
  %first.number = add i64 %first.slot, {FIXED_SLOTS}
  %first = getelementptr i64, ptr %block, i64 %first.number
  br label %patch
patch:
  %p = phi i64 [ 0, %patches ], [ %p.next, %put ]
  %left = icmp slt i64 %p, %count
  br i1 %left, label %put, label %run
put:
  %entry.slot = mul i64 %p, {PATCH_SLOTS}
  %from.place = getelementptr i64, ptr %first, i64 %entry.slot
  %from = load i64, ptr %from.place
  %to.place = getelementptr i64, ptr %from.place, i64 1
  %to = load ptr, ptr %to.place
  %shift.place = getelementptr i64, ptr %from.place, i64 2
  %shift = load i64, ptr %shift.place
  %array.place = getelementptr ptr, ptr %arguments, i64 %from
  %array = load ptr, ptr %array.place
  %data.place = getelementptr i8, ptr %array, i64 {HEADER}
  %data = load i64, ptr %data.place
  %address = add i64 %data, %shift
  store i64 %address, ptr %to
  %p.next = add i64 %p, 1
  br label %patch

run:
  %function = load ptr, ptr %block
  %steps.place = getelementptr i64, ptr %block, i64 1
  %steps = load i64, ptr %steps.place
  %number.place = getelementptr i64, ptr %block, i64 2
  %number = load i64, ptr %number.place
  %status.place = getelementptr i64, ptr %block, i64 3
  %status = load i64, ptr %status.place
  %release.place = getelementptr i64, ptr %block, i64 5
  %release = load i64, ptr %release.place
  %long = icmp ne i64 %release, 0
  br i1 %long, label %released, label %held
released:
  %save.place = getelementptr i64, ptr %block, i64 6
  %save = load ptr, ptr %save.place
  %state = call ptr %save()
  %code.released = call i64 %function(i64 %steps, i64 %number, i64 %status, i64 0)
  %restore.place = getelementptr i64, ptr %block, i64 7
  %restore = load ptr, ptr %restore.place
  call void %restore(ptr %state)
  br label %done
held:
  %code.held = call i64 %function(i64 %steps, i64 %number, i64 %status, i64 0)
  br label %done
done:
  %code = phi i64 [ %code.released, %released ], [ %code.held, %held ]
  %fine = icmp eq i64 %code, -1
  br i1 %fine, label %accept, label %failed
failed:
  %long.place = getelementptr i64, ptr %block, i64 8
  %make.long = load ptr, ptr %long.place
  %step = call ptr %make.long(i64 %code)
  ret ptr %step
accept:
  br label %answer
refuse:
  br label %answer
answer:
  %which = phi i64 [ 10, %accept ], [ 11, %refuse ]
  %object.place = getelementptr i64, ptr %block, i64 %which
  %object = load ptr, ptr %object.place
  %keep.place = getelementptr i64, ptr %block, i64 9
  %keep = load ptr, ptr %keep.place
  call void %keep(ptr %object)
  ret ptr %object
}}
"""


class _Method(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int),
                ("doc", ctypes.c_char_p))


def _build(inputs: Sequence[tuple[np.dtype[Any], tuple[int, ...]]], patches: Sequence[tuple[int, int, int]], total: int,
           run: tuple[int, int, int], release: bool) -> Call:
    """See `make_call`."""
    ranks = [len(shape) for _, shape in inputs]
    block = np.zeros(FIXED_SLOTS + INPUT_SLOTS * len(inputs) + PATCH_SLOTS * len(patches) + sum(ranks), np.int64)
    steps, count, status = run
    block[:FIXED_SLOTS] = (run_address(), steps, count, status, 0, release, *_interpreter(), len(inputs), total,
                           len(patches))
    place = FIXED_SLOTS
    sizes = len(block) - sum(ranks)
    for dtype, shape in inputs:
        block[place:place + INPUT_SLOTS] = (id(dtype), len(shape), block.ctypes.data + 8 * sizes)
        block[sizes:sizes + len(shape)] = shape
        place, sizes = place + INPUT_SLOTS, sizes + len(shape)
    if patches:
        block[place:place + PATCH_SLOTS * len(patches)] = np.array(patches, np.int64).ravel()
    return _function()(block)


@cache
def _interpreter() -> tuple[int, ...]:
    """Addresses of what the block needs of Python and NumPy."""
    api = ctypes.pythonapi
    functions = (api.PyEval_SaveThread, api.PyEval_RestoreThread, api.PyLong_FromLongLong, api.Py_IncRef)
    addresses = [ctypes.cast(each, ctypes.c_void_p).value or 0 for each in functions]
    return (*addresses, id(True), id(None), id(np.ndarray))


@cache
def _function() -> Callable[[Array], Call]:
    """Makes Python functions of blocks, which they keep alive."""
    linked = link_cached(CALL, ASSEMBLY, lambda key: Compiled(linker().assemble(ASSEMBLY), CALL))
    method = _Method(b"call", linked.address, FASTCALL, None)
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
        ctypes.cast(ctypes.pythonapi.PyCFunction_NewEx, ctypes.c_void_p).value or 0)
    address = ctypes.addressof(method)
    return lambda block, keep=method: make(address, block, None)     # type: ignore[misc]


@cache
def works() -> bool:
    """Whether the native way is to be believed on this interpreter."""
    if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    if np.ndarray.__basicsize__ < FLAGS + 4:
        return False
    dtype, table = np.dtype("float32"), np.zeros(4, np.int64)
    first, second = np.zeros((3, 5), dtype), np.zeros((), "int8")
    place = table.ctypes.data
    call = _build([(dtype, (3, 5)), (np.dtype("int8"), ())], [(0, place, 0), (1, place + 8, 16), (2, place + 16, 0)], 3,
                  (place, 0, place), True)
    wrong: list[Any] = [[1.0], first.astype("float64"), first[:, :4], first.T.copy(), first.reshape(15), None,
                        np.asfortranarray(np.zeros((3, 5), dtype)), np.zeros((6, 5), dtype)[::2], np.float32(1),
                        first.astype(dtype.newbyteorder())]
    refused = [call(each, second, first) is None for each in wrong] + [call(first, second) is None]
    if not all(refused) or table.any() or call(first, second, first) is not True:
        return False
    return bool(table[:3].tolist() == [first.ctypes.data, second.ctypes.data + 16, first.ctypes.data])


def make_call(inputs: Sequence[tuple[np.dtype[Any], tuple[int, ...]]], patches: Sequence[tuple[int, int, int]],
              total: int, run: tuple[int, int, int], release: bool) -> Call | None:
    """The native call for inputs of these dtypes and shapes, or None where there cannot be one.

    `patches` are (number of the argument, address of the slot, bytes to add), `total` counts inputs and results, `run`
    is (steps, count, status) of the driver, and `release` says that others may run meanwhile.
    """
    return _build(inputs, patches, total, run, release) if works() else None
