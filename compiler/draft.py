"""Drafts: steps whose kernels are written, before their order is settled and buffers have addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from staticgraph.tensor import Tensor
from staticgraph.types import Size

from .backend import Rendered
from .chains import RowSpace
from .program import Argument


@dataclass(eq=False)
class Draft:
    """One of them; see the module docstring. `work` is the rough count of elements that decisions are made by, `flops`
    what its nodes cost. `why` is a code of `reasons` for a step that goes on with what an earlier one made."""

    kernel: Rendered
    arguments: list[Argument]
    extent: Size
    stage: str
    writes: frozenset[int]
    nodes: list[Tensor]
    work: Size = 0
    flops: Size = 0
    ir: str = ""
    rows: RowSpace | None = None
    is_product: bool = False
    reports: bool = False
    why: str = ""

    def redirected(self, buffers: Mapping[int, int]) -> Draft:
        """The step on other buffers; those that are not named stay."""
        arguments = [replace(each, value=buffers.get(int(str(each.value)), each.value)) if each.kind == "buffer"
                     else each for each in self.arguments]
        rows = self.rows and RowSpace(self.rows.extents, tuple(
            replace(touch, buffer=buffers.get(touch.buffer, touch.buffer)) for touch in self.rows.touches))
        return replace(self, arguments=arguments, rows=rows,
                       writes=frozenset(buffers.get(each, each) for each in self.writes))

    @cached_property
    def reads(self) -> frozenset[int]:
        """Whatever it touches: a result may be made of what was in its place."""
        return frozenset(int(str(argument.value)) for argument in self.arguments if argument.kind == "buffer")
