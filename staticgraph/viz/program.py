"""The last stage, "program": steps, and the buffers between them, as a graph.

Comes in: a `Program`. Goes out: a `Model` whose nodes are steps and buffers in the order of execution. A buffer that is
written again (in place, in parts, or a variable at the end) is another node, so that there is no cycle: what a step
writes into, it takes from the node before. An arena buffer is alive from the first step that touches it to the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..compiler.program import Buffer, NodeRecord, Program
from .model import Fact, Model, kernel_of_step, parts_of


def program_model(program: Program) -> Model:
    """The program as a model."""
    return _Builder(program).run()


class _Builder:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[NodeRecord] = []
        self.facts: list[Mapping[str, Fact]] = []
        self.parts: list[str] = []
        self.chain_of: list[int] = []
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}     # the newest node of each buffer
        self.touched: dict[int, list[int]] = {}
        for number, step in enumerate(program.steps):
            for buffer in (*step.reads, *step.writes):
                self.touched.setdefault(buffer, []).append(number)

    def run(self) -> Model:
        program = self.program
        parts, chains = _parts_of_steps(program), self._chains()
        for number in range(len(program.steps)):
            self._step(number, parts[number], chains.get(number, -1))
        outputs = []
        for number, spec in enumerate(program.outputs):
            early = program.buffers[spec.buffer].place in ("input", "variable", "constant")     # the old state
            node = self._node_of(spec.buffer, self.first if early else self.last)
            outputs.append((_output_name(program, number), node))
        steps = range(len(program.steps))
        titles = tuple(f"chain of steps {chain.first} to {chain.first + chain.count - 1}, {chain.rows} rows"
                       for chain in program.chains)
        return Model("program", tuple(self.nodes), tuple(outputs), self._updates(),
                     tuple(kernel_of_step(program, number) for number in steps),
                     tuple(node.steps[0] if node.steps else -1 for node in self.nodes), tuple(self.parts),
                     titles, tuple(self.chain_of), tuple(self.facts))

    def _updates(self) -> tuple[tuple[int, int], ...]:
        """Variables that are written: (the old value's node, the new one's), where the old one is read at all."""
        pairs = ((self.first[buffer], self.last[buffer]) for buffer in sorted(self.first)
                 if self.program.buffers[buffer].place == "variable")
        return tuple((old, new) for old, new in pairs if old != new)

    def _chains(self) -> dict[int, int]:
        return {step: number for number, chain in enumerate(self.program.chains)
                for step in range(chain.first, chain.first + chain.count)}

    def _step(self, number: int, part: str, chain: int) -> None:
        program, step = self.program, self.program.steps[number]
        note, name = program.notes[step.note], program.kernels[step.kernel].name
        inputs = [self._node_of(buffer, self.last) for buffer in step.reads]
        for buffer in step.writes:     # in place, or one part after another; variables say so themselves
            if program.buffers[buffer].place != "variable" and buffer in self.last and buffer not in step.reads:
                inputs.append(self.last[buffer])
        scope = note.title.rpartition("/")[0]
        record = NodeRecord(name, "step", "", "", scope, note.lines, tuple(inputs), f"over {step.extent}", (number,),
                            flops=str(note.flops), bytes_moved=str(note.bytes_moved))
        facts: dict[str, Fact] = {"extent": str(step.extent), "chain": chain, "stage": step.stage,
                                  "computes": ", ".join(note.nodes)}
        writer = self._add(record, facts, part, chain)
        for buffer in step.writes:
            self._buffer(buffer, (writer,), part, chain)

    def _node_of(self, buffer: int, nodes: Mapping[int, int]) -> int:
        """The buffer's node; what no step has written stands before all that read it."""
        if buffer not in nodes:
            self._buffer(buffer, (), "", -1)
        return nodes[buffer]

    def _buffer(self, number: int, writers: tuple[int, ...], part: str, chain: int) -> None:
        buffer = self.program.buffers[number]
        facts: dict[str, Fact] = {"buffer": number, "place": buffer.place, "bytes": str(buffer.nbytes), "chain": chain}
        detail = f"{buffer.nbytes} bytes"
        if buffer.place == "arena":
            first, last = self.touched[number][0], self.touched[number][-1]
            facts |= {"offset": str(buffer.offset), "first_step": first, "last_step": last}
            detail += f", steps {first} to {last}" if first != last else f", step {first}"
        name, lines = _told(self.program, buffer)
        kind = f"{buffer.dtype}[{', '.join(map(str, buffer.shape))}]"
        node = self._add(NodeRecord("buffer", buffer.place, kind, name, "", lines, writers, detail), facts, part, chain)
        self.first.setdefault(number, node)
        self.last[number] = node

    def _add(self, record: NodeRecord, facts: Mapping[str, Fact], part: str, chain: int) -> int:
        self.nodes.append(record)
        self.facts.append(facts)
        self.parts.append(part)
        self.chain_of.append(chain)
        return len(self.nodes) - 1


def _output_name(program: Program, number: int) -> str:
    outputs = program.graphs[0].outputs
    return outputs[number][0] if number < len(outputs) else f"print of {program.prints[number - len(outputs)].label}"


def _told(program: Program, buffer: Buffer) -> tuple[str, tuple[str, ...]]:
    """What people call a buffer, and the lines where they made it."""
    if buffer.place == "output":
        return _output_name(program, buffer.index), ()
    if buffer.place not in ("input", "variable"):
        return buffer.name, ()
    spec = program.inputs[buffer.index] if buffer.place == "input" else program.variables[buffer.index]
    return spec.name or buffer.name, (spec.location,) if spec.location else ()


def _parts_of_steps(program: Program) -> Sequence[str]:
    """Forward, backward or update, as the nodes of each step are; "mixed" where they are forward and backward."""
    found: list[set[str]] = [set() for _ in program.steps]
    record = program.graphs[1]
    for node, part in zip(record.nodes, parts_of(record), strict=True):
        for number in node.steps:
            found[number].add(part)
    names = []
    for step, parts in zip(program.steps, found, strict=True):
        if step.stage == "commit":
            names.append("update")
        elif {"forward", "backward"} <= parts:
            names.append("mixed")
        else:
            names.append(next((part for part in ("forward", "backward", "update") if part in parts), ""))
    return names
