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
