"""Functions of sg.nn against torch's values and gradients (stored), evaluated and compiled."""

from typing import Any

import numpy as np
import pytest

import staticgraph as sg

X = np.array([[-1.5, 0.25, 2.0], [0.5, -3.0, 1.0]])
CT = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])
LABELS = np.array([2, 1])
SOFT = np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
TARGETS = np.array([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5]])
BINARY = np.array([[0.0, 1.0, 1.0], [0.3, 0.0, 1.0]])

# torch 2.14 in float64: (value, gradient for the cotangent CT).
ACTIVATIONS: dict[str, tuple[Any, list[list[float]], list[list[float]]]] = {
    "relu": (sg.nn.relu, [[0.0, 0.25, 2.0], [0.5, 0.0, 1.0]], [[0.0, -2.0, 0.5], [0.25, 0.0, -1.0]]),
    "gelu": (
        sg.nn.gelu,
        [[-0.10021080190328704, 0.14967658142073093, 1.9544997361036416],
         [0.34573123063700656, -0.00404969409489031, 0.841344746068543]],
        [[-0.1274691922299796, -1.390746709767272, 0.5426159005390985],
         [0.2168737811640407, -0.035836941612551756, -1.0833154705876864]]),
    "gelu tanh": (
        lambda x: sg.nn.gelu(x, approximate="tanh"),
        [[-0.10042842301976707, 0.149675350701685, 1.954597694087775],
         [0.34571400982514394, -0.0036373920817729943, 0.8411919906082768]],
        [[-0.12771079315143308, -1.3907081903021208, 0.5430496283118091],
         [0.2168424758836606, -0.03475249989290895, -1.0829640838457826]]),
    "silu": (
        sg.nn.silu,
        [[-0.2736382857095345, 0.14054412522144952, 1.7615941559557646],
         [0.3112296656009273, -0.14227761953270035, 0.7310585786300049]],
        [[-0.041294154299142946, -1.2474200431403955, 0.5453921243924478],
         [0.18499029682566298, -0.26431231804550886, -0.9276705118714869]]),
    "softplus": (
        sg.nn.softplus,
        [[0.2014132779827524, 0.8259394198788436, 2.1269280110429727],
         [0.9740769841801067, 0.04858735157374206, 1.3132616875182228]],
        [[0.18242552380635632, -1.1243530017715961, 0.4403985389889412],
         [0.15561483280046365, 0.14227761953270035, -0.7310585786300049]]),
    "sigmoid": (
        sg.nn.sigmoid,
        [[0.18242552380635635, 0.5621765008857981, 0.8807970779778823],
         [0.6224593312018546, 0.04742587317756678, 0.7310585786300049]],
        [[0.14914645207033286, -0.4922681654751967, 0.05249679270175331],
         [0.058750928050398624, 0.1355299791927364, -0.19661193324148185]]),
    "tanh": (
        sg.nn.tanh,
        [[-0.9051482536448664, 0.24491866240370913, 0.9640275800758169],
         [0.46211715726000974, -0.9950547536867305, 0.7615941559557649]],
        [[0.1807066389236486, -1.880029697612756, 0.035325412426582214],
         [0.19661193324148185, 0.0295981114963205, -0.41997434161402614]]),
    "softmax": (
        sg.nn.softmax,
        [[0.025081480553822005, 0.1443339551132098, 0.8305845643329681],
         [0.37328494408038587, 0.01127222858217413, 0.61544282733744]],
        [[0.0212764731645956, -0.3105642159306834, 0.2892877427660879],
         [0.27559810539027857, 0.03932097025991364, -0.31491907565019217]]),
    "softmax axis 0": (
        lambda x: sg.nn.softmax(x, axis=0),
        [[0.11920292202211755, 0.9626731126558706, 0.7310585786300049],
         [0.8807970779778823, 0.037326887344129464, 0.2689414213699951]],
        [[0.0787451890526299, -0.17966795412664052, 0.2949178998622228],
         [-0.07874518905262984, 0.17966795412664066, -0.2949178998622228]]),
    "log_softmax": (
        sg.nn.log_softmax,
        [[-3.685625531713319, -1.935625531713319, -0.1856255317133191],
         [-0.9854132258321311, -4.485413225832131, -0.48541322583213115]],
        [[1.012540740276911, -1.927833022443395, 0.9152922821664841],
         [-0.5898911241808681, 2.974637485690108, -2.38474636150924]]),
}

# torch 2.14 in float64: (losses, gradient of their sum).
LOSSES: dict[str, tuple[Any, list[Any], list[list[float]]]] = {
    "cross_entropy": (
        lambda x, how: sg.nn.cross_entropy(x, LABELS, reduction=how),
        [0.1856255317133191, 4.485413225832131],
        [[0.02508148055382201, 0.14433395511320982, -0.16941543566703188],
         [0.3732849440803858, -0.9887277714178259, 0.61544282733744]]),
    "cross_entropy of probabilities": (
        lambda x, how: sg.nn.cross_entropy(x, SOFT, reduction=how),
        [1.410625531713319, 0.9854132258321311],
        [[-0.174918519446178, -0.15566604488679017, 0.3305845643329681],
         [-0.6267150559196142, 0.011272228582174132, 0.61544282733744]]),
    "nll": (
        lambda x, how: sg.nn.nll(x, LABELS, reduction=how), [-2.0, 3.0], [[0.0, 0.0, -1.0], [0.0, -1.0, 0.0]]),
    "mse": (
        lambda x, how: sg.nn.mse(x, TARGETS, reduction=how), [[2.25, 0.5625, 0.0], [6.25, 4.0, 0.25]],
        [[-3.0, -1.5, 0.0], [-5.0, -4.0, 1.0]]),
    "huber": (
        lambda x, how: sg.nn.huber(x, TARGETS, delta=1.25, reduction=how),
        [[1.09375, 0.28125, 0.0], [2.34375, 1.71875, 0.125]],
        [[-1.25, -0.75, 0.0], [-1.25, -1.25, 0.5]]),
    "binary_cross_entropy": (
        lambda x, how: sg.nn.binary_cross_entropy(x, BINARY, reduction=how),
        [[0.20141327798275244, 0.5759394198788436, 0.1269280110429725],
         [0.8240769841801067, 0.048587351573742055, 0.31326168751822286]],
        [[0.18242552380635635, -0.43782349911420193, -0.11920292202211769],
         [0.3224593312018546, 0.04742587317756678, -0.2689414213699951]]),
}


def both(outputs: list[sg.Tensor], feed: dict[sg.Tensor, np.ndarray]) -> list[list[np.ndarray]]:
    """What is compiled, and what is evaluated."""
    return [sg.compile(list(feed), outputs)(*feed.values()), sg.evaluate(outputs, feed)]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    function, value, slope = ACTIVATIONS[name]
    x = sg.placeholder("x", ("n", 3), "float64")
    y = function(x)
    for results in both([y, sg.grad(y, x, cotangent=CT)], {x: X}):
        for ours, theirs in zip(results, (value, slope), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    function, losses, slope = LOSSES[name]
    x = sg.placeholder("x", (2, 3), "float64")
    total = function(x, "sum")
    outputs = [function(x, "none"), function(x, "mean"), total, sg.grad(total, x)]
    for each, mean, sum_, gradient in both(outputs, {x: X}):
        np.testing.assert_allclose(each, losses, rtol=1e-13)
        np.testing.assert_allclose([mean, sum_], [np.mean(losses), np.sum(losses)], rtol=1e-13)
        np.testing.assert_allclose(gradient, slope, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_float32_are_float32(name: str) -> None:
    x = sg.placeholder("x", (2, 3))
    function = {"cross_entropy of probabilities": lambda x: sg.nn.cross_entropy(x, SOFT.astype("f")),
                "mse": lambda x: sg.nn.mse(x, TARGETS.astype("f")),
                "huber": lambda x: sg.nn.huber(x, TARGETS.astype("f")),
                "binary_cross_entropy": lambda x: sg.nn.binary_cross_entropy(x, BINARY.astype("f"))}.get(
                    name, lambda x: LOSSES[name][0](x, "none"))
    assert function(x).dtype == np.float32


def test_layer_norm() -> None:
    x = sg.placeholder("x", ("n", 3), "float64")
    w, b = sg.placeholder("w", (3,), "float64"), sg.placeholder("b", (3,), "float64")
    y = sg.nn.layer_norm(x, w, b)
    feed = {x: X, w: np.array([0.5, -1.0, 2.0]), b: np.array([0.1, 0.2, -0.3])}
    expected = [
        [[-0.512370936013706, 0.2, 2.149483744054824], [0.3809752998296482, 1.604876499148241, 1.3858517989778891]],
        [[-0.2916060645836197, 0.5832104152511486, -0.2916043506675287],
         [0.7098332003496871, -0.08873120189632888, -0.6211019984533586]],
        [-1.084254222112588, -4.214629497444723, -0.23055496347523863], [1.25, 1.0, -0.5]]
    for results in both([y, *sg.grad(y, [x, w, b], cotangent=CT)], feed):
        for ours, theirs in zip(results, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-15)


def test_small_losses_keep_their_digits() -> None:
    """A confident right answer costs exp(-40), not 0 and not 1e-16."""
    x = sg.placeholder("x", (1,), "float64")
    tiny = np.exp(-40.0)
    for right, wrong in both([sg.nn.binary_cross_entropy(x, np.ones(1)), sg.nn.binary_cross_entropy(x, np.zeros(1))],
                             {x: np.array([40.0])}):
        np.testing.assert_allclose(right, [tiny], rtol=1e-12)
        np.testing.assert_allclose(wrong, [40 + tiny], rtol=1e-15)


def test_integer_and_bool_targets_of_binary_cross_entropy() -> None:
    x = sg.placeholder("x", (2,), "float64")
    floats = sg.nn.binary_cross_entropy(x, np.array([1.0, 0.0]))
    for targets in (np.array([1, 0]), np.array([True, False])):
        losses = sg.nn.binary_cross_entropy(x, targets)
        feed = {x: np.array([0.5, 2.0])}
        assert sg.evaluate(losses, feed).tolist() == sg.evaluate(floats, feed).tolist()


def test_label_out_of_range_names_the_loss() -> None:
    x, t = sg.placeholder("x", ("n", 3), "float64"), sg.placeholder("t", ("n",), "int64")
    step = sg.compile([x, t], sg.nn.cross_entropy(x, t, reduction="mean"))
    with pytest.raises(sg.OutOfRangeError, match=r"cross_entropy.*3.*size 3"):
        step(X, [0, 3])


def test_unknown_reduction() -> None:
    with pytest.raises(sg.ArgumentError, match='"none", "mean" and "sum", not \'average\''):
        sg.nn.mse(sg.constant([1.0]), [2.0], reduction="average")
