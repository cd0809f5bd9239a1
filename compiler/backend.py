"""What differs between devices when kernels are written: one object for each, chosen by the target.

A backend renders kernel IR, gives the texts of kernels that are no row programs (products, sorts, scatters), says how
many parallel iterations each takes, and may cut a lowered section into several.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from staticgraph.tensor import Tensor
from staticgraph.types import Size, product

from . import fission, products, specials
from .chains import RowSpace
from .columns import Sharing
from .fission import Scratch
from .kernel_ir import KernelIR, Section, Status
from .lower import Lowered
from .parameters import STYLES, BufferOf, Style
from .program import Argument, Launch
from .render import (
    cpu,
    cpu_folded,
    cpu_matmul,
    cpu_shares,
    cpu_sort,
    cuda,
    cuda_matmul,
    cuda_rows,
    cuda_scatter,
    cuda_sections,
    cuda_sort,
    cuda_tiles,
)
from .target import Target
from .views import View, reshape_strides


@dataclass(frozen=True)
class Rendered:
    """A kernel as text; `library` is the vendor's routine that may take its place."""

    name: str
    text: str
    launch: Launch | None = None
    library: str = ""


@dataclass(frozen=True)
class Call:
    """A rendered kernel with its arguments and its number of parallel iterations."""

    kernel: Rendered
    arguments: list[Argument]
    extent: Size


@dataclass(frozen=True)
class Made:
    """The call of a product, and its rows, if they may be chained."""

    call: Call
    rows: RowSpace | None = None


class Backend(Protocol):
    """See the module docstring."""

    style: Style
    sharing: Sharing
    guards_steps: bool
    most_arguments: int
    chains_steps: bool

    def render(self, kernel: KernelIR) -> Rendered: ...

    def pieces(self, lowered: Lowered, scratch: Scratch) -> list[Lowered]:
        """A lowered section as the kernels that compute it, in order."""

    def takes_columns(self, lowered: Lowered) -> bool:
        """Can sums over the rows go into this row kernel (see `columns`)?"""

    def extent(self, lowered: Lowered) -> Size:
        """Parallel iterations of a section as it is rendered here."""

    def section_length(self, length: Size) -> Size:
        """What one array of a merged kernel adds to its extent."""

    def product(self, node: Tensor, views: Sequence[View], strides: Sequence[Size] | None,
                buffer_of: BufferOf) -> Made:
        """The kernel of a product and what was absorbed into it; `strides` are its own where they are special."""

    def argsort(self, dtype: str, descending: bool) -> Rendered: ...

    def scatter(self, node: Tensor, views: Sequence[View], buffer_of: BufferOf, guard: bool) -> Lowered | Call: ...


class CpuBackend:
    """Steps run one by one and end with the first report, so that nothing needs a guard."""

    style = STYLES["cpu"]
    sharing = Sharing(cpu_shares.SHARES, cpu_shares.SHARE_ROWS, cpu_shares.PLANES)
    guards_steps = False
    most_arguments = 2**20
    chains_steps = True

    def __init__(self, target: Target, options: Mapping[str, Any]) -> None:
        self.target = target
        self.options = options

    def render(self, kernel: KernelIR) -> Rendered:
        return Rendered(kernel.name, cpu.render(kernel))

    def pieces(self, lowered: Lowered, scratch: Scratch) -> list[Lowered]:
        return fission.fission(lowered, scratch, fission.CPU)

    def takes_columns(self, lowered: Lowered) -> bool:
        return (lowered.lanes == "inner" and len(lowered.inner) == 1 and cpu_shares.keeps_columns(lowered.section)
                and fission.number_of_parts(lowered, fission.CPU) == 1)

    def extent(self, lowered: Lowered) -> Size:
        if lowered.section.columns:
            return self.sharing.count(lowered.extent)
        columns_at_once = lowered.lanes == "parallel" and cpu_folded.is_folded(lowered.section)
        return product(lowered.extents[:len(lowered.section.axes) - 1]) if columns_at_once else lowered.extent

    def section_length(self, length: Size) -> Size:
        return length

    def product(self, node: Tensor, views: Sequence[View], strides: Sequence[Size] | None,
                buffer_of: BufferOf) -> Made:
        assert node.op.name == "matmul", "nothing is absorbed on the CPU"
        left, right = views
        made = products.matrices(node, left, right, strides)
        kernel = Rendered(*cpu_matmul.render_matmul(str(node.dtype), self.target))
        return Made(Call(kernel, made.arguments(buffer_of), made.rows), made.row_space(buffer_of))

    def argsort(self, dtype: str, descending: bool) -> Rendered:
        return Rendered(*cpu_sort.render_argsort(dtype, descending))

    def scatter(self, node: Tensor, views: Sequence[View], buffer_of: BufferOf, guard: bool) -> Lowered | Call:
        return specials.scatter(node, views, buffer_of, self.style)


class CudaBackend:
    """All steps are launched at once; those after a check look at the status first."""

    style = STYLES["cuda"]
    sharing = Sharing(cuda_rows.SHARES)
    guards_steps = True
    chains_steps = False    # a whole step is one launch of many blocks
    most_arguments = 128    # more of them in one kernel do not fit its registers

    def __init__(self, target: Target, options: Mapping[str, Any]) -> None:
        self.target = target
        self.options = options

    def render(self, kernel: KernelIR) -> Rendered:
        # Symbols of PTX are ASCII; names of ops, which are in the kernel's, need not be.
        name = re.sub(r"[^ -~]", lambda letter: f"u{ord(letter[0]):x}", kernel.name)
        return Rendered(name, *cuda.render(replace(kernel, name=name)))

    def pieces(self, lowered: Lowered, scratch: Scratch) -> list[Lowered]:
        return fission.fission(lowered, scratch, fission.GPU)

    def takes_columns(self, lowered: Lowered) -> bool:
        return lowered.lanes == "inner" and fission.number_of_parts(lowered, fission.GPU) == 1 and cuda.is_cooperative(
            lowered.section) and cuda_rows.keeps_columns(lowered.section)

    def extent(self, lowered: Lowered) -> Size:
        section = lowered.section
        if not cuda.is_elementwise(section.body):
            return lowered.extent
        if cuda_tiles.is_transposed(section):
            return cuda_tiles.tile_count(lowered.extents)
        return product(lowered.extents)

    def section_length(self, length: Size) -> Size:
        return cuda_sections.rounded(length)

    def product(self, node: Tensor, views: Sequence[View], strides: Sequence[Size] | None,
                buffer_of: BufferOf) -> Made:
        assert strides is None, "products are contiguous here"
        batch = product(node.shape[:-2])
        m, n, k = node.shape[-2], node.shape[-1], node.inputs[0].shape[-1]
        dtype, size = str(node.dtype), node.dtype.itemsize
        activation = node.attrs.get("activation", "")
        epilogue = (*(("bias",) if len(views) > 2 else ()), *((activation,) if activation else ()))
        library = ""
        if dtype.startswith("float"):
            tf32 = ("tf32",) if self.options.get("tf32") and dtype == "float32" else ()
            library = ":".join(("matmul", *tf32, *epilogue))
        places = [Argument("buffer", buffer_of(view.base), view.offset * size) for view in views]
        sizes = [batch, m, n, k, *(stride for operand, view in zip(node.inputs[:2], views)
                                   for stride in _matrix_strides(operand, view))]
        arguments = [*places[:2], Argument("buffer", buffer_of(node)), *(Argument("size", each) for each in sizes),
                     *places[2:]]
        rendered = Rendered(*cuda_matmul.render_matmul(dtype, epilogue), library)
        return Made(Call(rendered, arguments, cuda_matmul.tile_count(batch, m, n)))

    def argsort(self, dtype: str, descending: bool) -> Rendered:
        return Rendered(*cuda_sort.render_argsort(dtype, descending))

    def scatter(self, node: Tensor, views: Sequence[View], buffer_of: BufferOf, guard: bool) -> Lowered | Call:
        axis = node.attrs["axis"]
        along = node.op.name == "scatter_add_along"
        size = node.shape[axis]
        before, after = product(node.shape[:axis]), product(node.shape[axis + 1:])
        count = node.inputs[1].shape[axis] if along else node.inputs[1].size
        part = cuda_scatter.part_length(size, before, after)
        places = [Argument("buffer", buffer_of(view.base), view.offset * view.base.dtype.itemsize) for view in views]
        sizes = [Argument("size", each) for each in (size, after, count, part)]
        status = [Argument("status")] if guard else []
        return Call(Rendered(*cuda_scatter.render_scatter(str(node.dtype), along, guard)),
                    [*places, Argument("buffer", buffer_of(node)), *sizes, *status],
                    cuda_scatter.thread_count(size, before, after))


def _matrix_strides(operand: Tensor, view: View) -> list[Size]:
    """Of the joined batch axes, rows and columns."""
    batch = reshape_strides(operand.shape[:-2], view.strides[:-2], (product(operand.shape[:-2]),))
    return [batch[0] if batch else 0, view.strides[-2], view.strides[-1]]


BACKENDS: dict[str, type[CpuBackend] | type[CudaBackend]] = {"cpu": CpuBackend, "cuda": CudaBackend}


def backend_for(target: Target, options: Mapping[str, Any]) -> Backend:
    return BACKENDS[target.device](target, options)


def guarded(lowered: Lowered) -> Lowered:
    """The section with the status among its parameters."""
    section = lowered.section
    if any(isinstance(each, Status) for each in section.parameters):
        return lowered
    wider = Section((*section.parameters, Status()), section.axes, section.body, section.count, section.prelude)
    return replace(lowered, section=wider, arguments=[*lowered.arguments, Argument("status")])
