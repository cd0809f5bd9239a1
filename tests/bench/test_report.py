"""Records as text."""

import pytest

from staticgraph.bench.figures import best_peer, verdicts
from staticgraph.bench.peers import NO_FORM
from staticgraph.bench.report import report
from staticgraph.runtime.figures import digits, seconds

from .records import COMPILE, RECORD, RUN, TIMING, changed


def line(text: str, start: str) -> list[str]:
    return next(each for each in text.splitlines() if each.strip().startswith(start)).split()


def test_the_table_holds_time_rates_and_ratios() -> None:
    text = report(RECORD)
    assert line(text, "case ") == ["case", "size", "time", "spread", "GB/s", "%", "copy", "GFlop/s", "%", "FMA",
                                   "numpy", "jax", "figure"]
    assert line(text, "chain ") == ["chain", "64k", "20.0", "µs", "10%", "65.5", "150", "13.1", "12", "3.00x", "-",
                                    "reached"]
    assert ("one thread: copies 40.0 GB/s (read and written), multiplies and adds 200 GFlop/s in float32, 100 in "
            "float64; wall time; load before the run 0.5") in text
    assert "torch is left out: torch is not installed" in text
    assert "jax: RuntimeError: no: chain 64k" in text
    assert "medians of one call" not in text


def test_times_of_everybody_on_request() -> None:
    rows = report(RECORD, times=True).split("medians of one call")[1]
    assert line(rows, "chain ") == ["chain", "64k", "20.0", "µs", "60.0", "µs", "-"]


@pytest.mark.parametrize(("ratio", "reached"), [(2.0, True), (1.6, False)])
def test_figures_say_what_was_reached_and_by_how_much_not(ratio: float, reached: bool) -> None:
    contestants = {"staticgraph": TIMING, "numpy": {**TIMING, "times_slower": ratio}}
    text = report(changed(contestants=contestants))
    assert line(text, "chain ")[-1] == ("reached" if reached else "missed")
    figures = text.split("figures: ")[1]
    assert figures.startswith(f"{int(reached)} of 1 reached")
    if not reached:
        assert line(figures, "chain ") == ["chain", "64k", "1.60x", "numpy", "wanted", "2.00x", "missed", "by", "20%"]


def test_figures_are_set_against_the_best_peer_that_counts() -> None:
    """torch counts only when it compiles."""
    contestants = {"staticgraph": TIMING, **{name: {**TIMING, "times_slower": times} for name, times in (
        ("numpy", 3.0), ("jax", 2.5), ("torch", 0.5))}}
    run = changed(contestants=contestants)["runs"][0]
    assert best_peer(run, run["cases"][0]) == ("jax", 2.5)
    alone = changed(contestants={"staticgraph": TIMING, "torch": TIMING})
    assert verdicts(alone) == [] and line(report(alone), "chain ")[-1] != "reached"


def test_figures_of_bandwidth_and_of_time() -> None:
    judged = verdicts(changed(figures={"percent_of_copy": 200.0, "within_s": 1e-5}))
    assert [(each.reached, each.missing) for each in judged] == [(False, 0.25), (False, 1.0)]
    text = report(changed(figures={"percent_of_copy": 200.0, "within_s": 1e-5}))
    assert "chain 64k 150% of copying wanted 200% of copying missed by 25%" in " ".join(text.split())
    assert "chain 64k 20.0 µs wanted 10.0 µs missed by 100%" in " ".join(text.split())
    assert all(each.reached for each in verdicts(changed(figures={"percent_of_copy": 150.0, "within_s": 2e-5})))


def test_memory_of_models_is_told() -> None:
    text = report(changed(suite="models"))
    assert line(text.split("bytes of memory")[1], "chain ") == ["chain", "64k", "512", "4,096"]
    assert "bytes of memory" not in report(RECORD)


def test_each_number_of_threads_is_a_run_of_its_own() -> None:
    both = {**RECORD, "runs": [RUN, {**RUN, "threads": 2}]}
    text = report(both)
    assert "\none thread: copies" in text and "\n2 threads: copies" in text
    assert text.count("torch is left out") == 1
    assert text.split("figures: ")[1].startswith("2 of 2 reached")


def test_wrong_results_are_seen() -> None:
    text = report(changed(contestants={"staticgraph": TIMING}, wrong={"numpy": "off by 1"}, absent={}))
    assert line(text, "chain ")[-2:] == ["wrong", "-"]
    assert "numpy: off by 1: chain 64k" in text and "figures" not in text
    ours = report(changed(contestants={}, wrong={"staticgraph": "off"}, absent={}))
    assert line(ours, "chain ") == ["chain", "64k", "-"]
    assert "numpy: has no form of this case: chain\n" in report(changed(absent={"numpy": NO_FORM}))
    assert "nothing was checked" in report(changed(checked=False))


def test_compiles() -> None:
    jax = {**COMPILE, "peer": "jax", "cold_compile_s": 1.8, "warm_compile_s": 1.4}
    failed = {"case": "mlp_step", "peer": "pytensor", "failed": "no memory"}
    text = report({**RECORD, "compile": [COMPILE, jax, failed]})
    assert line(text, "mlp_step  staticgraph") == ["mlp_step", "staticgraph", "1.50", "s", "700", "ms", "300", "ms",
                                                   "200", "ms"]
    assert "compile of mlp_step, pytensor: no memory" in text
    figures = text.split("figures: ")[1]     # no slower than JAX cold, a fifth of it warm
    assert figures.startswith("2 of 3 reached")
    assert line(figures, "mlp_step warm") == ["mlp_step", "warm", "2.00x", "jax", "wanted", "5.00x", "missed", "by",
                                              "60%"]


@pytest.mark.parametrize(("value", "text"), [(1.5e-9, "1.50 ns"), (9.996e-6, "10.0 µs"), (9.996e-4, "1.00 ms"),
                                             (0.25, "250 ms"), (12.34, "12.3 s"), (0.0, "0.00 ns")])
def test_seconds(value: float, text: str) -> None:
    assert seconds(value) == text


def test_digits() -> None:
    assert [digits(value) for value in (0.004, 9.99, 9.996, 99.96, 1234.5)] == ["0.00", "9.99", "10.0", "100", "1234"]
