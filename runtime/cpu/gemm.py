"""Matrix multiplication in registers: the leaves that the text of a matmul kernel is built from.

  multiply_tile    a tile of the product, rows x (vectors * lanes), kept in registers over a run of k
  pack_panel       a panel of the right matrix copied row by row, its columns contiguous and filled up to whole vectors
  multiply_panel   all rows of the left matrix times one panel, tile by tile

They take their shape as literals, so the kernel text decides on registers and vector width. Each becomes an internal
function of the module, called rather than inlined, and all but the tile are compiled for size: what takes time is
written with vectors already, and LLVM need not look for more.

Every element of a tile is one chain of multiply-adds in the order of k, whatever the shape of the tile: results do not
depend on how a matrix was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .emit import Value, select

BIT, INT32, INT64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
FLOATS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
Fill = Callable[[Any, Sequence[Any]], None]


def literals(name: str, *kinds: Any) -> list[int]:
    if not all(isinstance(kind, types.IntegerLiteral) for kind in kinds):
        raise TypingError(f"{name}: the shape is given by integer literals")
    return [kind.literal_value for kind in kinds]


def element_of(name: str, pointer: Any) -> Any:
    kind = FLOATS.get(getattr(pointer, "dtype", None))
    if kind is None:
        raise TypingError(f"{name}: {pointer} is not a pointer to floats")
    return kind


def internal(module: ir.Module, name: str, kinds: Sequence[Any], fill: Fill, small: bool = True) -> ir.Function:
    """The internal function `name` of the module, filled at first use."""
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "internal"
    for attribute in ("noinline", "nounwind", "optsize", *(["minsize"] if small else [])):
        function.attributes.add(attribute)
    builder = ir.IRBuilder(function.append_basic_block())
    fill(builder, function.args)
    builder.ret_void()
    return function


def number(builder: Any, value: int) -> Value:
    return Value(builder, ir.Constant(INT64, value))


@contextmanager
def counted(start: Value, stop: Value, step: Value) -> Iterator[Value]:
    """The body of ``for index in range(start, stop, step)``, step > 0."""
    with cgutils.for_range_slice(start.builder, start.raw, stop.raw, step.raw, INT64) as (index, _):
        yield Value(start.builder, index)


def smaller(x: Value, y: Value) -> Value:
    return select(x < y, x, y)


def move(pointer: Any, count: Value) -> Any:
    return count.builder.gep(pointer, [count.raw])


class Vectors:
    """Loads, stores and constants of vectors of `lanes` elements, aligned like one element: matrices start anywhere."""

    def __init__(self, builder: Any, element: Any, lanes: int) -> None:
        self.builder, self.lanes = builder, lanes
        self.kind = ir.VectorType(element, lanes)
        self.bits = 32 if isinstance(element, ir.FloatType) else 64
        self.align = self.bits // 8

    def fill(self, value: float) -> Any:
        return ir.Constant(self.kind, [value] * self.lanes)

    def load(self, pointer: Any) -> Any:
        value = self.builder.load(self.builder.bitcast(pointer, self.kind.as_pointer()))
        value.align = self.align
        return value

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, self.builder.bitcast(pointer, self.kind.as_pointer())).align = self.align

    def splat(self, value: Any) -> Any:
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(INT32, 0))
        zeros = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def function(self, name: str, result: Any, operands: Sequence[Any]) -> Any:
        module = self.builder.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, operands), name)

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        fused = self.function(f"llvm.fmuladd.v{self.lanes}f{self.bits}", self.kind, [self.kind] * 3)
        return self.builder.call(fused, [x, y, z])

    def mask(self, count: Value) -> Any:
        """The first `count` lanes."""
        lanes = ir.Constant(ir.VectorType(INT64, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", lanes, self.splat(count.raw))

    def _masked(self, operation: str) -> tuple[str, Any, Any]:
        mask = ir.VectorType(BIT, self.lanes)
        return f"llvm.masked.{operation}.v{self.lanes}f{self.bits}.p0", self.kind.as_pointer(), mask

    def masked_load(self, pointer: Any, mask: Any, otherwise: Any) -> Any:
        name, address, bits = self._masked("load")
        function = self.function(name, self.kind, [address, INT32, bits, self.kind])
        pointer = self.builder.bitcast(pointer, address)
        return self.builder.call(function, [pointer, ir.Constant(INT32, self.align), mask, otherwise])

    def masked_store(self, value: Any, pointer: Any, mask: Any) -> None:
        name, address, bits = self._masked("store")
        function = self.function(name, ir.VoidType(), [self.kind, address, INT32, bits])
        pointer = self.builder.bitcast(pointer, address)
        self.builder.call(function, [value, pointer, ir.Constant(INT32, self.align), mask])


def fill_tile(element: Any, rows: int, vectors: int, lanes: int) -> Fill:
    """c[rows, vectors * lanes] = (0 if first else c) + a[rows, depth] @ b[depth, vectors * lanes], depth >= 1. Only
    `count` rows of a are read; the others repeat the last."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        a, b, c = arguments[0], arguments[1], arguments[2]
        a_row, a_col, count, b_row, c_row, depth, first = (Value(builder, raw) for raw in arguments[3:])
        vector = Vectors(builder, element, lanes)
        offsets = [smaller(number(builder, row), count - 1) * a_row for row in range(rows)]
        entry, loop, done = builder.block, builder.append_basic_block("k"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step, left, right = Value(builder, builder.phi(INT64)), builder.phi(a.type), builder.phi(b.type)
        sums = [[builder.phi(vector.kind) for _ in range(vectors)] for _ in range(rows)]
        columns = [vector.load(move(right, number(builder, v * lanes))) for v in range(vectors)]
        totals = []
        for offset, line in zip(offsets, sums):
            factor = vector.splat(builder.load(move(left, offset)))
            totals.append([vector.multiply_add(factor, column, phi) for phi, column in zip(line, columns)])
        after = step + 1
        zero = vector.fill(0.0)
        phis = [(step.raw, step.constant(0).raw, after.raw)]
        phis += [(left, a, move(left, a_col)), (right, b, move(right, b_row))]
        phis += [(phi, zero, total) for lines in zip(sums, totals) for phi, total in zip(*lines)]
        for phi, start, following in phis:
            phi.add_incoming(start, entry)
            phi.add_incoming(following, loop)
        builder.cbranch((after < depth).raw, loop, done)
        builder.position_at_end(done)
        nothing = vector.fill(-0.0)  # x + -0.0 is x, also for zeros
        for row, line in enumerate(totals):
            for v, total in enumerate(line):
                target = move(c, c_row * row + v * lanes)
                before = builder.select(first.differs(0).raw, nothing, vector.load(target))
                vector.store(builder.fadd(before, total), target)

    return fill


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
    """c[rows, columns] = (0 if first else c) + a[rows, depth] @ b[depth, columns], where the rows of b are filled up to
    lanes (if columns <= lanes) or vectors * lanes. A tile that is not full is computed aside and copied."""

    def fill(builder: Any, arguments: Sequence[Any]) -> None:
        a, b, c, edge = arguments[:4]
        a_row, a_col, rows, b_row, c_row, depth, columns, first = (Value(builder, raw) for raw in arguments[4:])
        vector, zero = Vectors(builder, element, lanes), number(builder, 0)
        tile_kinds = [a.type] * 3 + [INT64] * 7

        def tile(tile_rows: int, tile_vectors: int) -> ir.Function:
            name = f"multiply_tile_{tile_rows}x{tile_vectors}x{lanes}_{vector.bits}"
            return internal(builder.module, name, tile_kinds, fill_tile(element, tile_rows, tile_vectors, lanes), False)

        wide = columns > lanes
        width = select(wide, number(builder, vectors * lanes), lanes)
        step = select(wide, number(builder, height), narrow_height)
        with counted(zero, rows, step) as i:
            count = smaller(rows - i, step)
            aside = (count < step) | (columns < width)
            place = move(c, i * c_row)
            target = builder.select(aside.raw, edge, place)
            restart = select(aside, 1, first)
            operands = [move(a, i * a_row), b, target, a_row.raw, a_col.raw, count.raw, b_row.raw,
                        select(aside, width, c_row).raw, depth.raw, restart.raw]
            with builder.if_else(wide.raw) as (is_wide, is_narrow):
                with is_wide, builder.if_else(count.equals(1).raw) as (is_single, is_full):
                    with is_single:
                        builder.call(tile(1, vectors), operands)
                    with is_full:
                        builder.call(tile(height, vectors), operands)
                with is_narrow:
                    builder.call(tile(narrow_height, 1), operands)
            with builder.if_then(aside.raw), counted(zero, count, number(builder, 1)) as r, \
                    counted(zero, columns, number(builder, lanes)) as j:
                mask, spot = vector.mask(columns - j), move(place, r * c_row + j)
                old = builder.and_(mask, vector.splat(first.equals(0).raw))
                before = vector.masked_load(spot, old, vector.fill(-0.0))
                total = builder.fadd(before, vector.load(move(edge, r * width + j)))
                vector.masked_store(total, spot, mask)

    return fill


@intrinsic(prefer_literal=True)
def pack_panel(context: Any, lanes: Any, target: Any, source: Any, row: Any, col: Any, steps: Any, width: Any,
               columns: Any) -> Any:
    """target[steps, width] = source[steps, columns], of strides row and col, followed by zeros."""
    (size,) = literals("pack_panel", lanes)
    element = element_of("pack_panel", target)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        operands = arguments[1:]
        function = internal(builder.module, f"pack_panel_{size}_{target.dtype}", [each.type for each in operands],
                            fill_pack(element, size))
        builder.call(function, operands)
        return context.get_dummy_value()

    return types.void(lanes, target, target, *[types.int64] * 5), generate


@intrinsic(prefer_literal=True)
def multiply_panel(context: Any, lanes: Any, vectors: Any, height: Any, narrow_height: Any, a: Any, b: Any, c: Any,
                   edge: Any, a_row: Any, a_col: Any, rows: Any, b_row: Any, c_row: Any, depth: Any, columns: Any,
                   first: Any) -> Any:
    """c[rows, columns] = (0 if first else c) + a[rows, depth] @ b[depth, columns] in register tiles of
    height x (vectors * lanes), or narrow_height x lanes if columns <= lanes; b is that wide. `edge` has room for a
    tile."""
    shape = literals("multiply_panel", lanes, vectors, height, narrow_height)
    element = element_of("multiply_panel", a)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        operands = arguments[4:]
        name = "multiply_panel_{}_{}_{}_{}".format(*shape) + f"_{a.dtype}"
        function = internal(builder.module, name, [each.type for each in operands], fill_panel(element, *shape))
        builder.call(function, operands)
        return context.get_dummy_value()

    return types.void(lanes, vectors, height, narrow_height, a, a, a, a, *[types.int64] * 8), generate


FUNCTIONS = {"pack_panel": pack_panel, "multiply_panel": multiply_panel}
