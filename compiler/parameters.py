"""The parameters of a kernel while it is written, and how scalars read in its text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from staticgraph.tensor import Tensor
from staticgraph.types import Size

from .kernel_ir import Extent, Parameter, Pointer, Status
from .program import Argument

VECTOR_BYTES = 16
"""The widest access to memory of a GPU thread; every buffer starts at a multiple."""


@dataclass(frozen=True)
class Style:
    """What a device wants of the text of its kernels. Static sizes up to `literal` are written into the text, those of
    rows that are reduced up to `row`; `parks`: expensive values are stored in an output row and read back rather than
    computed again in a later loop over the row."""

    literal: int = 16
    row: int = 512
    parks: bool = True


STYLES = {"cpu": Style(), "cuda": Style(literal=2**30, row=2**30, parks=False)}
"""By device. A CPU shares kernels between sizes and finds a row in its cache; on a GPU sizes in the text decide how
threads are laid out and what is aligned, and arithmetic is cheaper than memory."""

BufferOf = Callable[[Tensor], int]
"""The number of the buffer that holds a node's value."""


class Parameters:
    """Collects pointers and extents in order of first use; the slot of each is its position.

    Static sizes up to `largest_literal` are written into the text, where they let loops be unrolled; larger ones are
    arguments, so that programs that differ in nothing else share one kernel.
    """

    def __init__(self, buffer_of: BufferOf, style: Style) -> None:
        self.buffer_of = buffer_of
        self.largest_literal = style.literal
        self.parameters: list[Parameter] = []
        self.arguments: list[Argument] = []
        self.names: dict[Any, str] = {}

    def pointer(self, base: Tensor, offset: Size, access: str) -> str:
        # One pointer a place in memory, also when it is read and written: then loops over it need no overlap test.
        buffer = self.buffer_of(base)
        key = ("pointer", buffer, offset)
        name = self.names.get(key)
        if name is None:
            letter = "x" if access == "read" else "y"
            name = f"{letter}{sum(isinstance(each, Pointer) and each.name[0] == letter for each in self.parameters)}"
            start = offset * base.dtype.itemsize
            aligned = isinstance(start, int) and start % VECTOR_BYTES == 0
            self._add(key, Pointer(name, str(base.dtype), access, aligned), Argument("buffer", buffer, start))
        for slot, each in enumerate(self.parameters):
            if each.name == name and isinstance(each, Pointer) and each.access not in (access, "readwrite"):
                self.parameters[slot] = replace(each, access="readwrite")
        return name

    def extent(self, size: Size, literal: bool = True) -> str:
        """The size as a literal, or the name of an extent argument."""
        if isinstance(size, int) and literal and abs(size) <= self.largest_literal:
            return str(size)
        key = ("extent", size)
        if key not in self.names:
            name = f"n{sum(isinstance(each, Extent) for each in self.parameters)}"
            self._add(key, Extent(name), Argument("size", size))
        return self.names[key]

    def status(self) -> str:
        if "status" not in self.names:
            self._add("status", Status(), Argument("status"))
        return self.names["status"]

    def check(self, number: int) -> str:
        """The number of a check as an argument, so that the text does not depend on the program around it."""
        key = ("check", number)
        if key not in self.names:
            self._add(key, Extent(f"check{sum(str(each.name).startswith('check') for each in self.parameters)}"),
                      Argument("size", number))
        return self.names[key]

    def _add(self, key: Any, parameter: Parameter, argument: Argument) -> None:
        self.names[key] = parameter.name
        self.parameters.append(parameter)
        self.arguments.append(argument)


def literal(value: np.ndarray[Any, Any]) -> str:
    """A scalar constant in the kernel language, carrying its dtype."""
    item = value.reshape(()).item()
    dtype = str(value.dtype)
    if dtype == "bool":
        return str(bool(item))
    if value.dtype.kind == "f":
        number = "nan" if item != item else "inf" if item == np.inf else "-inf" if item == -np.inf else None
        if number is None:
            number = str(value.reshape(()).astype(value.dtype)) if dtype == "float32" else repr(item)
        return f"{dtype}({number})"
    return f"{dtype}({item})"


def index_sum(terms: Sequence[tuple[str, str]]) -> str:
    """``row * 10 + j`` from (variable, stride) pairs."""
    parts = [variable if stride == "1" else f"{variable} * {stride}" for variable, stride in terms if stride != "0"]
    return " + ".join(parts) if parts else "0"


def cast(text: str, source: np.dtype[Any], target: np.dtype[Any]) -> str:
    """Conversion of a scalar between dtypes."""
    if target == np.dtype(bool):
        return text if source == target else f"{text} != 0"
    return f"{target}({text})"
