"""The check of a GPU, tried without one: all stages on the simulated driver, and each way in which one can fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.bench.suites.models import numpy_mlp_step
from staticgraph.cli import main
from staticgraph.doctor import check, contest, facts, gpu_peers, measure, programs, suite
from staticgraph.doctor.check import Check, Verdict
from staticgraph.doctor.gpu_cases import CASES, TINY, GpuCase, build, draw
from staticgraph.doctor.gpu_peers import Absent, Ready
from staticgraph.doctor.table import bench_table, time_text
from staticgraph.runtime.cuda.device import find_device
from staticgraph.runtime.cuda.driver import set_library

from . import needs_compiler
from .fake_driver import FakeDriver

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def simulated() -> Any:
    set_library(FakeDriver())
    yield
    set_library(None)


def quiet(line: str) -> None:
    pass


@needs_compiler
@pytest.mark.slow
def test_a_whole_rehearsal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "check.json"
    status = main(["doctor", "--gpu-check", "--rehearse", "--json", str(place)])
    shown = capsys.readouterr().out
    assert status == 0, shown
    record = json.loads(place.read_text())
    assert record["passed"] and record["rehearsal"] and record["facts"]["devices"] is not None
    stages = {each["stage"]: each for each in record["stages"]}
    assert [*stages] == [*check.STAGES] == [*check.SHARES]
    assert all(each["status"] == "passed" for name, each in stages.items() if name not in ("sanitizer", "examples"))
    assert stages["suite"]["details"]["passed"] == 3 and stages["interpreter"]["details"]["passed"] >= 8
    bench = stages["benchmark"]["details"]
    assert [each["case"] for each in bench["cases"]] == [case.name for case in CASES] and bench["copy_gb_s"] > 0
    assert not bench["failed"] and "layer_norm_backward" in shown and "ALL PASSED" in shown


def test_without_a_gpu_it_says_what_is_missing(capsys: pytest.CaptureFixture[str],
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "collect", lambda try_out: {
        **facts.collect(False), "devices": {"found": [], "why_none": "the driver finds no GPU"}})
    assert main(["doctor", "--gpu-check"]) == 1
    assert "There is no usable GPU" in capsys.readouterr().out
    assert main(["doctor", "--gpu-check", "--only", "suite,speed"]) == 2
    assert "there is no stage speed; stages are suite" in capsys.readouterr().err


def test_without_a_checkout_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "checkout", lambda: None)
    assert main(["doctor", "--gpu-check"]) == 1
    assert "Run it from a checkout" in capsys.readouterr().out


def test_a_stage_that_breaks_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Check, tell: Callable[[str], None]) -> Verdict:
        """breaks"""
        raise OSError("no room")

    def fine(_: Check, tell: Callable[[str], None]) -> Verdict:
        """works"""
        return Verdict("fine", "passed", "all of it")

    monkeypatch.setattr(check, "STAGES", {"broken": broken, "fine": fine})
    told: list[str] = []
    record = check.run(rehearse=True, tell=told.append)
    assert [each["status"] for each in record["stages"]] == ["failed", "passed"] and not record["passed"]
    assert "broke off: OSError: no room" in record["stages"][0]["text"] and "SOMETHING FAILED" in told[-1]


# The suite in processes of its own.

TESTS = """
import os
import pytest
import staticgraph as sg

def test_right():
    assert sg.compile is not None

def test_wrong():
    assert 1 == 2

@pytest.mark.skip(reason="not today")
def test_skipped():
    pass

def test_that_kills_its_process():
    os._exit(9)

def test_after_that():
    pass
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "GPU_CHECK_REHEARSE": "1"}


def test_the_suite_goes_on_after_a_process_that_died(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(TESTS)
    outcome = suite.run(suite.Selection((str(file),)), 1, 60, environment(), tmp_path / "work", quiet)
    assert outcome.passed == 2 and [each["text"] for each in outcome.skipped] == ["Skipped: not today"]
    failed = {each["test"].rpartition("::")[2]: each["text"] for each in outcome.failures}
    assert "assert 1 == 2" in failed["test_wrong"]
    assert failed["test_that_kills_its_process"] == "its process died, or was stopped" and len(failed) == 2


def test_a_suite_that_takes_too_long_is_told(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    file.write_text("import time\ndef test_slow():\n    time.sleep(60)\n")
    outcome = suite.run(suite.Selection((str(file),)), 1, 3, environment(), tmp_path / "work", quiet)
    assert outcome.unfinished == "not finished in 3 s" and outcome.passed == 0
    outcome = suite.run(suite.Selection(("no/such/file.py",)), 1, 60, environment(), tmp_path / "other", quiet)
    assert "pytest ended with code 4" in outcome.failures[0]["text"]


def test_what_the_selections_name_is_there() -> None:
    for selection in (suite.SUITE, suite.INTERPRETER, suite.PRODUCTS, suite.REHEARSED_SUITE,
                      suite.REHEARSED_INTERPRETER, suite.REHEARSED_PRODUCTS):
        assert all((ROOT / name).exists() for name in selection.tests)
    for name in suite.ONLY_ON_CPU:
        file, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text()


# Programs, and what tells that one is wrong.


@needs_compiler
def test_programs_are_wrong_where_bits_change(simulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    programs.run("elements", programs.SMALL, 2)
    compile, calls = programs._compile, []

    def unsteady(built: programs.Built) -> Any:
        executable = compile(built)

        def call(*arrays: Any) -> Any:
            calls.append(1)
            first, *others = executable(*arrays)
            return [np.nextafter(first, np.float32(2)) if len(calls) == 3 else first, *others]

        return call

    monkeypatch.setattr(programs, "_compile", unsteady)
    with pytest.raises(programs.Different, match="run 2 of the same executable: result 0 has other bits"):
        programs.run("elements", programs.SMALL, 3)


def test_programs_are_wrong_where_the_oracle_says_so() -> None:
    ones = np.ones(4, "float32")
    programs._near(ones, ones, 0, "x")
    for other in (ones * 1.1, ones.astype("float64"), ones[:2], ones * np.nan):
        with pytest.raises(programs.Different):
            programs._near(other.astype(other.dtype), ones, 1e-3, "x")


@needs_compiler
def test_the_device_has_the_interpreters_bits_or_is_told(simulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from . import device_checks

    x, v = sg.placeholder("x", ("n",)), sg.variable(np.ones(3, "float32"), "v")
    both = device_checks.compile_both([x], x * 2, updates={v: v + 1})
    np.testing.assert_array_equal(both(np.ones(5, "float32")), 2)
    assert v.value.tolist() == [2, 2, 2]
    measured = both.executable
    both.executable = lambda *arrays: np.nextafter(measured(*arrays), np.float32(9))
    with pytest.raises(AssertionError, match="result 0: 5 of 5 elements have other bits on the device"):
        both(np.ones(5, "float32"))
    nan = np.array([np.nan, 1.0])
    assert device_checks.differences(nan, -nan) == 1 and device_checks.differences(nan, nan) == 0


# compute-sanitizer, as a script of that name.


def sanitizer(folder: Path, script: str) -> Mapping[str, str]:
    path = folder / "bin" / "compute-sanitizer"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{path.parent}{os.pathsep}{os.environ['PATH']}", "CUDA_HOME": ""}


@pytest.mark.parametrize(("script", "status", "words"), [
    ("exit 0", "passed", "memcheck clean; racecheck clean; synccheck clean; initcheck clean"),
    ('echo "========= COMPUTE-SANITIZER"; echo "========= Invalid __global__ read"; exit 66', "failed",
     "memcheck found: Invalid __global__ read"),
    ('echo "Error: Device not supported" >&2; exit 1', "skipped",
     "memcheck could not run: exit code 1: Error: Device not supported"),
])
def test_compute_sanitizer(script: str, status: str, words: str, tmp_path: Path,
                           monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sanitizer(tmp_path, script).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Check, "command", lambda *arguments: [sys.executable, "-c", ""])
    verdict = check._sanitizer(Check(rehearse=True, folder=tmp_path, deadline=time.time() + 600), quiet)
    assert verdict.status == status and words in verdict.text
    monkeypatch.setattr(Check, "command", lambda *arguments: [sys.executable, "-c", "raise SystemExit('wrong')"])
    verdict = check._sanitizer(Check(rehearse=True, folder=tmp_path, deadline=time.time() + 600), quiet)
    assert verdict.text == "the programs fail by themselves: exit code 1: wrong"


def test_a_command_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    run = check._run(["sleep", "30"], 0.2, Check(folder=tmp_path, deadline=time.time() + 60))
    assert run.returncode == check.TIMED_OUT and "stopped after 0 s" in run.stderr


# The benchmark.


class Toy:
    """A peer that needs nothing."""

    package = "numpy"

    def __init__(self, name: str, factor: float = 1.0, trouble: Exception | None = None) -> None:
        self.name, self._factor, self._trouble = name, factor, trouble

    def connect(self) -> str:
        return "1.0"

    def prepare(self, case: Any, inputs: Mapping[str, Any], state: Mapping[str, Any]) -> Ready:
        if self._trouble is not None:
            raise self._trouble
        x, w, b = (each.numpy().astype("float64") for each in inputs.values())
        return Ready([self._factor * np.exp(-x) * np.tanh(x * w + b)], lambda count: 2e-6, "by hand")

    def tidy(self) -> None:
        pass


@needs_compiler
def test_a_contest(simulated: None) -> None:
    plan = measure.Plan("tiny", ("elements",), 3, 1, time.time() + 1e6)
    peers = [Toy("torch.compile"), Toy("wrong", 1.1), Toy("absent", trouble=Absent("no form")),
             Toy("broken", trouble=RuntimeError("out of\nluck"))]
    first, case = measure.measure(plan, peers)
    assert first["copy_gb_s"] > 0 and first["peers"]["wrong"] == "1.0"
    assert set(case["contestants"]) == {"staticgraph", "torch.compile"} and "off by" in case["wrong"]["wrong"]
    assert case["absent"] == {"absent": "no form", "broken": "failed: RuntimeError: out of"}
    json.dumps(case)
    case.update(contest.judged(case, "full", "NVIDIA H200"))
    assert case["goal_met"] is True and case["ratios"]["torch.compile"] > 0
    table = bench_table({**first, "cases": [case]})
    assert "met" in table and "broken: failed: RuntimeError: out of" in table and "torch.compile: by hand" in table


@needs_compiler
def test_peers_are_left_out_when_time_is_short(simulated: None) -> None:
    plan = measure.Plan("tiny", ("elements",), 1, 1, time.time())
    _, case = measure.measure(plan, [Toy("late")])
    assert case["absent"] == {"late": "no time was left"} and "staticgraph" in case["contestants"]


@needs_compiler
def test_a_replay_is_a_call(simulated: None) -> None:
    """The graph that is timed does what a call does: each replay is a step of the training."""
    case = next(case for case in CASES if case.name == "mlp_step")
    inputs, state = draw(case, TINY)
    device = find_device(0)
    there = {name: measure.upload(device, array) for name, array in inputs.items()}
    variables = []
    original = measure.build

    def build(*arguments: Any) -> Any:
        placeholders, (outputs, updates) = original(*arguments)
        variables.extend(updates)
        return placeholders, (outputs, updates)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "build", build)
        ready = measure.prepare(case, TINY, device, there, state)
    assert ready.sample(2) > 0
    expected = tuple(state.values())
    for _ in range(3):
        expected = numpy_mlp_step(inputs["x"], inputs["labels"], *expected)[1:]
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.value, value, rtol=1e-4, atol=1e-6)


def test_the_benchmark_goes_on_after_a_process_that_died(tmp_path: Path) -> None:
    """A stand-in for the measuring process: it writes a case at a time, and dies at the third."""
    script = tmp_path / "measuring.py"
    script.write_text(
        "import json, sys\n"
        "told = json.load(open(sys.argv[1]))\n"
        "with open(sys.argv[2], 'a') as file:\n"
        "    print(json.dumps({'copy_gb_s': 9.0, 'copy_bytes': 1, 'peers': {}, 'absent': {}}), file=file)\n"
        "    for name in told['cases']:\n"
        "        if name == 'layer_norm':\n"
        "            sys.exit('illegal address')\n"
        "        ours = {'median_ms': 1.0, 'low_ms': 1.0, 'high_ms': 1.0, 'gb_s': 1.0, 'tflop_s': 0.0, 'remark': ''}\n"
        "        print(json.dumps({'case': name, 'goal_ms': None, 'contestants': {'staticgraph': ours}, 'absent': {},\n"
        "                          'wrong': {}, 'shapes': {}, 'flops': 0}), file=file, flush=True)\n")

    def command(module: str, *arguments: str) -> list[str]:
        return [sys.executable, str(script), *arguments]

    record = contest.measure_all("tiny", 60, dict(os.environ), tmp_path, command, quiet)
    assert record["failed"] == {"layer_norm": "the process ended with code 1: illegal address"}
    assert [each["case"] for each in record["cases"]] == [case.name for case in CASES if case.name != "layer_norm"]
    record = contest.measure_all("tiny", 0, dict(os.environ), tmp_path, command, quiet)
    assert set(record["failed"].values()) == {"no time was left"} and bench_table(record) == "nothing was measured"


@pytest.mark.parametrize(("milliseconds", "device", "size", "met"), [
    (0.40, "NVIDIA H200", "full", True), (0.42, "NVIDIA H200", "full", False),
    (0.42, "NVIDIA A100", "full", None), (0.01, "NVIDIA H200", "quick", None)])
def test_goals_are_those_of_one_gpu(milliseconds: float, device: str, size: str, met: bool | None) -> None:
    case = {"goal_ms": 0.41, "contestants": {"staticgraph": {"median_ms": milliseconds}}}
    assert contest.judged(case, size, device)["goal_met"] is met


def test_peers_have_a_form_of_what_they_take_part_in() -> None:
    names = {case.name.removesuffix("_tf32") for case in CASES}

    class Anything:
        def __getattr__(self, name: str) -> Any:
            return Anything()

        def __call__(self, *arguments: Any) -> Any:
            return Anything()

    assert set(gpu_peers.torch_forms(Anything())) == names - {"layer_norm_backward"}
    assert set(gpu_peers.jax_forms(Anything())) == names
    assert set(gpu_peers.cupy_forms(Anything())) < names


@pytest.mark.slow
@pytest.mark.parametrize("peer", [gpu_peers.Torch("cpu"), gpu_peers.Jax("cpu")], ids=["torch", "jax"])
def test_peers_are_right_on_the_cpu(peer: Any) -> None:
    pytest.importorskip(peer.package)
    peer.connect()
    for case in CASES:
        inputs, state = draw(case, TINY)
        ready = peer.prepare(case, inputs, state)
        assert case.error(ready.results, inputs, state) <= case.tolerance, case.name
        assert ready.sample(1) > 0
    peer.tidy()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_wrong_results_are_seen(case: GpuCase) -> None:
    """The checks of the cases accept the interpreter's results, and nothing that is a little off."""
    inputs, state = draw(case, TINY)
    placeholders, (outputs, _) = build(case, TINY, state)
    right = [np.asarray(each) for each in sg.evaluate(list(outputs), dict(zip(placeholders, inputs.values())))]
    assert case.error(right, inputs, state) <= case.tolerance
    assert case.error([each * np.float32(1.05) for each in right], inputs, state) > case.tolerance
    assert not case.error([each * np.float32("nan") for each in right], inputs, state) <= case.tolerance


def test_times_are_readable() -> None:
    assert time_text(0.0605) == "60.5 µs" and time_text(0.285) == "0.285 ms"


def test_the_check_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "staticgraph", "doctor", "--help"], capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and "--gpu-check" in done.stdout
