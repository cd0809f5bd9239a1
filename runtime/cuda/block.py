"""What threads are to each other: who a thread is, barriers, exchange and joins of values within a warp, reports of
failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core.errors import TypingError
from numba.cuda import types

from ..mathematics.emit import Value, is_float, is_integral, is_number, is_scalar, leaf, wrap
from .operators import extreme
from .pointers import GLOBAL, DevicePointer

INT64 = ir.IntType(64)
WORD = ir.IntType(32)
BIT = ir.IntType(1)

EVERY_LANE = 0xFFFFFFFF
SHUFFLES = {
    "shuffle_index": (0, 31, "The value of lane `lane`."),
    "shuffle_up": (1, 0, "The value of the lane `k` below; lanes below `k` keep their own."),
    "shuffle_down": (2, 31, "The value of the lane `k` above; the last `k` lanes keep their own."),
    "shuffle_xor": (3, 31, "The value of the lane whose number differs by the bits of `k`."),
}
"""(mode of llvm.nvvm.shfl.sync, its clamp, what it does). All 32 lanes take part."""


def _declare(builder: Any, name: str, result: Any, *kinds: Any) -> Any:
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, kinds), name)


def _register(name: str, register: str, doc: str) -> Any:
    def resolve() -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            read = _declare(builder, f"llvm.nvvm.read.ptx.sreg.{register}.x", WORD)
            return builder.zext(builder.call(read, []), INT64)

        return types.int64(), generate

    return leaf(name, resolve, 0, doc)


def _resolve_barrier() -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.call(_declare(builder, "llvm.nvvm.barrier0", ir.VoidType()), [])
        return context.get_dummy_value()

    return types.void(), generate


def _shuffle_word(builder: Any, mode: int, clamp: int, word: Any, lane: Any) -> Any:
    result = ir.LiteralStructType([WORD, BIT])
    shuffle = _declare(builder, "llvm.nvvm.shfl.sync.i32", result, WORD, WORD, WORD, WORD, WORD)
    return builder.extract_value(builder.call(shuffle, [WORD(EVERY_LANE), WORD(mode), word, lane, WORD(clamp)]), 0)


def _shuffle_bits(builder: Any, mode: int, clamp: int, bits: Any, lane: Any) -> Any:
    """An integer of any width exchanged in words of 32 bits."""
    width = bits.type.width
    if width < 32:
        return builder.trunc(_shuffle_word(builder, mode, clamp, builder.zext(bits, WORD), lane), bits.type)
    if width == 32:
        return _shuffle_word(builder, mode, clamp, bits, lane)
    halves = [builder.trunc(bits, WORD), builder.trunc(builder.lshr(bits, INT64(32)), WORD)]
    low, high = (builder.zext(_shuffle_word(builder, mode, clamp, half, lane), INT64) for half in halves)
    return builder.or_(builder.shl(high, INT64(32)), low)


def _shuffle(name: str, mode: int, clamp: int, doc: str) -> Any:
    def resolve(value: Any, lane: Any) -> Any:
        kind = types.unliteral(value)
        if not is_scalar(kind):
            raise TypingError(f"{name}: no kernel code for {value}")

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            raw, lane = arguments
            lane = builder.trunc(lane, WORD)
            if not is_float(kind):
                return _shuffle_bits(builder, mode, clamp, raw, lane)
            bits = builder.bitcast(raw, ir.IntType(kind.bitwidth))
            return builder.bitcast(_shuffle_bits(builder, mode, clamp, bits, lane), raw.type)

        return kind(kind, types.int64), generate

    return leaf(name, resolve, 2, doc)


def _resolve_reported(status: Any) -> Any:
    if status != DevicePointer(types.int64, GLOBAL):
        raise TypingError(f"reported: the status block is {status}, not a pointer_int64")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # volatile: other blocks may report something meanwhile
        kind = ir.FunctionType(INT64, [arguments[0].type])
        word = builder.asm(kind, "ld.volatile.global.u64 $0, [$1];", "=l,l", [arguments[0]], side_effect=True)
        return builder.icmp_signed("!=", word, INT64(0))

    return types.boolean(status), generate


def _join(name: str, combine: Callable[[Value, Value], Value], accepts: Callable[[Any], bool], doc: str) -> Any:
    """A butterfly: both sides of an exchange combine the same two values, so all threads end with the same bits."""

    def resolve(value: Any, threads: Any) -> Any:
        kind = types.unliteral(value)
        if not accepts(kind) or not isinstance(threads, types.IntegerLiteral):
            raise TypingError(f"{name}: no kernel code for {value} of {threads} threads")
        step = threads.literal_value

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            result, distance = wrap(builder, kind, arguments[0]), step
            while distance > 1:
                distance //= 2
                bits = builder.bitcast(result.raw, ir.IntType(kind.bitwidth)) if is_float(kind) else result.raw
                other = _shuffle_bits(builder, *SHUFFLES["shuffle_xor"][:2], bits, WORD(distance))
                result = combine(result, result.of(builder.bitcast(other, result.raw.type)))
            return result.raw

        return kind(kind, threads), generate

    return leaf(name, resolve, 2, doc)


JOINS: dict[str, tuple[Callable[[Value, Value], Value], Callable[[Any], bool], str]] = {
    "team_sum": (lambda x, y: x + y, is_number, "The sum"),
    "team_prod": (lambda x, y: x * y, is_number, "The product"),
    "team_max": (extreme("maximum"), is_scalar, "The maximum, nan if there is one,"),
    "team_min": (extreme("minimum"), is_scalar, "The minimum, nan if there is one,"),
    "team_any": (lambda x, y: x | y, is_integral, "Whether any is True"),
    "team_all": (lambda x, y: x & y, is_integral, "Whether all are True"),
}
"""What the threads of a team know together."""


def _resolve_fail(status: Any, number: Any, value: Any, size: Any) -> Any:
    if status != DevicePointer(types.int64, GLOBAL):
        raise TypingError(f"fail: the status block is {status}, not a pointer_int64")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block, number, value, size = arguments
        exchange = builder.cmpxchg(block, INT64(0), builder.add(number, INT64(1)), "monotonic", "monotonic")
        with builder.if_then(builder.extract_value(exchange, 1), likely=False):
            for slot, entry in enumerate((value, size), 1):
                builder.store(entry, builder.gep(block, [INT64(slot)], inbounds=True), align=8)
        return context.get_dummy_value()

    return types.void(status, *[types.int64] * 3), generate


FUNCTIONS = {
    "thread": _register("thread", "tid", "The number of this thread in its block."),
    "block": _register("block", "ctaid", "The number of this block in the grid."),
    "blocks": _register("blocks", "nctaid", "How many blocks the grid has."),
    "barrier": leaf("barrier", _resolve_barrier, 0, "All threads of the block come here before any goes on."),
    **{name: _shuffle(name, *row) for name, row in SHUFFLES.items()},
    **{name: _join(name, combine, accepts, f"{doc} of the values of `threads` neighbouring threads of a warp, a power "
                   "of two; all 32 lanes take part.") for name, (combine, accepts, doc) in JOINS.items()},
    "reported": leaf("reported", _resolve_reported, 1, "Whether a thread has reported something by `fail`."),
    "fail": leaf("fail", _resolve_fail, 4, "Report check `number` with the offending value and the size it was held "
                 "against; of all threads' reports, one stays."),
}
