"""What Python's operators and casts mean in a kernel: Numba's rules for numbers, as LLVM instructions.

Beside another number integers, and bools among them, are widened to 64 bits and stay signed or unsigned; a float32
stays one among its own kind, and anything else with a float is float64. What mixes signs or would need a rule that no
kernel uses is `Beyond`.
Signed sums, differences and products must not overflow (they are indices; values have functions that wrap around),
divisions follow NumPy's error model.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

BIT, INT32, INT64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
FLOATS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}


class Beyond(Exception):
    """A kernel's text uses something that this front end does not know."""


@dataclass(frozen=True)
class Typed:
    """A value with its Numba type; `literal` is its number where the text states it."""

    kind: Any
    raw: Any
    literal: int | float | bool | None = None

    @property
    def argument_kind(self) -> Any:
        """The type that a function of the language sees: integer literals stay literal."""
        return types.literal(self.literal) if type(self.literal) is int and self.kind == types.int64 else self.kind


def constant(value: int | float | bool) -> Typed:
    if isinstance(value, bool):
        return Typed(types.boolean, ir.Constant(BIT, int(value)), value)
    if isinstance(value, int):
        if 2**63 <= value < 2**64:
            return Typed(types.uint64, ir.Constant(INT64, value), value)
        if not -2**63 <= value < 2**64:
            raise Beyond(f"the integer {value}")
        return Typed(types.int64, ir.Constant(INT64, value), value)
    return Typed(types.float64, ir.Constant(ir.DoubleType(), value), value)


def llvm_type(kind: Any) -> Any:
    """How a value of a Numba type is held in a register."""
    if kind == types.boolean:
        return BIT
    if isinstance(kind, types.Integer):
        return ir.IntType(kind.bitwidth)
    found = FLOATS.get(kind)
    if found is None:
        raise Beyond(f"a value of type {kind}")
    return found


def cast(builder: Any, value: Typed, kind: Any) -> Typed:
    """The value as another number type."""
    if value.kind == kind:
        return value
    target = llvm_type(kind)
    if kind in FLOATS and isinstance(value.literal, int | float):
        number = np.float32(value.literal) if kind == types.float32 else float(value.literal)
        return Typed(kind, ir.Constant(target, float(number)), float(number))
    return Typed(kind, convert(builder, value.raw, value.kind, kind), value.literal if kind == types.int64 else None)


def convert(builder: Any, raw: Any, source: Any, kind: Any) -> Any:
    """The instruction that takes a number from one type to another."""
    target = llvm_type(kind)
    if source == kind:
        return raw
    unsigned = source == types.boolean or (isinstance(source, types.Integer) and not source.signed)
    if kind == types.boolean:
        zero = ir.Constant(raw.type, 0)
        return builder.fcmp_unordered("!=", raw, zero) if source in FLOATS else builder.icmp_unsigned("!=", raw, zero)
    if source in FLOATS:
        if kind in FLOATS:
            return builder.fpext(raw, target) if kind == types.float64 else builder.fptrunc(raw, target)
        return builder.fptosi(raw, target) if kind.signed else builder.fptoui(raw, target)
    if kind in FLOATS:
        return builder.uitofp(raw, target) if unsigned else builder.sitofp(raw, target)
    if target.width <= raw.type.width:
        return builder.trunc(raw, target) if target.width < raw.type.width else raw
    return builder.zext(raw, target) if unsigned else builder.sext(raw, target)


def _is_integer(kind: Any) -> bool:
    return kind == types.boolean or isinstance(kind, types.Integer)


def _is_signed(kind: Any) -> bool:
    return kind == types.boolean or bool(kind.signed)


def common_kind(left: Any, right: Any) -> Any:
    """What two numbers are widened to before an operator."""
    if _is_integer(left) and _is_integer(right):
        if _is_signed(left) != _is_signed(right):
            raise Beyond(f"{left} with {right}")
        return types.int64 if _is_signed(left) else types.uint64
    if left == right and left in FLOATS:
        return left
    for one, other in ((left, right), (right, left)):
        if one == types.float64 and (_is_integer(other) or other in FLOATS):
            return one
        if one == types.float32 and isinstance(other, types.Integer) and other.signed and other.bitwidth >= 32:
            return types.float64
    raise Beyond(f"{left} with {right}")


Instruction = Callable[[Any, Any, Any], Any]


def _arithmetic(name: str) -> Callable[[Any, Typed, Typed], Typed]:
    def apply(builder: Any, left: Typed, right: Typed) -> Typed:
        kind = common_kind(left.kind, right.kind)
        a, b = cast(builder, left, kind).raw, cast(builder, right, kind).raw
        if kind in FLOATS:
            return Typed(kind, getattr(builder, f"f{name}")(a, b))
        return Typed(kind, getattr(builder, name)(a, b, flags=["nsw"] if kind.signed else []))

    return apply


def _divide(builder: Any, left: Typed, right: Typed) -> Typed:
    kind = common_kind(left.kind, right.kind)
    kind = kind if kind in FLOATS else types.float64
    return Typed(kind, builder.fdiv(cast(builder, left, kind).raw, cast(builder, right, kind).raw))


def _floor_parts(builder: Any, left: Typed, right: Typed) -> tuple[Any, Any, Any, Any]:
    """Quotient and remainder rounded towards zero, whether they have to be moved, and the divisor."""
    kind = common_kind(left.kind, right.kind)
    if kind != types.int64:
        raise Beyond(f"division of {left.kind} by {right.kind}")
    a, b = cast(builder, left, kind).raw, cast(builder, right, kind).raw
    zero = ir.Constant(INT64, 0)
    safe = b
    if not right.literal:     # by zero gives zero, as in NumPy
        safe = builder.select(builder.icmp_signed("==", b, zero), ir.Constant(INT64, 1), b)
    quotient, rest = builder.sdiv(a, safe), builder.srem(a, safe)
    apart = builder.icmp_signed("<", builder.xor(rest, safe), zero)
    return quotient, rest, builder.and_(builder.icmp_signed("!=", rest, zero), apart), b


def _floor_divide(builder: Any, left: Typed, right: Typed) -> Typed:
    quotient, _, moved, divisor = _floor_parts(builder, left, right)
    result = builder.sub(quotient, builder.zext(moved, INT64))
    return Typed(types.int64, result if right.literal else _nothing_by_zero(builder, result, divisor))


def _remainder(builder: Any, left: Typed, right: Typed) -> Typed:
    _, rest, moved, divisor = _floor_parts(builder, left, right)
    result = builder.select(moved, builder.add(rest, divisor), rest)
    return Typed(types.int64, result if right.literal else _nothing_by_zero(builder, result, divisor))


def _nothing_by_zero(builder: Any, result: Any, divisor: Any) -> Any:
    zero = ir.Constant(INT64, 0)
    return builder.select(builder.icmp_signed("==", divisor, zero), zero, result)


def _bits(name: str) -> Callable[[Any, Typed, Typed], Typed]:
    def apply(builder: Any, left: Typed, right: Typed) -> Typed:
        same = left.kind == right.kind == types.boolean
        kind = types.boolean if same else common_kind(left.kind, right.kind)
        if kind in FLOATS:
            raise Beyond(f"bits of {kind}")
        return Typed(kind, getattr(builder, name)(cast(builder, left, kind).raw, cast(builder, right, kind).raw))

    return apply


def _shift(name: str) -> Callable[[Any, Typed, Typed], Typed]:
    def apply(builder: Any, left: Typed, right: Typed) -> Typed:
        if common_kind(left.kind, right.kind) != types.int64 or not right.literal or not 0 < right.literal < 64:
            raise Beyond("a shift by what is no literal")
        return Typed(types.int64, getattr(builder, name)(cast(builder, left, types.int64).raw, right.raw))

    return apply


BINARY: dict[str, Callable[[Any, Typed, Typed], Typed]] = {
    "Add": _arithmetic("add"), "Sub": _arithmetic("sub"), "Mult": _arithmetic("mul"), "Div": _divide,
    "FloorDiv": _floor_divide, "Mod": _remainder, "BitAnd": _bits("and_"), "BitOr": _bits("or_"),
    "BitXor": _bits("xor"), "LShift": _shift("shl"), "RShift": _shift("ashr"),
}
"""Python's binary operators, by the name of their node."""

FOLDED = {"Add": operator.add, "Sub": operator.sub, "Mult": operator.mul}
COMPARISONS = {"Lt": "<", "LtE": "<=", "Gt": ">", "GtE": ">=", "Eq": "==", "NotEq": "!="}


def binary(builder: Any, name: str, left: Typed, right: Typed) -> Typed:
    """``left <operator> right``. Python itself folds integers that the text states, and so does this."""
    if type(left.literal) is int and type(right.literal) is int and name in FOLDED and _two_int64(left, right):
        return constant(FOLDED[name](left.literal, right.literal))
    if name not in BINARY:
        raise Beyond(f"the operator {name}")
    return BINARY[name](builder, left, right)


def _two_int64(left: Typed, right: Typed) -> bool:
    return bool(left.kind == types.int64 and right.kind == types.int64)


def compare(builder: Any, name: str, left: Typed, right: Typed) -> Typed:
    if name not in COMPARISONS:
        raise Beyond(f"the comparison {name}")
    kind, sign = _compared_kind(left, right), COMPARISONS[name]
    a, b = cast(builder, left, kind).raw, cast(builder, right, kind).raw
    if kind in FLOATS:
        method = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
    else:
        method = builder.icmp_signed if kind.signed else builder.icmp_unsigned
    return Typed(types.boolean, method(sign, a, b))


def _compared_kind(left: Typed, right: Typed) -> Any:
    """An unsigned number is compared with an integer that is plainly not negative as what it is."""
    for one, other in ((left, right), (right, left)):
        unsigned = isinstance(one.kind, types.Integer) and not one.kind.signed
        if unsigned and type(other.literal) is int and other.literal >= 0:
            return types.uint64
    return common_kind(left.kind, right.kind)


def invert(builder: Any, value: Typed) -> Typed:
    if not isinstance(value.kind, types.Integer):
        raise Beyond(f"~ of {value.kind}")
    return Typed(value.kind, builder.not_(value.raw))


def negate(builder: Any, value: Typed) -> Typed:
    if type(value.literal) in (int, float) and value.kind in (types.int64, types.float64):
        return constant(-value.literal)     # type: ignore[operator]
    if value.kind in FLOATS:
        return Typed(value.kind, builder.fsub(ir.Constant(value.raw.type, -0.0), value.raw))
    if isinstance(value.kind, types.Integer):     # not widened, like ~
        return Typed(value.kind, builder.neg(value.raw))
    raise Beyond(f"- of {value.kind}")


def smallest(builder: Any, values: list[Typed], sign: str) -> Typed:
    """Python's min ("<") or max (">") of integers."""
    result = values[0]
    for value in values[1:]:
        if common_kind(result.kind, value.kind) != types.int64:
            raise Beyond(f"min or max of {result.kind} and {value.kind}")
        a, b = cast(builder, result, types.int64).raw, cast(builder, value, types.int64).raw
        result = Typed(types.int64, builder.select(builder.icmp_signed(sign, a, b), a, b))
    return result
