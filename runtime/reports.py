"""What kernels report through the status block, as errors.

Comes in: a program, the slots of the block, the sizes of the call. Goes out: the error to be raised; of what is watched
(see `Check`) also where in its array the first bad element is, for whoever can say more about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from staticgraph.compiler.program import Program
from staticgraph.errors import (
    AssertionFailed,
    NonFiniteError,
    OutOfRangeError,
    StaticGraphError,
    VerificationError,
)
from staticgraph.types import evaluate_size

from .driver import RAISED
from .guards import fill

LARGEST = 2**63 - 1


class Finding(NamedTuple):
    """What is watched is not as it should be: its number, and the position of its first bad element."""

    guard: int
    kind: str
    place: tuple[int, ...]


def found(program: Program, status: Sequence[int], sizes: Mapping[str, int], step: int | None) -> Finding | None:
    """The finding of what is watched; None for an index that is out of range."""
    check = program.checks[_number(program, status[0], step)]
    if check.kind == "index":
        return None
    position, index = LARGEST - status[1], []
    for size in reversed([evaluate_size(each, sizes) for each in check.shape]):
        position, place = divmod(position, max(size, 1))
        index.append(place)
    return Finding(check.guard, check.kind, tuple(reversed(index)))


def reported(program: Program, status: Sequence[int], sizes: Mapping[str, int],
             step: int | None = None) -> StaticGraphError:
    """The error that a program says by itself."""
    check = program.checks[_number(program, status[0], step)]
    finding = found(program, status, sizes, step)
    if finding is None:
        return OutOfRangeError(fill(check.message, {"value": status[1], "size": status[2]}))
    kind = AssertionFailed if check.kind == "assert" else NonFiniteError
    return kind(f"{check.message}\n  first at {list(finding.place)}")


def _number(program: Program, check: int, step: int | None) -> int:
    where = "a kernel" if step is None else (f"step {step}: kernel "
                                             f"'{program.kernels[program.steps[step].kernel].name}'")
    if check == RAISED:
        raise VerificationError(f"{where} raised a Python exception")
    if not 0 < check <= len(program.checks):
        raise VerificationError(f"{where} reported check {check - 1}, which does not exist")
    return check - 1
