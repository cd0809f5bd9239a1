"""Indices in kernel texts, read as sums of products: whether two are the same place, and how one runs with a variable.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Linear:
    """An index as a function of one variable: its coefficient (None if it is not linear or not a known number), and
    what the rest of the index is surely a multiple of (0: there is no rest)."""

    coefficient: int | None
    divisor: int


def canonical(index: str) -> tuple[tuple[str, ...], ...]:
    """The terms of an index, whatever order it was written in."""
    return tuple(sorted(tuple(sorted(map(ast.unparse, _factors(term)))) for term in _terms(_parse(index))))


def linear(index: str, variable: str) -> Linear:
    """How an index depends on a variable."""
    coefficient: int | None = 0
    divisor = 0
    for term in _terms(_parse(index)):
        number, names = _split(term)
        if number is None or names.count(variable) > 1:
            return Linear(None, 1)
        if variable in names:
            known = len(names) == 1
            coefficient = coefficient + number if known and coefficient is not None else None
        else:
            divisor = math.gcd(divisor, number)
    return Linear(coefficient, divisor)


def split_load(expr: str) -> tuple[str, str] | None:
    """(pointer, index) of an expression that is nothing but a load."""
    node = _parse(expr)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        return node.value.id, ast.unparse(node.slice)
    return None


def _parse(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _terms(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _terms(node.left)
        yield from _terms(node.right)
    else:
        yield node


def _factors(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        yield from _factors(node.left)
        yield from _factors(node.right)
    else:
        yield node


def _split(term: ast.expr) -> tuple[int | None, list[str]]:
    """The product of a term's numbers, and its names; (None, []) of what has other factors too."""
    number, names = 1, []
    for factor in _factors(term):
        while isinstance(factor, ast.UnaryOp) and isinstance(factor.op, ast.USub):
            number, factor = -number, factor.operand
        if isinstance(factor, ast.Constant) and isinstance(factor.value, int):
            number *= factor.value
        elif isinstance(factor, ast.Name):
            names.append(factor.id)
        else:
            return None, []
    return number, names
