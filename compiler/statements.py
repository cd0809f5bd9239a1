"""Walking over the statements of kernel IR: the texts and words in them, what is used, loops as one, new names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from .kernel_ir import Check, Let, Map, Reduce, Statement, Store

WORD = re.compile(r"[^\W\d]\w*")
"""A name in an expression."""


def everything(body: Sequence[Statement]) -> list[Statement]:
    """The statements, and those inside of their loops."""
    found: list[Statement] = []
    for each in body:
        found.append(each)
        if isinstance(each, Map | Reduce):
            found += everything(each.body)
    return found


def lets(body: Sequence[Statement]) -> list[Let]:
    return [each for each in body if isinstance(each, Let)]


def texts(statement: Statement) -> list[str]:
    """The expressions of one statement, without those inside of it."""
    match statement:
        case Let(_, _, expr):
            return [expr]
        case Store(_, index, expr):
            return [index, expr]
        case Map(_, extent, _, _):
            return [extent]
        case Reduce(loops, _, results, window):
            return [*(extent for _, extent in loops), *(window or ()), *(each.expr for each in results),
                    *(each.position for each in results)]
        case Check(_, value, size, number):
            return [value, size, number, "status"]
        case _:
            return []


def words(body: Sequence[Statement]) -> set[str]:
    """The names in all expressions."""
    return {word for each in everything(body) for text in texts(each) for word in WORD.findall(text)}


def written(body: Sequence[Statement]) -> set[str]:
    """The pointers that are stored to."""
    return {each.pointer for each in everything(body) if isinstance(each, Store)}


def live(body: Sequence[Statement], wanted: Collection[str] = ()) -> list[Statement]:
    """The statements without values that nothing uses."""
    used = set(wanted)
    kept: list[Statement] = []
    for statement in reversed(body):
        if isinstance(statement, Let) and statement.name not in used:
            continue
        used |= words([statement])
        kept.append(statement)
    return kept[::-1]


def renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with other names."""
    return WORD.sub(lambda match: names.get(match[0], match[0]), text)


def unnest(statement: Map | Reduce) -> tuple[tuple[tuple[str, str], ...], Sequence[Statement]]:
    """Nested loops as one: their indices with extents, and the innermost body."""
    if isinstance(statement, Reduce):
        return statement.loops, statement.body
    loops = []
    inner: Sequence[Statement] = (statement,)
    while len(inner) == 1 and isinstance(inner[0], Map):
        loops.append((inner[0].index, inner[0].extent))
        inner = inner[0].body
    return tuple(loops), inner
