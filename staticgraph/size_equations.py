"""What sizes of arrays say about symbols: the values for which formulas have the sizes that were found.

Formulas that are linear in their one unknown symbol can be solved; bare symbols come first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from .sizes import Atom, Dim, Size, size_symbols


def open_symbol(size: Size, known: Collection[str]) -> str | None:
    """The only symbol of a size that is not known, if the size is linear in it, so that its value can be found."""
    unknown = size_symbols(size) - set(known)
    if not isinstance(size, Dim) or len(unknown) != 1:
        return None
    [name] = unknown
    for mono, _ in size.terms:
        inside = any(name in size_symbols(arg) for atom in mono for arg in atom.args)
        if inside or mono.count(Atom("symbol", name)) > 1:
            return None
    return name


def solve_size(size: Dim, symbol: str, actual: int, sizes: Mapping[str, int]) -> int | None:
    """The value of an open symbol for which the size is `actual`; None if no size is."""
    base = size.evaluate({**sizes, symbol: 0})
    slope = size.evaluate({**sizes, symbol: 1}) - base
    value, rest = divmod(actual - base, slope) if slope else (0, actual - base)
    return value if rest == 0 and value >= 0 else None


def learnable_symbols(sizes: Iterable[Size]) -> set[str]:
    """The symbols whose values follow once the values of all these sizes are known."""
    waiting = [size for size in sizes if isinstance(size, Dim)]
    known: set[str] = set()
    while found := {name for size in waiting if (name := open_symbol(size, known)) is not None}:
        known |= found
    return known


def learn_sizes(pairs: Sequence[tuple[Size, int]], sizes: dict[str, int]) -> None:
    """Add to `sizes` the symbols that follow from the actual values of sizes: bare ones, then those in formulas.

    What contradicts is left for a check of every size: the first value that is found stays.
    """
    waiting = [(size, actual) for size, actual in pairs if isinstance(size, Dim)]
    waiting.sort(key=lambda pair: not pair[0].is_symbol)
    count = -1
    while count != len(sizes):
        count = len(sizes)
        for size, actual in waiting:
            symbol = open_symbol(size, sizes)
            value = None if symbol is None else solve_size(size, symbol, actual, sizes)
            if symbol is not None and value is not None:
                sizes[symbol] = value
