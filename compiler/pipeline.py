"""The pipeline: a tensor graph in, a Program out, through one visible list of passes.

    tensor graph --stabilise--> --decompose--> primitive graph --simplify--> --settle-->
    --fuse--> groups --schedule--> steps --lower--> kernel IR --render--> sources --plan--> Program

`PASSES` is the graph part: each pass takes outputs and gives outputs of the same types, which is verified after each,
and tells what it exchanged. A compilation that has room for journals keeps every step of that (see `history`).
`STATICGRAPH_DEBUG` shows the work on stderr (1: passes and times, 2: also what rules did, 3: also the graph after each
pass, 4: also the schedule and kernel IR, 5: also sources); `STATICGRAPH_DUMP=folder` writes all of it as files.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakSet

from staticgraph import location
from staticgraph.errors import ArgumentError, VerificationError
from staticgraph.formatting import format_graph
from staticgraph.op import Op, operands_message
from staticgraph.rewrite import SIMPLIFICATION, STABILITY
from staticgraph.rewrite.journal import Fired, Journal, counted
from staticgraph.rewrite.rewriter import RuleSet, normalised
from staticgraph.tensor import Tensor, describe_line, toposort
from staticgraph.types import Size, learnable_symbols, maximum_size, size_symbols
from staticgraph.watching import Print, Watched, guards_against, taken_out

from .absorb import absorb
from .assemble import Assembler
from .backend import BACKENDS
from .checks import told, told_print
from .convolution import direct
from .decompose import decompose, settle
from .fusion import fuse
from .groups import update_cone
from .program import GraphRecord, Guard, InputSpec, OutputSpec, PassRecord, Program, Rewrite, VariableSpec, verify
from .record import Recorder, output_names, summary
from .schedule import Schedule, Scheduler
from .target import Target
from .verify import enabled, format_schedule, verify_graph, verify_schedule
from .views import below_reshapes

GraphPass = Callable[[Sequence[Tensor], Journal | None], tuple[list[Tensor], list[Fired]]]


def _by(rules: RuleSet) -> GraphPass:
    return lambda outputs, journal: normalised(outputs, rules, (), journal)


PASSES: tuple[tuple[str, GraphPass], ...] = (
    ("stabilise", _by(STABILITY)),
    ("absorb", absorb),
    ("direct", direct),
    ("decompose", decompose),
    ("simplify", _by(SIMPLIFICATION)),
    ("settle", settle),
)
"""What happens to the graph, in order."""

ONLY_ON = {"absorb": "cuda", "direct": "cpu"}
"""Passes for one device."""


@dataclass(eq=False)
class Compilation:
    """A compile in the making, and its record afterwards: graphs by pass, the schedule, the program. Passes keep
    journals where there is a place for them."""

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    updates: Mapping[Tensor, Tensor]
    target: Target
    options: Mapping[str, Any]
    structure: tuple[Any, ...] = ("tensor",)
    graphs: dict[str, list[Tensor]] = field(default_factory=dict)
    records: list[PassRecord] = field(default_factory=list)
    variables: list[Tensor] = field(default_factory=list)
    rewrites: list[Rewrite] = field(default_factory=list)
    schedule: Schedule | None = None
    program: Program | None = None
    nodes_of_step: Sequence[Sequence[Tensor]] = ()
    journals: dict[str, Journal] | None = None
    prints: list[Print] = field(default_factory=list)
    watched: list[Watched] = field(default_factory=list)


def compile_graph(compilation: Compilation, folder: str = "") -> Program:
    """Run all passes; the Program is also kept in the compilation. With a `folder` each level is written into it, as
    STATICGRAPH_DUMP asks for."""
    roots = [*compilation.outputs, *compilation.updates.values()]
    order = toposort(roots)
    _check_leaves(compilation, order)
    _check_budget(compilation)
    compilation.variables = _variables(compilation, order)
    guards = _guards(order)
    compilation.graphs["tensor"] = roots
    roots = watch(compilation, roots)
    if compilation.journals is not None:
        compilation.graphs["tensor"] = roots     # from here on, pass after pass exchanges nodes below the same roots
    debug = Debug(folder)
    for name, graph_pass in PASSES:
        if ONLY_ON.get(name, compilation.target.device) != compilation.target.device:
            continue
        if name != "stabilise" or compilation.options.get("stabilise", True):
            roots = _run_pass(name, graph_pass, roots, compilation, debug)
        if name == "stabilise":
            roots = guard(compilation, roots)
    return _back_end(compilation, roots, guards, debug)


def watch(compilation: Compilation, roots: list[Tensor]) -> list[Tensor]:
    """Prints and assertions become roots: after outputs and new values come the printed values, then the guards."""
    roots, compilation.prints, compilation.watched, guards = taken_out(roots)
    return [*roots, *(each.value for each in compilation.prints), *guards]


def guard(compilation: Compilation, roots: list[Tensor]) -> list[Tensor]:
    """One more root for each value in which the option "check" looks for nan or infinities: in the formulas that will
    be computed, while composites are still what the user called them. No pass makes them: histories are without."""
    kind = compilation.options.get("check", "")
    if not kind or compilation.journals is not None:
        return roots
    names = output_names(compilation.outputs, compilation.structure)
    kept = roots[:len(compilation.outputs) + len(compilation.updates)]
    found, guards = guards_against(kept, names, [each.name or "" for each in compilation.updates], kind,
                                   len(compilation.watched))
    compilation.watched += found
    return [*roots, *guards]


def _run_pass(name: str, graph_pass: GraphPass, roots: list[Tensor], compilation: Compilation,
              debug: Debug) -> list[Tensor]:
    journal = compilation.journals.setdefault(name, []) if compilation.journals is not None else None
    before, started = len(toposort(roots)), time.perf_counter()
    after, fired = graph_pass(roots, journal)
    seconds = time.perf_counter() - started
    for old, new in zip(roots, after, strict=True):
        if old.dtype != new.dtype or old.ndim != new.ndim:
            raise VerificationError(f"pass '{name}' turned {old.type} into {new.type}")
    if enabled():
        verify_graph(after, primitive=name not in ("stabilise", "absorb", "direct"))
    record = PassRecord(name, before, len(toposort(after)), seconds)
    compilation.records.append(record)
    compilation.rewrites += summary(name, fired)
    compilation.graphs[name] = after
    debug.graph(record, after, fired)
    return after


def _back_end(compilation: Compilation, roots: list[Tensor], guards: list[Guard], debug: Debug) -> Program:
    """From the primitive graph to the Program."""
    started = time.perf_counter()
    count = len(compilation.outputs)
    values, rest = roots[count: count + len(compilation.updates)], roots[count + len(compilation.updates):]
    outputs, guarding = roots[:count] + rest[:len(compilation.prints)], rest[len(compilation.prints):]
    originals = [*compilation.outputs, *(each.node for each in compilation.prints)]
    stored = [below_reshapes(each) for each in outputs]
    compilation.graphs["fuse"] = [*stored, *values, *guarding]
    if compilation.journals is not None:
        compilation.journals["fuse"] = [Fired("leave-reshape", "the caller's array has its shape by itself", old, new,
                                              (old,), True)
                                        for old, new in dict(zip(outputs, stored, strict=True)).items()
                                        if old is not new]
    order = toposort([*stored, *values, *guarding])
    by_rows = BACKENDS[compilation.target.device].chains_steps
    fused = fuse(order, [*stored, *values, *guarding], update_cone(order, values, stored), by_rows,
                 compilation.journals["fuse"] if compilation.journals is not None else None)
    updates = dict(zip(compilation.updates, values, strict=True))
    schedule = Scheduler(fused, compilation.inputs, compilation.variables, stored, updates,
                         in_place=by_rows).run()
    compilation.schedule = schedule
    if enabled():
        verify_schedule(schedule)
    middle = time.perf_counter()
    compilation.records.append(PassRecord("fuse", len(order), len(schedule.steps), middle - started))
    parts = Assembler(schedule, compilation.target, compilation.options).run()
    compilation.records.append(PassRecord("lower", len(schedule.steps), len(parts.kernels),
                                          time.perf_counter() - middle))
    if parts.recomputed is not None:
        compilation.records.append(replace(parts.recomputed, remarks=()))
    compilation.nodes_of_step = parts.nodes_of_step
    written = set(compilation.updates)
    program = Program(
        device=compilation.target.device,
        inputs=tuple(InputSpec(node.name or "", str(node.dtype), node.shape, str(node.location))
                     for node in compilation.inputs),
        outputs=tuple(OutputSpec(str(node.dtype), node.shape, number, original.name or "") for node, original, number
                      in zip(outputs, originals, schedule.outputs, strict=True)),
        variables=tuple(VariableSpec(node.name or "", str(node.dtype), _static(node), node in written,
                                     str(node.location)) for node in compilation.variables),
        constants=tuple(schedule.constants), buffers=parts.buffers, kernels=parts.kernels, steps=parts.steps,
        notes=parts.notes, guards=tuple(guards),
        checks=tuple(told(each, compilation.watched) for each in parts.checks), arena_bytes=parts.arena_bytes,
        structure=compilation.structure, passes=tuple(compilation.records),
        graphs=_graph_records(compilation, roots, parts.nodes_of_step), chains=parts.chains,
        prints=tuple(map(told_print, compilation.prints)), rewrites=tuple(compilation.rewrites),
        boundaries=parts.boundaries,
        recomputed=parts.recomputed.remarks if parts.recomputed is not None else ())
    verify(program)
    compilation.program = program
    debug.program(compilation, parts)
    return program


def _graph_records(compilation: Compilation, roots: Sequence[Tensor],
                   nodes_of_step: Sequence[Sequence[Tensor]]) -> tuple[GraphRecord, ...]:
    """The graph as it was built, and the one that was scheduled with the steps of each node."""
    recorder = Recorder(output_names(compilation.outputs, compilation.structure), list(compilation.updates))
    steps: dict[Tensor, tuple[int, ...]] = {}
    for number, nodes in enumerate(nodes_of_step):
        for node in nodes:
            steps[node] = (*steps.get(node, ()), number)
    return (recorder.record("tensor", compilation.graphs["tensor"]), recorder.record("primitive", roots, steps))


def _static(node: Tensor) -> tuple[int, ...]:
    return tuple(int(size) for size in node.shape)


def _check_leaves(compilation: Compilation, order: Sequence[Tensor]) -> None:
    """Every placeholder is an input, and every symbolic size is bound by one."""
    given = set(compilation.inputs)
    known = learnable_symbols(size for node in compilation.inputs for size in node.shape)
    for node in order:
        if node.op.name == "placeholder" and node not in given:
            raise ArgumentError(f"compile: placeholder '{node.name}' is needed but is not among the inputs\n"
                                f"  {describe_line(node)}")
    for node in order:
        for size in (node.attrs["size"],) if node.op.name == "size_of" else node.shape:
            unknown = size_symbols(size) - known
            if unknown:
                names = ", ".join(f"'{name}'" for name in sorted(unknown))
                raise ArgumentError(f"compile: no input has the dimension {names}, so its size cannot be known\n"
                                    f"  {describe_line(node)}")


def _check_budget(compilation: Compilation) -> None:
    """Bytes can be counted only where sizes are numbers."""
    if not compilation.options.get("memory_budget"):
        return
    known = compilation.options.get("sizes", {})
    for node in compilation.inputs:
        unknown = set().union(*map(size_symbols, node.shape)) - set(known)
        if unknown:
            example = ", ".join(f"'{name}': 64" for name in sorted(unknown))
            raise ArgumentError(f"compile: option 'memory_budget' needs sizes to count with\n  {describe_line(node)}\n"
                                f"  give them in options: \"sizes\": {{{example}}}")


def _variables(compilation: Compilation, order: Sequence[Tensor]) -> list[Tensor]:
    """Variables that are read or written, in order of first use."""
    found = {node: None for node in order if node.op.name == "variable"}
    found.update(dict.fromkeys(compilation.updates))
    return list(found)


EXTREMES = ("max", "min", "argmax", "argmin")

WITHOUT_EXTREMES: WeakSet[Op] = WeakSet()
"""Composites that were found to look for no extreme element: they are not looked into again."""


def _guards(order: Sequence[Tensor]) -> list[Guard]:
    """Sizes that the graph took to be equal, and reductions that need at least one element."""
    guards: dict[tuple[Any, Any], Guard] = {}
    for node in order:
        for left, right, what in node.guards:
            text = what if "{left}" in what else f"{what}: {left} and {right}"
            guards.setdefault((left, right), Guard(left, right, _guard_text(node, text)))
        for size, what in _needed_sizes(node):
            least = maximum_size(size, 1)
            guards.setdefault((least, size), Guard(least, size, _guard_text(node, what)))
    return list(guards.values())


def _needed_sizes(node: Tensor) -> list[tuple[Size, str]]:
    """Symbolic sizes of axes in which a node looks for an extreme element, itself or in what it is composed of."""
    if node.op.kind == "composite" and node.op not in WITHOUT_EXTREMES:
        assert node.op.expand is not None
        with location.using(node.locations):
            inside = node.op.expand(*node.inputs, **node.attrs)
        known = frozenset((*node.inputs, node))
        parts = [each for each in toposort([inside], stop=known.__contains__) if each not in known]
        if not any(each.op.kind == "composite" or each.op.name in EXTREMES for each in parts):
            WITHOUT_EXTREMES.add(node.op)
        return [found for each in parts for found in _needed_sizes(each)]
    if node.op.name not in EXTREMES:
        return []
    sizes = [(node.inputs[0].shape[axis], axis) for axis in node.attrs["axes"]]
    return [(size, f"axis {axis} of the operand is empty ({size} = {{right}}), so there is no {node.op.name}")
            for size, axis in sizes if not isinstance(size, int)]


def _guard_text(node: Tensor, what: str) -> str:
    return operands_message(f"{node.op.name}: {what}", node.inputs, f"made at {node.location}")


class Debug:
    """STATICGRAPH_DEBUG and STATICGRAPH_DUMP; see the module docstring."""

    def __init__(self, folder: str = "") -> None:
        text = os.environ.get("STATICGRAPH_DEBUG", "0")
        self.level = int(text) if text.isdigit() else 0
        self.folder = folder or os.environ.get("STATICGRAPH_DUMP")
        self.count = 0

    def say(self, level: int, text: str) -> None:
        if self.level >= level:
            print(text, file=sys.stderr)

    def graph(self, record: PassRecord, outputs: Sequence[Tensor], fired: Sequence[Fired]) -> None:
        self.say(1, f"staticgraph: {record.name}: {record.nodes_before} -> {record.nodes_after} nodes, "
                    f"{record.seconds * 1e3:.1f} ms")
        remarks = counted(fired) if self.level >= 2 or self.folder else []
        for remark in remarks:
            self.say(2, f"  {remark}")
        if self.level >= 3:
            self.say(3, format_graph(outputs))
        if self.folder:
            self.write(f"{self.count:02d}_{record.name}.txt", format_graph(outputs) + "\n" + "\n".join(remarks))
            self.count += 1

    def program(self, compilation: Compilation, parts: Any) -> None:
        for record in compilation.records[-2:]:
            self.say(1, f"staticgraph: {record.name}: {record.nodes_before} -> {record.nodes_after}, "
                        f"{record.seconds * 1e3:.1f} ms")
        assert compilation.schedule is not None
        if self.level >= 4:
            self.say(4, format_schedule(compilation.schedule))
        self.say(4, "\n".join(parts.kernel_texts))
        for kernel in parts.kernels:
            self.say(5, kernel.text)
        if self.folder:
            self.write("schedule.txt", format_schedule(compilation.schedule))
            self.write("kernels.ir.txt", "\n".join(parts.kernel_texts))
            for kernel in parts.kernels:
                self.write(f"k_{kernel.key[:16]}_{kernel.name}.py", kernel.text)
            self.write("program.txt", format_program(compilation.program))

    def write(self, name: str, text: str) -> None:
        assert self.folder
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, name)
        with open(path + ".new", "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text if text.endswith("\n") else text + "\n")
        os.replace(path + ".new", path)


def format_program(program: Program | None) -> str:
    """Steps and buffers of a program as text."""
    assert program is not None
    lines = []
    for number, buffer in enumerate(program.buffers):
        shape = ", ".join(map(str, buffer.shape))
        where = f"arena + {buffer.offset}" if buffer.place == "arena" else f"{buffer.place} {buffer.index}"
        lines.append(f"buffer {number}: {buffer.dtype}[{shape}] {where}  # {buffer.name}")
    for number, step in enumerate(program.steps):
        kernel = program.kernels[step.kernel]
        lines.append(f"step {number}: {kernel.name} 0..{step.extent} {step.stage} reads {list(step.reads)} writes "
                     f"{list(step.writes)}  # {program.notes[step.note].title}")
    lines += [f"chain: steps {chain.first} to {chain.first + chain.count - 1}, {chain.rows} rows"
              for chain in program.chains]
    lines.append(f"arena: {program.arena_bytes} bytes")
    return "\n".join(lines) + "\n"
