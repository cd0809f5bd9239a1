"""Assembly: the schedule in, kernels, steps, buffers and notes of the Program out.

Lowers every planned step, merges the commit steps into one kernel of several sections, renders and names the kernels,
and shares those with equal text. Their order and the places of temporaries are `arrange`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from staticgraph.errors import UnsupportedError, index_message
from staticgraph.tensor import Tensor, describe
from staticgraph.types import Size, maximum_size, minimum_size, product

from . import specials
from .arrange import Arrangement
from .backend import Call, Rendered, backend_for, guarded
from .boundaries import boundaries
from .chains import RowSpace
from .columns import RowKernel
from .cost import flops_of
from .direct_calls import leaves_gaps, windowed_calls
from .draft import Draft
from .groups import Group
from .kernel_ir import KernelIR, Pointer, Reduce, Section, format_kernel
from .kernel_verify import verify
from .lower import GroupLowering, Lowered
from .products import written_as
from .program import Argument, Boundary, Buffer, Chain, Check, Kernel, Note, PassRecord, Step
from .schedule import BufferInfo, CopyWork, PlannedStep, Schedule
from .specials import Place, whole
from .target import Target
from .views import View, contiguous_strides, view_of


@dataclass(eq=False)
class Parts:
    """What the Program is made of."""

    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]
    notes: tuple[Note, ...]
    checks: tuple[Check, ...]
    arena_bytes: Size
    kernel_texts: tuple[str, ...]
    nodes_of_step: tuple[tuple[Tensor, ...], ...]
    chains: tuple[Chain, ...]
    recomputed: PassRecord | None = None
    boundaries: tuple[Boundary, ...] = ()


class Assembler:
    """See the module docstring."""

    def __init__(self, schedule: Schedule, target: Target, options: Mapping[str, Any]) -> None:
        self.schedule = schedule
        self.fused = schedule.fused
        self.target = target
        self.backend = backend_for(target, options)
        self.style = self.backend.style
        self.options = options
        self.checks: list[Check] = []
        self.check_numbers: dict[Tensor, int] = {}
        self.drafts: list[Draft] = []
        self.waiting: RowKernel | None = None
        self.texts: dict[KernelIR, tuple[Rendered, str]] = {}

    def run(self) -> Parts:
        commits: list[PlannedStep] = []
        for step in self.schedule.steps:
            if step.stage == "commit":
                commits.append(step)
            else:
                self._draft(step)
        self._flush()
        self._draft_commits(commits)
        return self._finish()

    def buffer_of(self, node: Tensor) -> int:
        return self.schedule.buffer_of[node]

    def source_buffer(self, node: Tensor) -> int:
        """The buffer of a value; constants that only now turn out to be needed get theirs."""
        if node not in self.schedule.buffer_of and node.op.name == "constant":
            self.schedule.constants.append(node.attrs["value"])
            number = len(self.schedule.constants) - 1
            self.schedule.buffers.append(BufferInfo(f"constant{number}", node.dtype, node.shape, "constant", number))
            self.schedule.buffer_of[node] = len(self.schedule.buffers) - 1
        return self.schedule.buffer_of[node]

    def check_of(self, node: Tensor) -> int:
        """The number of the check that a node makes."""
        if node not in self.check_numbers:
            self.check_numbers[node] = len(self.checks)
            self.checks.append(Check("", "guard", node.attrs["number"]) if node.op.name == "guard"
                               else Check(check_message(node)))
        return self.check_numbers[node]

    # Drafting steps.

    def _draft(self, step: PlannedStep) -> None:
        work, guard = step.work, self._guards()
        if isinstance(work, Group):
            lowering = GroupLowering(work, self.fused, step.stored, self.source_buffer, self.check_of, self.style)
            self._draft_group(lowering.lower(), self.fused.members(work), guard)
            return
        self._flush()
        if isinstance(work, CopyWork):
            self._add(self._copy_work(work), step.stage, [work.like], guard, why="to output")
        elif work.op.kind == "contraction":
            self._draft_matmul(work)
        elif work.op.kind == "windowed":
            views = [self._view(operand) for operand in work.inputs]
            if leaves_gaps(work):
                self._add(specials.fill(work, self.source_buffer, self.style), step.stage, [work], guard)
            for call, flops in windowed_calls(work, views, self.source_buffer, self.target):
                self._library(call, {self.buffer_of(work)}, work, flops)
        elif work.op.kind == "sort":
            self._draft_sort(work)
        else:
            for made in self._special(work):
                if isinstance(made, Call):
                    self._library(made, {self.buffer_of(work)}, work)
                else:
                    self._add(made, step.stage, [work], guard)

    def _draft_group(self, lowered: Lowered, nodes: Sequence[Tensor], guard: bool) -> None:
        """A row kernel waits for column sums that follow it."""
        if self.waiting is not None and self.waiting.take_in(lowered, nodes, guard):
            return
        self._flush()
        if self.backend.takes_columns(lowered):
            self.waiting = RowKernel(lowered, nodes, guard, self._scratch, self._is_dead, self.backend.sharing)
        else:
            self._add(lowered, "compute", nodes, guard)

    def _flush(self) -> None:
        """Draft the row kernel that has waited."""
        rows, self.waiting = self.waiting, None
        if rows is not None:
            self._add(rows.lowered, "compute", rows.nodes, rows.guard)
            for lowered, nodes, guard in rows.joins:
                self._add(lowered, "compute", nodes, guard, whole=True, why="columns")

    def _is_dead(self, buffer: int, nodes: Sequence[Tensor]) -> bool:
        """Does nothing but these nodes read a buffer?"""
        readers = frozenset(nodes)
        held = [node for node, number in self.schedule.buffer_of.items() if number == buffer]
        return self.schedule.buffers[buffer].place == "arena" and all(
            node not in self.fused.roots and all(user in readers for user in self.fused.users.get(node, ()))
            for node in held)

    def _copy_work(self, work: CopyWork) -> Lowered:
        strides = contiguous_strides(work.like.shape)
        numbers = iter((work.source, work.target))
        place = Place(work.like, 0, strides)
        return specials.copy(work.like.shape, place, place, _Numbers(numbers), self.style)

    def _special(self, node: Tensor) -> Sequence[Lowered | Call]:
        if node in self.fused.copied and node.op.kind == "view":
            view = view_of(node, lambda each: each is not node and self.fused.is_buffer(each))
            assert view is not None
            return [specials.copy(node.shape, Place(view.base, view.offset, view.strides), whole(node),
                                  self.source_buffer, self.style)]
        views = [self._view(operand) for operand in node.inputs]
        if node.op.kind == "scan":
            return [specials.scan(node, views, self.source_buffer, self.style)]
        if node.op.kind == "fold":
            return [specials.fold(node, views[0], self.source_buffer, self.style)]
        if node.op.kind == "scatter":
            return [self.backend.scatter(node, views, self.source_buffer, self._guards())]
        if node.op.kind == "concat":
            return self._concat(node, views)
        if node.op.kind == "pad":
            return self._pad(node, views[0])
        raise UnsupportedError(f"'{node.op.name}' has no kernel on {self.target.device}\n"
                               f"  {node.type}   {node.location}")

    def _view(self, operand: Tensor) -> View:
        view = view_of(operand, self.fused.is_buffer)
        assert view is not None
        return view

    def _concat(self, node: Tensor, views: Sequence[View]) -> list[Lowered]:
        axis = node.attrs["axis"]
        strides = contiguous_strides(node.shape)
        parts, offset = [], 0 * strides[axis]
        for operand, view in zip(node.inputs, views, strict=True):
            parts.append(specials.copy(operand.shape, Place(view.base, view.offset, view.strides),
                                       Place(node, offset, strides), self.source_buffer, self.style))
            offset = offset + operand.shape[axis] * strides[axis]
        return parts

    def _pad(self, node: Tensor, view: View) -> list[Lowered]:
        strides = contiguous_strides(node.shape)
        offset: Size = 0
        for (low, _), size, stride in zip(node.attrs["widths"], node.shape, strides, strict=True):
            # Nothing is copied where a width came out beyond the ends; the address has to lie within even so.
            offset = offset + minimum_size(maximum_size(low, 0), size) * stride
        return [specials.fill(node, self.source_buffer, self.style),
                specials.copy(node.inputs[0].shape, Place(view.base, view.offset, view.strides),
                              Place(node, offset, strides), self.source_buffer, self.style)]

    def _draft_matmul(self, node: Tensor) -> None:
        views = [self._view(operand) for operand in node.inputs]
        placed = self.fused.placed.get(node)
        made = self.backend.product(node, views, written_as(node, placed) if placed is not None else None,
                                    self.source_buffer)
        self._library(made.call, {self.buffer_of(node)}, node, flops_of(node), made.rows)

    def _library(self, call: Call, writes: set[int], node: Tensor, flops: Size = 0,
                 rows: RowSpace | None = None) -> None:
        """A step whose kernel is a whole text of its own."""
        nodes = [node, *([self.fused.placed[node]] if node in self.fused.placed else [])]
        self.drafts.append(Draft(call.kernel, call.arguments, call.extent, "compute", frozenset(writes), nodes, flops,
                                  flops, f"library {call.kernel.name}\n", rows, node.op.kind == "contraction"))

    def _scratch(self, shape: tuple[Size, ...], dtype: str) -> int:
        self.schedule.buffers.append(BufferInfo("scratch", np.dtype(dtype), shape, "arena"))
        return len(self.schedule.buffers) - 1

    def _draft_sort(self, node: Tensor) -> None:
        view = self._view(node.inputs[0])
        kernel = self.backend.argsort(str(node.inputs[0].dtype), bool(node.attrs["descending"]))
        scratch = self._scratch(node.shape, "int64")
        rows = product(node.shape[:-1])
        arguments = [Argument("buffer", self.source_buffer(view.base)), Argument("buffer", self.buffer_of(node)),
                     Argument("buffer", scratch), Argument("size", node.shape[-1])]
        self._library(Call(kernel, arguments, rows), {self.buffer_of(node), scratch}, node, flops_of(node))

    def _add(self, lowered: Lowered, stage: str, nodes: Sequence[Tensor], guard: bool, whole: bool = False,
             why: str = "") -> None:
        pieces = [lowered] if whole else self.backend.pieces(lowered, self._scratch)
        whole_rows = len(pieces) == 1 and self.backend.extent(lowered) == lowered.extent
        rows = lowered.rows if whole_rows else None
        flops = 0 if whole else flops_of(*nodes)     # what is joined has been counted in parts
        for piece in pieces:
            part = guarded(piece) if guard else piece
            kernel, listing = self._rendered(KernelIR(kernel_name(part), (part.section,), part.lanes, guard))
            reports = any(argument.kind == "status" for argument in part.arguments)
            self.drafts.append(Draft(kernel, part.arguments, self.backend.extent(part), stage, written(part),
                                      list(nodes), part.work, flops, listing, rows, reports=reports, why=why))
            flops, why = 0, why or "parts"     # told of the first of them: it does most

    def _guards(self) -> bool:
        """Does the next step have to look at the status? Only where a step before it checks something."""
        return self.backend.guards_steps and bool(self.checks)

    def _rendered(self, kernel: KernelIR) -> tuple[Rendered, str]:
        """Source and listing of a verified kernel; equal kernels are verified and rendered once."""
        if kernel not in self.texts:
            verify(kernel)
            self.texts[kernel] = self.backend.render(kernel), format_kernel(kernel)
        return self.texts[kernel]

    # The commit kernel.

    def _draft_commits(self, steps: Sequence[PlannedStep]) -> None:
        """All flat commit steps become one kernel of sections; equal sections share their code."""
        flat: list[tuple[Lowered, list[Tensor]]] = []
        read_by_groups: set[int] = set()
        for step in steps:
            if isinstance(step.work, Group):
                lowered = GroupLowering(step.work, self.fused, step.stored, self.source_buffer, self.check_of,
                                        self.style, literal_extents=False).lower()
                read_by_groups |= {argument.value for argument in lowered.arguments if argument.kind == "buffer"} \
                    - written(lowered)  # type: ignore[arg-type]
                if lowered.flat:
                    flat.append((lowered, self.fused.members(step.work)))
                else:
                    self._add(lowered, "commit", self.fused.members(step.work), self._guards())
        later = []
        for step in steps:
            if isinstance(step.work, CopyWork):
                lowered = self._copy_work(step.work)
                if step.work.target in read_by_groups:
                    later.append((lowered, [step.work.like]))
                else:
                    flat.append((lowered, [step.work.like]))
        for some in self._batches(flat):
            self._add_sections(some)
        for lowered, nodes in later:
            self._add(lowered, "commit", nodes, self._guards())

    def _batches(self, parts: Sequence[tuple[Lowered, list[Tensor]]]) -> Iterator[list[tuple[Lowered, list[Tensor]]]]:
        """As many parts at a time as one kernel has arguments for."""
        batch: list[tuple[Lowered, list[Tensor]]] = []
        room = self.backend.most_arguments
        for part in parts:
            if batch and len(part[0].arguments) > room:
                yield batch
                batch, room = [], self.backend.most_arguments
            batch.append(part)
            room -= len(part[0].arguments)
        if batch:
            yield batch

    def _add_sections(self, parts: Sequence[tuple[Lowered, list[Tensor]]]) -> None:
        forms: dict[Section, list[tuple[Lowered, list[Tensor]]]] = {}
        for lowered, nodes in parts:
            forms.setdefault(lowered.section, []).append((lowered, nodes))
        sections, arguments, members = [], [], []
        writes: set[int] = set()
        for section, same in forms.items():
            sections.append(Section(section.parameters, section.axes, section.body, len(same), section.prelude))
            for lowered, nodes in same:
                arguments += lowered.arguments
                writes |= written(lowered)
                members += nodes
        guard = self._guards()
        if guard:
            arguments.append(Argument("status"))
        names = list(dict.fromkeys(name for lowered, _ in parts for name in lowered.names))
        ir = KernelIR("update_" + "_".join(names[:5]), tuple(sections), guarded=guard, merged=True)
        kernel, listing = self._rendered(ir)
        extent: Size = 0
        for lowered, _ in parts:
            extent = extent + self.backend.section_length(lowered.extent)
        cost = flops_of(*members)
        self.drafts.append(Draft(kernel, arguments, extent, "commit", frozenset(writes), members, 0, cost, listing))

    # Finishing.

    def _finish(self) -> Parts:
        arranged = Arrangement(self.drafts, self.schedule.buffers, self.backend.chains_steps,
                               int(self.options.get("memory_budget", 0)), self.options.get("sizes", {})).run()
        drafts = arranged.drafts
        buffers = tuple(Buffer(info.name, str(info.dtype), info.shape, info.place, info.index,
                               arranged.offsets.get(number, 0), info.nbytes)
                        for number, info in enumerate(self.schedule.buffers))
        kernels: dict[str, int] = {}
        kept: list[Kernel] = []
        steps, notes = [], []
        for number, draft in enumerate(drafts):
            kernel = draft.kernel
            if kernel.text not in kernels:
                kernels[kernel.text] = len(kept)
                kept.append(Kernel(kernel.name, hashlib.sha256(kernel.text.encode()).hexdigest(), kernel.text,
                                   kernel.launch, kernel.library))
            used = {int(str(argument.value)) for argument in draft.arguments if argument.kind == "buffer"}
            steps.append(Step(kernels[kernel.text], tuple(draft.arguments), draft.extent, draft.stage,
                              tuple(sorted(used - draft.writes | self._also_read(draft))),
                              tuple(sorted(draft.writes)), number))
            notes.append(self._note(draft, used))
        return Parts(tuple(kept), tuple(steps), buffers, tuple(notes), tuple(self.checks), arranged.arena,
                     tuple(draft.ir for draft in drafts), tuple(tuple(draft.nodes) for draft in drafts),
                     arranged.chains, arranged.recomputed,
                     boundaries(drafts, self.schedule, arranged.chains, arranged.told))

    def _also_read(self, draft: Draft) -> set[int]:
        """Variables that are updated in place are read as well."""
        return {number for number in draft.writes if self.schedule.buffers[number].place == "variable"}

    def _note(self, draft: Draft, used: set[int]) -> Note:
        lines = tuple(dict.fromkeys(str(line) for node in draft.nodes for line in node.locations))
        moved: Size = 0
        for number in sorted(used):
            moved = moved + self.schedule.buffers[number].nbytes
        nodes = tuple(describe(node) for node in draft.nodes)
        scope = next((node.scope for node in draft.nodes if node.scope), "")
        name = draft.kernel.name
        return Note(f"{scope}/{name}" if scope else name, nodes, lines[:12], draft.flops, moved, draft.work)


class _Numbers:
    """Hands out given buffer numbers in turn: for copies between buffers that no node names."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = numbers

    def __call__(self, node: Tensor) -> int:
        return int(next(self.numbers))


def written(lowered: Lowered) -> frozenset[int]:
    """Buffers that a lowered section writes."""
    return frozenset(int(str(argument.value)) for parameter, argument
                     in zip(lowered.section.parameters, lowered.arguments, strict=True)
                     if isinstance(parameter, Pointer) and parameter.access != "read")


def kernel_name(lowered: Lowered) -> str:
    """What the kernel does: ``row_max_exp_sum_divide``."""
    names = list(dict.fromkeys(lowered.names))
    names = [name for name in names if name != "astype"] or names
    shown = "_".join(names[:6]) + (f"_and_{len(names) - 6}_more" if len(names) > 6 else "")
    reduces = any(isinstance(statement, Reduce) for statement in lowered.section.body)
    prefix = ("column" if lowered.lanes == "parallel" else "row") if reduces else "map"
    return f"{prefix}_{shown or 'check_index'}"     # what has no name is a check that nothing else shares a kernel with


def check_message(node: Tensor) -> str:
    """The error text of a check, with {value} and {size} open for the runtime."""
    headline = index_message(node.attrs["what"], "{value}", "{size}")  # type: ignore[arg-type]
    return f"{headline}\n  {node.inputs[0].type}   {node.location}"
