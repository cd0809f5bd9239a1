"""Small models trained for some steps: the compiled step against the NumPy meaning of the same updates, variable by
variable, with batches of changing size."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import staticgraph as sg

Model = tuple[dict[sg.Tensor, Callable[[int, np.random.Generator], np.ndarray]], sg.Tensor, list[sg.Tensor]]
"""{input: (batch size, generator) -> array}, the loss, the parameters."""

nn = sg.nn


def classifier(dtype: str) -> Model:
    model = nn.Sequential(nn.Linear(6, 8, generator=1, dtype=dtype), nn.LayerNorm(8, dtype=dtype), nn.GELU(),
                          nn.Linear(8, 5, generator=2, init="glorot", dtype=dtype))
    x, t = sg.placeholder("x", ("batch", 6), dtype), sg.placeholder("t", ("batch",), "int64")
    feed = {x: lambda n, g: g.standard_normal((n, 6)).astype(dtype), t: lambda n, g: g.integers(0, 5, n)}
    return feed, nn.cross_entropy(model(x), t, reduction="mean"), model.parameters()


def bag_of_words(dtype: str) -> Model:
    words = nn.Embedding(11, 4, generator=3, dtype=dtype)
    out = nn.Linear(4, 3, generator=4, dtype=dtype)
    tokens, t = sg.placeholder("tokens", ("batch", 7), "int32"), sg.placeholder("t", ("batch",), "int64")
    loss = nn.cross_entropy(out(nn.silu(sg.mean(words(tokens), axis=1))), t, reduction="sum")
    feed = {tokens: lambda n, g: g.integers(0, 11, (n, 7), dtype=np.int32), t: lambda n, g: g.integers(0, 3, n)}
    return feed, loss, [*words.parameters(), *out.parameters()]


def tied_autoencoder(dtype: str) -> Model:
    """One weight used twice, once transposed."""
    w = sg.variable(nn.initialisers.he_uniform((5, 3), 5, dtype), name="w")
    b = sg.variable(np.zeros((1, 3), dtype), name="b")
    x = sg.placeholder("x", ("batch", 5), dtype)
    loss = nn.huber(nn.softplus(x @ w + b) @ w.T, x, delta=0.5, reduction="mean")
    return {x: lambda n, g: g.standard_normal((n, 5)).astype(dtype)}, loss, [w, b]


def attention(dtype: str) -> Model:
    """One head over short sequences, and a residual connection."""
    q, k, v = (sg.variable(nn.initialisers.glorot_uniform((4, 4), seed, dtype), name=f"w{seed}") for seed in (6, 7, 8))
    x = sg.placeholder("x", ("batch", 6, 4), dtype)
    weights = nn.softmax((x @ q) @ (x @ k).mT / 2.0)
    y = nn.layer_norm(x + weights @ (x @ v))
    loss = nn.mse(y[:, 0], x[:, -1], reduction="mean")
    return {x: lambda n, g: g.standard_normal((n, 6, 4)).astype(dtype)}, loss, [q, k, v]


def logistic(dtype: str) -> Model:
    layer = nn.Linear(3, 1, generator=9, dtype=dtype)
    x, t = sg.placeholder("x", ("batch", 3), dtype), sg.placeholder("t", ("batch",), "bool")
    loss = nn.binary_cross_entropy(layer(x)[:, 0], t, reduction="mean")
    feed = {x: lambda n, g: g.standard_normal((n, 3)).astype(dtype), t: lambda n, g: g.integers(0, 2, n).astype(bool)}
    return feed, loss, layer.parameters()


MODELS = [classifier, bag_of_words, tied_autoencoder, attention, logistic]
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "sgd": lambda: sg.optim.SGD(0.05), "nesterov": lambda: sg.optim.SGD(0.05, 0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda: sg.optim.Adam(0.01), "adamw": lambda: sg.optim.AdamW(0.01, weight_decay=0.1),
}


def follow(model: Callable[[str], Model], optimizer: Any, dtype: str, rtol: float, clip: bool = False) -> None:
    inputs, loss, parameters = model(dtype)
    gradients = sg.grad(loss, parameters)
    if clip:
        gradients = sg.optim.clip_by_global_norm(gradients, 0.1)
    updates = optimizer.updates(None, parameters, gradients=gradients)
    step = sg.compile(list(inputs), loss, updates=updates)
    generator = np.random.default_rng(12)
    for size in (4, 1, 9, 4):
        feed = {each: make(size, generator) for each, make in inputs.items()}
        before, *after = sg.evaluate([loss, *updates.values()], feed)
        np.testing.assert_allclose(step(*feed.values()), before, rtol=rtol, atol=rtol)
        for variable, value in zip(updates, after, strict=True):
            assert variable.value.dtype == value.dtype
            np.testing.assert_allclose(variable.value, value, rtol=rtol, atol=rtol, err_msg=variable.name or "")
            variable.value = value     # so that rounding does not add up


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps(model: Callable[[str], Model], name: str) -> None:
    follow(model, OPTIMIZERS[name](), "float64", 1e-11)


@pytest.mark.parametrize("model", MODELS)
def test_steps_in_float32(model: Callable[[str], Model]) -> None:
    """SGD: Adam divides small differences by small differences, which magnifies what rounding does."""
    follow(model, sg.optim.SGD(0.05, 0.9), "float32", 2e-5)


@pytest.mark.parametrize("model", MODELS)
def test_steps_with_clipped_gradients(model: Callable[[str], Model]) -> None:
    follow(model, sg.optim.SGD(0.05), "float64", 1e-11, clip=True)
