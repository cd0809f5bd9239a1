"""Mathematics with a rare branch, as functions over whole vectors that loops call.

LLVM vectorises no loop with a branch in it, but it does vectorise a loop that calls a function of which it knows forms
for vectors (the attribute "vector-function-abi-variant"). So the formulas in `OUTLINED`, whose rare cases would cost
more than all the rest if every element went through them, become internal functions of the kernel's module: one for
one element and one for each number of lanes that loops are vectorised by on this machine. The branch is taken where any
lane needs it, so results are those of `select` bit for bit, as on devices that branch for each element.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core.errors import TypingError

from ..mathematics import integer_math, trigonometry
from ..mathematics.emit import Body, Value, common, is_float, is_number, leaf, lowering
from .host import host_target

OUTLINED: dict[str, tuple[Body, int]] = {
    "sin": (trigonometry.sin, 1), "cos": (trigonometry.cos, 1), "tan": (trigonometry.tan, 1),
    "power": (integer_math.power, 2),
}
"""Formulas and their number of operands. Only those on floats are functions; integers have a loop anyway."""


def lane_counts(bits: int) -> list[int]:
    """The lanes of elements of so many bits in loops of this machine: a whole register of it, or, beside wider elements
    or for short loops, a half."""
    widest = host_target().vector_bytes * 8 // bits
    return [count for count in (widest, widest // 2) if count > 1]


def define(module: ir.Module, name: str, kind: Any, body: Body, arity: int) -> ir.Function:
    """The function `name` of the module over values of LLVM type `kind`."""
    function = ir.Function(module, ir.FunctionType(kind, [kind] * arity), name)
    # what it may be merged, hoisted and left out by; llvmlite knows only the older ones
    set.update(function.attributes, ("noinline", "nounwind", "readnone", "willreturn"))
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    builder.ret(body(*(Value(builder, each) for each in function.args)).raw)
    return function


def outlined(module: ir.Module, name: str, kind: Any, body: Body, arity: int) -> ir.Function:
    """The function for one element, with its forms for vectors; made at first use."""
    bits = 32 if isinstance(kind, ir.FloatType) else 64
    scalar = f"staticgraph_{name}_f{bits}"
    if scalar in module.globals:
        return module.globals[scalar]
    variants = []
    for lanes in lane_counts(bits):
        variant = f"{scalar}_v{lanes}"
        define(module, variant, ir.VectorType(kind, lanes), body, arity)
        variants.append(f"_ZGV_LLVM_N{lanes}{'v' * arity}_{scalar}({variant})")
    function = define(module, scalar, kind, body, arity)
    set.add(function.attributes, f'"vector-function-abi-variant"="{",".join(variants)}"')
    return function


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
