"""The rewriter: tensor graph in, tensor graph out, by a table of rules.

Bottom-up to a fixpoint: a node is looked at when its inputs are in normal form, what a rule puts in its place is
brought to normal form in turn, and every node has one normal form, so the work is linear in what is there and what is
made. A loop with a stack of its own, never a recursion over the graph.

Invariants, checked on every firing (VerificationError): the replacement has the dtype and shape of the node, and the
rules come to rest. A rule does not fire where it would drop a guard, the check of two sizes at the call. Opaque
tensors and what lies below them are left as they are. New nodes carry the lines of all nodes that the pattern
matched, and the name of the node that they replace.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from ..errors import VerificationError, message
from ..op import as_tensor, broadcast
from ..tensor import Tensor, hand_on, made_of, operand_row, rebuild, toposort
from ..types import provably_different
from .journal import Fired, Journal, Rebuilt
from .pattern import Look, Match, Rule

FIRINGS_PER_NODE = 50
"""Far more than any sound table needs; a table that reaches this never rests."""


class RuleSet:
    """Rules by the op at the root of their pattern, in the order of the table."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self.by_root: dict[str, dict[Rule, list[Look]]] = {}
        for rule in self.rules:
            for root, look in rule.looks():
                self.by_root.setdefault(root, {}).setdefault(rule, []).append(look)

    def apply(self, node: Tensor, opaque: frozenset[int], guarded: Set[int]) -> Fired | None:
        """What the first rule that fires puts in the node's place."""
        operands = [each.op.name for each in node.inputs]
        for root in (node.op.name, f"kind {node.op.kind}"):
            for rule, looks in self.by_root.get(root, {}).items():
                if any(fits(look, operands) for look in looks):
                    fired = apply_rule(rule, node, opaque, guarded)
                    if fired is not None and fired.result is not node:
                        return fired
        return None


def fits(look: Look, operands: Sequence[str]) -> bool:
    """Are the operands made by ops that the pattern can match?"""
    if look is None:
        return True
    if len(look) != len(operands):
        return False
    return all(names is None or operand in names for names, operand in zip(look, operands, strict=True))


def rewrite(outputs: Sequence[Tensor], rules: RuleSet, opaque: Sequence[Tensor] = ()) -> tuple[list[Tensor], list[str]]:
    """The outputs in normal form, and a remark for each firing: ``log1p: model.py:12``."""
    result, fired = normalised(outputs, rules, opaque)
    return result, list(map(str, fired))


def normalised(outputs: Sequence[Tensor], rules: RuleSet, opaque: Sequence[Tensor] = (),
               journal: Journal | None = None) -> tuple[list[Tensor], list[Fired]]:
    """The outputs in normal form, and what fired on the way, in order."""
    run = Rewriting(rules, opaque, FIRINGS_PER_NODE * (len(toposort(outputs)) + 100), journal)
    return run.normalise(outputs), run.fired


class Rewriting:
    """One run: what is in normal form already, and what is on its way."""

    def __init__(self, rules: RuleSet, opaque: Sequence[Tensor], budget: int, journal: Journal | None = None) -> None:
        self.rules = rules
        self.leaves = frozenset(map(id, opaque))
        self.budget = budget
        self.journal = journal
        self.fired: list[Fired] = []
        self.normal: dict[int, Tensor] = {}  # node -> its normal form
        self.detour: dict[int, Tensor] = {}  # node -> what takes its place, and is to be brought to normal form first
        self.guarded: set[int] = set()  # normal forms that check sizes at the call, or need a node that does
        self.alive: list[Tensor] = []  # so that ids in the tables stay those of the same nodes

    def normalise(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        self.alive.extend(outputs)
        stack = [*outputs]
        while stack:
            node = stack[-1]
            if id(node) in self.normal:
                stack.pop()
                continue
            ahead = self.waiting_for(node)
            if ahead:
                stack.extend(ahead)
            elif id(node) in self.detour:
                self.normal[id(node)] = self.normal[id(self.detour[id(node)])]
            else:
                self.advance(node)
        return [self.normal[id(output)] for output in outputs]

    def waiting_for(self, node: Tensor) -> list[Tensor]:
        """What must be in normal form before the node can be."""
        if id(node) in self.leaves:
            return []
        needed = [self.detour[id(node)]] if id(node) in self.detour else list(reversed(node.inputs))
        ahead = [each for each in needed if id(each) not in self.normal]
        for each in ahead:
            if id(each) in self.detour:  # what takes its place needs it
                raise VerificationError(f"rewriting goes in a circle at {each.op.name}, {each.location}")
        return ahead

    def advance(self, node: Tensor) -> None:
        """One step for a node whose inputs are in normal form: take those, or be replaced, or be done."""
        if id(node) not in self.leaves:
            current = rebuild(node, [self.normal[id(each)] for each in node.inputs])
            if current is not node:
                self.take_detour(node, current)
                if self.journal is not None:
                    self.journal.append(Rebuilt(node, current))
                return
            fired = self.rules.apply(node, self.leaves, self.guarded)
            if fired is not None:
                self.fired.append(fired)
                if len(self.fired) > self.budget:
                    last = "; ".join(map(str, self.fired[-5:]))
                    raise VerificationError(f"rewriting does not come to rest; last rules: {last}")
                self.take_detour(node, fired.result)
                if self.journal is not None:
                    self.journal.append(fired)
                return
        self.normal[id(node)] = node
        if node.guards or any(id(each) in self.guarded for each in node.inputs):
            self.guarded.add(id(node))

    def take_detour(self, node: Tensor, replacement: Tensor) -> None:
        self.detour[id(node)] = replacement
        self.alive.append(replacement)


def apply_rule(rule: Rule, node: Tensor, opaque: frozenset[int], guarded: Set[int]) -> Fired | None:
    """The rule's checked replacement for the node, with its lines and name; None where it does not fire."""
    for found in rule.pattern.match(node, Match(), opaque):
        if rule.where is not None and not rule.where(found):
            continue
        with made_of(node, *found.nodes):
            result = finish(rule, node, rule.instantiate(found))
        if result is not None and keeps_guards(found, result, guarded):
            if result._label is None and not any(result is value for value in found.bound.values()):
                result._label = node._label
            hand_on(node, result)
            return Fired(rule.name, rule.why, node, result, found.nodes)
    return None


def finish(rule: Rule, node: Tensor, result: Any) -> Tensor | None:
    """The replacement as a tensor of the node's type."""
    if result is None:
        return None
    tensor = result if isinstance(result, Tensor) else as_tensor(result, node.dtype)
    if tensor.ndim == 0:
        tensor = broadcast(tensor, node.shape)
    if tensor.dtype == node.dtype and tensor.shape == node.shape:
        return tensor
    if tensor.dtype == node.dtype and tensor.ndim == node.ndim and not any(
        provably_different(a, b) for a, b in zip(tensor.shape, node.shape, strict=True)
    ):
        return None  # sizes that are only equal at the call: the node is their check
    raise VerificationError(message(f"rule '{rule.name}' changes the type of what it replaces",
                                    [operand_row("before", node), operand_row("after", tensor)]))


def keeps_guards(found: Match, result: Tensor, guarded: Set[int]) -> bool:
    """Are all sizes that the matched nodes, or what they need, check at the call still checked?"""
    needed = {guard[:2] for node in found.nodes for guard in node.guards}
    below = {id(value) for value in found.bound.values() if id(value) in guarded}
    if not needed and not below:
        return True
    ends = below | {id(each) for node in found.nodes for each in node.inputs}
    for node in toposort([result], stop=lambda each: id(each) in ends):
        needed -= {guard[:2] for guard in node.guards}
        below.discard(id(node))
    return not needed and not below
