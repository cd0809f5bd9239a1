"""Mathematics with a rare branch, as functions over whole vectors that loops call.

LLVM vectorises no loop with a branch in it, but it does vectorise a loop that calls a function of which it knows forms
for vectors (the attribute "vector-function-abi-variant"). So the formulas in `OUTLINED`, whose rare cases would cost
more than all the rest if every element went through them, become functions of the kernel's module: one for one element
and one for each number of lanes that loops are vectorised by on this machine. The branch is taken where any
lane needs it, so results are those of `select` bit for bit, as on devices that branch for each element.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core.errors import TypingError

from ..mathematics import integer_math, trigonometry
from ..mathematics.emit import Body, Value, common, is_float, is_number, leaf, lowering, recorded
from .host import vector_bytes

INDEX = ir.IntType(32)

OUTLINED: dict[str, tuple[Body, int]] = {
    "sin": (trigonometry.sin, 1), "cos": (trigonometry.cos, 1), "tan": (trigonometry.tan, 1),
    "power": (integer_math.power, 2),
}
"""Formulas and their number of operands. Only those on floats are functions; integers have a loop anyway."""


def lane_counts(bits: int) -> list[int]:
    """The lanes of elements of so many bits in loops of this machine: a whole register of it, or, beside wider elements
    or for short loops, a half; and that of 256 bits for CPUs which LLVM would rather not use wider ones on."""
    widest = vector_bytes() * 8 // bits
    narrow = 256 // bits // 2
    return [count for count in (widest, widest // 2, narrow if narrow < widest // 2 else 0) if count > 1]


def outlined(module: ir.Module, name: str, kind: Any, body: Body, arity: int) -> ir.Function:
    """The function for one element, with its forms for vectors; made at first use. Only that for whole registers holds
    the formula, which is compiled once; the others fill a register and call it."""
    bits = 32 if isinstance(kind, ir.FloatType) else 64
    scalar = f"staticgraph_{name}_f{bits}"
    if scalar in module.globals:
        return module.globals[scalar]
    widest, *narrower = lane_counts(bits)
    whole, builder = _begin(module, f"{scalar}_v{widest}", ir.VectorType(kind, widest), arity)
    builder.ret(body(*(Value(builder, each) for each in whole.args)).raw)
    for lanes in narrower:
        part, builder = _begin(module, f"{scalar}_v{lanes}", ir.VectorType(kind, lanes), arity)
        wide = [_shuffled(builder, each, [lane % lanes for lane in range(widest)]) for each in part.args]
        builder.ret(_shuffled(builder, builder.call(whole, wide), list(range(lanes))))
    function, builder = _begin(module, scalar, kind, arity)
    empty = ir.Constant(ir.VectorType(kind, widest), ir.Undefined)
    first = ir.Constant(INDEX, 0)
    wide = [_shuffled(builder, builder.insert_element(empty, each, first), [0] * widest) for each in function.args]
    builder.ret(builder.extract_element(builder.call(whole, wide), first))
    variants = ",".join(f"_ZGV_LLVM_N{lanes}{'v' * arity}_{scalar}({scalar}_v{lanes})" for lanes in (widest, *narrower))
    set.add(function.attributes, f'"vector-function-abi-variant"="{variants}"')
    return function


def _begin(module: ir.Module, name: str, kind: Any, arity: int) -> tuple[ir.Function, ir.IRBuilder]:
    """A new function over values of LLVM type `kind`, and a builder in it."""
    function = ir.Function(module, ir.FunctionType(kind, [kind] * arity), name)
    # what lets calls be merged, hoisted and left out; llvmlite knows only the older words
    set.update(function.attributes, ("noinline", "nounwind", "readnone", "willreturn"))
    return function, ir.IRBuilder(function.append_basic_block("entry"))


def _shuffled(builder: Any, vector: Any, lanes: Sequence[int]) -> Any:
    """These lanes of a vector."""
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(INDEX, len(lanes)), list(lanes)))


@recorded
def _function(name: str, body: Body, arity: int) -> Any:
    def resolve(*kinds: Any) -> Any:
        kind = common(name, *kinds)
        if not (is_float(kind) or (name == "power" and is_number(kind))):
            raise TypingError(f"{name}: no kernel code for {kind}")

        def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            return builder.call(outlined(builder.module, name, arguments[0].type, body, arity), arguments)

        return kind(*[kind] * arity), generate if is_float(kind) else lowering(body)

    return leaf(name, resolve, arity, body.__doc__ or "")


FUNCTIONS = {name: _function(name, body, arity) for name, (body, arity) in OUTLINED.items()}
