"""The benchmark's record as a table for people, also for docs/cuda.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..runtime.figures import align
from .contest import LEVEL_WITH, OURS

Record = Mapping[str, Any]


def bench_table(record: Record) -> str:
    """Times, bandwidths, and how many times our time each peer takes."""
    if not record["cases"]:
        return "nothing was measured"
    copied, peers = record["copy_gb_s"], [*record["peers"]]
    head = ["case", "shapes", "time", "spread", "GB/s", "% copy", "TFlop/s", "goal", "", *peers]
    rows = [head, *(_row(case, copied, peers) for case in record["cases"])]
    lines = [f"copying moves {copied:,.0f} GB/s (read and written); a ratio says how many times our time a peer takes",
             align(rows, 2)]
    lines += [f"{name}: {reason}" for name, reason in record["absent"].items()]
    lines += [f"{case['case']}: {name}: {reason}" for case in record["cases"]
              for name, reason in [*case["wrong"].items(), *case["absent"].items(), *_remarks(case)]]
    behind = [case["case"] for case in record["cases"] if case.get("level_with_torch") is False]
    if behind:
        lines.append(f"slower than {LEVEL_WITH}: {', '.join(behind)}")
    return "\n".join(lines)


def _row(case: Mapping[str, Any], copied: float, peers: list[str]) -> list[str]:
    ours = case["contestants"].get(OURS)
    shapes = " ".join(dict.fromkeys("x".join(map(str, shape)) for shape in case["shapes"].values()))
    if ours is None:
        return [case["case"], shapes, "failed", *[""] * (6 + len(peers))]
    spread = (ours["high_ms"] - ours["low_ms"]) / ours["median_ms"]
    met = case.get("goal_met")
    return [case["case"], shapes, time_text(ours["median_ms"]), f"{spread:.0%}", f"{ours['gb_s']:,.0f}",
            f"{100 * ours['gb_s'] / copied:.0f}" if copied else "-", f"{ours['tflop_s']:.1f}" if case["flops"] else "-",
            time_text(case["goal_ms"]) if case["goal_ms"] else "-", {None: "", True: "met", False: "missed"}[met],
            *(f"{case['ratios'][name]:.2f}x" if name in case["ratios"] else "wrong" if name in case["wrong"] else "-"
              for name in peers)]


def _remarks(case: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, each["remark"]) for name, each in case["contestants"].items() if each["remark"]]


def time_text(milliseconds: float) -> str:
    return f"{milliseconds * 1e3:.1f} µs" if milliseconds < 0.1 else f"{milliseconds:.3f} ms"
