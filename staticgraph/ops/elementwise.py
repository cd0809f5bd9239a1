"""Elementwise ops: one declaration each, with the meaning in NumPy, the kernel formula and the gradient.

Level: tensor graph. Operands arrive with equal shapes and the dtype that `operands` asks for; a declaration only says
what happens to one element. Formulas are in the kernel language; a result narrower than the formula's is cast back by
the renderer, where casting to bool means ``!= 0``.

Decisions. Integers and bools in a float function become float64. Where two operands tie, maximum and minimum share the
gradient half and half; relu'(0) = abs'(0) = 0. A choice (`where`) hands the gradient only to the branch that was
taken. Step functions (floor, round, sign ...) are connected with gradient zero; comparisons and logic disconnect.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import OutOfRangeError, index_message
from ..op import Inference, Op, as_tensor, elementwise, floating, predicate, primitive
from ..tensor import Tensor
from ..types import Size, TensorType, as_dtype
from .leaf import constant_scalar, zeros_like

__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "asin", "asinh", "astype", "atan", "atan2", "atanh", "bitwise_and",
    "bitwise_invert", "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clip",
    "copysign", "cos", "cosh", "divide", "equal", "erf", "erfc", "exp", "exp2", "expm1", "floor", "floor_divide",
    "greater", "greater_equal", "hypot", "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log10", "log1p",
    "log2", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply",
    "negative", "not_equal", "positive", "pow", "power", "reciprocal", "relu", "remainder", "round", "sigmoid", "sign",
    "signbit", "sin", "sinh", "softplus", "sqrt", "square", "stop_gradient", "subtract", "tan", "tanh", "true_divide",
    "trunc", "where",
]

# Points at which gradients are checked: away from kinks and inside of every domain.
_ANY = np.array([[-1.7, -0.6, 0.3], [0.9, 1.4, 2.6]])
_OTHER = np.array([[0.9, -1.2, 2.1], [-0.4, 1.1, -2.3]])
_POSITIVE = np.array([[0.2, 0.7, 1.1], [1.9, 3.2, 5.5]])
_UNIT = np.array([[-0.8, -0.5, -0.1], [0.2, 0.6, 0.9]])
_ABOVE_ONE = _POSITIVE + 1.0
_MASK = np.array([[True, False, True], [False, False, True]])
_one_any: tuple[Any, ...] = (((_ANY,), {}),)
_one_positive: tuple[Any, ...] = (((_POSITIVE,), {}),)
_one_unit: tuple[Any, ...] = (((_UNIT,), {}),)
_two_any: tuple[Any, ...] = (((_ANY, _OTHER), {}),)


def _arithmetic(context: Inference, *types: TensorType, **attrs: Any) -> TensorType:
    if types[0].dtype.kind == "b":
        raise context.dtype_error("is not defined for bools", "use logical_not, logical_xor, or astype first")
    return elementwise(context, *types)


def _no_step(ct: Tensor, y: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradient of a piecewise constant function: connected, and zero."""
    return tuple(zeros_like(ct) for _ in inputs)


# Arithmetic.

add = primitive("add", doc="Elementwise sum.", infer=elementwise, operands="promote", ref=np.add, scalar="{0} + {1}",
                vjp=lambda ct, y, a, b: (ct, ct), examples=_two_any)
subtract = primitive("subtract", doc="Elementwise difference.", infer=_arithmetic, operands="promote",
                     ref=np.subtract, scalar="{0} - {1}", vjp=lambda ct, y, a, b: (ct, -ct), examples=_two_any)
multiply = primitive("multiply", doc="Elementwise product.", infer=elementwise, operands="promote", ref=np.multiply,
                     scalar="{0} * {1}", vjp=lambda ct, y, a, b: (ct * b, ct * a), examples=_two_any)
divide = primitive("divide", doc="Elementwise quotient; integers give float64.", infer=floating, operands="float",
                   ref=np.divide, scalar="{0} / {1}", vjp=lambda ct, y, a, b: (ct / b, -(ct * y) / b),
                   examples=_two_any)
floor_divide = primitive("floor_divide", doc="The quotient rounded down.", infer=elementwise, operands="number",
                         ref=np.floor_divide, scalar="floor_divide({0}, {1})", vjp=_no_step, examples=_two_any)
remainder = primitive("remainder", doc="The remainder of floor_divide; it has the sign of the divisor.",
                      infer=elementwise, operands="number", ref=np.remainder, scalar="remainder({0}, {1})",
                      vjp=lambda ct, y, a, b: (ct, -(ct * floor_divide(a, b))), examples=_two_any)
negative = primitive("negative", doc="Elementwise -x.", infer=_arithmetic, operands="promote", ref=np.negative,
                     scalar="-{0}", vjp=lambda ct, y, x: (-ct,), examples=_one_any)
abs = primitive("abs", doc="Absolute value; the gradient at 0 is 0.", infer=elementwise, operands="promote",
                ref=np.abs, scalar="absolute({0})", vjp=lambda ct, y, x: (ct * sign(x),), examples=_one_any)
sign: Op = primitive("sign", doc="-1, 0 or 1; nan stays nan.", infer=_arithmetic, operands="promote", ref=np.sign,
                 scalar="sign({0})", vjp=_no_step, examples=_one_any)
square = primitive("square", doc="Elementwise x*x.", infer=elementwise, operands="number", ref=np.square,
                   scalar="square({0})", vjp=lambda ct, y, x: (ct * (2 * x),), examples=_one_any)
_reciprocal = primitive("reciprocal", doc="Elementwise 1/x.", infer=floating, ref=np.reciprocal,
                        scalar="reciprocal({0})", vjp=lambda ct, y, x: (-(ct * y * y),), examples=_one_any)


def reciprocal(x: Any) -> Tensor:
    """1/x; of an integer its integer part, as in NumPy, with 0 for 0 as integer division has it."""
    x = as_tensor(x)
    if x.dtype.kind == "f":
        return _reciprocal(x)
    x = astype(x, np.int8) if x.dtype.kind == "b" else x
    return where(abs(x) == 1, x, 0)


def _pow_vjp(ct: Tensor, y: Tensor, x: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
    # 0 * inf must not leak: x**0 is the constant 1, and 0**b is the constant 0 around every b > 0.
    known = constant_scalar(exponent)
    if known is None:
        constant = exponent == 0
        slope = where(constant, 0, exponent * pow(x, where(constant, 1, exponent - 1)))
    else:
        slope = zeros_like(x) if known == 0 else known * (x if known == 2 else pow(x, known - 1))
    log_x = log(where(logical_and(x == 0, exponent >= 0), 1, x))
    return ct * slope, ct * y * log_x


def _power(context: Inference, base: TensorType, exponent: TensorType) -> TensorType:
    known = constant_scalar(context.inputs[1])
    if base.dtype.kind in "iu" and known is not None and known < 0:
        raise context.dtype_error("integers have no negative integer powers", "use astype for a power of floats")
    return elementwise(context, base, exponent)


pow = primitive("pow", doc="Elementwise power.", infer=_power, operands="number", ref=np.power,
                scalar="power({0}, {1})", vjp=_pow_vjp,
                examples=(((_POSITIVE, _OTHER), {}), ((_POSITIVE, np.full((2, 3), 3.0)), {})))


def positive(x: Any) -> Tensor:
    """The operand itself."""
    return as_tensor(x)


# Exponentials and logarithms.

sqrt = primitive("sqrt", doc="Square root.", infer=floating, operands="float", ref=np.sqrt, scalar="sqrt({0})",
                 vjp=lambda ct, y, x: (0.5 * ct / y,), examples=_one_positive)
exp = primitive("exp", doc="Elementwise e**x.", infer=floating, operands="float", ref=np.exp, scalar="exp({0})",
                vjp=lambda ct, y, x: (ct * y,), examples=_one_any)
exp2 = primitive("exp2", doc="Elementwise 2**x.", infer=floating, operands="float", ref=np.exp2, scalar="exp2({0})",
                 vjp=lambda ct, y, x: (ct * (y * math.log(2)),), examples=_one_any)
expm1 = primitive("expm1", doc="exp(x) - 1, accurate near 0.", infer=floating, operands="float", ref=np.expm1,
                  scalar="expm1({0})", vjp=lambda ct, y, x: (ct * exp(x),), examples=_one_any)
log = primitive("log", doc="Natural logarithm.", infer=floating, operands="float", ref=np.log, scalar="log({0})",
                vjp=lambda ct, y, x: (ct / x,), examples=_one_positive)
log1p = primitive("log1p", doc="log(1 + x), accurate near 0.", infer=floating, operands="float", ref=np.log1p,
                  scalar="log1p({0})", vjp=lambda ct, y, x: (ct / (1 + x),), examples=_one_positive)
log2 = primitive("log2", doc="Logarithm to base 2.", infer=floating, operands="float", ref=np.log2,
                 scalar="log2({0})", vjp=lambda ct, y, x: (ct / (x * math.log(2)),), examples=_one_positive)
log10 = primitive("log10", doc="Logarithm to base 10.", infer=floating, operands="float", ref=np.log10,
                  scalar="log10({0})", vjp=lambda ct, y, x: (ct / (x * math.log(10)),), examples=_one_positive)


def _logaddexp_vjp(ct: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    # inf - inf: two infinities of one sign share the gradient.
    difference = where(logical_and(isinf(y), a == b), 0, a - b)
    return ct * sigmoid(difference), ct * sigmoid(-difference)


logaddexp = primitive("logaddexp", doc="log(exp(a) + exp(b)) without overflow.", infer=floating, operands="float",
                      ref=np.logaddexp, scalar="logaddexp({0}, {1})", vjp=_logaddexp_vjp, examples=_two_any)

# Trigonometry.

sin = primitive("sin", doc="Sine.", infer=floating, operands="float", ref=np.sin, scalar="sin({0})",
                vjp=lambda ct, y, x: (ct * cos(x),), examples=_one_any)
cos: Op = primitive("cos", doc="Cosine.", infer=floating, operands="float", ref=np.cos, scalar="cos({0})",
                vjp=lambda ct, y, x: (-(ct * sin(x)),), examples=_one_any)
tan = primitive("tan", doc="Tangent.", infer=floating, operands="float", ref=np.tan, scalar="tan({0})",
                vjp=lambda ct, y, x: (ct * (1 + y * y),), examples=_one_unit)
sinh = primitive("sinh", doc="Hyperbolic sine.", infer=floating, operands="float", ref=np.sinh, scalar="sinh({0})",
                 vjp=lambda ct, y, x: (ct * cosh(x),), examples=_one_any)
cosh: Op = primitive("cosh", doc="Hyperbolic cosine.", infer=floating, operands="float", ref=np.cosh,
                     scalar="cosh({0})", vjp=lambda ct, y, x: (ct * sinh(x),), examples=_one_any)
tanh = primitive("tanh", doc="Hyperbolic tangent.", infer=floating, operands="float", ref=np.tanh, scalar="tanh({0})",
                 vjp=lambda ct, y, x: (ct * (1 - y * y),), examples=_one_any)
asin = primitive("asin", doc="Inverse sine.", infer=floating, operands="float", ref=np.arcsin, scalar="asin({0})",
                 vjp=lambda ct, y, x: (ct / sqrt((1 - x) * (1 + x)),), examples=_one_unit)
acos = primitive("acos", doc="Inverse cosine.", infer=floating, operands="float", ref=np.arccos, scalar="acos({0})",
                 vjp=lambda ct, y, x: (-ct / sqrt((1 - x) * (1 + x)),), examples=_one_unit)
atan = primitive("atan", doc="Inverse tangent.", infer=floating, operands="float", ref=np.arctan, scalar="atan({0})",
                 vjp=lambda ct, y, x: (ct / (1 + x * x),), examples=_one_any)
asinh = primitive("asinh", doc="Inverse hyperbolic sine.", infer=floating, operands="float", ref=np.arcsinh,
                  scalar="asinh({0})", vjp=lambda ct, y, x: (ct / hypot(x, 1),), examples=_one_any)
acosh = primitive("acosh", doc="Inverse hyperbolic cosine.", infer=floating, operands="float", ref=np.arccosh,
                  scalar="acosh({0})", vjp=lambda ct, y, x: (ct / (sqrt(x - 1) * sqrt(x + 1)),),
                  examples=(((_ABOVE_ONE,), {}),))
atanh = primitive("atanh", doc="Inverse hyperbolic tangent.", infer=floating, operands="float", ref=np.arctanh,
                  scalar="atanh({0})", vjp=lambda ct, y, x: (ct / ((1 - x) * (1 + x)),), examples=_one_unit)


def _atan2_vjp(ct: Tensor, angle: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    radius = hypot(y, x)  # divided by twice, because its square may overflow
    return ct * (x / radius / radius), -(ct * (y / radius / radius))


def _hypot_vjp(ct: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    radius = where(y == 0, 1, y)  # the kink at the origin gets the subgradient 0
    return ct * (a / radius), ct * (b / radius)


atan2 = primitive("atan2", doc="The angle of the point (x, y) = (b, a).", infer=floating, operands="float",
                  ref=np.arctan2, scalar="atan2({0}, {1})", vjp=_atan2_vjp, examples=_two_any)
hypot: Op = primitive("hypot", doc="sqrt(a*a + b*b) without overflow.", infer=floating, operands="float", ref=np.hypot,
                  scalar="hypot({0}, {1})", vjp=_hypot_vjp, examples=_two_any)

# Error function and activations.


def _from_math(function: Any) -> Any:
    """A function of Python floats on arrays: evaluated in double precision, then rounded once."""
    vectorised = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(vectorised(x.astype(np.float64)), dtype=np.float64).astype(x.dtype)


def _sigmoid_ref(x: Any) -> Any:
    decayed = np.exp(-np.abs(x))
    return np.where(x >= 0, x.dtype.type(1), decayed) / (1 + decayed)


erf = primitive("erf", doc="The error function.", infer=floating, operands="float", ref=_from_math(math.erf),
                scalar="erf({0})", vjp=lambda ct, y, x: (ct * (2 / math.sqrt(math.pi) * exp(-(x * x))),),
                examples=_one_any)
erfc = primitive("erfc", doc="1 - erf(x), accurate for large x.", infer=floating, operands="float",
                 ref=_from_math(math.erfc), scalar="erfc({0})",
                 vjp=lambda ct, y, x: (ct * (-2 / math.sqrt(math.pi) * exp(-(x * x))),), examples=_one_any)
# y * sigmoid(-x) rather than y * (1 - y), which loses its digits as y nears 1.
sigmoid: Op = primitive("sigmoid", doc="1 / (1 + exp(-x)) without overflow.", infer=floating, operands="float",
                    ref=_sigmoid_ref, scalar="sigmoid({0})", vjp=lambda ct, y, x: (ct * (y * sigmoid(-x)),),
                    examples=_one_any)
softplus = primitive("softplus", doc="log(1 + exp(x)) without overflow.", infer=floating, operands="float",
                     ref=lambda x: np.logaddexp(x, x.dtype.type(0)), scalar="softplus({0})",
                     vjp=lambda ct, y, x: (ct * sigmoid(x),), examples=_one_any)
relu = primitive("relu", doc="max(x, 0); the gradient at 0 is 0.", infer=elementwise, operands="number",
                 ref=lambda x: np.maximum(x, x.dtype.type(0)), scalar="maximum({0}, 0)",
                 vjp=lambda ct, y, x: (where(x > 0, ct, 0),), examples=_one_any)

# Choice and order.


def _choice(context: Inference, condition: TensorType, *types: TensorType) -> TensorType:
    shape = elementwise(context, condition, *types).shape
    return TensorType(types[0].dtype, shape, all(each.weak for each in types))


where: Op = primitive("where", doc="where(condition, x, y): x where the condition holds, else y.", infer=_choice,
                  operands="choice", ref=np.where, scalar="select({0}, {1}, {2})",
                  vjp=lambda ct, y, c, a, b: (None, where(c, ct, 0), where(c, 0, ct)),
                  examples=(((_MASK, _ANY, _OTHER), {}),))


def _winner(ct: Tensor, chosen: Tensor, ties: Tensor) -> Tensor:
    # The mask stands outside, where the reverse pass sees it: what was not chosen may have an infinite derivative.
    return where(chosen, where(ties, 0.5 * ct, ct), 0)


maximum = primitive("maximum", doc="The larger operand; nan if either is. Ties share the gradient. "
                    "Of two zeros kernels take 0.0; with NumPy it depends on the machine.",
                    infer=elementwise, operands="promote", ref=np.maximum, scalar="maximum({0}, {1})",
                    vjp=lambda ct, y, a, b: (_winner(ct, a >= b, a == b), _winner(ct, b >= a, a == b)),
                    examples=_two_any)
minimum = primitive("minimum", doc="The smaller operand; nan if either is. Ties share the gradient. "
                    "Of two zeros kernels take -0.0; with NumPy it depends on the machine.",
                    infer=elementwise, operands="promote", ref=np.minimum, scalar="minimum({0}, {1})",
                    vjp=lambda ct, y, a, b: (_winner(ct, a <= b, a == b), _winner(ct, b <= a, a == b)),
                    examples=_two_any)
copysign: Op = primitive("copysign", doc="The size of a with the sign of b.", infer=floating, operands="float",
                     ref=np.copysign, scalar="copysign({0}, {1})",
                     vjp=lambda ct, y, a, b: (ct * sign(a) * copysign(1, b), zeros_like(ct)), examples=_two_any)


def signbit(x: Any) -> Tensor:
    """Is the sign bit set? It is for -0.0 and for a negative nan."""
    x = as_tensor(x)
    return less(copysign(1, x) if x.dtype.kind == "f" else x, 0)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """x limited to [min, max]; None is no limit. Exactly at a limit half of the gradient passes."""
    result = as_tensor(x)
    if min is not None:
        result = maximum(result, min)
    return result if max is None else minimum(result, max)


# Rounding: integers and bools are round already.

_floor = primitive("floor", doc="Rounded down.", infer=floating, ref=np.floor, scalar="floor({0})", vjp=_no_step,
                   examples=_one_any)
_ceil = primitive("ceil", doc="Rounded up.", infer=floating, ref=np.ceil, scalar="ceil({0})", vjp=_no_step,
                  examples=_one_any)
_trunc = primitive("trunc", doc="Rounded towards zero.", infer=floating, ref=np.trunc, scalar="trunc({0})",
                   vjp=_no_step, examples=_one_any)
_round = primitive("round", doc="Rounded to the nearest, halves to even.", infer=floating, ref=np.rint,
                   scalar="round_half_even({0})", vjp=_no_step, examples=_one_any)


def _rounding(op: Op, x: Any) -> Tensor:
    x = as_tensor(x)
    return op(x) if x.dtype.kind == "f" else x


def floor(x: Any) -> Tensor:
    """Rounded down; integers stay as they are."""
    return _rounding(_floor, x)


def ceil(x: Any) -> Tensor:
    """Rounded up; integers stay as they are."""
    return _rounding(_ceil, x)


def trunc(x: Any) -> Tensor:
    """Rounded towards zero; integers stay as they are."""
    return _rounding(_trunc, x)


def round(x: Any) -> Tensor:
    """Rounded to the nearest integer, halves to even; integers stay as they are."""
    return _rounding(_round, x)


# Comparisons, logic and bits: they disconnect.

equal = primitive("equal", doc="Elementwise a == b.", infer=predicate, operands="promote", ref=np.equal,
                  scalar="{0} == {1}")
not_equal = primitive("not_equal", doc="Elementwise a != b.", infer=predicate, operands="promote", ref=np.not_equal,
                      scalar="{0} != {1}")
less = primitive("less", doc="Elementwise a < b.", infer=predicate, operands="promote", ref=np.less,
                 scalar="{0} < {1}")
less_equal = primitive("less_equal", doc="Elementwise a <= b.", infer=predicate, operands="promote",
                       ref=np.less_equal, scalar="{0} <= {1}")
greater = primitive("greater", doc="Elementwise a > b.", infer=predicate, operands="promote", ref=np.greater,
                    scalar="{0} > {1}")
greater_equal = primitive("greater_equal", doc="Elementwise a >= b.", infer=predicate, operands="promote",
                          ref=np.greater_equal, scalar="{0} >= {1}")
logical_and = primitive("logical_and", doc="Both are non-zero.", infer=predicate, operands="bool",
                        ref=np.logical_and, scalar="{0} & {1}")
logical_or = primitive("logical_or", doc="One of them is non-zero.", infer=predicate, operands="bool",
                       ref=np.logical_or, scalar="{0} | {1}")
logical_xor = primitive("logical_xor", doc="Exactly one of them is non-zero.", infer=predicate, operands="bool",
                        ref=np.logical_xor, scalar="{0} ^ {1}")
logical_not = primitive("logical_not", doc="It is zero.", infer=predicate, operands="bool", ref=np.logical_not,
                        scalar="not {0}")
isnan = primitive("isnan", doc="Is not a number.", infer=predicate, operands="float", ref=np.isnan,
                  scalar="isnan({0})")
isinf = primitive("isinf", doc="Is an infinity.", infer=predicate, operands="float", ref=np.isinf,
                  scalar="isinf({0})")
isfinite = primitive("isfinite", doc="Is neither an infinity nor nan.", infer=predicate, operands="float",
                     ref=np.isfinite, scalar="isfinite({0})")
bitwise_and = primitive("bitwise_and", doc="Bits set in both.", infer=elementwise, operands="integer",
                        ref=np.bitwise_and, scalar="{0} & {1}")
bitwise_or = primitive("bitwise_or", doc="Bits set in either.", infer=elementwise, operands="integer",
                       ref=np.bitwise_or, scalar="{0} | {1}")
bitwise_xor = primitive("bitwise_xor", doc="Bits set in exactly one.", infer=elementwise, operands="integer",
                        ref=np.bitwise_xor, scalar="{0} ^ {1}")
bitwise_left_shift = primitive("bitwise_left_shift", doc="Bits moved up.", infer=elementwise,
                               operands="integer number", ref=np.left_shift, scalar="shift_left({0}, {1})")
bitwise_right_shift = primitive("bitwise_right_shift", doc="Bits moved down, keeping the sign.", infer=elementwise,
                                operands="integer number", ref=np.right_shift, scalar="shift_right({0}, {1})")
_invert = primitive("bitwise_invert", doc="All bits flipped.", infer=_arithmetic, operands="integer", ref=np.invert,
                    scalar="~{0}")


def bitwise_invert(x: Any) -> Tensor:
    """All bits flipped; of a bool, its negation."""
    x = as_tensor(x)
    return logical_not(x) if x.dtype.kind == "b" else _invert(x)


# Casts, barriers and checks.


def _astype_vjp(ct: Tensor, y: Tensor, x: Tensor, **attrs: Any) -> tuple[Tensor | None]:
    return (astype(ct, x.dtype) if x.dtype.kind == y.dtype.kind == "f" else None,)


_astype = primitive(
    "astype", doc="A cast.", scalar="{0}", vjp=_astype_vjp, ref=lambda x, dtype, weak=False: x.astype(dtype),
    infer=lambda context, x, dtype, weak=False: TensorType(dtype, x.shape, weak),
    examples=(((_ANY,), {"dtype": np.dtype(np.float64)}),))


def astype(x: Any, dtype: Any, copy: bool = True) -> Tensor:
    """Cast to a dtype; a cast to the dtype it has returns the tensor itself, which nothing can change: `copy` is
    accepted for the standard's sake."""
    x, target = as_tensor(x), as_dtype(dtype)
    return x if x.dtype == target and not x.type.weak else _astype(x, dtype=target)


stop_gradient = primitive("stop_gradient", doc="The value, disconnected from any gradient.", infer=elementwise,
                          ref=lambda x: x, scalar="{0}")


def _check_index_infer(context: Inference, indices: TensorType, *, size: Size, what: str) -> TensorType:
    if indices.dtype.kind not in "iu":
        raise context.dtype_error(f"{what}: indices must be integers")
    return TensorType(np.dtype(np.int64), indices.shape)


def _check_index_ref(indices: Any, size: int, what: str) -> Any:
    outside = (indices < -size) | (indices >= size)
    if outside.any():
        raise OutOfRangeError(index_message(what, int(indices[outside].flat[0]), size))
    indices = indices.astype(np.int64)
    return np.where(indices < 0, indices + size, indices)


check_index = primitive(
    "check_index", doc="Indices counted from the front; an error at the call if one is out of range. It has no "
    "formula: kernels report through their status slot.", infer=_check_index_infer, ref=_check_index_ref)

absolute = abs
power = pow
true_divide = divide
