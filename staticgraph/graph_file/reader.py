"""load_graph(): a graph from JSON that may be anything.

Nodes are built from their inputs on, by the ops that this process knows; each is held against the type that the file
says. A file that is not in order raises FileFormatError, and nothing in it reaches exec, eval or a format string.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import location
from ..errors import FileFormatError
from ..files import PathLike, check_path, is_text, parse_json, shown
from ..location import Location
from ..op import Op, registry
from ..ops.custom import is_declared
from ..ops.leaf import placeholder_op, variable_op
from ..random import Generator, generators_in
from ..tensor import Tensor, VariableState, add_guards, build
from .bounds import Bounds
from .forms import ELEMENTWISE, OPS, attrs_of, check_operands, dtype_of, need, read_array
from .sizes import SizeReader, TooLarge, read_shape
from .writer import FORMAT, VERSION

KEYS = frozenset(("op", "inputs", "attrs", "dtype", "shape", "name", "scope", "lines", "value", "own"))
LONGEST_LINE = 300
MOST_LINES = 16


@dataclass
class SavedGraph:
    """A graph from a file: what `compile` takes, with variables of its own that hold the values of the file.

    >>> graph = sg.load_graph("step.json")
    >>> step = sg.compile(graph.inputs, graph.outputs, updates=graph.updates, options=graph.options)

    generators: those that the graph samples from. variables: by name, numbered where they have none.
    """

    inputs: list[Tensor]
    outputs: Any
    updates: dict[Tensor, Tensor]
    options: dict[str, Any]
    generators: list[Generator] = field(default_factory=list)
    variables: dict[str, Tensor] = field(default_factory=dict)


def load_graph(path: PathLike) -> SavedGraph:
    """Read a graph that `save_graph` wrote.

    Names, scopes and lines are those of who saved it. Equal names of symbolic sizes mean equal sizes, as always.

    Raises FileFormatError for a file that is damaged, of another kind, or made by a newer version, and for ops that
    nobody has declared here; OSError where it cannot be read.
    """
    check_path(path, "load_graph", "load_graph(path)")
    what = f"'{os.fspath(path)}' is no saved graph"
    told = parse_json(Path(path).read_bytes(), what)
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise FileFormatError(f"{what}: it does not say \"format\": \"{FORMAT}\"")
    version = told.get("version")
    if type(version) is not int or version != VERSION:
        newer = type(version) is int and version > VERSION
        raise FileFormatError(f"{what} that this staticgraph reads: its version is {str(version)[:40]!r}, needed "
                              f"{VERSION}{': a newer staticgraph is needed' if newer else ''}")
    try:
        return _read(told)
    except FileFormatError as error:
        raise FileFormatError(f"{what}: {error}") from None


def _read(told: Mapping[str, Any]) -> SavedGraph:
    need(set(told) == {"format", "version", "inputs", "outputs", "updates", "options", "nodes"},
         "inputs, outputs, updates, options and nodes")
    need(isinstance(told["nodes"], list), "a list of nodes")
    reader = _Reader()
    for number, each in enumerate(told["nodes"]):
        try:
            reader.take(each)
        except RecursionError:
            raise FileFormatError(f"node {number}: nested too deeply") from None
        except (FileFormatError, TooLarge) as error:
            raise FileFormatError(f"node {number}{_op_of(each)}: {error}") from None
        except Exception as error:     # rules of shapes trust their attributes: whatever these lead to
            text = str(error).replace("\n", "\n  ")
            raise FileFormatError(f"node {number}{_op_of(each)}: {type(error).__name__}: {text}") from None
    inputs, outputs, updates = told["inputs"], told["outputs"], told["updates"]
    placeholders = reader.chosen(inputs)
    need(all(each.op.name == "placeholder" for each in placeholders)
         and len(set(placeholders)) == len(placeholders), "different placeholders as inputs")
    variables = [node for node in reader.nodes if node.op.name == "variable"]
    names = [node.name for node in variables]
    return SavedGraph(
        placeholders, _outputs(outputs, reader), _updates(updates, reader), _options(told["options"]),
        generators_in(reader.nodes),
        {name if name and names.count(name) == 1 else f"{name or 'variable'}.{number}": node
         for number, (name, node) in enumerate(zip(names, variables))})


def _op_of(told: Any) -> str:
    name = told.get("op") if isinstance(told, dict) else None
    return f" ({shown(str(name))})" if is_text(name) else ""


def _outputs(told: Any, reader: _Reader) -> Any:
    need(isinstance(told, dict) and "nodes" in told, "outputs with a kind and nodes")
    kind, nodes = told.get("kind"), reader.chosen(told["nodes"])
    if kind == "dict":
        names = told.get("names")
        need(isinstance(names, list) and len(names) == len(nodes) and all(map(is_text, names))
             and len(set(names)) == len(names), "a name for each output")
        return dict(zip(names, nodes))
    need(kind in ("tensor", "list", "tuple") and (kind != "tensor" or len(nodes) == 1),
         "outputs that are a tensor, list, tuple or dict")
    return nodes[0] if kind == "tensor" else tuple(nodes) if kind == "tuple" else nodes


def _updates(told: Any, reader: _Reader) -> dict[Tensor, Tensor]:
    need(isinstance(told, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in told), "pairs as updates")
    pairs = [reader.chosen(pair) for pair in told]
    for variable, value in pairs:
        need(variable.op.name == "variable" and (variable.dtype, variable.shape) == (value.dtype, value.shape),
             "updates of variables, with their dtypes and shapes")
    need(len({variable for variable, _ in pairs}) == len(pairs), "one update for a variable")
    return {variable: value for variable, value in pairs}


def _options(told: Any) -> dict[str, Any]:
    """Options are `compile`'s to judge; here they are plain values by name."""
    need(isinstance(told, dict), "options by name")
    for name, value in told.items():
        members = [*value, *value.values()] if isinstance(value, dict) else [value]
        need(is_text(name) and all(is_text(each) or isinstance(each, bool | int | float) for each in members),
             "plain values as options")
    return dict(told)


class _Reader:
    """Nodes of a file, in its order."""

    def __init__(self) -> None:
        self.nodes: list[Tensor] = []
        self.sizes = SizeReader()
        self.bounds = Bounds()

    def chosen(self, numbers: Any) -> list[Tensor]:
        """Nodes by their numbers, which have to be read already."""
        need(isinstance(numbers, list) and all(type(each) is int and 0 <= each < len(self.nodes) for each in numbers),
             "numbers of earlier nodes")
        return [self.nodes[each] for each in numbers]

    def take(self, told: Any) -> None:
        need(isinstance(told, dict) and {"op", "dtype", "shape"} <= set(told) <= KEYS, "an op, a dtype and a shape")
        dtype, shape = dtype_of(told["dtype"]), read_shape(told["shape"], self.sizes)
        name, scope = (_text(told, key) for key in ("name", "scope"))
        with location.using(_lines(told.get("lines", []))):
            node = self.build(told, {"shape": shape, "dtype": dtype})
        if (node.dtype, node.shape) != (dtype, shape):
            raise FileFormatError(f"needed the type that it has, {node.type}")
        if name and (node._label is None or not node.op.interned):
            node._label = name
        node._scope = node._scope or scope
        if len(node._locations) > 1:     # a constant that exists already has the same line, with its folder
            lines: dict[str, Location] = {}
            for each in node._locations:
                lines.setdefault(str(each), each)
            node._locations = tuple(lines.values())
        add_guards(node, self.bounds.guards(node))
        self.nodes.append(node)

    def build(self, told: Mapping[str, Any], type_: dict[str, Any]) -> Tensor:
        name, inputs = told["op"], self.chosen(told.get("inputs", []))
        need(is_text(name), "the name of an op")
        need(("value" in told) == (name == "variable"), "a value for a variable, and for nothing else")
        need("own" not in told or told["own"] is True, "true for an op of somebody's own")
        if name in ("placeholder", "variable"):
            need(not inputs and "attrs" not in told, "neither inputs nor attributes for a leaf")
            return build(placeholder_op, (), type_) if name == "placeholder" else _variable(told["value"], type_)
        if "own" in told or name in ELEMENTWISE:
            need(not told.get("attrs"), "no attributes")
            return _elementwise(_own_op(name) if "own" in told else registry[name], inputs)
        need(name in OPS, f"an op that is known here; '{shown(name)}' is none")
        form = OPS[name]
        check_operands(form, [each.type for each in inputs])
        return build(registry[name], inputs,
                     attrs_of(told.get("attrs", {}), form, self.sizes, [each.type for each in inputs]))


def _own_op(name: str) -> Op:
    op = registry.get(name)
    if op is None or not is_declared(op) or op.kind != "elementwise":
        raise FileFormatError(f"'{shown(name)}' was an op of somebody's own: declare it with sg.primitive, then load")
    return op


def _elementwise(op: Op, inputs: Sequence[Tensor]) -> Tensor:
    """The node on these very inputs: of dtypes and shapes that need neither a cast nor a broadcast."""
    node = op(*inputs)
    need(len(node.inputs) == len(inputs) and all(new is old for new, old in zip(node.inputs, inputs)),
         "operands of one dtype and shape")
    return node


def _variable(told: Any, type_: dict[str, Any]) -> Tensor:
    array = read_array(told)
    need((array.shape, array.dtype) == (type_["shape"], type_["dtype"]), "a value of the variable's dtype and shape")
    node = build(variable_op, (), type_)
    node._state = VariableState(array.copy())
    return node


def _text(told: Mapping[str, Any], key: str) -> str:
    text = told.get(key, "")
    need(is_text(text), f"text for the {key}")
    return str(text)


def _lines(told: Any) -> list[Location]:
    need(isinstance(told, list) and len(told) <= MOST_LINES, f"a list of at most {MOST_LINES} lines")
    found = []
    for each in told:
        need(is_text(each) and each.isprintable() and len(each) <= LONGEST_LINE, "lines such as model.py:12")
        file, _, line = each.rpartition(":")
        need(bool(file) and line.isdecimal() and line.isascii() and len(line) < 10, "lines such as model.py:12")
        found.append(Location(os.path.basename(file.replace("\\", "/")) or file, int(line)))
    return found
