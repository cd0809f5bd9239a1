"""Graphs by what they are: one key for the graph that a program was made of, in this process or in another.

Comes in: what `compile` was given. Goes out: a `GraphKey`, a hash of everything that the Program depends on, in a form
that does not depend on addresses or on the order in which things were made: ops, attributes, types, names and scopes
of all nodes, the bytes of constants, inputs, outputs, updates, options, the target, the versions of what takes part,
and the sources of the language and of this compiler.

Lines of the user's files are not part of it. They are numbered in order of appearance, and the key holds which node has
which numbers; so a program that is kept with numbers for lines (see `program_text`) fits a script whose lines moved.

What cannot be told apart by a text has no key: ops of the user's own, whose meaning is Python code.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from staticgraph.op import registry
from staticgraph.ops.custom import is_declared
from staticgraph.tensor import Tensor, toposort
from staticgraph.types import Dim

from .options import ONLY_AT_RUN_TIME
from .target import Target

MOST_CONSTANT_BYTES = 64 * 2**20
"""Graphs with more constants than this are not kept: hashing and reading them back would cost more than it saves."""

APART = frozenset({"compiler", "runtime", "viz", "bench", "doctor", "cli", "__pycache__"})
"""Folders of the language that its programs do not depend on; the compiler is looked at by itself."""


ANONYMOUS = re.compile(r"\?\d+")
"""How sizes without a name print."""


class Unkeyed(Exception):
    """Why a graph has no key; the text goes into explain()."""


@dataclass(frozen=True)
class GraphKey:
    """The hash, the lines by their numbers, and the variables by theirs."""

    digest: str
    lines: tuple[str, ...]
    variables: tuple[Tensor, ...]


def graph_key(inputs: Sequence[Tensor], outputs: Sequence[Tensor], updates: Mapping[Tensor, Tensor], target: Target,
              options: Mapping[str, Any], names: Sequence[str], kind: str) -> GraphKey:
    """The key of a compile; `names` are what the outputs go by, `kind` is the structure that they come in."""
    order = toposort([*inputs, *outputs, *updates, *updates.values()])
    number = {node: position for position, node in enumerate(order)}
    lines: dict[str, int] = {}
    settings = sorted((name, value) for name, value in options.items() if name not in ONLY_AT_RUN_TIME)
    facts: list[Any] = [_versions(), fingerprint(), repr(target), settings, list(names), kind]
    sizes = _Sizes()
    room = MOST_CONSTANT_BYTES
    for node in order:
        if registry.get(node.op.name) is not node.op or is_declared(node.op):
            raise Unkeyed(f"'{node.op.name}' is an op of your own")
        if node.op.name == "constant":
            room -= node.attrs["value"].nbytes
        places = [lines.setdefault(str(line), len(lines)) for line in node.locations]
        shape = [sizes.plain(size) for size in node.shape]
        facts.append((node.op.name, [number[each] for each in node.inputs], str(node.dtype), shape, node.type.weak,
                      node.name, node.scope, places,
                      [(name, sizes.plain(node.attrs[name])) for name in sorted(node.attrs)],
                      [(sizes.plain(left), sizes.plain(right), what) for left, right, what in node.guards]))
        if room < 0:
            raise Unkeyed(f"its constants have more than {MOST_CONSTANT_BYTES} bytes")
    texts = [each for node in order for each in (node.name, node.scope, node.attrs.get("message")) if each]
    _check_names((*names, *texts), lines)
    facts += [[number[node] for node in nodes] for nodes in (inputs, outputs, updates, updates.values())]
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:40]
    return GraphKey(digest, tuple(lines), tuple(node for node in order if node.op.name == "variable"))


def _check_names(names: Sequence[str], lines: Mapping[str, int]) -> None:
    """Numbers stand for lines wherever they are in a text: so no name may look like one."""
    for name in names:
        if ":" in name and any(line in name for line in lines):
            raise Unkeyed(f"the name '{name}' holds a line of the user's")


class _Sizes:
    """Attributes and sizes as something whose repr says all of it, and tells 0.0 from -0.0 and True from 1. Sizes
    without a name are numbered in order of appearance: the numbers that they have count all that a process made."""

    def __init__(self) -> None:
        self.anonymous: dict[str, str] = {}

    def plain(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | str | bytes):
            return value
        if isinstance(value, float):
            return value.hex()
        if isinstance(value, Dim):
            return ("size", ANONYMOUS.sub(self.number, str(value)))
        if isinstance(value, np.dtype):
            return ("dtype", value.str)
        if isinstance(value, np.ndarray):
            return ("array", value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest())
        if isinstance(value, np.generic):
            return ("number", value.dtype.str, value.tobytes())
        if isinstance(value, tuple | list):
            return tuple(self.plain(each) for each in value)
        if isinstance(value, slice):
            return ("slice", *(self.plain(each) for each in (value.start, value.stop, value.step)))
        raise Unkeyed(f"an attribute is a {type(value).__name__}")

    def number(self, found: re.Match[str]) -> str:
        return self.anonymous.setdefault(found[0], f"?{len(self.anonymous)}")


@cache
def _versions() -> tuple[str, ...]:
    return platform.python_version(), np.__version__, sys.byteorder


@cache
def fingerprint() -> str:
    """A hash of the sources of the language and of the compiler, without the parts that only show or run things."""
    digest = hashlib.sha256()
    try:
        for folder in (Path(__file__).parent, Path(sys.modules["staticgraph"].__file__ or "").parent):
            for path in _sources(folder):
                digest.update(os.path.relpath(path, folder).encode() + b"\0" + Path(path).read_bytes())
    except OSError as error:     # an installation that is no folder of files
        raise Unkeyed(f"the compiler's own sources cannot be read: {error}") from None
    return digest.hexdigest()


def _sources(folder: Path) -> list[str]:
    found = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".py")]
    for name in sorted(os.listdir(folder)):
        if name not in APART and os.path.isdir(os.path.join(folder, name)):
            found += _sources(folder / name)
    return found
