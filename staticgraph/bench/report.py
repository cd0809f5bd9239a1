"""Records as text: for each run a table of ratios by suite, the compiles, the figures, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from ..runtime.figures import align, digits, seconds
from .figures import OURS, Verdict, judge, verdicts
from .peers import NO_FORM

Record = dict[str, Any]

RATES = (("GB/s", "gb_s"), ("% copy", "percent_of_copy"), ("GFlop/s", "gflop_s"), ("% FMA", "percent_of_fma"))


def report(record: Record, *, times: bool = False) -> str:
    """The whole report."""
    parts: list[str] = []
    for run in record["runs"]:
        parts.append(machine_text(run))
        for _, cases in groupby(run["cases"], lambda case: case["suite"]):
            parts.append(_ratios(run, list(cases)))
        if times and run["cases"]:
            parts.append(_times(run))
        parts += _memory(run)
    if record["compile"]:
        parts.append(_compiles(record["compile"]))
    judged = verdicts(record)
    if judged:
        parts.append(figures_text(judged))
    remarks = list(notes(record))
    if remarks:
        parts.append("notes\n" + "\n".join(f"  {remark}" for remark in remarks))
    return "\n\n".join(parts) + "\n"


def names_of(run: Record) -> list[str]:
    """The contestants of a run in order of their columns, ourselves first."""
    known = [OURS, *(name for name in run["versions"] if name != OURS)]
    others = {name: None for case in run["cases"] for each in (case["contestants"], case["absent"], case["wrong"])
              for name in each}
    return [*known, *(name for name in others if name not in known)]


def machine_text(run: Record) -> str:
    """What was measured on, with which versions, and what the machine can do."""
    machine, peaks = run["machine"], run["peaks"]
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    versions = ", ".join(f"{name} {version}".strip() for name, version in run["versions"].items()
                         if name != "torch.compile")
    threads = "one thread" if run["threads"] == 1 else f"{run['threads']} threads"
    load = "" if run["load"] is None else f"; load before the run {run['load']:.1f}"
    clock = "wall time" if run["clock"] == "wall" else "processor time"
    return "\n".join([
        f"{machine['processor']}, {machine['cores']} cores{', ' + caches if caches else ''}; {machine['system']}",
        f"Python {machine['python']}; {versions}",
        f"{threads}: copies {peaks['copy_gb_s']:.1f} GB/s (read and written), multiplies and adds "
        f"{peaks['float32_gflop_s']:.0f} GFlop/s in float32, {peaks['float64_gflop_s']:.0f} in float64; {clock}{load}"])


def _ratios(run: Record, cases: Sequence[Record]) -> str:
    peers = [name for name in names_of(run) if name != OURS]
    rows = [["case", "size", "time", "spread", *(title for title, _ in RATES), *peers, "figure"]]
    for case in cases:
        ours = case["contestants"].get(OURS)
        if ours is None:
            rows.append([case["case"], case["label"], "-", *("" for _ in range(len(RATES) + len(peers) + 2))])
            continue
        rows.append([
            case["case"], case["label"], seconds(ours["median_s"]), f"{100 * spread_of(ours):.0f}%",
            *(rate(ours, field) for _, field in RATES), *(_ratio(case, peer) for peer in peers), _figure(run, case)])
    return (f"{cases[0]['suite']}: the time of staticgraph, and how many times as long each peer takes\n"
            + align(rows, 2))


def spread_of(timing: Record) -> float:
    """The distance of the quartiles as a fraction of the median."""
    return float((timing["high_s"] - timing["low_s"]) / timing["median_s"])


def rate(timing: Record, field: str) -> str:
    value = timing[field]
    return (f"{value:.0f}" if field.startswith("percent") else digits(value)) if value else ""


def _ratio(case: Record, peer: str) -> str:
    if peer in case["contestants"]:
        return digits(case["contestants"][peer]["times_slower"]) + "x"
    return "wrong" if peer in case["wrong"] else "-"


def _figure(run: Record, case: Record) -> str:
    judged = list(judge(run, case))
    missed = [verdict for verdict in judged if not verdict.reached]
    return "" if not judged else "reached" if not missed else "missed"


def _times(run: Record) -> str:
    names = names_of(run)
    rows = [["case", "size", *names]]
    for case in run["cases"]:
        found = case["contestants"]
        rows.append([case["case"], case["label"],
                     *(seconds(found[name]["median_s"]) if name in found else "-" for name in names)])
    return "medians of one call\n" + align(rows, 2)


LARGE_BYTES = 2**20


def _memory(run: Record) -> Iterator[str]:
    """Peaks of those programs of ours that need more than their results and are not small."""
    rows = [["case", "size", "results and intermediates planned", "allocated"]]
    for case in run["cases"]:
        ours = case["contestants"].get(OURS, {})
        if case["suite"] in ("models", "model") or ours.get("planned_bytes", 0) > 1.5 * case["bytes"] + LARGE_BYTES:
            if "planned_bytes" in ours:
                rows.append([case["case"], case["label"], f"{ours['planned_bytes']:,}", f"{ours['allocated_bytes']:,}"])
    if len(rows) > 1:
        yield "bytes of memory, beside inputs and parameters\n" + align(rows, 2)


def _compiles(records: Iterable[Record]) -> str:
    rows = [["case", "contestant", "cold", "warm", "imports cold", "imports warm"]]
    for each in records:
        if "failed" in each:
            rows.append([each["case"], each["peer"], "failed", "", "", ""])
        else:
            rows.append([each["case"], each["peer"], *(seconds(each[f"{kind}_{what}_s"]) for what, kind in (
                ("compile", "cold"), ("compile", "warm"), ("imports", "cold"), ("imports", "warm")))])
    return ("compile: from nothing to the first result, in new processes with an empty and a filled cache; imports "
            "apart\n" + align(rows, 2))


def figures_text(judged: Sequence[Verdict]) -> str:
    """How many figures were reached, and by how much the others were not."""
    reached = sum(verdict.reached for verdict in judged)
    lines = [f"figures: {reached} of {len(judged)} reached"]
    rows = [[verdict.where + (f" ({verdict.threads} threads)" if verdict.threads > 1 else ""), *texts_of(verdict),
             f"missed by {max(1, round(100 * verdict.missing))}%"]
            for verdict in judged if not verdict.reached]
    return "\n".join([*lines, *([align(rows)] if rows else [])])


def texts_of(verdict: Verdict) -> tuple[str, str]:
    """What was found, and what was wanted."""
    def text(value: float) -> str:
        if verdict.unit == "s":
            return seconds(value)
        return f"{digits(value)}x" if verdict.unit == "x" else f"{value:.0f}{verdict.unit}"

    return f"{text(verdict.found)} {verdict.remark}".rstrip(), f"wanted {text(verdict.wanted)}"


def notes(record: Record) -> Iterable[str]:
    """Who took no part where, and why."""
    yield from dict.fromkeys(f"{peer} is left out: {reason}" for run in record["runs"]
                             for peer, reason in run["skipped"].items())
    for run in record["runs"]:
        reasons: dict[tuple[str, str], list[str]] = {}
        for case in run["cases"]:
            for peer, reason in (*case["wrong"].items(), *case["absent"].items()):
                plain = reason == NO_FORM
                reasons.setdefault((peer, reason), []).append(case["case"] + ("" if plain else f" {case['label']}"))
            if not case["checked"]:
                yield f"{case['case']}: the graph is not known, so nothing was checked against the interpreter"
        for (peer, reason), where in reasons.items():
            yield f"{peer}: {reason}: {', '.join(dict.fromkeys(where))}"
    for each in record["compile"]:
        if "failed" in each:
            yield f"compile of {each['case']}, {each['peer']}: {each['failed']}"


