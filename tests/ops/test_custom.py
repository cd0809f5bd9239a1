"""Ops of the user's own."""

from __future__ import annotations

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import registry


def test_a_primitive_in_a_few_lines() -> None:
    cube = sg.primitive("cube", ref=lambda x: x * x * x, scalar="{0} * {0} * {0}",
                        vjp=lambda ct, y, x: (ct * 3 * x * x,))
    w = sg.variable([1.0, -2.0])
    loss = sg.sum(cube(w + 1))
    assert sg.evaluate(loss) == 7
    np.testing.assert_array_equal(sg.evaluate(sg.grad(loss, w)), [12, 3])
    assert cube(w) is cube(w) and cube(w).op is registry["cube"] and cube.scalar == "{0} * {0} * {0}"


def test_a_primitive_may_be_declared_again_but_not_take_a_name_of_the_library() -> None:
    for power in (2, 3):
        op = sg.primitive("again", ref=lambda x, power=power: x ** power)
        assert registry["again"] is op
    assert sg.evaluate(op(2.0)) == 8
    with pytest.raises(sg.ArgumentError, match="an op called 'exp' exists already"):
        sg.primitive("exp", ref=np.exp)
    assert registry["exp"] is sg.exp


def test_two_operands_promote_and_broadcast() -> None:
    weighted = sg.primitive("weighted", ref=lambda a, b: a + 2 * b, scalar="{0} + 2 * {1}",
                            vjp=lambda ct, y, a, b: (ct, 2 * ct))
    a, b = sg.variable(np.ones((2, 3), np.float32)), sg.variable([1.0, 2.0, 3.0])
    y = weighted(a, b)
    assert y.dtype == np.float64
    first, second = sg.evaluate(sg.grad(sg.sum(y), [a, b]))
    assert first.dtype == np.float32
    np.testing.assert_array_equal(second, [4, 4, 4])


def test_a_meaning_of_another_dtype_or_shape_than_inferred_is_named() -> None:
    wrong = sg.primitive("wrong", ref=lambda x: np.float64(x).sum())
    with pytest.raises(sg.VerificationError, match=r"op 'wrong': .* gave float64\[\], but float32\[2\] was inferred"):
        sg.evaluate(wrong(np.ones(2, np.float32)))


def test_a_gradient_of_ones_own() -> None:
    def straight_through(x: sg.Tensor) -> sg.Tensor:
        return sg.round(x) * 2

    f = sg.custom_gradient(straight_through, lambda ct, y, x: (ct * 10,))
    w = sg.variable([0.4, 1.6])
    np.testing.assert_array_equal(sg.evaluate(f(w)), [0, 4])
    np.testing.assert_array_equal(sg.evaluate(sg.grad(sg.sum(3 * f(w)), w)), [30, 30])
    assert f(w) is f(w) and f(w).op.name == "custom_gradient(straight_through)"


def test_a_custom_gradient_of_several_inputs_constants_and_sizes() -> None:
    f = sg.custom_gradient(lambda a, b: sg.sum(a * b * 2.0) / a.shape[0], lambda ct, y, a, b: (ct * b, None))
    a, b = sg.placeholder("a", ("n",)), sg.placeholder("b", ("n",))
    feed = {a: [1, 2], b: [3, 4]}
    assert sg.evaluate(f(a, b), feed) == 11
    np.testing.assert_array_equal(sg.evaluate(sg.grad(f(a, b), a), feed), [3, 4])
    with pytest.raises(sg.GradientError):
        sg.grad(f(a, b), b)


def test_tensors_that_are_closed_over_are_an_error_that_says_so() -> None:
    x, w = sg.placeholder("x", (2,)), sg.variable(np.ones(2, np.float32), name="w")
    for f in (lambda v: v * w, lambda v: v + (x * 2)):
        with pytest.raises(sg.ArgumentError, match="uses tensors that are not among its arguments\n  a: float32"):
            sg.custom_gradient(f, lambda ct, y, v: (ct,))(x)
    with pytest.raises(sg.ArgumentError, match="must return one tensor, got 3"):
        sg.custom_gradient(lambda v: 3, lambda ct, y, v: (ct,))(x)  # type: ignore[arg-type,return-value]
