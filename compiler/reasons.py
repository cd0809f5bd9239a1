"""Why two kernels are two: the reasons that fusion, scheduling and chains had, as codes, and their words.

Whoever decides that a value goes through memory keeps a `Refusal`, which is a code and the node that it is about. The
words are made at the end, for the boundaries that are left; a code without words fails here and nowhere else.
"""

from __future__ import annotations

from typing import NamedTuple

from staticgraph.tensor import Tensor


class Refusal(NamedTuple):
    """A code of `WORDS`, and the node that it is about besides the value and its user. `value` is set where that is
    another one that goes between the same two kernels."""

    code: str
    node: Tensor | None = None
    value: Tensor | None = None


WORDS = {
    # A value and its user that both could be in a kernel with others. {value} and {user} are the ops, {other} is the
    # op of the refusal's node, {kernels} the number of kernels that read it.
    "update": "the variable is written after everything that can fail",
    "size": "together they would have too many nodes, which bounds the time of compiling them",
    "cycle": "would make a cycle: {other} needs the one, and the other needs it",
    "table": "{user} picks elements anywhere in {value}, so all of it must be there before",
    "view": "{user} reads {value} through {other}, so not element by element",
    "two ways": "{user} reads {value} in two ways at once",
    "single": "one element of {value} meets many of {user}",
    "spread": "{value} must be complete before {user} spreads it over other axes than it came from",
    "complete": "the rows of {value} must be complete before {user} reduces them again",
    "axes": "they reduce different axes, so each needs the other's rows whole",
    "reduced again": "{other} would be reduced again for each element of the other",
    "wanted": "{other} is wanted by the caller, and would be computed again for each element of the other",
    "shared": "{other} is used by {kernels} kernels, and would be computed again for each element of the other",
    "dear": "{other} is too dear to compute again for each element of the other",
    "rows": "in one kernel it would go down the columns, far from the rows of the product",
    # Ops with kernels of their own, as the user of a value, and as what makes it.
    "to contraction": "a product packs its operands from memory: it cannot take {value} as a prologue",
    "to windowed": "{user} reads each element in many windows: it cannot take {value} as a prologue",
    "to scatter": "{user} adds up elements at any place, in a kernel of its own",
    "to scan": "{user} goes along its axis one after the other, in a kernel of its own",
    "to sort": "rows are sorted in memory",
    "to concat": "parts are copied to their places, in kernels of their own",
    "to pad": "what is padded is copied to its place, in a kernel of its own",
    "to fold": "windows are added up in a kernel of its own",
    "from contraction": "a product ends with its store: all programs share its kernel",
    "from windowed": "{value} ends with its store: all programs share its kernel",
    "from scatter": "{value} must be complete before anything reads it",
    "from scan": "{value} goes along its axis one after the other, in a kernel of its own",
    "from sort": "rows are sorted in memory",
    "from concat": "parts are copied to their places, in kernels of their own",
    "from pad": "what is padded is copied to its place, in a kernel of its own",
    "from fold": "windows are added up in a kernel of its own",
    # Copies: of views that are written out, and of results.
    "caller's view": "the caller gets the view as an array of its own",
    "reshape": "no strides describe the reshape of {value}, so it is written out",
    "contiguous": "{other} reads its operand in one piece, so the view is written out",
    "to output": "the caller's array is another one than where the value lies",
    "saved": "the old value is saved before any variable is written",
    "wanted too": "the new value is wanted elsewhere too, and is copied once everything is done",
    "old value": "the old value is still read, so the new one is copied once everything is done",
    "may fail": "an index may be out of range, so the new value is copied once everything is done",
    "not alone": "the new value is not made by elementwise work of its own, and is copied once everything is done",
    # Kernels that are cut, for threads and blocks.
    "parts": "rows are cut into parts, which several threads make, and these are joined afterwards",
    "columns": "sums down the columns are made for some rows at a time, and these are added up afterwards",
}
"""The words of each code."""

CHAIN_WORDS = {
    "products": "a chain has no more than {most} products",
    "rows unknown": "the kernel may touch any row",
    "other rows": "it needs more than the same row",
    "reports": "an index may be out of range, and then nothing after it may run",
    "order": "a step in between needs the one and is needed by the other",
    "new rows": "it does not go along the rows of the product",
}
"""Why steps around a product are in no chain with it; see `chains`."""


def words(refusal: Refusal, value: Tensor, user: Tensor | None, kernels: int = 0) -> str:
    """A reason in words."""
    other = refusal.node if refusal.node is not None else value
    return WORDS[refusal.code].format(value=_name(value if refusal.value is None else refusal.value),
                                      user=_name(user), other=_name(other), kernels=kernels)


def _name(node: Tensor | None) -> str:
    return f"'{node.op.name}'" if node is not None else ""
