"""x[...] against NumPy, on static and on symbolic sizes."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.tensor import toposort

from .cases import check, numbers

BOUNDS = [None, 0, 1, 2, 4, 7, -1, -2, -5, -9]
STEPS = [None, 1, 2, 3, -1, -2, -4]


def x_(*shape: Any, name: str = "x", dtype: str = "float32") -> sg.Tensor:
    return sg.placeholder(name, shape, dtype)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("start", BOUNDS)
def test_slices(start: Any, step: Any) -> None:
    """Every stop at once; the same nodes for every size, as a compiled step has them."""
    x = x_("n", dtype="float64")
    keys = [slice(start, stop, step) for stop in BOUNDS]
    nodes = [x[key] for key in keys]
    for size in (0, 1, 2, 3, 4, 5, 8):
        value = np.arange(size, dtype="float64")
        static = x_(size, dtype="float64")
        for key, result in zip(keys, sg.evaluate(nodes, {x: value}), strict=True):
            np.testing.assert_array_equal(result, value[key], strict=True)
        for key, result in zip(keys, sg.evaluate([static[key] for key in keys], {static: value}), strict=True):
            np.testing.assert_array_equal(result, value[key], strict=True)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("start", BOUNDS)
def test_gradients_of_slices(start: Any, step: Any) -> None:
    """The gradient of a slice puts the cotangent where the slice read."""
    for size, named in itertools.product((0, 1, 3, 6), (True, False)):
        x = x_("n" if named else size, dtype="float64")
        for stop in BOUNDS:
            y = x[start:stop:step]
            length = len(range(size)[start:stop:step])
            ct = x_(*y.shape, name="ct", dtype="float64")
            if y is x:
                continue
            [back] = y.op.vjp(ct, y, x, **y.attrs)
            expected = np.zeros(size)
            expected[start:stop:step] = numbers(length)
            assert back.shape == x.shape
            result = sg.evaluate(back, {x: np.zeros(size), ct: numbers(length)})
            np.testing.assert_array_equal(result, expected, strict=True)


def test_symbolic_bounds() -> None:
    x, other = x_("n", dtype="float64"), x_("m", name="other")
    n, m = x.shape[0], other.shape[0]
    keys = {
        "n // 2:": slice(n // 2, None), ":n // 2": slice(None, n // 2), "m:": slice(m, None), ":m": slice(None, m),
        "-m:": slice(-m, None), ":-m": slice(None, -m), "m::-1": slice(m, None, -1), ":m:-2": slice(None, m, -2),
        ":-m:-1": slice(None, -m, -1), "m:n - 1": slice(m, n - 1), "n - 1::-1": slice(n - 1, None, -1),
        "m:-1:2": slice(m, -1, 2), "-m - 1::-1": slice(-m - 1, None, -1),
    }
    for size, count in itertools.product((1, 2, 5), (1, 2, 3, 7)):
        value = np.arange(float(size))
        results = sg.evaluate({name: x[key] for name, key in keys.items()}, {x: value, other: np.zeros(count, "f")})
        for name, result in results.items():
            expected = eval(f"value[{name}]", {"value": value, "n": size, "m": count})
            np.testing.assert_array_equal(result, expected, err_msg=f"[{name}] of {size}, m = {count}")


def test_symbolic_bounds_of_static_axes() -> None:
    x, other = x_(3, dtype="float64"), x_("m", name="other")
    m = other.shape[0]
    nodes = [x[m:], x[:m], x[-m:], x[m::-1], x[m - 2:]]
    for count in (2, 3, 5):
        results = sg.evaluate(nodes, {x: np.arange(3.0), other: np.zeros(count, "f")})
        value = np.arange(3.0)
        for result, key in zip(results, (slice(count, None), slice(None, count), slice(-count, None),
                                         slice(count, None, -1), slice(count - 2, None)), strict=True):
            np.testing.assert_array_equal(result, value[key])


def test_a_bound_that_may_be_negative_counts_from_the_start() -> None:
    x = x_("n", dtype="float64")
    n = x.shape[0]
    early, late = x[:n - 3], x[n - 3:]
    assert early.shape == x[:-3].shape
    for size in (1, 3, 5):
        value = np.arange(float(size))
        first, second = sg.evaluate([early, late], {x: value})
        np.testing.assert_array_equal(first, value[:max(size - 3, 0)])
        np.testing.assert_array_equal(second, value[max(size - 3, 0):])


def test_symbolic_sizes_stay_simple() -> None:
    x = x_("n")
    n = x.shape[0]
    assert x[:] is x and x[::-1].shape == (n,) and x[0:n] is x
    assert str(x[1:].shape[0]) == str(x[:-1].shape[0]) == str(x[:n - 1].shape[0]) == "max(0, n - 1)"
    assert str(x[2:-2].shape[0]) == "max(0, n - 4)"
    assert str(x[:5].shape[0]) == str(x[-5:].shape[0]) == "min(5, n)"
    assert str(x[::2].shape[0]) == "(n + 1)//(2)" and str(x[1::2].shape[0]) == "(n)//(2)"
    assert x[3:1].shape == (0,) and x[-1:-3].shape == (0,) and x[1:3:-1].shape == (0,)
    assert (x[1:] - x[:-1]).shape == x[1:].shape and not (x[1:] - x[:-1]).guards


# ints, None, Ellipsis

@pytest.mark.parametrize("key", [0, -1, (0, 1), (..., -1), (None, 1), (1, None, ...), (slice(None), None, 2),
                                 (..., None), (), None, (None, slice(1), None, -1, None), np.int32(1), np.array(1),
                                 (0, slice(1, None)), (slice(None, None, -1), 0), (Ellipsis, slice(0, 0))])
def test_basic(key: Any) -> None:
    check(lambda x: x[key], lambda x: x[key], numbers(2, 3))
    check(lambda x: x[key], lambda x: x[key], numbers(2, 3, 4, dtype="int32"))


def test_an_int_out_of_range_of_a_static_axis_is_an_error_at_once() -> None:
    x = x_(2, 10)
    with pytest.raises(sg.OutOfRangeError) as error:
        x[:, 12]
    assert isinstance(error.value, IndexError)
    assert str(error.value) == ("getitem: index 12 is out of range for axis 1 of size 10\n"
                                f"  a: float32[2, 10]   'x'   {x.location}")
    with pytest.raises(sg.OutOfRangeError, match="index -3 is out of range for axis 0 of size 2"):
        x[-3]
    with pytest.raises(sg.OutOfRangeError, match="index 0 is out of range for axis 0 of size 0"):
        x_(0)[0]


def test_an_int_out_of_range_of_a_symbolic_axis_is_an_error_at_the_call() -> None:
    x = x_("n")
    last_but_one, third = x[-2], x[2]
    values = sg.evaluate([last_but_one, third], {x: np.arange(4, dtype="f")})
    assert values[0] == values[1] == 2
    with pytest.raises(sg.OutOfRangeError, match=r"^getitem: index 2 is out of range for axis 0 of size 1\n"):
        sg.evaluate(third, {x: np.zeros(1, "f")})
    with pytest.raises(sg.OutOfRangeError, match=r"^getitem: index -2 is out of range for axis 0 of size 1\n"):
        sg.evaluate(last_but_one, {x: np.zeros(1, "f")})


def test_iteration_ends() -> None:
    x = x_(3, 2)
    assert len(x) == len(list(x)) == 3
    with pytest.raises(sg.ShapeError):
        iter(x_("n"))


# arrays

ARRAYS = [np.array([2, 0, 2]), np.array([[1, -1]]), np.array([], "int64"), [0, 1], np.array([1], "uint8")]


@pytest.mark.parametrize("index", ARRAYS)
def test_one_array(index: Any) -> None:
    for key in [index, (slice(None), index), (..., index), (None, index), (0, index), (index, 0),
                (index, slice(1, None)), (0, slice(None), index), (index, None, 1), (slice(None, None, -1), index),
                (1, None, index), (index, ..., 1)]:
        check(lambda x, key=key: x[key], lambda x, key=key: x[key], numbers(3, 4, 5))


def test_several_arrays() -> None:
    rows, columns = np.array([0, 2, 1]), np.array([3, -1, 0])
    for key in [(rows, columns), (rows[:, None], columns), (slice(None), rows, columns), (rows, slice(None), columns),
                (rows, None, columns), (rows, columns, 0), (rows, 0, columns), (..., rows, columns), (0, rows, columns),
                (rows, columns, slice(1, 3)), (rows, columns, rows), ([0], columns, slice(None, None, -2))]:
        check(lambda x, key=key: x[key], lambda x, key=key: x[key], numbers(3, 4, 5))
    empty = np.array([], "int64")
    check(lambda x: x[empty, empty], lambda x: x[empty, empty], numbers(0, 4, 2))


def test_tensor_indices() -> None:
    x, rows, pick = x_("n", 4), x_("k", name="rows", dtype="int32"), x_(name="pick", dtype="int64")
    value, chosen = numbers(3, 4).astype("f"), np.array([2, -3], "int32")
    feed = {x: value, rows: chosen, pick: np.int64(1)}
    nodes = [x[rows], x[rows, 1], x[:, pick], x[pick, pick], x[rows, pick], x[rows, rows], x[pick, None, rows], x[pick]]
    keys: list[Any] = [chosen, (chosen, 1), (slice(None), 1), (1, 1), (chosen, 1), (chosen, chosen), (1, None, chosen),
                       1]
    for node, key, result in zip(nodes, keys, sg.evaluate(nodes, feed), strict=True):
        np.testing.assert_array_equal(result, value[key], strict=True)
        assert node.dtype == result.dtype
    with pytest.raises(sg.OutOfRangeError, match=r"^getitem: index 3 is out of range for axis 0 of size 3\n"):
        sg.evaluate(x[rows], {**feed, rows: np.array([3], "int32")})
    np.testing.assert_array_equal(sg.evaluate(x[x.shape[0] - 1], feed), value[-1])


def test_rows_and_labels() -> None:
    """The idiom of a cross entropy by hand."""
    x, labels = x_("n", 4), x_("n", name="labels", dtype="int64")
    picked = x[sg.arange(x.shape[0]), labels]
    value = numbers(3, 4).astype("f")
    np.testing.assert_array_equal(sg.evaluate(picked, {x: value, labels: np.array([3, 0, 1])}), [4, 5, 10])


def test_static_masks() -> None:
    mask = np.array([True, False, True])
    check(lambda x: x[mask], lambda x: x[mask], numbers(3, 2), symbolic=False)
    both = np.array([[True, False], [True, True], [False, False]])
    check(lambda x: x[both], lambda x: x[both], numbers(3, 2, 2), symbolic=False)
    check(lambda x: x[:, both], lambda x: x[:, both], numbers(2, 3, 2), symbolic=False)


def test_random_keys() -> None:
    """Mixed keys on three axes, a few hundred of them, always the same."""
    rng = random.Random(3)
    value = numbers(3, 4, 5)
    for _ in range(300):
        parts = [rng.choice([
            slice(rng.choice(BOUNDS), rng.choice(BOUNDS), rng.choice(STEPS)), rng.randrange(-3, 3), None,
            np.array([rng.randrange(-3, 3) for _ in range(2)]),
        ]) for _ in range(rng.randint(1, 4))]
        while sum(part is not None for part in parts) > 3:
            parts.pop()
        if rng.random() < 0.4:
            parts.insert(rng.randint(0, len(parts)), Ellipsis)
        key = tuple(parts)
        check(lambda x, key=key: x[key], lambda x, key=key: x[key], value)


def test_errors() -> None:
    x, mask = x_(2, 3), x_(2, name="mask", dtype="bool")
    row = f"  a: float32[2, 3]   'x'   {x.location}"
    with pytest.raises(sg.OutOfRangeError) as error:
        x[0, 0, 0]
    assert str(error.value) == f"getitem: too many indices, 3 for 2 axes\n{row}"
    with pytest.raises(sg.ArgumentError) as argument:
        x[..., 0, ...]
    assert str(argument.value) == f"getitem: more than one '...'\n{row}"
    with pytest.raises(sg.ArgumentError, match=r"^getitem: True is not an index\n"):
        x[True]
    with pytest.raises(sg.ArgumentError) as argument:
        x[::0]
    assert str(argument.value) == f"getitem: the step of a slice must be an int other than 0\n{row}\n  got 0"
    with pytest.raises(sg.ArgumentError, match="got n"):
        x[::x_("n").shape[0]]
    with pytest.raises(sg.ArgumentError, match="getitem: a tensor is not a size"):
        x[:x_(name="stop", dtype="int64")]
    with pytest.raises(sg.DTypeError) as dtype:
        x[mask]
    assert "use sg.where, or multiply by the mask" in str(dtype.value) and "'mask'" in str(dtype.value)
    with pytest.raises(sg.DTypeError, match="indices must be integers"):
        x[1.5]
    with pytest.raises(sg.DTypeError, match="indices must be integers"):
        x[x_(2, name="f")]
    with pytest.raises(sg.OutOfRangeError, match="index 3 is out of range for axis 1 of size 3"):
        x[:, [0, 3]]
    with pytest.raises(sg.ShapeError, match="do not broadcast"):
        x[[0, 1], [0, 1, 2]]
    with pytest.raises(sg.ShapeError, match=r"mask of shape \(3,\) does not fit"):
        x[np.array([True, False, True])]
    with pytest.raises(sg.ShapeError, match=r"mask of shape \(3,\) does not fit"):
        x_("n")[np.array([True, False, True])]


def test_slices_of_slices_have_the_sizes_of_one_slice() -> None:
    """So that stencils, and differences taken twice, need no guards."""
    x = x_("n")
    assert x[1:][1:] is x[2:] and x[:-1][:-1] is x[:-2] and x[1:][:-1] is x[:-1][1:]
    assert x[1:][:-1].shape == x[1:-1].shape and x[::2][::2].shape == x[::4].shape
    twice = sg.diff(sg.diff(x))
    assert twice.shape == (x[2:] - 2 * x[1:-1] + x[:-2]).shape == x[2:].shape
    assert not any(node.guards for node in toposort([twice, x[2:] - x[1:-1]]))


@pytest.mark.parametrize("key", [slice(1, None), slice(None, None, -2), slice(-3, 9, 3), [0, 2, 0],
                                 (slice(None), [1, 1]), ([0, 1], [1, 1]), -1, (..., 0), (None, 1)])
def test_gradients_twice(key: Any) -> None:
    """y = x[key], z = sum(w * y**3): both gradients are known, and go through every rule and its own gradient."""
    rng = np.random.default_rng(4)
    x = x_("n", "m", dtype="float64")
    value, v = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    picked = value[key]
    w = rng.standard_normal(picked.shape)
    first = sg.grad(sg.sum(sg.constant(w) * x[key] ** 3), x)
    second = sg.grad(sg.sum(first * v), x)
    expected = [np.zeros((4, 3)), np.zeros((4, 3))]
    np.add.at(expected[0], key, 3 * w * picked ** 2)
    np.add.at(expected[1], key, 6 * w * picked * v[key])
    for result, wanted in zip(sg.evaluate([first, second], {x: value}), expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-12, atol=1e-12)
