"""Rewriting: rule tables, and the two passes that apply them to a graph."""

from __future__ import annotations

from collections.abc import Sequence

from ..tensor import Tensor
from . import algebra, movement, stability
from .rewriter import RuleSet, rewrite

STABILITY = RuleSet(stability.RULES)
SIMPLIFICATION = RuleSet((*algebra.RULES, *movement.RULES))


def stabilise(outputs: Sequence[Tensor], opaque: Sequence[Tensor] = ()) -> tuple[list[Tensor], list[str]]:
    """The outputs by formulas that neither overflow nor cancel, and a remark for each rule that fired."""
    return rewrite(outputs, STABILITY, opaque)


def simplify(outputs: Sequence[Tensor]) -> tuple[list[Tensor], list[str]]:
    """The same outputs with less work: arithmetic, views, constants. For graphs that are not differentiated any more
    (a stop_gradient is gone afterwards)."""
    return rewrite(outputs, SIMPLIFICATION)
