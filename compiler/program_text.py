"""Programs as text: a Program in, JSON and raw bytes out, and back.

Only this module knows the form: dataclasses are ``{"is": class, "of": [fields]}``, tuples are lists, symbolic sizes are
numbers of entries in a table that holds each once, arrays are (dtype, shape, place in the bytes). Lines of the user's
files stand as their numbers (see `graph_key`), so that they can be those of the graph that the program is wanted for.

What is read is data and stays data: the classes and formulas that a text may name are listed here, and whatever does
not fit raises `Unreadable`, for which the reader takes a miss.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from staticgraph.types import Atom, Dim

from .program import (
    Argument,
    Boundary,
    Buffer,
    Chain,
    Check,
    GraphRecord,
    Guard,
    InputSpec,
    Kernel,
    Launch,
    NodeRecord,
    Note,
    OutputSpec,
    Print,
    Program,
    Rewrite,
    Step,
    VariableSpec,
    verify,
)

FORMAT = 1
CLASSES = {each.__name__: each for each in (Argument, Boundary, Buffer, Chain, Check, GraphRecord, Guard, InputSpec,
                                            Kernel, Launch, NodeRecord, Note, OutputSpec, Print, Program, Rewrite, Step,
                                            VariableSpec)}
ATOMS = ("symbol", "floordiv", "mod", "min", "max")
MARK = "\0"
"""Stands before and after the number of a line; no name may hold one."""


class Unwritable(Exception):
    """Why a program cannot be written; the text goes into explain()."""


class Unreadable(Exception):
    """The text is no program."""


def write(program: Program, lines: Sequence[str], variables: Sequence[int]) -> tuple[str, bytes]:
    """(JSON, bytes) of a program. `lines` are the user's, by number; `variables` are numbers of the variables among
    those of the graph. What a compile says of itself (passes, the structure of outputs) is left out."""
    writer = _Writer(lines)
    bare = replace(program, passes=(), structure=("tensor",), constants=())
    found = writer.plain(bare)
    arrays = [writer.array(each) for each in program.constants]
    return json.dumps({"format": FORMAT, "program": found, "sizes": writer.table, "arrays": arrays,
                       "variables": list(variables)}, separators=(",", ":")), bytes(writer.content)


def read(text: str, content: bytes, lines: Sequence[str], structure: tuple[Any, ...]) -> tuple[Program, list[int]]:
    """The program with the lines of the present graph, and the numbers of its variables."""
    try:
        told = json.loads(text)
        if told["format"] != FORMAT:
            raise Unreadable("another format")
        reader = _Reader(told["sizes"], lines)
        program = reader.value(told["program"])
        if not isinstance(program, Program):
            raise Unreadable("no program")
        constants = tuple(_array(each, content) for each in told["arrays"])
        program = replace(program, constants=constants, structure=structure)
        verify(program)
        return program, [int(each) for each in told["variables"]]
    except Unreadable:
        raise
    except Exception as error:     # whatever a damaged text leads to: the reader compiles instead
        raise Unreadable(f"{type(error).__name__}: {error}") from None


class _Writer:
    def __init__(self, lines: Sequence[str]) -> None:
        self.table: list[Any] = []
        self.numbers: dict[Dim, int] = {}
        self.content = bytearray()
        self.lines = {line: number for number, line in enumerate(lines)}
        longest = sorted(map(re.escape, lines), key=len, reverse=True)
        self.pattern = re.compile(rf"(?:{'|'.join(longest)})(?!\d)") if lines else None

    def plain(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Dim):
            return {"size": self.size(value)}
        if isinstance(value, tuple) and type(value).__name__ in CLASSES:     # a NamedTuple
            return {"is": type(value).__name__, "of": [self.plain(each) for each in value]}
        if isinstance(value, tuple):
            return [self.plain(each) for each in value]
        if is_dataclass(value) and type(value).__name__ in CLASSES:
            return {"is": type(value).__name__, "of": [self.plain(getattr(value, each.name)) for each in fields(value)]}
        raise Unwritable(f"a program that holds a {type(value).__name__}")

    def text(self, text: str) -> str:
        if MARK in text:
            raise Unwritable("a name that holds a zero byte")
        if self.pattern is None or ":" not in text:
            return text
        return self.pattern.sub(lambda match: f"{MARK}{self.lines[match[0]]}{MARK}", text)

    def size(self, size: Dim) -> int:
        if size not in self.numbers:
            terms = [[coefficient, [self.atom(atom) for atom in monomial]] for monomial, coefficient in size.terms]
            self.table.append(terms)
            self.numbers[size] = len(self.table) - 1
        return self.numbers[size]

    def atom(self, atom: Atom) -> list[Any]:
        return [atom.kind, atom.name, [self.plain(each) for each in atom.args]]

    def array(self, array: Any) -> list[Any]:
        start = len(self.content)
        self.content += np.ascontiguousarray(array).tobytes()
        return [array.dtype.str, list(array.shape), start]


class _Reader:
    def __init__(self, table: Sequence[Any], lines: Sequence[str]) -> None:
        self.lines = lines
        self.sizes: list[Dim] = []
        for terms in table:     # an entry names earlier ones only
            self.sizes.append(Dim({tuple(map(self.atom, monomial)): int(coefficient)
                                   for coefficient, monomial in terms}))

    def atom(self, told: Sequence[Any]) -> Atom:
        kind, name, arguments = told
        if kind not in ATOMS:
            raise Unreadable("an unknown formula")
        return Atom(kind, str(name), tuple(self.value(each) for each in arguments))

    def value(self, told: Any) -> Any:
        if isinstance(told, str):
            return self.text(told) if MARK in told else told
        if isinstance(told, list):
            return tuple([self.value(each) for each in told])
        if isinstance(told, dict):
            if "size" in told:
                return self.sizes[told["size"]]
            make: Callable[..., Any] = CLASSES[told["is"]]
            return make(*[self.value(each) for each in told["of"]])
        return told

    def text(self, text: str) -> str:
        parts = text.split(MARK)
        parts[1::2] = [self.lines[int(number)] for number in parts[1::2]]
        return "".join(parts)


def _array(told: Sequence[Any], content: bytes) -> Any:
    dtype, shape, start = told
    kind, sizes = np.dtype(str(dtype)), tuple(int(size) for size in shape)
    if kind.kind not in "biuf":
        raise Unreadable("an array of no numbers")
    count = int(np.prod(sizes, dtype=np.int64))
    return np.frombuffer(content, kind, count, int(start)).reshape(sizes).copy()
