"""Looking at values while a graph runs: printing them, and asserting what should hold.

Both are the identity on their first operand, so they stand in a graph wherever a value does. Neither changes what is
computed: the compiler takes them out before any formula is looked at (see `watching`), so no rewrite is lost to them,
and computes beside the results what is to be printed or must hold.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError
from ..op import Inference, as_tensor, composite, operands_message
from ..tensor import Tensor
from ..types import TensorType

__all__ = ["assert_that", "debug_print"]


def _same_type(context: Inference, x: TensorType, *others: TensorType, **attrs: Any) -> TensorType:
    return x


def _print_vjp(ct: Tensor, y: Tensor, x: Tensor, **attrs: Any) -> tuple[Tensor]:
    if not attrs["grad"]:
        return (ct,)
    label = f"gradient of {attrs['message'] or x.name or x.op.name}"
    return (debug_print_op(ct, **{**attrs, "message": label}),)


_EXAMPLE = np.array([[0.5, -1.5, 2.0]])

debug_print_op = composite(
    "debug_print", doc="The value, which is printed when the graph runs.", infer=_same_type,
    ref=lambda x, **attrs: x, expand=lambda x, **attrs: x, vjp=_print_vjp,
    examples=(((_EXAMPLE,), {"message": "x", "every": 1, "edgeitems": 3, "grad": False}),))

assert_op = composite(
    "assert_that", doc="The value, while a condition holds.", infer=_same_type,
    ref=lambda x, condition, message: x, expand=lambda x, condition, message: x,
    vjp=lambda ct, y, x, condition, message: (ct, None),
    examples=(((_EXAMPLE, np.array([[True]])), {"message": "it holds"}),))


def debug_print(x: Any, message: str = "", every: int = 1, edgeitems: int = 3, grad: bool = False) -> Tensor:
    """x itself; each run of the graph prints its value, with type, `message` (or its name) and your line.

    >>> hidden = sg.debug_print(sg.nn.relu(x @ w), "hidden", every=100)

    Printed is what the graph needs, once a call, in the order of the graph, when the call is done: on standard output,
    or where the compile option "print_to" says (a file or a function of the text). `every=n` prints the first call of
    each n; `edgeitems` is how many items stand at each end of a long axis; `grad=True` prints the cotangent of x too
    where a gradient goes through here. Values are those of the compiled program, which prints change in nothing.
    """
    tensor = as_tensor(x)
    for name, number in (("every", every), ("edgeitems", edgeitems)):
        if _count(number) < 1:
            what = f"debug_print: {name} is a number from 1 on, got {number!r}"
            raise ArgumentError(operands_message(what, [tensor]))
    return debug_print_op(tensor, message=_text("debug_print", message, tensor), every=_count(every),
                          edgeitems=_count(edgeitems), grad=bool(grad))


def assert_that(x: Any, condition: Any, message: str = "") -> Tensor:
    """x itself, as long as every element of the bool tensor `condition` is true; `AssertionFailed` otherwise.

    >>> rate = sg.assert_that(rate, rate > 0, "rates are positive")

    The condition may have any shape. It is checked in the kernels that compute it; the error names the first element
    that is false, your line, and what the condition was made of there. A call that fails changes no variable. Whatever
    is computed from the result is asserted; a gradient is, if it needs the value.
    """
    tensor, held = as_tensor(x), as_tensor(condition)
    if held.dtype.kind != "b":
        raise DTypeError(operands_message("assert_that: the condition is no bool tensor", [tensor, held],
                                          f"needed a comparison, such as x > 0, got {held.dtype}"))
    return assert_op(tensor, held, message=_text("assert_that", message, tensor))


def print_label(node: Tensor) -> str:
    """What a print calls its value."""
    return str(node.attrs["message"]) or node.inputs[0].name or node.inputs[0].op.name


def _text(function: str, message: Any, tensor: Tensor) -> str:
    if not isinstance(message, str):
        raise ArgumentError(operands_message(f"{function}: the message is a text, got {message!r}", [tensor]))
    return message


def _count(value: Any) -> int:
    try:
        return -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return -1
