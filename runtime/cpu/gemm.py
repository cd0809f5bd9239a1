"""Matrix multiplication in registers, as one leaf of the kernel language: `multiply_rows`.

  tile        rows x (vectors * lanes) of the product, kept in registers over a run of k
  panel       all rows times one panel of the right matrix, tile by tile
  pack        a panel copied row by row, its columns contiguous and filled up to whole vectors
  dot         rows times a vector, when both run along k in memory
  stream      a vector times a matrix whose rows are long runs of memory
  rows        the blocks of k and the panels of columns, and which of the ways above a product goes

Shapes of tiles and blocks are literals, so the kernel text decides on registers and caches. All but the tile, the dot
products and the stream are compiled for size: what takes time is written with vectors already, and LLVM need not
look for more.

An element of a tile is one chain of multiply-adds in the order of k, whatever the shape of the tile, and which other
way a product goes depends on the sizes of the matrices only: no result depends on how the rows were cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..mathematics.emit import Value, select
from .vectors import (
    INT32,
    INT64,
    Carried,
    Fill,
    Vectors,
    calling,
    counted,
    element_of,
    internal,
    literals,
    move,
    number,
    smaller,
    sums_in_registers,
)

STREAMED_ROWS = 8
"""Rows of a matrix that a stream adds up at a time: its sums are loaded and stored once for all of them."""


def fill_tile(element: Any, rows: int, vectors: int, lanes: int) -> Fill:
    """c[count, columns] = (0 if first else c) + a[count, depth] @ b[depth, columns], depth >= 1, 1 <= count <= rows and
    columns within the last of the vectors.

    All rows are computed; those beyond `count` repeat the last one. Rows of b are whole vectors, but where a tile is a
    single vector no more than `columns` is read of them.
    """

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        a, b, c = arguments[0], arguments[1], arguments[2]
        a_row, a_col, count, b_row, c_row, depth, first, columns = (Value(builder, raw) for raw in arguments[3:])
        vector = Vectors(builder, element, lanes)
        mask = vector.mask(columns - (vectors - 1) * lanes)
        offsets = [smaller(number(builder, row), count - 1) * a_row for row in range(rows)]

        def turn(step: Value) -> tuple[Iterable[Any], Sequence[Any], Iterable[Carried]]:
            left, right = builder.phi(a.type), builder.phi(b.type)
            if vectors == 1:
                factors = [vector.masked_load(right, mask, vector.fill(0.0))]
            else:
                factors = [vector.load(move(right, number(builder, v * lanes))) for v in range(vectors)]
            onward = ((phi, start, move(phi, by)) for phi, start, by in ((left, a, a_col), (right, b, b_row)))
            return (move(left, offset) for offset in offsets), factors, onward

        totals = sums_in_registers(vector, rows, vectors, depth, "k", turn)
        _store_tile(vector, totals, c, c_row, count, first, columns, mask)

    return fill


def _store_tile(vector: Vectors, totals: Sequence[Sequence[Any]], c: Any, c_row: Value, count: Value, first: Value,
                columns: Value, mask: Any) -> None:
    """Add the sums of a tile to c, or start it. Where vectors are narrow, masks are dear, and a full tile does without.
    """
    builder, lanes = vector.builder, vector.lanes
    fresh = first.differs(0).raw
    nothing = vector.fill(-0.0)     # x + -0.0 is x, also for zeros

    def rows(masked: bool) -> None:
        for row, line in enumerate(totals):
            with builder.if_then((count > row).raw):
                for v, total in enumerate(line):
                    spot = move(c, c_row * row + v * lanes)
                    if masked and v == len(line) - 1:
                        old = builder.and_(mask, vector.splat(first.equals(0).raw))
                        before = vector.masked_load(spot, old, nothing)
                        vector.masked_store(builder.fadd(before, total), spot, mask)
                    else:
                        before = builder.select(fresh, nothing, vector.load(spot))
                        vector.store(builder.fadd(before, total), spot)

    if len(totals[0]) == 1 and lanes * vector.bits == 512:
        rows(masked=True)
        return
    with builder.if_else(columns.equals(len(totals[0]) * lanes).raw) as (full, partial):
        with full:
            rows(masked=False)
        with partial:
            rows(masked=True)


def fill_transpose(element: Any, lanes: int) -> Fill:
    """target[k, j] = source[j, k] for a block of lanes x lanes: log2(lanes) rounds of interleaving row i with row
    i + lanes/2, each of which moves one bit of the row number into the column number."""
    half = lanes // 2
    order = [[lane // 2 + start + lanes * (lane % 2) for lane in range(lanes)] for start in (0, half)]
    low, high = (ir.Constant(ir.VectorType(INT32, lanes), lane) for lane in order)

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        source, target = arguments[:2]
        source_row, target_row = (Value(builder, raw) for raw in arguments[2:])
        vector = Vectors(builder, element, lanes)
        rows = [vector.load(move(source, source_row * row)) for row in range(lanes)]
        for _ in range(lanes.bit_length() - 1):
            rows = [builder.shuffle_vector(rows[row // 2], rows[row // 2 + half], high if row % 2 else low)
                    for row in range(lanes)]
        for row, value in enumerate(rows):
            vector.store(value, move(target, target_row * row))

    return fill


def fill_pack_elements() -> Fill:
    """target[p, j] = source[p, j] for start <= p < steps, first <= j < width, one by one; 0 where j >= columns."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        target, source = arguments[:2]
        row, col, start, steps, first, width, columns = (Value(builder, raw) for raw in arguments[2:])
        zero = ir.Constant(target.type.pointee, 0.0)
        one = number(builder, 1)
        with counted(start, steps, one) as p, counted(first, width, one) as j:
            value = builder.load(move(source, p * row + smaller(j, columns - 1) * col))
            builder.store(builder.select((j < columns).raw, value, zero), move(target, p * width + j))

    return fill


def fill_pack(element: Any, lanes: int) -> Fill:
    """target[p, j] = source[p, j] for p < steps, j < columns, and 0 for columns <= j < width, a multiple of lanes."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        target, source = arguments[:2]
        row, col, steps, width, columns = (Value(builder, raw) for raw in arguments[2:])
        module, pointer = builder.module, target.type
        vector, one, zero = Vectors(builder, element, lanes), number(builder, 1), number(builder, 0)
        turn = internal(module, f"transpose_block_{lanes}_{vector.bits}", [pointer] * 2 + [INT64] * 2,
                        fill_transpose(element, lanes), small=False)
        single = internal(module, f"pack_elements_{vector.bits}", [pointer] * 2 + [INT64] * 7, fill_pack_elements())

        def one_by_one(*limits: Value) -> None:
            builder.call(single, [target, source, *(limit.raw for limit in (row, col, *limits, columns))])

        with builder.if_else(col.equals(1).raw) as (contiguous, scattered):
            with contiguous, counted(zero, steps, one) as p, counted(zero, width, number(builder, lanes)) as j:
                value = vector.masked_load(move(source, p * row + j), vector.mask(columns - j), vector.fill(0.0))
                vector.store(value, move(target, p * width + j))
            with scattered, builder.if_else(row.equals(1).raw) as (transposed, general):
                with transposed:
                    done, across = steps & -lanes, columns & -lanes
                    each = number(builder, lanes)
                    with counted(zero, across, each) as j, counted(zero, done, each) as p:
                        block = [move(source, j * col + p), move(target, p * width + j), col.raw, width.raw]
                        builder.call(turn, block)
                    one_by_one(done, steps, zero, width)
                    one_by_one(zero, done, across, width)
                with general:
                    one_by_one(zero, steps, zero, width)

    return fill


def fill_panel(element: Any, lanes: int, vectors: int, height: int, narrow_height: int) -> Fill:
    """c[rows, columns] = (0 if first else c) + a[rows, depth] @ b[depth, columns]: tiles of one vector if columns fit
    one, else of `vectors`, of which the last one may be partly used."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        a, b, c = arguments[:3]
        a_row, a_col, rows, b_row, c_row, depth, columns, first = (Value(builder, raw) for raw in arguments[3:])
        kinds, bits = [a.type] * 3 + [INT64] * 8, Vectors(builder, element, lanes).bits

        def tile(tile_rows: int, tile_vectors: int) -> ir.Function:
            name = f"multiply_tile_{tile_rows}x{tile_vectors}x{lanes}_{bits}"
            return internal(builder.module, name, kinds, fill_tile(element, tile_rows, tile_vectors, lanes), False)

        wide = columns > lanes
        step = select(wide, number(builder, height), narrow_height)
        with counted(number(builder, 0), rows, step) as i:
            count = smaller(rows - i, step)
            operands = [move(a, i * a_row), b, move(c, i * c_row), a_row.raw, a_col.raw, count.raw, b_row.raw,
                        c_row.raw, depth.raw, first.raw, columns.raw]
            with builder.if_else(wide.raw) as (is_wide, is_narrow):
                with is_wide, builder.if_else(count.equals(1).raw) as (is_single, is_full):
                    with is_single:
                        builder.call(tile(1, vectors), operands)
                    with is_full:
                        builder.call(tile(height, vectors), operands)
                with is_narrow:
                    builder.call(tile(narrow_height, 1), operands)

    return fill


def fill_dot(element: Any, lanes: int, height: int) -> Fill:
    """c[i] = a[i, :] . b for i < rows, a and b contiguous along k: `height` rows at once, each with one vector of sums;
    the last vector of k is loaded under a mask. `edge` has room for the results of a tile."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        a, b, c, edge = arguments[:4]
        a_row, c_row, rows, k = (Value(builder, raw) for raw in arguments[4:])
        vector, zero, one = Vectors(builder, element, lanes), number(builder, 0), number(builder, 1)
        sums = [builder.alloca(vector.kind) for _ in range(height)]
        with counted(zero, rows, number(builder, height)) as i:
            count = smaller(rows - i, number(builder, height))
            lefts = [move(a, (i + smaller(number(builder, row), count - 1)) * a_row) for row in range(height)]
            for total in sums:
                builder.store(vector.fill(0.0), total)
            whole = k & -lanes
            with counted(zero, whole, number(builder, lanes)) as p:
                right = vector.load(move(b, p))
                for left, total in zip(lefts, sums):
                    builder.store(vector.multiply_add(vector.load(move(left, p)), right, builder.load(total)), total)
            with builder.if_then((whole < k).raw):
                mask, nothing = vector.mask(k - whole), vector.fill(0.0)
                right = vector.masked_load(move(b, whole), mask, nothing)
                for left, total in zip(lefts, sums):
                    last = vector.masked_load(move(left, whole), mask, nothing)
                    builder.store(vector.multiply_add(last, right, builder.load(total)), total)
            for row, total in enumerate(sums):
                builder.store(vector.sum(builder.load(total)), move(edge, number(builder, row)))
            with counted(zero, count, one) as r:
                builder.store(builder.load(move(edge, r)), move(c, (i + r) * c_row))

    return fill


def fill_stream(element: Any, lanes: int, depth: int, width: int) -> Fill:
    """c[j] = a . b[:, j] for j < columns, rows of b contiguous: blocks of `depth` rows, each of them chains of
    multiply-adds in the order of k that lie in `sums` (room for `width` elements)."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        a, b, c, sums = arguments[:4]
        a_col, b_row, columns, k = (Value(builder, raw) for raw in arguments[4:])
        vector, zero, one = Vectors(builder, element, lanes), number(builder, 0), number(builder, 1)
        each, height = number(builder, lanes), number(builder, STREAMED_ROWS)
        nothing = vector.fill(0.0)

        def add(j: Value, spots: Sequence[Any], count: Value, factors: Sequence[Any], fresh: Any) -> None:
            """A vector of columns of some rows; those beyond `columns` are not touched."""
            mask = vector.mask(count - j)
            place = move(sums, j)
            total = builder.select(fresh, nothing, vector.load(place))
            for factor, spot in zip(factors, spots):
                total = vector.multiply_add(factor, vector.masked_load(move(spot, j), mask, nothing), total)
            vector.store(total, place)

        with counted(zero, columns, number(builder, width)) as first, counted(zero, k, number(builder, depth)) as start:
            count = smaller(columns - first, number(builder, width))
            stop = smaller(k, start + depth)
            whole = start + ((stop - start) & -STREAMED_ROWS)

            def several(p: Value, rows: int) -> None:
                factors = [vector.splat(builder.load(move(a, (p + row) * a_col))) for row in range(rows)]
                spots = [move(b, (p + row) * b_row + first) for row in range(rows)]
                with counted(zero, count, each) as j:
                    add(j, spots, count, factors, p.equals(start).raw)

            with counted(start, whole, height) as p:
                several(p, STREAMED_ROWS)
            with counted(whole, stop, one) as p:
                several(p, 1)
            with counted(zero, count, each) as j:
                mask, spot = vector.mask(count - j), move(c, first + j)
                old = builder.and_(mask, vector.splat(start.differs(0).raw))
                before = vector.masked_load(spot, old, vector.fill(-0.0))
                vector.masked_store(builder.fadd(before, vector.load(move(sums, j))), spot, mask)

    return fill


def fill_rows(element: Any, lanes: int, vectors: int, height: int, narrow_height: int, depth: int, direct: int) -> Fill:
    """c[rows, n] = a[rows, k] @ b[k, n] for some rows of a matrix of m, in blocks of `depth` steps of k.

    Panels of b are read where they lie, if they are contiguous, when packing would not pay: with fewer than `direct`
    rows, or when a panel is no longer in memory than a packed one would be. What is left of the columns beside whole
    wide panels goes through narrow ones, unless it nearly fills a wide one."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        a, b, c, packed, edge = arguments[:5]
        a_row, a_col, b_row, b_col, c_row, rows, m, n, k = (Value(builder, raw) for raw in arguments[5:])
        module, pointer, bits = builder.module, a.type, Vectors(builder, element, lanes).bits
        zero, one, wide = number(builder, 0), number(builder, 1), vectors * lanes
        pack = internal(module, f"pack_panel_{lanes}_{bits}", [pointer] * 2 + [INT64] * 5, fill_pack(element, lanes))
        panel = internal(module, f"multiply_panel_{lanes}_{bits}", [pointer] * 3 + [INT64] * 8,
                         fill_panel(element, lanes, vectors, height, narrow_height))
        dot = internal(module, f"dot_rows_{lanes}_{bits}", [pointer] * 4 + [INT64] * 4,
                       fill_dot(element, lanes, 8), small=False)
        stream = internal(module, f"stream_rows_{lanes}_{bits}", [pointer] * 4 + [INT64] * 4,
                          fill_stream(element, lanes, depth, depth * wide // 4), small=False)
        with builder.if_then(k.equals(0).raw), counted(zero, rows, one) as i, counted(zero, n, one) as j:
            builder.store(ir.Constant(element, 0.0), move(c, i * c_row + j))

        # A single column: dot products along k, else as a row, c.T = b.T @ a.T; a single row likewise.
        column, row = n.equals(1), m.equals(1)
        along = b_row.equals(1) & a_col.equals(1)
        across = (column & a_row.equals(1) & c_row.equals(1)) | (row & b_col.equals(1))
        with builder.if_else((along & (column | row)).raw) as (dot_way, other_way):
            with dot_way:
                first, second = builder.select(column.raw, a, b), builder.select(column.raw, b, a)
                strides = (select(column, a_row, b_col), select(column, c_row, one), select(column, rows, n), k)
                builder.call(dot, [first, second, c, edge, *(each.raw for each in strides)])
            with other_way, builder.if_else(across.raw) as (stream_way, matrix_way):
                with stream_way:
                    first, second = builder.select(row.raw, a, b), builder.select(row.raw, b, a)
                    strides = (select(row, a_col, b_row), select(row, b_row, a_col), select(row, n, rows), k)
                    builder.call(stream, [first, second, c, packed, *(each.raw for each in strides)])
                with matrix_way:
                    whole = n & -wide
                    whole = select(n - whole > wide - lanes, whole + wide, whole)
                    with counted(zero, k, number(builder, depth)) as start:
                        steps = smaller(k - start, number(builder, depth))
                        left = move(a, start * a_col)

                        def one_panel(j: Value, width: int) -> None:
                            columns, right = smaller(n - j, number(builder, width)), move(b, start * b_row + j * b_col)
                            partial = columns < width if width > lanes else zero.differs(0)
                            packing = b_col.differs(1) | partial | ((rows >= direct) & (b_row > 2 * wide))
                            with builder.if_then(packing.raw):
                                copied = (b_row, b_col, steps, number(builder, width), columns)
                                builder.call(pack, [packed, right, *(each.raw for each in copied)])
                            right = builder.select(packing.raw, packed, right)
                            sizes = (a_row, a_col, rows, select(packing, number(builder, width), b_row), c_row, steps,
                                     columns)
                            fresh = builder.zext(start.equals(0).raw, INT64)
                            builder.call(panel, [left, right, move(c, j), *(size.raw for size in sizes), fresh])

                        with counted(zero, whole, number(builder, wide)) as j:
                            one_panel(j, wide)
                        with counted(whole, n, number(builder, lanes)) as j:
                            one_panel(j, lanes)

    return fill


@intrinsic(prefer_literal=True)
def multiply_rows(context: Any, lanes: Any, vectors: Any, height: Any, narrow_height: Any, depth: Any, direct: Any,
                  a: Any, b: Any, c: Any, packed: Any, edge: Any, a_row: Any, a_col: Any, b_row: Any, b_col: Any,
                  c_row: Any, rows: Any, m: Any, n: Any, k: Any) -> Any:
    """c[rows, n] = a[rows, k] @ b[k, n], some of the m rows of a product; the columns of c are contiguous.

    Register tiles are height x (vectors * lanes), or narrow_height x lanes for the last columns; blocks of k have
    `depth` steps; below `direct` rows b is not packed. `packed` has room for a block of a panel and a vector, `edge`
    for a tile.
    """
    shape = literals("multiply_rows", lanes, vectors, height, narrow_height, depth, direct)
    element = element_of("multiply_rows", packed)

    numbers = [types.int64] * 9
    generate = calling(f"multiply_rows_{shape[0]}_{packed.dtype}", fill_rows(element, *shape), len(shape), small=True)
    return types.void(lanes, vectors, height, narrow_height, depth, direct, a, b, c, packed, edge, *numbers), generate


FUNCTIONS = {"multiply_rows": multiply_rows}
