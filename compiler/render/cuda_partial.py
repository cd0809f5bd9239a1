"""Partial results of reductions on CUDA: of a thread, joined over its elements, its warp and its block."""

from __future__ import annotations

from ..kernel_ir import Result
from .cpu_text import Writer, combine, start_value


def merge(result: Result, a: str, b: str) -> str:
    """Two partial results of a reduction as one, in this order."""
    if result.op in ("sum", "prod") and result.dtype.startswith("float"):
        return f"{a} {'+' if result.op == 'sum' else '*'} {b}"
    return combine(result, a, b)


def is_position(result: Result) -> bool:
    return result.op in ("argmax", "argmin")


def best_of(result: Result) -> str:
    return f"{result.name}_best"


def write_start(writer: Writer, result: Result, suffix: str = "") -> None:
    if is_position(result):
        writer.line(f"{best_of(result)}{suffix} = {start_value(result)}")
        writer.line(f"{result.name}{suffix} = int64(0)")
    else:
        writer.line(f"{result.name}{suffix} = {start_value(result)}")


def write_term(writer: Writer, result: Result, expr: str, position: str, suffix: str = "") -> None:
    """One more term into a partial result. Terms come in order of their positions."""
    if not is_position(result):
        name = f"{result.name}{suffix}"
        writer.line(f"{name} = {merge(result, name, expr)}")
        return
    best = f"{best_of(result)}{suffix}"
    sign = ">" if result.op == "argmax" else "<"
    # The first nan wins over everything after it, as in NumPy.
    _write_choice(writer, result, suffix, f"(({expr} {sign} {best}) | ({expr} != {expr})) & ({best} == {best})", expr,
                  position)


def _write_choice(writer: Writer, result: Result, suffix: str, condition: str, value: str, place: str) -> None:
    """Without a branch: many of those take Numba seconds."""
    taken, best, name = f"{result.name}{suffix}_taken", f"{best_of(result)}{suffix}", f"{result.name}{suffix}"
    writer.line(f"{taken} = {condition}")
    writer.line(f"{best} = select({taken}, {value}, {best})")
    writer.line(f"{name} = select({taken}, {place}, {name})")


def write_merge(writer: Writer, result: Result, suffix: str, value: str, place: str = "") -> None:
    """Another partial result (`value`, for a position also `place`) into ``name + suffix``; where both have the same
    extreme the lower position stands."""
    if not is_position(result):
        name = f"{result.name}{suffix}"
        writer.line(f"{name} = {merge(result, name, value)}")
        return
    best, name = f"{best_of(result)}{suffix}", f"{result.name}{suffix}"
    sign = ">" if result.op == "argmax" else "<"
    wins = f"(({value} {sign} {best}) | ({value} != {value})) & ({best} == {best})"
    ties = f"(({value} == {best}) | (({value} != {value}) & ({best} != {best}))) & ({place} < {name})"
    _write_choice(writer, result, suffix, f"({wins}) | ({ties})", value, place)


def write_join_lanes(writer: Writer, result: Result, width: int) -> None:
    """The partial results of the lanes as one, by halves."""
    step = width
    while step > 1:
        step //= 2
        for lane in range(step):
            write_merge(writer, result, f"_{lane}", f"{best_of(result) if is_position(result) else result.name}"
                        f"_{lane + step}", f"{result.name}_{lane + step}")
    if width > 1:
        writer.line(f"{result.name} = {result.name}_0")
        if is_position(result):
            writer.line(f"{best_of(result)} = {best_of(result)}_0")


def write_shuffles(writer: Writer, result: Result, threads: int) -> None:
    """The partial results of `threads` neighbouring threads of a warp as one, known to all of them: a butterfly, whose
    two sides add the same numbers, so every thread has the same bits."""
    if not is_position(result):
        writer.line(f"{result.name} = team_{result.op}({result.name}, {threads})")
        return
    step = threads
    while step > 1:
        step //= 2
        writer.line(f"{result.name}_other = shuffle_xor({best_of(result)}, {step})")
        writer.line(f"{result.name}_place = shuffle_xor({result.name}, {step})")
        write_merge(writer, result, "", f"{result.name}_other", f"{result.name}_place")


def partial_names(result: Result) -> list[tuple[str, str]]:
    """(name, dtype) of what a partial result consists of."""
    if is_position(result):
        return [(best_of(result), result.term_dtype), (result.name, result.dtype)]
    return [(result.name, result.dtype)]
