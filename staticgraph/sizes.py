"""Sizes, which may be symbolic, and their arithmetic.

A size is an ``int`` or a `Dim`: an integer polynomial over named (or anonymous) symbols and over the opaque atoms
``floordiv``, ``mod``, ``min`` and ``max``. Polynomials are kept in one canonical form, so that structural equality is
equality of functions as far as polynomials go, and so that ``batch * 4 // 4`` is ``batch`` again. Symbols stand for
sizes and are therefore never negative; `provably_different` relies on that.

Invariant: a Dim is never a constant; arithmetic that ends in a constant returns an ``int``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from .errors import ArgumentError, ShapeError

Size = Union[int, "Dim"]
Shape = tuple[Size, ...]

_anonymous = itertools.count(1)


@dataclass(frozen=True)
class Atom:
    """A symbol (``kind == "symbol"``) or an opaque function of sizes."""

    kind: str
    name: str = ""
    args: tuple[Size, ...] = ()

    def __str__(self) -> str:
        if self.kind == "symbol":
            return self.name
        if self.kind == "floordiv":
            return f"({self.args[0]})//({self.args[1]})"
        if self.kind == "mod":
            return f"({self.args[0]})%({self.args[1]})"
        return f"{self.kind}({', '.join(map(str, self.args))})"

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        if self.kind == "symbol":
            return sizes[self.name]
        values = [evaluate_size(arg, sizes) for arg in self.args]
        return _ATOM_MEANING[self.kind](*values)


_ATOM_MEANING: dict[str, Callable[..., int]] = {
    "floordiv": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else 0,
    "min": min,
    "max": max,
}

Monomial = tuple[Atom, ...]


class Dim:
    """A symbolic dimension: an integer-valued polynomial of sizes that are known at the call.

    Dims of the same name are the same size within one compile or evaluate call. Arithmetic with ints and Dims gives
    Dims or ints; arithmetic with tensors and floats gives tensors, where a Dim counts as a weak integer.
    """

    __slots__ = ("_hash", "_text", "terms")
    __array_ufunc__ = None
    terms: tuple[tuple[Monomial, int], ...]

    # tensor.py hangs its conversion in here, so that `1.0 / batch` can build graph without a cycle of imports.
    to_tensor: Callable[[Dim], Any]

    def __init__(self, terms: Mapping[Monomial, int] | str) -> None:
        if isinstance(terms, str):  # what users write: sg.Dim("batch")
            if not terms.isidentifier():
                raise ShapeError(f"Dim: a size's name must be an identifier, got {terms!r}")
            terms = {(Atom("symbol", terms),): 1}
        kept = [(mono, coefficient) for mono, coefficient in terms.items() if coefficient]
        kept.sort(key=lambda term: (-len(term[0]), [str(atom) for atom in term[0]]))
        self.terms = tuple(kept)
        self._hash = hash(self.terms)
        self._text: str | None = None

    @staticmethod
    def symbol(name: str) -> Dim:
        """The size of that name; a name with a question mark is anonymous."""
        return Dim({(Atom("symbol", name),): 1})

    @staticmethod
    def anonymous() -> Dim:
        return Dim.symbol(f"?{next(_anonymous)}")

    @property
    def name(self) -> str:
        """How the dimension prints: its name, or its formula."""
        return str(self)

    @property
    def is_symbol(self) -> bool:
        """True for a named or anonymous size, false for a formula of such."""
        (mono, coefficient), *more = self.terms
        return not more and coefficient == 1 and len(mono) == 1 and mono[0].kind == "symbol"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self._hash == other._hash and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        if self._text is None:
            self._text = _print_terms(self.terms)
        return self._text

    def __repr__(self) -> str:
        return f"Dim({self})"

    def __reduce__(self) -> Any:
        return Dim, (dict(self.terms),)  # the hash of a text is another one in another process

    def __bool__(self) -> bool:
        raise ArgumentError(f"the size '{self}' is not known until the call, so it is neither true nor false")

    def __index__(self) -> int:
        raise ArgumentError(f"the size '{self}' is not known until the call and cannot be used as a Python integer")

    __int__ = __index__
    __float__ = __index__

    def __add__(self, other: Any) -> Any:
        return self._combine(other, lambda a, b: a + b, lambda a, b: _sum_terms(a, b, 1))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._combine(other, lambda a, b: a - b, lambda a, b: _sum_terms(a, b, -1))

    def __rsub__(self, other: Any) -> Any:
        return self._combine(other, lambda a, b: b - a, lambda a, b: _sum_terms(b, a, -1))

    def __mul__(self, other: Any) -> Any:
        return self._combine(other, lambda a, b: a * b, _multiply_terms)

    __rmul__ = __mul__

    def __neg__(self) -> Size:
        return simplify_terms({mono: -coefficient for mono, coefficient in self.terms})

    def __floordiv__(self, other: Any) -> Any:
        if _is_size(other):
            return floor_divide(self, other)
        return Dim.to_tensor(self) // other if _is_number(other) else NotImplemented

    def __rfloordiv__(self, other: Any) -> Any:
        if _is_size(other):
            return floor_divide(other, self)
        return other // Dim.to_tensor(self) if _is_number(other) else NotImplemented

    def __mod__(self, other: Any) -> Any:
        if _is_size(other):
            return modulo(self, other)
        return Dim.to_tensor(self) % other if _is_number(other) else NotImplemented

    def __rmod__(self, other: Any) -> Any:
        if _is_size(other):
            return modulo(other, self)
        return other % Dim.to_tensor(self) if _is_number(other) else NotImplemented

    def __truediv__(self, other: Any) -> Any:
        return Dim.to_tensor(self) / other if _is_number(other) or isinstance(other, Dim) else NotImplemented

    def __rtruediv__(self, other: Any) -> Any:
        return other / Dim.to_tensor(self) if _is_number(other) else NotImplemented

    def __pow__(self, other: Any) -> Any:
        if isinstance(other, int) and 0 <= other <= 8:
            return math.prod([self] * other)
        return Dim.to_tensor(self) ** other if _is_number(other) else NotImplemented

    def __rpow__(self, other: Any) -> Any:
        return other ** Dim.to_tensor(self) if _is_number(other) else NotImplemented

    def __pos__(self) -> Dim:
        return self

    def __abs__(self) -> Size:
        return maximum_size(self, -self)

    # Whether one size is larger is known at the call: comparisons give tensors, for sg.where.

    def __lt__(self, other: Any) -> Any:
        return Dim.to_tensor(self) < other if _is_number(other) or isinstance(other, Dim) else NotImplemented

    def __le__(self, other: Any) -> Any:
        return Dim.to_tensor(self) <= other if _is_number(other) or isinstance(other, Dim) else NotImplemented

    def __gt__(self, other: Any) -> Any:
        return Dim.to_tensor(self) > other if _is_number(other) or isinstance(other, Dim) else NotImplemented

    def __ge__(self, other: Any) -> Any:
        return Dim.to_tensor(self) >= other if _is_number(other) or isinstance(other, Dim) else NotImplemented

    def _combine(self, other: Any, on_tensor: Callable[..., Any], on_terms: Callable[..., dict[Monomial, int]]) -> Any:
        if _is_size(other):
            return simplify_terms(on_terms(dict(self.terms), terms_of(other)))
        return on_tensor(Dim.to_tensor(self), other) if _is_number(other) else NotImplemented

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The value for known symbols; KeyError names a symbol that is not known."""
        total = 0
        for mono, coefficient in self.terms:
            product = coefficient
            for atom in mono:
                product *= atom.evaluate(sizes)
            total += product
        return total

    def symbols(self) -> set[str]:
        """Names of all symbols, also those inside opaque atoms."""
        found: set[str] = set()
        for mono, _ in self.terms:
            for atom in mono:
                if atom.kind == "symbol":
                    found.add(atom.name)
                for arg in atom.args:
                    found |= size_symbols(arg)
        return found


def _is_size(value: object) -> bool:
    return isinstance(value, int | np.integer | Dim) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """What arithmetic of a Dim makes a tensor of: numbers and arrays, no bools."""
    return isinstance(value, int | float | np.ndarray | np.number) and not isinstance(value, bool)


def _print_terms(terms: tuple[tuple[Monomial, int], ...]) -> str:
    text = ""
    for mono, coefficient in terms:
        factors = [str(atom) for atom in mono]
        if abs(coefficient) != 1 or not factors:
            factors.append(str(abs(coefficient)))
        sign = "-" if coefficient < 0 else "+"
        text += f" {sign} " + "*".join(factors) if text else ("-" if coefficient < 0 else "") + "*".join(factors)
    return text


def _sum_terms(a: dict[Monomial, int], b: dict[Monomial, int], sign: int) -> dict[Monomial, int]:
    total = dict(a)
    for mono, coefficient in b.items():
        total[mono] = total.get(mono, 0) + sign * coefficient
    return total


def _multiply_terms(a: dict[Monomial, int], b: dict[Monomial, int]) -> dict[Monomial, int]:
    product: dict[Monomial, int] = {}
    for left, p in a.items():
        for right, q in b.items():
            mono = tuple(sorted(left + right, key=str))
            product[mono] = product.get(mono, 0) + p * q
    return product


def terms_of(size: Size) -> dict[Monomial, int]:
    """The polynomial of a size as {monomial: coefficient}; a constant is the empty monomial."""
    return dict(size.terms) if isinstance(size, Dim) else ({(): int(size)} if size else {})


def simplify_terms(terms: dict[Monomial, int]) -> Size:
    """The canonical size of a polynomial: an int when nothing symbolic is left."""
    kept = {mono: coefficient for mono, coefficient in terms.items() if coefficient}
    if not kept:
        return 0
    if set(kept) == {()}:
        return kept[()]
    return Dim(kept)


def divide_exactly(a: Size, b: Size) -> Size | None:
    """``a / b`` where every term of a is divisible by the single term b, else None."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    if a == b:
        return 1
    divisor = list(terms_of(b).items())
    if len(divisor) != 1:
        return None
    atoms, factor = divisor[0]
    quotient: dict[Monomial, int] = {}
    for mono, coefficient in terms_of(a).items():
        rest = list(mono)
        for atom in atoms:
            if atom not in rest:
                return None
            rest.remove(atom)
        if coefficient % factor:
            return None
        quotient[tuple(rest)] = coefficient // factor
    return simplify_terms(quotient)


def floor_divide(a: Size, b: Size) -> Size:
    """Floor division of sizes."""
    exact = divide_exactly(a, b)
    if exact is not None:
        return exact
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if isinstance(b, int) and b > 0:
        return _divide_terms(a, b)
    return Dim({(Atom("floordiv", args=(a, b)),): 1})


def _divide_terms(a: Size, b: int) -> Size:
    """``a // b`` with all that divides taken out: (4*n + 7)//4 is n + 1 and ((n)//2 + 1)//2 is (n + 2)//4."""
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for mono, coefficient in terms_of(a).items():
        if mono and coefficient % b:
            rest[mono] = coefficient
        else:
            whole[mono], rest[mono] = divmod(coefficient, b)
    remainder = simplify_terms(rest)
    if isinstance(remainder, int):
        return simplify_terms(whole)
    for mono, coefficient in rest.items():
        if coefficient == 1 and len(mono) == 1 and mono[0].kind == "floordiv":
            dividend, divisor = mono[0].args
            if isinstance(divisor, int) and divisor > 0:
                others = remainder - Dim({mono: 1})
                nested: Size = simplify_terms(whole) + floor_divide(dividend + others * divisor, divisor * b)
                return nested
    whole[(Atom("floordiv", args=(remainder, b)),)] = 1
    return simplify_terms(whole)


def modulo(a: Size, b: Size) -> Size:
    """Remainder of sizes, with the sign of the divisor."""
    if divide_exactly(a, b) is not None:
        return 0
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    return Dim({(Atom("mod", args=(a, b)),): 1})


def minimum_size(a: Size, b: Size) -> Size:
    """The smaller of two sizes; decided now when the difference has a known sign."""
    return _choose("min", a, b)


def maximum_size(a: Size, b: Size) -> Size:
    """The larger of two sizes; decided now when the difference has a known sign."""
    return _choose("max", a, b)


def _choose(kind: str, a: Size, b: Size) -> Size:
    sign = sign_of(a - b)
    if sign is not None:
        smaller, larger = (b, a) if sign >= 0 else (a, b)
        return smaller if kind == "min" else larger
    for one, other in ((a, b), (b, a)):
        nested = _alternatives(one)
        if nested is not None and nested[0] == kind:
            # max(max(p, q), b) is max(p, b) where q is never above b
            for kept, dropped in (nested[1:], nested[:0:-1]):
                if sign_of(other - dropped if kind == "max" else dropped - other) == 1:
                    return _choose(kind, kept, other)
    first, second = sorted((a, b), key=str)
    return Dim({(Atom(kind, args=(first, second)),): 1})


def _alternatives(size: Size) -> tuple[str, Size, Size] | None:
    """("max", p, q) for a size that is max(p, q), as n - min(n, 3) is max(0, n - 3); None if there is no such term."""
    for mono, coefficient in terms_of(size).items():
        if len(mono) == 1 and mono[0].kind in ("min", "max"):
            kind = mono[0].kind if coefficient > 0 else {"min": "max", "max": "min"}[mono[0].kind]
            rest = size - coefficient * Dim({mono: 1})
            return kind, rest + coefficient * mono[0].args[0], rest + coefficient * mono[0].args[1]
    return None


def sign_of(size: Size, levels: int = 10) -> int | None:
    """1 when the size is known to be >= 0, -1 when it is known to be <= 0, None when that depends on the call.

    Each alternative of a max or min doubles the work: after so many levels the answer is None.
    """
    if isinstance(size, int):
        return 1 if size >= 0 else -1
    if not levels:
        return None
    signs = {_sign_of_term(mono, coefficient, levels - 1) for mono, coefficient in size.terms}
    if len(signs) == 1 and None not in signs:
        return signs.pop()
    nested = _alternatives(size)
    if nested is None:
        return None
    kind, *choices = nested
    enough = 1 if kind == "max" else -1
    found = [sign_of(choice, levels - 1) for choice in choices]
    return enough if enough in found else -enough if found == [-enough] * 2 else None


def _sign_of_term(mono: Monomial, coefficient: int, levels: int) -> int | None:
    sign = 1 if coefficient > 0 else -1
    for atom in mono:
        factor = _sign_of_atom(atom, levels)
        if factor is None:
            return None
        sign *= factor
    return sign


def _sign_of_atom(atom: Atom, levels: int) -> int | None:
    if atom.kind == "symbol":
        return 1
    signs = [sign_of(arg, levels) for arg in atom.args]
    up = [sign == 1 for sign in signs]
    down = [arg == 0 or sign == -1 for arg, sign in zip(atom.args, signs)]
    if atom.kind == "mod":
        return 1 if up[1] else None
    if atom.kind == "floordiv":
        return 1 if all(up) else -1 if down[0] and up[1] else None
    one, other = (1, -1) if atom.kind == "max" else (-1, 1)  # one argument is enough for a max to be >= 0
    enough, needed = (up, down) if atom.kind == "max" else (down, up)
    return one if any(enough) else other if all(needed) else None


def provably_different(a: Size, b: Size) -> bool:
    """True when no sizes of the symbols make a and b equal."""
    terms = terms_of(a - b)
    constant = terms.pop((), 0)
    if not terms:
        return constant != 0
    divisor = math.gcd(*terms.values())
    if constant % divisor:
        return True
    return constant != 0 and sign_of(simplify_terms(terms)) == (1 if constant > 0 else -1)


def evaluate_size(size: Size, sizes: Mapping[str, int]) -> int:
    """The value of a size; ints stand for themselves."""
    return size.evaluate(sizes) if isinstance(size, Dim) else int(size)


def size_symbols(size: Size) -> set[str]:
    """Names of the symbols in a size; empty for an int."""
    return size.symbols() if isinstance(size, Dim) else set()


def product(sizes: Iterable[Size]) -> Size:
    """The number of elements of a shape."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total
