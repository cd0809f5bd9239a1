"""Training steps: forward pass, backward pass and SGD of small models, each one call. Batches are symbolic sizes."""

from __future__ import annotations

import math

import numpy as np

import staticgraph as sg

from ..cases import LEARNING_RATE, Array, Case, Data, Setting, Sizes
from .rows import EPSILON

LEAST = 1.5
HEADS = 4
MASKED = -1e9
"""What is added to the scores of what a position may not see."""


def mlp_loss(x: sg.Tensor, t: sg.Tensor, *state: sg.Tensor) -> tuple[sg.Tensor]:
    w1, b1, w2, b2, w3, b3 = state
    h1 = sg.nn.relu(x @ w1 + b1)
    h2 = sg.nn.relu(h1 @ w2 + b2)
    return (sg.nn.cross_entropy(h2 @ w3 + b3, t, reduction="mean"),)


def numpy_mlp_step(x: Array, t: Array, *state: Array) -> tuple[Array, ...]:
    w1, b1, w2, b2, w3, b3 = state
    h1 = np.maximum(x @ w1 + b1, 0)
    h2 = np.maximum(h1 @ w2 + b2, 0)
    logits = h2 @ w3 + b3
    shifted = logits - logits.max(1, keepdims=True)
    weights = np.exp(shifted)
    total = weights.sum(1, keepdims=True)
    rows = np.arange(len(t))
    loss = (np.log(total[:, 0]) - shifted[rows, t]).mean()
    d3 = weights / total
    d3[rows, t] -= 1
    d3 /= np.float32(len(t))
    d2 = (d3 @ w3.T) * (h2 > 0)
    d1 = (d2 @ w2.T) * (h1 > 0)
    grads = (x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ d3, d3.sum(0))
    return loss, *(p - np.float32(LEARNING_RATE) * g for p, g in zip(state, grads))


def _mlp_flops(sizes: Sizes) -> int:
    """Each weight serves forward and for its own gradient, and all but the first layer's for the input's."""
    first = sizes["inputs"] * sizes["first"]
    weights = first + sizes["first"] * sizes["second"] + sizes["second"] * sizes["classes"]
    return 2 * sizes["n"] * (3 * weights - first)


def cnn_loss(x: sg.Tensor, t: sg.Tensor, *state: sg.Tensor) -> tuple[sg.Tensor]:
    """Two convolutions of 3 x 3, the largest of each 2 x 2, and two layers."""
    k1, b1, k2, b2, w3, b3, w4, b4 = state
    h = sg.nn.relu(sg.conv2d(x, k1, b1, padding=1))
    h = sg.max_pool2d(sg.nn.relu(sg.conv2d(h, k2, b2, padding=1)), 2)
    h = sg.nn.relu(sg.reshape(h, (x.shape[0], -1)) @ w3 + b3)
    return (sg.nn.cross_entropy(h @ w4 + b4, t, reduction="mean"),)


def _cnn_flops(sizes: Sizes) -> int:
    """As of the MLP: the first layer needs no gradient of the images."""
    pixels = sizes["side"] ** 2
    first, second = 9 * sizes["first"] * pixels, 9 * sizes["first"] * sizes["second"] * pixels
    dense = sizes["flat"] * sizes["hidden"] + sizes["hidden"] * sizes["classes"]
    return 2 * sizes["n"] * (2 * first + 3 * second + 3 * dense)


def _cnn(n: int, side: int, first: int, second: int, hidden: int) -> Sizes:
    return {"n": n, "side": side, "first": first, "second": second, "flat": second * (side // 2) ** 2,
            "hidden": hidden, "classes": 10}


def causal_mask(length: int) -> Array:
    """Zero where a position may look, else a number that softmax makes zero of."""
    return np.triu(np.full((length, length), MASKED, np.float32), 1)


def transformer_loss(x: sg.Tensor, target: sg.Tensor, *state: sg.Tensor) -> tuple[sg.Tensor]:
    """A block with the norms in front: causal attention of four heads, then two layers with gelu; squared error."""
    g1, b1, w_in, b_in, w_out, b_out, g2, b2, w1, c1, w2, c2 = state
    n, length, width = x.shape
    assert isinstance(length, int) and isinstance(width, int)
    inner = width // HEADS
    h = sg.nn.layer_norm(x, g1, b1, eps=EPSILON) @ w_in + b_in
    parts = (h[:, :, at * width:(at + 1) * width] for at in range(3))
    q, k, v = (sg.permute_dims(sg.reshape(part, (n, length, HEADS, inner)), (0, 2, 1, 3)) for part in parts)
    scores = q @ sg.permute_dims(k, (0, 1, 3, 2)) / math.sqrt(inner) + causal_mask(length)
    seen = sg.reshape(sg.permute_dims(sg.nn.softmax(scores) @ v, (0, 2, 1, 3)), (n, length, width))
    x = x + seen @ w_out + b_out
    h = sg.nn.gelu(sg.nn.layer_norm(x, g2, b2, eps=EPSILON) @ w1 + c1, approximate="tanh")
    return (sg.mean(sg.square(x + h @ w2 + c2 - target)),)


def _transformer_flops(sizes: Sizes) -> int:
    """Products forward, and two as large for each of them backward."""
    length, width = sizes["length"], sizes["width"]
    weights = 4 * width * width + 2 * width * 4 * width
    return 3 * 2 * sizes["n"] * length * (weights + 2 * length * width)


def _norm(name: str) -> dict[str, Data]:
    return {f"g{name}": Data(("width",)), f"b{name}": Data(("width",), 0.1)}


def _layer(weights: str, bias: str, inputs: str, outputs: str) -> dict[str, Data]:
    return {weights: Data((inputs, outputs), 0.1), bias: Data((outputs,), 0.1)}


def _block(n: int, length: int, width: int) -> Sizes:
    return {"n": n, "length": length, "width": width, "three": 3 * width, "four": 4 * width}


_tokens = Data(("n", "length", "width"))

CASES = (
    Case("mlp_step", "MLP 64-128-64-10, batch 64", inputs={"x": Data(("n", "inputs")), "t": Data(("n",), below=10)},
         state={**_layer("w1", "b1", "inputs", "first"), **_layer("w2", "b2", "first", "second"),
                **_layer("w3", "b3", "second", "classes")},
         graph=mlp_loss, numpy=numpy_mlp_step, flops=_mlp_flops, tolerance=1e-3, least=LEAST,
         settings=(Setting("64", {"n": 64, "inputs": 64, "first": 128, "second": 64, "classes": 10}),),
         tiny={"n": 5, "inputs": 7, "first": 8, "second": 6, "classes": 10}),
    Case("digits_cnn_step", "CNN of the digits: conv 16, conv 32, pool, 64, 10; batch 64",
         inputs={"x": Data(("n", 1, "side", "side")), "t": Data(("n",), below=10)},
         state={"k1": Data(("first", 1, 3, 3), 0.3), "b1": Data(("first",), 0.1),
                "k2": Data(("second", "first", 3, 3), 0.1), "b2": Data(("second",), 0.1),
                **_layer("w3", "b3", "flat", "hidden"), **_layer("w4", "b4", "hidden", "classes")},
         graph=cnn_loss, numpy=None, flops=_cnn_flops, tolerance=1e-3, least=LEAST,
         settings=(Setting("64", _cnn(64, 8, 16, 32, 64)),), tiny=_cnn(3, 4, 2, 3, 5)),
    Case("transformer_step", "transformer block: d 64, 4 heads, 16 sequences of 64",
         inputs={"x": _tokens, "target": _tokens},
         state={**_norm("1"), **_layer("w_in", "b_in", "width", "three"), **_layer("w_out", "b_out", "width", "width"),
                **_norm("2"), **_layer("w1", "c1", "width", "four"), **_layer("w2", "c2", "four", "width")},
         graph=transformer_loss, numpy=None, flops=_transformer_flops, tolerance=1e-3, least=LEAST,
         settings=(Setting("16x64x64", _block(16, 64, 64)),), tiny=_block(2, 5, 8)),
)
