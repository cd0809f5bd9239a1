"""Rewriting: rule tables, and the passes that apply them to a graph."""

from __future__ import annotations

from collections.abc import Sequence

from ..tensor import Tensor
from . import stability
from .rewriter import RuleSet, rewrite

STABILITY = RuleSet(stability.RULES)


def stabilise(outputs: Sequence[Tensor], opaque: Sequence[Tensor] = ()) -> tuple[list[Tensor], list[str]]:
    """The outputs by formulas that neither overflow nor cancel, and a remark for each rule that fired."""
    return rewrite(outputs, STABILITY, opaque)
