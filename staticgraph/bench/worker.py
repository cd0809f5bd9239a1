"""The process that measures: started by `run` with the environment set, it holds all contests and writes a record.

Comes in: a file with the plan (JSON). Goes out: the record of one run, to another file; progress, to standard error.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .cases import TINY, Case, Setting
from .contest import Effort, Result, contest_of, entries_of, hold
from .machine import describe, load_average, use_cores
from .peak import peaks
from .peers import Peer, find_peers, missing_reason, version_of
from .suites import CASES, suite_of

SETTLE = 0.01
"""Seconds of calls before each sample of several threads."""

COUNTED_RATES = 1e-12
"""Below so many bytes or operations a second there is nothing to speak of."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured, by how many threads: cases of the suites by name, or a user's `model` (path:name) with
    values for its sizes and bounds for its integers."""

    peers: Sequence[str]
    cases: Sequence[str]
    quick: bool = False
    tiny: bool = False
    threads: int = 1
    clock: str = "wall"
    rounds: int = 0
    model: str = ""
    sizes: dict[str, int] | None = None
    below: dict[str, int] | None = None

    @property
    def effort(self) -> Effort:
        if self.tiny:
            return Effort(rounds=2, sample=1e-5, share=1.0, least_rounds=2, clock=self.clock)
        effort = Effort(rounds=9, sample=1e-3, share=0.3, clock=self.clock) if self.quick else Effort(clock=self.clock)
        effort = replace(effort, settle=SETTLE if self.threads > 1 else 0.0)
        if not self.rounds:
            return effort
        return replace(effort, rounds=self.rounds, least_rounds=min(self.rounds, effort.least_rounds))

    def contests(self) -> list[tuple[Case, Setting]]:
        """All contests, in order."""
        chosen = [case for case in CASES if case.name in self.cases]
        if self.tiny:
            return [(case, case.tiny_setting()) for case in chosen]
        return [(case, setting) for case in chosen
                for setting in (case.settings[:1] if self.quick else case.settings)]


def measure(plan: Plan) -> dict[str, Any]:
    """Hold all contests of a plan in this process."""
    cores = use_cores(plan.threads)
    load = load_average()
    peers, skipped = ([], {}) if plan.model else connect(plan)
    before = peaks(plan.threads, plan.clock, tiny=plan.tiny)
    results = list(hold_model(plan) if plan.model else hold_all(plan, peers))
    after = peaks(plan.threads, plan.clock, tiny=plan.tiny)
    best = {name: max(before[name], after[name]) for name in before}     # neighbours make the machine look smaller
    versions = {peer.name: version_of(peer) for peer in peers} or {"staticgraph": version_of(find_peers()[0])}
    return {
        "machine": describe(), "threads": plan.threads, "cores_used": cores, "quick": plan.quick, "clock": plan.clock,
        "load": load, "peaks": best, "versions": versions, "skipped": skipped,
        "counted": [peer.name for peer in find_peers() if peer.counts],
        "cases": [record_of(result, best) for result in results],
    }


def hold_all(plan: Plan, peers: Sequence[Peer]) -> Iterator[Result]:
    contests = plan.contests()
    with Progress(len(contests)) as progress:
        for case, setting in contests:
            progress.next(f"{case.name} {setting.label}")
            contest = contest_of(suite_of(case), case, setting)
            yield hold(contest, entries_of(case, setting, contest, peers), plan.effort, progress.tell)


def hold_model(plan: Plan) -> Iterator[Result]:
    """A user's model against the functions that he has put beside it."""
    from .own import contest_of_model

    with Progress(1) as progress:
        progress.next(plan.model)
        contest, entries = contest_of_model(plan.model, plan.sizes or {}, plan.below or {})
        yield hold(contest, entries, plan.effort, progress.tell)


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


def record_of(result: Result, best: dict[str, Any]) -> dict[str, Any]:
    """A contest as plain data. Times are seconds of one call; rates count the contest's own bytes and operations."""
    contest = result.contest
    figures = {} if contest.label == TINY else {
        name: value for name, value in (("least", contest.least), ("within_s", contest.within),
                                        ("percent_of_copy", contest.copy)) if value}
    fma = best.get(f"{contest.dtype}_gflop_s", 0.0) * 1e9
    contestants = {}
    for name, timing in result.timings.items():
        moved, done = result.nbytes / timing.median, contest.flops / timing.median
        contestants[name] = {
            "median_s": timing.median, "low_s": timing.low, "high_s": timing.high, "first_call_s": timing.first_call,
            "error": timing.error, "calls_a_sample": timing.calls, "rounds": timing.rounds, "gb_s": moved / 1e9,
            "percent_of_copy": moved / best["copy_gb_s"] / 1e7, "gflop_s": done / 1e9,
            "percent_of_fma": 100 * done / fma if fma > COUNTED_RATES else 0.0, "times_slower": result.ratio(name),
        }
        if timing.memory is not None:
            contestants[name]["planned_bytes"], contestants[name]["allocated_bytes"] = timing.memory
    return {"suite": contest.suite, "case": contest.name, "title": contest.title, "label": contest.label,
            "sizes": dict(contest.sizes), "dtype": contest.dtype, "bytes": result.nbytes, "flops": contest.flops,
            "checked": contest.expected is not None, "figures": figures, "contestants": contestants,
            "absent": result.absent, "wrong": result.wrong}


class Progress:
    """How far a run is: a bar where tqdm is installed and somebody watches, else a line for each contest."""

    def __init__(self, total: int) -> None:
        self._total, self._number, self._name = total, 0, ""
        self._bar: Any = None
        if sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ModuleNotFoundError:
                return
            self._bar = tqdm(total=total, leave=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def next(self, name: str) -> None:
        if self._bar is not None and self._number:
            self._bar.update()
        self._number, self._name = self._number + 1, name
        if self._bar is None:
            print(f"{self._number}/{self._total} {name}", file=sys.stderr, flush=True)
        else:
            self._bar.set_description(name)

    def tell(self, text: str) -> None:
        """What is going on within a contest; only a bar shows it."""
        if self._bar is not None:
            self._bar.set_description(f"{self._name}: {text}")


def main(argv: list[str]) -> int:
    """Read the plan from the first file, write the record to the second."""
    from ..cli.exits import reporting

    warnings.filterwarnings("ignore")     # peers' deprecations are not ours to show
    plan = Plan(**json.loads(Path(argv[0]).read_text(encoding="utf-8")))
    return reporting(lambda: _write(measure(plan), Path(argv[1])))


def _write(record: dict[str, Any], file: Path) -> int:
    file.write_text(json.dumps(record), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
