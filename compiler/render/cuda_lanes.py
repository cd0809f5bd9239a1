"""The vector form of a loop body for CUDA.

A body is written for `width` neighbouring elements at once. Names that it assigns get the element's number; a load or
store whose index grows by one with the element, from a multiple of the width on, becomes one vector access. All other
statements are repeated, which is what the compiler would do with a loop of known length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..indices import linear, split_load
from ..kernel_ir import Check, Let, Pointer, Statement, Store
from ..parameters import VECTOR_BYTES
from ..statements import WORD, texts
from .cpu_text import DEAR, Writer, typed
from .cuda_text import open_check

MOST_COPIES = 4
"""Elements that a thread takes at once: 16 bytes of float32."""

SIZES = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "float32": 4, "int64": 8,
         "uint64": 8, "float64": 8}


MOST_DEAR = 16
"""Elementary functions of a body that several copies are made of; a longer one would not fit the registers, and hides
what moves memory anyway."""


class Lanes:
    """Writes bodies for `width` neighbouring values of `variable`, which holds the first of them."""

    def __init__(self, writer: Writer, pointers: dict[str, Pointer], variable: str, width: int) -> None:
        self.writer = writer
        self.pointers = pointers
        self.variable = variable
        self.width = width
        self.inside: set[str] = set()

    def name(self, name: str, lane: int) -> str:
        return name if self.width == 1 else f"{name}_{lane}"

    def fix(self, text: str, lane: int) -> str:
        """The text as it reads for one element. The first one's number is a multiple of the width, so `|` adds; in a
        value it shows the compiler which elements share the block that their random bits come from."""
        if self.width == 1:
            return text
        plus = "+" if "[" in text else "|"

        def change(word: str) -> str:
            if word in self.inside:
                return f"{word}_{lane}"
            return f"({word} {plus} {lane})" if word == self.variable and lane else word

        return WORD.sub(lambda match: change(match[0]), text)

    def is_vector(self, pointer: str, index: str) -> bool:
        known = self.pointers.get(pointer)
        if self.width == 1 or known is None or not known.aligned:
            return False
        form = linear(index, self.variable)
        if any(word in self.inside for word in WORD.findall(index)):
            return False
        return form.coefficient == 1 and form.divisor % self.width == 0 and SIZES[known.dtype] * self.width <= 16

    def body(self, body: Sequence[Statement], store_if: str = "") -> None:
        """All statements; those after a check only where the index is good."""
        depth = self.writer.depth
        for statement in body:
            match statement:
                case Let(name, dtype, expr):
                    self.let(name, dtype, expr)
                case Store(pointer, index, expr):
                    if store_if:
                        self.writer.line(f"if {store_if}:")
                        with self.writer:
                            self.store(pointer, index, expr)
                    else:
                        self.store(pointer, index, expr)
                case Check():
                    open_check(self.writer, statement)
                case _:
                    raise AssertionError(f"{type(statement).__name__} inside of a loop over elements")
        self.writer.depth = depth

    def let(self, name: str, dtype: str, expr: str) -> None:
        load = split_load(expr)
        if load is not None and self.is_vector(*load):
            names = ", ".join(f"{name}_{lane}" for lane in range(self.width))
            self.writer.line(f"{names} = load{self.width}({load[0]}, {load[1]})")
        else:
            for lane in range(self.width):
                self.writer.line(f"{self.name(name, lane)} = {typed(self.fix(expr, lane), dtype)}")
        self.inside.add(name)

    def store(self, pointer: str, index: str, expr: str) -> None:
        if self.is_vector(pointer, index):
            values = ", ".join(self.fix(expr, lane) for lane in range(self.width))
            self.writer.line(f"store{self.width}({pointer}, {index}, {values})")
            return
        for lane in range(self.width):
            self.writer.line(f"{pointer}[{self.fix(index, lane)}] = {self.fix(expr, lane)}")


def has_check(body: Sequence[Statement]) -> bool:
    return any(isinstance(each, Check) for each in body)


def vector_width(body: Sequence[Statement], pointers: dict[str, Pointer], variable: str, extent: str | None) -> int:
    """How many elements a thread takes at once: as many as all vector accesses fit, one where there is none.
    `extent` is the number of values of the variable where that must be a multiple, or None where a rest is handled."""
    width = MOST_COPIES
    if has_check(body) or sum(len(DEAR.findall(text)) for each in body for text in texts(each)) > MOST_DEAR:
        return 1
    if extent is not None:
        width = math.gcd(width, int(extent)) if extent.isdigit() and int(extent) else 1
    found = 0
    assigned: set[str] = set()
    for statement in body:
        access = None
        if isinstance(statement, Let):
            access = split_load(statement.expr)
        elif isinstance(statement, Store):
            access = statement.pointer, statement.index
        if access is not None and access[0] in pointers and not assigned & set(WORD.findall(access[1])):
            form = linear(access[1], variable)
            if form.coefficient == 1 and pointers[access[0]].aligned:
                fits = math.gcd(width, form.divisor) if form.divisor else width
                fits = min(fits, VECTOR_BYTES // SIZES[pointers[access[0]].dtype])
                if fits > 1:
                    width, found = min(width, fits), found + 1
        if isinstance(statement, Let):
            assigned.add(statement.name)
    return width if found else 1
