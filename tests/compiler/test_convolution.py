"""Compiled convolutions and pooling against the interpreter: their own kernels, and the products that some become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.compiler import convolution
from staticgraph.compiler.render import cpu_conv
from staticgraph.runtime.cpu import executable
from staticgraph.tensor import Tensor

from .compare import check, ordinary

SYMBOLIC = ("n", "h", "w")

# Images (n, channels, rows, columns), outputs and kernel, and what the user says.
CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "same": ((2, 3, 9, 10), (9, 3, 3), {"padding": "same"}),
    "strided": ((2, 4, 9, 8), (6, 3, 2), {"stride": 2, "padding": (1, 0), "groups": 2}),
    "by three": ((1, 2, 11, 13), (3, 4, 4), {"stride": (3, 3), "padding": ((2, 0), (1, 3))}),
    "dilated": ((2, 2, 12, 40), (17, 2, 3), {"dilation": (2, 3), "padding": 2}),
    "dilated and strided": ((1, 2, 9, 9), (2, 3, 3), {"dilation": 2, "stride": 2}),
    "by channel": ((2, 5, 7, 8), (5, 3, 3), {"groups": 5, "padding": 1}),
    "one place": ((3, 5, 4, 6), (20, 1, 1), {}),
    "one place, strided": ((2, 3, 5, 6), (4, 1, 1), {"stride": 2}),
    "one row, strided": ((2, 3, 1, 9), (4, 1, 2), {"stride": 3, "padding": (0, 1)}),
    "wide padding": ((1, 1, 3, 4), (2, 2, 2), {"padding": 3}),
    "many channels": ((1, 70, 6, 5), (70, 3, 3), {"padding": 1}),
}


def outputs_of(x: Tensor, w: Tensor, ct: Tensor, given: dict[str, Any]) -> dict[str, Tensor]:
    y = sg.conv2d(x, w, **given)
    dx, dw = sg.vjp([y], [x, w], [ct])
    return {"y": y, "dx": dx, "dw": dw}


@pytest.mark.parametrize("name", CASES)
def test_conv2d_and_its_gradients(name: str) -> None:
    image, (outputs, *kernel), given = CASES[name]
    weights = (outputs, image[1] // given.get("groups", 1), *kernel)
    for dtype, sizes in (("float32", (SYMBOLIC[0], image[1], *SYMBOLIC[1:])), ("float64", image)):
        x, w = sg.placeholder("x", sizes, dtype), sg.placeholder("w", weights, dtype)
        ct = sg.placeholder("ct", sg.conv2d(x, w, **given).shape, dtype)
        shape = sg.conv2d(np.zeros(image), np.zeros(weights), **given).shape
        check(outputs_of(x, w, ct, given), {x: ordinary(dtype, image), w: ordinary(dtype, weights, 1),
                                            ct: ordinary(dtype, shape, 2)}, relative=True)


def test_no_images_one_size_of_image_and_integers() -> None:
    x, w = sg.placeholder("x", ("n", 2, "h", 5), "float32"), sg.placeholder("w", (3, 2, 3, 3), "float32")
    ct = sg.placeholder("ct", sg.conv2d(x, w, padding=1).shape, "float32")
    feeds = [{x: ordinary("float32", (n, 2, h, 5)), w: ordinary("float32", (3, 2, 3, 3), 1),
              ct: ordinary("float32", (n, 3, h, 5), 2)} for n, h in ((0, 4), (1, 1), (11, 70))]
    compiled = check(outputs_of(x, w, ct, {"padding": 1}), *feeds, relative=True)
    nothing = compiled(*feeds[0].values())["dw"]
    np.testing.assert_array_equal(nothing, np.zeros((3, 2, 3, 3), np.float32), strict=True)
    a, b = sg.placeholder("a", (2, 2, 5, 4), "int32"), sg.placeholder("b", (3, 2, 2, 2), "int32")
    check({"y": sg.conv2d(a, b, stride=(1, 2))}, {a: ordinary("int32", (2, 2, 5, 4)),
                                                  b: ordinary("int32", (3, 2, 2, 2), 1)})


def test_conv1d() -> None:
    x, w = sg.placeholder("x", ("n", 3, "length"), "float32"), sg.placeholder("w", (4, 3, 5), "float32")
    y = sg.conv1d(x, w, padding="same", dilation=2)
    check({"y": y, "dw": sg.grad(sg.sum(y * y), w)}, {x: ordinary("float32", (2, 3, 700)) / 100,
                                                      w: ordinary("float32", (4, 3, 5), 1)}, relative=True)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_pooling(dtype: str) -> None:
    x = sg.placeholder("x", ("n", 3, "h", "w"), dtype)
    outputs: dict[str, Tensor] = {}
    for name, given in {"plain": {"kernel": 2}, "overlap": {"kernel": 3, "stride": 2, "padding": 1},
                        "gaps": {"kernel": (1, 2), "stride": 3}, "large": {"kernel": (6, 7), "stride": (1, 2)}}.items():
        y = sg.max_pool2d(x, **given)
        outputs[name] = y
        if dtype == "float32":
            outputs |= {f"{name} mean": sg.avg_pool2d(x, **given), f"{name} slope": sg.grad(sg.sum(y * y), x),
                        f"{name} mean slope": sg.grad(sg.sum(sg.avg_pool2d(x, **given) ** 2), x)}
    values = ordinary(dtype, (2, 3, 9, 8))
    ties = np.round(values / values.max() * 2).astype(dtype)
    check(outputs, {x: values}, {x: ties}, relative=True)


def test_results_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = sg.placeholder("x", ("n", 16, 24, 24)), sg.placeholder("w", (24, 16, 3, 3))
    ct = sg.placeholder("ct", ("n", 24, 24, 24))
    values = (ordinary("float32", (6, 16, 24, 24)), ordinary("float32", (24, 16, 3, 3), 1),
              ordinary("float32", (6, 24, 24, 24), 2))
    results = []
    for count in (1, 3):
        monkeypatch.setattr(executable, "thread_count", lambda count=count: count)
        results.append(sg.compile([x, w, ct], outputs_of(x, w, ct, {"padding": 1}))(*values))
    for name in results[0]:
        np.testing.assert_array_equal(results[0][name], results[1][name])


# What becomes of it.


def test_which_kernels_are_used() -> None:
    x, w = sg.placeholder("x", ("n", 8, 12, 12)), sg.placeholder("w", (8, 8, 3, 3))
    one = sg.placeholder("one", (4, 8, 1, 1))

    def used(*outputs: Tensor, inputs: list[Tensor]) -> list[str]:
        text = sg.compile(inputs, list(outputs)).source()
        return [line[4:].split("(")[0] for line in text.splitlines() if line.startswith("def ")]

    assert used(sg.conv2d(x, w, padding=1), inputs=[x, w]) == ["conv_float32"]
    assert used(sg.conv2d(x, one), inputs=[x, one]) == ["matmul_float32"]     # and no copy
    slopes = sg.grad(sg.sum(sg.conv2d(x, w, padding=1)), [x, w])
    assert {"conv_float32", "conv_weights_float32_1"} <= set(used(*slopes, inputs=[x, w]))


def test_the_meaning_of_the_compilers_own_ops() -> None:
    x, w = sg.placeholder("x", (2, 4, 6, 7), "float64"), sg.placeholder("w", (6, 2, 3, 2), "float64")
    y = sg.conv2d(x, w, stride=(2, 1), padding=((1, 2), (0, 1)), groups=2)
    ct = sg.placeholder("ct", y.shape, "float64")
    wanted = [y, *sg.vjp([y], [x, w], [ct])]
    made, remarks = convolution.direct(wanted)
    feed = {x: ordinary("float64", (2, 4, 6, 7)), w: ordinary("float64", (6, 2, 3, 2), 1),
            ct: ordinary("float64", tuple(int(size) for size in y.shape), 2)}
    assert len(remarks) == 3
    z = sg.max_pool2d(x, (3, 2), stride=(2, 1), padding=1)
    slope = sg.grad(sg.sum(z * z), x)
    (placed,), (remark,) = convolution.direct([slope])
    assert remark.rule == "direct-max_pool_place"
    np.testing.assert_allclose(sg.evaluate(placed, feed), sg.evaluate(slope, feed), rtol=1e-12)
    for one, other in zip(sg.evaluate(made, feed), sg.evaluate(wanted, feed)):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize(("sizes", "channels", "kernel"), [((32, 32), 16, (3, 3)), ((7, 7), 2048, (3, 3)),
                                                           ((1, 100_000), 64, (1, 9)), ((1, 1), 1, (1, 1)),
                                                           ((500, 500), 3, (31, 31))])
def test_blocks_fit(sizes: Any, channels: int, kernel: Any) -> None:
    for places in (1 << 30, cpu_conv.PLACES):
        blocks = cpu_conv.choose_blocks("float32", sizes, channels, kernel, (2, 1), (1, 1), places=places)
        assert blocks is not None and 1 <= blocks.channels <= channels and blocks.rows * blocks.columns <= places
        taken = blocks.channels * cpu_conv.footprint(blocks, kernel, (2, 1), (1, 1)) * 4
        assert taken <= cpu_conv.BLOCK_BYTES
        assert blocks.channels * kernel[0] * kernel[1] <= cpu_conv.FACTORS
    assert cpu_conv.choose_blocks("float32", sizes, channels, (33, 33), (1, 1), (1, 1)) is None
