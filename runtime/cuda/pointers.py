"""Memory as CUDA kernels see it: typed pointers into global memory, arrays in shared memory, vector accesses.

A pointer is made from an int64 address and lives in its LLVM address space, 1 for global and 3 for shared memory, so
that every access is a plain ``ld.global`` or ``st.shared``, never one that has to find out where it points. Indexing
loads and stores without bounds checks; indices are signed.

`input_<dtype>` promises that nothing writes to the buffer while the kernel runs: its loads carry invariant.load, which
becomes ``ld.global.nc`` and lets them move freely. `load2` ... `store16` are one access of at most 16 bytes each, whose
first index times the size of an element is a multiple of their width.

A bool is one byte: loading reads any nonzero byte as True, storing writes exactly 0 or 1.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core.errors import TypingError
from numba.cuda import types
from numba.cuda.extending import core_models as models
from numba.cuda.extending import lower_builtin, register_model

from ..mathematics.emit import leaf

GLOBAL = 1
SHARED = 3
VECTOR_BYTES = 16
WORD_BITS = 32
WIDTHS = (2, 4, 8, 16)

BYTE = ir.IntType(8)
WORD = ir.IntType(WORD_BITS)
INT64 = ir.IntType(64)

DTYPES = {
    "bool": types.boolean, "float32": types.float32, "float64": types.float64,
    **{f"{sign}int{bits}": getattr(types, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class DevicePointer(types.CPointer):  # type: ignore[misc]
    """A pointer into one address space; `invariant` where nothing writes to what it points at."""

    def __init__(self, dtype: Any, space: int, invariant: bool = False) -> None:
        super().__init__(dtype)
        self.space, self.invariant = space, invariant
        self.name = f"{dtype}*{space}{'i' if invariant else ''}"

    @property
    def key(self) -> tuple[Any, int, bool]:
        return self.dtype, self.space, self.invariant


@register_model(DevicePointer)
class DevicePointerModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: DevicePointer) -> None:
        super().__init__(manager, kind, ir.PointerType(storage_type(kind.dtype), addrspace=kind.space))


def storage_type(kind: Any) -> Any:
    """How one element lies in memory, as an LLVM type."""
    if kind == types.boolean:
        return BYTE
    return {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}.get(kind) or ir.IntType(kind.bitwidth)


def _from_storage(builder: Any, kind: Any, stored: Any) -> Any:
    return builder.icmp_unsigned("!=", stored, ir.Constant(BYTE, 0)) if kind == types.boolean else stored


def _to_storage(builder: Any, kind: Any, value: Any) -> Any:
    return builder.zext(value, BYTE) if kind == types.boolean else value


def _load(builder: Any, pointer: DevicePointer, place: Any, alignment: int) -> Any:
    value = builder.load(place, align=alignment)
    if pointer.invariant:
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


def _place(builder: Any, pointer: Any, index: Any) -> Any:
    return builder.gep(pointer, [index], inbounds=True)


@lower_builtin(operator.getitem, DevicePointer, types.Integer)
def _getitem(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    pointer = signature.args[0]
    value = _load(builder, pointer, _place(builder, *arguments), item_bytes(pointer.dtype))
    return _from_storage(builder, pointer.dtype, value)


@lower_builtin(operator.setitem, DevicePointer, types.Integer, types.Any)
def _setitem(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
    pointer, index, value = arguments
    kind = signature.args[0]
    if kind.invariant:
        raise TypingError(f"a store to {kind}, which is an input")
    value = _to_storage(builder, kind.dtype, context.cast(builder, value, signature.args[2], kind.dtype))
    builder.store(value, _place(builder, pointer, index), align=item_bytes(kind.dtype))


def item_bytes(kind: Any) -> int:
    return 1 if kind == types.boolean else int(kind.bitwidth) // 8


def _pointer_function(prefix: str, dtype: str) -> Any:
    kind = DevicePointer(DTYPES[dtype], GLOBAL, invariant=prefix == "input")

    def resolve(address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(kind))

        return kind(types.int64), generate

    nature = "that nothing writes to while the kernel runs" if kind.invariant else "in global memory"
    return leaf(f"{prefix}_{dtype}", resolve, 1, f"The address as a pointer to {dtype} {nature}.")


def _shared_function(dtype: str) -> Any:
    kind = DevicePointer(DTYPES[dtype], SHARED)

    def resolve(size: Any) -> Any:
        if not isinstance(size, types.IntegerLiteral) or size.literal_value < 1:
            raise TypingError(f"shared_{dtype}: the size is {size}, not a literal above 0")

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            module = builder.module
            array_type = ir.ArrayType(storage_type(kind.dtype), size.literal_value)
            array = ir.GlobalVariable(module, array_type, module.get_unique_name("_shared"), addrspace=SHARED)
            array.linkage, array.align = "internal", VECTOR_BYTES
            array.initializer = ir.Constant(array_type, ir.Undefined)
            return builder.bitcast(array, context.get_value_type(kind))

        return kind(size), generate

    return leaf(f"shared_{dtype}", resolve, 1,
                f"An uninitialised array of {dtype} that the block's threads share; its size is a literal.")


def _vector_type(kind: Any, count: int) -> Any:
    """What one access of `count` elements is to LLVM: the elements from 32 bits on; smaller ones come packed into one
    integer, or into as many 32-bit words as they fill, because NVVM would take vectors of them apart."""
    bits = 8 * item_bytes(kind)
    if bits >= WORD_BITS:
        return ir.VectorType(storage_type(kind), count)
    words, rest = divmod(bits * count, WORD_BITS)
    return ir.IntType(bits * count) if rest or words == 1 else ir.VectorType(WORD, words)


def _vector_place(builder: Any, pointer: DevicePointer, raw: Any, index: Any, count: int) -> Any:
    vector = ir.PointerType(_vector_type(pointer.dtype, count), addrspace=pointer.space)
    return builder.bitcast(_place(builder, raw, index), vector)


def _unpack(builder: Any, kind: Any, vector: Any, count: int) -> list[Any]:
    """The elements of one access."""
    bits = 8 * item_bytes(kind)
    if bits >= WORD_BITS:
        return [builder.extract_element(vector, WORD(lane)) for lane in range(count)]
    storage, elements = storage_type(kind), []
    for lane in range(count):
        word, place = vector, lane * bits
        if isinstance(vector.type, ir.VectorType):
            word, place = builder.extract_element(vector, WORD(place // WORD_BITS)), place % WORD_BITS
        element = builder.trunc(builder.lshr(word, word.type(place)) if place else word, storage)
        elements.append(_from_storage(builder, kind, element))
    return elements


def _pack(builder: Any, kind: Any, values: Any) -> Any:
    """The elements as what one access stores."""
    bits, vector_type = 8 * item_bytes(kind), _vector_type(kind, len(values))
    if bits < WORD_BITS:
        values = _words(builder, kind, values, vector_type)
        if not isinstance(vector_type, ir.VectorType):
            return values[0]
    vector = ir.Constant(vector_type, ir.Undefined)
    for lane, value in enumerate(values):
        vector = builder.insert_element(vector, value, WORD(lane))
    return vector


def _words(builder: Any, kind: Any, values: Any, vector_type: Any) -> list[Any]:
    """Small elements packed into words."""
    word = vector_type.element if isinstance(vector_type, ir.VectorType) else vector_type
    bits = 8 * item_bytes(kind)
    count, words = word.width // bits, []
    for start in range(0, len(values), count):
        packed = word(0)
        for lane, value in enumerate(values[start:start + count]):
            packed = builder.or_(packed, builder.shl(builder.zext(value, word), word(lane * bits)))
        words.append(packed)
    return words


def _vector_pointer(name: str, pointer: Any, count: int) -> Any:
    if not isinstance(pointer, DevicePointer):
        raise TypingError(f"{name}: {pointer} is not a pointer")
    if count * item_bytes(pointer.dtype) > VECTOR_BYTES:
        raise TypingError(f"{name}: {count} elements of {pointer.dtype} are more than {VECTOR_BYTES} bytes")
    return pointer


def _load_function(count: int) -> Any:
    name = f"load{count}"

    def resolve(pointer: Any, index: Any) -> Any:
        kind = _vector_pointer(name, pointer, count)
        result = types.UniTuple(kind.dtype, count)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = _vector_place(builder, kind, arguments[0], arguments[1], count)
            vector = _load(builder, kind, place, count * item_bytes(kind.dtype))
            return context.make_tuple(builder, result, _unpack(builder, kind.dtype, vector, count))

        return result(kind, types.int64), generate

    return leaf(name, resolve, 2, f"Elements i ... i + {count - 1} of a pointer as a tuple, by one access.")


def _store_function(count: int) -> Any:
    name = f"store{count}"

    def resolve(pointer: Any, index: Any, *values: Any) -> Any:
        kind = _vector_pointer(name, pointer, count)
        if kind.invariant:
            raise TypingError(f"{name}: a store to {kind}, which is an input")

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer, index, *elements = arguments
            place = _vector_place(builder, kind, pointer, index, count)
            builder.store(_pack(builder, kind.dtype, elements), place, align=count * item_bytes(kind.dtype))
            return context.get_dummy_value()

        return types.void(kind, types.int64, *[kind.dtype] * count), generate

    return leaf(name, resolve, count + 2, f"Store {count} values as elements i ... of a pointer, by one access.")


FUNCTIONS = {
    **{f"{prefix}_{dtype}": _pointer_function(prefix, dtype) for prefix in ("pointer", "input") for dtype in DTYPES},
    **{f"shared_{dtype}": _shared_function(dtype) for dtype in DTYPES},
    **{f"load{count}": _load_function(count) for count in WIDTHS},
    **{f"store{count}": _store_function(count) for count in WIDTHS},
}
