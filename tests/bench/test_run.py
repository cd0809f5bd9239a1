"""The command: one real run of a few elements, its record, its listing, and what it refuses."""

import builtins
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from staticgraph.bench import compile_times, run
from staticgraph.bench.children import PACKAGE_ROOT, environment
from staticgraph.bench.peers import find_peers, missing_reason
from staticgraph.bench.suites import CASES, SUITES, case_named
from staticgraph.bench.worker import Plan

from .records import RECORD, changed, slowed

CONTESTANT_FIELDS = {"median_s", "low_s", "high_s", "first_call_s", "error", "calls_a_sample", "rounds", "gb_s",
                     "percent_of_copy", "gflop_s", "percent_of_fma", "times_slower"}


def peer(name: str) -> object:
    return next(each for each in find_peers() if each.name == name)


def test_a_run_prints_a_table_and_writes_a_record(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "record.json"
    assert run.main(["dispatch", "--tiny", "--peers", "numpy,numexpr", "--times", "--json", str(file)]) == 0
    printed = capfd.readouterr()
    assert "dispatch: the time of staticgraph" in printed.out and "medians of one call" in printed.out
    assert "1/2 call tiny" in printed.err
    record = json.loads(file.read_text())
    assert record["version"] == run.VERSION and record["compile"] == []
    (only,) = record["runs"]
    assert only["threads"] == 1 and only["machine"]["cores"] >= 1
    assert all(only["peaks"][name] > 0 for name in ("copy_gb_s", "float32_gflop_s", "float64_gflop_s"))
    case, _ = only["cases"]
    assert (case["case"], case["bytes"], case["flops"], case["wrong"]) == ("call", 64, 8, {})
    assert {"staticgraph", "numpy"} <= set(case["contestants"])
    assert set(case["contestants"]["numpy"]) == CONTESTANT_FIELDS
    assert set(case["contestants"]["staticgraph"]) == CONTESTANT_FIELDS | {"planned_bytes", "allocated_bytes"}
    assert case["contestants"]["staticgraph"]["times_slower"] == 1
    missing = missing_reason(peer("numexpr"))
    assert only["skipped"] == ({"numexpr": missing} if missing else {})


def test_listing_names_all_suites_cases_and_peers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--list"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {case.name} " in text for case in CASES) and all(f"\n  {name} " in text for name in SUITES)
    assert all(f"\n  {each.name}" in text for each in find_peers())


@pytest.mark.parametrize(("arguments", "message"), [
    (["--peers", "numpy,theano"], "there is no peer theano"),
    (["--filter", "fft"], "no case is called fft"),
    (["rows", "fft"], "there is no suite fft; suites are elementwise, reductions"),
    (["--clock", "cpu", "--threads", "1,2"], "adds up the time of all threads"),
    (["--json", "no/such/folder/a.json"], "there is no folder"),
    (["--compare", "none.json"], "cannot read 'none.json'"),
    (["rows", "a.py:b"], "a model is timed alone"),
    (["--html", "."], "cannot write '.': it is a folder"),
    (["compile", "--tiny"], "leave nothing of the suite compile"),
    (["matmul", "--size", "n=3"], "--size and --below are for a model"),
    (["a.py:b", "--peers", "numpy"], "beside the name_peers of its file"),
])
def test_unknown_names_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_failing_worker_is_a_failure(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "Plan", lambda *args: Plan(("numpy",), ("call",), clock="sundial", tiny=True))
    assert run.main(["dispatch", "--tiny"]) == 1
    assert "the measuring process failed" in capfd.readouterr().err


def test_a_page_and_a_comparison_are_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured is given; slower than before is an exit status of its own, wrong goes before it."""
    monkeypatch.setattr(run, "_measure", lambda *given: slowed(1.5))
    old, page = tmp_path / "old.json", tmp_path / "report.html"
    old.write_text(json.dumps(RECORD))
    assert run.main(["dispatch", "--html", str(page), "--compare", str(old)]) == run.SLOWER
    assert "1.50x SLOWER" in capsys.readouterr().out and page.read_text().startswith("<!doctype html>")
    old.write_text(json.dumps(slowed(1.5)))
    assert run.main(["dispatch", "--compare", str(old)]) == 0
    monkeypatch.setattr(run, "_measure", lambda *given: changed(contestants={}, wrong={"staticgraph": "off"}))
    page.unlink()
    assert run.main(["dispatch", "--html", str(page), "--compare", str(old)]) == 1 and page.exists()
    old.write_text("{}")
    assert run.main(["dispatch", "--compare", str(old)]) == 2
    assert "is not a record of this version" in capsys.readouterr().err
    old.write_text(json.dumps({"version": run.VERSION}))
    assert run.main(["dispatch", "--compare", str(old)]) == 2


def test_json_on_standard_output_is_alone_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_measure", lambda *given: RECORD)
    assert run.main(["dispatch", "--json", "-"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == RECORD and "the time of staticgraph" in told.err and not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_does_not_lose_the_report(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder goes while it is measured: the report is printed, the other file written, and the command fails."""
    gone, page = tmp_path / "gone" / "new.json", tmp_path / "report.html"
    gone.parent.mkdir()

    def measure(*given: object) -> object:
        gone.parent.rmdir()
        return RECORD

    monkeypatch.setattr(run, "_measure", measure)
    assert run.main(["dispatch", "--json", str(gone), "--html", str(page)]) == 1
    told = capsys.readouterr()
    assert f"bench: cannot write '{gone}'" in told.err and "the time of staticgraph" in told.out and page.exists()


@pytest.mark.parametrize("arguments", [["--rounds", "-1"], ["--rounds", "0"], ["--threads", "0"], ["--threads", "1,x"]])
def test_counts_are_above_0(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run.main(arguments)
    assert stopped.value.code == 2 and "is no number above 0" in capsys.readouterr().err


def test_plans_are_small_when_quick() -> None:
    def labels(plan: Plan) -> list[str]:
        return [setting.label for _, setting in plan.contests()]

    assert labels(Plan((), ("chain", "mlp_step"))) == ["1e5 f32", "1e7 f32", "1e5 f64", "1e7 f64", "64"]
    assert labels(Plan((), ("chain", "mlp_step"), quick=True)) == ["1e5 f32", "64"]
    assert labels(Plan((), ("chain",), tiny=True)) == ["tiny"]
    assert Plan((), (), quick=True).effort.rounds < Plan((), ()).effort.rounds
    assert (Plan((), (), rounds=3).effort.rounds, Plan((), (), rounds=3).effort.least_rounds) == (3, 3)


def test_peers_are_told_their_threads_and_caches_before_they_are_imported(tmp_path: Path) -> None:
    variables = environment(find_peers(), tmp_path, 1)
    assert variables["OMP_NUM_THREADS"] == variables["STATICGRAPH_NUM_THREADS"] == "1"
    assert variables["STATICGRAPH_CACHE_DIR"].startswith(str(tmp_path))
    assert variables["PYTHONPATH"].startswith(str(PACKAGE_ROOT))


def test_listing_imports_no_peer() -> None:
    heavy = ("numba", "jax", "torch", "numexpr", "pytensor", "threadpoolctl")
    code = ("import sys; from staticgraph.bench import run; run.main(['--list']); "
            f"print([name for name in {heavy!r} if name in sys.modules])")
    child = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE_ROOT, capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout.splitlines()[-1]) == (0, "[]"), child.stderr


def test_the_import_clock_counts_outermost_imports_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outer_for_clock.py").write_text("import time\ntime.sleep(0.02)\nimport inner_for_clock\n")
    (tmp_path / "inner_for_clock.py").write_text("import time\ntime.sleep(0.03)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    clock = compile_times.ImportClock(time.perf_counter)
    statement, function = builtins.__import__, importlib.import_module
    start = time.perf_counter()
    with clock.running():
        importlib.import_module("outer_for_clock")
    taken = time.perf_counter() - start
    assert 0.05 <= clock.seconds <= taken     # both modules, and none twice
    assert (builtins.__import__, importlib.import_module) == (statement, function)


def test_a_child_that_fails_says_why() -> None:
    class Broken:
        name, package, order, counts = "absent", "absent", 0, False

        def environment(self, cache: Path, threads: int) -> dict[str, str]:
            return {}

    case = case_named("chain")
    found = compile_times.measure(Broken(), case, 1, 1)     # type: ignore[arg-type]
    assert found == {"case": "chain", "peer": "absent", "failed": "StopIteration"}


@pytest.mark.slow
def test_compiles_cold_and_warm() -> None:
    case = case_named("chain")
    found = compile_times.measure(peer("staticgraph"), case, 2, 1)     # type: ignore[arg-type]
    assert {"cold_compile_s", "warm_compile_s", "cold_imports_s", "warm_imports_s"} <= set(found)
    assert len(found["cold_compile_s_all"]) == 2
    assert found["warm_compile_s"] > 0
