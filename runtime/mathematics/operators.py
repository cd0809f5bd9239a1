"""Selection, accumulation, rounding and classification: what Python's operators do not give.

Every function takes operands of one type (integer literals adapt to it) and follows NumPy to the bit.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError

from .emit import Value, common, function, is_number, is_scalar, leaf, recorded, square_root, wrap
from .emit import absolute as float_size
from .emit import select as choose

INF = float("inf")

REASSOCIATE = ("reassoc", "contract")
"""What an accumulator may do so that its loop vectorises: change order, fuse multiply and add. nan and infinities keep
their meaning. Without "nsz" as well, which vectorising does not need: with it LLVM would look through the value that is
added, whatever its own flags, and make total + (x - x) the total, a nan lost."""


@recorded
def _accumulator(name: str, method: str, doc: str) -> Any:
    def body(total: Value, x: Value) -> Value:
        builder = total.builder
        if total.is_float:
            return total.of(getattr(builder, "f" + method)(total.raw, x.raw, flags=REASSOCIATE))
        return total.of(getattr(builder, method)(total.raw, x.raw))

    return function(name, body, 2, accepts=is_number, doc=doc)


def _resolve_select(condition: Any, x: Any, y: Any) -> Any:
    if types.unliteral(condition) != types.boolean:
        raise TypingError(f"select: the condition is {condition}, not a boolean")
    kind = common("select", x, y)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        chosen, other = (wrap(builder, kind, raw) for raw in arguments[1:])
        return choose(Value(builder, arguments[0]), chosen, other).raw

    return kind(types.boolean, kind, kind), generate


def absolute(x: Value) -> Value:
    """|x|; the smallest integer stays itself, as in NumPy"""
    if x.is_float:
        return float_size(x)
    return x if x.unsigned else choose(x < 0, -x, x)


def sign(x: Value) -> Value:
    """-1, 0 or 1; nan stays"""
    if x.unsigned:
        return choose(x > 0, 1, x)
    result = choose(x > 0, 1, choose(x < 0, -1, x.constant(0)))
    return choose(x.differs(x), x, result) if x.is_float else result


def square(x: Value) -> Value:
    """x * x"""
    return x * x


def reciprocal(x: Value) -> Value:
    """1 / x"""
    return 1.0 / x


def sqrt(x: Value) -> Value:
    """The square root, correctly rounded."""
    return square_root(x)


def copysign(x: Value, y: Value) -> Value:
    """|x| with the sign of y"""
    return x.call("llvm.copysign", y)


def fma(x: Value, y: Value, z: Value) -> Value:
    """x * y + z, rounded once"""
    return x.call("llvm.fma", y, z)


@recorded
def _rounding(name: str, intrinsic: str, doc: str) -> Any:
    def body(x: Value) -> Value:
        return x.call(f"llvm.{intrinsic}") if x.is_float else x

    return function(name, body, 1, accepts=is_scalar, doc=doc)


@recorded
def _classification(name: str) -> Any:
    def body(x: Value) -> Value:
        if not x.is_float:
            return Value(x.builder, ir.Constant(ir.IntType(1), name == "isfinite"))
        if name == "isnan":
            return x.differs(x)
        return float_size(x).equals(INF) if name == "isinf" else float_size(x) < INF

    return function(name, body, 1, accepts=is_scalar, result=types.boolean, doc=f"Whether x {name[2:]}.")


ROUNDING = {
    "floor": ("floor", "The largest integral value not above x."),
    "ceil": ("ceil", "The smallest integral value not below x."),
    "trunc": ("trunc", "x without its fraction."),
    "round": ("rint", "The nearest integral value, ties to even."),
    "round_half_even": ("rint", "The nearest integral value, ties to even."),
    "rint": ("rint", "The nearest integral value, ties to even."),
}

FUNCTIONS = {
    "accumulate": _accumulator("accumulate", "add", "total + x in an order that the compiler may choose."),
    "accumulate_product": _accumulator("accumulate_product", "mul", "total * x in an order the compiler may choose."),
    "select": leaf("select", _resolve_select, 3, "x where the condition holds, otherwise y; both are computed."),
    "absolute": function("absolute", absolute, 1, accepts=is_scalar),
    "sign": function("sign", sign, 1, accepts=is_number),
    "square": function("square", square, 1, accepts=is_number),
    **{body.__name__: function(body.__name__, body, 1) for body in (reciprocal, sqrt)},
    "copysign": function("copysign", copysign, 2),
    "fma": function("fma", fma, 3),
    **{name: _rounding(name, *row) for name, row in ROUNDING.items()},
    **{name: _classification(name) for name in ("isnan", "isinf", "isfinite")},
}
