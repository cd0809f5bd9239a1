"""Values and gradients worked out elsewhere: the examples that teach automatic differentiation by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import staticgraph as sg


def value_and_gradients(f: Any, *inputs: Any, cotangent: Any = 1.0) -> tuple[Any, list[Any]]:
    variables = [sg.variable(np.asarray(each, np.float64)) for each in inputs]
    y = f(*variables)
    value, gradients = sg.evaluate((y, y)), sg.evaluate(sg.grad(y, variables, cotangent=cotangent))
    return value[0], gradients


FIVE = [1, 2, 3, 4, 5]
CASES: dict[str, tuple[Any, list[Any], Any, Any, list[Any]]] = {
    # what: function, inputs, cotangent, value, gradients
    "add": (lambda a, b: a + b, [FIVE, FIVE], 1.0, [2, 4, 6, 8, 10], [[1] * 5, [1] * 5]),
    "chain": (lambda a, b, c, d: (a + b) + (c + d), [FIVE] * 4, 1.0, [4, 8, 12, 16, 20], [[1] * 5] * 4),
    "fan-out": (lambda a, b, c: (a + b) + (b + c), [FIVE] * 3, 1.0, [4, 8, 12, 16, 20], [[1] * 5, [2] * 5, [1] * 5]),
    "negative": (lambda a, b, c: (a + -b) + (-b + c), [FIVE] * 3, 1.0, [0] * 5, [[1] * 5, [-2] * 5, [1] * 5]),
    "sum-0": (lambda x: sg.sum(x, 0), [[[1, 2, 3], [4, 5, 6]]], 1.0, [5, 7, 9], [np.ones((2, 3))]),
    "sum-1": (lambda x: sg.sum(x, 1), [[[1, 2, 3], [4, 5, 6]]], 1.0, [6, 15], [np.ones((2, 3))]),
    "relu": (sg.relu, [[[-1, -2], [0.5, 2], [1, 5]]], [[4, 3], [2, 1], [0, -1]], [[0, 0], [0.5, 2], [1, 5]],
             [[[0, 0], [2, 1], [0, -1]]]),
    "relu-twice": (sg.relu, [[[0.34, 0.7, -1.3], [-0.8, -0.8, 0.1]]], 1.0, [[0.34, 0.7, 0], [0, 0, 0.1]],
                   [[[1, 1, 0], [0, 0, 1]]]),
    "mean": (sg.mean, [np.ones((2, 3))], 1.0, 1, [np.full((2, 3), 1 / 6)]),
    "mean-of-difference": (lambda a, b: sg.mean(a - b), [np.ones((2, 3)), np.zeros((2, 3))], 1.0, 1,
                           [np.full((2, 3), 1 / 6), np.full((2, 3), -1 / 6)]),
    "bias": (lambda x, b: sg.mean(x + b), [np.ones((2, 3)), np.ones(3)], 1.0, 2,
             [np.full((2, 3), 1 / 6), np.full(3, 1 / 3)]),
    "diamond": (lambda a, b: (a + b) + a, [1, 2], 1.0, 4, [2, 1]),
    "multiply": (lambda a, b: a * b, [2, 3], 2.0, 6, [6, 4]),
    "divide": (lambda a, b: a / b, [[1, 2], [3, 4]], 0.5, [1 / 3, 1 / 2], [[1 / 6, 1 / 8], [-1 / 18, -1 / 16]]),
    "power": (lambda a: a ** 4, [[[1, 2], [3, 4]]], [[-1, 0], [1, 2]], [[1, 16], [81, 256]], [[[-4, 0], [108, 512]]]),
    "bilinear": (lambda a, b, c: c @ a @ b, [[[1, 2], [3, 4]], [[1], [2]], [[3, 4]]], -1.5, [[59]],
                 [[[-4.5, -9], [-6, -12]], [[-22.5], [-33]], [[-7.5, -16.5]]]),
    "exp": (sg.exp, [[[-1], [2]]], [[-1], [2]], [[math.exp(-1)], [math.exp(2)]],
            [[[-0.3678794411714423], [14.7781121978613]]]),
    "log": (sg.log, [[0.1, 1, 2, math.exp(100)]], 1.5, [math.log(0.1), 0, math.log(2), 100],
            [[15, 1.5, 0.75, 5.580113964031253e-44]]),
    "index": (lambda a: a[0, 1], [[[1, 2], [3, 4]]], 5.0, 2, [[[0, 5], [0, 0]]]),
    "squares": (lambda x: sg.square(sg.exp(sg.square(x))), [0.5], 1.0, 1.648721270700128, [3.2974425414002564]),
    "square": (sg.square, [3], 1.0, 9, [6]),
}


@pytest.mark.parametrize("case", CASES)
def test_known_value(case: str) -> None:
    f, inputs, cotangent, value, gradients = CASES[case]
    actual, found = value_and_gradients(f, *inputs, cotangent=cotangent)
    np.testing.assert_allclose(actual, value, rtol=1e-14)
    for one, other in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_expanding_and_summing_are_each_others_gradient(axis: int) -> None:
    x = np.arange(6.0).reshape(2, 3)
    shape = [*x.shape[:axis], 4, *x.shape[axis:]]

    def expand(v: sg.Tensor) -> sg.Tensor:
        return sg.broadcast_to(sg.expand_dims(v, axis), shape)

    weights = np.random.default_rng(0).standard_normal(shape)
    value, [gradient] = value_and_gradients(expand, x, cotangent=weights)
    np.testing.assert_array_equal(value, np.stack([x] * 4, axis))
    np.testing.assert_allclose(gradient, weights.sum(axis))


SHAPES = [(), (1,), (3,), (3, 1), (1, 3), (2, 1, 3), (2, 3, 3), (0,), (0, 1), (2, 0, 1)]


@pytest.mark.parametrize("left", SHAPES)
def test_gradients_of_broadcast_operands_have_their_shapes(left: tuple[int, ...]) -> None:
    for right in SHAPES:
        try:
            shape = np.broadcast_shapes(left, right)
        except ValueError:
            with pytest.raises(sg.ShapeError, match="multiply: shapes do not broadcast"):
                sg.multiply(np.ones(left), np.ones(right))
            continue
        rng = np.random.default_rng(0)
        a, b, weights = (np.asarray(rng.standard_normal(each)) for each in (left, right, shape))
        value, gradients = value_and_gradients(sg.multiply, a, b, cotangent=weights)
        np.testing.assert_allclose(value, a * b)
        for own, other, gradient in [(a, b, gradients[0]), (b, a, gradients[1])]:
            # the product is linear in each operand: its gradient is what the weights make of unit vectors
            expected = np.zeros(own.shape)
            for place in np.ndindex(own.shape):
                unit = np.zeros(own.shape)
                unit[place] = 1
                expected[place] = (weights * (unit * other)).sum()
            np.testing.assert_allclose(gradient, expected, atol=1e-14)


def test_the_first_steps_of_a_linear_network() -> None:
    """Two layers without bias, loss sum((x @ w0 @ w1 - t)**2), plain descent with step 0.1."""
    x = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    t = np.array([[0.0], [1], [0], [1]])
    rng = np.random.RandomState(42)
    w0, w1 = (sg.variable(rng.rand(*shape)) for shape in ((2, 3), (3, 1)))
    loss = sg.sum(sg.square(x @ w0 @ w1 - t))
    losses = []
    for _ in range(10):
        value, g0, g1 = sg.evaluate((loss, *sg.grad(loss, [w0, w1])))
        losses.append(float(value))
        w0.value, w1.value = w0.value - 0.1 * g0, w1.value - 0.1 * g1
    np.testing.assert_allclose(losses, [2.4953698, 1.15313234, 0.7822498, 0.61490943, 0.49419295, 0.40028702,
                                        0.32443016, 0.2618966, 0.20988951, 0.16660243], rtol=1e-7)


def test_numerical_derivatives_by_central_differences() -> None:
    x = sg.placeholder("x", (), "float64")
    f = sg.square(sg.exp(sg.square(x)))

    def numerical(y: sg.Tensor, at: float, step: float = 1e-4) -> float:
        return float((sg.evaluate(y, {x: at + step}) - sg.evaluate(y, {x: at - step})) / (2 * step))

    np.testing.assert_allclose(numerical(f, 0.5), 3.2974426293330694, rtol=1e-10)
    np.testing.assert_allclose(numerical(sg.square(x), 2.0), 4.000000000004, rtol=1e-11)
