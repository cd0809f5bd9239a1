"""evaluate(): the NumPy meaning of a graph, and the oracle of every test.

Level: tensor graph in, arrays out, op by op exactly as built; nothing is stabilised, fused or reordered. The walk is a
loop, so a chain of 10,000 nodes is fine, and an array is dropped after its last use. Invariants, checked at every node:
sizes that had to agree do agree, and each result has the dtype and shape that were inferred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import location
from .errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, StaticGraphError, VerificationError
from .op import fitting_array, operands_message
from .ops.debug import assert_op, debug_print_op, print_label
from .ops.leaf import placeholder_op
from .printing import emit, printed
from .tensor import Tensor, build, describe_line, toposort
from .types import Dim, Size, evaluate_size, learn_sizes, open_symbol, size_symbols

Array = np.ndarray[Any, Any]

EMPTY = ("zero-size array to reduction operation", "attempt to get argm")
"""How NumPy's complaints about reductions of nothing begin."""


def evaluate(outputs: Any, feed: Mapping[Tensor, Any] | None = None) -> Any:
    """The value of a tensor, or of a list, tuple or dict of tensors, without compiling.

    `feed` gives an array for each placeholder, and may give one for any other tensor, which then is not computed.
    The result has the structure of `outputs`; its arrays belong to the caller.

    >>> sg.evaluate(x * 2, {x: np.arange(3.0)})
    """
    targets = flatten(outputs)
    if feed is not None and not isinstance(feed, Mapping):
        raise ArgumentError(f"evaluate: feed must be a mapping of tensors to arrays, got {feed!r}")
    values: dict[int, Array] = {}
    sizes: dict[str, int] = {}
    for tensor, value in (feed or {}).items():
        if not isinstance(tensor, Tensor):
            raise ArgumentError(f"evaluate: the keys of feed must be tensors, got {tensor!r}")
        values[id(tensor)] = as_fed_array(tensor, value)
    bind_sizes({tensor: values[id(tensor)] for tensor in feed or {}}, sizes)
    try:
        with np.errstate(all="ignore"):
            results = _run(targets, values, sizes)
    except _ConditionFalse as failure:
        from .blame import assertion_error  # which stands above this file

        raise assertion_error(failure.node, failure.index, failure.values) from None
    return unflatten(outputs, [np.array(result) for result in results])


def flatten(outputs: Any) -> list[Tensor]:
    """The tensors of one tensor, a list, a tuple or a dict, in order."""
    items = [outputs] if isinstance(outputs, Tensor) else (
        list(outputs.values()) if isinstance(outputs, Mapping) else
        list(outputs) if isinstance(outputs, list | tuple) else [outputs])
    for item in items:
        if not isinstance(item, Tensor):
            raise ArgumentError(f"outputs must be a tensor or a list, tuple or dict of tensors, got {item!r}")
    return items


def unflatten(outputs: Any, values: Sequence[Any]) -> Any:
    """The values in the structure of `outputs`."""
    if isinstance(outputs, Tensor):
        return values[0]
    if isinstance(outputs, Mapping):
        return dict(zip(outputs, values, strict=True))
    return tuple(values) if isinstance(outputs, tuple) else list(values)


def as_fed_array(tensor: Tensor, value: Any) -> Array:
    """The value as an array of the tensor's dtype and rank; see `fitting_array` for what is accepted."""
    try:
        array = fitting_array(value, tensor.dtype)
    except DTypeError as error:
        raise DTypeError(_fed_message(tensor, str(error))) from None
    if array.ndim != tensor.ndim:
        raise ShapeError(_fed_message(tensor, f"got shape {array.shape}"))
    return array


def _fed_message(tensor: Tensor, problem: str) -> str:
    return f"fed value does not fit: {problem}\n  {describe_line(tensor)}"


def bind_sizes(arrays: Mapping[Tensor, Array], sizes: dict[str, int]) -> None:
    """Learn the symbolic sizes from the arrays of placeholders, and check every size against them.

    Bare symbols are learnt from all arrays first; formulas such as ``batch * 2`` teach what is still open, and are
    checked.
    """
    owners: dict[str, Tensor] = {}
    pairs = [(tensor, axis, size, array.shape[axis]) for tensor, array in arrays.items()
             for axis, size in enumerate(tensor.shape)]
    for tensor, _, size, actual in pairs:
        symbol = _bare_symbol(size)
        if symbol is not None and sizes.setdefault(symbol, actual) == actual:
            owners.setdefault(symbol, tensor)
    learn_sizes([(size, actual) for _, _, size, actual in pairs], sizes)
    for tensor, axis, size, actual in pairs:
        known = size_symbols(size) <= sizes.keys()
        if known and evaluate_size(size, sizes) == actual:
            continue
        if not known and open_symbol(size, sizes) is None:
            continue  # several symbols that nothing tells; needed or not, `_size_of` knows
        operands = [owners[symbol] for symbol in [_bare_symbol(size)] if symbol in owners] + [tensor]
        value = f" = {evaluate_size(size, sizes)}" if isinstance(size, Dim) and known else ""
        raise ShapeError(operands_message(f"size of axis {axis} differs from what was declared", operands,
                                          f"needed {size}{value}, got {actual}"))


def _bare_symbol(size: Size) -> str | None:
    return str(size) if isinstance(size, Dim) and size.is_symbol else None


class _ConditionFalse(Exception):
    """An `assert_that` whose condition is false, first at `index`."""

    def __init__(self, node: Tensor, values: Mapping[int, Array]) -> None:
        super().__init__()
        condition = values[id(node.inputs[1])]
        self.node, self.values = node, values
        self.index = tuple(int(each) for each in np.unravel_index(int(np.argmin(condition)), condition.shape))


def _run(targets: Sequence[Tensor], values: dict[int, Array], sizes: Mapping[str, int]) -> list[Array]:
    """Values of the targets; `values` holds what is known and is filled on the way."""
    order = toposort(targets, stop=lambda node: id(node) in values)
    uses: dict[int, int] = {}
    for node in order:
        for each in node.inputs:
            uses[id(each)] = uses.get(id(each), 0) + 1
    kept = {id(target) for target in targets} | set(values)
    kept |= {id(each) for node in order if node.op is assert_op for each in node.inputs[1].inputs}     # for the message
    for node in order:
        if id(node) in values:
            continue
        values[id(node)] = node_value(node, values, sizes)
        if node.op is debug_print_op:
            emit(printed(print_label(node), str(node.location), values[id(node)], node.attrs["edgeitems"]), None)
        elif node.op is assert_op and not values[id(node.inputs[1])].all():
            raise _ConditionFalse(node, values)
        for each in node.inputs:
            uses[id(each)] -= 1
            if not uses[id(each)] and id(each) not in kept:
                values.pop(id(each), None)
    return [values[id(target)] for target in targets]


def node_value(node: Tensor, values: Mapping[int, Array], sizes: Mapping[str, int], typed: bool = True) -> Array:
    """The value of a node whose operands' are known; `typed`: it is of the dtype and shape that were inferred."""
    if node.op.name == "placeholder":
        raise ArgumentError(f"evaluate: no value was fed for\n  {describe_line(node)}")
    if node._state is not None:
        return node._state.read()
    check_guards(node, sizes)
    if node.op.ref is None:
        # Expanded on inputs that have no history: construction looks through some ops, such as a reshape of a reshape,
        # and would come out above the values that are known.
        inputs = [build(placeholder_op, (), {"shape": each.shape, "dtype": each.dtype}) for each in node.inputs]
        known = {id(new): values[id(each)] for new, each in zip(inputs, node.inputs)}
        result = _expansion_value(node, inputs, known, sizes)
    else:
        result = _call_ref(node, [values[id(each)] for each in node.inputs], sizes)
    shape = tuple(_size_of(node, size, sizes) for size in node.shape)
    if not typed:
        return result
    if result.dtype != node.dtype or result.shape != shape:
        raise VerificationError(f"op '{node.op.name}': its NumPy meaning gave {result.dtype}{list(result.shape)}, but "
                                f"{node.dtype}{list(shape)} was inferred\n  {describe_line(node)}")
    return result


def _expansion_value(node: Tensor, inputs: Sequence[Tensor], known: dict[int, Array],
                     sizes: Mapping[str, int]) -> Array:
    """The value of a composite by its expansion; errors speak of the composite and its operands."""
    assert node.op.expand is not None  # composites have one of the two
    with location.using(node.locations):
        expansion = node.op.expand(*inputs, **node.attrs)
    try:
        return _run([expansion], known, sizes)[0]
    except StaticGraphError as error:
        what = str(error).split("\n", 1)[0].partition(": ")[2]
        raise type(error)(operands_message(f"{node.op.name}: {what}", [*node.inputs, node])) from error


def _call_ref(node: Tensor, arrays: Sequence[Array], sizes: Mapping[str, int]) -> Array:
    attrs = {name: _resolve(node, value, sizes) for name, value in node.attrs.items()}
    assert node.op.ref is not None
    try:
        return np.asarray(node.op.ref(*arrays, **attrs))
    except StaticGraphError as error:
        raise type(error)(operands_message(str(error), [*node.inputs, node])) from None
    except IndexError as error:
        raise OutOfRangeError(operands_message(f"{node.op.name}: {error}", [*node.inputs, node])) from error
    except ValueError as error:
        nothing = f"an axis of the operand is empty, so there is no {node.op.name}"
        what = nothing if str(error).startswith(EMPTY) else str(error)
        raise ShapeError(operands_message(f"{node.op.name}: {what}", [*node.inputs, node])) from error


def _resolve(node: Tensor, value: Any, sizes: Mapping[str, int]) -> Any:
    """An attribute with its symbolic sizes replaced by ints."""
    if isinstance(value, Dim):
        return _size_of(node, value, sizes)
    if isinstance(value, tuple):
        return tuple(_resolve(node, item, sizes) for item in value)
    return value


def _size_of(node: Tensor, size: Size, sizes: Mapping[str, int]) -> int:
    try:
        return evaluate_size(size, sizes)
    except KeyError as missing:
        raise ArgumentError(f"evaluate: the size {missing} is not known; feed a placeholder that has it\n"
                            f"  {describe_line(node)}") from None


def check_guards(node: Tensor, sizes: Mapping[str, int]) -> None:
    """ShapeError when sizes that had to agree at the call do not; it shows operands and node with their lines."""
    for a, b, what in node.guards:
        left, right = _size_of(node, a, sizes), _size_of(node, b, sizes)
        if left != right:
            told = what.replace("{left}", str(left))
            notes = [f"needed {a} == {b}, got {left} and {right}"] if told == what else []
            raise ShapeError(operands_message(f"{node.op.name}: {told}", [*node.inputs, node], *notes))


