"""Notebook 3: an exercise on toolbox.Tensor with assert checks, as static graphs. Samples are columns here."""

import math

import numpy as np
import pytest

import staticgraph as sg
from tests.seeds.helpers import close, feed_of, run

SQUARE = [[1.0, 2.0], [3.0, 4.0]]


def test_3_1_gradients_of_a_shared_operand() -> None:
    feed, (a, b) = feed_of(a=1.0, b=2.0)
    c = a + b
    d = c + a
    assert [float(each) for each in run(sg.grad(d, [d, c, b, a]), feed)] == [1, 1, 1, 2]


def test_3_2_owners() -> None:
    a, b = sg.placeholder("a", (), "float64"), sg.placeholder("b", (), "float64")
    c = a + b
    assert c.op is sg.add and c.op.name == "add"
    assert c.inputs[0] is a and c.inputs[1] is b
    assert a.inputs == () and a.op.kind == "leaf"


def test_3_3_second_backward_works() -> None:
    a, b = sg.placeholder("a", (), "float64"), sg.placeholder("b", (), "float64")
    d = (a + b) * a
    backward = sg.compile([a, b], sg.grad(d, [a, b]))
    assert [float(each) for each in backward(1.0, 2.0)] == [float(each) for each in backward(1.0, 2.0)] == [4, 1]


def test_3_4_accumulation_only_when_asked_for() -> None:
    a, b = sg.placeholder("a", (), "float64"), sg.placeholder("b", (), "float64")
    da, db = sg.grad((a + b) + a, [a, b])
    sum_a, sum_b = sg.variable(0.0, name="sum_a"), sg.variable(0.0, name="sum_b")
    backward = sg.compile([a, b], [db, da], updates={sum_a: sum_a + da, sum_b: sum_b + db})
    for _ in range(2):
        assert [float(each) for each in backward(1.0, 2.0)] == [1, 2]
    assert (sum_b.value, sum_a.value) == (2.0, 4.0)
    sum_a.value = sum_b.value = 0.0
    backward(1.0, 2.0)
    assert (sum_b.value, sum_a.value) == (1.0, 2.0)


def test_3_5_product_with_a_seed() -> None:
    feed, (a, b) = feed_of(a=2.0, b=3.0)
    c = a * b
    assert [float(each) for each in run(sg.grad(c, [a, b, c], cotangent=2.0), feed)] == [6, 4, 2]


def test_3_6_quotient_with_a_scalar_seed() -> None:
    feed, (a, b) = feed_of(a=[1.0, 2.0], b=[3.0, 4.0])
    da, db = run(sg.grad(a / b, [a, b], cotangent=0.5), feed)
    close(da, [1 / 6, 1 / 8])
    close(db, [-1 / 18, -1 / 16])


def test_3_7_power() -> None:
    feed, (a,) = feed_of(A=SQUARE)
    close(run(sg.grad(a**4, a, cotangent=[[-1.0, 0.0], [1.0, 2.0]]), feed), [[-4.0, 0.0], [108.0, 512.0]])


def test_3_8_chain_of_matmuls() -> None:
    feed, (a, b, c) = feed_of(A=SQUARE, b=[[1.0], [2.0]], c=[[3.0, 4.0]])
    d = c @ a @ b
    value, da, dc, db, dd = run([d, *sg.grad(d, [a, c, b, d], cotangent=-1.5)], feed)
    close(value, [[59.0]])
    close(da, [[-4.5, -9.0], [-6.0, -12.0]])
    close(dc, [[-7.5, -16.5]])
    close(db, [[-22.5], [-33.0]])
    close(dd, [[-1.5]])


def test_3_9_relu() -> None:
    feed, (x,) = feed_of(x=[[-1.0, -2.0], [0.5, 2.0], [1.0, 5.0]])
    slope = run(sg.grad(sg.nn.relu(x), x, cotangent=[[4.0, 3.0], [2.0, 1.0], [0.0, -1.0]]), feed)
    assert slope.tolist() == [[0, 0], [2, 1], [0, -1]]


def test_3_10_exp() -> None:
    feed, (x,) = feed_of(x=[[-1.0], [2.0]])
    close(run(sg.grad(sg.exp(x), x, cotangent=[[-1.0], [2.0]]), feed), [[-0.3678794411714423], [14.7781121978613]])


def test_3_11_log() -> None:
    feed, (x,) = feed_of(x=[0.1, 1.0, 2.0, math.exp(100)])
    close(run(sg.grad(sg.log(x), x, cotangent=1.5), feed), [15.0, 1.5, 0.75, 5.580113964031253e-44])


def test_3_12_sum() -> None:
    feed, (x,) = feed_of(x=SQUARE)
    assert run(sg.grad(x.sum(1).sum(), x, cotangent=2.5), feed).tolist() == [[2.5, 2.5], [2.5, 2.5]]


def test_3_13_mean() -> None:
    feed, (x,) = feed_of(x=SQUARE)
    assert run(sg.grad(x.mean(), x), feed).tolist() == [[0.25, 0.25], [0.25, 0.25]]


def test_3_14_index() -> None:
    feed, (x,) = feed_of(A=SQUARE)
    assert run(sg.grad(x[0, 1], x, cotangent=5.0), feed).tolist() == [[0, 5], [0, 0]]
    assert run(sg.grad(sg.take(x, [1, 1], axis=0), x, cotangent=5.0), feed).tolist() == [[0, 0], [10, 10]]


def test_3_15_only_wrt_is_differentiated() -> None:
    feed, (a, b) = feed_of(a=2.0, b=3.0)
    held = sg.stop_gradient(a * b)
    assert float(run(sg.grad(held * a, a), feed)) == 6.0
    with pytest.raises(sg.GradientError, match="does not depend"):
        sg.grad(held * a, b)


class Columns(sg.nn.Layer):
    """weight @ x + bias: samples are columns."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        self.weight, self.bias = sg.variable(weight, name="weight"), sg.variable(bias, name="bias")

    def forward(self, x: sg.Tensor) -> sg.Tensor:
        return self.weight @ x + self.bias


SLOPES = [
    [[2.0, 4.0], [2.0, 4.0]],
    [[2.0], [2.0]],
    [[8.00168889301e-34, 1.73369926015e-33], [-6.0, -13.0], [6.0, 13.0]],     # small entries by mpmath
    [[1.3336148155e-34], [-1.0], [1.0]],
]


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 1e-5)])
def test_3_16_network_and_cross_entropy(dtype: str, rtol: float) -> None:
    network = sg.nn.Sequential()
    for layer in (Columns(np.array(SQUARE, dtype), np.array([[1.0], [2.0]], dtype)), sg.nn.ReLU(),
                  Columns(np.array([[1.0, 2], [3, 4], [5, 6]], dtype), np.array([[1.0], [2.0], [3.0]], dtype))):
        network.append(layer)
    feed, (x,) = feed_of(x=np.array([[1.0], [2.0]], dtype))
    logits = network(x)
    loss = sg.nn.CrossEntropyLoss()(logits.T, [1])
    values, total, *slopes = run([logits, loss, *sg.grad(loss, network.parameters())], feed, rtol)
    assert values.tolist() == [[33], [72], [111]]
    assert total == 39.0 and total.dtype == dtype
    for ours, expected in zip(slopes, SLOPES, strict=True):
        close(ours, expected, rtol)


def test_3_17_failures_are_readable() -> None:
    wrong = sg.custom_gradient(lambda x: x * x, lambda ct, y, x: (ct * x,))
    feed, (x,) = feed_of(x=[1.0, 5.0, 2.0])
    with pytest.raises(sg.GradientError) as caught:
        sg.verify_grad(wrong(x), [x], feed)
    text = str(caught.value)
    assert "'x'" in text and "worst at index (" in text and "central difference" in text
    assert "helpers.py:" in text     # where x was made


# What the notebook does and this must not.


def test_3_not_freed_after_backward() -> None:
    """A graph can be differentiated, evaluated and compiled after it was differentiated."""
    feed, (x,) = feed_of(x=[1.0, 2.0])
    y = sg.sum(x**3)
    first = sg.grad(y, x)
    again = sg.grad(sg.sum(sg.grad(y, x)), x)
    assert sg.grad(y, x) is first     # the same formula is the same node
    close(run(first, feed), [3.0, 12.0])
    close(run(again, feed), [6.0, 12.0])


def test_3_not_accumulating_silently() -> None:
    w = sg.variable(2.0, name="w")
    slope = sg.compile([], sg.grad(w * w, w))
    assert [float(slope()) for _ in range(3)] == [4.0, 4.0, 4.0]
