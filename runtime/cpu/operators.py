"""Selection, extremes, accumulation and rounding: the small operations that Python's operators do not give."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core.errors import TypingError

from .emit import Value, common, function, is_scalar, leaf, wrap
from .emit import select as choose

REASSOCIATE = ("reassoc", "nsz", "contract")
"""What an accumulator may do so that its loop vectorises: change order, lose the sign of zero, fuse multiply and add.
nan and infinities keep their meaning."""


def _accumulator(name: str, method: str, doc: str) -> Any:
    def body(total: Value, x: Value) -> Value:
        builder = total.builder
        if total.is_float:
            return total.of(getattr(builder, "f" + method)(total.raw, x.raw, flags=REASSOCIATE))
        return total.of(getattr(builder, method)(total.raw, x.raw))

    return function(name, body, 2, accepts=lambda kind: is_scalar(kind) and kind != types.boolean, doc=doc)


accumulate = _accumulator("accumulate", "add", "total + x in an order that the compiler may choose.")
accumulate_product = _accumulator("accumulate_product", "mul", "total * x in an order that the compiler may choose.")


def _extreme(name: str) -> Any:
    """nan wins, and -0 < +0, on floats (llvm.maximum: one instruction sequence that reductions know); or/and on bools."""
    short = name[:3]

    def body(x: Value, y: Value) -> Value:
        if x.is_float:
            return x.call(f"llvm.{name}", y)
        if x.bits == 1:
            return x | y if short == "max" else x & y
        return x.call(f"llvm.{'u' if x.unsigned else 's'}{short}", y)

    return function(name, body, 2, accepts=is_scalar, doc=f"The {name} of two numbers; nan if either is nan.")


maximum = _extreme("maximum")
minimum = _extreme("minimum")


def _resolve_select(condition: Any, x: Any, y: Any) -> Any:
    if types.unliteral(condition) != types.boolean:
        raise TypingError(f"select: the condition is {condition}, not a boolean")
    kind = common("select", x, y)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        chosen, other = (wrap(builder, kind, raw) for raw in arguments[1:])
        return choose(Value(builder, arguments[0]), chosen, other).raw

    return kind(types.boolean, kind, kind), generate


select = leaf("select", _resolve_select, 3, "x where the condition holds, otherwise y; both are computed.")


FUNCTIONS = {
    "accumulate": accumulate, "accumulate_product": accumulate_product, "maximum": maximum, "minimum": minimum,
    "select": select,
}
