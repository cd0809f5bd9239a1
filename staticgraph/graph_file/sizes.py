"""Sizes in a file: an int, the name of a symbol, or a formula.

A formula is a list of terms ``[coefficient, [factor, ...]]``, and a factor a symbol or ``[kind, size, size]``, where
kind is one of floordiv, mod, min and max; ``batch*2 + 1`` is ``[[2, ["batch"]], [1, []]]``. Anonymous symbols are
``?1``, ``?2`` ... in the order in which they appear; whoever reads them makes new ones.

What is read is bounded, since arithmetic of sizes takes time that grows with them: so much of a formula, and no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..errors import FileFormatError
from ..types import Atom, Dim, Monomial, Shape, Size, terms_of

KINDS = ("floordiv", "mod", "min", "max")
LIMIT = 2**63
MOST_ATOMS = 256
DEEPEST = 24
MOST_TERMS = 4096
"""Terms of the number of elements of a shape; a product of sums has very many."""


class TooLarge(Exception):
    """A formula or shape that is beyond what a file may hold."""


def check_shape(shape: Iterable[Size]) -> None:
    """TooLarge unless the shape, and the formulas in it, are within the limits."""
    sizes = tuple(shape)
    for size in sizes:
        if isinstance(size, Dim) and atom_count(size) > MOST_ATOMS:
            raise TooLarge(f"the formula of a size has more than {MOST_ATOMS} parts")
        if isinstance(size, int) and not -LIMIT <= size < LIMIT:
            raise TooLarge(f"the size {str(size)[:40]} is beyond 64 bits")
    if math.prod(max(1, len(terms_of(size))) for size in sizes) > MOST_TERMS:
        raise TooLarge(f"the number of elements has more than {MOST_TERMS} terms")


def atom_count(size: Size) -> int:
    """How many atoms and terms a size has, also inside of atoms."""
    if not isinstance(size, Dim):
        return 0
    return sum(1 + sum(1 + sum(map(atom_count, atom.args)) for atom in mono) for mono, _ in size.terms)


class SizeWriter:
    """Sizes as data, with the numbers that anonymous symbols have in the file."""

    def __init__(self) -> None:
        self.numbers: dict[str, str] = {}

    def __call__(self, size: Size) -> Any:
        if not isinstance(size, Dim):
            return int(size)
        if size.is_symbol:
            return self._symbol(str(size))
        return [[coefficient, [self._atom(atom) for atom in mono]] for mono, coefficient in size.terms]

    def _symbol(self, name: str) -> str:
        return self.numbers.setdefault(name, f"?{len(self.numbers) + 1}") if name.startswith("?") else name

    def _atom(self, atom: Atom) -> Any:
        return self._symbol(atom.name) if atom.kind == "symbol" else [atom.kind, *map(self, atom.args)]


class SizeReader:
    """Data as sizes, with the anonymous symbols that were made for the file's."""

    def __init__(self) -> None:
        self.fresh: dict[str, Dim] = {}

    def __call__(self, data: Any, depth: int = 0) -> Size:
        if type(data) is int:
            if not -LIMIT <= data < LIMIT:
                raise FileFormatError("a size is beyond 64 bits")
            return data
        if isinstance(data, str):
            return self._symbol(data)
        if not isinstance(data, list) or not data or depth > DEEPEST:
            raise FileFormatError("a size is an int, a name or a formula of so many levels")
        terms: dict[Monomial, int] = {}
        for term in data:
            pair = term if isinstance(term, list) and len(term) == 2 else (None, None)
            if type(pair[0]) is not int or not isinstance(pair[1], list):
                raise FileFormatError("a term of a size is a coefficient and a list of factors")
            coefficient, factors = pair
            mono = tuple(sorted((self._atom(factor, depth) for factor in factors), key=str))
            if mono in terms or not coefficient or not -LIMIT <= coefficient < LIMIT:
                raise FileFormatError("a formula has a term twice, or one that is nothing or beyond 64 bits")
            terms[mono] = coefficient
        if set(terms) == {()}:
            raise FileFormatError("a formula without symbols is an int")
        return Dim(terms)

    def _symbol(self, name: str) -> Dim:
        if name.startswith("?") and name[1:].isdecimal() and name.isascii():
            if name not in self.fresh:
                self.fresh[name] = Dim.anonymous()
            return self.fresh[name]
        if not name.isidentifier():
            raise FileFormatError(f"{name[:60]!a} is no name of a size")
        return Dim.symbol(name)

    def _atom(self, data: Any, depth: int) -> Atom:
        if isinstance(data, str):
            [(mono, _)] = self._symbol(data).terms
            return mono[0]
        if not isinstance(data, list) or len(data) != 3 or data[0] not in KINDS:
            raise FileFormatError("a factor of a size is a name, or a kind of formula and two sizes")
        args = [self(each, depth + 1) for each in data[1:]]
        if data[0] in ("min", "max"):
            args.sort(key=str)     # as arithmetic has it, whatever anonymous symbols are called here
        return Atom(data[0], args=tuple(args))


def read_shape(data: Any, read: SizeReader) -> Shape:
    """A list of sizes that are not negative, within the limits."""
    if not isinstance(data, list):
        raise FileFormatError("a shape is a list of sizes")
    shape = tuple(read(each) for each in data)
    if any(isinstance(size, int) and size < 0 for size in shape):
        raise FileFormatError("a size is negative")
    try:
        check_shape(shape)
    except TooLarge as error:
        raise FileFormatError(str(error)) from None
    return shape
