"""The matmul kernel of the CPU as text: c[batch, m, n] = a[batch, m, k] @ b[batch, k, n].

One text serves every matmul of a dtype: sizes and strides are arguments, only the shape of the register tile depends on
the target. Argument table: a, b, c (addresses), batch, m, n, k, the strides (batch, row, column) of a and those of b,
in elements; strides may be 0 or negative. c is contiguous. Parallel iterations are the rows of c over all batches.

Invariant: an element of c is the sum over blocks of DEPTH steps of k, each block one chain of multiply-adds in the
order of k (products with a vector where both run along k: one chain for each lane). Nothing in it depends on `start`
and `stop`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..target import Target
from .cpu_text import header, typed

DEPTH = 512
"""Steps of k in one packed panel of b: with WIDE columns it fits the second level of cache beside a block of a."""

DIRECT_ROWS = 24
"""With fewer rows than this a panel of b is read where it lies, if that is possible: packing would not pay."""

FLOATS = {"float32": 4, "float64": 8}


@dataclass(frozen=True)
class Tiles:
    """Register tiles: rows x vectors of `lanes` elements for wide panels, rows x one vector for narrow ones."""

    lanes: int
    rows: int
    vectors: int
    narrow_rows: int

    @property
    def wide(self) -> int:
        return self.vectors * self.lanes


def tiles_of(dtype: str, target: Target) -> Tiles:
    """As many sums as registers allow, beside one row of b and a factor of a: 32 registers with AVX-512 and NEON, else
    16."""
    lanes = max(2, target.vector_bytes // FLOATS[dtype])
    if target.vector_bytes >= 64 or "+neon" in target.features:
        return Tiles(lanes, 6, 4, 12)
    return Tiles(lanes, 6, 2, 12)


def render_matmul(dtype: str, target: Target) -> tuple[str, str]:
    """(name, text) of the kernel."""
    name = f"matmul_{dtype}"
    return name, _float_text(name, dtype, tiles_of(dtype, target)) if dtype in FLOATS else _plain_text(name, dtype)


def _float_text(name: str, dtype: str, tiles: Tiles) -> str:
    room = max(tiles.rows * tiles.wide, tiles.narrow_rows * tiles.lanes)
    return f"""\
from staticgraph.runtime.cpu.language import extent, local_{dtype}, multiply_rows, pointer_{dtype}, shift


def {name}(args, start, stop):
    a, b, c = pointer_{dtype}(args, 0), pointer_{dtype}(args, 1), pointer_{dtype}(args, 2)
    m, n, k = extent(args, 4), extent(args, 5), extent(args, 6)
    a_batch, a_row, a_col = extent(args, 7), extent(args, 8), extent(args, 9)
    b_batch, b_row, b_col = extent(args, 10), extent(args, 11), extent(args, 12)
    packed = local_{dtype}({DEPTH * tiles.wide})
    edge = local_{dtype}({room})
    while start < stop:
        # the rows of one matrix of the batch
        item = start // m
        row = start - item * m
        rows = min(m - row, stop - start)
        multiply_rows({tiles.lanes}, {tiles.vectors}, {tiles.rows}, {tiles.narrow_rows}, {DEPTH}, {DIRECT_ROWS},
                      shift(a, item * a_batch + row * a_row), shift(b, item * b_batch), shift(c, start * n),
                      packed, edge, a_row, a_col, b_row, b_col, n, rows, m, n, k)
        start += rows
"""


def _plain_text(name: str, dtype: str) -> str:
    """Integers wrap around; a bool is whether any pair of factors is True. The sums run along whole rows of c."""
    zero = "False" if dtype == "bool" else f"{dtype}(0)"
    add = "c[place + j] or (factor and b[right + j * b_col])" if dtype == "bool" else \
        typed("c[place + j] + factor * b[right + j * b_col]", dtype)
    text = f"""\
def {name}(args, start, stop):
    a, b, c = pointer_{dtype}(args, 0), pointer_{dtype}(args, 1), pointer_{dtype}(args, 2)
    m, n, k = extent(args, 4), extent(args, 5), extent(args, 6)
    a_batch, a_row, a_col = extent(args, 7), extent(args, 8), extent(args, 9)
    b_batch, b_row, b_col = extent(args, 10), extent(args, 11), extent(args, 12)
    for row in range(start, stop):
        item = row // m
        left = item * a_batch + (row - item * m) * a_row
        place = row * n
        for j in range(n):
            c[place + j] = {zero}
        for p in range(k):
            factor = a[left + p * a_col]
            right = item * b_batch + p * b_row
            for j in range(n):
                c[place + j] = {add}
"""
    return header(text) + text
