"""Convolutions and pooling on CUDA: products with columns of windows, and sums over windows, of symbolic sizes.

Examples of every op are in the table (test_table.py); here are groups, steps and gaps at once, windows that are too
large to be written out, and nan.
"""

from __future__ import annotations

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.tensor import Tensor
from tests.compiler.compare import check, ordinary
from tests.cuda import skip_without_compiler

skip_without_compiler()

from tests.cuda.simulate import compile_simulated  # noqa: E402


@pytest.fixture(autouse=True)
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sg, "compile", compile_simulated)


def test_conv2d_and_its_gradients() -> None:
    x, w = sg.placeholder("x", ("n", 4, "h", "w")), sg.placeholder("w", (6, 2, 3, 2))
    y = sg.conv2d(x, w, stride=(2, 1), padding=((1, 2), (0, 1)), dilation=(1, 2), groups=2)
    ct = sg.placeholder("ct", y.shape)
    dx, dw = sg.vjp([y], [x, w], [ct])
    feeds = [{x: ordinary("float32", (n, 4, h, 7)), w: ordinary("float32", (6, 2, 3, 2), 1),
              ct: ordinary("float32", (n, 6, (h + 2) // 2, 6), 2)} for n, h in ((2, 6), (1, 9))]
    check({"y": y, "dx": dx, "dw": dw}, *feeds, relative=True)


@pytest.mark.parametrize("kernel", [(3, 2), (6, 6)])
def test_pooling(kernel: tuple[int, int]) -> None:
    x = sg.placeholder("x", ("n", 2, "h", "w"))
    outputs: dict[str, Tensor] = {"max": sg.max_pool2d(x, kernel, stride=2, padding=1),
                                  "mean": sg.avg_pool2d(x, kernel, stride=(1, 2), padding=(1, 0))}
    outputs |= {f"{name} slope": sg.grad(sg.sum(y * y), x) for name, y in list(outputs.items())}
    ties = np.round(ordinary("float32", (2, 2, 8, 7)) / 4) + 0     # -0.0 and 0.0 would tie, and either may win
    check(outputs, {x: ties}, relative=True)
    check({"max": outputs["max"]}, {x: np.where(ties == ties.max(), np.float32(np.nan), ties)})
