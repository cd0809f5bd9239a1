"""Text: the graph as a table, one row a node, with the kernel that computes it."""

from __future__ import annotations

from collections.abc import Sequence

from ..compiler.program import NodeRecord
from .model import Model
from .text import one_line

WIDEST = 48
"""A cell wider than this does not push its column."""


def render_text(model: Model) -> str:
    """The table, the results, and the kernels."""
    rows = []
    for number, node in enumerate(model.nodes):
        if model.facts:
            rows.append(_program_row(model, number))
            continue
        kernel = model.kernel_of[number]
        rows.append((f"%{number}", node.type, _definition(model.nodes, node), one_line(node.scope),
                     model.parts[number], f"step {model.kernels[kernel].title}" if kernel >= 0 else "",
                     one_line(", ".join(node.lines))))
    results = [f"output {one_line(name)} = %{number}" for name, number in model.outputs]
    results += [f"variable {one_line(model.nodes[variable].name)} becomes %{number}"
                for variable, number in model.updates]
    kernels = [f"step {kernel.title}, {kernel.extent} parallel iterations" + (", writes variables" * kernel.commit)
               for kernel in model.kernels]
    kernels += [f"chain {number}: {title}" for number, title in enumerate(model.chains)]
    return "\n".join([*_table(rows), "", *results, *([""] if kernels else []), *kernels]) + "\n"


def _program_row(model: Model, number: int) -> tuple[str, ...]:
    """A step or a buffer of stage "program"."""
    node, chain = model.nodes[number], model.chain_of[number]
    operands = ", ".join(f"%{each}" for each in node.inputs)
    if node.kind == "step":
        what = f"step {model.kernels[model.kernel_of[number]].title}({operands}) {node.detail}"
    else:
        what = f"{node.kind} '{one_line(node.name)}'{f' from {operands}' if operands else ''}, {node.detail}"
    return (f"%{number}", node.type, what, one_line(node.scope), model.parts[number],
            f"chain {chain}" if chain >= 0 else "", one_line(", ".join(node.lines)))


def _definition(nodes: Sequence[NodeRecord], node: NodeRecord) -> str:
    name = f" '{one_line(node.name)}'" if node.name else ""
    if node.op in ("placeholder", "variable", "constant"):
        return node.op + f" {node.detail}" * bool(node.detail) + name
    operands = [_operand(nodes, each) for each in node.inputs]
    return f"{node.op}({', '.join([*operands, *([node.detail] if node.detail else [])])}){name}"


def _operand(nodes: Sequence[NodeRecord], number: int) -> str:
    node = nodes[number]
    return node.detail if node.op == "constant" and node.type.endswith("[]") else f"%{number}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    widths = [max(min(len(row[column]), WIDEST) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].rjust(widths[0])]
        cells += [cell.ljust(width) for cell, width in zip(row[1:], widths[1:], strict=True) if width]
        lines.append("  ".join(cells).rstrip())
    return lines
