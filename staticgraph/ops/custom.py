"""Ops of the user's own: an elementwise primitive from a formula, or a subgraph with a gradient of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import op as op_
from ..errors import ArgumentError, message
from ..op import Infer, Inference, Op, as_tensor, elementwise
from ..tensor import Tensor, build, operand_row, toposort
from ..types import TensorType
from .leaf import placeholder_op

__all__ = ["custom_gradient", "primitive"]

_declared: dict[str, Op] = {}  # by users; the library's own names stay taken

Rule = Callable[..., Sequence[Tensor | None]]


def primitive(name: str, *, ref: Callable[..., Any], scalar: str | None = None, vjp: Rule | None = None,
              doc: str = "", infer: Infer = elementwise, operands: str = "promote", kind: str = "elementwise",
              examples: tuple[Any, ...] = ()) -> Op:
    """Declare an op: its meaning in NumPy, its kernel formula, and its gradient. Calling the result builds a node.

    >>> cube = sg.primitive("cube", ref=lambda x: x * x * x, scalar="{0} * {0} * {0}",
    ...                     vjp=lambda ct, y, x: (ct * 3 * x * x,))
    >>> y = cube(x)

    `vjp(ct, y, *inputs)` gives one cotangent an input, or None where there is none. Without `scalar` the op can be
    evaluated but not compiled. Declaring a name again replaces the op for what is built from then on.
    """
    if _declared.get(name) is op_.registry.get(name):
        op_.registry.pop(name, None)
    _declared[name] = op_.primitive(name, doc=doc or f"The op '{name}'.", infer=infer, ref=ref, kind=kind, vjp=vjp,
                                    scalar=scalar, operands=operands, examples=examples)
    return _declared[name]


def is_declared(op: Op) -> bool:
    """Whether an op is a user's own."""
    return _declared.get(op.name) is op


def custom_gradient(fn: Callable[..., Tensor], vjp: Rule) -> Callable[..., Tensor]:
    """The function `fn` of tensors, with `vjp` as its gradient instead of the one that would be derived.

    >>> clipped = sg.custom_gradient(lambda x: x, lambda ct, y, x: (sg.clip(ct, -1, 1),))

    `vjp(ct, y, *inputs)` gives one cotangent an input. fn must be a function of its arguments alone: a placeholder or
    variable that it uses without being given it is an ArgumentError, since the rule could have no gradient for it.
    """
    if not callable(fn) or not callable(vjp):
        raise ArgumentError(f"custom_gradient: needs a function and its gradient rule, got {fn!r} and {vjp!r}")
    name = getattr(fn, "__name__", "function")

    def infer(context: Inference, *types: TensorType) -> TensorType:
        return _trace(name, fn, context.inputs)

    op = Op(f"custom_gradient({name})", "composite", fn.__doc__ or f"{name} with a gradient of its own.", infer,
            vjp=vjp, expand=fn)
    return lambda *args: op(*[as_tensor(arg) for arg in args])


def _trace(name: str, fn: Callable[..., Tensor], inputs: Sequence[Tensor]) -> TensorType:
    """The type of fn's result on such inputs, after a look at what it uses."""
    stand_ins = [build(placeholder_op, (), {"shape": each.shape, "dtype": each.dtype}) for each in inputs]
    result = fn(*stand_ins)
    if not isinstance(result, Tensor):
        raise ArgumentError(f"custom_gradient: {name} must return one tensor, got {result!r}")
    known = {id(each) for each in stand_ins}
    captured = [node for node in toposort([result]) if not node.op.interned and id(node) not in known]
    if captured:
        raise ArgumentError(message(f"custom_gradient: {name} uses tensors that are not among its arguments",
                                    [operand_row(chr(97 + number % 26), node) for number, node in enumerate(captured)],
                                    "pass them as arguments, so that the gradient rule can answer for them"))
    return result.type
