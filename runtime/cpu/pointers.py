"""Memory as kernels see it: typed pointers out of the argument table, arrays on the stack, the status block.

The argument table is a row of int64 slots at the address that a kernel gets as its first argument. A pointer is
Numba's `CPointer`: indexing it loads and stores without bounds checks, and index arithmetic stays in signed int64. A
bool is one byte in memory: loading reads any nonzero byte as True, storing writes exactly 0 or 1.
"""

from __future__ import annotations

import operator
from typing import Any
from weakref import WeakKeyDictionary

from llvmlite import ir
from numba import types
from numba.core.datamodel.models import PointerModel
from numba.core.errors import TypingError
from numba.core.typeconv import Conversion
from numba.extending import intrinsic, lower_builtin, lower_cast, register_model

from ..mathematics.emit import recorded

INT64 = ir.IntType(64)
BYTE = ir.IntType(8)

STACK_ALIGNMENT = 64

DTYPES = {
    "bool": types.boolean, "float32": types.float32, "float64": types.float64,
    **{f"{sign}int{bits}": getattr(types, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class KernelPointer(types.CPointer):  # type: ignore[misc]
    """A pointer out of a slot of the argument table.

    Loads and stores carry scoped alias metadata (LLVM's ScopedNoAliasAA): slots do not overlap, except for a pointer
    with itself. The compiler keeps that promise: one slot a place in memory, also where a kernel updates in place. So
    loops need no overlap tests at run time, which LLVM gives up on, and with them on vectors, beyond a few pointers.
    """

    def __init__(self, dtype: Any, slot: int) -> None:
        super().__init__(dtype)
        self.slot = slot
        self.name = f"{dtype}*{slot}"

    @property
    def key(self) -> tuple[Any, int]:
        return self.dtype, self.slot

    def unify(self, context: Any, other: Any) -> Any:
        """A variable that holds one slot's pointer or another's could point anywhere."""
        if isinstance(other, KernelPointer) and other.dtype == self.dtype:
            return KernelPointer(self.dtype, LOCAL)
        return None

    def can_convert_to(self, context: Any, other: Any) -> Any:
        same = isinstance(other, KernelPointer) and other.dtype == self.dtype and other.slot == LOCAL
        return Conversion.safe if same else None


register_model(KernelPointer)(PointerModel)


@lower_cast(KernelPointer, KernelPointer)
def _forget_slot(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return value


LOCAL = -1
"""The slot of arrays on the stack, and of pointers that may be one or another: their accesses are not marked."""


@lower_builtin(operator.getitem, KernelPointer, types.Integer)
def load_element(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    pointer, index = arguments
    value = builder.load(builder.gep(pointer, [index]))
    _mark(builder, value, signature.args[0])
    return builder.icmp_unsigned("!=", value, ir.Constant(BYTE, 0)) if signature.return_type == types.boolean else value


@lower_builtin(operator.setitem, KernelPointer, types.Integer, types.Any)
def store_element(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
    pointer, index, value = arguments
    dtype = signature.args[0].dtype
    value = context.cast(builder, value, signature.args[2], dtype)
    if dtype == types.boolean:
        value = builder.zext(value, BYTE)
    _mark(builder, builder.store(value, builder.gep(pointer, [index])), signature.args[0])


SCOPES = 64
"""Slots that are told apart; further ones are left to LLVM's overlap tests."""


_marks: WeakKeyDictionary[Any, tuple[list[Any], dict[int, tuple[Any, Any]]]] = WeakKeyDictionary()
"""The scopes of each module in the making, and the metadata of each slot."""


def _mark(builder: Any, instruction: Any, pointer: KernelPointer) -> None:
    """Attach: this access belongs to its slot's scope and overlaps no other slot's."""
    if not 0 <= pointer.slot < SCOPES:
        return
    module = builder.module
    if module not in _marks:
        domain = module.add_metadata(["staticgraph kernel arguments"])
        _marks[module] = [module.add_metadata([f"slot {slot}", domain]) for slot in range(SCOPES)], {}
    scopes, known = _marks[module]
    if pointer.slot not in known:
        others = [scope for slot, scope in enumerate(scopes) if slot != pointer.slot]
        known[pointer.slot] = module.add_metadata([scopes[pointer.slot]]), module.add_metadata(others)
    scope, others = known[pointer.slot]
    instruction.set_metadata("alias.scope", scope)
    instruction.set_metadata("noalias", others)


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


@recorded
def _pointer_function(dtype: str) -> Any:
    storage = storage_type(dtype)

    def define(context: Any, args: Any, slot: Any) -> Any:
        number = slot.literal_value if isinstance(slot, types.IntegerLiteral) else LOCAL

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(_slot(builder, *arguments), storage.as_pointer())

        return KernelPointer(DTYPES[dtype], number)(types.int64, slot), generate

    define.__name__ = define.__qualname__ = f"pointer_{dtype}"
    define.__doc__ = f"The address in a slot of the argument table, as a pointer to {dtype}."
    return intrinsic(prefer_literal=True)(define)


@recorded
def _local_function(dtype: str) -> Any:
    kind, storage = KernelPointer(DTYPES[dtype], LOCAL), storage_type(dtype)

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


@intrinsic
def opaque(context: Any, value: Any) -> Any:
    """The integer, as one that the compiler does not know."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.asm(ir.FunctionType(INT64, [INT64]), "", "=r,0", arguments, False)

    return types.int64(types.int64), generate


@intrinsic
def prefetch(context: Any, pointer: Any, index: Any) -> Any:
    """Start to bring the line of memory that holds an element into the cache; where there is none, nothing happens."""
    if not isinstance(pointer, types.CPointer):
        raise TypingError(f"prefetch: {pointer} is not a pointer")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, anything = ir.IntType(32), BYTE.as_pointer()
        place = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), anything)
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(ir.VoidType(), [anything, word, word, word]), name)
        builder.call(function, [place, word(0), word(3), word(1)])     # to read; into all caches; data
        return context.get_dummy_value()

    return types.void(pointer, types.int64), generate
