"""Bad input: the exact text of what a user sees, wherever the mistake is found, and that nothing has changed then.

In the expected texts L stands for a line of this file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import staticgraph as sg

X, T = np.zeros((3, 4), "float32"), np.zeros(3, "int64")


def text_of(action: Callable[[], Any], error: type[Exception]) -> str:
    """What the action says when it fails; it must be exactly this error, and a StaticGraphError."""
    with pytest.raises(error) as caught:
        action()
    assert type(caught.value) is error and isinstance(caught.value, sg.StaticGraphError)
    return re.sub(r"test_errors\.py:\d+", "L", str(caught.value))


def step() -> sg.Executable:
    x, t = sg.placeholder("x", ("batch", 4)), sg.placeholder("t", ("batch",), "int64")
    return sg.compile([x, t], sg.sum(x, 1) + t)


CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "wrong rank": ((X[0], T), {}, sg.ShapeError, """input 'x': rank is 1, expected 2
  x: float32[batch, 4]   L
  got float32[4]"""),
    "wrong dimension": ((X[:, :2], T), {}, sg.ShapeError, """input 'x': dimension 1 is 2, expected 4
  x: float32[batch, 4]   L
  got float32[3, 2]"""),
    "wrong dtype": ((X.astype("float64"), T), {}, sg.DTypeError,
                    """input 'x' is float64, which float32 cannot hold without loss
  x: float32[batch, 4]   L
  got float64[3, 4]
  where the loss is meant, convert it first: .astype('float32')"""),
    "floats for integers": ((X, [0.5, 1, 2]), {}, sg.DTypeError,
                            """input 't' holds a Python float, which int64 cannot hold without loss
  t: int64[batch]   L
  got [0.5, 1, 2]"""),
    "two sizes for one dimension": ((X, np.zeros(5, "int64")), {}, sg.ShapeError,
                                    """dimension 'batch' is 3 in input 'x' and 5 in input 't'
  x: float32[batch, 4]   L
  t: int64[batch]        L
  got float32[3, 4] and int64[5]"""),
    "missing": ((X,), {}, sg.ArgumentError, """missing input 't'; inputs are (x, t)
  t: int64[batch]   L"""),
    "unknown": ((X,), {"t": T, "z": 1}, sg.ArgumentError, "unknown input 'z'; inputs are (x, t)"),
    "twice": ((X, T), {"x": X}, sg.ArgumentError,
              "input 'x' is given twice, by position and by name; inputs are (x, t)"),
    "too many": ((X, T, T), {}, sg.ArgumentError, "got 3 inputs by position; inputs are (x, t)"),
    "text": (("abc", T), {}, sg.DTypeError, """input 'x' cannot be made from a str
  x: float32[batch, 4]   L
  got 'abc'
  needed a real number, a list of them, or an array"""),
    "nothing": ((None, T), {}, sg.DTypeError, """input 'x' cannot be made from None
  x: float32[batch, 4]   L
  got None
  needed a real number, a list of them, or an array"""),
    "complex numbers": ((X, T.astype("complex64")), {}, sg.DTypeError, """input 't' is complex64, not real numbers
  t: int64[batch]   L
  got complex64[3]"""),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    args, kwargs, error, expected = CALLS[name]
    compiled = step()
    assert text_of(lambda: compiled(*args, **kwargs), error) == expected
    np.testing.assert_array_equal(compiled(X, T), np.zeros(3))     # and it still works


def test_guards_speak_of_the_line_that_made_them() -> None:
    a, b = sg.placeholder("a", ("n",)), sg.placeholder("b", ("m",))
    compiled = sg.compile([a, b], sg.exp(a + b))
    assert text_of(lambda: compiled(X[0], X[:, 0]), sg.ShapeError) == """add: sizes of the operands differ: n and m
  a: float32[n]   'a'   L
  b: float32[m]   'b'   L
  made at L
  got 4 and 3"""


# compile().

def inputs() -> tuple[sg.Tensor, sg.Tensor, sg.Tensor]:
    return (sg.placeholder("x", ("batch", 4)), sg.placeholder("t", ("batch",), "int64"),
            sg.variable(np.zeros((4, 2), "float32"), "w"))


def test_a_placeholder_that_is_no_input() -> None:
    x, t, _ = inputs()
    assert text_of(lambda: sg.compile([x], sg.sum(x, 1) + t), sg.ArgumentError) == \
        """compile: placeholder 't' is needed but is not among the inputs
  int64[batch]   't'    L"""


def test_two_inputs_of_one_name() -> None:
    x, _, _ = inputs()
    expected = """compile: two inputs are called 'x'
  first:  float32[batch, 4]   'x'   L
  second: float32[2]          'x'   L"""
    assert text_of(lambda: sg.compile([x, sg.placeholder("x", (2,))], x), sg.ArgumentError) == expected
    with pytest.raises(sg.ArgumentError, match="two inputs are called 'x'"):
        sg.compile([x, x], x)


@pytest.mark.parametrize(("bad", "expected"), [
    (lambda x, w: [x + 1], "compile: inputs must be placeholders, got\n  float32[batch, 4]   add    L"),
    (lambda x, w: [w], "compile: inputs must be placeholders, got\n  float32[4, 2]   'w'    L"),
    (lambda x, w: ["x"], "compile: inputs must be placeholders, got\n  str"),
    (lambda x, w: 3, "compile: inputs are a list of placeholders, got int"),
], ids=["tensor", "variable", "text", "number"])
def test_inputs_that_are_none(bad: Callable[..., Any], expected: str) -> None:
    x, _, w = inputs()
    assert text_of(lambda: sg.compile(bad(x, w), x), sg.ArgumentError) == expected


@pytest.mark.parametrize("bad", ["y", [None], (3.0,), {"a": "y"}], ids=str)
def test_outputs_that_are_none(bad: Any) -> None:
    x, _, _ = inputs()
    assert text_of(lambda: sg.compile([x], bad), sg.ArgumentError).startswith("compile: outputs must be tensors, got ")


UPDATES: dict[str, tuple[Callable[..., Any], type[Exception], str]] = {
    "twice": (lambda x, t, w: [(w, w), (w, w * 2)], sg.ArgumentError, """compile: variable 'w' is updated twice
  float32[4, 2]   'w'    L"""),
    "shape": (lambda x, t, w: {w: w[:1]}, sg.ShapeError, """compile: the update of variable 'w' has another shape
  variable: float32[4, 2]   'w'   L
  update:   float32[1, 2]         L"""),
    "rank": (lambda x, t, w: {w: sg.sum(w)}, sg.ShapeError, """compile: the update of variable 'w' has another shape
  variable: float32[4, 2]   'w'   L
  update:   float32[]             L"""),
    "symbolic shape": (lambda x, t, w: {w: x[:, :2]}, sg.ShapeError,
                       """compile: the update of variable 'w' has another shape
  variable: float32[4, 2]       'w'   L
  update:   float32[batch, 2]         L"""),
    "dtype": (lambda x, t, w: {w: sg.astype(w, "float64")}, sg.DTypeError,
              """compile: the update of variable 'w' has another dtype
  variable: float32[4, 2]   'w'   L
  update:   float64[4, 2]         L
  use sg.astype(update, "float32")"""),
    "array": (lambda x, t, w: {w: np.zeros((4, 2))}, sg.DTypeError,
              """compile: the update of variable 'w' has another dtype
  variable: float32[4, 2]   'w'   L
  update:   float64[4, 2]         L
  use sg.astype(update, "float32")"""),
    "no variable": (lambda x, t, w: {x: x}, sg.ArgumentError, """compile: only variables can be updated, got
  float32[batch, 4]   'x'    L"""),
    "no number": (lambda x, t, w: {w: "a"}, sg.DTypeError, "str 'a' is not a number or an array of numbers"),
    "no pairs": (lambda x, t, w: [w], sg.ArgumentError,
                 "compile: updates are a mapping or a list of (variable, new value) pairs"),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates(name: str) -> None:
    build, error, expected = UPDATES[name]
    x, t, w = inputs()
    assert text_of(lambda: sg.compile([x, t], [], updates=build(x, t, w)), error) == expected


def test_devices_and_options() -> None:
    x, _, _ = inputs()
    assert text_of(lambda: sg.compile([x], x, device="tpu"), sg.DeviceError) == \
        "compile: there is no device 'tpu'; devices are 'cpu', 'cuda' and 'cuda:1' and so on"
    assert text_of(lambda: sg.compile([x], x, options={"fast": True}), sg.ArgumentError) == \
        "compile: there is no option 'fast'; options are check, memory_budget, print_to, results, sizes, stabilise, " \
        "tf32, threads"


# While the graph is built.

@pytest.mark.parametrize("use", [bool, lambda x: 1 if x else 2, lambda x: x and 3, lambda x: not x, lambda x: any([x])])
def test_a_tensor_is_no_bool(use: Callable[[sg.Tensor], Any]) -> None:
    x, _, _ = inputs()
    assert text_of(lambda: use(x > 0), sg.ArgumentError) == """a tensor has no truth value while the graph is built
  bool[batch, 4]   greater    L
  use sg.where for a choice between tensors, `is` to compare identities"""


@pytest.mark.parametrize(("value", "expected"), [
    ("a", "str 'a'"), (None, "NoneType None"), ({}, "dict {}"), (1j, "complex 1j"), ([1, "b"], "list [1, 'b']"),
    (object, "type <class 'object'>"), (np.array(["a"]), "an array of <U1"),
    (np.array([None]), "an array of object"), (np.zeros(2, "datetime64[s]"), "an array of datetime64[s]")], ids=repr)
def test_what_is_no_number_or_array(value: Any, expected: str) -> None:
    x, _, _ = inputs()
    for action in (lambda: x + value, lambda: sg.maximum(value, x), lambda: sg.constant(value), lambda: sg.sum(value),
                   lambda: sg.variable(value)):
        assert text_of(action, sg.DTypeError) == f"{expected} is not a number or an array of numbers"


def test_an_unconnected_gradient() -> None:
    x, t, w = inputs()
    assert text_of(lambda: sg.grad(sg.sum(x), w), sg.GradientError) == """grad: y does not depend on this tensor
  wrt: float32[4, 2]   'w'   L
  y:   float32[]             L
  pass unconnected="zero" for zeros"""
    assert text_of(lambda: sg.grad(x, x), sg.GradientError) == """grad: y is not a scalar
  y: float32[batch, 4]   'x'   L
  needed shape (), got (batch, 4): reduce y to a scalar (sg.sum, sg.mean) or pass cotangent="""
    assert text_of(lambda: sg.grad(sg.sum(x), t), sg.DTypeError) == \
        """grad: no derivative with respect to a tensor of int64
  wrt: int64[batch]   't'   L
  needed a floating-point dtype; pass unconnected="zero" for zeros"""
    zeros = sg.compile([x], sg.grad(sg.sum(x), w, unconnected="zero"))(X)
    np.testing.assert_array_equal(zeros, np.zeros((4, 2)))


def test_shapes_that_do_not_fit() -> None:
    x, _, w = inputs()
    assert text_of(lambda: x @ w.T, sg.ShapeError).startswith("matmul: inner dimensions differ\n")
    assert text_of(lambda: x + w, sg.ShapeError) == """add: shapes do not broadcast
  a: float32[batch, 4]   'x'   L
  b: float32[4, 2]       'w'   L
  sizes of axis -1 are 4 and 2"""


# At the call, inside of kernels.

def test_an_index_out_of_range_leaves_variables_as_they_were() -> None:
    """The line is the user's even where the kernel is fused from many, and nothing has been written."""
    at = sg.placeholder("at", ("n",), "int64")
    table, count = sg.variable(np.arange(4.0), "table"), sg.variable(np.int64(0), "count")
    rows = sg.exp(sg.take(table, at, 0)) * 2
    compiled = sg.compile([at], rows, updates={count: count + 1, table: table + sg.sum(rows)})
    compiled([0, -4, 3])
    before = table.value
    for bad, shown in (([0, 4], 4), ([-5], -5), ([9, 10], 9)):
        assert text_of(lambda bad=bad: compiled(bad), sg.OutOfRangeError) == \
            f"take: index {shown} is out of range for axis 0 of size 4\n  int64[n]   L"
        np.testing.assert_array_equal(table.value, before)
        assert int(count.value) == 1
    compiled([1])
    assert int(count.value) == 2


def test_an_index_out_of_a_symbolic_size() -> None:
    x, at = sg.placeholder("x", ("n", 3)), sg.placeholder("at", (), "int8")
    compiled = sg.compile([x, at], sg.take(x, at, 0))
    np.testing.assert_array_equal(compiled(X[:, :3], np.int8(-3)), np.zeros(3))
    assert text_of(lambda: compiled(X[:2, :3], np.int8(2)), sg.OutOfRangeError) == \
        "take: index 2 is out of range for axis 0 of size 2\n  int8[]   L"


@pytest.mark.parametrize("label", [4, -5])
def test_a_label_out_of_range(label: int) -> None:
    """Also where picking by position has been fused away, and where only the gradient is wanted."""
    x, t, w = inputs()
    losses = [sg.nn.cross_entropy(x, t), -sg.take_along_axis(sg.nn.log_softmax(x), t[:, None], 1)]
    for loss in losses:
        for wanted in (loss, sg.grad(sg.sum(loss), x)):
            compiled = sg.compile([x, t], wanted, updates={w: w + 1})
            labels = np.array([0, -4, label])
            texts = [text_of(partial(compiled, X, labels), sg.OutOfRangeError),
                     text_of(partial(sg.evaluate, wanted, {x: X, t: labels}), sg.OutOfRangeError)]
            assert all(f"index {label} is out of range" in text for text in texts)
            np.testing.assert_array_equal(w.value, np.zeros((4, 2)))


def test_setting_a_variable() -> None:
    w = sg.variable(np.zeros((4, 2), "float32"), "w")
    shape = text_of(lambda: setattr(w, "value", np.zeros((2, 4), "float32")), sg.ShapeError)
    dtype = text_of(lambda: setattr(w, "value", np.zeros((4, 2))), sg.DTypeError)
    assert "got shape (2, 4)" in shape and "float64" in dtype
    for text in (shape, dtype):
        assert "float32[4, 2]" in text and "'w'" in text
    np.testing.assert_array_equal(w.value, np.zeros((4, 2)))
