"""Views, concat and pad, and the functions made of them, against NumPy."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import registry
from staticgraph.ops.movement import slice_axes

from .cases import check, check_vjp, numbers

VIEWS = [registry[name] for name in ("reshape", "permute_dims", "broadcast_to", "slice", "concat", "pad")]


def x_(*shape: Any, name: str = "x", dtype: str = "float32") -> sg.Tensor:
    return sg.placeholder(name, shape, dtype)


@pytest.mark.parametrize("op, inputs, attrs, static", [
    (op, *example, static) for op in VIEWS for example in op.examples for static in (True, False)
    if static or op.name != "broadcast_to"])  # a symbolic size is never stretched
def test_gradients_are_adjoint(op: Any, inputs: Any, attrs: Any, static: bool) -> None:
    check_vjp(op, inputs, attrs, static)


# reshape

@pytest.mark.parametrize("shape, new", [((2, 3), (3, 2)), ((2, 3), (-1,)), ((6,), (2, -1)), ((), (1, 1)), ((1,), ()),
                                        ((0, 3), (0,)), ((0, 3), (-1,)), ((0, 3), (5, 0, 2)), ((4, 3), (2, -1, 3)),
                                        ((2, 3), -1), ((2, 3), 6)])
def test_reshape(shape: Any, new: Any) -> None:
    check(lambda x: sg.reshape(x, new), lambda x: x.reshape(new), numbers(*shape))
    if isinstance(new, tuple) and new:
        check(lambda x: x.reshape(*new), lambda x: x.reshape(*new), numbers(*shape))


def test_reshape_keeps_symbolic_sizes() -> None:
    x = x_("batch", 4, 6)
    batch = x.shape[0]
    assert x.reshape(-1, 24).shape == (batch, 24)
    assert x.reshape(-1).shape == (batch * 24,)
    assert x.reshape(-1, 6).shape == (batch * 4, 6)
    assert x.reshape(batch, -1).shape == (batch, 24)
    assert x.reshape(-1, batch).shape == (24, batch)
    assert x[1:].reshape(x[1:].shape[0], -1).shape == (x[1:].shape[0], 24)
    assert not x.reshape(-1, 24).guards
    both = sg.concat([x, x[:1]])
    assert both.reshape(both.shape[0], -1).shape == (both.shape[0], 24)


def test_reshape_folds() -> None:
    x = x_("batch", 6)
    assert x.reshape(-1, 6) is x
    assert x.reshape(-1).reshape(-1, 6) is x
    assert x.reshape(-1).reshape(-1, 2).inputs[0] is x


def test_reshape_that_may_not_divide_is_guarded() -> None:
    x = x_("batch", 3)
    pairs = x.reshape(-1, 2)
    assert str(pairs.shape[0]) == "(batch*3)//(2)"
    np.testing.assert_array_equal(sg.evaluate(pairs, {x: numbers(2, 3)[:].astype("f")}), numbers(3, 2))
    with pytest.raises(sg.ShapeError, match=r"^reshape: the number of elements differs\n"):
        sg.evaluate(pairs, {x: np.zeros((3, 3), "float32")})
    again = pairs.reshape(-1)  # must not lose the guard
    with pytest.raises(sg.ShapeError):
        sg.evaluate(again, {x: np.zeros((3, 3), "float32")})
    fixed = x.reshape(2, 3)
    np.testing.assert_array_equal(sg.evaluate(fixed, {x: numbers(2, 3).astype("f")}), numbers(2, 3))
    with pytest.raises(sg.ShapeError, match=r"needed 6 == batch\*3, got 6 and 9"):
        sg.evaluate(fixed, {x: np.zeros((3, 3), "float32")})


def line_of(tensor: sg.Tensor) -> str:
    return str(tensor.location)


def test_reshape_errors() -> None:
    x = x_(2, 3)
    with pytest.raises(sg.ShapeError) as error:
        x.reshape(4, 2)
    assert str(error.value) == ("reshape: the number of elements differs\n"
                                f"  a: float32[2, 3]   'x'   {line_of(x)}\n"
                                "  needed 6 elements, (4, 2) has 8")
    with pytest.raises(sg.ShapeError) as error:
        x.reshape(4, -1)
    assert str(error.value) == ("reshape: cannot fill in the -1 of (4, -1)\n"
                                f"  a: float32[2, 3]   'x'   {line_of(x)}\n"
                                "  6 elements do not divide by 4")
    with pytest.raises(sg.ShapeError) as error:
        x.reshape(-1, -1)
    assert str(error.value) == ("reshape: (-1, -1) is not a shape\n"
                                f"  a: float32[2, 3]   'x'   {line_of(x)}\n"
                                "  at most one size may be -1, the others are not negative")
    with pytest.raises(sg.ShapeError, match=r"\(-2,\) is not a shape"):
        x.reshape(-2)
    with pytest.raises(sg.ArgumentError, match=r"reshape: 2.5 of type float is not a size"):
        x.reshape(2.5)
    with pytest.raises(sg.ShapeError, match=r"cannot fill in"):
        x_(0, 3).reshape(0, -1)  # as NumPy: any size would do


# other views

@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0, 4), (1, 2, 3, 4)])
def test_permutations(shape: Any) -> None:
    check(sg.transpose, np.transpose, numbers(*shape))
    check(lambda x: x.T, lambda x: x.T, numbers(*shape))
    for axes in itertools.islice(itertools.permutations(range(len(shape))), 8):
        check(partial(sg.permute_dims, axes=axes), partial(np.transpose, axes=axes), numbers(*shape))
    if len(shape) >= 2:
        check(lambda x: x.mT, lambda x: np.swapaxes(x, -1, -2), numbers(*shape))
        check(lambda x: sg.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1), numbers(*shape))
        check(lambda x: sg.moveaxis(x, (0, 1), (-1, 0)), lambda x: np.moveaxis(x, (0, 1), (-1, 0)), numbers(*shape))
        check(lambda x: sg.swapaxes(x, 0, 1), lambda x: np.swapaxes(x, 0, 1), numbers(*shape))
        check(lambda x: x.transpose(*range(1, x.ndim), 0), lambda x: x.transpose(*range(1, x.ndim), 0), numbers(*shape))


def test_permutations_fold() -> None:
    x = x_("a", "b", "c")
    assert x.T.T is x and sg.permute_dims(x, (0, 1, -1)) is x
    assert sg.permute_dims(x.T, (1, 0, 2)).inputs[0] is x


def test_permutation_errors() -> None:
    x = x_(2, "n")
    row = f"  a: float32[2, n]   'x'   {line_of(x)}"
    with pytest.raises(sg.ShapeError) as error:
        sg.permute_dims(x, (0, 2))
    assert str(error.value) == f"permute_dims: axis 2 is out of range\n{row}\n  needed an axis of 2 dimensions"
    with pytest.raises(sg.ShapeError) as error:
        sg.permute_dims(x, (0, 0))
    assert str(error.value) == f"permute_dims: an axis is repeated in (0, 0)\n{row}"
    with pytest.raises(sg.ShapeError) as error:
        sg.permute_dims(x, (0,))
    assert str(error.value) == f"permute_dims: (0,) is not a permutation of 2 axes\n{row}"
    with pytest.raises(sg.ShapeError, match=r"^matrix_transpose: needs at least 2 dimensions\n"):
        x_(3).mT
    with pytest.raises(sg.ArgumentError, match=r"as many destinations as sources"):
        sg.moveaxis(x, (0, 1), 0)
    with pytest.raises(sg.ArgumentError, match=r"'a' of type str is not an axis"):
        sg.swapaxes(x, "a", 0)


@pytest.mark.parametrize("shape, new", [((3,), (2, 3)), ((3, 1), (3, 4)), ((), (2, 0)), ((1, 1), (5, 1, 2)),
                                        ((0,), (2, 0))])
def test_broadcast_to(shape: Any, new: Any) -> None:
    check(lambda x: sg.broadcast_to(x, new), lambda x: np.broadcast_to(x, new), numbers(*shape), symbolic=False)


def test_broadcast_to_symbolic() -> None:
    x, y = x_(1, 3), x_("n", "m", name="y")
    wide = sg.broadcast_to(x, (y.shape[0], 3))
    value = sg.evaluate(wide, {x: np.ones((1, 3), "f"), y: np.zeros((4, 2), "f")})
    np.testing.assert_array_equal(value, np.ones((4, 3)))
    assert sg.broadcast_to(sg.broadcast_to(x, (2, 3)), (4, 2, 3)).inputs[0] is x
    assert sg.broadcast_to(x, (1, 3)) is x
    guarded = sg.broadcast_to(y, (5, y.shape[1]))
    with pytest.raises(sg.ShapeError):  # a symbolic 1 is not stretched
        sg.evaluate(guarded, {y: np.zeros((1, 2), "f")})
    with pytest.raises(sg.ShapeError) as error:
        sg.broadcast_to(x, (2, 4))
    assert str(error.value) == ("broadcast_to: cannot stretch to (2, 4)\n"
                                f"  a: float32[1, 3]   'x'   {line_of(x)}\n  got 4 and 3")
    with pytest.raises(sg.ShapeError, match=r"cannot stretch to \(3,\)"):
        sg.broadcast_to(x, (3,))
    with pytest.raises(sg.ShapeError, match=r"cannot stretch to \(-1, 3\)"):
        sg.broadcast_to(x, (-1, 3))


def test_gradient_of_broadcast_sums_stretched_axes_only() -> None:
    x = x_(1, "n", 1, 1, dtype="float64")
    y = sg.broadcast_to(x, (2, 5, x.shape[1], 1, 3))
    ct = x_(2, 5, "n", 1, 3, name="ct", dtype="float64")
    [result] = y.op.vjp(ct, y, x, **y.attrs)
    assert result.shape == x.shape
    value = numbers(2, 5, 4, 1, 3)
    np.testing.assert_allclose(sg.evaluate(result, {ct: value, x: numbers(1, 4, 1, 1)}),
                               value.sum((0, 1, 4)).reshape(1, 4, 1, 1))


@pytest.mark.parametrize("axis", [0, 1, -1, -3, (0, 1), (-1, 0), ()])
def test_expand_dims(axis: Any) -> None:
    check(lambda x: sg.expand_dims(x, axis), lambda x: np.expand_dims(x, axis), numbers(2, 3))


def test_expand_dims_errors() -> None:
    x = x_(2)
    with pytest.raises(sg.ShapeError, match=r"^expand_dims: axis 2 is out of range\n.*\n  needed an axis of 2 dim"):
        sg.expand_dims(x, 2)
    with pytest.raises(sg.ArgumentError, match="None of type NoneType is not an axis"):
        sg.expand_dims(x, None)


def test_squeeze() -> None:
    check(sg.squeeze, np.squeeze, numbers(1, 3, 1), symbolic=False)
    check(lambda x: sg.squeeze(x, 0), lambda x: np.squeeze(x, 0), numbers(1, 3, 1), symbolic=False)
    check(lambda x: x.squeeze((0, -1)), lambda x: x.squeeze((0, -1)), numbers(1, 0, 1), symbolic=False)
    x = x_("n", 2, 1)
    assert sg.squeeze(x).shape == x.shape[:2]
    with pytest.raises(sg.ShapeError) as error:
        sg.squeeze(x, 1)
    assert str(error.value) == ("squeeze: axis 1 is not of size 1\n"
                                f"  a: float32[n, 2, 1]   'x'   {line_of(x)}\n  needed 1, got 2")
    with pytest.raises(sg.ShapeError, match=r"needed 1, got n"):
        sg.squeeze(x, 0)


def test_slice_folds_and_merges() -> None:
    x = x_("n", 10)
    n = x.shape[0]
    assert x[:, :] is x and x[...] is x and x[:] is x
    assert x[:, ::-1][:, ::-1] is x
    twice = x[:, 1::2][:, 1:]
    assert twice.inputs[0] is x and twice.attrs["starts"] == (0, 3) and twice.attrs["steps"] == (1, 2)
    assert x[::-1][1:].inputs[0] is x
    assert slice_axes(x, (0, 4), (1, 3), (n, 1)) is slice_axes(x, (0, 4), (1, 1), (n, 1))


def test_slice_out_of_range() -> None:
    x = x_(4)
    with pytest.raises(sg.ShapeError) as error:
        slice_axes(x, (2,), (1,), (3,))
    assert str(error.value) == ("slice: axis 0, of size 4, is too short\n"
                                f"  a: float32[4]   'x'   {line_of(x)}\n  got -1 and 0")
    y = x_("n")
    guarded = slice_axes(y, (2,), (1,), (3,))
    np.testing.assert_array_equal(sg.evaluate(guarded, {y: np.arange(5, dtype="f")}), [2, 3, 4])
    with pytest.raises(sg.ShapeError, match=r"axis 0, of size n, is too short"):
        sg.evaluate(guarded, {y: np.arange(4, dtype="f")})


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1), ()])
@pytest.mark.parametrize("shape", [(2, 3), (0, 1), (1, 5)])
def test_flip(axis: Any, shape: Any) -> None:
    check(lambda x: sg.flip(x, axis), lambda x: np.flip(x, axis), numbers(*shape))


# concat, stack and the like

@pytest.mark.parametrize("shapes, axis", [([(2, 3), (1, 3)], 0), ([(2, 3), (2, 0), (2, 4)], 1), ([(2, 3)], -1),
                                          ([(2, 3), (4,)], None), ([(0,), (0,)], 0), ([(2,), (2,)], 0)])
def test_concat(shapes: Any, axis: Any) -> None:
    check(lambda *xs: sg.concat(xs, axis), lambda *xs: np.concatenate(xs, axis), *(numbers(*shape) for shape in shapes))
    check(lambda *xs: sg.concatenate(list(xs), axis=axis), lambda *xs: np.concatenate(xs, axis),
          *(numbers(*shape, dtype="int32") for shape in shapes))


def test_concat_promotes_and_adds_symbolic_sizes() -> None:
    a, b = x_("n", 2), x_("m", 2, name="b", dtype="int32")
    both = sg.concat([a, b, np.ones((1, 2), "int8")])
    assert both.dtype == "float64" and both.shape == (a.shape[0] + b.shape[0] + 1, 2)
    assert sg.concat([a]) is a


def test_concat_errors() -> None:
    a, b = x_(2, 3), x_(2, 4, name="b")
    rows = f"  a: float32[2, 3]   'x'   {line_of(a)}\n  b: float32[2, 4]   'b'   {line_of(b)}"
    with pytest.raises(sg.ShapeError) as error:
        sg.concat([a, b])
    assert str(error.value) == f"concat: sizes of axis 1 differ\n{rows}\n  got 3 and 4"
    with pytest.raises(sg.ArgumentError, match=r"^concat: needs at least one tensor$"):
        sg.concat([])
    with pytest.raises(sg.ShapeError, match=r"^concat: tensors without axes cannot be joined"):
        sg.concat([1.0, 2.0])
    with pytest.raises(sg.ShapeError, match=r"same number of dimensions"):
        sg.concat([a, b[0]])
    with pytest.raises(sg.ShapeError, match=r"^concat: axis 2 is out of range"):
        sg.concat([a, b], 2)
    n, m = x_("n", 1, name="n"), x_("m", 1, name="m")
    with pytest.raises(sg.ShapeError, match=r"concat: sizes of axis 0 differ"):
        sg.evaluate(sg.concat([n, m], 1), {n: np.ones((2, 1), "f"), m: np.ones((3, 1), "f")})


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_stack_and_unstack(axis: int) -> None:
    check(lambda *xs: sg.stack(xs, axis), lambda *xs: np.stack(xs, axis), numbers(2), numbers(2) * 3)
    check(lambda *xs: sg.stack(xs, axis), lambda *xs: np.stack(xs, axis), numbers(2, 0), numbers(2, 0))
    check(lambda x: sg.unstack(x, axis), lambda x: [np.take(x, i, axis) for i in range(x.shape[axis])], numbers(2, 3),
          symbolic=False)


def test_stack_and_unstack_errors() -> None:
    a, b = x_(2), x_(3, name="b")
    with pytest.raises(sg.ShapeError) as error:
        sg.stack([a, b])
    assert str(error.value) == ("stack: shapes differ\n"
                                f"  a: float32[2]   'x'   {line_of(a)}\n  b: float32[3]   'b'   {line_of(b)}")
    with pytest.raises(sg.ArgumentError, match=r"^stack: needs at least one tensor$"):
        sg.stack([])
    with pytest.raises(sg.ShapeError) as error:
        sg.unstack(x_("n", 2))
    assert str(error.value).endswith("needed a static size, got n")


@pytest.mark.parametrize("sections", [1, 2, [1, 3], [0, 6], []])
def test_split(sections: Any) -> None:
    check(lambda x: sg.split(x, sections, 1), lambda x: np.split(x, sections, 1), numbers(2, 6), symbolic=False)


def test_split_symbolic() -> None:
    x = x_("n", 2)
    flat = x.reshape(-1)
    first, second = sg.split(flat, 2)
    assert first.shape == second.shape == x.shape[:1]
    np.testing.assert_array_equal(sg.evaluate(second, {x: numbers(3, 2).astype("f")}), [4, 5, 6])
    with pytest.raises(sg.ShapeError, match=r"split: axis 0 does not divide into 3 equal parts"):
        sg.split(x, 3)
    with pytest.raises(sg.ShapeError, match=r"split: positions go from 3 to 1"):
        sg.split(x_(6), [3, 1])


@pytest.mark.parametrize("shift, axis", [(1, None), (-2, 0), (7, 1), ((1, 2), (0, 1)), (1, (0, 1)), ((1, 1), 0),
                                         (0, 0)])
@pytest.mark.parametrize("shape", [(3, 4), (0, 2), (1, 1)])
def test_roll(shift: Any, axis: Any, shape: Any) -> None:
    check(lambda x: sg.roll(x, shift, axis), lambda x: np.roll(x, shift, axis), numbers(*shape))


def test_roll_errors() -> None:
    with pytest.raises(sg.ArgumentError, match=r"as many shifts as axes"):
        sg.roll(x_(2, 3), (1, 2, 3), (0, 1))
    with pytest.raises(sg.ArgumentError, match=r"roll: 1.5 of type float is not a size"):
        sg.roll(x_(2, 3), 1.5, 0)


@pytest.mark.parametrize("repetitions", [2, (2,), (2, 3), (1, 1), (2, 1, 3), (0, 2), ()])
@pytest.mark.parametrize("shape", [(2, 3), (0, 1), ()])
def test_tile(repetitions: Any, shape: Any) -> None:
    check(lambda x: sg.tile(x, repetitions), lambda x: np.tile(x, repetitions), numbers(*shape), symbolic=False)
    if 1 not in shape:
        check(lambda x: sg.tile(x, repetitions), lambda x: np.tile(x, repetitions), numbers(*shape))


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("shape", [(2, 3), (0, 2)])
def test_repeat(axis: Any, count: int, shape: Any) -> None:
    check(lambda x: sg.repeat(x, count, axis), lambda x: np.repeat(x, count, axis), numbers(*shape))


def test_tile_and_repeat_errors() -> None:
    x = x_(2)
    with pytest.raises(sg.ArgumentError, match=r"^tile: -1 is negative\n"):
        sg.tile(x, -1)
    with pytest.raises(sg.ArgumentError, match=r"^repeat: a tensor is not a size\n"):
        sg.repeat(x, x)


# pad

@pytest.mark.parametrize("widths", [1, (1, 2), ((1, 2),), ((0, 1), (2, 0)), 0, [(3, 0), [0, 0]], ((1,), (2,)), (2,)])
@pytest.mark.parametrize("shape", [(2, 3), (0, 1)])
def test_pad(widths: Any, shape: Any) -> None:
    check(lambda x: sg.pad(x, widths), lambda x: np.pad(x, widths), numbers(*shape))
    check(lambda x: sg.pad(x, widths, constant_values=7), lambda x: np.pad(x, widths, constant_values=7),
          numbers(*shape, dtype="uint8"))


def test_pad_values_and_symbolic_widths() -> None:
    x, other = x_("n"), x_("m", name="other")
    padded = sg.pad(x, (other.shape[0], 1), -0.5)
    assert padded.shape == (x.shape[0] + other.shape[0] + 1,)
    np.testing.assert_array_equal(sg.evaluate(padded, {x: np.ones(2, "f"), other: np.zeros(2, "f")}),
                                  [-0.5, -0.5, 1, 1, -0.5])
    assert sg.pad(x, 0) is x
    assert np.isnan(sg.evaluate(sg.pad(x, 1, np.nan), {x: np.ones(1, "f")})[0])
    mask = sg.pad(x > 0, (1, 0), True)
    np.testing.assert_array_equal(sg.evaluate(mask, {x: np.zeros(1, "f")}), [True, False])


def test_pad_errors() -> None:
    x = x_(2, 3)
    row = f"  a: float32[2, 3]   'x'   {line_of(x)}"
    with pytest.raises(sg.ShapeError) as error:
        sg.pad(x, ((0, 0), (1, -1)))
    assert str(error.value) == f"pad: widths of axis 1 are negative\n{row}\n  got (1, -1)"
    with pytest.raises(sg.ShapeError) as error:
        sg.pad(x, ((1, 1), (1, 1), (1, 1)))
    assert str(error.value) == f"pad: 3 pairs of widths for 2 axes\n{row}"
    with pytest.raises(sg.ArgumentError, match=r"are not widths"):
        sg.pad(x, ((1, 2), 3))
    with pytest.raises(sg.ArgumentError, match=r"pad: 1.5 of type float is not a size"):
        sg.pad(x, 1.5)
    with pytest.raises(sg.DTypeError, match=r"pad: 0.5 is not a value of int32"):
        sg.pad(x_(2, dtype="int32"), 1, 0.5)
    with pytest.raises(sg.DTypeError, match=r"does not fit"):
        sg.pad(x_(2, dtype="int8"), 1, 300)
