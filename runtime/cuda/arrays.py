"""One launch over many arrays: which of them a block works on.

Blocks are given out to arrays in order, `items` elements to a block. All three functions walk over the lengths in
straight-line code, and all threads of a block find the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.extending import intrinsic

INT64 = ir.IntType(64)
Walk = Callable[[Any, list[Any], list[Any]], Any]


def _variadic(name: str, fixed: int, emit: Walk, doc: str) -> Any:
    """A kernel function of `fixed` integers and any number of further ones."""

    def resolve(kinds: tuple[Any, ...]) -> Any:
        rest = types.StarArgTuple.from_types((types.int64,) * (len(kinds) - fixed))

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            *first, packed = arguments
            values = [builder.extract_value(packed, number) for number in range(len(kinds) - fixed)]
            return emit(builder, list(first), values)

        return types.int64(*[types.int64] * fixed, rest), generate

    definition: Any = (lambda context, x, *rest: resolve((x, *rest))) if fixed == 1 else \
        (lambda context, x, y, *rest: resolve((x, y, *rest)))
    definition.__name__ = definition.__qualname__ = name
    definition.__doc__ = doc
    return intrinsic(definition)


def _walk(builder: Any, place: Any, items: Any, lengths: list[Any]) -> tuple[Any, Any, Any]:
    """(number of the array or -1, block within it, blocks left over or -1)."""
    found, within = INT64(-1), INT64(0)
    alive = builder.icmp_signed(">=", place, INT64(0))
    for number, length in enumerate(lengths):
        blocks = builder.udiv(builder.sub(builder.add(length, items), INT64(1)), items)
        here = builder.and_(alive, builder.icmp_signed("<", place, blocks))
        found = builder.select(here, INT64(number), found)
        within = builder.select(here, place, within)
        alive = builder.and_(alive, builder.not_(here))
        place = builder.sub(place, blocks)
    return found, within, builder.select(alive, place, INT64(-1))


def _pick(builder: Any, first: list[Any], values: list[Any]) -> Any:
    result = values[0]
    for number, value in enumerate(values[1:], 1):
        result = builder.select(builder.icmp_signed("==", first[0], INT64(number)), value, result)
    return result


FUNCTIONS = {
    "array_of": _variadic("array_of", 2, lambda builder, first, lengths: _walk(builder, first[0], first[1], lengths)[0],
                          "array_of(place, items, *lengths): the array that block `place` works on, or -1."),
    "block_of": _variadic("block_of", 2, lambda builder, first, lengths: _walk(builder, first[0], first[1], lengths)[1],
                          "block_of(place, items, *lengths): the number of the block within its array."),
    "left_of": _variadic("left_of", 2, lambda builder, first, lengths: _walk(builder, first[0], first[1], lengths)[2],
                         "left_of(place, items, *lengths): the block after all these arrays, -1 if it has one."),
    "pick": _variadic("pick", 1, _pick, "pick(number, *values): the value of that number."),
}
