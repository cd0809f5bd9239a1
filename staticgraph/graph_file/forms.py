"""Operations in a file: which there are, how many operands each has, and what its attributes may be.

This table is the format's, and says all of what version 1 knows: an op that is not in it cannot be saved, and a file
that names one is refused. Each attribute has a form that writes its value as JSON and reads it back, and that refuses
what the op's own function would never have made of it, since the rules of shapes trust their attributes. A new op with
attributes is a row here; a test holds the table against the registry.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..errors import FileFormatError
from ..files import is_text
from ..types import SUPPORTED, Size, TensorType
from .sizes import LIMIT, SizeReader, SizeWriter, check_shape, read_shape

MOST_DIMENSIONS = 32     # np.take and its like have no more


class Place(NamedTuple):
    """Where an attribute is read: the types of the operands, and the attributes before it."""

    sizes: SizeReader
    inputs: Sequence[TensorType]
    attrs: dict[str, Any]

    @property
    def rank(self) -> int:
        return self.inputs[0].ndim if self.inputs else 0


class Form(NamedTuple):
    """How one attribute stands in a file."""

    write: Callable[[Any, SizeWriter], Any]
    read: Callable[[Any, Place], Any]


def need(holds: bool, what: str) -> None:
    """FileFormatError unless it holds."""
    if not holds:
        raise FileFormatError(f"needed {what}")


def _plain(value: Any, sizes: SizeWriter) -> Any:
    return list(value) if isinstance(value, tuple) else value


# Ints


def _whole(data: Any, least: int, what: str) -> int:
    need(type(data) is int and least <= data < LIMIT, what)
    return int(data)


def whole(least: int) -> Form:
    return Form(_plain, lambda data, place: _whole(data, least, f"an int of at least {least}"))


def whole_pair(least: int) -> Form:
    def read(data: Any, place: Place) -> tuple[int, ...]:
        need(isinstance(data, list) and len(data) == 2, "a pair of ints")
        return tuple(_whole(each, least, f"ints of at least {least}") for each in data)
    return Form(_plain, read)


def axis(behind: int = 0) -> Form:
    """An axis of the first operand with so many axes behind it."""
    return Form(_plain, lambda data, place: _axis(data, place.rank - behind))


def _axis(data: Any, rank: int) -> int:
    need(type(data) is int and 0 <= data < rank, f"an axis of {rank} dimensions")
    return int(data)


def _read_axes(data: Any, place: Place) -> tuple[int, ...]:
    need(isinstance(data, list) and bool(data), "a list of axes")
    found = tuple(_axis(each, place.rank) for each in data)
    need(found == tuple(sorted(set(found))), "different axes in order")
    return found


def _read_one_axis(data: Any, place: Place) -> tuple[int, ...]:
    found = _read_axes(data, place)
    need(len(found) == 1, "one axis")
    return found


def _read_order(data: Any, place: Place) -> tuple[int, ...]:
    need(isinstance(data, list) and sorted(map(repr, data)) == sorted(map(repr, range(place.rank))), "all axes")
    return tuple(data)


def _read_ramp_axis(data: Any, place: Place) -> int | None:
    return None if data is None else _axis(data, len(place.attrs["shape"]))


def _read_steps(data: Any, place: Place) -> tuple[int, ...]:
    need(isinstance(data, list) and len(data) == place.rank, "a step for each axis")
    need(all(type(each) is int and each and -LIMIT < each < LIMIT for each in data), "steps other than 0")
    return tuple(data)


AXES, ONE_AXIS, ORDER = Form(_plain, _read_axes), Form(_plain, _read_one_axis), Form(_plain, _read_order)
RAMP_AXIS, STEPS = Form(_plain, _read_ramp_axis), Form(_plain, _read_steps)


# Sizes


def _write_sizes(value: Any, sizes: SizeWriter) -> Any:
    if isinstance(value, tuple):
        check_shape(value if not any(isinstance(each, tuple) for each in value) else ())
        return [_write_sizes(each, sizes) for each in value]
    return sizes(value)


def _read_shape(data: Any, place: Place) -> tuple[Any, ...]:
    found = read_shape(data, place.sizes)
    need(len(found) <= MOST_DIMENSIONS, f"at most {MOST_DIMENSIONS} dimensions")
    return found


def _read_size(data: Any, place: Place) -> Size:
    found = place.sizes(data)
    check_shape((found,))
    return found


def _not_negative(sizes: tuple[Size, ...]) -> tuple[Size, ...]:
    need(not any(isinstance(each, int) and each < 0 for each in sizes), "sizes of at least 0")
    return sizes


def _read_starts(data: Any, place: Place) -> tuple[Size, ...]:
    need(isinstance(data, list) and len(data) == place.rank, "a start for each axis")
    return tuple(_read_size(each, place) for each in data)


def size_pairs(count: int | None) -> Form:
    """A pair of sizes for each axis of the operand, or so many."""
    def read(data: Any, place: Place) -> tuple[Any, ...]:
        wanted = place.rank if count is None else count
        need(isinstance(data, list) and len(data) == wanted, f"{wanted} pairs of sizes")
        need(all(isinstance(pair, list) and len(pair) == 2 for pair in data), "pairs of sizes")
        return tuple(_not_negative(tuple(_read_size(each, place) for each in pair)) for pair in data)
    return Form(_write_sizes, read)


def _read_two_sizes(data: Any, place: Place) -> tuple[Any, ...]:
    found = read_shape(data, place.sizes)
    need(len(found) == 2, "two sizes")
    return found


SHAPE, STARTS = Form(_write_sizes, _read_shape), Form(_write_sizes, _read_starts)
TWO_SIZES, SIZE = Form(_write_sizes, _read_two_sizes), Form(_write_sizes, _read_size)


# Everything else


DTYPES = {each.name: each for each in SUPPORTED}


def _read_dtype(data: Any, place: Place) -> np.dtype[Any]:
    return dtype_of(data)


def dtype_of(data: Any) -> np.dtype[Any]:
    """A dtype by its name."""
    if not isinstance(data, str) or data not in DTYPES:
        raise FileFormatError(f"needed a dtype, one of {', '.join(DTYPES)}")
    return DTYPES[data]


def _read_bool(data: Any, place: Place) -> bool:
    need(isinstance(data, bool), "true or false")
    return bool(data)


def _write_number(value: Any, sizes: SizeWriter) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _read_number(data: Any, place: Place) -> Any:
    if isinstance(data, str) and data in ("nan", "inf", "-inf"):
        return float(data)
    need(isinstance(data, bool | int | float), "a number, or nan, inf or -inf as text")
    need(not isinstance(data, int) or -LIMIT <= data < 2 * LIMIT, "a number of 64 bits")
    return data


def _read_margin(data: Any, place: Place) -> Any:
    """A number of the operand's dtype, as Python has it."""
    number, dtype = _read_number(data, place), place.inputs[0].dtype
    kind = {"b": bool, "f": float}.get(dtype.kind, int)
    need(type(number) is kind, f"a value of {dtype}")
    try:
        with np.errstate(over="ignore"):
            need(np.array(number, dtype).item() == number or number != number, f"a value of {dtype}")
    except OverflowError:
        raise FileFormatError(f"needed a value of {dtype}") from None
    return number


def _read_eps(data: Any, place: Place) -> float:
    number = _read_number(data, place)
    need(isinstance(number, float), "a float")
    return float(number)


def _read_text(data: Any, place: Place) -> str:
    need(is_text(data), "text")
    return str(data)


def choice(*texts: str) -> Form:
    def read(data: Any, place: Place) -> str:
        need(isinstance(data, str) and data in texts, f"one of {', '.join(texts)}")
        return str(data)
    return Form(_plain, read)


DTYPE = Form(lambda value, sizes: np.dtype(value).name, _read_dtype)
BOOL, TEXT = Form(_plain, _read_bool), Form(_plain, _read_text)
MARGIN, EPS = Form(_write_number, _read_margin), Form(_write_number, _read_eps)


# Arrays


def write_array(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """An array as data: one finite number as it is, all else as its bytes in base64."""
    told: dict[str, Any] = {"dtype": array.dtype.name, "shape": list(array.shape)}
    if array.ndim == 0 and np.isfinite(array):
        return {**told, "number": array.item()}
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {**told, "base64": base64.b64encode(little.tobytes()).decode("ascii")}


def read_array(data: Any) -> np.ndarray[Any, Any]:
    """The array; nothing is allocated that the file does not hold."""
    need(isinstance(data, dict) and set(data) in ({"dtype", "shape", "number"}, {"dtype", "shape", "base64"}),
         "an array: dtype, shape, and a number or base64")
    dtype, shape = dtype_of(data["dtype"]), data["shape"]
    need(isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS
         and all(type(size) is int and 0 <= size < LIMIT for size in shape), "a shape of ints")
    if "number" in data:
        need(shape == [], "the shape [] for a number")
        return np.array(_read_margin(data["number"], Place(SizeReader(), (TensorType(dtype, ()),), {})), dtype)
    need(isinstance(data["base64"], str) and data["base64"].isascii(), "base64")
    try:
        content = base64.b64decode(data["base64"], validate=True)
    except binascii.Error:
        raise FileFormatError("needed base64") from None
    need(len(content) == math.prod(shape) * dtype.itemsize,
         f"{math.prod(shape) * dtype.itemsize} bytes for {dtype}{shape}, got {len(content)}")
    need(dtype.kind != "b" or not content.strip(b"\0\1"), "bools of 0 and 1")
    try:
        return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    except ValueError as error:     # an empty array of absurd sizes
        raise FileFormatError(str(error)) from None


def _read_constant(data: Any, place: Place) -> np.ndarray[Any, Any]:
    array = read_array(data)
    array.flags.writeable = False
    return array


ARRAY = Form(lambda value, sizes: write_array(value), _read_constant)


# The table


@dataclass(frozen=True)
class OpForm:
    """What a file may say of an op. `attrs` are read in this order; those in `optional` may be missing."""

    attrs: dict[str, Form] = field(default_factory=dict)
    least: int = 1
    most: int = 1
    optional: tuple[str, ...] = ()
    rank: int | None = None     # of all operands
    one_dtype: bool = False     # for all operands
    bools: tuple[int, ...] = ()     # operands that are


def _windowed(least: int = 1, **first: Form) -> OpForm:
    attrs = {**first, "stride": whole_pair(1), "padding": size_pairs(2), "dilation": whole_pair(1), "groups": whole(1)}
    return OpForm(attrs, 2, 2, rank=4, one_dtype=True)


_POOL = {"kernel": whole_pair(1), "stride": whole_pair(1)}

OPS: dict[str, OpForm] = {
    "constant": OpForm({"value": ARRAY, "weak": BOOL}, 0, 0, ("weak",)),
    "iota": OpForm({"shape": SHAPE, "axis": RAMP_AXIS, "dtype": DTYPE}, 0, 0),
    "size_of": OpForm({"size": SIZE}, 0, 0),
    "astype": OpForm({"dtype": DTYPE, "weak": BOOL}, optional=("weak",)),
    "check_index": OpForm({"size": SIZE, "what": TEXT}),
    "reshape": OpForm({"shape": SHAPE}), "broadcast_to": OpForm({"shape": SHAPE}),
    "permute_dims": OpForm({"axes": ORDER}),
    "slice": OpForm({"starts": STARTS, "steps": STEPS, "shape": SHAPE}),
    "concat": OpForm({"axis": axis()}, 1, 2**31, one_dtype=True),
    "pad": OpForm({"widths": size_pairs(None), "value": MARGIN}),
    "cumulative_sum": OpForm({"axis": axis()}), "cumulative_prod": OpForm({"axis": axis()}),
    "linear_recurrence": OpForm({"axis": axis(), "reverse": BOOL}, 2, 2, one_dtype=True),
    **{name: OpForm({"axes": AXES}) for name in ("sum", "prod", "max", "min", "any", "all", "logsumexp")},
    **{name: OpForm({"axes": ONE_AXIS}) for name in ("argmax", "argmin")},
    "softmax": OpForm({"axis": axis()}), "log_softmax": OpForm({"axis": axis()}),
    "gelu": OpForm({"approximate": choice("none", "tanh")}), "silu": OpForm(),
    "layer_norm": OpForm({"axes": AXES, "eps": EPS}, 1, 3, one_dtype=True),
    "cross_entropy": OpForm(least=2, most=2), "soft_cross_entropy": OpForm(least=2, most=2, one_dtype=True),
    "mse": OpForm(least=2, most=2, one_dtype=True), "matmul": OpForm(least=2, most=2, one_dtype=True),
    "windows": OpForm({"axis": axis(), "size": whole(1), "step": whole(1), "spacing": whole(1)}),
    "fold": OpForm({"axis": axis(1), "length": SIZE, "step": whole(1), "spacing": whole(1)}),
    "conv": _windowed(), "conv_input_gradient": _windowed(size=TWO_SIZES),
    "conv_weight_gradient": _windowed(kernel=whole_pair(1)),
    "gather": OpForm({"axis": axis()}, 2, 2), "gather_along": OpForm({"axis": axis()}, 2, 2),
    "scatter_add": OpForm({"axis": axis()}, 3, 3), "scatter_add_along": OpForm({"axis": axis()}, 3, 3),
    "debug_print": OpForm({"message": TEXT, "every": whole(1), "edgeitems": whole(1), "grad": BOOL}),
    "assert_that": OpForm({"message": TEXT}, 2, 2, bools=(1,)),
    "argsort": OpForm({"descending": BOOL}),
    "max_pool": OpForm(_POOL, rank=4), "sum_pool": OpForm(_POOL, rank=4), "max_pool_position": OpForm(_POOL, rank=4),
    "max_pool_place": OpForm({"size": TWO_SIZES, **_POOL}, 2, 2, rank=4),
    "max_pool_pick": OpForm(_POOL, 2, 2, rank=4),
}
"""Ops that are not elementwise, or have attributes."""

ELEMENTWISE = frozenset("""add subtract multiply divide floor_divide remainder negative abs sign square reciprocal pow
sqrt exp exp2 expm1 log log1p log2 log10 logaddexp sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh atan2
hypot erf erfc sigmoid softplus relu where maximum minimum copysign floor ceil trunc round equal not_equal less
less_equal greater greater_equal logical_and logical_or logical_xor logical_not isnan isinf isfinite bitwise_and
bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift bitwise_invert stop_gradient random_bits""".split())
"""Elementwise ops without attributes: their operands have the dtypes and shapes that the op would give them."""


def attrs_of(data: Any, form: OpForm, sizes: SizeReader, inputs: Sequence[TensorType]) -> dict[str, Any]:
    """The attributes of a node, read in the order of the table."""
    need(isinstance(data, dict) and set(data) <= set(form.attrs)
         and set(form.attrs) - set(data) <= set(form.optional), f"the attributes {', '.join(form.attrs) or 'of none'}")
    found: dict[str, Any] = {}
    for name, each in form.attrs.items():
        if name in data:
            try:
                found[name] = each.read(data[name], Place(sizes, inputs, found))
            except FileFormatError as error:
                raise FileFormatError(f"{name}: {error}") from None
    return found


def check_operands(form: OpForm, inputs: Sequence[TensorType]) -> None:
    """As many, of such dtypes and ranks as the op takes."""
    need(form.least <= len(inputs) <= form.most, f"{form.least} operands" if form.least == form.most else
         f"{form.least} to {form.most} operands")
    need(form.rank is None or all(each.ndim == form.rank for each in inputs), f"operands of {form.rank} dimensions")
    need(all(inputs[each].dtype.kind == "b" for each in form.bools), "bools for a condition")
    need(not form.one_dtype or len({each.dtype for each in inputs}) == 1, "operands of one dtype")
