"""Composites: values at ordinary and extreme points, and each closed-form gradient against that of the expansion."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import Op, registry
from staticgraph.ops import custom
from staticgraph.ops.composite import cross_entropy, gelu, layer_norm, log_softmax, mse, silu, softmax

COMPOSITES = [op for op in registry.values()
              if op.kind == "composite" and op.connected and op.name not in custom._declared]


def expanded(op: Op) -> Op:
    """The same formula without the gradient of its own."""
    return Op(f"{op.name}_expanded", "composite", op.doc, op.infer, expand=op.expand)


@pytest.mark.parametrize("op", COMPOSITES, ids=lambda op: op.name)
def test_gradient_is_that_of_the_expansion(op: Op) -> None:
    assert op.examples and op.vjp is not None
    for inputs, attrs in op.examples:
        variables = [sg.variable(each) for each in inputs]
        wrt = [each for each in variables if each.dtype.kind == "f"]
        closed, plain = op(*variables, **attrs), expanded(op)(*variables, **attrs)
        cotangent = np.random.default_rng(0).standard_normal(sg.evaluate(closed).shape)
        np.testing.assert_array_equal(sg.evaluate(closed), sg.evaluate(plain))
        first = [sg.grad(y, wrt, cotangent=cotangent) for y in (closed, plain)]
        for one, other in zip(*map(sg.evaluate, first)):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
        # And once more: the derivative of a projection of the gradient.
        directions = [np.random.default_rng(1).standard_normal(each.shape) for each in wrt]
        second = [sg.grad(sum((sg.sum(g * d) for g, d in zip(gradients, directions)), sg.constant(0.0)), wrt,
                          unconnected="zero") for gradients in first]
        for one, other in zip(*map(sg.evaluate, second)):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("op", COMPOSITES, ids=lambda op: op.name)
def test_single_precision_stays_single(op: Op) -> None:
    for inputs, attrs in op.examples:
        variables = [sg.variable(each.astype(np.float32) if each.dtype.kind == "f" else each) for each in inputs]
        wrt = [each for each in variables if each.dtype.kind == "f"]
        y = op(*variables, **attrs)
        assert y.dtype == np.float32 and expanded(op)(*variables, **attrs).dtype == np.float32
        for each in (y, expanded(op)(*variables, **attrs)):
            assert all(g.dtype == np.float32 for g in sg.grad(sg.sum(each), wrt))
            sg.evaluate([each, *sg.grad(sg.sum(each), wrt)])


EXTREME = np.array([[1000.0, 999.0, -1000.0], [-745.0, -746.0, -747.0], [1e-3, 0.0, 30.0], [-5.0, 800.0, 799.5]])


def exact_rows(function: Any) -> Any:
    with mpmath.workdps(900):
        return np.array([[float(each) for each in function([mpmath.mpf(float(x)) for x in row])] for row in EXTREME])


def test_softmax_and_log_softmax_at_extremes() -> None:
    def exact_log(row: Any) -> Any:
        total = mpmath.log(sum(mpmath.exp(x) for x in row))
        return [x - total for x in row]

    np.testing.assert_allclose(sg.evaluate(log_softmax(EXTREME)), exact_rows(exact_log), rtol=1e-13, atol=1e-13)
    exact = exact_rows(lambda row: [mpmath.exp(x) for x in exact_log(row)])
    np.testing.assert_allclose(sg.evaluate(softmax(EXTREME)), exact, rtol=1e-12, atol=0)
    np.testing.assert_allclose(sg.evaluate(softmax(EXTREME.T, axis=0)).T, exact, rtol=1e-12)


def test_logsumexp_takes_infinities() -> None:
    inf = math.inf
    x = np.array([[-inf, -inf], [-inf, 2.0], [inf, 1.0], [inf, -inf], [math.nan, 0.0], [1000.0, 1000.0]])
    expected = [-inf, 2.0, inf, inf, math.nan, 1000 + math.log(2)]
    np.testing.assert_allclose(sg.evaluate(sg.logsumexp(x, 1)), expected, rtol=1e-15)
    v = sg.variable(x[[0, 1, 2, 3, 5]])
    gradient = sg.evaluate(sg.grad(sg.sum(sg.logsumexp(v, 1)), v))
    np.testing.assert_allclose(gradient, [[0, 0], [0, 1], [1, 0], [1, 0], [0.5, 0.5]])


def test_logsumexp_axes() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    for axis in (None, 1, (0, -1), ()):
        for keepdims in (False, True):
            with_numpy = np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))
            np.testing.assert_allclose(sg.evaluate(sg.logsumexp(x, axis, keepdims=keepdims)), with_numpy, rtol=1e-14,
                                       atol=1e-15)
    assert sg.logsumexp(np.array([1, 2])).dtype == np.float64


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gates_keep_their_tails(approximate: str) -> None:
    points = np.array([-12.0, -6.0, -1.5, -1e-8, 0.0, 0.3, 2.0, 15.0])
    with mpmath.workdps(200):
        m = [mpmath.mpf(float(x)) for x in points]
        if approximate == "none":
            exact = [x * mpmath.ncdf(x) for x in m]
            # points below -5 put an argument error of half an ulp into exp(-x*x/2)
            tolerance = 3e-14
        else:
            exact = [x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf(0.044715) * x ** 3)))
                     for x in m]
            tolerance = 5e-14
        np.testing.assert_allclose(sg.evaluate(gelu(points, approximate)), np.array(exact, float), rtol=tolerance)
        np.testing.assert_allclose(sg.evaluate(silu(points)), [float(x / (1 + mpmath.exp(-x))) for x in m], rtol=1e-15)
    with pytest.raises(sg.ArgumentError, match='gelu: approximate must be "none" or "tanh"'):
        gelu(points, "fast")


def test_layer_norm_is_its_formula() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    weight, bias = np.arange(1, 5, dtype=np.float32), np.arange(4, dtype=np.float32) - 1

    def formula(axes: Any) -> Any:
        wide = x.astype(np.float64)
        return (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)

    for actual, expected in [
        (layer_norm(x), formula(-1)),
        (layer_norm(x, weight), formula(-1) * weight),
        (layer_norm(x, weight, bias), formula(-1) * weight + bias),
        (layer_norm(x, bias=bias), formula(-1) + bias),
        (layer_norm(x, x[0], axes=(2, 1)), formula((1, 2)) * x[0]),
    ]:
        assert actual.dtype == np.float32
        np.testing.assert_allclose(sg.evaluate(actual), expected, rtol=2e-5, atol=2e-6)
    with pytest.raises(sg.ShapeError, match=r"layer_norm: sizes along axis 2 differ\n  a: float32\[2, 3, 4\]"):
        layer_norm(x, np.ones(3, np.float32))
    with pytest.raises(sg.ShapeError, match="layer_norm: weight and bias must have the shape"):
        layer_norm(x, np.ones((3, 4), np.float32))


def test_cross_entropy_of_labels_and_of_probabilities() -> None:
    logits = EXTREME
    labels = np.array([1, -1, 2, 0], np.int32)
    picked = sg.evaluate(log_softmax(logits))[np.arange(4), labels]
    np.testing.assert_allclose(sg.evaluate(cross_entropy(logits, labels)), -picked, rtol=1e-13)
    hot = np.eye(3)[labels]
    np.testing.assert_allclose(sg.evaluate(cross_entropy(logits, hot)), -picked, rtol=1e-13)
    assert cross_entropy(logits.astype(np.float32), hot.astype(np.float32)).dtype == np.float32


def test_cross_entropy_of_a_batch_of_sequences() -> None:
    logits, labels = sg.placeholder("logits", ("n", "t", 5)), sg.placeholder("labels", ("n", "t"), "int64")
    loss = cross_entropy(logits, labels)
    assert str(loss.type) == "float32[n, t]"
    x = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    t = np.array([[0, 1, 2], [3, 4, 0]])
    expected = np.log(np.exp(x).sum(-1)) - np.take_along_axis(x, t[..., None], -1)[..., 0]
    np.testing.assert_allclose(sg.evaluate(loss, {logits: x, labels: t}), expected, rtol=1e-5)
    gradient = sg.evaluate(sg.grad(sg.sum(loss), logits), {logits: x, labels: t})
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-6)
    with pytest.raises(sg.OutOfRangeError, match=r"cross_entropy: index 5 is out of range for labels of size 5"):
        sg.evaluate(loss, {logits: x, labels: t + 1})


def test_the_small_entries_of_a_cross_entropy_gradient() -> None:
    # Labels far from the winner: the tiny probabilities must keep their digits (p - onehot, never through log(p)).
    logits = sg.variable(np.array([[33.0, 72.0, 111.0]]))
    loss = cross_entropy(logits, np.array([1]))
    assert sg.evaluate(loss)[0] == 39.0
    gradient = sg.evaluate(sg.grad(sg.sum(loss), logits))
    np.testing.assert_allclose(gradient, [[1.3336148155022614e-34, -1, 1]], rtol=1e-9)


def test_masked_logits_have_a_finite_loss_and_gradient() -> None:
    logits = sg.variable(np.array([[0.0, -np.inf, 1.0]]))
    for labels in (np.array([2]), np.array([[0.0, 0.0, 1.0]])):
        loss = sg.sum(cross_entropy(logits, labels))
        assert np.isfinite(sg.evaluate(loss))
        gradient = sg.evaluate(sg.grad(loss, logits))
        assert np.isfinite(gradient).all() and gradient[0, 1] == 0


def test_cross_entropy_says_what_it_needs() -> None:
    logits = sg.placeholder("logits", ("n", 5))
    with pytest.raises(sg.ShapeError, match="integer labels have the shape of the logits without the last axis"):
        cross_entropy(logits, np.zeros((2, 3, 4), np.int64))
    for labels, what in [(np.ones((2, 4)), "soft_cross_entropy: sizes of the operands differ"),
                         (np.ones((2, 4), np.int64), "soft_cross_entropy: sizes of the operands differ"),
                         (np.ones(2), "soft_cross_entropy: probabilities have the shape of the logits")]:
        with pytest.raises(sg.ShapeError, match=what):
            cross_entropy(logits, labels)
    assert cross_entropy(logits, np.eye(5, dtype=bool)).dtype == np.float32
    with pytest.raises(sg.ShapeError, match="cross_entropy: sizes of logits and labels differ"):
        sg.evaluate(cross_entropy(logits, np.zeros(3, np.int64)), {logits: np.zeros((2, 5), np.float32)})


def test_mse_is_the_squared_difference() -> None:
    a, b = np.array([[1.0, 2.0]]), np.array([3.0, 5.0])
    np.testing.assert_array_equal(sg.evaluate(mse(a, b)), [[4, 9]])
    assert mse(np.array([1]), np.array([2])).dtype == np.float64
