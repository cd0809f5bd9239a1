"""Two records of the same machine: what became faster, what slower, and what is only noise.

A time counts as changed where its ratio to the old one is beyond the spread of both: the quartiles of the two runs do
not overlap, and the medians differ by more than a tenth. Peers in both runs say how much the machine itself has
changed: where they moved in the same case, that much is taken off first.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..runtime.figures import align, digits, seconds
from .figures import OURS

Record = dict[str, Any]
Key = tuple[int, str, str, str]

LEAST_CHANGE = 1.1
"""Medians that differ by less are the same: placement of code and memory moves them by as much."""


@dataclass(frozen=True)
class Change:
    """One case of ours in both records; `drift` is how many times as long the peers take now."""

    where: str
    old: Mapping[str, Any]
    new: Mapping[str, Any]
    drift: float

    @property
    def factor(self) -> float:
        """How many times as long it takes now, the machine's own change taken off."""
        return float(self.new["median_s"] / self.old["median_s"] / self.drift)

    @property
    def slower(self) -> bool:
        return self.factor > LEAST_CHANGE and self.new["low_s"] > self.old["high_s"] * max(self.drift, 1.0)

    @property
    def faster(self) -> bool:
        return self.factor < 1 / LEAST_CHANGE and self.new["high_s"] < self.old["low_s"] * min(self.drift, 1.0)


def comparison(old: Record, new: Record) -> tuple[str, bool]:
    """The text, and whether anything became slower."""
    lines = [f"  {text}" for text in differences(old, new)]
    if lines:
        lines = ["the machines differ, so that changes may be theirs:", *lines]
    changes = list(_changes(old, new))
    slower = [change for change in changes if change.slower]
    faster = [change for change in changes if change.faster]
    lines.append(f"compared with the old record: {len(slower)} slower, {len(faster)} faster, "
                 f"{len(changes) - len(slower) - len(faster)} as they were")
    rows = [[change.where, seconds(change.old["median_s"]), "->", seconds(change.new["median_s"]),
             f"{digits(change.factor if change.slower else 1 / change.factor)}x {word}",
             f"(peers take {digits(change.drift)}x)" if abs(change.drift - 1) > 0.05 else ""]
            for word, listed in (("SLOWER", slower), ("faster", faster)) for change in listed]
    if rows:
        lines.append(align(rows))
    missing = sorted(set(_cases(old)) - set(_cases(new)))
    if missing:
        lines.append(f"{len(missing)} cases of the old record were not measured now")
    return "\n".join(lines) + "\n", bool(slower)


def differences(old: Record, new: Record) -> Iterator[str]:
    """What differs between the machines and settings of two records."""
    for before, after in zip(old["runs"], new["runs"]):
        for name in ("processor", "cores", "system", "python"):
            if before["machine"][name] != after["machine"][name]:
                yield f"{name}: {before['machine'][name]} then, {after['machine'][name]} now"
        for name, text in (("clock", "clock"), ("threads", "threads")):
            if before[name] != after[name]:
                yield f"{text}: {before[name]} then, {after[name]} now"
        for name in before["peaks"]:
            if name != "seconds":
                ratio = after["peaks"][name] / before["peaks"][name]
                if not 0.8 < ratio < 1.25:
                    yield (f"{name.replace('_', ' ')}: {digits(before['peaks'][name])} then, "
                           f"{digits(after['peaks'][name])} now")


def _cases(record: Record) -> dict[Key, Record]:
    """What can be compared: cases, and compiles as cases of their own whose spread is that of their repeats."""
    found = {(run["threads"], case["case"], case["label"], case["dtype"]): case
             for run in record["runs"] for case in run["cases"]}
    for each in record["compile"]:
        for kind in ("cold", "warm") if "failed" not in each else ():
            case = found.setdefault((each["threads"], each["case"], f"{kind} compile", ""), {"contestants": {}})
            times = each[f"{kind}_compile_s_all"]
            case["contestants"][each["peer"]] = {"median_s": each[f"{kind}_compile_s"], "low_s": min(times),
                                                 "high_s": max(times)}
    return found


def _changes(old: Record, new: Record) -> Iterator[Change]:
    """What both records have of ours."""
    before = _cases(old)
    for key, case in _cases(new).items():
        if key in before and OURS in case["contestants"] and OURS in before[key]["contestants"]:
            yield Change(f"{key[1]} {key[2]}" + (f" ({key[0]} threads)" if key[0] > 1 else ""),
                         before[key]["contestants"][OURS], case["contestants"][OURS], _drift(before[key], case))


def _drift(before: Record, after: Record) -> float:
    """How many times as long the peers take now: the median of those in both."""
    factors = [each["median_s"] / before["contestants"][name]["median_s"]
               for name, each in after["contestants"].items() if name != OURS and name in before["contestants"]]
    return statistics.median(factors) if factors else 1.0
