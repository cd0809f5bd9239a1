"""What a picture shows of a model: fewer nodes than the graph has, so that a person can read it.

Comes in: a `Model`. Goes out: a `Display` of marks and arrows. What is left out, and where it went:

* numbers, sizes and index ramps stand in the label of the node that uses them: ``multiply(0.9, ·)``, a dot for each
  operand that has an arrow of its own;
* views that cost nothing become dashed arrows (stretched or reshaped); a transposed operand reads ``·ᵀ``, a slice
  ``·[:]``. Before fusion only stretches are folded, since those are seldom written by the user;
* placeholders, variables and arrays are drawn again in every kernel (or part) that reads them, so that no arrow crosses
  the picture for them.

Outputs and updates of variables get marks of their own below the node that they come from. The stage "program" is drawn
by steps.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..compiler.program import NodeRecord
from .marks import Arrow, Display, Mark, kernel_tooltip
from .model import Model
from .steps import StepsBuilder
from .text import clip, one_line

WIDEST_LABEL = 34
WIDEST_OPERAND = 18
COMMUTATIVE = frozenset("add multiply maximum minimum equal not_equal logical_and logical_or logical_xor bitwise_and "
                        "bitwise_or bitwise_xor hypot logaddexp".split())


def display(model: Model) -> Display:
    """Decide what is drawn; see the module docstring."""
    return StepsBuilder(model).run() if model.stage == "program" else _Builder(model).run()


class _Builder:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.shown = Display(model.stage, kernels=kernel_titles(model),
                             tooltips=tuple(map(kernel_tooltip, model.kernels)))
        self.roots = {number for _, number in model.outputs} | {number for pair in model.updates for number in pair}
        self.text_of: dict[int, str] = {}
        self.mark_of: dict[tuple[int, int, str], int] = {}

    def run(self) -> Display:
        for number, node in enumerate(self.model.nodes):
            text = self._inline_text(number, node)
            if text is not None:
                self.text_of[number] = text
            elif node.op not in ("placeholder", "variable", "constant") and not self._folded(number):
                self._operation(number, node)
        self._results()
        return self.shown

    def _folded(self, number: int) -> bool:
        """Views without a mark of their own."""
        node = self.model.nodes[number]
        if node.kind != "view" or number in self.roots:
            return False
        return self.model.kernel_of[number] < 0 if self.model.stage == "fused" else node.op == "broadcast_to"

    def _inline_text(self, number: int, node: NodeRecord) -> str | None:
        """What stands for the node in its users' labels; None for nodes with a mark."""
        if number in self.roots:
            return None
        if node.op == "size_of":
            return node.detail.removeprefix("size=")
        if node.op == "constant" and node.type.endswith("[]"):
            return node.detail
        if self.model.stage != "fused" or self.model.kernel_of[number] >= 0 or node.op in (
                "placeholder", "variable", "constant") or node.kind == "view":
            return None
        if node.op == "iota":
            return "iota"
        operands = [self.text_of.get(self._base(each)[0], "·") for each in node.inputs]
        return operands[0] if node.op == "astype" else f"{node.op}({', '.join(operands)})"

    def _base(self, number: int) -> tuple[int, tuple[str, ...]]:
        """What a node stands for once folded views are passed, and their texts, nearest to the user first."""
        views = []
        while self._folded(number):
            node = self.model.nodes[number]
            views.append(f"{node.op}({node.detail})")
            number = node.inputs[0]
        return number, tuple(views)

    def _operation(self, number: int, node: NodeRecord) -> None:
        kernel, part = self.model.kernel_of[number], self.model.parts[number]
        operands, arrows = [], []
        for position, operand in enumerate(node.inputs):
            base, views = self._base(operand)
            if base in self.text_of:
                operands.append(clip(self.text_of[base], WIDEST_OPERAND))
            else:
                operands.append(_dot(views))
                arrows.append((base, position, views))
        label = node.op if all(each == "·" for each in operands) else f"{node.op}({', '.join(operands)})"
        mark = self._add(Mark("op", clip(label, WIDEST_LABEL), node.type, self._tooltip(number), number, kernel, part))
        self.mark_of[number, kernel, part] = mark
        ordered = len(arrows) > 1 and node.op not in COMMUTATIVE
        for base, position, views in arrows:
            self.shown.arrows.append(Arrow(self._source(base, kernel, part), mark, position + 1 if ordered else 0,
                                           views))

    def _source(self, number: int, kernel: int, part: str) -> int:
        """The mark of an operand: the node's own, or the leaf's in this kernel or part."""
        node = self.model.nodes[number]
        if node.op not in ("placeholder", "variable", "constant"):
            return self.mark_of[number, self.model.kernel_of[number], self.model.parts[number]]
        key = (number, kernel, part if kernel < 0 else "")
        if key not in self.mark_of:
            role = {"placeholder": "input"}.get(node.op, node.op)
            label = node.detail if node.op == "constant" and not node.name else node.name or node.op
            self.mark_of[key] = self._add(Mark(role, clip(one_line(label), WIDEST_LABEL), node.type,
                                               self._tooltip(number), number, kernel, part))
        return self.mark_of[key]

    def _results(self) -> None:
        nodes = self.model.nodes
        for name, number in self.model.outputs:
            self._result("output", name, f"output {one_line(name)}", number)
        for variable, value in self.model.updates:
            name = nodes[variable].name or "variable"
            self._result("update", name, f"new value of variable {one_line(name)}", value)

    def _result(self, role: str, name: str, tooltip: str, number: int) -> None:
        kernel, part = self.model.kernel_of[number], self.model.parts[number]
        source = self._source(number, kernel, part)
        if role == "update":
            part = "update" if part else ""
        mark = self._add(Mark(role, clip(one_line(name), WIDEST_LABEL), "", tooltip, number, kernel, part))
        self.shown.arrows.append(Arrow(source, mark))

    def _add(self, mark: Mark) -> int:
        self.shown.marks.append(mark)
        return len(self.shown.marks) - 1

    def _tooltip(self, number: int) -> str:
        node = self.model.nodes[number]
        kernel = self.model.kernel_of[number]
        rows = [f"%{number} {node.op}" + (f"({node.detail})" if node.detail else ""), node.type]
        rows += [f"name: {one_line(node.name)}"] if node.name else []
        rows += [f"scope: {one_line(node.scope)}"] if node.scope else []
        rows += [f"kernel: {self.model.kernels[kernel].title}"] if kernel >= 0 else []
        rows += [f"part: {self.model.parts[number]}"] if self.model.parts[number] else []
        rows += [f"cost: {node.flops} flops, {node.bytes_moved} bytes"] if node.bytes_moved != "0" else []
        rows += [f"gradient partner: {', '.join(f'%{each}' for each in node.partner)}"] if node.partner else []
        return "\n".join([*rows, *map(one_line, node.lines)])


def kernel_titles(model: Model) -> tuple[str, ...]:
    """The title of each kernel's box: its step and name, and those of further steps where all of its nodes take several
    (a concatenation is a copy for each operand)."""
    steps: dict[int, set[tuple[int, ...]]] = {}
    for node, kernel in zip(model.nodes, model.kernel_of, strict=True):
        if kernel >= 0:
            steps.setdefault(kernel, set()).add(node.steps)
    titles = [kernel.title for kernel in model.kernels]
    for kernel, found in steps.items():
        taken = next(iter(found))
        if len(found) == 1 and len(taken) > 1:
            names = dict.fromkeys(model.kernels[step].name for step in taken)
            titles[kernel] = f"{', '.join(map(str, taken))}  {', '.join(names)}"
    return tuple(titles)


def _dot(views: Sequence[str]) -> str:
    """How an operand with an arrow reads in a label."""
    transposed = sum(view.startswith("permute_dims") for view in views) % 2
    sliced = any(view.startswith("slice") for view in views)
    return "·" + "ᵀ" * transposed + "[:]" * sliced
