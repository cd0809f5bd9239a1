"""Elementwise ops: values and dtypes against NumPy for every dtype and shape, formulas against meanings, gradients at
the points where care was taken."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import registry
from staticgraph.ops import custom
from staticgraph.tensor import Tensor
from tests.ops import philox

DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
SHAPES = ((), (0,), (1,), (5,), (3, 0), (2, 1, 3))
SPECIALS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -2.5, 2.5, 3.7, -12.25, 88.5, -104.0, 710.0, 1e-8, -1e-30, 1e30,
            math.inf, -math.inf, math.nan]


def _integral(function: Any) -> Any:
    return lambda x: function(x) if x.dtype.kind == "f" else x


# What NumPy calls each op; erf and its like, which NumPy lacks, are checked against mpmath below.
UNARY = {
    "negative": np.negative, "abs": np.abs, "sign": np.sign, "square": np.square,
    "reciprocal": lambda x: reciprocal_of(x),
    "sqrt": np.sqrt, "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log1p": np.log1p,
    "log2": np.log2, "log10": np.log10, "sin": np.sin, "cos": np.cos, "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh,
    "tanh": np.tanh, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "floor": _integral(np.floor), "ceil": _integral(np.ceil),
    "trunc": _integral(np.trunc), "round": _integral(np.round), "logical_not": np.logical_not, "isnan": np.isnan,
    "isinf": np.isinf, "isfinite": np.isfinite, "bitwise_invert": np.invert, "stop_gradient": lambda x: x,
    "relu": lambda x: np.maximum(x, np.int8(0) if x.dtype.kind == "b" else x.dtype.type(0)),
}
BINARY = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
    "floor_divide": np.floor_divide, "remainder": np.remainder, "pow": np.power, "logaddexp": np.logaddexp,
    "atan2": np.arctan2, "hypot": np.hypot, "maximum": np.maximum, "minimum": np.minimum, "copysign": np.copysign,
    "equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "logical_and": np.logical_and,
    "logical_or": np.logical_or, "logical_xor": np.logical_xor, "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor, "bitwise_left_shift": np.left_shift,
    "bitwise_right_shift": np.right_shift,
}
LIBRARY = [name for name, op in registry.items() if op.kind == "elementwise" and name not in custom._declared]
ELSEWHERE = {"erf", "erfc", "sigmoid", "softplus", "where", "astype", "check_index", "guard", "random_bits"}
NOT_OF_BOOLS = {"negative", "sign", "subtract"}
OF_INTEGERS = {name for name in registry if name.startswith("bitwise")}


def function(name: str) -> Any:
    return getattr(sg, name)


def sample(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Ordinary values with some special ones among them."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        low, high = (0, 7) if np.dtype(dtype).kind == "u" else (-6, 7)
        return rng.integers(low, high, shape).astype(dtype)
    values = rng.standard_normal(shape).astype(dtype) * 3
    special = rng.choice(np.array(SPECIALS), shape).astype(dtype)
    return np.where(rng.random(shape) < 0.5, values, special).astype(dtype)


def in_numpy(name: str, numpy_function: Any, *arrays: Any) -> Any:
    """NumPy's answer, with integers and bools as float64 in float functions."""
    if registry[name].operands == "float" and np.result_type(*arrays).kind != "f":
        arrays = tuple(array.astype(np.float64) for array in arrays)
    with np.errstate(all="ignore"):
        return np.asarray(numpy_function(*arrays))


def reciprocal_of(x: Any) -> Any:
    if x.dtype.kind == "f":
        return np.reciprocal(x)
    zero = x == 0  # NumPy's result is undefined there
    return np.where(zero, 0, np.reciprocal(np.where(zero, 1, x).astype(np.int8 if x.dtype == bool else x.dtype)))


def applies(name: str, dtype: str) -> bool:
    kind = np.dtype(dtype).kind
    return not (kind == "b" and name in NOT_OF_BOOLS) and not (kind == "f" and name in OF_INTEGERS)


def agree(actual: Any, expected: Any) -> None:
    assert isinstance(actual, np.ndarray)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)
    if expected.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(actual), np.signbit(expected))


def test_every_elementwise_op_is_in_a_table() -> None:
    tested = UNARY.keys() | BINARY.keys() | ELSEWHERE
    assert set(LIBRARY) == tested


@pytest.mark.parametrize("name", UNARY)
def test_unary_is_numpys(name: str) -> None:
    for dtype in DTYPES:
        if not applies(name, dtype):
            with pytest.raises(sg.DTypeError):
                function(name)(sg.constant(np.ones(2, dtype)))
            continue
        for shape in SHAPES:
            x = sample(dtype, shape)
            placeholder = sg.placeholder("x", [f"n{axis}" for axis in range(len(shape))], dtype)
            actual = sg.evaluate(function(name)(placeholder), {placeholder: x})
            agree(actual, in_numpy(name, UNARY[name], x))
    for dtype in ("float32", "float64") if applies(name, "float64") else ():
        x = np.array(SPECIALS, dtype)
        agree(sg.evaluate(function(name)(sg.constant(x))), in_numpy(name, UNARY[name], x))


@pytest.mark.parametrize("name", BINARY)
def test_binary_is_numpys(name: str) -> None:
    second = np.abs if name in ("pow", "bitwise_left_shift", "bitwise_right_shift") else lambda x: x
    for dtype in DTYPES:
        if not applies(name, dtype):
            with pytest.raises(sg.DTypeError):
                function(name)(sg.constant(np.ones(2, dtype)), sg.constant(np.ones(2, dtype)))
            continue
        for shape in SHAPES:
            a, b = sample(dtype, shape, 1), sample(dtype, shape, 2)
            b = second(b) if b.dtype.kind == "i" else b
            actual = sg.evaluate(function(name)(sg.constant(a), sg.constant(b)))
            agree(actual, in_numpy(name, BINARY[name], a, b))
    for dtype in ("float32", "float64") if applies(name, "float64") else ():
        a, b = np.array(SPECIALS, dtype)[:, None], np.array(SPECIALS, dtype)
        agree(sg.evaluate(function(name)(sg.constant(a), sg.constant(b))), in_numpy(name, BINARY[name], a, b))


@pytest.mark.parametrize("name", ["add", "multiply", "divide", "maximum", "less", "pow", "atan2"])
def test_pairs_of_dtypes_promote_as_numpy(name: str) -> None:
    for left in DTYPES:
        for right in DTYPES:
            a, b = np.ones(3, left), np.ones((2, 1), right)
            if name == "atan2" and "float" in left + right and np.result_type(left, right) not in (
                    np.float32, np.float64):
                continue
            agree(sg.evaluate(function(name)(sg.constant(a), sg.constant(b))), in_numpy(name, BINARY[name], a, b))


# Formulas in the kernel language, read by Python: what kernels compute is what `ref` says.

KERNEL_WORDS = {
    **{name: UNARY[name] for name in ("exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos",
                                      "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "asinh", "acosh", "atanh",
                                      "floor", "ceil", "trunc", "sign", "isnan", "isinf", "isfinite", "reciprocal",
                                      "square")},
    **{name: BINARY[name] for name in ("atan2", "hypot", "logaddexp", "copysign", "floor_divide", "remainder",
                                       "maximum", "minimum")},
    "erf": math.erf, "erfc": math.erfc, "absolute": np.abs, "power": np.power, "round_half_even": np.rint,
    "select": lambda c, a, b: a if c else b, "shift_left": np.left_shift, "shift_right": np.right_shift,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "softplus": lambda x: np.logaddexp(x, x.dtype.type(0)),
    "philox": philox.word,
}


@pytest.mark.parametrize("name", [name for name in LIBRARY if name not in ("check_index", "guard")])
def test_formula_means_what_ref_says(name: str) -> None:
    op = registry[name]
    assert op.scalar is not None
    arity = 1 + max(number for number in range(4) if f"{{{number}}}" in op.scalar)
    attrs = {"dtype": np.dtype("float32")} if name == "astype" else {}
    for dtype in ("bool", "int32", "float32", "float64"):
        operands = [sample(dtype, (40,), seed) for seed in range(arity)]
        if dtype == "int32" and name in ("pow", "bitwise_left_shift", "bitwise_right_shift", "floor_divide",
                                         "remainder", "reciprocal"):
            operands = [np.abs(each) + 1 for each in operands]
        if name == "where":
            operands[0] = operands[0] != 0
        try:
            node = op(*[sg.constant(each) for each in operands], **attrs)
        except sg.DTypeError:
            continue
        inputs = [sg.evaluate(each) for each in node.inputs]
        with np.errstate(all="ignore"):
            for number, expected in enumerate(sg.evaluate(node)):
                words = {f"x{place}": each[number] for place, each in enumerate(inputs)}
                value = eval(op.scalar.format(*words), {**KERNEL_WORDS, **words})
                np.testing.assert_allclose(np.asarray(value).astype(node.dtype), expected,
                                           rtol=0 if node.dtype.kind != "f" else 4 * np.finfo(node.dtype).eps)


@pytest.mark.parametrize(("name", "exact"), [
    ("erf", mpmath.erf), ("erfc", mpmath.erfc), ("sigmoid", lambda x: 1 / (1 + mpmath.exp(-x))),
    ("softplus", lambda x: mpmath.log1p(mpmath.exp(x))),
])
def test_functions_that_numpy_lacks(name: str, exact: Any) -> None:
    points = np.array([-30.0, -9.5, -2.0, -0.3, -1e-9, 0.0, 1e-9, 0.4, 1.0, 5.5, 12.0, 26.0])
    with mpmath.workdps(60):
        expected = np.array([float(exact(mpmath.mpf(float(point)))) for point in points])
    np.testing.assert_allclose(sg.evaluate(function(name)(points)), expected, rtol=1e-14)
    single = sg.evaluate(function(name)(points.astype(np.float32)))
    assert single.dtype == np.float32
    with mpmath.workdps(60):
        expected = np.array([float(exact(mpmath.mpf(float(point)))) for point in points.astype(np.float32)])
    np.testing.assert_allclose(single, expected, rtol=5e-7, atol=1e-44)
    ends = sg.evaluate(function(name)(np.array([-np.inf, np.inf, np.nan])))
    assert np.isnan(ends[2])
    np.testing.assert_array_equal(ends[:2], {"erf": [-1, 1], "erfc": [2, 0], "sigmoid": [0, 1],
                                             "softplus": [0, np.inf]}[name])
    assert sg.evaluate(function(name)(np.array([1, 0]))).dtype == np.float64


def test_where_takes_any_condition_and_broadcasts() -> None:
    condition, x = np.array([[2], [0]]), np.array([1, 2, 3], np.int16)
    agree(sg.evaluate(sg.where(condition, x, 0.5)), np.where(condition, x, 0.5))
    assert sg.where(np.array([True]), sg.constant(np.ones(1, np.float32)), 2.0).dtype == np.float32


def test_clip_limits_one_side_or_both() -> None:
    x = np.array([-3.0, -0.5, 2.0, np.nan])
    agree(sg.evaluate(sg.clip(x, -1, 1)), np.clip(x, -1, 1))
    agree(sg.evaluate(sg.clip(x, max=0)), np.clip(x, None, 0))
    agree(sg.evaluate(sg.constant(x).clip(0)), np.clip(x, 0, None))
    assert sg.clip(sg.constant(x)) is sg.constant(x)


def test_signbit_sees_negative_zeros() -> None:
    for x in (np.array([-0.0, 0.0, -1.0, np.inf, -np.inf], np.float32), np.array([-1, 0, 2]), np.array([0, 255], "u1")):
        agree(sg.evaluate(sg.signbit(x)), np.signbit(x.astype(np.float64)))


def test_astype_casts_as_numpy_and_is_nothing_to_its_own_dtype() -> None:
    x = np.array([-1.5, 0.0, 2.7])
    for dtype in DTYPES:
        with np.errstate(all="ignore"):
            agree(sg.evaluate(sg.astype(np.abs(x), dtype)), np.abs(x).astype(dtype))
    tensor = sg.constant(x)
    assert tensor.astype("float64") is tensor


# Weak numbers.


def test_python_numbers_take_the_dtype_of_the_tensor() -> None:
    single, integer = sg.placeholder("s", ("n",)), sg.placeholder("i", ("n",), "int8")
    assert (single * 0.5).dtype == (2 - single).dtype == (single ** True).dtype == np.float32
    assert (integer * 2).dtype == np.int8 and (integer * 0.5).dtype == np.float64
    assert (single * np.float64(0.5)).dtype == (single * np.ones(1)).dtype == np.float64
    assert (sg.placeholder("b", (), "bool") + 1).dtype == np.int64


def test_sizes_are_weak_and_so_is_what_is_made_of_them_and_numbers() -> None:
    x = sg.placeholder("x", ("n", 3))
    n = x.shape[0]
    for scale in (n, 1 / n, n ** 2, sg.sqrt(n), 2.0 * sg.exp(n) + 1, sg.where(x[0, 0] > 0, n, 1.0), sg.maximum(n, 0.5)):
        assert (x * scale).dtype == np.float32, scale
    np.testing.assert_allclose(sg.evaluate(x * (1 / n), {x: np.ones((4, 3), np.float32)}), 0.25)
    assert (x * sg.astype(sg.sqrt(n), "float64")).dtype == np.float64
    assert (sg.sqrt(n) * np.float64(1)).dtype == np.float64


def test_a_number_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(sg.DTypeError, match="300 does not fit into uint8"):
        sg.constant(np.ones(2, np.uint8)) + 300


# Errors.


def test_messages_name_the_operands_and_their_lines() -> None:
    x, y = sg.placeholder("x", ("n", 3)), sg.placeholder("y", ("n", 4))
    with pytest.raises(sg.ShapeError) as caught:
        x + y
    text = str(caught.value)
    assert text.startswith("add: shapes do not broadcast\n  a: float32[n, 3]")
    assert text.count("test_elementwise.py") == 2 and "'y'" in text and "are 3 and 4" in text
    with pytest.raises(sg.DTypeError, match="bitwise_and: needs integers or bools\n  a: float32"):
        x & y
    with pytest.raises(sg.DTypeError, match="NoneType None is not a number"):
        x * None


def test_calls_with_other_arguments_than_operands() -> None:
    x = sg.placeholder("x", ())
    with pytest.raises(sg.ArgumentError, match="add: takes 2 operands, got 1"):
        sg.add(x)
    with pytest.raises(sg.ArgumentError, match="exp: takes 1 operand, got 2"):
        sg.exp(x, x)
    with pytest.raises(sg.ArgumentError, match="exp: has no argument called 'dtype'"):
        sg.exp(x, dtype="float64")


def test_an_integer_to_a_negative_power_is_an_error_when_evaluated() -> None:
    x = sg.placeholder("x", (2,), "int64")
    with pytest.raises(sg.StaticGraphError, match="pow: Integers to negative integer powers"):
        sg.evaluate(x ** (x - 2), {x: [1, 2]})


def test_indices_are_counted_from_the_front_and_checked() -> None:
    check = registry["check_index"]
    indices = sg.placeholder("i", ("k",), "int32")
    node = check(indices, size=3, what="take")
    agree(sg.evaluate(node, {indices: [0, -1, -3, 2]}), np.array([0, 2, 0, 2]))
    for bad in (3, -4):
        with pytest.raises(sg.OutOfRangeError, match=rf"take: index {bad} is out of range.*size 3\n  a: int32\[k\]"):
            sg.evaluate(node, {indices: [0, bad]})
    with pytest.raises(sg.DTypeError, match="indices must be integers"):
        check(np.ones(2), size=3, what="take")


# Gradients where care was taken; ordinary points are checked for every op by the examples.


def gradient(f: Any, *points: Any) -> list[Any]:
    variables = [sg.variable(np.asarray(point, np.float64)) for point in points]
    result: list[Any] = sg.evaluate(sg.grad(sg.sum(f(*variables)), variables))
    return result


@pytest.mark.parametrize(("f", "point", "expected"), [
    (sg.relu, [-1.0, 0.0, 2.0], [0, 0, 1]),
    (sg.abs, [-1.0, 0.0, 2.0], [-1, 0, 1]),
    (sg.floor, [0.5, 1.0], [0, 0]),
    (sg.sign, [0.5, 0.0], [0, 0]),
    (sg.round, [0.5, 1.2], [0, 0]),
    (lambda x: sg.where(x > 0, sg.log(x), 0.0), [0.0, 2.0], [0, 0.5]),
    (lambda x: sg.where(x > 0, sg.sqrt(x), x), [0.0, 4.0, -1.0], [1, 0.25, 1]),
    (lambda x: x ** 0, [0.0, 2.0], [0, 0]),
    (lambda x: x ** 1, [0.0, 2.0], [1, 1]),
    (lambda x: x ** 2, [0.0, -3.0], [0, -6]),
    (lambda x: x ** 3.0, [0.0, -2.0], [0, 12]),
    (lambda x: x ** -1, [2.0, -2.0], [-0.25, -0.25]),
    (lambda x: 0.0 ** x, [1.0, 2.0], [0, 0]),
    (lambda x: 2.0 ** x, [0.0, 1.0], [math.log(2), 2 * math.log(2)]),
    (lambda x: sg.clip(x, -1, 1), [-2.0, 0.0, 2.0], [0, 1, 0]),
    (lambda x: sg.expm1(x), [-40.0], [math.exp(-40)]),
    (lambda x: sg.sigmoid(x), [40.0], [math.exp(-40)]),
    (lambda x: sg.softplus(x), [-800.0, 800.0], [0, 1]),
    (lambda x: sg.hypot(x, 0.0), [0.0, -2.0], [0, -1]),
    (lambda x: sg.logaddexp(x, -np.inf), [-np.inf, 1.0], [0.5, 1]),
    (lambda x: sg.logaddexp(x, np.inf), [np.inf, 1.0], [0.5, 0]),
    (lambda x: sg.astype(sg.astype(x, "float32"), "float64") * 2, [1.0], [2]),
])
def test_gradient_at_delicate_points(f: Any, point: Any, expected: Any) -> None:
    np.testing.assert_allclose(gradient(f, point)[0], expected, rtol=1e-12)


def test_ties_share_the_gradient() -> None:
    for f in (sg.maximum, sg.minimum):
        a, b = gradient(f, [1.0, 1.0, 2.0], [1.0, 3.0, 0.0])
        assert a[0] == b[0] == 0.5 and sorted([a[1], b[1]]) == sorted([a[2], b[2]]) == [0, 1]


def test_the_gradient_of_a_variable_exponent_is_safe_at_zero() -> None:
    base, exponent = gradient(sg.pow, [0.0, 0.0, 2.0, 0.0], [0.0, 2.0, 0.0, 1.0])
    np.testing.assert_array_equal(base, [0, 0, 0, 1])
    np.testing.assert_allclose(exponent, [0, 0, math.log(2), 0])


@pytest.mark.parametrize("f", [sg.equal, sg.less, sg.logical_and, lambda a, b: sg.astype(a, "int32"),
                               lambda a, b: sg.stop_gradient(a)])
def test_what_disconnects(f: Any) -> None:
    a, b = sg.variable([1.0]), sg.variable([2.0])
    with pytest.raises(sg.GradientError):
        sg.grad(sg.sum(sg.astype(f(a, b), "float64")), [a])


def test_names_of_numpy_and_of_the_standard() -> None:
    assert sg.absolute is sg.abs and sg.power is sg.pow and sg.true_divide is sg.divide
    x = sg.placeholder("x", (2,))
    assert sg.positive(x) is x and +x is x
    assert isinstance(-x, Tensor) and (~(x > 0)).op.name == "logical_not"
