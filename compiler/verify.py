"""Verification of the graph and the schedule: each pass leaves a form that keeps its own rules.

Kernel IR and Programs have their verifiers beside them and run always, since they are cheap. These two walk the whole
graph again, so they run where `STATICGRAPH_VERIFY=1` asks for it: in the test suite, and when a pass is suspected.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from staticgraph.errors import VerificationError
from staticgraph.op import Inference
from staticgraph.tensor import Tensor, describe, toposort

from .groups import Group, is_inline, is_leaf_buffer
from .schedule import CopyWork, Schedule, bases


def enabled() -> bool:
    """Whether STATICGRAPH_VERIFY asks for it."""
    return os.environ.get("STATICGRAPH_VERIFY", "0") not in ("", "0")


def verify_graph(outputs: Sequence[Tensor], primitive: bool) -> None:
    """Raise VerificationError unless every node has the type that its op infers, and, for a primitive graph, no
    composite is left."""
    for node in toposort(outputs):
        if primitive and node.op.kind == "composite":
            raise VerificationError(f"composite '{node.op.name}' is left in the primitive graph: {describe(node)}")
        if not node.op.interned:
            continue
        inferred = node.op.infer(Inference(node.op, node.inputs), *[each.type for each in node.inputs], **node.attrs)
        if inferred.dtype != node.dtype or inferred.shape != node.shape:
            raise VerificationError(f"{describe(node)} should be {inferred}")


def verify_schedule(schedule: Schedule) -> None:
    """Raise VerificationError unless every step reads what exists by then, and no buffer holds two live values."""
    ready: set[Tensor] = set()
    replaced = {schedule.buffer_of[node] for node in schedule.replaced}
    written: dict[int, int] = {}
    for number, step in enumerate(schedule.steps):
        work = step.work
        if isinstance(work, CopyWork):
            if schedule.buffers[work.source].place in ("arena", "output") and work.source not in written:
                raise VerificationError(f"step {number} copies buffer {work.source} before it is written")
            written[work.target] = number
            continue
        members = schedule.fused.members(work) if isinstance(work, Group) else [work]
        for member in members:
            for base in bases(schedule.fused, member):
                inside = isinstance(work, Group) and base in work.at
                if not (inside or base in ready or is_leaf_buffer(base) or is_inline(base)
                        or base in schedule.fused.inlined or base.op.name == "constant"):
                    raise VerificationError(f"step {number} reads {describe(base)} before it is computed")
        for node in step.stored if isinstance(work, Group) else [work]:
            ready.add(node)
            ready.add(schedule.fused.placed.get(node, node))
            buffer = schedule.buffer_of[node]
            expected = buffer in replaced
            if buffer in written and schedule.buffers[buffer].place == "arena" and not expected:
                raise VerificationError(f"step {number} writes buffer {buffer}, as step {written[buffer]} does")
            written[buffer] = number


def format_schedule(schedule: Schedule) -> str:
    """The schedule as text: for each step its iteration space, its nodes and the buffers that it writes."""
    lines = []
    for number, step in enumerate(schedule.steps):
        work = step.work
        if isinstance(work, CopyWork):
            lines.append(f"step {number} {step.stage}: copy buffer {work.source} to buffer {work.target}")
            continue
        if isinstance(work, Group):
            space = " x ".join(f"{size}{' reduced' if axis in work.reduced else ''}"
                               for axis, size in enumerate(work.extents))
            lines.append(f"step {number} {step.stage}: over {space or 'one element'}")
        else:
            lines.append(f"step {number} {step.stage}: a kernel of its own")
        stored = set(step.stored) if isinstance(work, Group) else {work}
        for node in schedule.fused.members(work) if isinstance(work, Group) else [work]:
            home = f" -> buffer {schedule.buffer_of[node]}" if node in stored else ""
            lines.append(f"    {describe(node)}{home}")
    return "\n".join(lines) + "\n"
