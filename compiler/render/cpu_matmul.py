"""The matmul kernel of the CPU as text: c[batch, m, n] = a[batch, m, k] @ b[batch, k, n].

One text serves every matmul of a dtype: sizes and strides are arguments, only the shape of the register tile depends on
the target. A batch has two axes. Argument table: a, b, c (addresses), the size of the inner batch axis, m, n, k, the
strides (outer, inner, row, column) of a, those of b, those of c but for its columns, which are contiguous; strides are
in elements and may be 0 or negative. Parallel iterations are the rows of c over the batch.

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
    inner, m, n, k = extent(args, 3), extent(args, 4), extent(args, 5), extent(args, 6)
    a_outer, a_inner, a_row, a_col = extent(args, 7), extent(args, 8), extent(args, 9), extent(args, 10)
    b_outer, b_inner, b_row, b_col = extent(args, 11), extent(args, 12), extent(args, 13), extent(args, 14)
    c_outer, c_inner, c_row = extent(args, 15), extent(args, 16), extent(args, 17)
    packed = local_{dtype}({DEPTH * tiles.wide})
    edge = local_{dtype}({room})
    while start < stop:
        # the rows of one matrix of the batch
        item = start // m
        row = start - item * m
        rows = min(m - row, stop - start)
        far = item // inner
        near = item - far * inner
        runs = 1
        if m == 1 and n > 1 and a_inner == 0 and b_inner == n and b_col == 1 and c_inner == n:
            # a vector times runs of columns that follow each other
            runs = min(inner - near, stop - start)
        multiply_rows({tiles.lanes}, {tiles.vectors}, {tiles.rows}, {tiles.narrow_rows}, {DEPTH}, {DIRECT_ROWS},
                      shift(a, far * a_outer + near * a_inner + row * a_row), shift(b, far * b_outer + near * b_inner),
                      shift(c, far * c_outer + near * c_inner + row * c_row),
                      packed, edge, a_row, a_col, b_row, b_col, c_row, rows, m, n * runs, k)
        start += rows * runs
"""


def _plain_text(name: str, dtype: str) -> str:
    """Integers wrap around; a bool is whether any pair of factors is True. The sums run along whole rows of c."""
    zero = "False" if dtype == "bool" else f"{dtype}(0)"
    add = "c[place + j] or (factor and b[right + j * b_col])" if dtype == "bool" else \
        typed("c[place + j] + factor * b[right + j * b_col]", dtype)
    text = f"""\
def {name}(args, start, stop):
    a, b, c = pointer_{dtype}(args, 0), pointer_{dtype}(args, 1), pointer_{dtype}(args, 2)
    inner, m, n, k = extent(args, 3), extent(args, 4), extent(args, 5), extent(args, 6)
    a_outer, a_inner, a_row, a_col = extent(args, 7), extent(args, 8), extent(args, 9), extent(args, 10)
    b_outer, b_inner, b_row, b_col = extent(args, 11), extent(args, 12), extent(args, 13), extent(args, 14)
    c_outer, c_inner, c_row = extent(args, 15), extent(args, 16), extent(args, 17)
    for point in range(start, stop):
        item = point // m
        row = point - item * m
        far = item // inner
        near = item - far * inner
        left = far * a_outer + near * a_inner + row * a_row
        above = far * b_outer + near * b_inner
        place = far * c_outer + near * c_inner + row * c_row
        for j in range(n):
            c[place + j] = {zero}
        for p in range(k):
            factor = a[left + p * a_col]
            right = above + p * b_row
            for j in range(n):
                c[place + j] = {add}
"""
    return header(text) + text
