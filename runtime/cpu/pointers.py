"""Memory as kernels see it: typed pointers out of the argument table, arrays on the stack, the status block.

The argument table is a row of int64 slots at the address that a kernel gets as its first argument. A pointer is
Numba's `CPointer`: indexing it loads and stores without bounds checks, and index arithmetic stays in signed int64. A
bool is one byte in memory: loading reads any nonzero byte as True, storing writes exactly 0 or 1.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel.models import PointerModel
from numba.core.errors import TypingError
from numba.extending import intrinsic, lower_builtin, register_model

INT64 = ir.IntType(64)
BYTE = ir.IntType(8)

STACK_ALIGNMENT = 64

DTYPES = {
    "bool": types.boolean, "float32": types.float32, "float64": types.float64,
    **{f"{sign}int{bits}": getattr(types, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class BoolPointer(types.CPointer):  # type: ignore[misc]
    """A pointer to booleans of one byte, which Numba's own CPointer cannot load or store."""

    def __init__(self) -> None:
        super().__init__(types.boolean)


register_model(BoolPointer)(PointerModel)


@lower_builtin(operator.getitem, BoolPointer, types.Integer)
def _load_bool(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    pointer, index = arguments
    byte = builder.load(builder.gep(pointer, [index]))
    return builder.icmp_unsigned("!=", byte, ir.Constant(BYTE, 0))


@lower_builtin(operator.setitem, BoolPointer, types.Integer, types.Any)
def _store_bool(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
    pointer, index, bit = arguments
    builder.store(builder.zext(bit, BYTE), builder.gep(pointer, [index]))


def pointer_type(dtype: str) -> Any:
    return BoolPointer() if dtype == "bool" else types.CPointer(DTYPES[dtype])


def storage_type(dtype: str) -> Any:
    """How one element lies in memory, as an LLVM type."""
    if dtype == "bool":
        return BYTE
    return {"float32": ir.FloatType(), "float64": ir.DoubleType()}.get(dtype) or ir.IntType(DTYPES[dtype].bitwidth)


def _slot(builder: Any, table: Any, slot: Any) -> Any:
    """The int64 in a slot of the argument table. It never changes while a kernel runs."""
    value = builder.load(builder.gep(builder.inttoptr(table, INT64.as_pointer()), [slot]))
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


@intrinsic
def extent(context: Any, args: Any, slot: Any) -> Any:
    """The integer in a slot of the argument table: a size or a stride."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _slot(builder, *arguments)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def address(context: Any, args: Any, slot: Any) -> Any:
    """The address in a slot of the argument table, as an integer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _slot(builder, *arguments)

    return types.int64(types.int64, types.int64), generate


def _pointer_function(dtype: str) -> Any:
    kind, storage = pointer_type(dtype), storage_type(dtype)

    def define(context: Any, args: Any, slot: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(_slot(builder, *arguments), storage.as_pointer())

        return kind(types.int64, types.int64), generate

    define.__name__ = define.__qualname__ = f"pointer_{dtype}"
    define.__doc__ = f"The address in a slot of the argument table, as a pointer to {dtype}."
    return intrinsic(define)


def _local_function(dtype: str) -> Any:
    kind, storage = pointer_type(dtype), storage_type(dtype)

    def define(context: Any, size: Any) -> Any:
        if not isinstance(size, types.IntegerLiteral):
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            with builder.goto_entry_block():
                array = builder.alloca(ir.ArrayType(storage, size.literal_value))
                array.align = STACK_ALIGNMENT
            return builder.bitcast(array, storage.as_pointer())

        return kind(size), generate

    define.__name__ = define.__qualname__ = f"local_{dtype}"
    define.__doc__ = f"An uninitialised array of {dtype} on the stack; its size is a literal."
    return intrinsic(prefer_literal=True)(define)


POINTERS = {dtype: _pointer_function(dtype) for dtype in DTYPES}
LOCALS = {dtype: _local_function(dtype) for dtype in DTYPES}


@intrinsic
def shift(context: Any, pointer: Any, count: Any) -> Any:
    """The pointer moved by `count` elements."""
    if not isinstance(pointer, types.CPointer):
        raise TypingError(f"shift: {pointer} is not a pointer")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, types.int64), generate


@intrinsic
def fail(context: Any, status: Any, check: Any, value: Any, size: Any) -> Any:
    """Report check number `check` with the offending value and the size it was held against.

    `status` is the address of the status block. The first report stays; whichever of two threads writes, the block
    ends up describing a check that failed.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        status, check, value, size = arguments
        block = builder.inttoptr(status, INT64.as_pointer())
        fresh = builder.icmp_unsigned("==", builder.load(block), ir.Constant(INT64, 0))
        with builder.if_then(fresh, likely=False):
            report = (builder.add(check, ir.Constant(INT64, 1)), value, size)
            for slot, entry in enumerate(report):
                builder.store(entry, builder.gep(block, [ir.Constant(INT64, slot)]))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate
