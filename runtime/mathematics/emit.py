"""Formulas over LLVM values: what the bodies of the kernel language are written in.

A `Value` wraps one LLVM value and its builder, so that a body reads like the formula it implements and is written once
for float32 and float64, and for one element or a vector of them: constants take the type of the value they meet.
Everything emitted here is straight-line code (no blocks, no calls that stay calls), so a loop around it vectorises; but
for `rarely`, whose branch a CPU hides in functions over vectors (runtime/cpu/outlined.py).

Invariants: no instruction carries fast-math flags, and no operation changes a float's width: a float32 body never
contains a float64 operation.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

Number = int | float
Body = Callable[..., "Value"]
Parameters = ParamSpec("Parameters")

BIT = ir.IntType(1)


class Value:
    """An LLVM value with operators. Integers are signed unless `unsigned`; comparisons give one-bit values."""

    __slots__ = ("builder", "raw", "unsigned")

    def __init__(self, builder: Any, raw: Any, unsigned: bool = False) -> None:
        self.builder, self.raw, self.unsigned = builder, raw, unsigned

    @property
    def lanes(self) -> int:
        """How many elements a vector has; 0 for a single value."""
        return int(self.raw.type.count) if isinstance(self.raw.type, ir.VectorType) else 0

    @property
    def element(self) -> Any:
        """The type of one element."""
        return self.raw.type.element if self.lanes else self.raw.type

    @property
    def is_float(self) -> bool:
        return isinstance(self.element, (ir.FloatType, ir.DoubleType))

    @property
    def bits(self) -> int:
        """The width: 32 or 64 for floats; also the key of the coefficient tables."""
        kind = self.element
        return {ir.FloatType: 32, ir.DoubleType: 64}.get(type(kind)) or int(kind.width)

    def of(self, raw: Any) -> Value:
        return Value(self.builder, raw, self.unsigned)

    def shaped(self, element: Any) -> Any:
        """The type of as many elements as this value has."""
        return ir.VectorType(element, self.lanes) if self.lanes else element

    def constant(self, number: Number) -> Value:
        """`number` in this value's type."""
        value = float(number) if self.is_float else int(number)
        return self.of(ir.Constant(self.raw.type, [value] * self.lanes if self.lanes else value))

    def coerce(self, other: Value | Number) -> Value:
        return other if isinstance(other, Value) else self.constant(other)

    def _binary(self, method: str, other: Value | Number, reverse: bool = False) -> Value:
        left, right = self, self.coerce(other)
        if reverse:
            left, right = right, left
        return self.of(getattr(self.builder, "f" + method if self.is_float else method)(left.raw, right.raw))

    def __add__(self, other: Value | Number) -> Value:
        return self._binary("add", other)

    def __radd__(self, other: Number) -> Value:
        return self._binary("add", other, reverse=True)

    def __sub__(self, other: Value | Number) -> Value:
        return self._binary("sub", other)

    def __rsub__(self, other: Number) -> Value:
        return self._binary("sub", other, reverse=True)

    def __mul__(self, other: Value | Number) -> Value:
        return self._binary("mul", other)

    def __rmul__(self, other: Number) -> Value:
        return self._binary("mul", other, reverse=True)

    def __truediv__(self, other: Value | Number) -> Value:
        return self.of(self.builder.fdiv(self.raw, self.coerce(other).raw))

    def __rtruediv__(self, other: Number) -> Value:
        return self.of(self.builder.fdiv(self.constant(other).raw, self.raw))

    def __neg__(self) -> Value:
        return self.constant(-0.0) - self     # LLVM's fneg is unknown to NVVM; of an integer, -0.0 is 0

    def __and__(self, other: Value | Number) -> Value:
        return self.of(self.builder.and_(self.raw, self.coerce(other).raw))

    def __or__(self, other: Value | Number) -> Value:
        return self.of(self.builder.or_(self.raw, self.coerce(other).raw))

    def __xor__(self, other: Value | Number) -> Value:
        return self.of(self.builder.xor(self.raw, self.coerce(other).raw))

    def __invert__(self) -> Value:
        return self.of(self.builder.not_(self.raw))

    def __lshift__(self, count: Value | Number) -> Value:
        return self.of(self.builder.shl(self.raw, self.coerce(count).raw))

    def __rshift__(self, count: Value | Number) -> Value:
        shift = self.builder.lshr if self.unsigned else self.builder.ashr
        return self.of(shift(self.raw, self.coerce(count).raw))

    def compare(self, operator: str, other: Value | Number) -> Value:
        """Ordered on floats, except that "!=" is true when either side is nan."""
        right = self.coerce(other).raw
        if self.is_float:
            method = self.builder.fcmp_unordered if operator == "!=" else self.builder.fcmp_ordered
        else:
            method = self.builder.icmp_unsigned if self.unsigned else self.builder.icmp_signed
        return Value(self.builder, method(operator, self.raw, right))

    def __lt__(self, other: Value | Number) -> Value:
        return self.compare("<", other)

    def __le__(self, other: Value | Number) -> Value:
        return self.compare("<=", other)

    def __gt__(self, other: Value | Number) -> Value:
        return self.compare(">", other)

    def __ge__(self, other: Value | Number) -> Value:
        return self.compare(">=", other)

    def equals(self, other: Value | Number) -> Value:
        return self.compare("==", other)

    def differs(self, other: Value | Number) -> Value:
        return self.compare("!=", other)

    def call(self, name: str, *others: Value | Number) -> Value:
        """The LLVM intrinsic `name`, overloaded on this value's type, every operand of that type."""
        operands = [self.raw, *(self.coerce(other).raw for other in others)]
        kind, module = self.raw.type, self.builder.module
        signature = ir.FunctionType(kind, [kind] * len(operands))
        if self.lanes:
            name = f"{name}.v{self.lanes}{self.element.intrinsic_name}"
            function = module.globals.get(name) or ir.Function(module, signature, name)
        else:
            function = module.declare_intrinsic(name, [kind], signature)
        return self.of(self.builder.call(function, operands))


def select(condition: Value, chosen: Value | Number, other: Value | Number) -> Value:
    """Branch-free choice; one of the two sides must be a Value."""
    if isinstance(chosen, Value):
        other = chosen.coerce(other)
    else:
        assert isinstance(other, Value)
        chosen = other.constant(chosen)
    return chosen.of(chosen.builder.select(condition.raw, chosen.raw, other.raw))


def rarely(condition: Value, slow: Callable[[], Sequence[Value]], otherwise: Sequence[Value]) -> list[Value]:
    """select(condition, slow(), otherwise) for each of several values; what `slow` emits runs only where the condition
    holds, for a vector where it holds for any element. A loop around it does not vectorise."""
    builder = condition.builder
    before = builder.block
    rare, done = builder.append_basic_block("rare"), builder.append_basic_block("usual")
    builder.cbranch(_any(condition), rare, done)
    builder.position_at_end(rare)
    chosen = [select(condition, new, old) for new, old in zip(slow(), otherwise, strict=True)]
    after = builder.block
    builder.branch(done)
    builder.position_at_end(done)
    results = []
    for old, new in zip(otherwise, chosen, strict=True):
        phi = builder.phi(old.raw.type)
        phi.add_incoming(old.raw, before)
        phi.add_incoming(new.raw, after)
        results.append(old.of(phi))
    return results


def _any(condition: Value) -> Any:
    """Whether a condition holds for any element, as one bit."""
    if not condition.lanes:
        return condition.raw
    bits = ir.IntType(condition.lanes)
    return condition.builder.icmp_unsigned("!=", condition.builder.bitcast(condition.raw, bits), ir.Constant(bits, 0))


def fma(x: Value, y: Value | Number, z: Value | Number) -> Value:
    """x * y + z, rounded once."""
    return x.call("llvm.fma", y, z)


def absolute(x: Value) -> Value:
    return x.call("llvm.fabs")


def copysign(x: Value, y: Value) -> Value:
    return x.call("llvm.copysign", y)


def square_root(x: Value) -> Value:
    return x.call("llvm.sqrt")


def nearest(x: Value) -> Value:
    """The nearest integral float, ties to even."""
    return x.call("llvm.rint")


def is_nan(x: Value) -> Value:
    return x.differs(x)


def to_bits(x: Value) -> Value:
    """The float's bit pattern as a signed integer of its width."""
    return Value(x.builder, x.builder.bitcast(x.raw, x.shaped(ir.IntType(x.bits))))


def from_bits(x: Value) -> Value:
    kind = ir.FloatType() if x.bits == 32 else ir.DoubleType()
    return Value(x.builder, x.builder.bitcast(x.raw, x.shaped(kind)))


# Adding 1.5 * 2**(mantissa bits) leaves an integral float's value in the low bits, and the other way round: one
# addition on every machine, where conversions of 64-bit integers want AVX-512, and no undefined result for nan.
INTEGER_SHIFT = {32: 1.5 * 2.0**23, 64: 1.5 * 2.0**52}
INTEGER_SHIFT_BITS = {32: 0x4B400000, 64: 0x4338000000000000}


def to_integer(x: Value) -> Value:
    """An integral float below 2**(mantissa bits - 1) as a signed integer of its width; anything for other floats."""
    return to_bits(x + INTEGER_SHIFT[x.bits]) - INTEGER_SHIFT_BITS[x.bits]


def to_float(x: Value) -> Value:
    """A signed integer of at most as many bits as the mantissa less one, as the float of its width."""
    return from_bits(x + INTEGER_SHIFT_BITS[x.bits]) - INTEGER_SHIFT[x.bits]


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """Horner's scheme with fused steps; the highest power comes first."""
    result = x.constant(coefficients[0])
    for coefficient in coefficients[1:]:
        result = fma(result, x, coefficient)
    return result


def weak(kind: Any, other: Any) -> Any:
    """The type an operand takes beside `other`: integer literals adapt, everything else stays itself."""
    if isinstance(kind, types.IntegerLiteral):
        return types.unliteral(other) if isinstance(other, types.Type) else types.int64
    return types.unliteral(kind)


def common(name: str, *kinds: Any) -> Any:
    """The one type of several operands. Integer literals take the type of the others; integers of one signedness take
    the wider; anything else must agree, because a silent change of width or of kind is a wrong kernel."""
    firm = [types.unliteral(kind) for kind in kinds if not isinstance(kind, types.IntegerLiteral)]
    if not firm:
        return types.int64
    result = firm[0]
    for kind in firm[1:]:
        if kind == result:
            continue
        integers = isinstance(kind, types.Integer) and isinstance(result, types.Integer)
        if not integers or kind.signed != result.signed:
            raise TypingError(f"{name}: operands of types {', '.join(map(str, kinds))}; cast them to one type")
        result = max(kind, result, key=lambda integer: integer.bitwidth)
    return result


def is_float(kind: Any) -> bool:
    return kind in (types.float32, types.float64)


def is_number(kind: Any) -> bool:
    return is_float(kind) or isinstance(kind, types.Integer)


def is_scalar(kind: Any) -> bool:
    return is_number(kind) or kind == types.boolean


def is_integral(kind: Any) -> bool:
    """Integers and booleans: what has bits."""
    return isinstance(kind, (types.Integer, types.Boolean))


def wrap(builder: Any, kind: Any, raw: Any) -> Value:
    return Value(builder, raw, kind == types.boolean or (isinstance(kind, types.Integer) and not kind.signed))


def lowering(body: Body) -> Callable[..., Any]:
    """Numba's code generator for a body over Values."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
        return body(*(wrap(builder, kind, raw) for kind, raw in zip(signature.args, arguments))).raw

    return generate


class Recipe(NamedTuple):
    """How a leaf was made: by which function of a module, of what."""

    maker: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]


def recorded(maker: Callable[Parameters, Any]) -> Callable[Parameters, Any]:
    """A maker of leaves, each of which has its `recipe`: so its source can be written out. Where one maker calls
    another, the outer one counts."""

    @functools.wraps(maker)
    def make(*arguments: Parameters.args, **options: Parameters.kwargs) -> Any:
        made = maker(*arguments, **options)
        made.recipe = Recipe(maker, arguments, options)
        return made

    return make


@recorded
def function(name: str, body: Body, arity: int, accepts: Callable[[Any], bool] = is_float, result: Any = None,
             doc: str = "") -> Any:
    """A kernel function of `arity` operands of one type that `accepts` says yes to.

    `result` is the type of the result; None means that of the operands.
    """

    def resolve(*kinds: Any) -> Any:
        kind = common(name, *kinds)
        if not accepts(kind):
            raise TypingError(f"{name}: no kernel code for {kind}")
        return (result or kind)(*[kind] * arity), lowering(body)

    return leaf(name, resolve, arity, doc or (body.__doc__ or ""))


@recorded
def leaf(name: str, resolve: Callable[..., Any], arity: int, doc: str = "") -> Any:
    """A Numba intrinsic called `name`; resolve(*types) gives (signature, code generator).

    Numba reads the number of operands from the definition's signature, so it is given one. Literals come as literal
    types, or `common` could not tell them from int64.
    """
    def definition(context: Any, *kinds: Any) -> Any:
        return resolve(*kinds)

    names = ["context", *(f"operand{number}" for number in range(arity))]
    parameters = [inspect.Parameter(each, inspect.Parameter.POSITIONAL_OR_KEYWORD) for each in names]
    definition.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    definition.__name__ = definition.__qualname__ = name
    definition.__doc__ = doc
    return intrinsic(prefer_literal=True)(definition)
