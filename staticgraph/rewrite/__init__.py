"""Rewriting: rule tables, and the two passes that apply them to a graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..tensor import Tensor
from . import algebra, movement, stability
from .rewriter import RuleSet, rewrite

STABILITY = RuleSet(stability.RULES)
SIMPLIFICATION = RuleSet((*algebra.RULES, *movement.RULES))


def stabilise(outputs: Sequence[Tensor], opaque: Sequence[Tensor] = ()) -> tuple[list[Tensor], list[str]]:
    """The outputs by formulas that neither overflow nor cancel, and what fired where."""
    result, remarks = rewrite(outputs, STABILITY, opaque)
    return result, counted(remarks)


def simplify(outputs: Sequence[Tensor]) -> tuple[list[Tensor], list[str]]:
    """The same outputs with less work: arithmetic, views, constants. For graphs that are not differentiated any more
    (a stop_gradient is gone afterwards)."""
    result, remarks = rewrite(outputs, SIMPLIFICATION)
    return result, counted(remarks)


def counted(remarks: Sequence[str]) -> list[str]:
    """Each remark once, with its number: ``log1p: model.py:12 (3 times)``."""
    return [remark if times == 1 else f"{remark} ({times} times)" for remark, times in Counter(remarks).items()]
