"""What a picture shows of a program: its steps, and the buffers between them, inside of their chains.

Comes in: a `Model` of stage "program". Goes out: a `Display`. Inputs, constants and the old values of variables are
drawn again wherever they are read; results and new values of variables stand for themselves. A step that writes into
what is there already has a dashed arrow from it.
"""

from __future__ import annotations

from .marks import Arrow, Display, Mark
from .model import Fact, Model
from .text import clip, one_line

WIDEST_NAME, WIDEST_FACT = 40, 46
LEAVES = ("input", "variable", "constant")


class StepsBuilder:
    """Makes the display, node by node."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.shown = Display(model.stage, kernels=model.chains, tooltips=tuple(
            f"{title}\nthey go together through some rows at a time" for title in model.chains))
        self.mark_of: dict[tuple[int, int], int] = {}
        """By node, and by chain for what is drawn in each."""
        self.written: dict[int, set[Fact]] = {}
        for node, fact in zip(model.nodes, model.facts, strict=True):
            for step in node.inputs if "buffer" in fact else ():
                self.written.setdefault(step, set()).add(fact["buffer"])

    def run(self) -> Display:
        for number, node in enumerate(self.model.nodes):
            if node.kind == "step":
                self._step(number)
            elif node.inputs:
                (step,) = node.inputs
                mark = self._buffer(number, self.model.chain_of[number])
                self.shown.arrows.append(Arrow(self.mark_of[step, -1], mark))
        for name, number in self.model.outputs:
            self._output(name, number)
        return self.shown

    def _step(self, number: int) -> None:
        node, chain = self.model.nodes[number], self.model.chain_of[number]
        label = clip(f"{node.steps[0]}  {node.op}", WIDEST_NAME)
        mark = self._add(Mark("op", label, clip(node.detail, WIDEST_FACT), self._tooltip(number), number, chain,
                              self.model.parts[number]))
        self.mark_of[number, -1] = mark
        for operand in node.inputs:
            buffer = self.model.facts[operand]
            again = buffer["buffer"] in self.written.get(number, ()) and buffer["place"] != "variable"
            self.shown.arrows.append(Arrow(self._source(operand, chain), mark, 0,
                                           ("the same memory",) if again else ()))

    def _source(self, number: int, chain: int) -> int:
        """A buffer's mark: that of what a step has written, or one beside this reader."""
        if self.model.nodes[number].inputs:
            return self.mark_of[number, -1]
        if (number, chain) not in self.mark_of:
            self.mark_of[number, chain] = self._buffer(number, chain)
        return self.mark_of[number, chain]

    def _buffer(self, number: int, chain: int) -> int:
        node = self.model.nodes[number]
        role = node.kind if node.kind in (*LEAVES, "output") else "buffer"
        if role == "variable" and node.inputs:
            role = "update"
        name, detail = clip(one_line(node.name), WIDEST_NAME), ""
        if role != "update":
            detail = f"{clip(node.type, WIDEST_FACT)}\n{clip(node.detail, WIDEST_FACT)}"
        mark = self._add(Mark(role, name, detail, self._tooltip(number), number, chain, self.model.parts[number]))
        if node.inputs:
            self.mark_of[number, -1] = mark
        return mark

    def _output(self, name: str, number: int) -> None:
        """Results that are copied from a buffer of another kind, or of another name."""
        node, chain = self.model.nodes[number], self.model.chain_of[number]
        if node.kind == "output" and node.name == name:
            return
        mark = self._add(Mark("output", clip(one_line(name), WIDEST_NAME), "", f"output {one_line(name)}", number,
                              chain, self.model.parts[number]))
        self.shown.arrows.append(Arrow(self._source(number, chain), mark))

    def _add(self, mark: Mark) -> int:
        self.shown.marks.append(mark)
        return len(self.shown.marks) - 1

    def _tooltip(self, number: int) -> str:
        node = self.model.nodes[number]
        title = f"step {node.steps[0]}: {node.op}" if node.kind == "step" else f"{node.kind} {one_line(node.name)}"
        rows = [f"%{number} {title}"]
        rows += [node.type] if node.type else []
        rows += [f"scope: {one_line(node.scope)}"] if node.scope else []
        rows += [f"{key.replace('_', ' ')}: {one_line(str(value))}" for key, value in self.model.facts[number].items()
                 if value != -1 and value != ""]
        if node.kind == "step":
            rows.append(f"cost: {node.flops} flops, {node.bytes_moved} bytes")
        return "\n".join([*rows, *map(one_line, node.lines)])
