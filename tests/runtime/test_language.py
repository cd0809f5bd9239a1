"""The kernel language against NumPy: memory, operators, integer arithmetic to the bit."""

import itertools
import re

import numpy as np
import pytest
from numba.core.errors import TypingError

from staticgraph.runtime.cpu.language import NAMES
from tests.kernel_harness import CompiledKernel, apply, compile_kernel, elementwise_kernel

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = ["float32", "float64"]
DTYPES = ["bool", *INTEGERS, *FLOATS]


def equal_bits(got: np.ndarray, want: np.ndarray) -> bool:
    """The same values, signs of zeros included; any nan equals any nan."""
    if want.dtype.kind != "f":
        return bool((got == want).all())
    same = (got == want) & (np.signbit(got) == np.signbit(want))
    return bool((same | (np.isnan(got) & np.isnan(want))).all())


def sample(dtype: str) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.array([False, True])
    if kind.kind == "f":
        tiny = np.finfo(kind).smallest_subnormal
        return np.array([0.0, -0.0, 1, -1, 0.5, -0.5, 2.5, -2.5, 3, -3, 7, -7, 1e30, -1e30, np.inf, -np.inf, np.nan,
                         tiny, -tiny, 1e-30], dtype=kind)
    limits = np.iinfo(kind)
    middle = [value for value in (-7, -3, -2, -1) if limits.min < 0] + [0, 1, 2, 3, 7, 31, 64]
    return np.array([limits.min, limits.min + 1, *middle, limits.max - 1, limits.max], dtype=kind)


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    values = sample(dtype)
    left, right = np.array(list(itertools.product(values, values)), dtype=dtype).T
    return left.copy(), right.copy()


# Memory.

@pytest.mark.parametrize("dtype", DTYPES)
def test_a_pointer_loads_and_stores(dtype: str) -> None:
    values = sample(dtype)
    assert equal_bits(apply("a", [values], dtype, []), values)


def test_bools_are_one_byte_and_normalised() -> None:
    raw = np.array([0, 1, 2, 255], np.uint8)
    assert apply("a", [raw.view(np.bool_)], "bool", []).view(np.uint8).tolist() == [0, 1, 1, 1]
    assert apply("a > 1", [raw], "bool", []).view(np.uint8).tolist() == [0, 0, 1, 1]
    either = apply("a or b", [raw.view(np.bool_), np.array([False] * 4)], "bool", [])
    assert either.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_the_argument_table() -> None:
    kernel = compile_kernel("""
from staticgraph.runtime.cpu.language import address, extent, pointer_int64, shift

def table(args, start, stop):
    out = pointer_int64(args, 0)
    out[0] = extent(args, 1)
    out[1] = address(args, 0)
    moved = shift(out, 2)
    moved[0] = 5
    back = shift(moved, -1)
    back[2] = back[1] + 1
""")
    out = np.zeros(4, np.int64)
    kernel([out, -7], 0)
    assert out.tolist() == [-7, out.ctypes.data, 5, 6]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_local_array_is_aligned_and_private(dtype: str) -> None:
    kernel = compile_kernel(f"""
from staticgraph.runtime.cpu.language import local_{dtype}, pointer_{dtype}

def reverse(args, start, stop):
    x, y = pointer_{dtype}(args, 0), pointer_{dtype}(args, 1)
    spare = local_{dtype}(32)
    other = local_{dtype}(32)
    for i in range(start, stop):
        spare[i] = x[i]
        other[i] = x[0]
    for i in range(start, stop):
        y[i] = spare[stop - 1 - i]
""")
    values = sample(dtype)
    out = np.zeros_like(values)
    kernel([values, out], len(values))
    assert equal_bits(out, values[::-1])


def test_a_local_array_needs_a_literal_size() -> None:
    with pytest.raises(TypingError):
        CompiledKernel("""
from staticgraph.runtime.cpu.language import local_float32

def bad(args, start, stop):
    spare = local_float32(stop)
    spare[0] = spare[1]
""")


def test_the_first_failure_stays() -> None:
    kernel = compile_kernel("""
from staticgraph.runtime.cpu.language import address, extent, fail, pointer_int64

def checked(args, start, stop):
    x, status, size = pointer_int64(args, 0), address(args, 1), extent(args, 2)
    for i in range(start, stop):
        if x[i] < 0 or x[i] >= size:
            fail(status, 4, x[i], size)
""")
    status = np.zeros(4, np.int64)
    kernel([np.array([0, 1, 2], np.int64), status, 3], 3)
    assert status.tolist() == [0, 0, 0, 0]
    kernel([np.array([0, 9, -1], np.int64), status, 3], 3)
    assert status.tolist() == [5, 9, 3, 0]
    kernel([np.array([-5], np.int64), status, 3], 1)
    assert status.tolist() == [5, 9, 3, 0]


# Operators.

@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
@pytest.mark.parametrize("name", ["accumulate", "accumulate_product"])
def test_accumulators(name: str, dtype: str) -> None:
    kernel = compile_kernel(f"""
from staticgraph.runtime.cpu.language import {dtype}, {name}, pointer_{dtype}

def total(args, start, stop):
    x, y = pointer_{dtype}(args, 0), pointer_{dtype}(args, 1)
    acc = {dtype}({int(name != "accumulate")})
    for i in range(start, stop):
        acc = {name}(acc, x[i])
    y[0] = acc
""")
    x = np.linspace(1, 3, 37).astype(dtype)
    out = np.zeros(1, dtype)
    kernel([x, out], len(x))
    want = (np.sum if name == "accumulate" else np.prod)(x, dtype=dtype)
    np.testing.assert_allclose(out[0], want, rtol=1e-5 if dtype in FLOATS else 0)
    if dtype in FLOATS:
        assert re.search(r"(fadd|fmul) reassoc contract <\d+ x (float|double)>", kernel.llvm)
        for special in (np.nan, np.inf):
            x[5] = special
            kernel([x, out], len(x))
            np.testing.assert_equal(out[0], np.array(special, dtype))


def test_a_sum_of_accumulate_is_vectorised() -> None:
    kernel = compile_kernel("""
from staticgraph.runtime.cpu.language import accumulate, float32, maximum, pointer_float32

def row_sum_max(args, start, stop):
    x, y = pointer_float32(args, 0), pointer_float32(args, 1)
    acc = float32(0)
    top = x[start]
    for i in range(start, stop):
        acc = accumulate(acc, x[i])
        top = maximum(top, x[i])
    y[0] = acc
    y[1] = top
""")
    assert re.search(r"fadd reassoc contract <\d+ x float>", kernel.llvm)
    assert re.search(r"@llvm\.maximum\.v\d+f32", kernel.llvm)
    assert "double" not in kernel.llvm


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_extremes(name: str, dtype: str) -> None:
    a, b = pairs(dtype)
    got, want = apply(f"{name}(a, b)", [a, b], dtype, [name]), getattr(np, name)(a, b)
    np.testing.assert_array_equal(got, want)
    if dtype in FLOATS:
        zeros = np.array([0.0, -0.0], dtype), np.array([-0.0, 0.0], dtype)
        assert np.signbit(apply(f"{name}(a, b)", zeros, dtype, [name])).all() == (name == "minimum")


@pytest.mark.parametrize("dtype", DTYPES)
def test_select(dtype: str) -> None:
    a, b = pairs(dtype)
    got = apply("select(a > b, a, b)", [a, b], dtype, ["select"])
    assert equal_bits(got, np.where(a > b, a, b))


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
@pytest.mark.parametrize("name", ["absolute", "sign", "square"])
def test_unary_operators(name: str, dtype: str) -> None:
    x = sample(dtype)
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x)
    assert equal_bits(apply(f"{name}(a)", [x], dtype, [name]), want)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name, reference", [
    ("floor", np.floor), ("ceil", np.ceil), ("trunc", np.trunc), ("round", np.round), ("rint", np.rint),
    ("round_half_even", np.round), ("sqrt", np.sqrt), ("reciprocal", np.reciprocal), ("isnan", np.isnan),
    ("isinf", np.isinf), ("isfinite", np.isfinite)])
def test_rounding_and_classification(name: str, reference: np.ufunc, dtype: str) -> None:
    x = np.concatenate([sample(dtype), np.array([1.5, -1.5, 3.5, 4.5, 0.49999997, 8388609.5, 1e15 + 0.5], dtype)])
    with np.errstate(all="ignore"):
        want = reference(x)
    assert equal_bits(apply(f"{name}(a)", [x], want.dtype.name, [name]), want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding_and_classification_of_integers(dtype: str) -> None:
    x = sample(dtype)
    if dtype not in FLOATS:
        assert equal_bits(apply("floor(a)", [x], dtype, ["floor"]), x)
        assert apply("isfinite(a)", [x], "bool", ["isfinite"]).all()
        assert not apply("isnan(a)", [x], "bool", ["isnan"]).any()


# Integer and float arithmetic of NumPy.

EXACT = [*itertools.product(["floor_divide", "remainder"], [*INTEGERS, *FLOATS]),
         *itertools.product(["copysign"], FLOATS)]


@pytest.mark.parametrize("name, dtype", EXACT)
def test_division_is_numpys_to_the_bit(name: str, dtype: str) -> None:
    a, b = pairs(dtype)
    if dtype in FLOATS:
        random = np.random.default_rng(0)
        a = np.concatenate([a, random.standard_normal(2000) * 10.0 ** random.uniform(-6, 6, 2000)]).astype(dtype)
        b = np.concatenate([b, random.standard_normal(2000)]).astype(dtype)
    with np.errstate(all="ignore"):
        want = getattr(np, name)(a, b)
    assert equal_bits(apply(f"{name}(a, b)", [a, b], dtype, [name]), want)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name, reference", [
    ("floor_divide", np.floor_divide), ("remainder", np.remainder), ("shift_left", np.left_shift),
    ("shift_right", np.right_shift), ("power", np.power)])
def test_every_pair_of_bytes(name: str, reference: np.ufunc, dtype: str) -> None:
    values = np.arange(256).astype(np.uint8).view(dtype)
    a, b = (each.ravel().copy() for each in np.meshgrid(values, values))
    if name == "power":
        a, b = a[b >= 0], b[b >= 0]
    with np.errstate(all="ignore"):
        want = reference(a, b)
    assert equal_bits(apply(f"{name}(a, b)", [a, b], dtype, [name]), want)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name, reference", [("shift_left", np.left_shift), ("shift_right", np.right_shift)])
def test_shifts(name: str, reference: np.ufunc, dtype: str) -> None:
    a, b = pairs(dtype)
    assert equal_bits(apply(f"{name}(a, b)", [a, b], dtype, [name]), reference(a, b))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_powers_wrap_around(dtype: str) -> None:
    a, b = pairs(dtype)
    a, b = a[b >= 0], b[b >= 0]
    assert equal_bits(apply("power(a, b)", [a, b], dtype, ["power"]), np.power(a, b))


def test_negative_integer_powers() -> None:
    a, b = np.array([1, -1, -1, 2, 0, -3], np.int32), np.array([-3, -3, -2, -1, -1, -2], np.int32)
    assert apply("power(a, b)", [a, b], "int32", ["power"]).tolist() == [1, -1, 1, 0, 0, 0]


# Types.

@pytest.mark.parametrize("dtype", ["int8", "uint64", "float32"])
def test_integer_literals_adapt(dtype: str) -> None:
    x = np.array([0, 1, 5], dtype)
    kernel = elementwise_kernel("maximum(a, 2)", (dtype,), dtype, ("maximum",))
    assert apply("maximum(a, 2)", [x], dtype, ["maximum"]).tolist() == [2, 2, 5]
    assert "double" not in kernel.llvm


@pytest.mark.parametrize("left, right", [("float32", "float64"), ("int64", "uint64"), ("float32", "int32"),
                                         ("bool", "int8")])
def test_mixed_types_are_refused(left: str, right: str) -> None:
    with pytest.raises(TypingError, match="cast them to one type"):
        elementwise_kernel("maximum(a, b)", (left, right), left, ("maximum",))


def test_functions_refuse_types_without_meaning() -> None:
    for expression, dtype, name in (("exp(a)", "int32", "exp"), ("accumulate(a, a)", "bool", "accumulate"),
                                    ("shift_left(a, a)", "float32", "shift_left")):
        with pytest.raises(TypingError, match="no kernel code for"):
            elementwise_kernel(expression, (dtype,), dtype, (name,))


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_casts(source: str, target: str) -> None:
    """Floats outside of the target's range, but for negative ones, are undefined in NumPy too."""
    x = sample(source)
    if source in FLOATS:
        low = -100.9 if target.startswith("u") or target == "int8" else -30000.9
        x = np.array([0.0, -0.0, -1.5, low, 0.99, 100.5, 127.0, 1], source)
        x = x if np.dtype(target).itemsize < 4 else np.append(x, np.array([2.0**31 - 128, -(2.0**20)], source))
        x = np.append(x, np.array([2.0**63], source)) if target == "uint64" else x
    name = "bool_" if target == "bool" else target
    with np.errstate(all="ignore"):
        want = x.astype(target)
    assert equal_bits(apply(f"{name}(a)", [x], target, [name]), want)


@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_unsigned_literals(dtype: str) -> None:
    x = np.array([1, 2, 3], dtype)
    kernel = elementwise_kernel(f"a + {dtype}(7)", (dtype,), dtype, (dtype,))
    assert apply(f"a + {dtype}(7)", [x], dtype, [dtype]).tolist() == [8, 9, 10]
    assert "double" not in kernel.llvm


def test_every_name_is_documented() -> None:
    for name, value in NAMES.items():
        assert isinstance(value, (float, type)) or (value.__doc__ or "").strip(), name
