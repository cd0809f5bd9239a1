"""Records as text."""

import copy
from typing import Any

import pytest

from staticgraph.bench.report import digits, report, seconds

TIMING = {"median_s": 2e-5, "low_s": 1.9e-5, "high_s": 2.1e-5, "first_call_s": 0.1, "error": 0.0, "calls_a_sample": 9,
          "gb_s": 65.5, "percent_of_copy": 150.0, "gflop_s": 13.1, "times_slower": 1.0}
RECORD: dict[str, Any] = {
    "machine": {"processor": "Chip", "cores": 2, "system": "Linux", "python": "3.11", "caches": {"L1": "48K"}},
    "threads": 1, "cores_used": [1], "quick": False, "clock": "wall", "load": 0.5, "copy_gb_s": 40.0,
    "versions": {"staticgraph": "1", "numpy": "2", "jax": "0.10"}, "skipped": {"torch": "torch is not installed"},
    "cases": [{
        "case": "chain", "title": "", "label": "64k", "sizes": {"n": 65536}, "bytes": 1310720, "flops": 262144,
        "goals": {"numpy": 2.0}, "absent": {"jax": "RuntimeError: no"}, "wrong": {},
        "contestants": {"staticgraph": TIMING, "numpy": {**TIMING, "median_s": 6e-5, "times_slower": 3.0}}}],
}


def changed(**fields: Any) -> dict[str, Any]:
    record = copy.deepcopy(RECORD)
    record["cases"][0].update(fields)
    return record


def line(text: str, start: str) -> list[str]:
    return next(each for each in text.splitlines() if each.strip().startswith(start)).split()


def test_the_table_holds_time_rates_and_ratios() -> None:
    text = report(RECORD)
    assert line(text, "case ") == ["case", "size", "time", "spread", "GB/s", "%", "copy", "GFlop/s", "1st", "call",
                                   "numpy", "jax"]
    assert line(text, "chain ") == ["chain", "64k", "20.0", "µs", "10%", "65.5", "150", "13.1", "100", "ms", "3.00x",
                                    "-"]
    assert "copying large arrays moves 40.0 GB/s (read and written); wall time; load before the run 0.5" in text
    assert "torch is left out: torch is not installed" in text
    assert "jax: RuntimeError: no: chain 64k" in text
    assert "medians of one call" not in text


def test_times_of_everybody_on_request() -> None:
    rows = report(RECORD, times=True).split("medians of one call")[1]
    assert line(rows, "chain ") == ["chain", "64k", "20.0", "µs", "60.0", "µs", "-"]


@pytest.mark.parametrize(("ratio", "verdict"), [(2.0, "met"), (1.99, "missed")])
def test_goals(ratio: float, verdict: str) -> None:
    contestants = {"staticgraph": TIMING, "numpy": {**TIMING, "times_slower": ratio}}
    goals = report(changed(contestants=contestants)).split("goals\n")[1]
    assert line(goals, "chain ") == ["chain", "64k", f"{ratio:.2f}x", "numpy", "wanted", "2x", verdict]


def test_wrong_results_are_seen() -> None:
    text = report(changed(contestants={"staticgraph": TIMING}, wrong={"numpy": "off by 1"}, absent={}))
    assert line(text, "chain ")[-2:] == ["wrong", "-"]
    assert "numpy: off by 1: chain 64k" in text and "goals" not in text
    ours = report(changed(contestants={}, wrong={"staticgraph": "off"}, absent={}))
    assert line(ours, "chain ") == ["chain", "64k", "-"]


def test_compiles() -> None:
    slow = {"case": "mlp_step", "peer": "staticgraph", "repeats": 3, "cold_compile_s": 1.5, "warm_compile_s": 0.7,
            "cold_imports_s": 0.3, "warm_imports_s": 0.2}
    text = report({**RECORD, "compile": [slow, {"case": "mlp_step", "peer": "jax", "failed": "no memory"}]})
    assert line(text, "mlp_step  staticgraph") == ["mlp_step", "staticgraph", "1.50", "s", "700", "ms", "300", "ms",
                                                   "200", "ms"]
    assert "compile of mlp_step, jax: no memory" in text
    assert line(text, "mlp_step, cold") == ["mlp_step,", "cold", "compile", "1.50", "s", "wanted", "3", "s", "met"]
    assert line(text, "mlp_step, warm")[-1] == "missed"


@pytest.mark.parametrize(("value", "text"), [(1.5e-9, "1.50 ns"), (9.996e-6, "10.0 µs"), (9.996e-4, "1.00 ms"),
                                             (0.25, "250 ms"), (12.34, "12.3 s"), (0.0, "0.00 ns")])
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


def test_digits() -> None:
    assert [digits(value) for value in (0.004, 9.99, 9.996, 99.96, 1234.5)] == ["0.00", "9.99", "10.0", "100", "1234"]
