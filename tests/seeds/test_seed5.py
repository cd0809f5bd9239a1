"""Notebook 5: the first ten steps of DeZero, as static graphs."""

import numpy as np
import pytest

import staticgraph as sg
from tests.seeds.helpers import close, feed_of, run


def composed(x: sg.Tensor) -> sg.Tensor:
    """exp(x**2)**2, the notebook's function."""
    return sg.square(sg.exp(sg.square(x)))


def test_5_1_square_and_exp() -> None:
    feed, (x,) = feed_of(x=0.5)
    close(run(composed(x), feed), 1.648721270700128)


def test_5_2_backward_by_hand() -> None:
    """One function after the other, from the last to the first, as the notebook does it."""
    feed, (x,) = feed_of(x=0.5)
    a = sg.square(x)
    b = sg.exp(a)
    y = sg.square(b)
    db = sg.grad(y, b)
    da = sg.grad(b, a, cotangent=db)
    dx = sg.grad(a, x, cotangent=da)
    close(run(dx, feed), 3.297442541400256)
    close(run(sg.grad(y, x), feed), 3.297442541400256)


def test_5_3_creators() -> None:
    x = sg.placeholder("x", (), "float64")
    y = composed(x)
    assert y.op is sg.square
    b, = y.inputs
    assert b.op is sg.exp
    a, = b.inputs
    assert a.op is sg.square and a.inputs[0] is x
    assert x.inputs == ()


@pytest.mark.parametrize("length", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_5_4_no_recursion(length: int) -> None:
    """Nodes in a row, more than Python's stack is deep, build, differentiate, print, evaluate and compile."""
    x = sg.placeholder("x", (), "float64")
    y = x
    for _ in range(length // 2):
        y = sg.abs(y) * 1.0001
    slope = sg.grad(y, x)
    assert len(str(slope).splitlines()) > length
    factor = 1.0001 ** (length // 2)
    for value, gradient in (sg.evaluate([y, slope], {x: -3.0}), sg.compile([x], [y, slope])(-3.0)):
        np.testing.assert_allclose([value, gradient], [3 * factor, -factor], rtol=1e-11)


def test_5_5_functions() -> None:
    feed, (x,) = feed_of(x=[0.5, -1.0])
    square, exponential = run([sg.square(x), sg.exp(x)], feed)
    close(square, [0.25, 1.0])
    close(exponential, [1.6487212707001282, 0.36787944117144233])


def test_5_6_default_seed() -> None:
    """A scalar's gradient starts from one, an array's from the ones that are asked for."""
    feed, (x,) = feed_of(x=[1.0, 2.0])
    close(run(sg.grad(sg.sum(sg.square(x)), x), feed), [2.0, 4.0])
    close(run(sg.grad(sg.square(x), x, cotangent=sg.ones_like(x)), feed), [2.0, 4.0])


def test_5_7_unsupported_types() -> None:
    """Floats are accepted as constants; what is no number is a TypeError that names it."""
    close(run(sg.square(sg.constant(1.5))), 2.25)
    for value in ("three", object(), None, [1.0, "two"]):
        with pytest.raises(TypeError) as caught:
            sg.square(value)
        assert isinstance(caught.value, sg.StaticGraphError)
    with pytest.raises(sg.DTypeError, match="complex"):
        sg.constant(1j)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_5_8_results_stay_arrays(dtype: str) -> None:
    x = sg.placeholder("x", (), dtype)
    for result in (sg.compile([x], sg.square(x))(np.array(3, dtype)), sg.evaluate(sg.square(x), {x: 3.0})):
        assert isinstance(result, np.ndarray) and result.shape == () and result.dtype == dtype
        assert result == 9


def numerical_difference(y: sg.Tensor, x: sg.Tensor, at: float, eps: float = 1e-4) -> float:
    """The notebook's central difference, of the compiled function."""
    function = sg.compile([x], y)
    return float((function(at + eps) - function(at - eps)) / (2 * eps))


def test_5_9_numerical_difference() -> None:
    x = sg.placeholder("x", (), "float64")
    np.testing.assert_allclose(numerical_difference(composed(x), x, 0.5), 3.2974426293330694, rtol=1e-11)
    np.testing.assert_allclose(numerical_difference(sg.square(x), x, 2.0), 4.000000000004, rtol=1e-11)


def test_5_10_square_test() -> None:
    x = sg.placeholder("x", (), "float64")
    y = sg.square(x)
    assert run(y, {x: np.array(2.0)}) == 4.0
    assert run(sg.grad(y, x), {x: np.array(3.0)}) == 6.0
    v = sg.placeholder("v", (1,), "float64")
    at = np.random.default_rng(10).random(1)
    sg.verify_grad(sg.square(v), [v], {v: at})
    close(run(sg.grad(sg.square(v), v, cotangent=1.0), {v: at}), 2 * at)


# What the notebook does and this must not.


def test_5_not_overwritten_by_a_second_use() -> None:
    feed, (x,) = feed_of(x=3.0)
    assert run(sg.grad(sg.square(x) + sg.square(x) + x, x), feed) == 13.0


def test_5_not_one_input_only() -> None:
    feed, (a, b, c) = feed_of(a=2.0, b=3.0, c=4.0)
    assert [float(each) for each in run(sg.grad(a * b + b * c, [a, b, c]), feed)] == [3.0, 6.0, 3.0]


def test_5_not_failing_on_scalars() -> None:
    """0-d arrays, NumPy scalars and floats work wherever arrays do."""
    x = sg.placeholder("x", (), "float64")
    function = sg.compile([x], sg.square(x))
    assert [float(function(each)) for each in (2.0, 2, np.float64(2), np.array(2.0), True)] == [4, 4, 4, 4, 1]
    sg.verify_grad(sg.square(x), [x], {x: np.array(0.7)})
