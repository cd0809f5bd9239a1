"""Notebook 1: the autograd framework of "Grokking Deep Learning", chapter 13, as static graphs.

The numbers of its cells [48] and [50] are wrong (their class counts fan-out twice); the true sequence stands here.
"""

import numpy as np
import pytest

import staticgraph as sg
from tests.seeds.helpers import close, emulated_seed_1, feed_of, printed, run

FIVE = [1.0, 2.0, 3.0, 4.0, 5.0]
TWOS = [2.0, 2.0, 2.0, 2.0, 2.0]
DATA = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
TARGET = np.array([[0.0], [1.0], [0.0], [1.0]])
ONES = np.ones(5)


def test_1_1_tensor_add_repr_str() -> None:
    x, y = sg.constant([1, 2, 3, 4, 5]), sg.variable([1, 2, 3, 4, 5], name="y")
    z = x + y
    assert run(z).tolist() == [2, 4, 6, 8, 10]
    assert "add: int64[5]" in repr(z)
    assert "variable 'y'" in str(z) and "add(%0, %1)" in str(z)
    assert y.value.tolist() == [1, 2, 3, 4, 5]


def test_1_2_add_backward_and_origin() -> None:
    feed, (x, y) = feed_of(x=FIVE, y=TWOS)
    z = x + y
    for each in run(sg.grad(z, [x, y], cotangent=ONES), feed):
        close(each, ONES)
    assert z.op.name == "add"
    assert [each is node for each, node in zip(z.inputs, (x, y), strict=True)] == [True, True]


def test_1_3_chain() -> None:
    feed, (a, b, c, d) = feed_of(a=FIVE, b=TWOS, c=FIVE[::-1], d=[-5.0, -4, -3, -2, -1])
    g = (a + b) + (c + d)
    value, slope = run([g, sg.grad(g, a, cotangent=ONES)], feed)
    close(value, [3.0, 4, 5, 6, 7])
    close(slope, ONES)


def test_1_4_fan_out_sums_gradients() -> None:
    feed, (a, b, c) = feed_of(a=FIVE, b=TWOS, c=FIVE[::-1])
    close(run(sg.grad((a + b) + (b + c), b, cotangent=ONES), feed), TWOS)


def test_1_5_negative() -> None:
    feed, (a, b, c) = feed_of(a=FIVE, b=TWOS, c=FIVE[::-1])
    close(run(sg.grad((a + -b) + (-b + c), b, cotangent=ONES), feed), [-2.0] * 5)


def test_1_6_subtract_and_multiply() -> None:
    feed, (a, b) = feed_of(a=FIVE, b=[0.5, -1.0, 4.0, 0.0, 3.0])
    difference = sg.grad(a - b, [a, b], cotangent=FIVE)
    product = sg.grad(a * b, [a, b], cotangent=FIVE)
    values = run([a - b, a * b, *difference, *product], feed)
    x, y, ct = feed[a], feed[b], np.array(FIVE)
    for ours, expected in zip(values, [x - y, x * y, ct, -ct, ct * y, ct * x], strict=True):
        close(ours, expected)


def test_1_7_sum_over_an_axis() -> None:
    x = sg.constant([[1, 2, 3], [4, 5, 6]])
    down, across = run([x.sum(0), x.sum(1)])
    assert down.tolist() == [5, 7, 9] and across.tolist() == [6, 15]


@pytest.mark.parametrize(("axis", "shape"), [(0, (4, 2, 3)), (1, (2, 4, 3)), (2, (2, 3, 4))])
def test_1_8_expand(axis: int, shape: tuple[int, ...]) -> None:
    feed, (x,) = feed_of(x=[[1.0, 2, 3], [4, 5, 6]])
    y = sg.broadcast_to(sg.expand_dims(x, axis), shape)
    ct = np.arange(24.0).reshape(shape)
    value, slope, sum_slope = run([y, sg.grad(y, x, cotangent=ct), sg.grad(sg.sum(y, axis=axis), y, cotangent=x)], feed)
    assert value.tolist() == np.repeat(np.expand_dims(feed[x], axis), 4, axis).tolist()
    close(slope, ct.sum(axis))     # the gradient of expand is sum ...
    close(sum_slope, value)     # ... and of sum, expand


def test_1_9_transpose_and_matmul() -> None:
    generator = np.random.default_rng(9)
    feed, (a, b) = feed_of(a=generator.standard_normal((3, 2)), b=generator.standard_normal((3, 4)))
    ct = generator.standard_normal((2, 4))
    value, da, db = run([a.T @ b, *sg.grad(a.T @ b, [a, b], cotangent=ct)], feed)
    x, y = feed[a], feed[b]
    for ours, expected in ((value, x.T @ y), (da, y @ ct.T), (db, x @ ct)):
        close(ours, expected, 1e-11)


def test_1_10_gradient_of_what_is_no_scalar() -> None:
    feed, (x,) = feed_of(x=FIVE)
    close(run(sg.grad(x * x, x, cotangent=1.0), feed), [2.0, 4, 6, 8, 10])
    close(run(sg.grad(x * x, x, cotangent=FIVE), feed), [2.0, 8, 18, 32, 50])
    with pytest.raises(sg.GradientError, match="not a scalar"):
        sg.grad(x * x, x)


def test_1_11_backward_again_gives_the_same() -> None:
    feed, (x, y) = feed_of(x=FIVE, y=TWOS)
    backward = sg.compile([x, y], sg.grad(x * y, [x, y], cotangent=1.0))
    first, second = backward(FIVE, TWOS), backward(FIVE, TWOS)
    for once, again in zip(first, second, strict=True):
        assert once.tolist() == again.tolist() and once is not again


def linear_net(lr: float, start: list[np.ndarray], steps: int = 10) -> list[float]:
    """Losses of the net without biases: loss = sum((data @ w0 @ w1 - target)**2), gradient steps of size lr."""
    data, target = sg.placeholder("data", ("n", 2), "float64"), sg.placeholder("target", ("n", 1), "float64")
    w0, w1 = (sg.variable(value, name=f"w{number}") for number, value in enumerate(start))
    loss = sg.sum((data @ w0 @ w1 - target) ** 2)
    step = sg.compile([data, target], loss, updates=sg.optim.SGD(lr).updates(loss, [w0, w1]))
    return [float(step(DATA, TARGET)) for _ in range(steps)]


def test_1_12_handwritten_net_half_the_rate() -> None:
    w0, w1 = emulated_seed_1("rand 2 3", "rand 3 1")
    printed(w0.ravel()[:3], [0.37454012, 0.95071431, 0.73199394])
    close(linear_net(0.05, [w0, w1]), [
        2.4953698041458336, 1.3535697560859723, 1.0983854696420685, 0.9402318232494947, 0.8218819800278834,
        0.7268126358071567, 0.6475517024114271, 0.5798445170397148, 0.5209684792243789, 0.46906878966910576])


def test_1_13_handwritten_net_true_gradient() -> None:
    printed(linear_net(0.1, emulated_seed_1("rand 2 3", "rand 3 1")), [
        2.4953698, 1.15313234, 0.7822498, 0.61490943, 0.49419295, 0.40028702, 0.32443016, 0.2618966, 0.20988951,
        0.16660243])


AUTOGRAD_LOSSES = [1.11374267, 0.8024816, 0.6186114, 0.48313343, 0.37647695, 0.28994607, 0.21924766, 0.16199873,
                   0.1165743, 0.08153841]


def test_1_14_autograd_net() -> None:
    w0, w1 = emulated_seed_1("id", "id", "rand 2 3", "id", "rand 3 1")
    printed(w0.ravel(), [0.18343479, 0.779691, 0.59685016, 0.44583275, 0.09997492, 0.45924889])
    printed(w1.ravel(), [0.14286682, 0.65088847, 0.05641158])
    losses = linear_net(0.1, [w0, w1])
    printed(losses, AUTOGRAD_LOSSES)
    assert abs(losses[1] - 0.62255894) > 0.1     # what the notebook printed


def test_1_15_linear_layer() -> None:
    layer = sg.nn.Linear(3, 4, generator=np.random.default_rng(7), dtype="float64")
    expected = np.random.default_rng(7).standard_normal((3, 4)) * np.sqrt(2 / 3)
    close(layer.weight.value, expected)
    assert layer.bias is not None and layer.bias.value.tolist() == [0.0] * 4
    assert [id(each) for each in layer.parameters()] == [id(layer.weight), id(layer.bias)]
    feed, (x,) = feed_of(x=np.arange(6.0).reshape(2, 3))
    close(run(layer(x), feed), feed[x] @ expected, 1e-11)


def test_1_16_sequential() -> None:
    first, second, third = (sg.nn.Linear(2, 2, generator=number) for number in range(3))
    inner = sg.nn.Sequential([first, second])
    outer = sg.nn.Sequential(inner)
    outer.append(third)
    outer.append(first)     # shared: its parameters count once
    assert len(outer) == 3
    expected = [*first.parameters(), *second.parameters(), *third.parameters()]
    assert [id(each) for each in outer.parameters()] == [id(each) for each in expected]


def sequential_net() -> tuple[sg.nn.Sequential, sg.Tensor, sg.Tensor]:
    """Linear 2-3 and Linear 3-1 from the notebook's draws, and its placeholders."""
    a, b = emulated_seed_1("id", "id", "randn 2 3", "id", "id", "randn 3 1", "id", "id")
    starts = iter([a * np.sqrt(2 / 2), b * np.sqrt(2 / 3)])
    model = sg.nn.Sequential([sg.nn.Linear(n, m, init=lambda shape, generator, dtype: next(starts), dtype="float64")
                              for n, m in ((2, 3), (3, 1))])
    return model, sg.placeholder("data", ("n", 2), "float64"), sg.placeholder("target", ("n", 1), "float64")


SEQUENTIAL_LOSSES = [3.65094627, 5.24649682, 7.49768079, 2.58132095, 0.82653187, 0.26937059, 0.2301955, 0.19896456,
                     0.17283695, 0.15067618]


def test_1_17_sequential_and_sgd() -> None:
    model, data, target = sequential_net()
    difference = model(data) - target
    loss = sg.sum(difference * difference)
    step = sg.compile([data, target], loss, updates=sg.optim.SGD(0.05).updates(loss, model.parameters()))
    printed([float(step(DATA, TARGET)) for _ in range(10)], SEQUENTIAL_LOSSES)


def test_1_18_mse_loss() -> None:
    model, data, target = sequential_net()
    loss = sg.nn.MSELoss(reduction="sum")(model(data), target)
    step = sg.compile([data, target], loss, updates=sg.optim.SGD(0.05).updates(loss, model.parameters()))
    printed([float(step(DATA, TARGET)) for _ in range(10)], SEQUENTIAL_LOSSES)
    feed, (p, t) = feed_of(p=[[1.0, 2.0], [5.0, 3.0]], t=[[0.0, 4.0], [2.0, 3.0]])
    squares = np.array([[1.0, 4.0], [9.0, 0.0]])
    each, mean, total, columns = run([sg.nn.mse(p, t), sg.nn.MSELoss()(p, t), sg.nn.mse(p, t, reduction="sum"),
                                      sg.nn.mse(p, t).sum(0)], feed)
    assert (each == squares).all() and mean == 3.5 and total == 14.0
    assert columns.tolist() == [10.0, 4.0]     # the notebook's: a sum over axis 0, a vector


def test_1_19_one_call_is_forward_backward_and_update() -> None:
    model, data, target = sequential_net()
    loss = sg.nn.mse(model(data), target, reduction="sum")
    parameters = model.parameters()
    step = sg.compile([data, target], loss, updates=sg.optim.SGD(0.05).updates(loss, parameters))
    gradients = sg.compile([data, target], sg.grad(loss, parameters))
    before = [each.value for each in parameters]
    slopes = gradients(DATA, TARGET)
    printed(float(step(DATA, TARGET)), SEQUENTIAL_LOSSES[0])
    for parameter, old, slope in zip(parameters, before, slopes, strict=True):
        np.testing.assert_allclose(parameter.value, old - 0.05 * slope, rtol=1e-12, atol=1e-15)


# What the notebook does and this must not.


def test_1_not_gradients_through_shared_results() -> None:
    """x -> negative -> used twice gave -3; (-h) + (-h) with an interior h raised."""
    feed, (x,) = feed_of(x=FIVE)
    minus = -x
    y = sg.sum(minus) + sg.sum(minus)
    h = x * 1.5
    twice, interior = run([sg.grad(y, x), sg.grad((-h) + (-h), x, cotangent=1.0)], feed)
    close(twice, [-2.0] * 5)
    close(interior, [-3.0] * 5)


def test_1_not_random_ids() -> None:
    """Building, differentiating, compiling and calling consume none of the user's random numbers."""
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()
    model = sg.nn.Sequential(sg.nn.Linear(2, 3, generator=0, dtype="float64"), sg.nn.ReLU())
    x = sg.placeholder("x", ("n", 2), "float64")
    loss = sg.sum(model(x) ** 2)
    sg.compile([x], loss, updates=sg.optim.Adam(0.1).updates(loss, model.parameters()))(DATA)
    assert np.random.get_state()[1].tolist() == before


def test_1_not_one_gradient_object_for_two_parameters() -> None:
    """`a + b` handed both the same gradient object, so that only a was updated."""
    a, b = sg.variable(np.zeros(3), name="a"), sg.variable(np.zeros(3), name="b")
    loss = sg.sum((a + b) * np.array([1.0, 2.0, 3.0]))
    sg.compile([], loss, updates=sg.optim.SGD(1.0).updates(loss, [a, b]))()
    assert a.value.tolist() == b.value.tolist() == [-1.0, -2.0, -3.0]


def test_1_not_dropped_beside_what_is_not_differentiated() -> None:
    """A sum or product with plain data keeps the gradient of the other operand."""
    feed, (x,) = feed_of(x=[[1.0, 2.0]])
    plain = np.array([[3.0], [4.0]])
    added, multiplied = run([sg.grad(sg.sum(plain.T + x), x), sg.grad(sg.sum(x @ plain), x)], feed)
    assert added.tolist() == [[1.0, 1.0]] and multiplied.tolist() == [[3.0, 4.0]]


def test_1_not_the_result_shape_for_a_broadcast_bias() -> None:
    feed, (x, bias) = feed_of(x=np.ones((2, 2)), bias=[1.0, 2.0])
    slope = run(sg.grad(sg.sum(x + bias), bias), feed)
    assert slope.shape == (2,) and slope.tolist() == [2.0, 2.0]


def test_1_not_growing_with_calls() -> None:
    """Calls build nothing: gradients do not accumulate, and no node is made."""
    from staticgraph import tensor

    w = sg.variable(np.ones(3), name="w")
    step = sg.compile([], sg.grad(sg.sum(w * w), w))
    first = step()
    nodes = len(tensor._interned)
    for _ in range(20):
        assert step().tolist() == first.tolist() == [2.0, 2.0, 2.0]
    assert len(tensor._interned) == nodes


def test_1_not_failing_on_integer_parameters() -> None:
    """They raised UFuncTypeError on `-=`; here the message says what is wrong, before anything runs."""
    w = sg.variable(np.array([1, 2]), name="w")
    with pytest.raises(sg.DTypeError, match="floating-point variable"):
        sg.optim.SGD(0.1).updates(sg.sum(w * 1.5), [w])


def test_1_not_one_default_list_for_all() -> None:
    one, other = sg.nn.Sequential(), sg.nn.Sequential()
    one.append(sg.nn.ReLU())
    assert len(one) == 1 and len(other) == 0
