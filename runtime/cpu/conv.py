"""Convolutions in registers, as three leaves of the kernel language.

  fill_windows        a block of padded images, cut into one plane for each residue of the stride, so that from here on
                      every step is 1: what one factor of the weights meets then lies at one offset from its place in
                      the result, all along a row, and on through the rows of a block
  multiply_windows    the product of weights with a block: the matrix on the right is never written down, its row k
                      is the block read from ``offsets[k]`` on
  gather_windows      the product of a block with the cotangents of the result: the gradient of the weights

Places of a block count through its rows, ends and all. What a product computes for the ends of rows belongs to no
element of the result and is left out when it is stored. Shapes of tiles are literals. An element of a result is one
chain of multiply-adds in the order of the block for each block of channels: it does not depend on how places are cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..mathematics.emit import Value, select
from .gemm import fill_pack
from .vectors import (
    BIT,
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

AHEAD = 1024
"""Elements after those of a row of an image that are asked for when it is read."""


def quotient(x: Value, y: Value) -> Value:
    """x // y of numbers that are not negative."""
    return x.of(x.builder.sdiv(x.raw, y.raw))


def fill_row(element: Any, lanes: int) -> Fill:
    """target[u] = source[u * step] for first <= u < last, and 0 for the other u < length."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        target, source = arguments[:2]
        first, last, step, length = (Value(builder, raw) for raw in arguments[2:])
        vector, zero, one = Vectors(builder, element, lanes), number(builder, 0), number(builder, 1)
        nothing = vector.fill(0.0)
        even = ir.Constant(ir.VectorType(INT32, lanes), [2 * lane for lane in range(lanes)])
        with builder.if_else(step.equals(1).raw) as (dense, strided):
            with dense, counted(zero, length, number(builder, lanes)) as u:
                mask = builder.and_(vector.mask(last - u), builder.not_(vector.mask(first - u)))
                vector.prefetch(move(source, u + AHEAD))
                value = vector.masked_load(move(source, u), mask, nothing)
                vector.masked_store(value, move(target, u), vector.mask(length - u))
            with strided, builder.if_else(step.equals(2).raw) as (by_two, by_more):
                with by_two, counted(zero, length, number(builder, lanes)) as u:
                    halves = []
                    for part in (0, 1):    # a pair of elements for each u; of the last pair there may be one only
                        start = u * 2 + part * lanes
                        mask = builder.and_(vector.mask(last * 2 - 1 - start), builder.not_(vector.mask(
                            first * 2 - start)))
                        vector.prefetch(move(source, start + AHEAD))
                        halves.append(vector.masked_load(move(source, start), mask, nothing))
                    vector.masked_store(builder.shuffle_vector(*halves, even), move(target, u), vector.mask(length - u))
                with by_more:
                    with counted(zero, length, number(builder, lanes)) as u:
                        vector.masked_store(nothing, move(target, u), vector.mask(length - u))
                    with counted(first, last, one) as u:
                        builder.store(builder.load(move(source, u * step)), move(target, u))

    return fill


def fill_planes(element: Any, lanes: int) -> Fill:
    """One plane of each of some channels: rows * columns of a block from the image's row and column, both by a step,
    zeros where that is outside of the image. `first` and `last`: the columns that are inside."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        block, image = arguments[:2]
        (channels, block_channel, image_channel, rows, columns, row, row_step, height, column, column_step, width,
         first, last) = (Value(builder, raw) for raw in arguments[2:])
        one, zero = number(builder, 1), number(builder, 0)
        copy = internal(builder.module, f"fill_row_{lanes}_{Vectors(builder, element, lanes).bits}",
                        [block.type] * 2 + [INT64] * 4, fill_row(element, lanes), small=False)
        with counted(zero, channels, one) as channel, counted(zero, rows, one) as t:
            source = row + t * row_step
            inside = (source >= 0) & (source < height)
            end = select(inside, last, first)
            place = move(image, channel * image_channel + select(inside, source, 0) * width + column)
            builder.call(copy, [move(block, channel * block_channel + t * columns), place, first.raw, end.raw,
                                column_step.raw, columns.raw])

    return fill


def fill_window_tile(element: Any, rows: int, vectors: int, lanes: int) -> Fill:
    """edge[rows, vectors * lanes] = weights[rows, depth] @ the block from each of `depth` offsets on, depth >= 1. Only
    `count` rows of weights are read; the others repeat the last."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        weights, block, offsets, edge = arguments[:4]
        weight_row, count, depth = (Value(builder, raw) for raw in arguments[4:])
        vector = Vectors(builder, element, lanes)
        places = [smaller(number(builder, row), count - 1) * weight_row for row in range(rows)]

        def turn(step: Value) -> tuple[Iterable[Any], Sequence[Any], Iterable[Carried]]:
            left = builder.phi(weights.type)
            right = move(block, Value(builder, builder.load(move(offsets, step))))
            columns = [vector.load(move(right, number(builder, v * lanes))) for v in range(vectors)]
            onward = ((phi, weights, move(phi, number(builder, 1))) for phi in (left,))
            return (move(left, place) for place in places), columns, onward

        totals = sums_in_registers(vector, rows, vectors, depth, "k", turn)
        for row, line in enumerate(totals):
            for v, total in enumerate(line):
                vector.store(total, move(edge, number(builder, (row * vectors + v) * lanes)))

    return fill


def fill_store_places(element: Any, lanes: int) -> Fill:
    """y[r, row, column] = (0 if first else y) + edge[r, place] for `count` channels r and `places` places, which are in
    `parts` rows, from (row, column) on, of a block whose rows are `pitch` long and have `columns` of the result. In y
    they lie `y_step` apart."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        edge, y = arguments[:2]
        (edge_row, count, places, parts, row, column, pitch, columns, y_channel, y_row, y_step,
         first) = (Value(builder, raw) for raw in arguments[2:])
        vector, zero, one = Vectors(builder, element, lanes), number(builder, 0), number(builder, 1)
        nothing = vector.fill(0.0)

        def every(added: bool) -> None:
            with counted(zero, count, one) as r, counted(zero, length, number(builder, lanes)) as j:
                mask = vector.mask(length - j)
                spot = move(y, r * y_channel + (row + part) * y_row + at + j)
                total = vector.load(move(edge, r * edge_row + start + j))
                if added:
                    total = builder.fadd(vector.masked_load(spot, mask, nothing), total)
                vector.masked_store(total, spot, mask)

        def every_second(added: bool) -> None:
            even = ir.Constant(ir.VectorType(BIT, lanes), [1 - lane % 2 for lane in range(lanes)])
            with counted(zero, count, one) as r, counted(zero, length, number(builder, lanes)) as j:
                total = vector.load(move(edge, r * edge_row + start + j))
                for half in (0, lanes // 2):
                    doubled = ir.Constant(ir.VectorType(INT32, lanes), [half + lane // 2 for lane in range(lanes)])
                    spaced = builder.shuffle_vector(total, total, doubled)
                    mask = builder.and_(vector.mask((length - j - half) * 2), even)
                    spot = move(y, r * y_channel + (row + part) * y_row + (at + j + half) * 2)
                    if added:
                        spaced = builder.fadd(vector.masked_load(spot, mask, nothing), spaced)
                    vector.masked_store(spaced, spot, mask)

        def every_apart(added: bool) -> None:
            with counted(zero, count, one) as r, counted(zero, length, one) as j:
                spot = move(y, r * y_channel + (row + part) * y_row + (at + j) * y_step)
                total = builder.load(move(edge, r * edge_row + start + j))
                builder.store(builder.fadd(builder.load(spot), total) if added else total, spot)

        with counted(zero, parts, one) as part:
            begins = part.equals(0)
            start = select(begins, zero, part * pitch - column)
            at = select(begins, column, zero)
            length = smaller(columns - at, places - start)
            ways = ((y_step.equals(1), every), (y_step.equals(2), every_second), (y_step > 2, every_apart))
            for chosen, write in ways:
                for added in (True, False):     # where it is the first there is nothing in memory to wait for
                    with builder.if_then((chosen & (first.equals(0) if added else first.differs(0))).raw):
                        write(added)

    return fill


def fill_multiply(element: Any, lanes: int, vectors: int, height: int, panel: int) -> Fill:
    """y[outputs, rows, columns] = (0 if first else y) + weights[outputs, depth] @ windows of the block. The edge has
    room for `panel` outputs."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        weights, block, offsets, y, edge = arguments[:5]
        (weight_row, outputs, depth, pitch, rows, columns, y_channel, y_row, y_step,
         first) = (Value(builder, raw) for raw in arguments[5:])
        module, bits = builder.module, Vectors(builder, element, lanes).bits
        zero, pointer = number(builder, 0), block.type
        store = internal(module, f"store_places_{lanes}_{bits}", [pointer] * 2 + [INT64] * 12,
                         fill_store_places(element, lanes), small=False)
        length = (rows - 1) * pitch + columns
        with counted(zero, length, number(builder, vectors * lanes)) as p:
            places = smaller(length - p, number(builder, vectors * lanes))
            row = quotient(p, pitch)
            column = p - row * pitch
            parts = quotient(column + places + pitch - 1, pitch)
            width = quotient(places + lanes - 1, number(builder, lanes)) * lanes
            # Results are read again a panel later: what has only just been stored cannot be loaded in other pieces.
            with counted(zero, outputs, number(builder, panel)) as top:
                height_of_panel = smaller(outputs - top, number(builder, panel))
                with counted(zero, height_of_panel, number(builder, height)) as o:
                    count = smaller(height_of_panel - o, number(builder, height))
                    operands = [move(weights, (top + o) * weight_row), move(block, p), offsets, move(edge, o * width),
                                weight_row.raw, count.raw, depth.raw]
                    for some in range(1, vectors + 1):
                        with builder.if_then(width.equals(some * lanes).raw):
                            _tile_of(builder, element, lanes, some, height, operands, count)
                builder.call(store, [edge, move(y, top * y_channel), *(each.raw for each in (
                    width, height_of_panel, places, parts, row, column, pitch, columns, y_channel, y_row, y_step,
                    first))])

    return fill


def _tile_of(builder: Any, element: Any, lanes: int, width: int, height: int, operands: Sequence[Any],
             count: Value) -> None:
    """A call of the tile for one channel or for several."""
    bits = Vectors(builder, element, lanes).bits
    kinds = [operands[0].type, operands[1].type, operands[2].type, operands[3].type, *[INT64] * 3]
    tiles = [internal(builder.module, f"window_tile_{rows}x{width}x{lanes}_{bits}", kinds,
                      fill_window_tile(element, rows, width, lanes), small=False) for rows in (1, height)]
    with builder.if_else(count.equals(1).raw) as (single, several):
        with single:
            builder.call(tiles[0], operands)
        with several:
            builder.call(tiles[1], operands)


def fill_gather_tile(element: Any, rows: int, vectors: int, lanes: int) -> Fill:
    """total[rows, outputs] = (0 if first else total) + the sum over places of the block's elements, `rows` offsets
    apart, times slopes[place, outputs]: `turns` rows of `columns` places, in the block `pitch` apart."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        block, offsets, slopes, total = arguments[:4]
        count, turns, columns, pitch, total_row, outputs, first = (Value(builder, raw) for raw in arguments[4:])
        vector, width = Vectors(builder, element, lanes), vectors * lanes
        lasts = [smaller(number(builder, row), count - 1) for row in range(rows)]
        sources = [move(block, Value(builder, builder.load(move(offsets, last)))) for last in lasts]
        masks = [vector.mask(outputs - v * lanes) for v in range(vectors)]
        gap = pitch - columns + 1

        def turn(step: Value) -> tuple[Iterable[Any], Sequence[Any], Iterable[Carried]]:
            at, column = (Value(builder, builder.phi(INT64)) for _ in range(2))
            right = builder.phi(slopes.type)
            factors = [vector.load(move(right, number(builder, v * lanes))) for v in range(vectors)]

            def onward() -> Iterator[Carried]:
                further = column + 1
                ends = further.equals(columns)
                yield right, slopes, move(right, number(builder, width))
                yield at.raw, at.constant(0).raw, (at + select(ends, gap, 1)).raw
                yield column.raw, column.constant(0).raw, select(ends, 0, further).raw

            return (move(source, at) for source in sources), factors, onward()

        totals = sums_in_registers(vector, rows, vectors, turns * columns, "place", turn)
        nothing = vector.fill(-0.0)
        for row, line in enumerate(totals):
            with builder.if_then((count > row).raw):
                for v, value in enumerate(line):
                    spot = move(total, total_row * row + v * lanes)
                    old = builder.and_(masks[v], vector.splat(first.equals(0).raw))
                    vector.masked_store(builder.fadd(vector.masked_load(spot, old, nothing), value), spot, masks[v])

    return fill


def fill_gather(element: Any, lanes: int, vectors: int, height: int) -> Fill:
    """total[factors, outputs] for all factors of a block, and at most vectors * lanes outputs: the cotangents are first
    turned so that the outputs of a place lie together."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        block, offsets, ct, slopes, total = arguments[:5]
        (factors, turns, columns, pitch, ct_channel, ct_row, total_row, outputs,
         first) = (Value(builder, raw) for raw in arguments[5:])
        module, bits, width = builder.module, Vectors(builder, element, lanes).bits, vectors * lanes
        zero, one, pointer = number(builder, 0), number(builder, 1), block.type
        pack = internal(module, f"pack_panel_{lanes}_{bits}", [pointer] * 2 + [INT64] * 5, fill_pack(element, lanes))
        tile = internal(module, f"gather_tile_{height}x{vectors}x{lanes}_{bits}",
                        [pointer, offsets.type, pointer, pointer, *[INT64] * 7],
                        fill_gather_tile(element, height, vectors, lanes), small=False)
        joined = ct_row.equals(columns)     # whole rows follow each other
        runs, run = select(joined, one, turns), select(joined, turns * columns, columns)
        with counted(zero, runs, one) as t:
            packed = (one, ct_channel, run, number(builder, width), outputs)
            place = move(slopes, t * columns * width)
            builder.call(pack, [place, move(ct, t * ct_row), *(each.raw for each in packed)])
        with counted(zero, factors, number(builder, height)) as k:
            count = smaller(factors - k, number(builder, height))
            sizes = (count, turns, columns, pitch, total_row, outputs, first)
            builder.call(tile, [block, move(offsets, k), slopes, move(total, k * total_row),
                                *(each.raw for each in sizes)])

    return fill


@intrinsic(prefer_literal=True)
def fill_windows(context: Any, lanes: Any, block: Any, image: Any, channels: Any, block_channel: Any,
                 image_channel: Any, rows: Any, columns: Any, row: Any, row_step: Any, height: Any, column: Any,
                 column_step: Any, width: Any, first: Any, last: Any) -> Any:
    """One plane of a block from each of some channels of an image; see `fill_planes`."""
    shape = literals("fill_windows", lanes)
    element = element_of("fill_windows", block)

    return types.void(lanes, block, image, *[types.int64] * 13), calling(
        f"fill_planes_{shape[0]}_{block.dtype}", fill_planes(element, *shape), len(shape))


@intrinsic(prefer_literal=True)
def multiply_windows(context: Any, lanes: Any, vectors: Any, height: Any, panel: Any, weights: Any, block: Any,
                     offsets: Any, y: Any, edge: Any, weight_row: Any, outputs: Any, depth: Any, pitch: Any,
                     rows: Any, columns: Any, y_channel: Any, y_row: Any, y_step: Any, first: Any) -> Any:
    """Rows and columns of some channels of a convolution's result, from one block; see `fill_multiply`."""
    shape = literals("multiply_windows", lanes, vectors, height, panel)
    element = element_of("multiply_windows", block)

    return types.void(lanes, vectors, height, panel, weights, block, offsets, y, edge, *[types.int64] * 10), calling(
        f"multiply_windows_{shape[0]}_{block.dtype}", fill_multiply(element, *shape), len(shape))


@intrinsic(prefer_literal=True)
def gather_windows(context: Any, lanes: Any, vectors: Any, height: Any, block: Any, offsets: Any, ct: Any, slopes: Any,
                   total: Any, factors: Any, turns: Any, columns: Any, pitch: Any, ct_channel: Any, ct_row: Any,
                   total_row: Any, outputs: Any, first: Any) -> Any:
    """What one block adds to the gradient of the weights that meet it; see `fill_gather`."""
    shape = literals("gather_windows", lanes, vectors, height)
    element = element_of("gather_windows", block)

    return types.void(lanes, vectors, height, block, offsets, ct, slopes, total, *[types.int64] * 9), calling(
        f"gather_windows_{shape[0]}_{shape[1]}_{block.dtype}", fill_gather(element, *shape), len(shape))


FUNCTIONS = {"fill_windows": fill_windows, "multiply_windows": multiply_windows, "gather_windows": gather_windows}
