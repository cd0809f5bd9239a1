"""Convolutions against loops in NumPy: every spelling of padding, strides, dilation, groups; errors; higher orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.op import registry
from staticgraph.ops.windows import fold, windows
from staticgraph.tensor import toposort

from .cases import check_vjp

Array = np.ndarray[Any, Any]


def loops(x: Array, w: Array, stride: Any = (1, 1), padding: Any = ((0, 0), (0, 0)), dilation: Any = (1, 1),
          groups: int = 1) -> Array:
    """The definition, one window after the other."""
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    rows, columns = ((length - (size - 1) * spacing - 1) // step + 1 for length, size, spacing, step
                     in zip(x.shape[2:], w.shape[2:], dilation, stride))
    y = np.zeros((x.shape[0], w.shape[0], rows, columns), x.dtype)
    inputs, outputs = w.shape[1], w.shape[0] // groups
    for o, i, j in np.ndindex(w.shape[0], rows, columns):
        first = o // outputs * inputs
        window = x[:, first:first + inputs, i * stride[0]:, j * stride[1]:][:, :, ::dilation[0], ::dilation[1]]
        y[:, o, i, j] = np.sum(window[:, :, :w.shape[2], :w.shape[3]] * w[o], axis=(1, 2, 3))
    return y


def whole(*shape: int, seed: int = 0) -> Array:
    """Small integers: sums of products of them are exact in any order."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype("float64")


# Sizes of x and w; what the user writes; what that means in full.
CASES: list[tuple[Any, Any, dict[str, Any], dict[str, Any]]] = [
    ((2, 3, 5, 6), (4, 3, 3, 2), {}, {}),
    ((2, 3, 5, 6), (4, 3, 3, 2), {"padding": 1}, {"padding": ((1, 1), (1, 1))}),
    ((1, 2, 7, 8), (3, 2, 3, 3), {"stride": 2, "padding": (1, 0)}, {"stride": (2, 2), "padding": ((1, 1), (0, 0))}),
    ((2, 4, 6, 9), (6, 2, 2, 3), {"stride": (1, 3), "padding": ((0, 2), (1, 0)), "groups": 2},
     {"stride": (1, 3), "padding": ((0, 2), (1, 0)), "groups": 2}),
    ((1, 3, 8, 7), (3, 1, 3, 2), {"dilation": (2, 3), "groups": 3}, {"dilation": (2, 3), "groups": 3}),
    ((3, 2, 4, 4), (5, 2, 1, 1), {}, {}),
    ((1, 2, 5, 4), (2, 2, 1, 1), {"stride": (2, 3)}, {"stride": (2, 3)}),
    ((1, 1, 5, 6), (2, 1, 4, 3), {"padding": "same"}, {"padding": ((1, 2), (1, 1))}),
    ((1, 1, 7, 6), (2, 1, 3, 3), {"padding": "same", "stride": (2, 3)},
     {"padding": ((1, 1), (0, 0)), "stride": (2, 3)}),
    ((1, 1, 3, 3), (1, 1, 5, 5), {"padding": "same"}, {"padding": ((2, 2), (2, 2))}),
    ((2, 1, 3, 3), (1, 1, 3, 3), {"padding": "valid"}, {}),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "given", "meant"), CASES)
def test_conv2d_is_its_definition(x_shape: Any, w_shape: Any, given: Any, meant: Any) -> None:
    x_value, w_value, bias = whole(*x_shape), whole(*w_shape, seed=1), whole(w_shape[0], seed=2)
    expected = loops(x_value, w_value, **meant) + bias[:, None, None]
    for sizes in (x_shape, ("n", x_shape[1], "h", "w")):
        x = sg.placeholder("x", sizes, "float64")
        y = sg.conv2d(x, w_value, bias, **given)
        np.testing.assert_array_equal(sg.evaluate(y, {x: x_value}), expected, strict=True)
    assert sg.conv2d(x_value, w_value, bias, **given).shape == expected.shape


def test_no_images_and_integers() -> None:
    x = sg.placeholder("x", ("n", 2, 4, 4), "int32")
    y = sg.conv2d(x, np.ones((3, 2, 2, 2), np.int32))
    assert sg.evaluate(y, {x: np.zeros((0, 2, 4, 4), np.int32)}).shape == (0, 3, 3, 3)
    values = whole(1, 2, 4, 4).astype(np.int32)
    np.testing.assert_array_equal(sg.evaluate(y, {x: values}), loops(values, np.ones((3, 2, 2, 2), np.int32)),
                                  strict=True)


@pytest.mark.parametrize("given", [{}, {"padding": 2, "stride": 2}, {"padding": (0, 3), "dilation": 2},
                                   {"padding": "same"}])
def test_conv1d_is_conv2d_of_one_row(given: dict[str, Any]) -> None:
    x, w = whole(2, 3, 9), whole(4, 3, 3, seed=1)
    rows = {name: (1, value) for name, value in given.items() if name in ("stride", "dilation")}
    padding = given.get("padding", 0)
    rows["padding"] = padding if isinstance(padding, str) else ((0, 0), padding if isinstance(padding, tuple) else
                                                               (padding, padding))
    expected = sg.evaluate(sg.conv2d(x[:, :, None], w[:, :, None], **rows))[:, :, 0]
    np.testing.assert_array_equal(sg.evaluate(sg.conv1d(x, w, **given)), expected)


def test_derivatives_of_any_order_are_convolutions() -> None:
    x, w = sg.placeholder("x", (1, 2, 5, 5), "float64"), sg.placeholder("w", (2, 2, 3, 3), "float64")
    y = sg.sum(sg.conv2d(x, w, stride=2, padding=1) ** 3)
    slopes = sg.grad(y, [x, w])
    again = sg.grad(sg.sum(slopes[0] ** 2) + sg.sum(slopes[1] ** 2), [x, w])
    feed = {x: whole(1, 2, 5, 5) / 4, w: whole(2, 2, 3, 3, seed=1) / 4}
    sg.verify_grad(y, [x, w], feed)
    sg.verify_grad(sg.sum(slopes[0] ** 2) + sg.sum(slopes[1] ** 2), [x, w], feed)
    names = {node.op.name for node in toposort(again)}
    assert {"conv", "conv_input_gradient", "conv_weight_gradient"} <= names and not names & {"fold", "windows"}


def test_errors_name_shapes_and_lines() -> None:
    x = sg.placeholder("x", ("n", 3, 8, 8))
    with pytest.raises(sg.ShapeError, match=r"(?s)conv2d: the numbers of channels differ\n.*'x'.*test_convolution.py.*"
                                            r"needed x.shape\[1\] == weight.shape\[1\] \* groups, got 3 and 4 \* 1"):
        sg.conv2d(x, np.zeros((2, 4, 3, 3), "float32"))
    with pytest.raises(sg.ShapeError, match="needs 4 dimensions"):
        sg.conv2d(x[0], np.zeros((2, 3, 3, 3), "float32"))
    with pytest.raises(sg.ShapeError, match="3 outputs do not fall into 2 groups"):
        sg.conv2d(sg.placeholder("x", (1, 4, 5, 5)), np.zeros((3, 2, 1, 1), "float32"), groups=2)
    with pytest.raises(sg.ShapeError, match=r"(?s)the axis of rows is shorter than a window.*least 9 elements, got 8"):
        sg.conv2d(x, np.zeros((2, 3, 5, 1), "float32"), dilation=2)
    with pytest.raises(sg.ShapeError, match="the bias needs one number for each output"):
        sg.conv2d(x, np.zeros((2, 3, 1, 1), "float32"), np.zeros(3, "float32"))
    for given in ({"stride": 0}, {"stride": (1, 2, 3)}, {"dilation": 1.5}, {"groups": 0}, {"padding": "full"},
                  {"padding": (1, 2, 3)}):
        with pytest.raises(sg.StaticGraphError, match="conv2d: "):
            sg.conv2d(x, np.zeros((2, 3, 1, 1), "float32"), **given)
    with pytest.raises(sg.ShapeError, match="negative"):
        sg.conv2d(x, np.zeros((2, 3, 1, 1), "float32"), padding=-1)
    with pytest.raises(sg.ShapeError, match="known sizes"):
        sg.conv2d(x, sg.placeholder("w", (2, 3, "k", 1)))


def test_images_that_turn_out_too_small_are_an_error() -> None:
    x = sg.placeholder("x", (1, 1, "h", "w"))
    y = sg.conv2d(x, np.zeros((1, 1, 3, 3), "float32"))
    for run in (lambda value: sg.evaluate(y, {x: value}), sg.compile([x], y)):
        with pytest.raises(sg.ShapeError, match=r"(?s)of size w, is 1 shorter than a window of 3\n(?!.* and 0)"):
            run(np.zeros((1, 1, 4, 2), np.float32))


def test_outputs_that_turn_out_not_to_fall_into_groups_are_an_error() -> None:
    x, w = sg.placeholder("x", (1, 4, 3, 3)), sg.placeholder("w", ("o", 2, 2, 2))
    y = sg.nn.conv2d(x, w, groups=2)
    step, image = sg.compile([x, w], y), np.ones((1, 4, 3, 3), "float32")
    assert step(image, np.ones((4, 2, 2, 2), "float32")).shape == (1, 4, 2, 2)
    for call in (step, lambda *feed: sg.evaluate(y, dict(zip((x, w), feed, strict=True)))):
        with pytest.raises(sg.ShapeError, match="the outputs do not fall into 2 groups"):
            call(image, np.ones((3, 2, 2, 2), "float32"))


# Windows and their adjoint.


def test_windows_without_overlap_are_reshapes() -> None:
    x = sg.placeholder("x", (2, 6), "float64")
    assert windows(x, 1, 3, 3).op.name == "reshape" and windows(x, 1, 1, 1).op.name == "reshape"
    assert fold(windows(x, 1, 3, 3), 1, 6, 3) is x
    assert sg.evaluate(fold(windows(x, 1, 2, 4), 1, 6, 4), {x: whole(2, 6)}).shape == (2, 6)


@pytest.mark.parametrize(("attrs", "static"), [(attrs, static) for _, attrs in registry["windows"].examples
                                               for static in (True, False)])
def test_fold_is_the_adjoint_of_windows(attrs: Any, static: bool) -> None:
    shape = [5, 7, 3][:attrs["axis"] + 2]
    check_vjp(registry["windows"], (whole(*shape),), attrs, static)
