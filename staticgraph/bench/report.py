"""Records as text: the table of ratios, the compiles, the goals, and what went wrong. Records in, lines out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Record = dict[str, Any]

OURS = "staticgraph"
COMPILE_GOALS = (("mlp_step", "cold", 3.0), ("mlp_step", "warm", 0.6))
"""(case, kind, seconds), imports apart."""


def report(record: Record, *, times: bool = False) -> str:
    """The whole report."""
    parts = [_machine(record)]
    if record["cases"]:
        parts.append(_ratios(record))
        if times:
            parts.append(_times(record))
    if record.get("compile"):
        parts.append(_compiles(record["compile"]))
    goals = list(_goals(record))
    if goals:
        parts.append("goals\n" + align(goals))
    notes = list(_notes(record))
    if notes:
        parts.append("notes\n" + "\n".join(f"  {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def align(rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Rows in columns: the first ones to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  " + "  ".join(
        cell.ljust(width) if column < text_columns else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows)


def seconds(value: float) -> str:
    """A time with three digits."""
    for factor, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if value * factor < 999.5:
            return f"{digits(value * factor)} {unit}"
    return f"{digits(value)} s"


def digits(value: float) -> str:
    """About three digits, no exponent."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def names_of(record: Record) -> list[str]:
    """The contestants of a run in order of their columns, ourselves first."""
    return [OURS, *(name for name in record["versions"] if name != OURS)]


def _machine(record: Record) -> str:
    machine = record["machine"]
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    versions = ", ".join(f"{name} {version}".strip() for name, version in record["versions"].items()
                         if name != "torch.compile")
    threads = "one thread" if record["threads"] == 1 else f"{record['threads']} threads"
    load = "" if record["load"] is None else f"; load before the run {record['load']:.1f}"
    clock = "wall time" if record["clock"] == "wall" else "processor time"
    return "\n".join([
        f"{machine['processor']}, {machine['cores']} cores{', ' + caches if caches else ''}; {machine['system']}",
        f"Python {machine['python']}; {versions}",
        f"{threads}; copying large arrays moves {record['copy_gb_s']:.1f} GB/s (read and written); {clock}{load}"])


def _ratios(record: Record) -> str:
    peers = [name for name in names_of(record) if name != OURS]
    rows = [["case", "size", "time", "spread", "GB/s", "% copy", "GFlop/s", "1st call", *peers]]
    for case in record["cases"]:
        ours = case["contestants"].get(OURS)
        if ours is None:
            rows.append([case["case"], case["label"], "-", "", "", "", "", "", *("" for _ in peers)])
            continue
        spread = (ours["high_s"] - ours["low_s"]) / ours["median_s"]
        rows.append([
            case["case"], case["label"], seconds(ours["median_s"]), f"{100 * spread:.0f}%", digits(ours["gb_s"]),
            f"{ours['percent_of_copy']:.0f}", digits(ours["gflop_s"]), seconds(ours["first_call_s"]),
            *(_ratio(case, peer) for peer in peers)])
    return "staticgraph, and how many times the time of it each peer takes\n" + align(rows, 2)


def _ratio(case: Record, peer: str) -> str:
    if peer in case["contestants"]:
        return digits(case["contestants"][peer]["times_slower"]) + "x"
    return "wrong" if peer in case["wrong"] else "-"


def _times(record: Record) -> str:
    names = names_of(record)
    rows = [["case", "size", *names]]
    for case in record["cases"]:
        found = case["contestants"]
        rows.append([case["case"], case["label"],
                     *(seconds(found[name]["median_s"]) if name in found else "-" for name in names)])
    return "medians of one call\n" + align(rows, 2)


def _compiles(records: Iterable[Record]) -> str:
    rows = [["case", "contestant", "cold", "warm", "imports cold", "imports warm"]]
    for each in records:
        if "failed" in each:
            rows.append([each["case"], each["peer"], "failed", "", "", ""])
        else:
            rows.append([each["case"], each["peer"], *(seconds(each[f"{kind}_{what}_s"]) for what, kind in (
                ("compile", "cold"), ("compile", "warm"), ("imports", "cold"), ("imports", "warm")))])
    return ("from nothing to the first result, in new processes with an empty and a filled cache; imports apart\n"
            + align(rows, 2))


def _goals(record: Record) -> Iterable[list[str]]:
    for case in record["cases"]:
        for peer, least in case["goals"].items():
            found = case["contestants"].get(peer, {}).get("times_slower")
            if found is not None:
                yield [f"{case['case']} {case['label']}", f"{digits(found)}x {peer}", f"wanted {least:g}x",
                       "met" if found >= least else "missed"]
    for each in record.get("compile", ()):
        for case, kind, most in COMPILE_GOALS:
            if each["peer"] == OURS and each["case"] == case and "failed" not in each:
                found = each[f"{kind}_compile_s"]
                yield [f"{case}, {kind} compile", seconds(found), f"wanted {most:g} s",
                       "met" if found <= most else "missed"]


def _notes(record: Record) -> Iterable[str]:
    for peer, reason in record["skipped"].items():
        yield f"{peer} is left out: {reason}"
    reasons: dict[tuple[str, str], list[str]] = {}
    for case in record["cases"]:
        for peer, reason in (*case["wrong"].items(), *case["absent"].items()):
            reasons.setdefault((peer, reason), []).append(f"{case['case']} {case['label']}")
    for (peer, reason), where in reasons.items():
        yield f"{peer}: {reason}: {', '.join(where)}"
    for each in record.get("compile", ()):
        if "failed" in each:
            yield f"compile of {each['case']}, {each['peer']}: {each['failed']}"
