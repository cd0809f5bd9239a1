"""The gradient rule of every op, at the points that its declaration gives as examples.

Each example is checked in double precision against central differences: the first derivative, the second where the op
has one, forward mode against reverse mode, and dtype and shape in float32 and for arrays without elements. An op that
is registered later is tested without a word here.
"""

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import registry

CASES = [(op, number) for op in registry.values() for number in range(len(op.examples))
         if op.connected and op.kind != "leaf"]
IDS = [f"{op.name}-{number}" for op, number in CASES]

STEPS = {"floor", "ceil", "trunc", "round", "sign", "floor_divide"}
"""Connected with gradient zero: the gradient is a constant."""


def example(op, number, dtype="float64"):
    """The op on placeholders for its example's arrays, the floating-point ones among them, and the feed."""
    arrays, attrs = op.examples[number]
    feed = {}
    for position, value in enumerate(arrays):
        array = np.asarray(value)
        array = array.astype(dtype) if array.dtype.kind == "f" else array
        feed[sg.placeholder(f"x{position}", array.shape, array.dtype)] = array
    return op(*feed, **attrs), [leaf for leaf in feed if leaf.dtype.kind == "f"], feed


def differentiable(y, leaves):
    return y.dtype.kind == "f" and bool(leaves)


def random_like(tensors, feed, seed):
    random = np.random.default_rng(seed)
    return [random.standard_normal(array.shape) for array in sg.evaluate(tensors, feed)]


@pytest.mark.parametrize(("op", "number"), CASES, ids=IDS)
def test_first_derivative(op, number):
    y, leaves, feed = example(op, number)
    if not differentiable(y, leaves):
        with pytest.raises((sg.GradientError, sg.DTypeError, ValueError)):
            sg.vjp(y, leaves or list(feed), sg.ones_like(y))
        return
    sg.verify_grad(y, leaves, feed)


@pytest.mark.parametrize(("op", "number"), CASES, ids=IDS)
def test_second_derivative(op, number):
    y, leaves, feed = example(op, number)
    if not differentiable(y, leaves):
        pytest.skip("no first derivative")
    (direction,) = random_like([y], feed, 1)
    slopes = sg.vjp(y, leaves, direction)
    weights = random_like(slopes, feed, 2)
    total = sum((sg.sum(slope * weight) for slope, weight in zip(slopes, weights)), sg.constant(0.0))
    connected = [leaf for leaf in leaves if not is_unconnected(total, leaf)]
    if connected:
        sg.verify_grad(total, connected, feed)
    else:
        assert op.name in STEPS or is_linear(op, number)


def is_unconnected(y, leaf):
    try:
        sg.grad(y, leaf)
    except sg.GradientError:
        return True
    return False


def is_linear(op, number):
    """Do slopes at two different points agree?"""
    y, leaves, feed = example(op, number)
    slopes = sg.vjp(y, leaves, sg.ones_like(y))
    moved = {leaf: value + 0.01 if leaf.dtype.kind == "f" else value for leaf, value in feed.items()}
    return all(np.array_equal(a, b) for a, b in zip(sg.evaluate(slopes, feed), sg.evaluate(slopes, moved)))


@pytest.mark.parametrize(("op", "number"), CASES, ids=IDS)
def test_forward_and_reverse_mode_agree(op, number):
    y, leaves, feed = example(op, number)
    if not differentiable(y, leaves):
        pytest.skip("no derivative")
    (direction,) = random_like([y], feed, 3)
    tangents = random_like(leaves, feed, 4)
    slopes = sg.evaluate(sg.vjp(y, leaves, direction), feed)
    (change,) = sg.evaluate(sg.jvp(y, leaves, tangents), feed)
    assert change.shape == sg.evaluate(y, feed).shape
    expected = sum(float(np.sum(slope * tangent)) for slope, tangent in zip(slopes, tangents))
    np.testing.assert_allclose(np.sum(change * direction), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("op", "number"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_have_the_type_of_their_tensor(op, number, dtype):
    y, leaves, feed = example(op, number, dtype)
    if not differentiable(y, leaves):
        pytest.skip("no derivative")
    slopes = sg.vjp(y, leaves, sg.ones_like(y))
    for leaf, slope, value in zip(leaves, slopes, sg.evaluate(slopes, feed)):
        assert (slope.dtype, slope.shape) == (leaf.dtype, leaf.shape)
        assert (value.dtype, value.shape) == (leaf.dtype, feed[leaf].shape)


ELEMENTWISE = [op for op in registry.values() if op.kind == "elementwise" and op.connected and op.examples]


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1)])
def test_elementwise_gradients_of_any_shape(op, shape):
    arrays, attrs = op.examples[0]
    feed = {}
    for position, array in enumerate(arrays):
        value = np.resize(np.asarray(array), shape) if np.prod(shape) else np.zeros(shape, np.asarray(array).dtype)
        feed[sg.placeholder(f"x{position}", shape, value.dtype)] = value
    leaves = [leaf for leaf in feed if leaf.dtype.kind == "f"]
    y = op(*feed, **attrs)
    for leaf, slope in zip(leaves, sg.evaluate(sg.vjp(y, leaves, sg.ones_like(y)), feed)):
        assert slope.shape == shape
        assert leaf.dtype == slope.dtype


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_elementwise_gradients_of_symbolic_size(op):
    arrays, attrs = op.examples[0]
    feed = {sg.placeholder(f"x{position}", ("rows", 3), np.asarray(array).dtype): np.asarray(array)
            for position, array in enumerate(arrays)}
    sg.verify_grad(op(*feed, **attrs), [leaf for leaf in feed if leaf.dtype.kind == "f"], feed)
