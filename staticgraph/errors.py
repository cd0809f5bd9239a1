"""Errors that speak to the user.

Every mistake a user can make raises a subclass of `StaticGraphError` that is also the ordinary Python error, so that
``except ValueError`` keeps working. A message has one form: a headline, one line per operand with its type, name and
the user's own line, and a last line that says what was needed:

    ShapeError: matmul: inner dimensions differ
      a: float32[batch, 784]   'x'    model.py:12
      b: float32[128, 10]      'w2'   model.py:9
      needed a.shape[-1] == b.shape[-2], got 784 and 128
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class StaticGraphError(Exception):
    """Base of every error raised for something a user can mend."""


class ShapeError(StaticGraphError, ValueError):
    """Shapes, ranks or dimensions that do not fit."""


class DTypeError(StaticGraphError, TypeError):
    """A dtype that is unsupported, or would lose information."""


class ArgumentError(StaticGraphError, TypeError):
    """A call with missing, unknown, repeated or unusable arguments."""


class OutOfRangeError(StaticGraphError, IndexError):
    """An index, found at run time or when the graph is built, that lies outside of its axis."""


class DeviceError(StaticGraphError, RuntimeError):
    """A device that does not exist or cannot be used here."""


class OutOfMemoryError(DeviceError, MemoryError):
    """A device that has too little memory left for what was asked."""


class GradientError(StaticGraphError, ValueError):
    """A derivative that does not exist as asked for."""


class NonFiniteError(StaticGraphError, FloatingPointError):
    """A nan, or an infinity, that the option "check" was to find."""


class AssertionFailed(StaticGraphError, AssertionError):
    """A condition of `assert_that` that does not hold."""


class UnsupportedError(StaticGraphError, NotImplementedError):
    """An operation for which no kernel exists on the chosen device."""


class MissingPackageError(StaticGraphError, ImportError):
    """A package that is not needed for most things, is for this one, and is not installed; the text says how to."""


class FileFormatError(StaticGraphError, ValueError):
    """A file that is not what it should be: damaged, of another kind, or made by a newer version."""


class StateError(StaticGraphError, ValueError):
    """A file of state whose entries are not those of the variables that they are for."""


class VerificationError(StaticGraphError, AssertionError):
    """An intermediate form that breaks its own rules: a bug in a pass, never in the user's graph."""


def message(headline: str, operands: Iterable[Sequence[str]] = (), *notes: str) -> str:
    """The headline, operand rows aligned in columns, then the notes; see the module docstring for the form.

    Each operand is (label, type, quoted name or "", location).
    """
    rows = [(f"{label}:", kind, name, where) for label, kind, name, where in operands]
    lines = [headline]
    if rows:
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for label, kind, name, where in rows:
            cells = [label.ljust(widths[0]), kind.ljust(widths[1] + 2)]
            if widths[2]:
                cells.append(name.ljust(widths[2] + 2))
            lines.append(("  " + " ".join(cells) + " " + where).rstrip())
    lines.extend(f"  {note}" for note in notes)
    return "\n".join(lines)


def index_message(what: str, index: int, size: int) -> str:
    """The headline of an index error; `what` is ``function`` or ``function, axis 0``."""
    function, _, axis = what.partition(", ")
    return f"{function}: index {index} is out of range for {axis + ' of ' if axis else ''}size {size}"
