"""The benchmark as a whole: measuring processes one after the other until each case has been tried.

A process that dies (a kernel that faults, a peer that crashes) has left what it had measured in the record; the case
that it was at counts as not measured, and the next process goes on with those after it.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .facts import checkout
from .gpu_cases import CASES

ROUNDS = {"full": 15, "quick": 9, "tiny": 2}
MOST_CALLS = {"full": 400, "quick": 400, "tiny": 1}
GOALS_OF = "H200"
"""The GPU that the goals are for."""

OURS, LEVEL_WITH, LEVEL = "staticgraph", "torch.compile", 0.97
"""A peer that takes at least so much of our time is level."""


def measure_all(size: str, limit: float, environment: Mapping[str, str], folder: Path,
                command: Callable[..., Sequence[str]], tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure all cases of a size within `limit` seconds."""
    until = time.time() + limit
    record: dict[str, Any] = {"size": size, "cases": [], "failed": {}, "peers": {}, "absent": {}, "copy_gb_s": 0.0}
    left, number = [case.name for case in CASES], 0
    while left and time.time() < until - 1:
        plan, written, log = (folder / f"bench{number}{suffix}" for suffix in (".json", ".jsonl", ".txt"))
        plan.write_text(json.dumps({"sizes": size, "cases": left, "rounds": ROUNDS[size],
                                    "most_calls": MOST_CALLS[size], "deadline": until - 5}), encoding="utf-8")
        ended = _watch(command("staticgraph.doctor.measure", str(plan), str(written)), environment, log, until, written,
                       tell)
        _take_over(record, _lines(written), left)
        if left and ended != "done":
            record["failed"][left.pop(0)] = f"{ended}: {_last_line(log)}" if ended != "no time was left" else ended
        elif ended == "done":
            break
        number += 1
    record["failed"].update({name: "no time was left" for name in left})
    for case in record["cases"]:
        case.update(judged(case, size))
        if OURS not in case["contestants"]:
            record["failed"][case["case"]] = case["wrong"].get(OURS) or case["absent"].get(OURS, "")
    return record


def _watch(command: Sequence[str], environment: Mapping[str, str], log: Path, until: float, written: Path,
           tell: Callable[[str], None]) -> str:
    """Run a measuring process: "done", "no time was left", or how it ended."""
    told, running = 0, True
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=dict(environment), cwd=checkout(), stdout=file,
                                   stderr=subprocess.STDOUT)
    try:
        while running and time.time() < until:
            time.sleep(0.1)
            running = process.poll() is None     # before the last look at what is written
            found = _lines(written)
            for each in found[told:]:
                tell(f"  measured {each.get('case', 'the copy bandwidth')}")
            told = len(found)
    finally:
        if running:
            process.kill()
            process.wait()
    if running:
        return "no time was left"
    return "done" if process.returncode == 0 else f"the process ended with code {process.returncode}"


def _lines(path: Path) -> list[dict[str, Any]]:
    """What is written so far, half a line left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _take_over(record: dict[str, Any], found: Sequence[dict[str, Any]], left: list[str]) -> None:
    for each in found:
        if "case" in each:
            record["cases"].append(each)
            left.remove(each["case"])
        else:
            record.update({key: each[key] for key in ("copy_gb_s", "copy_bytes", "peers", "absent")})


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no output"


def judged(case: Mapping[str, Any], size: str, device: str | None = None) -> dict[str, Any]:
    """How many times our time each peer takes, and whether the goal is reached; None where it does not apply."""
    ours = case["contestants"].get(OURS)
    ratios = {name: each["median_ms"] / ours["median_ms"] for name, each in case["contestants"].items()
              if name != OURS} if ours else {}
    level = ratios[LEVEL_WITH] >= LEVEL if LEVEL_WITH in ratios else None
    goal = case["goal_ms"]
    device = case.get("device", "") if device is None else device
    applies = ours is not None and goal is not None and size == "full" and GOALS_OF in device
    return {"ratios": ratios, "level_with_torch": level, "goal_met": ours["median_ms"] <= goal if applies else None}
