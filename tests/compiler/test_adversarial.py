"""Graphs that were once compiled wrongly, or that go for an assumption of the compiler, against the NumPy meaning."""

from __future__ import annotations

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import registry
from staticgraph.tensor import Tensor

from .compare import check


def ramp(shape: tuple[int, ...], axis: int, dtype: str = "int64") -> Tensor:
    node: Tensor = registry["iota"](shape=shape, axis=axis, dtype=np.dtype(dtype))
    return node


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_a_literal_on_the_left_wraps_around_before_it_is_used(dtype: str) -> None:
    x = sg.placeholder("x", ("n",), dtype)
    limits = np.iinfo(dtype)
    low, high = (sg.constant(limit, dtype) for limit in (limits.min, limits.max))
    values = np.array([limits.min, limits.max, 0, 1, 2, 100], dtype)
    check({"low": (low - x) // 2, "high": (high + x) // 2, "wide": sg.astype(high + x, "float64"), "less": high + x < 3,
           "shift": (high * x) >> 1}, {x: values})


def test_int64_overflows_wrap_around_in_chains() -> None:
    x, y = (sg.placeholder(name, ("n",), "int64") for name in "xy")
    limits = np.iinfo(np.int64)
    values = np.array([limits.min, limits.max, 0, 1, -1, 6364136223846793005])
    left, right = (each.ravel() for each in np.meshgrid(values, values))
    check({"sum": x + y < x, "difference": (x - y) // 3, "product": (x * 3) // 3, "negative": sg.abs(-x) < 0,
           "running": sg.cumulative_sum(x) < 0, "hash": ((x * 6364136223846793005 + y) >> 33) * x,
           "matrix": sg.expand_dims(x, 0) @ sg.expand_dims(y, 1)}, {x: left, y: right})


def test_sums_of_bools_stay_bools_in_chains() -> None:
    x, y = (sg.placeholder(name, ("n",), "bool") for name in "xy")
    check({"equal": (x + y) == x, "most": sg.max(x + y), "not": sg.logical_not(x) + y, "less": x < x + y,
           "times": x * y + x, "number": sg.astype(x + y, "int8") * 3, "last": sg.argmax(x + y),
           "xor": (x + y) ^ (x * y)},
          {x: np.array([0, 0, 1, 1], bool), y: np.array([0, 1, 0, 1], bool)})


def test_formulas_that_leave_the_integers() -> None:
    floor_twice = sg.primitive("floor_twice", ref=lambda x: np.floor(x * 2.5).astype(np.int64),
                               scalar="int64({0} * 2.5)",
                               infer=lambda context, x: sg.types.TensorType(np.dtype(np.int64), x.shape))
    doubled = sg.primitive("doubled_number", ref=lambda x: (x + x).astype(np.int64), scalar="int64({0} + {0})",
                           infer=lambda context, x: sg.types.TensorType(np.dtype(np.int64), x.shape))
    x, y = sg.placeholder("x", ("n",), "int64"), sg.placeholder("y", ("n",), "float32")
    check({"x": floor_twice(x) - 1, "y": doubled(y) - 1}, {x: np.arange(5), y: np.arange(5, dtype=np.float32)})


def test_gathers_from_a_constant_of_one_element() -> None:
    i = sg.placeholder("i", ("n",), "int64")
    x = sg.placeholder("x", ("m",), "float32")
    spread = sg.broadcast_to(sg.constant(np.float32(2)) * x.shape[0], (3, 4))
    check({"alone": sg.take(sg.constant([5.0]), i), "spread": sg.take(sg.full((7,), 2.5, "float32"), i),
           "size": sg.take(spread, i, axis=1), "used": sg.sum(sg.exp(sg.take(sg.constant([0.5]), i)))},
          {i: np.array([0, 0, -1]), x: np.ones(4, np.float32)}, {i: np.zeros(0, np.int64), x: np.ones(1, np.float32)},
          bounds={"used": 4})


def test_ramps_of_several_axes_that_are_stored() -> None:
    x = sg.placeholder("x", (3, 4), "int64")
    along, down = ramp((3, 4), 1), ramp((3, 4), 0)
    check({"along": along, "down": down, "sum": along + x, "flipped": sg.flip(along, 1) * x,
           "sums": sg.sum(down * x, 1), "one": ramp((1, 4), 0), "float": sg.flip(ramp((3, 4), 0, "float32")) + x},
          {x: np.arange(12).reshape(3, 4)})


def test_an_index_out_of_range_loads_nothing() -> None:
    x = sg.placeholder("x", ("n", 1 << 22), "float64")
    i = sg.placeholder("i", ("m",), "int64")
    taken = sg.compile([x, i], sg.sum(sg.take(x, i, axis=0)))
    with pytest.raises(sg.errors.OutOfRangeError, match="index 0 is out of range for axis 0 of size 0"):
        taken(np.ones((0, 1 << 22)), np.zeros(5, np.int64))


def test_huge_unsigned_indices_do_not_count_from_the_back() -> None:
    x = sg.placeholder("x", ("n",), "float64")
    i = sg.placeholder("i", ("m",), "uint64")
    taken = sg.compile([x, i], sg.take(x, i))
    with pytest.raises(sg.errors.OutOfRangeError, match="out of range for size 4"):
        taken(np.ones(4), np.array([2**64 - 1], np.uint64))


def test_a_view_that_is_written_out_may_make_others_necessary() -> None:
    x = sg.placeholder("x", ("n",), "float64")
    y = sg.placeholder("y", (6, "n"), "float64")
    # any reshape of the repetition of `wide` is a view, until `wide` is an output
    wide = sg.broadcast_to(sg.sin(x), (3, *x.shape))
    repeated = sg.repeat(wide, 2, axis=0)
    check({"wide": wide, "sum": repeated + y, "product": repeated @ y.T, "running": sg.cumulative_sum(repeated, axis=0),
           "sorted": sg.sort(repeated)},
          *({x: np.arange(n) / 4, y: np.ones((6, n))} for n in (5, 1, 0)), relative=True)


@pytest.mark.parametrize("source", ["float32", "float64"])
def test_casts_of_floats_do_not_depend_on_where_they_stand(source: str) -> None:
    x = sg.placeholder("x", ("n",), source)
    values = np.array([0, 1, -1, 1.5, -1.5, 100.7, -100.7, 0.99, 300.7, -300.7, 4e4, -4e4, 7e4, -7e4, 2e9, -2e9],
                      source)
    dtypes = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
    check({dtype: sg.astype(x, dtype) for dtype in dtypes}, *({x: np.tile(values, 5)[:count]} for count in (1, 16, 67)))


def test_ops_with_names_beyond_ascii() -> None:
    doubled = sg.primitive("двойной", ref=lambda x: x * 2, scalar="{0} + {0}", vjp=lambda ct, y, x: (ct * 2,))
    x = sg.placeholder("x", ("n", "m"), "float64")
    v = sg.variable(np.arange(3.0))
    check({"map": doubled(x), "sums": sg.sum(doubled(x), 0)}, {x: np.arange(12.0).reshape(4, 3)})
    sg.compile([], [], updates={v: doubled(v)})()
    assert v.value.tolist() == [0, 2, 4]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_nan_that_only_a_sum_sees_is_kept(dtype: str) -> None:
    x = sg.placeholder("x", ("n", 3), dtype)
    formulas = {"itself": x - x, "doubled": x * 2 - x * 2, "exponential": sg.exp(x) - sg.exp(x), "negative": -x + x}
    values = np.array([[1, np.inf, 2], [3, 4, 5]], dtype)
    check({f"{name} {axis}": sg.sum(each, axis=axis) for name, each in formulas.items() for axis in (None, 0, 1)},
          {x: values})
    check({"row by row": x @ sg.permute_dims(x, (1, 0)) - sg.sum(x - x)}, {x: values})
