"""Products against NumPy: every rank, empty axes, symbolic sizes, dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import registry

from .cases import check, check_vjp, feeds, numbers

matmul_op = registry["matmul"]


def x_(*shape: Any, name: str = "x", dtype: str = "float32") -> sg.Tensor:
    return sg.placeholder(name, shape, dtype)


@pytest.mark.parametrize("inputs, attrs", matmul_op.examples)
@pytest.mark.parametrize("static", [True, False])
def test_gradients_are_adjoint(inputs: Any, attrs: Any, static: bool) -> None:
    check_vjp(matmul_op, inputs, attrs, static)


SHAPES = [((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,)),
          ((3,), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)), ((6, 5, 2, 3), (5, 3, 4)), ((2, 0), (0, 3)), ((0, 2), (2, 3)),
          ((0,), (0,)), ((2, 3), (3, 0)), ((0, 2, 3), (3, 4)), ((7, 1, 5), (7, 5, 3)), ((1, 1), (1, 1))]


@pytest.mark.parametrize("shapes", SHAPES)
def test_matmul(shapes: Any) -> None:
    arrays = [numbers(*shape) for shape in shapes]
    check(sg.matmul, np.matmul, *arrays)
    check(lambda a, b: a @ b, np.matmul, *arrays)
    check(lambda a: a @ arrays[1], lambda a: a @ arrays[1], arrays[0], symbolic=False)
    check(lambda b: arrays[0] @ b, lambda b: arrays[0] @ b, arrays[1], symbolic=False)


@pytest.mark.parametrize("shapes", [((1, 2, 3), (5, 3, 4)), ((5, 2, 3), (1, 3, 4)), ((4, 1, 2, 3), (5, 3, 4)),
                                    ((1, 2, 3), (0, 3, 4))])
def test_matmul_stretches_leading_ones(shapes: Any) -> None:
    check(sg.matmul, np.matmul, *[numbers(*shape) for shape in shapes], symbolic=False)


@pytest.mark.parametrize("dtypes", [("int32", "int32"), ("int8", "uint8"), ("bool", "bool"), ("float32", "int32"),
                                    ("float32", "float64"), ("float32", "float32"), ("bool", "int8"),
                                    ("uint64", "uint64")])
def test_matmul_dtypes(dtypes: Any) -> None:
    check(sg.matmul, np.matmul, numbers(2, 3).astype(dtypes[0]) % 5, (numbers(3, 2) % 2).astype(dtypes[1]))


def test_matmul_folds_leading_axes_into_rows() -> None:
    x, w = x_("batch", "time", 8), x_(8, 4, name="w")
    y = x @ w
    [product] = [node for node in (y, *y.inputs) if node.op is matmul_op]
    assert product.shape == (x.shape[0] * x.shape[1], 4) and y.shape == (*x.shape[:2], 4)


def test_matmul_errors() -> None:
    x, w = x_("batch", 784), x_(128, 10, name="w2")
    with pytest.raises(sg.ShapeError) as error:
        x @ w
    assert isinstance(error.value, ValueError)
    assert str(error.value) == ("matmul: inner dimensions differ\n"
                                f"  a: float32[batch, 784]   'x'    {x.location}\n"
                                f"  b: float32[128, 10]      'w2'   {w.location}\n"
                                "  needed a.shape[-1] == b.shape[-2], got 784 and 128")
    v = x_(5, name="v")
    with pytest.raises(sg.ShapeError) as error:
        x @ v
    assert str(error.value) == ("matmul: inner dimensions differ\n"
                                f"  a: float32[batch, 784]   'x'   {x.location}\n"
                                f"  b: float32[5]            'v'   {v.location}\n"
                                "  needed a.shape[-1] == b.shape[-1], got 784 and 5")
    with pytest.raises(sg.ShapeError) as error:
        x @ 2.0
    assert str(error.value).startswith("matmul: a scalar is not a matrix\n  a: float32[batch, 784]   'x'")
    assert str(error.value).endswith("needed at least 1 dimension on both sides; use * for scalars")
    a, b = x_(2, 3, 4, name="a"), x_(5, 4, 3, name="b")
    with pytest.raises(sg.ShapeError) as error:
        a @ b
    assert str(error.value) == ("matmul: leading dimensions do not broadcast\n"
                                f"  a: float32[2, 3, 4]   'a'   {a.location}\n"
                                f"  b: float32[5, 4, 3]   'b'   {b.location}\n  got 2 and 5")


def test_matmul_of_sizes_that_may_differ_is_guarded() -> None:
    a, b = x_("n", "k", name="a"), x_("m", 2, name="b")
    node = a @ b
    np.testing.assert_array_equal(sg.evaluate(node, {a: np.ones((1, 3), "f"), b: np.ones((3, 2), "f")}), [[3, 3]])
    with pytest.raises(sg.ShapeError, match=r"^matmul: inner dimensions differ\n") as error:
        sg.evaluate(node, {a: np.ones((1, 3), "f"), b: np.ones((4, 2), "f")})
    assert "needed k == m, got 3 and 4" in str(error.value)
    s, t = x_("p", 2, 3, name="s"), x_("q", 3, 2, name="t")
    with pytest.raises(sg.ShapeError, match=r"^matmul: sizes of axis 0 differ\n"):
        sg.evaluate(s @ t, {s: np.ones((2, 2, 3), "f"), t: np.ones((3, 3, 2), "f")})


def test_gradients_of_vectors_and_stacks() -> None:
    """Through the reshapes and broadcasts that matmul() puts around the product."""
    rng = np.random.default_rng(2)
    for shapes in SHAPES + [((1, 2, 3), (5, 3, 4))]:
        arrays = [rng.standard_normal(shape) for shape in shapes]
        feed = feeds(*arrays, static=True)
        a, b = feed
        y = a @ b
        weights = rng.standard_normal(y.shape)
        gradients = sg.evaluate(sg.grad(sg.sum(y * weights), [a, b]), feed)
        for number, gradient in enumerate(gradients):
            step = rng.standard_normal(shapes[number])
            moved = [array + step if number == each else array for each, array in enumerate(arrays)]
            change = np.sum((np.matmul(*moved) - np.matmul(*arrays)) * weights)
            np.testing.assert_allclose(np.sum(gradient * step), change, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shapes", [((), ()), ((), (2, 3)), ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (3, 4)),
                                    ((2, 3), (5, 3, 4)), ((5, 2, 3), (3,)), ((5, 2, 3), (6, 3, 2))])
def test_dot(shapes: Any) -> None:
    check(sg.dot, np.dot, *[numbers(*shape) for shape in shapes])
    check(lambda a, b: a.dot(b), np.dot, *[numbers(*shape) for shape in shapes])


@pytest.mark.parametrize("shapes, axis", [(((3,), (3,)), -1), (((2, 3), (2, 3)), -1), (((2, 3), (3,)), -1),
                                          (((3, 2), (3, 2)), 0), (((0,), (0,)), -1), (((2, 0), (2, 0)), -1)])
@pytest.mark.parametrize("dtype", ["float64", "int16", "bool"])
def test_vecdot(shapes: Any, axis: int, dtype: str) -> None:
    arrays = [numbers(*shape, dtype=dtype) for shape in shapes]
    check(lambda a, b: sg.vecdot(a, b, axis=axis), lambda a, b: np.vecdot(a, b, axis=axis), *arrays)


def test_vecdot_errors() -> None:
    a, b = x_(2, 3, name="a"), x_(2, 4, name="b")
    with pytest.raises(sg.ShapeError) as error:
        sg.vecdot(a, b)
    assert str(error.value) == ("vecdot: lengths differ\n"
                                f"  a: float32[2, 3]   'a'   {a.location}\n"
                                f"  b: float32[2, 4]   'b'   {b.location}\n  got 3 and 4")
    with pytest.raises(sg.ShapeError, match=r"^vecdot: needs at least 1 dimension on both sides\n"):
        sg.vecdot(a, 1.0)


def test_outer() -> None:
    check(sg.outer, np.outer, numbers(2), numbers(3, dtype="int32"))
    check(sg.outer, np.outer, numbers(2, 2), numbers(0))


@pytest.mark.parametrize("shapes, axes", [
    (((2, 3), (3, 4)), 1), (((2, 3, 4), (3, 4, 5)), 2), (((2, 3), (4,)), 0), (((2, 3), (2, 3)), 2),
    (((2, 3, 4), (4, 3, 5)), ((1, 2), (1, 0))), (((2, 3, 4), (5, 3)), (1, 1)), (((2, 0), (0, 3)), 1),
    (((2, 3, 4), (5, 3)), ((-2,), (-1,)))])
def test_tensordot(shapes: Any, axes: Any) -> None:
    check(lambda a, b: sg.tensordot(a, b, axes), lambda a, b: np.tensordot(a, b, axes),
          *[numbers(*shape) for shape in shapes])


def test_tensordot_errors() -> None:
    a, b = x_(2, 3, name="a"), x_(4, 5, name="b")
    rows = f"  a: float32[2, 3]   'a'   {a.location}\n  b: float32[4, 5]   'b'   {b.location}"
    with pytest.raises(sg.ShapeError) as error:
        sg.tensordot(a, b, 1)
    assert str(error.value) == f"tensordot: contracted sizes differ\n{rows}\n  axis 1 of a is 3, axis 0 of b is 4"
    with pytest.raises(sg.ShapeError, match="cannot contract 3 axes"):
        sg.tensordot(a, b, 3)
    with pytest.raises(sg.ShapeError, match="as many axes of a as of b"):
        sg.tensordot(a, b, ((0, 1), (0,)))
    with pytest.raises(sg.ArgumentError, match="are not axes"):
        sg.tensordot(a, b, "ij")
