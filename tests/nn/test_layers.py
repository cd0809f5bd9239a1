"""Layers, their parameters and names, and initial values from generators that the caller names."""

from typing import Any

import numpy as np
import pytest

import staticgraph as sg

initialisers = sg.nn.initialisers


def test_linear_is_rows_times_weight_plus_bias() -> None:
    layer = sg.nn.Linear(3, 2, generator=0)
    assert layer.bias is not None
    layer.bias.value = np.array([1.0, -1.0], np.float32)
    x = sg.placeholder("x", ("n", 3))
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    expected = rows @ layer.weight.value + layer.bias.value
    np.testing.assert_allclose(sg.evaluate(layer(x), {x: rows}), expected, rtol=1e-6)
    np.testing.assert_allclose(sg.compile([x], layer(x))(rows), expected, rtol=1e-5)
    assert layer(x).dtype == np.float32
    assert [each.name for each in layer.parameters()] == ["linear.weight", "linear.bias"]


def test_linear_without_bias() -> None:
    layer = sg.nn.Linear(3, 2, bias=False, generator=0, name="out")
    assert [each.name for each in layer.parameters()] == ["out.weight"]
    assert layer(np.zeros((1, 3), np.float32)).shape == (1, 2)


def test_embedding_and_its_gradient() -> None:
    """Stored from torch.nn.Embedding: repeated indices add up, unused rows get zero."""
    layer = sg.nn.Embedding(4, 2, init=lambda shape, generator, dtype: np.arange(8.0).reshape(shape))
    indices = sg.placeholder("indices", ("n", "m"), "int64")
    y = layer(indices)
    feed = np.array([[1, 3], [1, 0]])
    slope = sg.grad(y, layer.weight, cotangent=np.arange(8.0).reshape(2, 2, 2))
    step = sg.compile([indices], [y, slope])
    value, gradient = step(feed)
    assert value.tolist() == layer.weight.value[feed].tolist()
    assert gradient.tolist() == [[6, 7], [4, 6], [0, 0], [2, 3]]
    with pytest.raises(sg.OutOfRangeError):
        step([[4, 0], [0, 0]])


def test_layer_norm() -> None:
    layer = sg.nn.LayerNorm(4, dtype="float64")
    x = sg.placeholder("x", ("n", 4), "float64")
    rows = np.random.default_rng(0).standard_normal((5, 4)) * 3 + 1
    expected = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(sg.compile([x], layer(x))(rows), expected, rtol=1e-10)
    assert [each.name for each in layer.parameters()] == ["layer_norm.weight", "layer_norm.bias"]
    assert sg.nn.LayerNorm(4, affine=False).parameters() == []
    with pytest.raises(sg.ShapeError, match="LayerNorm"):
        layer(sg.placeholder("z", ("n", 3), "float64"))


def test_layer_norm_over_two_axes() -> None:
    layer = sg.nn.LayerNorm((2, 3), eps=1e-3, dtype="float64")
    x = sg.placeholder("x", ("n", 2, 3), "float64")
    values = np.random.default_rng(1).standard_normal((4, 2, 3))
    axes = (1, 2)
    expected = (values - values.mean(axes, keepdims=True)) / np.sqrt(values.var(axes, keepdims=True) + 1e-3)
    np.testing.assert_allclose(sg.evaluate(layer(x), {x: values}), expected, rtol=1e-12)


def test_sequential_takes_layers_and_functions() -> None:
    model = sg.nn.Sequential(sg.nn.Linear(2, 2, generator=0), sg.tanh, sg.nn.Softmax())
    assert len(model) == 3 and list(model)[1] is sg.tanh
    x = sg.placeholder("x", ("n", 2))
    np.testing.assert_allclose(sg.evaluate(sg.sum(model(x), axis=1), {x: np.ones((3, 2), np.float32)}), 1, rtol=1e-6)
    with pytest.raises(sg.ArgumentError, match="a layer is a Layer or a function"):
        model.append(3)     # type: ignore[arg-type]


def test_scopes_tell_layers_apart() -> None:
    model = sg.nn.Sequential(sg.nn.Linear(2, 2, generator=0, name="hidden"), sg.nn.Linear(2, 2, generator=1))
    y = model(sg.placeholder("x", ("n", 2)))
    assert y.scope == "sequential/1/linear"
    assert y.inputs[0].inputs[0].scope == "sequential/0/hidden"
    assert y.location.file == __file__


class Block(sg.nn.Layer):
    """Parameters in every kind of place."""

    def __init__(self) -> None:
        self.gain = sg.variable(np.ones(2), name="gain")
        self.many = [sg.nn.Linear(2, 2, generator=0, dtype="float64"), (sg.variable(np.zeros(2), name="inner"),)]
        self.named = {"last": sg.variable(np.zeros(2), name="last"), "again": self.gain}
        self.itself = self
        self.activation = sg.tanh
        self.result = self.gain * 2     # graph, not a parameter

    def forward(self, x: Any) -> sg.Tensor:
        return self.gain * x


def test_parameters_are_ordered_nested_and_unique() -> None:
    names = [each.name for each in Block().parameters()]
    assert names == ["gain", "linear.weight", "linear.bias", "inner", "last"]


def test_layer_without_forward() -> None:
    with pytest.raises(NotImplementedError, match="Empty has no forward"):
        type("Empty", (sg.nn.Layer,), {})()(1.0)


@pytest.mark.parametrize(("layer", "function"), [
    (sg.nn.ReLU(), sg.nn.relu), (sg.nn.GELU(), sg.nn.gelu), (sg.nn.SiLU(), sg.nn.silu), (sg.nn.Tanh(), sg.tanh),
    (sg.nn.Sigmoid(), sg.nn.sigmoid), (sg.nn.Softplus(), sg.nn.softplus), (sg.nn.Softmax(), sg.nn.softmax),
    (sg.nn.GELU("tanh"), lambda x: sg.nn.gelu(x, approximate="tanh")),
    (sg.nn.Softmax(axis=0), lambda x: sg.nn.softmax(x, axis=0))])
def test_activation_layers_are_the_functions(layer: Any, function: Any) -> None:
    x = sg.placeholder("x", ("n", 2), "float64")
    assert layer(x) is function(x)     # the same formula is the same node
    assert layer.parameters() == []


def test_losses_are_the_functions() -> None:
    x, t = sg.placeholder("x", ("n", 3), "float64"), sg.placeholder("t", ("n",), "int64")
    y = sg.placeholder("y", ("n", 3), "float64")
    assert sg.nn.CrossEntropyLoss()(x, t) is sg.nn.cross_entropy(x, t, reduction="mean")
    assert sg.nn.CrossEntropyLoss("none")(x, t) is sg.nn.cross_entropy(x, t)
    assert sg.nn.MSELoss(reduction="sum")(x, y) is sg.nn.mse(x, y, reduction="sum")


RANDOM = ["normal", "uniform", "he", "he_normal", "he_uniform", "glorot", "glorot_normal", "glorot_uniform"]


@pytest.mark.parametrize("name", RANDOM)
def test_random_values_need_a_generator(name: str) -> None:
    with pytest.raises(sg.ArgumentError, match=r"needs generator=.* got None"):
        sg.nn.Linear(2, 2, init=name)


@pytest.mark.parametrize("generator", [True, 1.5, np.random, np.random.RandomState(0), "0"])
def test_what_is_no_generator(generator: Any) -> None:
    with pytest.raises(sg.ArgumentError, match="an int seed"):
        sg.nn.Linear(2, 2, generator=generator)


@pytest.mark.parametrize("name", RANDOM)
def test_draws_are_the_generators(name: str) -> None:
    """The same seed gives the same values, a generator goes on, and NumPy's global state stays."""
    init = initialisers.initialiser(name)
    np.random.seed(3)
    before = np.random.get_state()[1].tolist()
    generator = np.random.default_rng(7)
    first, second = init((3, 4), generator, "float64"), init((3, 4), generator, "float64")
    assert first.tolist() == init((3, 4), 7, "float64").tolist() != second.tolist()
    assert np.random.get_state()[1].tolist() == before
    assert init((3, 4), 7, "float32").tolist() == first.astype(np.float32).tolist()


@pytest.mark.parametrize(("name", "deviation"), [
    ("he_normal", np.sqrt(2 / 300)), ("he_uniform", np.sqrt(2 / 300)), ("glorot_normal", np.sqrt(2 / 500)),
    ("glorot_uniform", np.sqrt(2 / 500)), ("normal", 1.0), ("uniform", np.sqrt(1 / 3))])
def test_spread_of_draws(name: str, deviation: float) -> None:
    values = initialisers.initialiser(name)((300, 200), 11, "float64")
    np.testing.assert_allclose(values.std(), deviation, rtol=0.02)
    assert abs(values.mean()) < 0.02 * deviation
    if name.endswith("uniform"):
        bound = deviation * np.sqrt(3)
        assert 0.99 * bound < np.abs(values).max() <= bound


def test_fans() -> None:
    assert initialisers.fans((3, 4)) == (3, 4)
    assert initialisers.fans((16, 3, 5, 5)) == (75, 400)     # channels out, channels in, kernel
    with pytest.raises(sg.ArgumentError, match="at least two axes"):
        initialisers.fans((3,))


def test_initialisers_by_name_and_by_function() -> None:
    assert sg.nn.Linear(2, 3, init="zeros").weight.value.tolist() == [[0, 0, 0]] * 2
    assert sg.nn.Linear(2, 3, init="ones", dtype="float64").weight.value.dtype == np.float64
    own = sg.nn.Linear(2, 3, init=lambda shape, generator, dtype: np.full(shape, 5, dtype))
    assert own.weight.value.tolist() == [[5, 5, 5]] * 2 and own.weight.dtype == np.float32
    with pytest.raises(sg.ArgumentError, match="no initialiser 'xavier'"):
        sg.nn.Linear(2, 2, generator=0, init="xavier")
    with pytest.raises(sg.DTypeError, match="int64"):
        sg.nn.Linear(2, 2, generator=0, dtype="int64")


def test_convolution_layers() -> None:
    """The functions on variables of the layer; fan in counts the window, so that He's scale is right."""
    layer = sg.nn.Conv2d(4, 6, (3, 1), stride=2, padding=(1, 0), groups=2, generator=0)
    assert layer.weight.shape == (6, 2, 3, 1) and [each.name for each in layer.parameters()] == [
        "conv2d.weight", "conv2d.bias"]
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 5)).astype(np.float32)
    expected = sg.conv2d(x, layer.weight, layer.bias, stride=2, padding=(1, 0), groups=2)
    np.testing.assert_array_equal(sg.evaluate(layer(x)), sg.evaluate(expected))
    signal = sg.nn.Conv1d(2, 3, 3, padding="same", bias=False, generator=0, name="front")
    assert [each.name for each in signal.parameters()] == ["front.weight"]
    assert signal(np.ones((1, 2, 7), np.float32)).shape == (1, 3, 7)
    assert 0.1 < float(np.std(sg.nn.Conv2d(8, 64, 3, generator=0).weight.value)) * np.sqrt(36) < 2
    for bad in ({"inputs": 3, "groups": 2}, {"inputs": 2, "kernel": (3,)}):
        with pytest.raises(sg.ShapeError, match="Conv2d: needed 2 sizes of the kernel"):
            sg.nn.Conv2d(**{"outputs": 4, "kernel": 3, "generator": 0, **bad})


def test_pooling_and_flatten_layers() -> None:
    x = sg.placeholder("x", ("n", 2, 4, 6))
    model = sg.nn.Sequential(sg.nn.MaxPool2d(2), sg.nn.AvgPool2d((2, 1), stride=1), sg.nn.Flatten())
    value = np.random.default_rng(0).standard_normal((3, 2, 4, 6)).astype(np.float32)
    largest = value.reshape(3, 2, 2, 2, 3, 2).max((3, 5))
    assert model(x).shape == (x.shape[0], 6)
    np.testing.assert_allclose(sg.evaluate(model(x), {x: value}), largest.mean(2).reshape(3, 6), rtol=1e-6)
