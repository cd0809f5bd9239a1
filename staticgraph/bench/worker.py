"""The process that measures: started by `run` with the environment set, it holds all contests and writes a record.

Comes in: a file with the plan (JSON). Goes out: the record, to another file; progress, to standard error.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cases import CASES, Case, Sizes
from .contest import Effort, Result, hold
from .machine import COPY_BYTES, copy_bandwidth, describe, load_average, use_cores
from .peers import Peer, find_peers, missing_reason, version_of

TINY = "tiny"


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    peers: Sequence[str]
    cases: Sequence[str]
    quick: bool = False
    tiny: bool = False
    threads: int = 1
    clock: str = "wall"

    @property
    def effort(self) -> Effort:
        if self.tiny:
            return Effort(rounds=2, sample=1e-5, limit=1.0, least_rounds=2, clock=self.clock)
        return Effort(rounds=9, sample=1e-3, limit=5.0, clock=self.clock) if self.quick else Effort(clock=self.clock)

    def contests(self) -> list[tuple[Case, str, Sizes]]:
        """(case, label, sizes) of all contests, in order."""
        chosen = [case for case in CASES if case.name in self.cases]
        if self.tiny:
            return [(case, TINY, case.tiny) for case in chosen]
        return [(case, label, sizes) for case in chosen
                for label, sizes in (case.sizes[:1] if self.quick else case.sizes)]


def measure(plan: Plan) -> dict[str, Any]:
    """Hold all contests of a plan in this process."""
    cores = use_cores(plan.threads)
    peers, skipped = connect(plan)
    load = load_average()
    nbytes = 2**20 if plan.tiny else COPY_BYTES
    before = copy_bandwidth(nbytes, plan.clock)
    results = [hold(case, label, sizes, peers, plan.effort) for case, label, sizes in progress(plan.contests())]
    copied = max(before, copy_bandwidth(nbytes, plan.clock))     # neighbours who move memory make it look smaller
    return {
        "machine": describe(), "threads": plan.threads, "cores_used": cores, "quick": plan.quick,
        "clock": plan.clock, "load": load,
        "copy_gb_s": copied / 1e9, "versions": {peer.name: version_of(peer) for peer in peers},
        "skipped": skipped, "cases": [record_of(result, copied) for result in results],
    }


def connect(plan: Plan) -> tuple[list[Peer], dict[str, str]]:
    """The peers of a plan, imported; and why others are left out."""
    ready, skipped = [], {}
    for peer in find_peers():
        if peer.name not in plan.peers:
            continue
        reason = missing_reason(peer)
        if reason is None:
            try:
                peer.connect(plan.threads)
            except Exception as error:  # a broken install of a peer must not end the run
                reason = f"import failed: {type(error).__name__}: {error}"
        if reason is None:
            ready.append(peer)
        else:
            skipped[peer.name] = reason
    return ready, skipped


def record_of(result: Result, copied: float) -> dict[str, Any]:
    """A contest as plain data. Times are seconds of one call; rates count the case's own bytes and operations."""
    goals = {} if result.label == TINY else dict(result.case.goals)
    contestants = {}
    for name, timing in result.timings.items():
        contestants[name] = {
            "median_s": timing.median, "low_s": timing.low, "high_s": timing.high, "first_call_s": timing.first_call,
            "error": timing.error, "calls_a_sample": timing.calls, "gb_s": result.nbytes / timing.median / 1e9,
            "percent_of_copy": 100 * result.nbytes / timing.median / copied,
            "gflop_s": result.flops / timing.median / 1e9, "times_slower": result.ratio(name),
        }
    return {"case": result.case.name, "title": result.case.title, "label": result.label, "sizes": dict(result.sizes),
            "bytes": result.nbytes, "flops": result.flops, "goals": goals, "contestants": contestants,
            "absent": result.absent, "wrong": result.wrong}


def progress(contests: Sequence[tuple[Case, str, Sizes]]) -> Iterator[tuple[Case, str, Sizes]]:
    """The contests, with a bar where tqdm is installed and somebody watches, else a line each."""
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:
            pass
        else:
            bar = tqdm(contests, leave=False)
            for contest in bar:
                bar.set_description(f"{contest[0].name} {contest[1]}")
                yield contest
            return
    for number, contest in enumerate(contests, 1):
        print(f"{number}/{len(contests)} {contest[0].name} {contest[1]}", file=sys.stderr, flush=True)
        yield contest


def main(argv: list[str]) -> int:
    """Read the plan from the first file, write the record to the second."""
    warnings.filterwarnings("ignore")     # peers' deprecations are not ours to show
    told: dict[str, Any] = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    plan = Plan(**told)
    Path(argv[1]).write_text(json.dumps(measure(plan)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
