"""Rules of arithmetic that save work and keep every bit (`exact`), or are as accurate as a correctly rounded power.

What is deliberately not here, because it changes values: ``x * 0`` (inf, nan and -0.0), ``x + 0.0`` unless x is known
not to be -0.0 (``-0.0 + 0.0`` is 0.0; ``x - 0.0`` and ``x + -0.0`` do keep x), ``x ** 0.5`` as sqrt unless x is known
to be neither negative nor -0.0 (``(-0.0) ** 0.5`` is 0.0 and ``(-inf) ** 0.5`` is inf), ``x - x``, ``x / x``, any
change of the order of sums and products, and ``-(a - b)`` as ``b - a`` (zeros). A nan may lose its sign and payload.

Constants are folded in NumPy's arithmetic, so that results may differ from a kernel's in the last place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import StaticGraphError
from ..interpreter import evaluate
from ..op import as_tensor, registry
from ..ops.elementwise import astype
from ..tensor import Tensor
from .pattern import Match, any_of_kind, either, number, ops, rule, var

a, b, c, n, x, y = var("a"), var("b"), var("c"), number("n"), var("x"), var("y")
p: Any = ops

FOLD_LIMIT = 4096
"""Elements of a constant that a rule may make."""

NONNEGATIVE = frozenset({"exp", "exp2", "abs", "square", "sigmoid", "softplus", "cosh", "erfc", "hypot"})
CLOSED = frozenset({"add", "multiply", "divide", "maximum", "minimum", "sum", "max", "min", "reshape", "broadcast_to",
                    "permute_dims", "slice", "sqrt", "reciprocal"})
DEPTH = 6


def nonnegative(node: Tensor, depth: int = DEPTH) -> bool:
    """Known to be neither negative nor -0.0 (nan counts as either), looking a few nodes down."""
    if node.op.name == "constant":
        value = node.attrs["value"]
        return bool(value.size <= FOLD_LIMIT and not np.signbit(value.astype(np.float64)).any())
    if node.op.name in NONNEGATIVE or (node.op.name == "multiply" and node.inputs[0] is node.inputs[1]):
        return True
    if node.op.name == "astype":
        source = node.inputs[0].dtype.kind
        return source in "bu" or (source == "f" and depth > 0 and nonnegative(node.inputs[0], depth - 1))
    return node.op.name in CLOSED and depth > 0 and all(nonnegative(each, depth - 1) for each in node.inputs)


def is_float(found: Match) -> bool:
    return bool(found.nodes[0].dtype.kind == "f")


def is_integer(found: Match) -> bool:
    return bool(found.nodes[0].dtype.kind in "iu")


def is_signed(found: Match) -> bool:
    return bool(found.nodes[0].dtype.kind in "if")


def is_number(found: Match) -> bool:
    return bool(found.nodes[0].dtype.kind != "b")


def x_nonnegative(found: Match) -> bool:
    return is_float(found) and nonnegative(found.bound["x"])


def to_product(found: Match) -> Tensor | None:
    """``x / n`` by the reciprocal of a power of two, which is a float itself."""
    value = found.bound["n"]
    fraction, _ = np.frexp(value)
    with np.errstate(all="ignore"):
        inverse = value.dtype.type(1) / value
    tiny = np.finfo(value.dtype).tiny
    if abs(fraction) != 0.5 or not (np.isfinite(inverse) and abs(inverse) >= tiny and abs(value) >= tiny):
        return None
    return registry["multiply"](found.bound["x"], as_tensor(inverse))


NEUTRAL = (
    rule("times-one", x * 1, x, why="1 is neutral", exact=True),
    rule("divide-by-one", either(x / 1, p.pow(x, 1)), x, why="1 is neutral", exact=True),
    rule("plus-zero", either(x + -0.0, x - 0.0), x, where=is_float, why="this zero is neutral", exact=True),
    rule("plus-positive-zero", x + 0.0, x, where=x_nonnegative, why="x is not -0.0", exact=True),
    rule("integer-plus-zero", either(x + 0, x - 0), x, where=is_integer, why="0 is neutral", exact=True),
    rule("integer-times-zero", x * 0, 0, where=is_integer, why="integers have no nan", exact=True),
    rule("integer-difference", x - x, 0, where=is_integer, why="integers have no nan", exact=True),
    rule("power-zero", p.pow(x, 0), 1, why="also for nan", exact=True),
)


def is_negative_float(found: Match) -> bool:
    value = found.bound["n"]
    return bool(value.dtype.kind == "f" and np.signbit(value))


# One spelling of each difference, also before differentiation: the stability rules are written for it.
SPELLING = (
    rule("negate-twice", p.negative(p.negative(x)), x, why="-(-x) is x", exact=True),
    rule("add-negative", a + -b, a - b, why="one operation", exact=True),
    rule("add-negative-number", x + n, lambda found: found.bound["x"] - -found.bound["n"], where=is_negative_float,
         why="one spelling", exact=True),
)

SIGNS = (
    *SPELLING,
    rule("times-minus-one", either(x * -1, x / -1), -x, where=is_number, why="negation is cheaper", exact=True),
    rule("subtract-negative", a - (-b), a + b, why="one operation", exact=True),
    rule("product-of-negatives", -a * -b, a * b, why="signs cancel", exact=True),
    rule("quotient-of-negatives", -a / -b, a / b, why="signs cancel", exact=True),
    rule("sign-lost", either(p.abs(-x), p.abs(p.abs(x))), p.abs(x), where=is_signed, why="abs drops the sign",
         exact=True),
    rule("square-of-negative", either(p.square(-x), p.square(p.abs(x))), p.square(x), why="square drops the sign",
         exact=True),
    rule("abs-of-nonnegative", p.abs(x), x, where=x_nonnegative, why="x has no sign", exact=True),
)

POWERS = (
    rule("self-product", x * x, p.square(x), where=is_number, why="one spelling", exact=True),
    rule("divide-by-power-of-two", x / n, to_product, why="a product is faster", exact=True),
    rule("one-divided", 1 / x, p.reciprocal(x), why="one spelling", exact=True),
    rule("power-two", p.pow(x, 2), p.square(x), why="a product is faster"),
    rule("power-three", p.pow(x, 3), x * p.square(x), why="products are faster"),
    rule("power-four", p.pow(x, 4), p.square(p.square(x)), why="products are faster"),
    rule("power-minus-one", p.pow(x, -1), p.reciprocal(x), where=is_float, why="a quotient is faster"),
    rule("power-minus-two", p.pow(x, -2), p.square(p.reciprocal(x)), where=is_float, why="products are faster"),
    rule("power-half", p.pow(x, 0.5), p.sqrt(x), where=x_nonnegative, why="sqrt is faster, and correctly rounded"),
    rule("power-minus-half", p.pow(x, -0.5), p.reciprocal(p.sqrt(x)), where=x_nonnegative, why="sqrt is faster"),
)


LOGIC = (
    rule("choose-same", p.where(c, x, x), x, why="nothing to choose", exact=True),
    rule("choose-first", p.where(True, x, y), x, why="the condition is known", exact=True),
    rule("choose-second", p.where(False, x, y), y, why="the condition is known", exact=True),
    rule("choose-by-not", p.where(p.logical_not(c), x, y), p.where(c, y, x), why="one operation less", exact=True),
    rule("choose-first-again", p.where(c, p.where(c, a, b), y), p.where(c, a, y), why="decided already", exact=True),
    rule("choose-second-again", p.where(c, x, p.where(c, a, b)), p.where(c, x, b), why="decided already", exact=True),
    rule("not-not", p.logical_not(p.logical_not(x)), x, why="it cancels", exact=True),
    rule("same-operands", either(p.maximum(x, x), p.minimum(x, x), p.logical_and(x, x), p.logical_or(x, x),
                                 p.bitwise_and(x, x), p.bitwise_or(x, x)), x, why="one is enough", exact=True),
    rule("and-true", either(p.logical_and(x, True), p.logical_or(x, False)), x, why="neutral", exact=True),
    rule("and-false", p.logical_and(x, False), False, why="decided already", exact=True),
    rule("or-true", p.logical_or(x, True), True, why="decided already", exact=True),
)


def same_dtype(found: Match) -> bool:
    return bool(found.nodes[0].dtype == found.bound["x"].dtype)


def lossless(old: np.dtype[Any], new: np.dtype[Any]) -> bool:
    """Every value survives; NumPy's "safe" also lets 64-bit integers become float64."""
    return bool(np.can_cast(old, new, "safe") and not (old.kind in "iu" and old.itemsize == 8 and new.kind == "f"))


def cast_once(found: Match) -> Tensor | None:
    """A lossless cast on the way changes nothing; floats to integers keep their way (out of range is undefined)."""
    source: Tensor = found.bound["x"]
    target = found.nodes[0].dtype
    if not lossless(source.dtype, found.nodes[1].dtype) or (source.dtype.kind == "f" and target.kind in "iu"):
        return None
    return astype(source, target)


CASTS = (
    rule("cast-same", p.astype(x), x, where=same_dtype, why="nothing changes", exact=True),
    rule("cast-twice", p.astype(p.astype(x)), cast_once, why="the first cast loses nothing", exact=True),
    rule("stop-gradient", p.stop_gradient(x), x, why="only derivatives look at it", exact=True),
)


def fold(found: Match) -> Tensor | None:
    """The value of an op on constants; None where it is large, or raises: then the call reports it."""
    node = found.nodes[0]
    if not node.inputs or any(each.op.name != "constant" for each in node.inputs) or not node.op.interned:
        return None
    if node.op.name == "broadcast_to" or not isinstance(node.size, int) or node.size > FOLD_LIMIT:
        return None
    try:
        return as_tensor(evaluate(node))
    except (StaticGraphError, KeyError):
        return None


FOLDING = (
    rule("fold", any_of_kind("elementwise", "reduction", "view", "gather", "scatter", "concat", "pad", "fold", "scan",
                             "sort", "contraction"), fold, why="known before the call"),
)

RULES = (*NEUTRAL, *SIGNS, *POWERS, *LOGIC, *CASTS, *FOLDING)
