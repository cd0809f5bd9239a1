"""Random bits: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, as easy as 1, 2, 3; 2011).

`philox(index, seed, counter, stream)` is word number `index` of a stream of 32-bit words. Nothing is carried from one
word to the next: word k is word ``k % 4`` of the block whose number is ``k // 4``, and a block is ten rounds of
multiplications and exclusive ors on

    key       low half of the seed, high half of the seed
    counter   low half of the block's number, stream, low half of the counter, high half of the counter
                                                       (+ 2**16 times the high half of the block's number)

so that blocks below 2**48 under counters below 2**48 never meet. The meaning in NumPy, and what is made of the words,
is in staticgraph/ops/random.py.

Straight-line integer code: it vectorises, and words of one block that are asked for side by side are computed once.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError

from .emit import Value, leaf, select

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
"""What the key grows by with each round: the golden ratio and the square root of 3, less 1, as fractions."""

WORD, DOUBLE_WORD = ir.IntType(32), ir.IntType(64)


def _halves(x: Value) -> tuple[Value, Value]:
    """The low and the high word of a 64-bit value."""
    high = x.builder.lshr(x.raw, ir.Constant(DOUBLE_WORD, 32))
    return _word(x), Value(x.builder, x.builder.trunc(high, WORD), unsigned=True)


def _word(x: Value) -> Value:
    return Value(x.builder, x.builder.trunc(x.raw, WORD), unsigned=True)


def _product(x: Value, multiplier: int) -> tuple[Value, Value]:
    """The low and the high word of a word times a constant."""
    wide = x.builder.zext(x.raw, DOUBLE_WORD)
    return _halves(Value(x.builder, x.builder.mul(wide, ir.Constant(DOUBLE_WORD, multiplier)), unsigned=True))


def block_words(counter: tuple[Value, ...], key: tuple[Value, ...]) -> tuple[Value, ...]:
    """The four words of a block."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for number in range(ROUNDS):
        if number:
            k0, k1 = k0 + WEYL[0], k1 + WEYL[1]
        low0, high0 = _product(c0, MULTIPLIERS[0])
        low1, high1 = _product(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return c0, c1, c2, c3


def philox(index: Value, seed: Value, counter: Value, stream: Value) -> Value:
    """Word number `index` of a stream of random words."""
    low, high = _halves(Value(index.builder, (index >> 2).raw, unsigned=True))
    counter_low, counter_high = _halves(counter)
    words = block_words((low, _word(stream), counter_low, counter_high ^ (high << 16)), _halves(seed))
    odd, upper = (index & 1).differs(0), (index & 2).differs(0)
    return select(upper, select(odd, words[3], words[2]), select(odd, words[1], words[0]))


def _resolve(*kinds: Any) -> Any:
    firm = [types.unliteral(kind) for kind in kinds]
    if not all(isinstance(kind, types.Integer) for kind in firm):
        raise TypingError(f"philox: operands of types {', '.join(map(str, kinds))}; all must be integers")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = [context.cast(builder, raw, kind, types.uint64) for raw, kind in zip(arguments, firm)]
        return philox(*(Value(builder, raw, unsigned=True) for raw in wide)).raw

    return types.uint32(*firm), generate


FUNCTIONS = {"philox": leaf("philox", _resolve, 4, philox.__doc__ or "")}
