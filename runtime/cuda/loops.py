"""Counting loops, made plain before Numba sees them.

Numba runs ``for i in range(...)`` as an iterator: each turn asks whether there is another value, and gets a value or
zero. LLVM folds that into a counter on the CPU; NVVM's passes are older and keep it, as selects in front of every
address, and do not unroll. So a loop over a range of literal step becomes the while loop that it means:

    _next0, _stop0 = start, stop
    while _next0 < _stop0:
        i = _next0
        _next0 = _next0 + step
        ...

Invariant: the meaning of the text stays, of `continue`, `break` and changes to `i` or to the bounds inside of the body
too; lines keep their numbers.
"""

from __future__ import annotations

import ast

MARKER = "unroll_this_loop"
"""What the body of a loop ends with that is to be unrolled: a function of translate.py's making."""

MARKED = "staticgraph: unroll"
"""The text of the assembly that the marker becomes."""

MOST_UNROLLED = 16
"""Turns of a loop that is written out, where their number is in the text. LLVM by itself gives up on long bodies; but
values stay in registers only where no loop is left."""


def plain_loops(tree: ast.Module) -> ast.Module:
    """The same program, with while loops for those over ranges of a literal step."""
    return ast.fix_missing_locations(_Loops().visit(tree))  # type: ignore[no-any-return]


class _Loops(ast.NodeTransformer):
    def __init__(self) -> None:
        self.count = 0

    def visit_For(self, loop: ast.For) -> ast.AST | list[ast.stmt]:
        self.generic_visit(loop)
        found = _range_of(loop)
        if found is None:
            return loop
        start, stop, step = found
        number, self.count = self.count, self.count + 1
        following, end = f"_next{number}", f"_stop{number}"
        head = ast.parse(f"{following}, {end} = 0, 0\n"
                         f"while {following} {'<' if step > 0 else '>'} {end}:\n"
                         f"    {following} = {following} + {step}").body
        for statement in head:
            for node in ast.walk(statement):
                ast.copy_location(node, loop)
        bounds, repeated = head
        assert isinstance(bounds, ast.Assign) and isinstance(repeated, ast.While)
        bounds.value = ast.copy_location(ast.Tuple([start, stop], ast.Load()), loop)
        value = ast.copy_location(ast.Name(following, ast.Load()), loop)
        element = ast.copy_location(ast.Assign([loop.target], value), loop)
        repeated.body = [element, *repeated.body, *loop.body]
        if _turns(start, stop, step) <= MOST_UNROLLED:
            repeated.body += [ast.copy_location(node, loop) for node in ast.parse(f"{MARKER}()").body]
        repeated.orelse = loop.orelse
        return head


def _range_of(loop: ast.For) -> tuple[ast.expr, ast.expr, int] | None:
    """(start, stop, step) of a loop over a range whose step is a literal other than 0."""
    match loop.iter:
        case ast.Call(ast.Name("range"), [stop], []):
            return ast.Constant(0), stop, 1
        case ast.Call(ast.Name("range"), [start, stop], []):
            return start, stop, 1
        case ast.Call(ast.Name("range"), [start, stop, ast.Constant(int(step))], []) if step:
            return start, stop, step
        case ast.Call(ast.Name("range"), [start, stop, ast.UnaryOp(ast.USub(), ast.Constant(int(step)))], []) if step:
            return start, stop, -step
    return None


def _turns(start: ast.expr, stop: ast.expr, step: int) -> float:
    """How often a loop runs; infinity where the text does not say."""
    match start, stop:
        case ast.Constant(int(first)), ast.Constant(int(last)):
            return len(range(first, last, step))
    return float("inf")


def unroll_marked(code: str) -> str:
    """LLVM IR whose marked blocks, each the end of a loop, say that the loop is to be unrolled."""
    if MARKED not in code:
        return code
    lines, waiting, count = [], False, 0
    for line in code.splitlines():
        if MARKED in line:
            waiting = True
            continue
        if waiting and line.lstrip().startswith("br "):
            count, waiting = count + 1, False
            line += f", !llvm.loop !{_NUMBERS + count}"
        lines.append(line)
    lines.append(f'!{_NUMBERS} = !{{ !"llvm.loop.unroll.full" }}')
    lines += [f"!{_NUMBERS + number} = distinct !{{ !{_NUMBERS + number}, !{_NUMBERS} }}"
              for number in range(1, count + 1)]
    return "\n".join(lines) + "\n"


_NUMBERS = 900_000
"""Metadata from here on is ours."""
