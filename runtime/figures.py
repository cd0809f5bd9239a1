"""Numbers and tables as people read them."""

from __future__ import annotations

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """"1 step", "2 steps"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def align(rows: Sequence[Sequence[str]], text_columns: int = 1, last_left: bool = False) -> str:
    """Rows in columns: the first ones to the left, the others to the right, but for the last where that is text."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = {*range(text_columns), *([len(widths) - 1] if last_left else [])}
    return "\n".join("  " + "  ".join(
        cell.ljust(width) if column in left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows)


def seconds(value: float) -> str:
    """A time with three digits."""
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if value * factor < 999.5:
            return f"{digits(value * factor)} {unit}"
    return f"{digits(value)} s"


def digits(value: float) -> str:
    """About three digits, no exponent."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
