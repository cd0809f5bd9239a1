"""save_graph(): a graph as JSON, one node a line, inputs before what needs them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import ArgumentError, FileFormatError, message
from ..files import PathLike, check_path, is_text, replacing
from ..interpreter import flatten
from ..location import Location
from ..op import registry
from ..ops.custom import is_declared
from ..tensor import Tensor, describe_line, operand_row, toposort
from .bounds import Bounds
from .forms import ELEMENTWISE, OPS, write_array
from .sizes import SizeWriter, TooLarge, check_shape

FORMAT = "staticgraph.graph"
VERSION = 1
OF_THE_PROCESS = ("results", "threads", "print_to")
"""Options of `compile` that no file holds."""


def save_graph(path: PathLike, outputs: Any, inputs: Iterable[Tensor] | None = None, updates: Any = None) -> None:
    """Write a graph into a JSON file, for `load_graph` and for the command line.

    >>> sg.save_graph("step.json", loss, updates=optimizer.updates(loss, model.parameters()))
    >>> sg.save_graph("step.json", step)      # what sg.compile returned

    outputs: a tensor, a list, tuple or dict of tensors, or an executable, which has inputs and updates of its own.
    inputs: placeholders, as for `compile`; without them all that the graph needs, in order of first use. updates:
    {variable: new value} or pairs. Values of variables and of constants are part of the file, names, scopes and the
    user's lines (without folders) too.

    Raises ArgumentError for what a file cannot hold: ops of `custom_gradient`, which are Python code. Ops that were
    declared by `sg.primitive` go by their names: whoever loads the file has to declare them first.
    """
    check_path(path, "save_graph", "save_graph(path, outputs)")
    options: Mapping[str, Any] = {}
    given = getattr(outputs, "definition", outputs)
    if given is None:
        raise ArgumentError("save_graph: this executable's graph is not known: it was not made by sg.compile")
    if all(hasattr(given, each) for each in ("inputs", "outputs", "updates")):
        if inputs is not None or updates is not None:
            raise ArgumentError("save_graph: an executable has inputs and updates of its own")
        outputs, inputs, updates = given.outputs, given.inputs, given.updates
        options = getattr(given, "options", {})
    flat, stored = flatten(outputs), _updates(updates)
    roots = [*flat, *stored, *stored.values()]
    chosen = _inputs(inputs) if inputs is not None else [
        node for node in toposort(roots) if node.op.name == "placeholder"]
    order = toposort([*chosen, *roots])
    number = {id(node): position for position, node in enumerate(order)}
    told = {"inputs": [number[id(each)] for each in chosen], "outputs": _structure(outputs, flat, number),
            "updates": [[number[id(left)], number[id(right)]] for left, right in stored.items()],
            "options": _options(options)}
    _write(path, _Writer(number).nodes(order), told)


def _write(path: PathLike, nodes: Sequence[Mapping[str, Any]], told: Mapping[str, Any]) -> None:
    head = json.dumps({"format": FORMAT, "version": VERSION, **told}, ensure_ascii=False)[:-1]
    body = ",\n".join(json.dumps(node, ensure_ascii=False) for node in nodes)
    with replacing(path) as file:
        file.write(f'{head},\n"nodes": [\n{body}\n]}}\n'.encode())


def _inputs(inputs: Any) -> list[Tensor]:
    listed = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for each in listed:
        if not isinstance(each, Tensor) or each.op.name != "placeholder":
            what = describe_line(each) if isinstance(each, Tensor) else type(each).__name__
            raise ArgumentError(f"save_graph: inputs must be placeholders, got\n  {what}")
    return listed


def _updates(updates: Any) -> dict[Tensor, Tensor]:
    pairs = list(updates.items()) if isinstance(updates, Mapping) else list(updates or ())
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(each, Tensor) for each in pair):
            raise ArgumentError("save_graph: updates are a mapping or a list of (variable, new value) pairs of tensors")
        variable, value = pair
        if variable.op.name != "variable" or (variable.dtype, variable.shape) != (value.dtype, value.shape):
            rows = [operand_row("variable", variable), operand_row("update", value)]
            raise ArgumentError(message("save_graph: an update has its variable's dtype and shape", rows))
    return dict(pairs)


def _structure(outputs: Any, flat: Sequence[Tensor], number: Mapping[int, int]) -> dict[str, Any]:
    nodes = [number[id(each)] for each in flat]
    if isinstance(outputs, Mapping):
        if not all(is_text(key) for key in outputs):
            raise ArgumentError(f"save_graph: the keys of outputs must be texts, got {list(outputs)!r}")
        return {"kind": "dict", "names": list(outputs), "nodes": nodes}
    kind = "tensor" if isinstance(outputs, Tensor) else "tuple" if isinstance(outputs, tuple) else "list"
    return {"kind": kind, "nodes": nodes}


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that say what is computed. Where results and prints go, and how many threads there are, is the business
    of the process."""
    plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in options.items()}
    return {name: value for name, value in plain.items()
            if name not in OF_THE_PROCESS and isinstance(value, bool | int | float | str | dict)}


class _Writer:
    """Nodes as data."""

    def __init__(self, number: Mapping[int, int]) -> None:
        self.number = number
        self.sizes = SizeWriter()
        self.bounds = Bounds()

    def nodes(self, order: Sequence[Tensor]) -> list[dict[str, Any]]:
        return [self.node(each) for each in order]

    def node(self, node: Tensor) -> dict[str, Any]:
        told: dict[str, Any] = {"op": node.op.name}
        try:
            if node.inputs:
                told["inputs"] = [self.number[id(each)] for each in node.inputs]
            told |= self.special(node)
            check_shape(node.shape)
            told["dtype"], told["shape"] = node.dtype.name, [self.sizes(size) for size in node.shape]
            self.bounds.guards(node)
        except (TooLarge, FileFormatError) as error:
            raise ArgumentError(f"save_graph: {error}\n  {describe_line(node)}") from None
        for key, text in (("name", node.name), ("scope", node.scope)):
            if text:
                if not is_text(text):
                    raise ArgumentError(f"save_graph: the {key} {text!a} is no text that can be written")
                told[key] = text
        told["lines"] = [_line(each) for each in node.locations]
        return told

    def special(self, node: Tensor) -> dict[str, Any]:
        """What an op has beside operands and a type."""
        op = node.op
        if op.name == "placeholder":
            return {}
        if op.name == "variable":
            return {"value": write_array(node.value)}
        if registry.get(op.name) is op and is_declared(op):
            if node.attrs or op.kind != "elementwise":
                raise ArgumentError(f"save_graph: '{op.name}' is an op of your own with attributes, or not "
                                    f"elementwise; such ops cannot be saved\n  {describe_line(node)}")
            return {"own": True}
        if registry.get(op.name) is not op or op.name not in (*OPS, *ELEMENTWISE):
            raise ArgumentError(f"save_graph: '{op.name}' is Python code of your own, which a file cannot hold; build "
                                f"the graph again where it is needed\n  {describe_line(node)}")
        if op.name in ELEMENTWISE:
            return {}
        forms = OPS[op.name].attrs
        attrs = {name: forms[name].write(node.attrs[name], self.sizes) for name in forms if name in node.attrs}
        if set(attrs) != set(node.attrs):
            raise ArgumentError(f"save_graph: '{op.name}' has attributes that a file does not know: "
                                f"{', '.join(set(node.attrs) - set(attrs))}\n  {describe_line(node)}")
        return {"attrs": attrs} if attrs else {}


def _line(location: Location) -> str:
    """``model.py:12``; folders are nobody's business, and control characters none of a message's."""
    name = os.path.basename(location.file)
    return f"{name if name.isprintable() and is_text(name) else ascii(name)}:{location.line}"
