"""Kernels of the ops that are not fused: copies, padding, joining, scans, scatters.

Each function returns sections of kernel IR with their arguments, like `lower.GroupLowering`. Matrix products and sorts
are whole texts of the renderer (`render/cpu_matmul.py`, `render/cpu_sort.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from staticgraph.tensor import Tensor
from staticgraph.types import Shape, Size, product

from .kernel_ir import Axis, Carry, Let, Map, Scan, Section, Statement, Store
from .lower import Lowered
from .parameters import BufferOf, Parameters, Style, index_sum, literal
from .views import View, collapse, contiguous_strides

UNROLLED = 32
"""Elements of a window up to which a fold is one formula."""


@dataclass(frozen=True, eq=False)
class Place:
    """A strided region of a buffer; `node` owns the buffer."""

    node: Tensor
    offset: Size
    strides: tuple[Size, ...]


def whole(node: Tensor) -> Place:
    """All of a node's own buffer."""
    return Place(node, 0, contiguous_strides(node.shape))


def _parallel(sizes: Sequence[Size], parameters: Parameters, literal_extents: bool) -> list[Axis]:
    names = ["i"] if len(sizes) == 1 else [f"row{number}" for number in range(len(sizes))]
    return [Axis(name, parameters.extent(size, literal_extents)) for name, size in zip(names, sizes, strict=True)]


def _index(variables: Sequence[str], strides: Sequence[Size], parameters: Parameters) -> str:
    return index_sum([(variable, parameters.extent(stride)) for variable, stride in zip(variables, strides, strict=True)
                      if stride != 0])


def copy(shape: Shape, source: Place, target: Place, buffer_of: BufferOf, style: Style) -> Lowered:
    """Copy a strided region: one flat loop, or rows with an inner loop over the last axis."""
    parameters = Parameters(buffer_of, style)
    sizes, (from_strides, to_strides) = collapse(shape, source.strides, target.strides)
    x = parameters.pointer(source.node, source.offset, "read")
    y = parameters.pointer(target.node, target.offset, "write")
    dtype = str(source.node.dtype)
    flat = len(sizes) <= 1
    axes = _parallel(sizes if flat else sizes[:-1], parameters, literal_extents=not flat)
    variables = [axis.name for axis in axes] + ([] if flat else ["j"])
    body: tuple[Statement, ...] = (
        Let("value", dtype, f"{x}[{_index(variables, from_strides, parameters)}]"),
        Store(y, _index(variables, to_strides, parameters), "value"))
    if not flat:
        body = (Map("j", parameters.extent(sizes[-1]), body),)
    section = Section(tuple(parameters.parameters), tuple(axes), body)
    extent = product(sizes if flat else sizes[:-1])
    return Lowered(section, parameters.arguments, extent, "inner", ["copy"], flat, 0, tuple(sizes),
                   () if flat else (sizes[-1],))


def fill(node: Tensor, buffer_of: BufferOf, style: Style) -> Lowered:
    """Fill an array with its padding value, or zeros."""
    parameters = Parameters(buffer_of, style)
    y = parameters.pointer(node, 0, "write")
    value = literal(np.asarray(node.attrs.get("value", 0)).astype(node.dtype))
    axis = Axis("i", parameters.extent(node.size, literal=False))
    section = Section(tuple(parameters.parameters), (axis,), (Store(y, "i", value),))
    return Lowered(section, parameters.arguments, node.size, "inner", ["fill"], True, 0, (node.size,))


def scan(node: Tensor, views: Sequence[View], buffer_of: BufferOf, style: Style) -> Lowered:
    """cumulative_sum, cumulative_prod and linear_recurrence: rows in parallel, the scanned axis in order."""
    parameters = Parameters(buffer_of, style)
    axis = node.attrs["axis"]
    others = [number for number in range(node.ndim) if number != axis]
    sizes, strides = collapse([node.shape[number] for number in others],  # type: ignore[arg-type]
                              [contiguous_strides(node.shape)[number] for number in others],
                              *([view.strides[number] for number in others] for view in views))
    axes = _parallel(sizes, parameters, literal_extents=True)
    variables = [axis.name for axis in axes]
    inner = [contiguous_strides(node.shape)[axis], *(view.strides[axis] for view in views)]

    def place(number: int) -> str:
        return _index([*variables, "j"], [*strides[number], inner[number]], parameters)

    dtype = str(node.dtype)
    body = []
    for number, view in enumerate(views):
        pointer = parameters.pointer(view.base, view.offset, "read")
        body.append(Let(f"term{number}", dtype, f"{pointer}[{place(number + 1)}]"))
    start, step = {"cumulative_sum": ("0", "carry + term0"), "cumulative_prod": ("1", "carry * term0"),
                   "linear_recurrence": ("0", "term0 * carry + term1")}[node.op.name]
    y = parameters.pointer(node, 0, "write")
    order = "backward" if node.attrs.get("reverse", False) else "forward"
    statement = Scan("j", parameters.extent(node.shape[axis]), tuple(body),
                     (Carry("carry", dtype, f"{dtype}({start})", step),), (Store(y, place(0), "carry_next"),), order)
    section = Section(tuple(parameters.parameters), tuple(axes), (statement,))
    return Lowered(section, parameters.arguments, product(sizes), "inner", [node.op.name])


def fold(node: Tensor, view: View, buffer_of: BufferOf, style: Style) -> Lowered:
    """Each place of the result gathers the window elements that lie there: of those `spacing` apart, the ones that are
    a whole number of steps from the first window, and belong to one that exists."""
    parameters = Parameters(buffer_of, style)
    axis, step, spacing = node.attrs["axis"], node.attrs["step"], node.attrs["spacing"]
    count, size = node.inputs[0].shape[axis:axis + 2]
    others = [number for number in range(node.ndim) if number != axis]
    home = contiguous_strides(node.shape)
    away = (*view.strides[:axis + 1], *view.strides[axis + 2:])
    before, after = ([number for number in others if number < axis], [number for number in others if number > axis])
    parts = [collapse([node.shape[number] for number in some],  # type: ignore[arg-type]
                      [home[number] for number in some], [away[number] for number in some]) for some in (before, after)]
    sizes = [*parts[0][0], node.shape[axis], *parts[1][0]]
    to, at = ([*parts[0][1][number], stride, *parts[1][1][number]] for number, stride in ((0, home[axis]), (1, 0)))
    flat = len(sizes) == 1
    axes = _parallel(sizes if flat else sizes[:-1], parameters, literal_extents=not flat)
    variables = [each.name for each in axes] + ([] if flat else ["j"])
    place = variables[len(parts[0][0])]
    x = parameters.pointer(view.base, view.offset, "read")
    y = parameters.pointer(node, 0, "write")
    dtype = str(node.dtype)
    element = _index([*variables, "window{t}", "{t}"], [*at, view.strides[axis], view.strides[axis + 1]], parameters)
    last, zero = parameters.extent(count), literal(np.zeros((), node.dtype))

    def term(t: int | str) -> tuple[Let, ...]:
        return (Let(f"reach{t}", "int64", f"{place} - {t} * {spacing}"),
                Let(f"window{t}", "int64", f"min(max(reach{t}, 0) // {step}, {last} - 1)"),
                Let(f"hit{t}", "bool", f"window{t} * {step} == reach{t}"),
                Let(f"term{t}", dtype, f"select(hit{t}, {x}[{element.format(t=t)}], {zero})"))

    add, home_index = " | " if dtype == "bool" else " + ", _index(variables, to, parameters)
    body: tuple[Statement, ...]
    if isinstance(size, int) and size <= UNROLLED:
        lets = [let for t in range(size) for let in term(t)]
        body = (*lets, Store(y, home_index, add.join(f"term{t}" for t in range(size))))
    else:
        carry = Carry("total", dtype, zero, f"total{add}termt")
        body = (Scan("t", parameters.extent(size), term("t"), (carry,), (Store(y, home_index, "total_next"),)),)
    if not flat:
        body = (Map("j", parameters.extent(sizes[-1]), body),)
    section = Section(tuple(parameters.parameters), tuple(axes), body)
    extent = product(sizes if flat else sizes[:-1])
    return Lowered(section, parameters.arguments, extent, "inner", ["fold"], flat, 0, tuple(sizes),
                   () if flat else (sizes[-1],))


def scatter(node: Tensor, views: Sequence[View], buffer_of: BufferOf, style: Style) -> Lowered:
    """scatter_add and scatter_add_along on contiguous operands: rows before the axis in parallel, repeated indices
    added in order, so the result does not depend on the number of threads."""
    parameters = Parameters(buffer_of, style)
    axis = node.attrs["axis"]
    x, indices, source = (parameters.pointer(view.base, view.offset, "read") for view in views)
    y = parameters.pointer(node, 0, "write")
    before, after = product(node.shape[:axis]), product(node.shape[axis + 1:])
    along = node.op.name == "scatter_add_along"
    count = node.inputs[1].shape[axis] if along else node.inputs[1].size
    row_size, row_source = node.shape[axis] * after, count * after
    width = parameters.extent(after)
    steps, row_elements, row_terms = (parameters.extent(size) for size in (count, row_size, row_source))
    copied = Map("e", row_elements, (Let("kept", str(node.dtype), f"{x}[row * {row_elements} + e]"),
                                     Store(y, f"row * {row_elements} + e", "kept")))
    where = f"row * {row_elements} + index * {width} + j"
    term = f"row * {row_terms} + k * {width} + j"
    index = Let("index", "int64", f"{indices}[{term if along else 'k'}]")
    total = "sum_so_far | term" if str(node.dtype) == "bool" else "sum_so_far + term"
    add: tuple[Statement, ...] = (Let("term", str(node.dtype), f"{source}[{term}]"),
                                  Let("sum_so_far", str(node.dtype), f"{y}[{where}]"),
                                  Let("new_sum", str(node.dtype), total), Store(y, where, "new_sum"))
    inner: tuple[Statement, ...] = ((Map("j", width, (index, *add)),) if along else (index, Map("j", width, add)))
    body = (copied, Map("k", steps, inner, "forward"))
    rows = Axis("row", parameters.extent(before, literal=False))
    section = Section(tuple(parameters.parameters), (rows,), body)
    return Lowered(section, parameters.arguments, before, "inner", [node.op.name])
