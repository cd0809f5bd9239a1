"""Records made up for tests of what is written about them."""

import copy
from typing import Any

TIMING = {"median_s": 2e-5, "low_s": 1.9e-5, "high_s": 2.1e-5, "first_call_s": 0.1, "error": 0.0, "calls_a_sample": 9,
          "rounds": 25, "gb_s": 65.5, "percent_of_copy": 150.0, "gflop_s": 13.1, "percent_of_fma": 12.0,
          "times_slower": 1.0, "planned_bytes": 512, "allocated_bytes": 4096}
RUN: dict[str, Any] = {
    "machine": {"processor": "Chip", "cores": 2, "system": "Linux", "python": "3.11", "caches": {"L1": "48K"}},
    "threads": 1, "cores_used": [1], "quick": False, "clock": "wall", "load": 0.5,
    "peaks": {"copy_gb_s": 40.0, "float32_gflop_s": 200.0, "float64_gflop_s": 100.0, "seconds": 1.0},
    "counted": ["numpy", "jax"],
    "versions": {"staticgraph": "1", "numpy": "2", "jax": "0.10"}, "skipped": {"torch": "torch is not installed"},
    "cases": [{
        "suite": "elementwise", "case": "chain", "title": "", "label": "64k", "sizes": {"n": 65536},
        "dtype": "float32", "bytes": 1310720, "flops": 262144, "checked": True, "figures": {"least": 2.0},
        "absent": {"jax": "RuntimeError: no"}, "wrong": {},
        "contestants": {"staticgraph": TIMING, "numpy": {**TIMING, "median_s": 6e-5, "times_slower": 3.0}}}],
}
RECORD: dict[str, Any] = {"version": 2, "model": "", "runs": [RUN], "compile": []}

COMPILE = {"case": "mlp_step", "peer": "staticgraph", "repeats": 3, "threads": 1, "cold_compile_s": 1.5,
           "warm_compile_s": 0.7, "cold_imports_s": 0.3, "warm_imports_s": 0.2, "cold_compile_s_all": [1.4, 1.5, 1.7],
           "warm_compile_s_all": [0.6, 0.7, 0.7]}


def changed(**fields: Any) -> dict[str, Any]:
    """The record with other fields of its one case."""
    record = copy.deepcopy(RECORD)
    record["runs"][0]["cases"][0].update(fields)
    return record


def slowed(factor: float, peers: float = 1.0) -> dict[str, Any]:
    """The record of a run in which our times, and those of the peers, were so many times as long."""
    def stretched(timing: dict[str, Any], by: float) -> dict[str, Any]:
        return {**timing, **{name: timing[name] * by for name in ("median_s", "low_s", "high_s")}}

    contestants = RUN["cases"][0]["contestants"]
    return changed(contestants={name: stretched(each, factor if name == "staticgraph" else peers)
                                for name, each in contestants.items()})
