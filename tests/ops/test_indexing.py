"""Gathers, scatters and sorting against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import registry

from .cases import check, check_vjp, feeds, numbers

OPS = [registry[name] for name in ("gather", "gather_along", "scatter_add", "scatter_add_along")]


def x_(*shape: Any, name: str = "x", dtype: str = "float32") -> sg.Tensor:
    return sg.placeholder(name, shape, dtype)


@pytest.mark.parametrize("op, inputs, attrs", [(op, *example) for op in OPS for example in op.examples])
@pytest.mark.parametrize("static", [True, False])
def test_gradients_are_adjoint(op: Any, inputs: Any, attrs: Any, static: bool) -> None:
    check_vjp(op, inputs, attrs, static)


# take

@pytest.mark.parametrize("index", [[0, 2], [[-1], [1]], 1, [], np.array([1, 1], "uint16")])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_take(index: Any, axis: Any) -> None:
    positions = np.array(index, "int64") if isinstance(index, list) else index
    check(lambda x: sg.take(x, index, axis=axis), lambda x: np.take(x, positions, axis=axis), numbers(3, 3))
    check(lambda x: x.take(positions, axis), lambda x: np.take(x, positions, axis=axis), numbers(3, 3, dtype="bool"))


def test_take_tensor_indices() -> None:
    for dtype in ("int8", "uint8", "int32", "uint64", "int64"):
        check(lambda x, i: sg.take(x, i, axis=1), lambda x, i: np.take(x, i, axis=1), numbers(2, 3),
              np.array([[2, 0], [1, 1]], dtype))
    check(lambda x, i: sg.take(x, i, axis=1), lambda x, i: np.take(x, i, axis=1), numbers(2, 3), np.array([-3, -1]))
    check(lambda x, i: sg.take(x, i, axis=0), lambda x, i: np.take(x, i, axis=0), numbers(0, 3), np.zeros(0, "int64"))


def test_take_out_of_range() -> None:
    x, i = x_(10), x_("k", name="i", dtype="int64")
    with pytest.raises(sg.OutOfRangeError) as error:
        sg.take(x, [0, 12], axis=0)
    assert str(error.value) == ("take: index 12 is out of range for axis 0 of size 10\n"
                                f"  a: float32[10]   'x'   {x.location}")
    node = sg.take(x, i, axis=0)
    line = str(node.location)
    feed = {x: np.arange(10, dtype="f"), i: np.array([1, -11, 12])}
    with pytest.raises(sg.OutOfRangeError) as error:
        sg.evaluate(node, feed)
    first, *rows = str(error.value).splitlines()
    assert first == "take: index -11 is out of range for axis 0 of size 10"
    assert rows[0] == f"  a: int64[k]   'i'   {i.location}"
    assert rows[1].startswith("  b: int64[k]") and rows[1].endswith(line)
    with pytest.raises(sg.OutOfRangeError):
        sg.evaluate(sg.take(x[:0], i, axis=0), {**feed, i: np.array([0])})
    with pytest.raises(sg.OutOfRangeError, match=r"^take: index 6 is out of range for size 6\n  a: float32\[2, 3\]"):
        sg.take(x_(2, 3, name="m"), 6)


def test_take_errors() -> None:
    x = x_(2, 3)
    row = "  a: float32[2, 3]   'x'"
    with pytest.raises(sg.DTypeError, match=r"^take: indices must be integers\n") as error:
        sg.take(x, [0.5])
    assert row in str(error.value) and "got float64" in str(error.value)
    with pytest.raises(sg.ShapeError, match=r"^take: axis 2 is out of range\n"):
        sg.take(x, [0], axis=2)
    with pytest.raises(sg.DTypeError, match="indices must be integers"):
        sg.take(x, x > 0, axis=0)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (3, 0)])
def test_take_along_axis(axis: int, shape: Any) -> None:
    value = np.random.default_rng(1).random(shape)
    order = np.argsort(value, axis)
    check(lambda x, i: sg.take_along_axis(x, i, axis), lambda x, i: np.take_along_axis(x, i, axis), value, order)
    check(lambda x: sg.take_along_axis(x, order - shape[axis], axis=axis), lambda x: np.take_along_axis(x, order, axis),
          value)


def test_take_along_axis_broadcasts_and_flattens() -> None:
    one = np.array([[2, 0]])
    check(lambda x, i: sg.take_along_axis(x, i, 1), lambda x, i: np.take_along_axis(x, i, 1), numbers(3, 4), one,
          symbolic=False)
    check(lambda x, i: sg.take_along_axis(x, i), lambda x, i: np.take_along_axis(x, i, 1), numbers(1, 4),
          np.array([[1], [2]]), symbolic=False)
    check(lambda x, i: sg.take_along_axis(x, i, None), lambda x, i: np.take_along_axis(x, i, None), numbers(3, 4),
          np.array([11, 0]))


def test_take_along_axis_errors() -> None:
    x, i = x_(2, 3), x_(3, 1, name="i", dtype="int64")
    with pytest.raises(sg.ShapeError) as error:
        sg.take_along_axis(x, i)
    assert str(error.value) == ("take_along_axis: sizes of axis 0 do not broadcast\n"
                                f"  a: float32[2, 3]   'x'   {x.location}\n"
                                f"  b: int64[3, 1]     'i'   {i.location}\n  got 2 and 3")
    with pytest.raises(sg.ShapeError, match="needs as many dimensions of indices as of x"):
        sg.take_along_axis(x, [0])
    n, m = x_("n", 2, name="n"), x_("m", 1, name="m", dtype="int64")
    with pytest.raises(sg.ShapeError, match="gather_along: sizes of axis 0 differ"):
        sg.evaluate(sg.take_along_axis(n, m), {n: np.zeros((2, 2), "f"), m: np.zeros((3, 1), "int64")})


# scatter_add

def added(x: Any, i: Any, src: Any, axis: int) -> Any:
    result = x.copy()
    np.add.at(result, (slice(None),) * axis + (np.asarray(i),), src)
    return result


@pytest.mark.parametrize("axis", [0, 1])
def test_scatter_add(axis: int) -> None:
    index = np.array([2, 0, 2, -1])
    source = numbers(*((4, 3) if axis == 0 else (3, 4)))
    check(lambda x, i, s: sg.scatter_add(x, i, s, axis), lambda x, i, s: added(x, i, s, axis), numbers(3, 3), index,
          source)
    check(lambda x, i: sg.scatter_add(x, i, 1, axis), lambda x, i: added(x, i, 1, axis), numbers(3, 3, dtype="int8"),
          index)


def test_scatter_add_casts_and_broadcasts() -> None:
    x = x_(3, 2)
    result = sg.scatter_add(x, [[0, 0], [1, 2]], np.array([1, 2], "int16"))
    np.testing.assert_array_equal(sg.evaluate(result, {x: np.zeros((3, 2), "f")}), [[2, 4], [1, 2], [1, 2]])
    with pytest.raises(sg.DTypeError) as error:
        sg.scatter_add(x, [0], np.ones((1, 2)))
    assert str(error.value).startswith("scatter_add: float64 cannot be added to float32\n  a: float32[3, 2]")
    with pytest.raises(sg.ShapeError, match=r"^scatter_add: the source does not fit\n") as shape:
        sg.scatter_add(x, [0], x)
    assert str(shape.value).endswith("\n  needed a source that broadcasts to (1, 2)")
    with pytest.raises(sg.OutOfRangeError, match="scatter_add: index 3 is out of range for axis 0 of size 3"):
        sg.scatter_add(x, [3], 1.0)


def test_gradient_of_take_adds_repeated_rows() -> None:
    table, rows = x_("words", 2, name="table", dtype="float64"), x_("batch", name="rows", dtype="int64")
    picked = sg.take(table, rows, axis=0)
    ct = x_("batch", 2, name="ct", dtype="float64")
    [back, none] = picked.op.vjp(ct, picked, *picked.inputs, **picked.attrs)
    assert none is None and back.shape == table.shape
    value = sg.evaluate(back, {table: np.zeros((4, 2)), rows: np.array([3, -1, 0]), ct: numbers(3, 2)})
    np.testing.assert_array_equal(value, [[5, 6], [0, 0], [0, 0], [4, 6]])


# one_hot

@pytest.mark.parametrize("dtype", ["float32", "bool", "int8", "float64"])
def test_one_hot(dtype: str) -> None:
    check(lambda i: sg.one_hot(i, 4, dtype), lambda i: np.eye(4, dtype=dtype)[i], np.array([[0, 3], [1, 1]], "int32"))
    check(lambda i: sg.one_hot(i, 4, dtype), lambda i: np.eye(4, dtype=dtype)[i], np.zeros((0,), "uint64"))


def test_one_hot_outside_and_symbolic() -> None:
    i, x = x_("n", name="i", dtype="uint8"), x_("classes", name="x")
    rows = sg.one_hot(i, x.shape[0])
    assert rows.shape == (i.shape[0], x.shape[0]) and rows.dtype == "float32"
    value = sg.evaluate(rows, {i: np.array([1, 7], "uint8"), x: np.zeros(3, "f")})
    np.testing.assert_array_equal(value, [[0, 1, 0], [0, 0, 0]])
    assert sg.one_hot(2, 0).shape == (0,)
    with pytest.raises(sg.DTypeError, match=r"^one_hot: indices must be integers\n"):
        sg.one_hot(x, 3)
    with pytest.raises(sg.ArgumentError, match=r"^one_hot: size -1 is negative\n"):
        sg.one_hot(i, -1)


# sorting

UNORDERED = [
    np.array([[3.0, np.nan, -0.0, 0.0, -np.inf], [np.nan, np.inf, 1.0, 1.0, np.nan]]),
    np.array([[3, -128, 127, 3, 0]], "int8"), np.array([[3, 255, 0, 3, 0]], "uint8"), np.array([[True, False, True]]),
    np.zeros((2, 0)), np.zeros((0, 2)), np.array([[-2**63, 2**63 - 1, 0]]),
]


def descending_order(x: Any, axis: int) -> Any:
    """Stable and nan last: the standard leaves it open."""
    rows = np.moveaxis(x, axis, -1)
    order = [sorted(range(len(row)), key=lambda j, row=row: (row[j] != row[j], -row[j] if row[j] == row[j] else 0))
             for row in rows.reshape(-1, rows.shape[-1]).tolist()] if rows.size else []
    return np.moveaxis(np.array(order, "int64").reshape(rows.shape), -1, axis)


@pytest.mark.parametrize("value", UNORDERED)
@pytest.mark.parametrize("axis", [0, -1])
def test_sort_and_argsort(value: Any, axis: int) -> None:
    check(lambda x: sg.argsort(x, axis=axis), lambda x: np.argsort(x, axis, kind="stable"), value)
    check(lambda x: sg.sort(x, axis=axis), lambda x: np.sort(x, axis, kind="stable"), value)
    check(lambda x: x.argsort(axis, descending=True), lambda x: descending_order(x, axis), value)
    check(lambda x: x.sort(axis, descending=True),
          lambda x: np.take_along_axis(x, descending_order(x, axis), axis), value)


@pytest.mark.parametrize("k", [0, 1, 3])
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("axis", [0, -1])
def test_topk(k: int, largest: bool, axis: int) -> None:
    value = np.random.default_rng(5).permutation(12.0 * np.arange(12)).reshape(3, 4)
    order = np.argsort(-value if largest else value, axis, kind="stable").take(range(k), axis)
    check(lambda x: sg.topk(x, k, axis, largest), lambda x: (np.take_along_axis(x, order, axis), order), value)


def test_topk_of_too_few() -> None:
    x, y = x_(2, 3), x_("n", name="y")
    with pytest.raises(sg.ShapeError) as error:
        sg.topk(x, 4)
    assert str(error.value) == ("topk: cannot take 4 of axis 1, which has size 3\n"
                                f"  a: float32[2, 3]   'x'   {x.location}")
    with pytest.raises(sg.ShapeError, match="cannot take -1"):
        sg.topk(x, -1)
    values, _ = sg.topk(y, 2)
    np.testing.assert_array_equal(sg.evaluate(values, {y: np.array([1, 3, 2], "f")}), [3, 2])
    with pytest.raises(sg.ShapeError, match="axis 0, of size n, is too short"):
        sg.evaluate(values, {y: np.array([1], "f")})


def test_sort_errors() -> None:
    with pytest.raises(sg.ShapeError, match=r"^sort: axis -1 is out of range\n"):
        sg.sort(x_())
    with pytest.raises(sg.ShapeError, match=r"^argsort: axis 2 is out of range\n"):
        sg.argsort(x_(1, 2), axis=2)


def test_gradient_of_sort_follows_the_elements() -> None:
    value = np.array([[3.0, 1.0, 2.0]])
    [(x, _)] = feeds(value, static=False).items()
    node = sg.sort(x)
    ct = sg.constant(np.array([[10.0, 20.0, 30.0]]))
    [back, _] = node.op.vjp(ct, node, *node.inputs, **node.attrs)
    np.testing.assert_array_equal(sg.evaluate(back, {x: value}), [[30.0, 10.0, 20.0]])
