"""Products of matrices as a CPU runs them: strides in, the arguments of the kernel out.

Batch axes are read where they lie: those of both operands and of the result are joined where they follow each other
without a gap in all three, and the kernel goes through the two that may be left (the heads of attention, and the
sequences). A product whose only use is a permutation that would have to be written out is written in that order at
once (`written_as`). What is left to copies: three batch axes or more that cannot be joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from staticgraph.tensor import Tensor
from staticgraph.types import Shape, Size, product

from .chains import RowSpace, Touch
from .parameters import BufferOf
from .program import Argument
from .views import View, collapse, contiguous_strides, is_one

MOST_BATCH_AXES = 2
"""Batch axes of a kernel."""

RUNS = (512, 256, 128)
"""Columns that are long enough to be read as runs of memory, a thread each."""

Strides = Sequence[Size]


def written_as(node: Tensor, view: Tensor) -> tuple[Size, ...] | None:
    """Strides of a product in the buffer of a permutation of it; None where neither its rows nor its columns would be
    contiguous."""
    axes = view.attrs["axes"] if view.op.name == "permute_dims" else ()
    if node.op.name != "matmul" or not axes or axes[-1] < node.ndim - 2:
        return None
    strides: list[Size] = [0] * node.ndim
    for axis, stride in zip(axes, contiguous_strides(view.shape), strict=True):
        strides[axis] = stride
    return tuple(strides)


def batch_axes(shape: Shape, *strides: Strides) -> tuple[list[Size], list[list[Size]]]:
    """The batch axes of a product and their strides in each of its matrices, joined."""
    return collapse(shape[:-2], *(each[:-2] for each in strides))


@dataclass(frozen=True, eq=False)
class Matrices:
    """A product as its kernel sees it: m x k times k x n for each point of at most two batch axes (`sizes`). Strides
    are those of the batch axes, then of rows and columns."""

    sizes: tuple[Size, ...]
    m: Size
    n: Size
    k: Size
    a: tuple[Size, ...]
    b: tuple[Size, ...]
    c: tuple[Size, ...]
    left: View
    right: View
    result: Tensor

    @property
    def rows(self) -> Size:
        return product(self.sizes) * self.m

    def arguments(self, buffer_of: BufferOf) -> list[Argument]:
        """See `render.cpu_matmul`."""
        size = self.result.dtype.itemsize
        places = [Argument("buffer", buffer_of(view.base), view.offset * size) for view in (self.left, self.right)]
        inner = self.sizes[-1] if self.sizes else 1
        strides = [stride for own in (self.a, self.b, self.c) for stride in (0,) * (4 - len(own)) + own]
        return [*places, Argument("buffer", buffer_of(self.result)),
                *(Argument("size", each) for each in (inner, self.m, self.n, self.k, *strides[:-1]))]

    def row_space(self, buffer_of: BufferOf) -> RowSpace:
        """The rows of the result are made of the same rows of the left matrix and all of the right one."""
        left = Touch(buffer_of(self.left.base), self.a[:-1] if self.left.offset == 0 else None, self.left.base.size)
        return RowSpace((*self.sizes, self.m), (left, Touch(buffer_of(self.result), self.c[:-1], self.result.size),
                                                Touch(buffer_of(self.right.base), None, self.right.base.size)))


def matrices(node: Tensor, left: View, right: View, strides: Strides | None) -> Matrices:
    """The product as its kernel sees it; `strides` are those of the result if it is not contiguous.

    It is turned into ``b.T @ a.T`` where the columns of the result are not contiguous but its rows are, and where a
    single row has columns of b to share that lie along k. A vector times a matrix whose rows are contiguous goes by
    runs of them.
    """
    own = contiguous_strides(node.shape) if strides is None else tuple(strides)
    sizes, (a, b, c) = batch_axes(node.shape, left.strides, right.strides, own)
    m, n, k = node.shape[-2], node.shape[-1], node.inputs[0].shape[-1]
    a, b, c = ([*some, *every[-2:]] for some, every in ((a, left.strides), (b, right.strides), (c, own)))
    plain = Matrices(tuple(sizes), m, n, k, tuple(a), tuple(b), tuple(c), left, right, node)
    turned = Matrices(tuple(sizes), n, m, k, _turned(b), _turned(a), _turned(c), right, left, node)
    if not sizes and is_one(m) is not is_one(n):
        row = plain if is_one(m) else turned
        if is_one(row.b[1]) and is_one(row.c[1]):
            return _by_runs(row)
        return turned if is_one(m) and is_one(b[0]) else plain
    return plain if is_one(c[-1]) else turned


def _turned(strides: Sequence[Size]) -> tuple[Size, ...]:
    *batch, row, column = strides
    return (*batch, column, row)


def _by_runs(row: Matrices) -> Matrices:
    """A row times a matrix, as a batch of such products for runs of its columns if their number is known."""
    if isinstance(row.n, int) and row.n:
        width = next((run for run in RUNS if row.n % run == 0 and row.n > run), row.n)
        return replace(row, sizes=(row.n // width,), n=width, a=(0, *row.a), b=(width, *row.b), c=(width, *row.c))
    return row
