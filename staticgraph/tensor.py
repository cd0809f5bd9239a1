"""Tensor: one immutable, hash-consed node of the symbolic graph.

Identity. Placeholders, variables and random samples are themselves; every other node is unique for its (op, inputs,
attributes): building it again gives the same object, so common subexpressions never exist twice. The table holds nodes
weakly. Names, locations and scopes are side data and never part of the key. Hence inside this library tensors are
compared with ``is``; ``==`` builds graph, ``hash()`` is identity and ``bool()`` raises.

Nothing in this project recurses over a graph: `toposort` and `substitute` are loops, so 10,000 nodes are fine.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import location as location_
from . import locks
from .errors import ArgumentError, DTypeError, ShapeError
from .kinship import Kinship, inner, join
from .location import Location
from .types import Dim, Shape, Size, TensorType, product

if TYPE_CHECKING:
    from .op import Op

LINES = 16
"""Lines that a node keeps: the first of all, and the newest of those where it was wanted again."""

Guard = tuple[Size, Size, str]
"""Two sizes that must agree at the call, and what they are."""


class VariableState:
    """The storage of a variable: one array, never replaced, only written in place, and the lock that guards it.

    Devices may keep copies of it (`copies`, made and understood by the runtime only). `newest` is the copy that holds a
    newer value than the array, or None. With the lock held, readers call `fetch` first and writers `overwritten`.
    """

    __slots__ = ("array", "copies", "lock", "newest", "number")
    _count = 0

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self.copies: dict[Any, Any] = {}
        self.newest: Any = None
        self.lock = locks.rlock()
        VariableState._count += 1
        self.number = VariableState._count

    def fetch(self) -> None:
        """Bring the array up to date."""
        if self.newest is not None:
            self.newest.download(self.array)
            self.newest = None

    def overwritten(self) -> None:
        """The array holds a new value, or is about to: all copies are out of date."""
        self.newest = None
        for copy in self.copies.values():
            copy.expire()

    def read(self) -> np.ndarray[Any, Any]:
        """A copy of the value."""
        with self.lock:
            self.fetch()
            return self.array.copy()

    def assign(self, value: np.ndarray[Any, Any]) -> None:
        """Give it a new value of the same shape."""
        with self.lock:
            self.array[...] = value
            self.overwritten()


class Tensor:
    """A symbolic array: the result of an op on other tensors. Built by functions, never by calling this class.

    Attributes: `dtype` (np.dtype), `shape` (ints and Dims), `ndim`, `size` (int or Dim), `name`, `op`, `inputs`,
    `attrs` (read-only mapping), `location` (the user's line that first made it).
    """

    __slots__ = ("__weakref__", "_kin", "_label", "_locations", "_scope", "_state", "attrs", "guards", "inputs", "op",
                 "type")

    # NumPy must hand `ndarray - tensor` to us instead of building an array of objects.
    __array_ufunc__ = None

    op: Op
    inputs: tuple[Tensor, ...]
    attrs: Mapping[str, Any]
    type: TensorType
    guards: tuple[Guard, ...]
    _kin: Kinship | None

    def __init__(self, op: Op, inputs: tuple[Tensor, ...], attrs: Mapping[str, Any], type: TensorType,
                 guards: tuple[Guard, ...] = (), label: str | None = None, state: VariableState | None = None) -> None:
        assign = object.__setattr__  # past the guard below
        assign(self, "op", op)
        assign(self, "inputs", inputs)
        assign(self, "attrs", MappingProxyType(dict(attrs)))
        assign(self, "type", type)
        assign(self, "guards", guards)
        self._label = label
        self._state = state
        self._locations, self._kin, self._scope = location_.side_data()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED:
            raise AttributeError(f"a tensor is immutable: '{name}' cannot be assigned")
        object.__setattr__(self, name, value)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    @property
    def size(self) -> Size:
        """Number of elements: an int, or a Dim that is a formula of the symbolic sizes."""
        return product(self.type.shape)

    @property
    def name(self) -> str | None:
        """The name the user gave, or None."""
        return self._label

    @property
    def location(self) -> Location:
        """The user's line that first made this node."""
        return self._locations[0]

    @property
    def locations(self) -> tuple[Location, ...]:
        """All user lines that this node stands for, after merging and rewriting."""
        return self._locations

    @property
    def scope(self) -> str:
        """The name scopes in force where the node was first made, as ``outer/inner``."""
        return self._scope

    @property
    def value(self) -> np.ndarray[Any, Any]:
        """A copy of a variable's current value; assigning checks shape and dtype. Only variables have one."""
        return self._variable_state("read").read()

    @value.setter
    def value(self, new: Any) -> None:
        from .op import fitting_array

        state = self._variable_state("assigned")
        try:
            array = fitting_array(new, self.dtype)
        except DTypeError as error:
            raise DTypeError(f"the variable cannot hold this value: {error}\n  {describe_line(self)}") from None
        if array.shape != state.array.shape:
            raise ShapeError(f"the variable cannot hold this value: got shape {array.shape}\n  {describe_line(self)}")
        state.assign(array)

    def _variable_state(self, verb: str) -> VariableState:
        if self._state is None:
            raise ArgumentError(f"only variables have a value that can be {verb}; {describe(self)} is the result of "
                                f"'{self.op.name}'; use sg.evaluate or sg.compile to compute it")
        return self._state

    __hash__ = object.__hash__     # identity, without a call of Python: tensors are keys everywhere

    def __bool__(self) -> bool:
        raise ArgumentError(f"a tensor has no truth value while the graph is built\n  {describe_line(self)}\n"
                            "  use sg.where for a choice between tensors, `is` to compare identities")

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0 or isinstance(self.shape[0], Dim):
            raise ShapeError(f"cannot iterate over {self.type}: its first size is not known\n  {describe_line(self)}")
        return iter([self[number] for number in range(self.shape[0])])

    def __len__(self) -> int:
        if self.ndim == 0 or isinstance(self.shape[0], Dim):
            raise ShapeError(f"len() of {self.type} is not known\n  {describe_line(self)}")
        return self.shape[0]

    def __setitem__(self, key: Any, value: Any) -> None:
        raise ArgumentError(f"a tensor is immutable, its elements cannot be assigned\n  {describe_line(self)}\n"
                            "  use sg.where, sg.concat or sg.scatter_add to make a new one")

    def __float__(self) -> Any:
        raise ArgumentError(f"a symbolic tensor is not a number; evaluate it first\n  {describe_line(self)}")

    __int__ = __index__ = __complex__ = __float__

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        if any(node._state is not None for node in toposort([self])):
            raise ArgumentError(f"a graph with variables cannot be copied: a variable is itself\n"
                                f"  {describe_line(self)}\n  build it again, or copy the .value of its variables")
        return self

    def __reduce__(self) -> Any:
        raise ArgumentError(f"a symbolic tensor cannot be pickled\n  {describe_line(self)}\n"
                            "  sg.save keeps the values of variables, sg.save_graph the graph with them")

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        raise ArgumentError(f"numpy.{func.__name__} does not take symbolic tensors\n  {describe_line(self)}\n"
                            f"  use sg.{func.__name__} where there is one")

    def __array__(self, *_: Any, **__: Any) -> np.ndarray[Any, Any]:
        raise ArgumentError(f"a symbolic tensor is not an array; evaluate it first\n  {describe_line(self)}")

    def __repr__(self) -> str:
        return f"<Tensor {describe(self)}>"

    def __str__(self) -> str:
        return str(functions["format_graph"](self))

    def __format__(self, spec: str) -> str:
        try:
            return format(describe(self), spec)
        except ValueError:
            float(self)     # "{loss:.3f}" wants a number
            raise

    def __round__(self, digits: int | None = None) -> Any:
        float(self)

    def _repr_html_(self) -> str | None:
        return display_hook(self) if display_hook is not None else None

    def __add__(self, other: Any) -> Tensor: return _call("add", self, other)
    def __radd__(self, other: Any) -> Tensor: return _call("add", other, self)
    def __sub__(self, other: Any) -> Tensor: return _call("subtract", self, other)
    def __rsub__(self, other: Any) -> Tensor: return _call("subtract", other, self)
    def __mul__(self, other: Any) -> Tensor: return _call("multiply", self, other)
    def __rmul__(self, other: Any) -> Tensor: return _call("multiply", other, self)
    def __truediv__(self, other: Any) -> Tensor: return _call("divide", self, other)
    def __rtruediv__(self, other: Any) -> Tensor: return _call("divide", other, self)
    def __floordiv__(self, other: Any) -> Tensor: return _call("floor_divide", self, other)
    def __rfloordiv__(self, other: Any) -> Tensor: return _call("floor_divide", other, self)
    def __mod__(self, other: Any) -> Tensor: return _call("remainder", self, other)
    def __rmod__(self, other: Any) -> Tensor: return _call("remainder", other, self)
    def __pow__(self, other: Any) -> Tensor: return _call("pow", self, other)
    def __rpow__(self, other: Any) -> Tensor: return _call("pow", other, self)
    def __matmul__(self, other: Any) -> Tensor: return _call("matmul", self, other)
    def __rmatmul__(self, other: Any) -> Tensor: return _call("matmul", other, self)
    def __and__(self, other: Any) -> Tensor: return _call("bitwise_and", self, other)
    def __rand__(self, other: Any) -> Tensor: return _call("bitwise_and", other, self)
    def __or__(self, other: Any) -> Tensor: return _call("bitwise_or", self, other)
    def __ror__(self, other: Any) -> Tensor: return _call("bitwise_or", other, self)
    def __xor__(self, other: Any) -> Tensor: return _call("bitwise_xor", self, other)
    def __rxor__(self, other: Any) -> Tensor: return _call("bitwise_xor", other, self)
    def __lshift__(self, other: Any) -> Tensor: return _call("bitwise_left_shift", self, other)
    def __rlshift__(self, other: Any) -> Tensor: return _call("bitwise_left_shift", other, self)
    def __rshift__(self, other: Any) -> Tensor: return _call("bitwise_right_shift", self, other)
    def __rrshift__(self, other: Any) -> Tensor: return _call("bitwise_right_shift", other, self)
    def __divmod__(self, other: Any) -> tuple[Tensor, Tensor]: return self // other, self % other
    def __rdivmod__(self, other: Any) -> tuple[Tensor, Tensor]: return other // self, other % self
    def __neg__(self) -> Tensor: return _call("negative", self)
    def __pos__(self) -> Tensor: return _call("positive", self)
    def __invert__(self) -> Tensor: return _call("bitwise_invert", self)
    def __abs__(self) -> Tensor: return _call("abs", self)
    def __lt__(self, other: Any) -> Tensor: return _call("less", self, other)
    def __le__(self, other: Any) -> Tensor: return _call("less_equal", self, other)
    def __gt__(self, other: Any) -> Tensor: return _call("greater", self, other)
    def __ge__(self, other: Any) -> Tensor: return _call("greater_equal", self, other)
    def __eq__(self, other: Any) -> Tensor: return _call("equal", self, other)  # type: ignore[override]
    def __ne__(self, other: Any) -> Tensor: return _call("not_equal", self, other)  # type: ignore[override]
    def __getitem__(self, key: Any) -> Tensor: return _call("getitem", self, key)

    @property
    def T(self) -> Tensor:
        """All axes reversed, as in NumPy."""
        return _call("transpose", self)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return _call("matrix_transpose", self)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *methods]

    def __getattr__(self, name: str) -> Any:
        # NumPy's methods (x.sum(), x.reshape(...)) are the functions of the same name.
        method = methods.get(name)
        if method is None:
            raise AttributeError(f"a tensor has no attribute '{name}'")
        return lambda *args, **kwargs: method(self, *args, **kwargs)


_FIXED = frozenset(("op", "inputs", "attrs", "type", "guards"))

methods: dict[str, Callable[..., Any]] = {}
"""Functions that are also methods; filled by the ops package."""

functions: dict[str, Callable[..., Any]] = {}
"""What operators call; filled by the ops package, which stands above this file."""

display_hook: Callable[[Any], str] | None = None
"""What notebooks show of a tensor, and of an executable; set by the package, which imports viz when it is called."""


def _call(function: str, *args: Any) -> Tensor:
    result: Tensor = functions[function](*args)
    return result


_interned: weakref.WeakValueDictionary[Any, Tensor] = weakref.WeakValueDictionary()
_intern_lock = locks.rlock()


def build(op: Op, inputs: Sequence[Tensor], attrs: Mapping[str, Any]) -> Tensor:
    """The node of `op` on `inputs`: the one that exists already, else a new one after shape and dtype inference."""
    from .op import Inference

    key = (op, tuple(map(id, inputs)), tuple((name, freeze(attrs[name])) for name in sorted(attrs)))
    with _intern_lock:
        node = _interned.get(key) if op.interned else None
        if node is None:
            context = Inference(op, inputs)
            type = op.infer(context, *[tensor.type for tensor in inputs], **attrs)
            node = Tensor(op, tuple(inputs), attrs, type, tuple(context.guards))
            if op.interned:
                _interned[key] = node
        else:
            _merge_locations(node)
        return node


def _merge_locations(node: Tensor) -> None:
    new = location_.current()
    if new[0] not in node._locations:
        first, *rest = location_.union((node._locations, new))
        node._locations = (first, *rest[1 - LINES:])


def freeze(value: Any) -> Any:
    """A hashable key that tells apart what Python calls equal: 0.0 and -0.0, True and 1, float32 and float64."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, bool | float | np.generic):
        return (type(value).__name__, repr(value))
    if isinstance(value, tuple | list):
        return tuple(freeze(item) for item in value)
    return value


def toposort(outputs: Iterable[Tensor], stop: Callable[[Tensor], bool] | None = None) -> list[Tensor]:
    """All nodes that the outputs need, inputs first, in an order that depends on the graph only.

    Nodes for which `stop` is true are listed, but what they need is not.
    """
    order: list[Tensor] = []
    state: dict[int, bool] = {}
    stack = [*reversed(list(outputs))]
    while stack:
        node = stack[-1]
        seen = state.get(id(node))
        if seen is None:
            state[id(node)] = False
            if stop is None or not stop(node):
                stack.extend(each for each in reversed(node.inputs) if id(each) not in state)
        else:
            stack.pop()
            if not seen:
                state[id(node)] = True
                order.append(node)
    return order


def substitute(outputs: Sequence[Tensor], replacement: Mapping[Tensor, Tensor]) -> list[Tensor]:
    """The outputs with every node that is a key of `replacement` (by identity) exchanged for its value."""
    done: dict[int, Tensor] = {id(old): new for old, new in replacement.items()}
    for node in toposort(outputs, stop=lambda each: id(each) in done):
        if id(node) not in done:
            done[id(node)] = rebuild(node, [done[id(each)] for each in node.inputs])
    return [done[id(output)] for output in outputs]


def rebuild(node: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """The node on other inputs, keeping its lines and name; itself when the inputs are the same."""
    if all(new is old for new, old in zip(inputs, node.inputs, strict=True)):
        return node
    with location_.using(node._locations):
        new = build(node.op, inputs, node.attrs)
    if new._label is None:
        new._label = node._label
    new._scope = new._scope or node._scope
    add_guards(new, [guard for guard in node.guards if guard[2].startswith(UNPROVEN)])
    hand_on(node, new)
    return new


def made_of(*nodes: Tensor) -> AbstractContextManager[None]:
    """What is made inside takes the place of the first of these nodes, and of the others that only it needs: it carries
    their lines, those of the first before the rest, and belongs to the first one's kin and scope."""
    lines = nodes[0]._locations if len(nodes) == 1 else location_.union([each._locations for each in nodes])[:LINES]
    kin = nodes[0]._kin
    return location_.using(lines, kin and inner(kin), nodes[0]._scope)


def hand_on(node: Tensor, result: Tensor) -> None:
    """What takes a node's place has its cotangents, and is the cotangent that the node was. Numbers are nobody's."""
    if node._kin is None or result is node:
        return
    base = result
    while base.op.kind == "view":
        base = base.inputs[0]
    if base.op.name != "constant":
        own = result._kin
        result._kin = node._kin if own is None else join((own, own.fitting(node._kin)))


UNPROVEN = "read from a file: "
"""What a guard says that no rule of an op asked for: the node was not made by the op's own function."""


def add_guards(node: Tensor, guards: Sequence[Guard]) -> None:
    """More sizes that must agree at the call; `rebuild` keeps those that are UNPROVEN."""
    new = tuple(guard for guard in guards if guard not in node.guards)
    if new:
        object.__setattr__(node, "guards", (*node.guards, *new))     # past the guard of assignments


def describe(node: Tensor) -> str:
    """``x: float32[batch, 64]`` or ``add: float32[64]``, for messages and repr."""
    return f"{node.name or node.op.name}: {node.type}"


def describe_line(node: Tensor) -> str:
    """One operand row of an error message."""
    quoted = f"'{node.name}'" if node.name else node.op.name
    return f"{node.type}   {quoted}    {node.location}"


def operand_row(label: str, node: Tensor) -> tuple[str, str, str, str]:
    """The row of `errors.message` for a tensor. A number goes by its value, and has a line as long as nobody else has
    written it: the node is shared."""
    name = f"'{node.name}'" if node.name else ""
    if node.op.name == "constant" and not name and not node.ndim and not isinstance(node.attrs["value"], Dim):
        return (label, str(node.type), str(node.attrs["value"]), "" if len(node.locations) > 1 else str(node.location))
    return (label, str(node.type), name, str(node.location))
