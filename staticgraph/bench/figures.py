"""The figures to reach, judged: records in, verdicts out. What is compared is told once here, for the text, the page
and the command.

A speed is set against the best of the peers that count (torch without torch.compile does not) and took part with a
right result; where none did, there is no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .suites import COLD_AGAINST_JAX, COMPILE, WARM_AGAINST_JAX

Record = dict[str, Any]
OURS = "staticgraph"


@dataclass(frozen=True)
class Verdict:
    """One figure: `found` and `wanted` are in the same unit, and more is better when `more`."""

    suite: str
    where: str
    threads: int
    figure: str
    found: float
    wanted: float
    unit: str
    more: bool = True
    remark: str = ""

    @property
    def reached(self) -> bool:
        return self.found >= self.wanted if self.more else self.found <= self.wanted

    @property
    def missing(self) -> float:
        """By which fraction of the figure it was missed."""
        if self.reached:
            return 0.0
        return 1 - self.found / self.wanted if self.more else self.found / self.wanted - 1


def best_peer(run: Record, case: Record) -> tuple[str, float] | None:
    """The fastest peer that counts, and how many times our time it takes."""
    if OURS not in case["contestants"]:
        return None
    found = [(each["times_slower"], name) for name, each in case["contestants"].items() if name in run["counted"]]
    return (min(found)[1], min(found)[0]) if found else None


def verdicts(record: Record) -> list[Verdict]:
    """All figures of a record that could be judged."""
    return [*(verdict for run in record["runs"] for case in run["cases"] for verdict in judge(run, case)),
            *_compiles(record["compile"])]


def judge(run: Record, case: Record) -> Iterator[Verdict]:
    """The figures of one case."""
    ours, figures = case["contestants"].get(OURS), case["figures"]
    if ours is None:
        return
    best = best_peer(run, case)

    def verdict(figure: str, found: float, unit: str, **more: Any) -> Verdict:
        return Verdict(case["suite"], f"{case['case']} {case['label']}", run["threads"], figure, found,
                       figures[figure], unit, **more)

    if "least" in figures and best is not None:
        yield verdict("least", best[1], "x", remark=best[0])
    if "percent_of_copy" in figures:
        yield verdict("percent_of_copy", ours["percent_of_copy"], "% of copying")
    if "within_s" in figures:
        yield verdict("within_s", ours["median_s"], "s", more=False)


def _compiles(records: Iterable[Record]) -> Iterator[Verdict]:
    times: dict[str, dict[str, Record]] = {}
    for each in records:
        if "failed" not in each:
            times.setdefault(each["case"], {})[each["peer"]] = each
    for case, found in times.items():
        if OURS in found and "jax" in found:
            for kind, wanted in (("cold", COLD_AGAINST_JAX), ("warm", WARM_AGAINST_JAX)):
                name = f"{kind}_compile_s"
                yield Verdict(COMPILE, f"{case} {kind}", found[OURS].get("threads", 1), kind,
                              found["jax"][name] / found[OURS][name], wanted, "x", remark="jax")
