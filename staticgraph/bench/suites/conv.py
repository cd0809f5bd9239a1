"""Convolutions of images, and with them the gradients of image and weights. The batch is a symbolic size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

import staticgraph as sg

from ..cases import Array, Case, Data, Setting, Sizes

LEAST = 1.0

FORMULAS = {"conv3x3": (3, 1), "conv1x1": (1, 1), "conv_stride2": (3, 2)}
"""Name -> rows and columns of the weights, and stride. Images keep their size but for the stride."""


def padding_of(name: str) -> int:
    return FORMULAS[name][0] // 2


def _setting(name: str, n: int, channels: int, side: int, outputs: int) -> Setting:
    kernel, stride = FORMULAS[name]
    return Setting(f"{n}x{channels}x{side}x{side}*{outputs}x{channels}x{kernel}x{kernel}",
                   {"n": n, "channels": channels, "side": side, "outputs": outputs, "kernel": kernel,
                    "result": -(-side // stride)})


SETTINGS = {
    "conv3x3": (_setting("conv3x3", 32, 16, 32, 32), _setting("conv3x3", 8, 64, 56, 64)),
    "conv1x1": (_setting("conv1x1", 8, 64, 56, 128),),
    "conv_stride2": (_setting("conv_stride2", 8, 64, 56, 128),),
}


def _flops(passes: int) -> Callable[[Sizes], int]:
    def flops(sizes: Sizes) -> int:
        window = sizes["channels"] * sizes["kernel"] ** 2
        return passes * 2 * sizes["n"] * sizes["outputs"] * sizes["result"] ** 2 * window
    return flops


def _cases(name: str) -> tuple[Case, Case]:
    kernel, stride = FORMULAS[name]
    padding = padding_of(name)

    def graph(x: sg.Tensor, weight: sg.Tensor) -> tuple[sg.Tensor]:
        return (sg.conv2d(x, weight, stride=stride, padding=padding),)

    def numpy(x: Array, weight: Array) -> tuple[Array]:
        """All windows as a view, then one product of matrices."""
        padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        windows = sliding_window_view(padded, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]
        product = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3)))
        return (np.ascontiguousarray(product.transpose(0, 3, 1, 2)),)

    inputs = {"x": Data(("n", "channels", "side", "side")),
              "weight": Data(("outputs", "channels", kernel, kernel), 0.1)}
    title = f"convolution with weights of {kernel} x {kernel}, stride {stride}"
    tiny = _setting(name, 2, 3, 7, 5).sizes
    return (Case(name, title, inputs=inputs, graph=graph, numpy=numpy, settings=SETTINGS[name], tiny=tiny,
                 flops=_flops(1), least=LEAST),
            Case(f"{name}_grad", f"{title}, and both gradients", graph=graph, numpy=None, form=name,
                 inputs={**inputs, "ct": Data(("n", "outputs", "result", "result"))}, wrt=("x", "weight"),
                 settings=SETTINGS[name], tiny=tiny, flops=_flops(3), tolerance=1e-4, least=LEAST))


CASES = tuple(case for name in FORMULAS for case in _cases(name))
