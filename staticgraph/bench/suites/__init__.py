"""The named suites: what is measured, and which figure each case is to reach.

A module defines `CASES`; `SUITES` is the visible list of all. The suite `compile` has no cases of its own: it times the
first result of those in `COMPILED`, in new processes.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..cases import Case
from . import conv, dispatch, elementwise, matmul, models, reductions, rows

SUITES: dict[str, tuple[Case, ...]] = {
    "elementwise": elementwise.CASES,
    "reductions": reductions.CASES,
    "rows": rows.CASES,
    "matmul": matmul.CASES,
    "conv": conv.CASES,
    "models": models.CASES,
    "dispatch": dispatch.CASES,
}

COMPILE = "compile"
COMPILED = tuple(case.name for case in models.CASES)
"""Cases whose compile is timed."""

COLD_AGAINST_JAX, WARM_AGAINST_JAX = 1.0, 5.0
"""How many times as long JAX is to take for a cold and a warm compile."""

NAMES = (*SUITES, COMPILE)
CASES: tuple[Case, ...] = tuple(case for cases in SUITES.values() for case in cases)


def case_named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def suite_of(case: Case) -> str:
    return next(name for name, cases in SUITES.items() if case in cases)


def chosen(suites: Sequence[str], parts: Sequence[str]) -> tuple[Case, ...]:
    """The cases of these suites (of all, if none is named) whose names contain one of the parts."""
    return tuple(case for name, cases in SUITES.items() if not suites or name in suites for case in cases
                 if not parts or any(part in case.name for part in parts))
