"""What the compiler did, in words: rewritten, fused, not fused and why, computed again, left to Numba.

All of it travels in the Program, so a program from the cache tells the same as one that was compiled just now.
"""

from __future__ import annotations

from collections.abc import Sequence

from staticgraph.compiler.program import Boundary, Program, Rewrite

MOST_ROWS = 30
"""Rows of a section, where not all are asked for."""

MOST_OF_A_REASON = 4
"""Boundaries of one reason, where not all are asked for."""


def sections(program: Program, remarks: Sequence[str], verbose: bool) -> list[str]:
    """The sections that have something to tell. `remarks` are those of the loader, one for each kernel."""
    made = [_titled("rewritten", [_rewrite(each) for each in program.rewrites], verbose),
            _titled("fused", _fused(program), verbose),
            _titled("not fused", _not_fused(program, verbose), True),
            _titled("computed again, to keep within the memory budget", list(program.recomputed), verbose),
            _titled("left to Numba", _left(program, remarks), verbose)]
    return [each for each in made if each]


def shortened(rows: Sequence[str], verbose: bool) -> list[str]:
    """The rows, or the first of them and how many more there are."""
    if verbose or len(rows) <= MOST_ROWS:
        return list(rows)
    return [*rows[:MOST_ROWS], f"  ... and {len(rows) - MOST_ROWS} more: explain(verbose=True) tells all"]


def _titled(title: str, rows: Sequence[str], verbose: bool) -> str:
    return "\n".join([title, *shortened([f"  {row}" for row in rows], verbose)]) if rows else ""


def _rewrite(each: Rewrite) -> str:
    times = "" if each.times == 1 else f" {each.times} times"
    more = each.places - len(each.lines)
    return (f"{each.stage}: {each.rule}{times} at {', '.join(each.lines)}{f' and {more} more' if more else ''}, "
            f"because {each.why}")


def _fused(program: Program) -> list[str]:
    """A row for each step with several nodes."""
    rows = []
    for number, step in enumerate(program.steps):
        note = program.notes[step.note]
        if len(note.nodes) > 1:
            names = [node.rpartition(": ")[0] for node in note.nodes]
            counts = dict.fromkeys(names, 0)
            for name in names:
                counts[name] += 1
            what = ", ".join(name if count == 1 else f"{count} {name}" for name, count in counts.items())
            where = f" of {', '.join(note.lines)}" if note.lines else ""
            rows.append(f"step {number}, {program.kernels[step.kernel].name}: {what}{where}")
    return rows


def _not_fused(program: Program, verbose: bool) -> list[str]:
    """The boundaries between steps, those of one reason together."""
    by_reason: dict[str, list[Boundary]] = {}
    for each in program.boundaries:
        by_reason.setdefault(each.reason, []).append(each)
    rows = []
    for reason, some in by_reason.items():
        rows.append(reason)
        most = len(some) if verbose or len(some) == MOST_OF_A_REASON + 1 else MOST_OF_A_REASON
        table = [(f"{each.first} -> {each.second}", each.value, each.line, _by_rows(each)) for each in some[:most]]
        widths = [max(map(len, column)) for column in zip(*table)]
        rows += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
        if most < len(some):
            rows.append(f"  ... and {len(some) - most} more for this reason: explain(verbose=True) tells all")
    return rows


def _by_rows(each: Boundary) -> str:
    if each.rows == "together":
        return "both go through some rows at a time"
    return f"not some rows at a time either: {each.rows}" if each.rows else ""


def _left(program: Program, remarks: Sequence[str]) -> list[str]:
    """Kernels that the front end could not take."""
    start = "by Numba: "
    return [f"kernel {number}, {kernel.name}: {remark.removeprefix(start)}"
            for number, (kernel, remark) in enumerate(zip(program.kernels, remarks)) if remark.startswith(start)]
