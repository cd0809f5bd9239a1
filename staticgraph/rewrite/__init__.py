"""Rewriting: rule tables, and the two passes that apply them to a graph."""

from __future__ import annotations

from collections.abc import Sequence

from ..tensor import Tensor
from . import algebra, movement, stability
from .journal import counted
from .rewriter import RuleSet, normalised

STABILITY = RuleSet(stability.RULES)
SIMPLIFICATION = RuleSet((*algebra.RULES, *movement.RULES))


def stabilise(outputs: Sequence[Tensor], opaque: Sequence[Tensor] = ()) -> tuple[list[Tensor], list[str]]:
    """The outputs by formulas that neither overflow nor cancel, and what fired where."""
    result, fired = normalised(outputs, STABILITY, opaque)
    return result, counted(fired)


def simplify(outputs: Sequence[Tensor]) -> tuple[list[Tensor], list[str]]:
    """The same outputs with less work: arithmetic, views, constants. For graphs that are not differentiated any more
    (a stop_gradient is gone afterwards)."""
    result, fired = normalised(outputs, SIMPLIFICATION)
    return result, counted(fired)
