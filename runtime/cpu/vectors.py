"""Code over explicit vectors: what the leaves of matrix multiplication are written in.

Where loops are not left to LLVM's vectoriser, a leaf says itself what lies in a vector register. Such a leaf becomes an
internal function of the module, called rather than inlined, so that many call sites cost little to compile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError

from ..mathematics.emit import Value, select

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


def calling(name: str, fill: Fill, skipped: int, small: bool = False) -> Callable[..., Any]:
    """The code generator of a leaf that calls an internal function with all of its operands but the first, which are
    literals."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        operands = arguments[skipped:]
        kinds = [operand.type for operand in operands]
        builder.call(internal(builder.module, name, kinds, fill, small), operands)
        return context.get_dummy_value()

    return generate


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


Carried = tuple[Any, Any, Any]
"""A value that goes from turn to turn of a loop: its phi, what it is at first, what it is next."""

Turn = Callable[[Value], tuple[Iterable[Any], Sequence[Any], Iterable[Carried]]]
"""What a turn of `sums_in_registers` emits, given its number: (where the factor of each row is, the vectors of the
columns, what is carried on). What is no sequence is emitted when it is asked for: after the columns, after the sums."""


def sums_in_registers(vector: Vectors, rows: int, vectors: int, steps: Value, label: str,
                      turn: Turn) -> list[list[Any]]:
    """Rows of vectors of sums of products over `steps` >= 1 turns of a loop, all of them in registers: each is one
    chain of multiply-adds in the order of the turns. The builder stands behind the loop then."""
    builder = vector.builder
    entry, loop, done = builder.block, builder.append_basic_block(label), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = Value(builder, builder.phi(INT64))
    sums = [[builder.phi(vector.kind) for _ in range(vectors)] for _ in range(rows)]
    places, columns, carried = turn(step)
    totals = []
    for place, line in zip(places, sums):
        factor = vector.splat(builder.load(place))
        totals.append([vector.multiply_add(factor, column, phi) for phi, column in zip(line, columns)])
    after = step + 1
    phis = [(step.raw, step.constant(0).raw, after.raw), *carried]
    phis += [(phi, vector.fill(0.0), total) for lines in zip(sums, totals) for phi, total in zip(*lines)]
    for phi, start, following in phis:
        phi.add_incoming(start, entry)
        phi.add_incoming(following, loop)
    builder.cbranch((after < steps).raw, loop, done)
    builder.position_at_end(done)
    return totals


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

    def prefetch(self, pointer: Any) -> None:
        """Ask for the cache line there, which need not be memory of ours."""
        kinds = [pointer.type, INT32, INT32, INT32]
        ask = self.function("llvm.prefetch.p0", ir.VoidType(), kinds)
        self.builder.call(ask, [pointer, *(ir.Constant(INT32, each) for each in (0, 3, 1))])     # to read, soon, data

    def sum(self, value: Any) -> Any:
        """Of all lanes, in a tree that the target chooses."""
        element = self.kind.element
        reduce = self.function(f"llvm.vector.reduce.fadd.v{self.lanes}f{self.bits}", element, [element, self.kind])
        return self.builder.call(reduce, [ir.Constant(element, -0.0), value], fastmath=("reassoc",))
