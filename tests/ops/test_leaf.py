"""Leaves: what may be declared, and filled and counted arrays against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg


def test_placeholders_share_sizes_by_name_and_none_is_a_size_of_its_own() -> None:
    x, y = sg.placeholder("x", ("batch", 3)), sg.placeholder("y", ["batch"], "int64")
    assert x.dtype == np.float32 and y.dtype == np.int64
    assert x.shape[0] == y.shape[0] and isinstance(x.shape[0], sg.Dim) and x.shape[1] == 3
    a, b = (sg.placeholder("a", (None,)) for _ in range(2))
    assert a.shape[0] != b.shape[0] and a is not b and str(a.type) == "float32[?]"
    assert sg.placeholder("z", (x.shape[0] * 2,)).shape[0] == x.shape[0] * 2


@pytest.mark.parametrize(("name", "shape", "error", "text"), [
    ("", (1,), sg.ArgumentError, "the name must be a non-empty string"),
    ("x", "batch", sg.ArgumentError, "shape must be a tuple"),
    ("x", (-1,), sg.ShapeError, "placeholder 'x': a size cannot be negative, got -1"),
    ("x", ("a b",), sg.ShapeError, "a size's name must be an identifier, got 'a b'"),
    ("x", (2.5,), sg.ArgumentError, "2.5 of type float is not a size"),
])
def test_placeholders_that_cannot_be(name: str, shape: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        sg.placeholder(name, shape)


@pytest.mark.parametrize("dtype", ["float16", "complex64", "object", "U3", "datetime64[s]", "nonsense"])
def test_dtypes_that_do_not_exist_here(dtype: str) -> None:
    with pytest.raises(sg.DTypeError):
        sg.placeholder("x", (), dtype)


def test_a_variable_owns_its_value() -> None:
    given = np.arange(3, dtype=np.float32)
    w = sg.variable(given, name="w")
    given[:] = 9
    w.value[:] = 7  # a copy
    np.testing.assert_array_equal(w.value, [0, 1, 2])
    w.value = np.array([4, 5, 6], np.int16)
    np.testing.assert_array_equal(sg.evaluate(w * 2), [8, 10, 12])
    assert w.name == "w" and w.dtype == np.float32 and sg.variable([1.0]) is not sg.variable([1.0])
    with pytest.raises(sg.ShapeError, match=r"got shape \(2,\)\n  float32\[3\]   'w'"):
        w.value = [1.0, 2.0]
    with pytest.raises(sg.DTypeError, match="got float64, which would lose information"):
        w.value = np.ones(3)
    with pytest.raises(sg.ArgumentError, match="evaluate it first"):
        sg.variable(w * 2)


def test_constants_are_merged_by_value_and_dtype() -> None:
    assert sg.constant([1.0, 2.0]) is sg.constant(np.array([1.0, 2.0]))
    assert sg.constant(0.0) is not sg.constant(-0.0)
    assert sg.constant(1) is not sg.constant(True) and sg.constant(1, "int8").dtype == np.int8
    given = np.ones(2)
    held = sg.constant(given)
    given[:] = 5
    np.testing.assert_array_equal(sg.evaluate(held), [1, 1])
    for bad in ("text", None, object(), [[1], [1, 2]], 1j):
        with pytest.raises(sg.DTypeError):
            sg.constant(bad)
    assert sg.constant(np.arange(6, dtype=">i4").reshape(2, 3).T).dtype == np.int32


def test_filled_arrays() -> None:
    x = sg.placeholder("x", ("n", 2), "int32")
    n = x.shape[0]
    feed = {x: np.zeros((3, 2), np.int32)}
    for actual, expected in [
        (sg.zeros((n, 2)), np.zeros((3, 2))), (sg.ones(n, "int8"), np.ones(3, np.int8)),
        (sg.full((2, n), 7), np.full((2, 3), 7)), (sg.full((), 0.5), np.full((), 0.5)),
        (sg.zeros_like(x), np.zeros((3, 2), np.int32)), (sg.ones_like(x, "float32"), np.ones((3, 2), np.float32)),
        (sg.full_like(x, 2.9), np.full((3, 2), 2, np.int32)), (sg.full(2, n), np.full(2, 3)),
        (sg.full(2, n, "float32"), np.full(2, 3, np.float32)),
    ]:
        value = sg.evaluate(actual, feed)
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)
    with pytest.raises(sg.ShapeError, match="full: the value must be a scalar"):
        sg.full((2,), x)
    with pytest.raises(sg.ShapeError, match="full: a size cannot be negative"):
        sg.zeros((2, -1))


@pytest.mark.parametrize("arguments", [
    (5,), (0,), (-3,), (2, 9), (2, 9, 3), (9, 2, -2), (9, 2), (0.0, 1.0, 0.1), (1.5,), (1, 0, -0.25), (np.int64(4),),
])
@pytest.mark.parametrize("dtype", [None, "float32", "int16"])
def test_arange_is_numpys(arguments: Any, dtype: Any) -> None:
    if dtype == "int16" and any(isinstance(each, float) for each in arguments):
        return
    expected = np.arange(*arguments, dtype=dtype)
    actual = sg.evaluate(sg.arange(*arguments, dtype=dtype))
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


def test_arange_of_symbolic_ends() -> None:
    x = sg.placeholder("x", ("n",))
    n = x.shape[0]
    for size in (0, 1, 5):
        feed = {x: np.zeros(size, np.float32)}
        for arguments in [(n,), (1, n), (0, n, 2), (n, 0, -1), (n, 10), (0, 2 * n, 3)]:
            plain = [size if each is n else each.evaluate({"n": size}) if isinstance(each, sg.Dim) else each
                     for each in arguments]
            np.testing.assert_array_equal(sg.evaluate(sg.arange(*arguments), feed), np.arange(*plain), str(arguments))
    assert sg.arange(n).shape == (n,)
    with pytest.raises(sg.ArgumentError, match="a symbolic range needs integer ends"):
        sg.arange(0.5, n)
    with pytest.raises(sg.ArgumentError, match="step must be a number other than zero"):
        sg.arange(0, 5, 0)
    with pytest.raises(sg.ArgumentError, match="needs numbers or Dims"):
        sg.arange(x)


def test_eye_and_linspace() -> None:
    n = sg.placeholder("x", ("n",))
    for k in (-1, 0, 2):
        np.testing.assert_array_equal(sg.evaluate(sg.eye(3, 4, k)), np.eye(3, 4, k))
    np.testing.assert_array_equal(sg.evaluate(sg.eye(n.shape[0], dtype="int8"), {n: [0, 0]}), np.eye(2))
    np.testing.assert_array_equal(sg.evaluate(sg.linspace(0, 1, 5)), np.linspace(0, 1, 5))
    with pytest.raises(sg.ArgumentError, match="linspace: needs numbers"):
        sg.linspace(0, n.shape[0], 3)  # type: ignore[arg-type]


def test_asarray_and_names_of_numbers() -> None:
    x = sg.placeholder("x", (2,))
    assert sg.asarray(x) is x and sg.asarray(x, "float32") is x and sg.asarray(x, "float64").op.name == "astype"
    assert sg.asarray([1, 2], "float32") is sg.constant(np.array([1, 2], np.float32))
    assert (sg.pi, sg.e, sg.inf) == (np.pi, np.e, np.inf) and sg.nan != sg.nan and x[sg.newaxis].shape == (1, 2)
