"""Sizes as Python, and values of users as literals: what may be written into a script.

Names and texts of users may hold anything. They get into a script as literals in ASCII, or as comments of one line in
which nothing is left that is not to be seen; a name of theirs is never a name in the script unless it is a plain
identifier that means nothing else there.
"""

from __future__ import annotations

import builtins
import keyword
import math
from collections.abc import Iterable, Mapping
from typing import Any

from staticgraph.types import Atom, Dim, Size, size_symbols

TAKEN = frozenset({*keyword.kwlist, *keyword.softkwlist, *dir(builtins),
                   *"Buffer Step At Chain Check Plan block_of divide remainder solve shapes".split(),
                   *"buffers steps chains checks must_agree arena_bytes nbytes flops".split()})
"""What a size may not be called in a script."""


def literal(value: Any) -> str:
    """Python for a value. What is neither a number nor a text nor a tuple of such becomes the text that it prints as,
    or what it is where even that fails."""
    if value is None or type(value) in (bool, int):
        return repr(value)
    if type(value) is float:
        return repr(value) if math.isfinite(value) else f"float('{value}')"
    if type(value) is str:
        return ascii(value)
    if type(value) is tuple:
        return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
    try:
        return ascii(str.__str__(str(value)))
    except Exception:     # whatever a __str__ of the user's raises
        return ascii(f"<{type(value).__name__}>")


def comment(text: str) -> str:
    """The text as one line that shows all that is in it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def plain_name(text: str, most: int = 60) -> str:
    """A part of a file's name."""
    kept = "".join(each if each.isascii() and (each.isalnum() or each == "_") else "_" for each in text)
    return kept[:most] or "kernel"


def symbol_names(sizes: Iterable[Size]) -> dict[str, str]:
    """What each symbol is called in a script."""
    symbols = sorted({name for size in sizes for name in size_symbols(size)})
    names: dict[str, str] = {}
    for number, symbol in enumerate(symbols):
        fine = symbol.isidentifier() and symbol.isascii() and symbol not in TAKEN and not symbol.startswith("_")
        name = symbol if fine else f"size_{number}"
        while name in names.values() or (name != symbol and name in symbols):
            name += "_"
        names[symbol] = name
    return names


def formula(size: Size, names: Mapping[str, str]) -> str:
    """A size as an expression in its symbols."""
    if not isinstance(size, Dim):
        return str(int(size))
    text = ""
    for atoms, coefficient in size.terms:
        factors = [_atom(atom, names) for atom in atoms]
        if abs(coefficient) != 1 or not factors:
            factors.append(str(abs(coefficient)))
        sign = "-" if coefficient < 0 else "+"
        text += f" {sign} " + " * ".join(factors) if text else ("-" if coefficient < 0 else "") + " * ".join(factors)
    return text


def _atom(atom: Atom, names: Mapping[str, str]) -> str:
    if atom.kind == "symbol":
        return names[atom.name]
    parts = [formula(each, names) for each in atom.args]
    if atom.kind in ("min", "max"):
        return f"{atom.kind}({', '.join(parts)})"
    sign, function = {"floordiv": ("//", "divide"), "mod": ("%", "remainder")}[atom.kind]
    divisor = atom.args[1]
    if isinstance(divisor, int) and divisor > 0:
        return f"(({parts[0]}) {sign} {parts[1]})"
    return f"{function}({', '.join(parts)})"


def shape_formula(shape: Iterable[Size], names: Mapping[str, str]) -> str:
    """A shape as a tuple of expressions."""
    parts = [formula(each, names) for each in shape]
    return f"({', '.join(parts)}{',' * (len(parts) == 1)})"
