"""What is to be shown: a graph at one stage, with its kernels and its parts, as plain data.

Comes in: a tensor, several tensors, a Compilation or an Executable. Goes out: a `Model`, which every format is written
from. Stages: "tensor" (the graph as it was built), "primitive" (after all passes), "fused" (the same, with the kernel
that computes each node), "program" (its steps, and the buffers between them: program.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..compiler.pipeline import Compilation
from ..compiler.program import GraphRecord, NodeRecord, Program
from ..compiler.record import Recorder, output_names
from ..errors import ArgumentError
from ..tensor import Tensor, toposort

STAGES = ("tensor", "primitive", "fused", "program")
LEAVES = frozenset(("placeholder", "variable", "constant", "size_of"))


@dataclass(frozen=True)
class Kernel:
    """One step of the program: a kernel that is run, over how many parallel iterations, for which lines."""

    step: int
    name: str
    extent: str
    commit: bool
    lines: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.step}  {self.name}"


Fact = str | int


@dataclass(frozen=True)
class Model:
    """`kernel_of` holds the position in `kernels` of each node's kernel, -1 for none; `parts` is "forward", "backward"
    or "update" for each node ("mixed" for steps that are both of the former), or empty where that cannot be known.
    At stage "program" alone: `chains` are titles of chains of steps, `chain_of` the position of each node's chain, -1
    for none, and `facts` further attributes of each node."""

    stage: str
    nodes: tuple[NodeRecord, ...]
    outputs: tuple[tuple[str, int], ...]
    updates: tuple[tuple[int, int], ...]
    kernels: tuple[Kernel, ...]
    kernel_of: tuple[int, ...]
    parts: tuple[str, ...]
    chains: tuple[str, ...] = ()
    chain_of: tuple[int, ...] = ()
    facts: tuple[Mapping[str, Fact], ...] = ()


def collect(obj: Any, stage: str | None = None) -> Model:
    """The model of a tensor, of tensors in a list, tuple or dict, of a Compilation or of an Executable.

    Without a stage: "fused" for what has been compiled, "tensor" for tensors, which are compiled for other stages.
    """
    if stage is not None and stage not in STAGES:
        raise ArgumentError(f"there is no stage '{stage}'; stages are {', '.join(STAGES)}")
    program = _program(obj)
    if program is None:
        outputs = tensors_of(obj)
        if stage in (None, "tensor"):
            return _model("tensor", _record(obj, outputs), None)
        program = _compile(obj, outputs)
    if stage == "program":
        from .program import program_model  # which is made of what is here

        return program_model(program)
    record = program.graphs[0 if stage == "tensor" else 1]
    return _model(stage or "fused", record, program)


def _program(obj: Any) -> Program | None:
    """The program of what has been compiled; None for tensors."""
    if isinstance(obj, Compilation):
        if obj.program is None:
            raise ArgumentError("this compilation has no program: it did not come to its end")
        return obj.program
    found = obj if isinstance(obj, Program) else None if isinstance(obj, Tensor) else getattr(obj, "program", None)
    if not isinstance(found, Program):
        return None
    if not found.graphs:
        raise ArgumentError("this program carries no graph to show")
    return found


def tensors_of(obj: Any) -> list[Tensor]:
    """A tensor, or the tensors of a list, tuple or dict."""
    found = list(obj.values()) if isinstance(obj, Mapping) else list(obj) if isinstance(obj, list | tuple) else [obj]
    if found and all(isinstance(each, Tensor) for each in found):
        return found
    kind = type(obj).__name__
    stranger = next((each for each in found if not isinstance(each, Tensor)), None)
    inside = f"a {kind} with {type(stranger).__name__} in it"
    got = f"an empty {kind}" if not found else kind if stranger is obj else inside
    raise ArgumentError("only tensors (one, or a list, tuple or dict of them), executables and compilations can be "
                        f"shown, got {got}")


def _record(obj: Any, outputs: Sequence[Tensor]) -> GraphRecord:
    structure = ("dict", tuple(obj)) if isinstance(obj, Mapping) else ("list", len(outputs))
    return Recorder(output_names(outputs, structure), ()).record("tensor", outputs)


def _compile(obj: Any, outputs: Sequence[Tensor]) -> Program:
    from ..api import compile_only

    inputs = [node for node in toposort(outputs) if node.op.name == "placeholder"]
    program = compile_only(inputs, obj).program
    assert program is not None
    return program


def _model(stage: str, record: GraphRecord, program: Program | None) -> Model:
    kernels: tuple[Kernel, ...] = ()
    kernel_of = [-1] * len(record.nodes)
    if stage == "fused" and program is not None:
        kernels = tuple(kernel_of_step(program, number) for number in range(len(program.steps)))
        for number, node in enumerate(record.nodes):
            if node.steps and node.op not in LEAVES:
                kernel_of[number] = node.steps[0]
    return Model(stage, record.nodes, record.outputs, record.updates, kernels, tuple(kernel_of), parts_of(record))


def kernel_of_step(program: Program, number: int) -> Kernel:
    """A step as models list it."""
    step = program.steps[number]
    note = program.notes[step.note]
    return Kernel(number, program.kernels[step.kernel].name, str(step.extent), step.stage == "commit", note.lines)


def parts_of(record: GraphRecord) -> tuple[str, ...]:
    """Forward, backward or update for each node of a training graph; all empty where nothing is updated.

    Forward is what the outputs need. Of the rest, the end of each update belongs to it: elementwise work in the
    variable's shape that nothing else reads, and what is made of variables and numbers alone (step counts). What is
    left is the backward pass.
    """
    nodes = record.nodes
    if not record.updates or not record.outputs:
        return ("",) * len(nodes)
    users: list[list[int]] = [[] for _ in nodes]
    for number, node in enumerate(nodes):
        for each in node.inputs:
            users[each].append(number)
    forward = _needed(nodes, [number for _, number in record.outputs])
    free = [True] * len(nodes)     # made of variables and numbers alone
    for number, node in enumerate(nodes):
        free[number] = node.op not in ("placeholder", "size_of") and all(free[each] for each in node.inputs)
    shapes = {value: _shape(nodes[value]) for _, value in record.updates}
    parts = ["forward" if wanted else "backward" for wanted in forward]
    for number in range(len(nodes) - 1, -1, -1):
        node = nodes[number]
        if forward[number] or any(parts[user] != "update" for user in users[number]):
            continue
        inside = shapes.get(number) == _shape(node) and node.kind == "elementwise"
        if inside or free[number]:
            parts[number] = "update"
        if inside:
            shapes.update((each, shapes[number]) for each in node.inputs if each not in shapes)
    return tuple(parts)


def _shape(node: NodeRecord) -> str:
    return node.type[node.type.index("["):]


def _needed(nodes: Sequence[NodeRecord], wanted: Sequence[int]) -> list[bool]:
    needed = [False] * len(nodes)
    for number in wanted:
        needed[number] = True
    for number in range(len(nodes) - 1, -1, -1):
        if needed[number]:
            for each in nodes[number].inputs:
                needed[each] = True
    return needed
