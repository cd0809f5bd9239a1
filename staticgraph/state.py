"""save() and load(): the values of variables in a file.

What is saved is state: variables, alone or in lists, tuples and dicts, and what holds some: layers, optimizers, random
generators, executables and graphs that were loaded. Each variable gets a name from where it stands, see `name_entries`;
the same program gives the same names. Values are read where they are newest, also on a device. Loading into the same
structure is all or nothing: names, dtypes and shapes are compared before the first value is assigned.

The suffix of the path is the format (see `state_formats`): ``.safetensors`` or ``.npz``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ArgumentError, FileFormatError, StateError, message
from .files import PathLike, check_path, is_text, shown
from .interpreter import flatten
from .nn.layers import Layer, Sequential
from .optim.optimizers import Optimizer
from .random import Generator
from .state_formats import FORMATS, Reader, Writer, code_of
from .tensor import Tensor, VariableState, describe_line, operand_row, toposort

__all__ = ["SavedState", "load", "save"]

Array = np.ndarray[Any, Any]
Entry = Tensor | Array
VERSION = 1
VERSION_KEY = "staticgraph.state"
"""The metadata of our files says the version of what is said here: names and what they mean."""

MOST_ROWS = 20
WHAT = "variables, lists, tuples and dicts of them, layers, optimizers, random generators, executables, graphs, arrays"


class SavedState(dict[str, Array]):
    """What a file holds: arrays by name, and in `metadata` the texts that were saved beside them."""

    def __init__(self, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
        super().__init__(arrays)
        self.metadata = dict(metadata)


def save(path: PathLike, state: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Write the values of variables into a .safetensors or .npz file, for `load`.

    >>> sg.save("run.safetensors", {"model": model, "optimizer": optimizer, "noise": generator}, {"epoch": "7"})

    state: variables, lists, tuples and dicts of them, layers, optimizers, random generators, executables; arrays and
    numbers are saved as they are. metadata: texts by name. The file appears, or takes another one's place, when it is
    complete. Names: keys of dicts and attributes of layers, joined by dots; see the documentation, docs/running.md.

    Raises ArgumentError for what cannot be saved, and where two variables would have one name.
    """
    texts = dict(metadata or {})
    if not all(is_text(each) for pair in texts.items() for each in pair) or VERSION_KEY in texts:
        raise ArgumentError(f"save: metadata are texts by name, none of them '{VERSION_KEY}', got {metadata!r}")
    writer, _ = _format("save", path)
    entries = name_entries(state)
    with _locked(entries.values()):
        arrays = {name: _value_of(name, entry) for name, entry in entries.items()}
    writer(path, arrays, {VERSION_KEY: str(VERSION), **texts})


def load(path: PathLike, into: Any = None, *, strict: bool = True) -> SavedState:
    """Read a .safetensors or .npz file: arrays by name. With `into`, assign them to variables.

    >>> sg.load("run.safetensors", into={"model": model, "optimizer": optimizer, "noise": generator})

    into: what was given to `save`, or as much like it that the names are the same. Names, dtypes and shapes have to be
    those of the file, or nothing is assigned and StateError says what differs. strict=False lets entries be missing on
    either side, though not all of them, and not be of another dtype or shape. The result's `metadata` are the texts
    that were saved.

    Raises FileFormatError for a file that is damaged, of another kind, or made by a newer version; OSError where it
    cannot be read.
    """
    _, reader = _format("load", path)
    arrays, metadata = reader(path)
    _check_version(path, metadata)
    found = SavedState(arrays, {key: text for key, text in metadata.items() if key != VERSION_KEY})
    if into is not None:
        _assign(path, found, _variables_of(into), strict)
    return found


def _format(function: str, path: PathLike) -> tuple[Writer, Reader]:
    check_path(path, function, "save(path, state)" if function == "save" else "load(path, into=state)")
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ArgumentError(f"{function}: the suffix of '{os.fspath(path)}' is none of {', '.join(FORMATS)}")
    return FORMATS[suffix]


def _check_version(path: PathLike, metadata: Mapping[str, str]) -> None:
    """Files without a version are somebody else's, and welcome."""
    version = metadata.get(VERSION_KEY, str(VERSION))
    if not version.isdecimal() or int(version[:9]) > VERSION:
        raise FileFormatError(f"'{os.fspath(path)}' has state of version {version[:40]!r}; this staticgraph reads "
                              f"version {VERSION}: a newer one is needed")


# Names


def name_entries(state: Any, function: str = "save") -> dict[str, Entry]:
    """Variables and arrays by their names.

    A name is a path joined by dots: keys of dicts; positions in lists and tuples, except for variables with a name of
    their own, which have that; attributes of layers, where the layers of a Sequential are their positions; ``seed`` and
    ``counter`` of a generator; the names of an optimizer's variables; those of the variables of an executable, followed
    by their positions where several have one name. What stands in several places has its first name.
    """
    entries: dict[str, Entry] = {}
    names: dict[int, str] = {}
    for name, entry in _walk(state, function):
        if id(entry) in names and isinstance(entry, Tensor):
            continue
        if not is_text(name) or not name:
            raise ArgumentError(f"{function}: {name!r} is no name for an entry")
        if name in entries:
            rows = [operand_row(label, each) for label, each in (("first", entries[name]), ("second", entry))
                    if isinstance(each, Tensor)]
            raise ArgumentError(message(f"{function}: two entries are called '{shown(name)}'", rows,
                                        "give them names of their own, or keys of a dict: {\"a\": ..., \"b\": ...}"))
        entries[name], names[id(entry)] = entry, name
    return entries


def _walk(state: Any, function: str) -> Iterator[tuple[str, Entry]]:
    """(name, entry) of all that a state holds. What refers to itself is walked once."""
    seen: set[int] = set()
    stack: list[tuple[str | None, Any, bool]] = [(None, state, True)]
    while stack:
        path, value, asked = stack.pop()
        if isinstance(value, Tensor):
            if value.op.name == "variable":
                yield (value.name or "variable") if path is None else path, value
            elif asked:
                raise ArgumentError(f"{function}: only variables have a value, got\n  {describe_line(value)}")
            continue
        if isinstance(value, np.ndarray | np.generic | bool | int | float):
            if asked:
                yield "value" if path is None else path, np.asarray(value)
            continue
        inside = _inside(value)
        if inside is None:
            if asked:
                where = f" ('{shown(path)}')" if path else ""
                hint = ("texts go into the metadata, save(path, state, {\"name\": \"text\"})" if isinstance(value, str)
                        else f"a state is made of {WHAT}")
                raise ArgumentError(f"{function}: {_article(value)}{where} is no state; {hint}")
            continue
        if id(value) not in seen:
            seen.add(id(value))
            asked = asked and not isinstance(value, Layer)     # a layer has attributes of many kinds
            stack += [(key if path is None else f"{path}.{key}", each, asked) for key, each in reversed(inside)]


def _inside(value: Any) -> list[tuple[str, Any]] | None:
    """(key, member) of what holds variables; None for what holds none."""
    if isinstance(value, Sequential):
        own = [(key, each) for key, each in vars(value).items() if key != "layers"]
        return [*own, *((str(number), layer) for number, layer in enumerate(value.layers))]
    if isinstance(value, Layer):
        return list(vars(value).items())
    if isinstance(value, Optimizer):
        return value.named_state()
    if isinstance(value, Generator):
        return [("seed", value._seed), ("counter", value.counter)]
    if isinstance(value, Mapping):
        return [(str(key), each) for key, each in value.items()]
    definition = getattr(value, "definition", value)     # of an executable
    if all(hasattr(definition, each) for each in ("inputs", "outputs", "updates")):
        updates = definition.updates
        nodes = toposort([*definition.inputs, *flatten(definition.outputs), *updates, *updates.values()])
        return _told_apart([node for node in nodes if node.op.name == "variable"])
    return _listed(value) if isinstance(value, list | tuple) else None


def _listed(members: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(each.name if isinstance(each, Tensor) and each.name else str(number), each)
            for number, each in enumerate(members)]


def _told_apart(variables: list[Tensor]) -> list[tuple[str, Any]]:
    """Those of a program, which nobody listed: where two have one name, as layers' have, their positions follow it."""
    names = [variable.name for variable in variables]
    return [(str(number) if not name else name if names.count(name) == 1 else f"{name}.{number}", variable)
            for number, (name, variable) in enumerate(zip(names, variables))]


def _article(value: Any) -> str:
    name = type(value).__name__
    return "nothing" if value is None else f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


# Values


def _locked(entries: Iterable[Entry]) -> ExitStack:
    """Holds all variables' storages, in the order in which everybody takes them: no call runs meanwhile."""
    stack = ExitStack()
    for state in sorted((_storage(each) for each in entries if isinstance(each, Tensor)), key=lambda each: each.number):
        stack.enter_context(state.lock)
    return stack


def _storage(variable: Tensor) -> VariableState:
    assert variable._state is not None     # of a variable
    return variable._state


def _value_of(name: str, entry: Entry) -> Array:
    array = entry.value if isinstance(entry, Tensor) else entry
    if code_of(array.dtype) is None:
        raise ArgumentError(f"save: '{name}' is an array of {array.dtype}, which is no dtype of numbers")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _variables_of(into: Any) -> dict[str, Tensor]:
    entries = name_entries(into, "load")
    arrays = [name for name, entry in entries.items() if not isinstance(entry, Tensor)]
    if arrays:
        raise ArgumentError(f"load: '{arrays[0]}' is an array, which cannot be loaded into; leave it out of `into` and "
                            "read it from the result")
    return {name: entry for name, entry in entries.items() if isinstance(entry, Tensor)}


def _assign(path: PathLike, found: Mapping[str, Array], variables: Mapping[str, Tensor], strict: bool) -> None:
    """All values or, where one does not fit, none."""
    rows = list(_misfits(found, variables, strict))
    if rows:
        notes = [f"... and {len(rows) - MOST_ROWS} more"] if len(rows) > MOST_ROWS else []
        if strict and any(kind.startswith(("not in", "no variable")) for _, kind, _, _ in rows):
            notes.append("strict=False lets entries be missing on either side")
        raise StateError(message(f"load: '{os.fspath(path)}' does not fit; nothing was assigned", rows[:MOST_ROWS],
                                 *notes))
    if found and variables and not found.keys() & variables.keys():
        one, other = shown(next(iter(found))), shown(next(iter(variables)))
        raise StateError(f"load: '{os.fspath(path)}' does not fit; nothing was assigned: no name is in both, the file "
                         f"has '{one}', the variables are '{other}' and so on")
    with _locked(variables.values()):
        for name, variable in variables.items():
            if name in found:
                _storage(variable).assign(found[name])


def _misfits(found: Mapping[str, Array], variables: Mapping[str, Tensor],
             strict: bool) -> Iterator[tuple[str, str, str, str]]:
    """Rows for `errors.message`: the entry, what is wrong, and the variable with its line."""
    for name, variable in variables.items():
        where = (f"'{variable.name}'" if variable.name else "", str(variable.location))
        array = found.get(name)
        if array is None:
            if strict:
                yield shown(name), f"not in the file, the variable is {variable.type}", *where
        elif (array.dtype, array.shape) != (variable.dtype, variable.shape):
            shape = ", ".join(map(str, array.shape))
            yield shown(name), f"{array.dtype}[{shape}] in the file, the variable is {variable.type}", *where
    for name, array in found.items() if strict else ():
        if name not in variables:
            yield shown(name), f"no variable for it, {array.dtype}[{', '.join(map(str, array.shape))}]", "", ""
