"""Row kernels for CUDA: a team of threads for each row.

Threads of a team go through the row together, a vector of elements each, and join their partial results by shuffles;
a team larger than a warp is a block, whose warps meet in shared memory. All threads of a team know every result, so
values of the row are computed by all and stored by the first. The row is read again by each of its loops: it comes from
the first level of cache, or, where loops of known length are unrolled, stays in registers.

The size of a team follows from the length of the row if that is known; `UNKNOWN` threads otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kernel_ir import Check, ColumnSums, Let, Map, Pointer, Reduce, Section, Statement, Store
from ..program import Launch
from ..statements import unnest
from .cpu_text import Writer, start_value, typed
from .cuda_lanes import Lanes, vector_width
from .cuda_partial import partial_names, write_join_lanes, write_shuffles, write_start, write_term
from .cuda_text import WARP, open_check, write_coordinates

BLOCK = 256
LARGEST_TEAM = 512
UNKNOWN = 256
SHARES = 264
"""Blocks of a kernel with column sums, which share the rows: two for each multiprocessor of an H200."""

MOST_TURNS = 8
"""Vectors of a row that a thread may keep in registers."""


def write_rows(writer: Writer, section: Section) -> Launch:
    rows = _Rows(writer, section)
    return rows.write_shares() if section.columns else rows.write()


def keeps_columns(section: Section) -> bool:
    """Does every thread of a block keep the same columns of all rows, few enough for registers? Then sums over the rows
    can be carried along."""
    if len(section.axes) != 1 or any(isinstance(each, Check) for each in section.body):
        return False
    rows = _Rows(Writer(), section)
    loops = [each for each in section.body if isinstance(each, Map | Reduce)]
    plain = all(unnest(each)[0] == rows.loops and not any(isinstance(inner, Check) for inner in unnest(each)[1])
                for each in loops)
    return plain and len(rows.loops) == 1 and rows.team > WARP and rows.turns(rows.loops[0][1]) > 0


class _Rows:
    def __init__(self, writer: Writer, section: Section) -> None:
        self.writer = writer
        self.section = section
        self.pointers = {each.name: each for each in section.parameters if isinstance(each, Pointer)}
        self.loops = next(each.loops for each in section.body if isinstance(each, Reduce))
        self.width = min(self.width_of(each) for each in section.body if isinstance(each, Map | Reduce))
        self.team = self.team_size()

    def width_of(self, statement: Map | Reduce) -> int:
        loops, body = unnest(statement)
        return vector_width(body, self.pointers, *loops[-1])

    def team_size(self) -> int:
        """Threads of a team: a power of two for which each has two to four vectors."""
        if not all(extent.isdigit() for _, extent in self.loops):
            return UNKNOWN
        vectors = 1
        for _, extent in self.loops:
            vectors *= int(extent)
        vectors = max(1, vectors // self.width)
        wanted = max(WARP, -(-vectors // 4)) if vectors > 2 * WARP else -(-vectors // 2)
        return min(LARGEST_TEAM, 1 << (wanted - 1).bit_length())

    def turns(self, extent: str) -> int:
        """How often a team goes on in the row, where that is a small number without a rest; else 0."""
        each = self.team * self.width
        if not extent.isdigit() or int(extent) % each or int(extent) // each > MOST_TURNS:
            return 0
        return int(extent) // each

    def write(self) -> Launch:
        writer, team = self.writer, self.team
        axes = [(axis.name, axis.extent) for axis in self.section.axes]
        rows = max(1, BLOCK // team) if team <= WARP else 1
        if rows == 1:
            writer.line("t = thread()")
            writer.line("point = block()")
        else:
            writer.line(f"t = thread() & {team - 1}" if team > 1 else "t = 0")
            writer.line(f"point = block() * {rows} + (thread() >> {team.bit_length() - 1})")
            writer.line("live = point < stop")
            writer.line("if not live:     # it stays for the shuffles, and stores nothing")
            with writer:
                writer.line("point = stop - 1")
        if axes:
            write_coordinates(writer, axes, "point")
        self.store_if = "" if rows == 1 else "live"
        depth = writer.depth
        for statement in self.section.body:
            self.statement(statement)
        writer.depth = depth
        return Launch(team * rows, rows)

    # With column sums: a block goes through a share of the rows.

    def write_shares(self) -> Launch:
        writer, section = self.writer, self.section
        writer.line("t = thread()")
        writer.line("share = block()")
        turns = range(self.turns(self.loops[0][1]))
        for sums in section.columns:
            for result in sums.results:
                for turn in turns:
                    for lane in range(self.width):
                        writer.line(f"{result.name}_{turn}_{lane} = {start_value(result)}")
        self.store_if = ""
        writer.line("point = share")
        writer.line("while point < stop:")
        with writer:
            write_coordinates(writer, [(axis.name, axis.extent) for axis in section.axes], "point")
            depth = writer.depth
            for number, statement in enumerate(section.body):
                columns = [each for each in section.columns if each.loop == number]
                if columns:
                    assert isinstance(statement, Map | Reduce)
                    self.loop_with_columns(statement, columns)
                else:
                    self.statement(statement)
            writer.depth = depth
            writer.line("barrier()     # shared memory is used again")
            writer.line("point += blocks()")
        for turn in turns:
            lanes = self.open_turn(turn)
            for sums in section.columns:
                lanes.inside |= {result.name for result in sums.results}
                for result in sums.results:
                    for lane in range(self.width):
                        writer.line(f"{lanes.name(result.name, lane)} = {result.name}_{turn}_{lane}")
                lanes.body(sums.stores)
        return Launch(self.team, 1, SHARES)

    def open_turn(self, turn: int) -> RowLanes:
        index = self.loops[0][0]
        first = f"t * {self.width}" if self.width > 1 else "t"
        self.writer.line(f"{index} = {first} + {turn * self.team * self.width}")
        return RowLanes(self.writer, self.pointers, index, self.width)

    def loop_with_columns(self, statement: Map | Reduce, sums: Sequence[ColumnSums]) -> None:
        """The loop turn by turn: each has accumulators of its own."""
        writer, results = self.writer, statement.results if isinstance(statement, Reduce) else ()
        suffixes = [f"_{lane}" for lane in range(self.width)] if self.width > 1 else [""]
        for result in results:
            for suffix in suffixes:
                write_start(writer, result, suffix)
        for turn in range(self.turns(self.loops[0][1])):
            lanes = self.open_turn(turn)
            lanes.body([each for each in statement.body if not isinstance(each, Store)])
            lanes.body_stores([each for each in statement.body if isinstance(each, Store)], "")
            for result in results:
                for lane, suffix in enumerate(suffixes):
                    write_term(writer, result, lanes.fix(result.expr, lane), lanes.fix(result.position, lane), suffix)
            for each in sums:
                lanes.body(each.body)
                for result in each.results:
                    for lane in range(self.width):
                        write_term(writer, result, lanes.fix(result.expr, lane), "", f"_{turn}_{lane}")
        if isinstance(statement, Reduce):
            self.join(statement)

    def statement(self, statement: Statement) -> None:
        match statement:
            case Let(name, dtype, expr):
                self.writer.line(f"{name} = {typed(expr, dtype)}")
            case Store(pointer, index, expr):
                first = "t == 0" if self.team > 1 else ""
                condition = " and ".join(filter(None, (self.store_if, first)))
                self.writer.line(f"if {condition}:" if condition else "if True:")
                with self.writer:
                    self.writer.line(f"{pointer}[{index}] = {expr}")
            case Map():
                loops, body = unnest(statement)
                with _Loop(self, loops) as lanes:
                    lanes.body(body, self.store_if)
            case Reduce():
                self.reduce(statement)
            case Check():
                open_check(self.writer, statement)
            case _:
                raise AssertionError(f"{type(statement).__name__} in a row program that is shared by threads")

    def reduce(self, statement: Reduce) -> None:
        writer, width = self.writer, self.width
        suffixes = [f"_{lane}" for lane in range(width)] if width > 1 else [""]
        for result in statement.results:
            for suffix in suffixes:
                write_start(writer, result, suffix)
        with _Loop(self, statement.loops, statement.window) as lanes:
            lanes.body([each for each in statement.body if not isinstance(each, Store)])
            lanes.body_stores([each for each in statement.body if isinstance(each, Store)], self.store_if)
            for result in statement.results:
                for lane, suffix in enumerate(suffixes):
                    write_term(writer, result, lanes.fix(result.expr, lane), lanes.fix(result.position, lane), suffix)
        self.join(statement)

    def join(self, statement: Reduce) -> None:
        """The partial results of lanes and threads as one."""
        for result in statement.results:
            write_join_lanes(self.writer, result, self.width)
            write_shuffles(self.writer, result, min(self.team, WARP))
        if self.team > WARP:
            self.join_warps(statement)

    def join_warps(self, statement: Reduce) -> None:
        """Every warp's result through shared memory; then each warp joins all of them."""
        writer, warps = self.writer, self.team // WARP
        for result in statement.results:
            for name, dtype in partial_names(result):
                writer.line(f"{name}_warps = shared_{dtype}({warps})")
        writer.line("if t & 31 == 0:")
        with writer:
            for result in statement.results:
                for name, _ in partial_names(result):
                    writer.line(f"{name}_warps[t >> 5] = {name}")
        writer.line("barrier()")
        for result in statement.results:
            for name, _ in partial_names(result):
                writer.line(f"{name} = {name}_warps[t & {warps - 1}]")
            write_shuffles(writer, result, warps)


class _Loop:
    """The loop of a team over the running number of nested loops, a vector of elements a turn."""

    def __init__(self, rows: _Rows, loops: Sequence[tuple[str, str]], window: tuple[str, str] | None = None) -> None:
        self.rows = rows
        self.loops = loops
        self.window = window

    def __enter__(self) -> RowLanes:
        rows, writer = self.rows, self.rows.writer
        width, team = rows.width, rows.team
        index = self.loops[-1][0]
        self.depth = writer.depth
        extent = " * ".join(each for _, each in self.loops)
        if self.window is None and len(self.loops) == 1 and rows.turns(extent):
            # a number of turns that the text knows: unrolled, each thread keeps its part of the row in registers
            writer.line(f"for {index}_turn in range({rows.turns(extent)}):")
            writer.depth += 1
            first = f"t * {width}" if width > 1 else "t"
            writer.line(f"{index} = {first} + {index}_turn * {team * width}")
            return RowLanes(writer, rows.pointers, index, width)
        if width > 1 and len(self.loops) == 1:
            first, stop, step = f"t * {width}", extent, team * width
        elif width > 1:
            first, stop, step = "t", f"{extent} // {width}", team
        else:
            first, stop, step = "t", extent, team
        if self.window is not None:
            start, length = self.window
            divided = width > 1 and len(self.loops) > 1
            begin = f"quotient_of({start}, {width})" if divided else start
            length = f"quotient_of({length}, {width})" if divided else length
            first, stop = f"{begin} + {first}", f"min({stop}, {begin} + {length})"
        if len(self.loops) == 1:
            writer.line(f"for {index} in range({first}, {stop}, {step}):")
            writer.depth += 1
        else:
            name = f"{index}_point"
            writer.line(f"for {name} in range({first}, {stop}, {step}):")
            writer.depth += 1
            last = self.loops[-1][1] if width == 1 else str(int(self.loops[-1][1]) // width)
            inner = index if width == 1 else f"{index}_vector"
            write_coordinates(writer, [*self.loops[:-1], (inner, last)], name)
            if width > 1:
                writer.line(f"{index} = {inner} * {width}")
        return RowLanes(writer, rows.pointers, index, width)

    def __exit__(self, *_: object) -> None:
        self.rows.writer.depth = self.depth


class RowLanes(Lanes):
    """Lanes whose check stays open until the loop ends: the terms of a reduction come after the body."""

    def body(self, body: Sequence[Statement], store_if: str = "") -> None:
        depth = self.writer.depth
        super().body(body, store_if)
        opened = sum(type(each).__name__ == "Check" for each in body)
        self.writer.depth = depth + opened

    def body_stores(self, stores: Sequence[Statement], store_if: str) -> None:
        super().body(stores, store_if)
