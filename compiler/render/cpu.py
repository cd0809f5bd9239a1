"""Rendering kernel IR as Numba source for the CPU.

The form of a kernel is ``def kernel(args, start, stop)``: `args` is the address of a table of int64 slots, and
``start … stop`` a range of its parallel iterations. All index arithmetic is signed 64-bit (a mixture with unsigned
integers would become float64). Three skeletons:

* elements: one flat loop, vectorised by LLVM;
* rows: a loop over rows, inner loops over the row; sums add up blocks of `BLOCK` elements with reassociation allowed
  (that is what vectorises them) and join the blocks with compensated addition, so a float32 sum is at least as accurate
  as NumPy's pairwise one, whatever the length;
* lanes: when memory runs along the last parallel axis, `LANES` neighbouring columns are carried at once in local arrays
  and the column index runs in the innermost loop.

Chunks may be split anywhere: no result depends on `start` and `stop`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..kernel_ir import (
    Barrier,
    Check,
    Extent,
    KernelIR,
    Let,
    Local,
    Map,
    Parameter,
    Pointer,
    Reduce,
    Result,
    Scan,
    Section,
    Statement,
    Status,
    Store,
)

BLOCK = 512
COLUMN_BLOCK = 32
LANES = 512
LANGUAGE = "staticgraph.runtime.cpu.language"
NARROW = ("int8", "int16", "int32", "uint8", "uint16", "uint32")
PYTHON = frozenset("""
    def for in range while if else and or not min max True False is return
""".split())
_WORD = re.compile(r"[A-Za-z_]\w*")
_LOWEST = {"bool": "False", "int8": "-128", "int16": "-32768", "int32": "-2147483648",
           "int64": "-9223372036854775807 - 1", "uint8": "0", "uint16": "0", "uint32": "0", "uint64": "0",
           "float32": "-inf", "float64": "-inf"}
_HIGHEST = {"bool": "True", "int8": "127", "int16": "32767", "int32": "2147483647", "int64": "9223372036854775807",
            "uint8": "255", "uint16": "65535", "uint32": "4294967295", "uint64": "18446744073709551615",
            "float32": "inf", "float64": "inf"}


def render(kernel: KernelIR) -> str:
    """The Numba source of the kernel, starting with the import of the names that it uses."""
    writer = _Writer()
    writer.line(f"def {kernel.name}(args, start, stop):")
    with writer:
        if len(kernel.sections) == 1 and kernel.sections[0].count == 1:
            _render_single(writer, kernel.sections[0], kernel.lanes)
        else:
            _render_sections(writer, kernel.sections)
    return header(writer.text()) + writer.text()


def header(text: str) -> str:
    """The import line for the kernel-language names in `text`."""
    defined = set(re.findall(r"^\s*([A-Za-z_]\w*) =", text, re.M)) | set(re.findall(r"for (\w+) in", text))
    names = {word for word in _WORD.findall(re.sub(r"#.*", "", text))} - defined - PYTHON - {"args", "start", "stop"}
    names -= set(re.findall(r"def (\w+)\(", text))
    names = {name for name in names if not re.fullmatch(r"e\d*", name)}
    return f"from {LANGUAGE} import {', '.join(sorted(names))}\n\n\n" if names else ""


class _Writer:
    """Lines with indentation; ``with writer:`` is one level deeper."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


def _parameters(writer: _Writer, parameters: Sequence[Parameter], table: str, first: int = 0) -> None:
    for slot, parameter in enumerate(parameters, first):
        match parameter:
            case Pointer(name, dtype, _):
                writer.line(f"{name} = pointer_{dtype}({table}, {slot})")
            case Extent(name):
                writer.line(f"{name} = extent({table}, {slot})")
            case Status(name):
                writer.line(f"{name} = address({table}, {slot})")


def _render_single(writer: _Writer, section: Section, lanes: str) -> None:
    _parameters(writer, section.parameters, "args")
    _statements(writer, section.prelude)
    if lanes == "parallel":
        _render_lanes(writer, section)
        return
    _point_loop(writer, section, "start", "stop")


def _point_loop(writer: _Writer, section: Section, start: str, stop: str) -> None:
    """The loop over parallel points, and their coordinates from the running number."""
    axes = section.axes
    index = axes[0].name if len(axes) == 1 else "point"
    writer.line(f"for {index} in range({start}, {stop}):")
    with writer:
        if len(axes) > 1:
            _coordinates(writer, section, "point")
        _statements(writer, section.body)


def _coordinates(writer: _Writer, section: Section, point: str) -> None:
    rest = point
    for axis in reversed(section.axes[1:]):
        writer.line(f"{axis.name} = {rest} % {axis.extent}")
        writer.line(f"{axis.name}_rest = {rest} // {axis.extent}")
        rest = f"{axis.name}_rest"
    writer.line(f"{section.axes[0].name} = {rest}")


def _render_sections(writer: _Writer, sections: Sequence[Section]) -> None:
    """Sections follow each other in the numbering of parallel iterations; equal ones share a loop over the table."""
    writer.line("begin = 0")
    first = 0
    for number, section in enumerate(sections):
        writer.line(f"# section {number}: {section.count} of one form")
        suffix = f"_{number}"
        writer.line(f"for turn{suffix} in range({section.count}):")
        with writer:
            width = len(section.parameters)
            writer.line(f"table{suffix} = args + ({first} + turn{suffix} * {width}) * 8")
            renamed = _suffixed(section, suffix)
            _parameters(writer, renamed.parameters, f"table{suffix}")
            _statements(writer, renamed.prelude)
            extent = " * ".join(axis.extent for axis in renamed.axes) or "1"
            writer.line(f"length{suffix} = {extent}")
            _point_loop(writer, renamed, "max(start - begin, 0)", f"min(stop - begin, length{suffix})")
            writer.line(f"begin += length{suffix}")
        first += section.count * len(section.parameters)


def _suffixed(section: Section, suffix: str) -> Section:
    """The section with its names made its own: a Numba variable keeps one type in a whole function."""
    names = {parameter.name for parameter in section.parameters} | {axis.name for axis in section.axes}
    for statement in (*section.prelude, *section.body):
        if not isinstance(statement, Let | Store):
            raise AssertionError("sections hold flat programs only")
        if isinstance(statement, Let):
            names.add(statement.name)

    def fix(text: str) -> str:
        return _WORD.sub(lambda match: match[0] + suffix if match[0] in names else match[0], text)

    def fix_all(body: Sequence[Statement]) -> tuple[Statement, ...]:
        fixed: list[Statement] = []
        for statement in body:
            if isinstance(statement, Let):
                fixed.append(Let(fix(statement.name), statement.dtype, fix(statement.expr)))
            elif isinstance(statement, Store):
                fixed.append(Store(fix(statement.pointer), fix(statement.index), fix(statement.expr)))
        return tuple(fixed)

    parameters = tuple(type(each)(**{**each.__dict__, "name": fix(each.name)}) for each in section.parameters)
    axes = tuple(type(axis)(fix(axis.name), fix(axis.extent)) for axis in section.axes)
    return Section(parameters, axes, fix_all(section.body), section.count, fix_all(section.prelude))


def _statements(writer: _Writer, body: Sequence[Statement]) -> None:
    for statement in body:
        _statement(writer, statement)


def _statement(writer: _Writer, statement: Statement) -> None:
    match statement:
        case Let(name, dtype, expr):
            writer.line(f"{name} = {typed(expr, dtype)}")
        case Store(pointer, index, expr):
            writer.line(f"{pointer}[{index}] = {expr}")
        case Map(index, extent, inner, order):
            writer.line(f"for {index} in {_range(extent, order)}:")
            with writer:
                _statements(writer, inner)
        case Reduce():
            _render_reduce(writer, statement)
        case Scan():
            _render_scan(writer, statement)
        case Check(name, value, size, number):
            writer.line(f"{name} = int64({value})")
            writer.line(f"if {name} < 0:")
            with writer:
                writer.line(f"{name} += {size}")
            writer.line(f"if {name} < 0 or {name} >= {size}:")
            with writer:
                writer.line(f"fail(status, {number}, int64({value}), {size})")
                writer.line(f"{name} = 0")
        case Local(name, dtype, size, _):
            writer.line(f"{name} = local_{dtype}({size})")
        case Barrier():
            pass  # a kernel call runs on one thread


def typed(expr: str, dtype: str) -> str:
    """The expression brought to its dtype where Numba would widen it."""
    plain = re.fullmatch(r"\w+(\[[^\]]*\])?", expr) or expr.startswith(f"{dtype}(")
    return f"{dtype}({expr})" if dtype in NARROW and not plain else expr


def _range(extent: str, order: str) -> str:
    return f"range({extent} - 1, -1, -1)" if order == "backward" else f"range({extent})"


def _render_scan(writer: _Writer, scan: Scan) -> None:
    for carry in scan.carries:
        writer.line(f"{carry.name} = {carry.init}")
    writer.line(f"for {scan.index} in {_range(scan.extent, scan.order)}:")
    with writer:
        _statements(writer, scan.body)
        for carry in scan.carries:
            writer.line(f"{carry.name}_next = {typed(carry.next, carry.dtype)}")
        _statements(writer, scan.after)
        for carry in scan.carries:
            writer.line(f"{carry.name} = {carry.name}_next")


# Reductions along a row.

def _is_compensated(result: Result) -> bool:
    return result.op == "sum" and result.dtype.startswith("float")


def start_value(result: Result) -> str:
    """What an accumulator starts from."""
    dtype = result.dtype
    if result.op == "sum":
        return f"{dtype}(0)"
    if result.op == "prod":
        return f"{dtype}(1)"
    if result.op in ("any", "all"):
        return "False" if result.op == "any" else "True"
    table = _LOWEST if result.op in ("max", "argmax") else _HIGHEST
    dtype = result.term_dtype
    return table[dtype] if dtype == "bool" else f"{dtype}({table[dtype]})"


def combine(result: Result, accumulator: str, term: str) -> str:
    """One more term into an accumulator."""
    if result.op == "sum":
        return typed(f"accumulate({accumulator}, {term})", result.dtype)
    if result.op == "prod":
        return typed(f"accumulate_product({accumulator}, {term})", result.dtype)
    if result.op in ("any", "all"):
        return f"{accumulator} | {term}" if result.op == "any" else f"{accumulator} & {term}"
    return f"{'maximum' if result.op == 'max' else 'minimum'}({accumulator}, {term})"


def _render_reduce(writer: _Writer, reduce: Reduce) -> None:
    compensated = any(_is_compensated(result) for result in reduce.results)
    index, extent = reduce.loops[-1]
    blocked = compensated and not (extent.isdigit() and int(extent) <= BLOCK and len(reduce.loops) == 1)
    for result in reduce.results:
        writer.line(f"{_accumulator(result)} = {start_value(result)}")
        if result.op in ("argmax", "argmin"):
            writer.line(f"{result.name} = 0")
        elif blocked and _is_compensated(result):
            writer.line(f"{result.name}_error = {start_value(result)}")
    depth = writer.depth
    for outer, size in reduce.loops[:-1]:
        writer.line(f"for {outer} in range({size}):")
        writer.depth += 1
    if blocked:
        writer.line(f"for {index}_block in range(0, {extent}, {BLOCK}):")
        writer.depth += 1
        for result in reduce.results:
            if _is_compensated(result):
                writer.line(f"{result.name}_part = {start_value(result)}")
        writer.line(f"for {index} in range({index}_block, min({index}_block + {BLOCK}, {extent})):")
    else:
        writer.line(f"for {index} in range({extent}):")
    with writer:
        _statements(writer, reduce.body)
        for result in reduce.results:
            suffix = "_part" if blocked and _is_compensated(result) else ""
            _accumulate(writer, result, suffix)
    if blocked:
        for result in reduce.results:
            if _is_compensated(result):
                _join_block(writer, result.name)
    writer.depth = depth
    if blocked:
        for result in reduce.results:
            if _is_compensated(result):
                _finish(writer, result.name, result.name, result.dtype)


def _accumulator(result: Result) -> str:
    return f"{result.name}_best" if result.op in ("argmax", "argmin") else result.name


def _accumulate(writer: _Writer, result: Result, suffix: str, lane: str = "") -> None:
    if result.op not in ("argmax", "argmin"):
        accumulator = f"{result.name}{suffix}{lane}"
        writer.line(f"{accumulator} = {combine(result, accumulator, result.expr)}")
        return
    best = f"{result.name}_best{lane}"
    sign = ">" if result.op == "argmax" else "<"
    # The first nan wins over everything after it, as in NumPy.
    writer.line(f"if ({result.expr} {sign} {best} or {result.expr} != {result.expr}) and {best} == {best}:")
    with writer:
        writer.line(f"{best} = {result.expr}")
        writer.line(f"{result.name}{lane} = {result.position}")


def _join_block(writer: _Writer, name: str, lane: str = "") -> None:
    """Add a block's sum to the total and keep what the addition lost (Knuth's TwoSum, TAOCP vol. 2, 4.2.2)."""
    stem = name
    writer.line(f"{stem}_new = {name}{lane} + {name}_part{lane}")
    writer.line(f"{stem}_gain = {stem}_new - {name}{lane}")
    lost = f"({name}{lane} - ({stem}_new - {stem}_gain)) + ({name}_part{lane} - {stem}_gain)"
    writer.line(f"{name}_error{lane} += {lost}")
    writer.line(f"{name}{lane} = {stem}_new")


def _finish(writer: _Writer, target: str, name: str, dtype: str, lane: str = "") -> None:
    # The lost part is nan once the total is infinite: then the total is right as it is.
    writer.line(f"{target}{lane} = select(isfinite({name}_error{lane}), {name}{lane} + {name}_error{lane}, "
                f"{name}{lane})")


# Reductions down the columns: `LANES` neighbouring columns at once.

def _render_lanes(writer: _Writer, section: Section) -> None:
    arrays = _lane_arrays(section.body)
    for name, dtype in arrays.items():
        writer.line(f"{name} = local_{dtype}({LANES})")
    lane_axis = section.axes[-1]
    writer.line("point = start")
    writer.line("while point < stop:")
    with writer:
        if len(section.axes) > 1:
            _coordinates(writer, section, "point")
            writer.line(f"first = {lane_axis.name}")
        else:
            writer.line("first = point")
        writer.line(f"width = min(min(stop - point, {lane_axis.extent} - first), {LANES})")
        lanes = _Lanes(writer, frozenset(arrays), lane_axis.name)
        lanes.body(section.body)
        writer.line("point += width")


def _lane_arrays(body: Sequence[Statement]) -> dict[str, str]:
    """Names that live as long as a tile of columns, with their dtypes: one array of lanes for each."""
    arrays: dict[str, str] = {}
    for statement in body:
        if isinstance(statement, Let):
            arrays[statement.name] = statement.dtype
        elif isinstance(statement, Check):
            arrays[statement.name] = "int64"
        elif isinstance(statement, Reduce):
            for result in statement.results:
                arrays[result.name] = result.dtype
                if result.op in ("argmax", "argmin"):
                    arrays[f"{result.name}_best"] = result.term_dtype
                if _is_compensated(result):
                    arrays[f"{result.name}_part"] = result.dtype
                    arrays[f"{result.name}_error"] = result.dtype
    return arrays


class _Lanes:
    """Writes statements for all lanes of a tile, the lane running innermost. Statements that follow each other share
    one loop over the lanes: `lane` opens it where none is open, `close` ends it."""

    def __init__(self, writer: _Writer, arrays: frozenset[str], axis: str) -> None:
        self.writer = writer
        self.arrays = arrays
        self.axis = axis
        self.opened: int | None = None

    def fix(self, text: str) -> str:
        return _WORD.sub(lambda match: f"{match[0]}[lane]" if match[0] in self.arrays else match[0], text)

    def lane(self) -> None:
        if self.opened is None:
            self.writer.line("for lane in range(width):")
            self.writer.depth += 1
            self.writer.line(f"{self.axis} = first + lane")
            self.opened = len(self.writer.lines)

    def close(self) -> None:
        if self.opened is None:
            return
        inside = self.writer.lines[self.opened:]
        if not any(re.search(rf"\b{self.axis}\b", line) for line in inside):
            del self.writer.lines[self.opened - 1]
        self.writer.depth -= 1
        self.opened = None

    def body(self, body: Sequence[Statement]) -> None:
        for statement in body:
            if isinstance(statement, Reduce):
                self.reduce(statement)
            elif isinstance(statement, Map):
                self.map(statement)
            else:
                self.lane()
                self.plain([statement])
        self.close()

    def plain(self, body: Sequence[Statement]) -> None:
        for statement in body:
            match statement:
                case Let(name, dtype, expr):
                    self.writer.line(f"{self.fix(name)} = {typed(self.fix(expr), dtype)}")
                case Store(pointer, index, expr):
                    self.writer.line(f"{pointer}[{self.fix(index)}] = {self.fix(expr)}")
                case Check(name, value, size, number):
                    _statement(self.writer, Check(self.fix(name), self.fix(value), size, number))
                case _:
                    raise AssertionError(f"{type(statement).__name__} inside of a lane loop")

    def map(self, statement: Map) -> None:
        self.close()
        depth = self.writer.depth
        inner: Sequence[Statement] = (statement,)
        while len(inner) == 1 and isinstance(inner[0], Map):
            self.writer.line(f"for {inner[0].index} in range({inner[0].extent}):")
            self.writer.depth += 1
            inner = inner[0].body
        self.lane()
        self.plain(inner)
        self.close()
        self.writer.depth = depth

    def reduce(self, statement: Reduce) -> None:
        sums = [result for result in statement.results if _is_compensated(result)]
        self.lane()
        for result in statement.results:
            self.writer.line(f"{_accumulator(result)}[lane] = {start_value(result)}")
            if result.op in ("argmax", "argmin"):
                self.writer.line(f"{result.name}[lane] = 0")
        for result in sums:
            self.writer.line(f"{result.name}_part[lane] = {start_value(result)}")
            self.writer.line(f"{result.name}_error[lane] = {start_value(result)}")
        self.close()
        depth = self.writer.depth
        for outer, size in statement.loops[:-1]:
            self.writer.line(f"for {outer} in range({size}):")
            self.writer.depth += 1
        self.blocks(statement, sums)
        self.writer.depth = depth
        for result in sums:
            self.lane()
            _finish(self.writer, result.name, result.name, result.dtype, "[lane]")

    def blocks(self, statement: Reduce, sums: Sequence[Result]) -> None:
        writer = self.writer
        index, extent = statement.loops[-1]
        if sums:
            writer.line(f"for {index}_block in range(0, {extent}, {COLUMN_BLOCK}):")
            writer.depth += 1
            writer.line(f"for {index} in range({index}_block, min({index}_block + {COLUMN_BLOCK}, {extent})):")
        else:
            writer.line(f"for {index} in range({extent}):")
        with writer:
            self.lane()
            self.plain(statement.body)
            for result in statement.results:
                fixed = Result(result.name, result.dtype, result.op, self.fix(result.expr), result.term_dtype,
                               result.position)
                _accumulate(writer, fixed, "_part" if _is_compensated(result) else "", "[lane]")
            self.close()
        for result in sums:
            self.lane()
            _join_block(writer, result.name, "[lane]")
            writer.line(f"{result.name}_part[lane] = {start_value(result)}")
        self.close()
