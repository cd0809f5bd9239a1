"""Commands that run a model: profile, dump, cache explain, bench. One small model, compiled once for all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from staticgraph.bench.cases import FLOAT64_GAIN
from staticgraph.bench.own import TOLERANCE, contest_of_model
from staticgraph.cli import main
from staticgraph.cli.inputs import inputs_of
from staticgraph.cli.models import CommandError, find_model

MODEL = """
import numpy as np
import staticgraph as sg

x = sg.placeholder("x", shape=("batch", 3))
t = sg.placeholder("t", shape=("batch",), dtype="int64")
w = sg.variable(np.ones((3, 4), "float32"), name="w")
loss = sg.nn.cross_entropy(x @ w, t, reduction="mean")
updates = {w: w - 0.1 * sg.grad(loss, w)}
step = sg.compile([x, t], loss, updates=updates)
"""
PLAIN = """
import numpy as np
import staticgraph as sg

x = sg.placeholder("x", shape=("n", 3))
keep = sg.placeholder("keep", shape=("n", 1), dtype="bool")
pair = {"root": sg.sqrt(x), "kept": sg.where(keep, x, 0.0)}
root = sg.compile([x], sg.sqrt(x))
def root_inputs(sizes):
    return {"x": np.full((5, 3), 4.0, "float32")}
root_peers = {"numpy": np.sqrt, "off": lambda x: np.sqrt(x) + 1, "broken": lambda x: 1 / 0}
twice = 2 * x
twice_peers = {"staticgraph": np.mean}
hidden = [sg.compile([x], x + 1)]
print("a file that prints")
mean = sg.mean(x)
mean_inputs = lambda sizes: {"x": sizes["rows"]}
widened = sg.astype(mean, "float64")
exact = sg.sum(sg.astype(keep, "float64"))
unknown = None
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "training.py").write_text(MODEL)
    (folder / "plain.py").write_text(PLAIN)
    return folder


def specs(model: Any) -> Any:
    return model.compile().program.inputs


def test_executables_compiled_in_the_file_are_known_with_their_graph(folder: Path) -> None:
    model = find_model(f"{folder}/training.py:step")
    assert model.is_known and model.executable is not None and [each.name for each in model.inputs] == ["x", "t"]
    assert [each.name for each in model.updates] == ["w"]
    loss = find_model(f"{folder}/training.py:loss")
    assert loss.executable is None and len(loss.inputs) == 2 and len(loss.updates) == 1


def test_compile_is_itself_again_after_a_file_was_loaded(folder: Path) -> None:
    import staticgraph as sg

    before = sg.compile
    find_model(f"{folder}/training.py:step")
    assert sg.compile is before


def test_inputs_are_made_up_by_documented_rules(folder: Path) -> None:
    model = find_model(f"{folder}/training.py:step")
    inputs, sizes = inputs_of(model, specs(model), {}, {})
    assert sizes == {"batch": 64} and inputs["x"].shape == (64, 3) and inputs["x"].dtype == "float32"
    assert set(inputs["t"].tolist()) == {0, 1}
    again, sizes = inputs_of(model, specs(model), {"batch": 500}, {"t": 4})
    assert sizes == {"batch": 500} and set(again["t"].tolist()) == {0, 1, 2, 3}
    plain = find_model(f"{folder}/plain.py:pair")
    keep = inputs_of(plain, specs(plain), {}, {})[0]["keep"]
    assert keep.dtype == bool and 0 < keep.sum() < 64


@pytest.mark.parametrize(("sizes", "below", "message"), [
    ({"rows": 3}, {}, "no symbolic size 'rows'; it has: batch"),
    ({}, {"x": 3}, "no input of integers 'x'; it has: t"),
])
def test_sizes_and_bounds_of_nothing_are_refused(sizes: dict[str, int], below: dict[str, int], message: str,
                                                 folder: Path) -> None:
    model = find_model(f"{folder}/training.py:step")
    with pytest.raises(CommandError, match=message):
        inputs_of(model, specs(model), sizes, below)


def test_inputs_of_the_file_decide_the_sizes(folder: Path) -> None:
    model = find_model(f"{folder}/plain.py:root")
    inputs, sizes = inputs_of(model, specs(model), {}, {})
    assert sizes == {"n": 5} and inputs["x"][0, 0] == 4


def test_what_the_file_raises_for_inputs_is_a_message(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", f"{folder}/plain.py:mean", "--no-peak"]) == 2
    assert "mean_inputs failed: KeyError: 'rows' (plain.py:" in capsys.readouterr().err


def test_what_the_file_prints_is_no_part_of_the_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", f"{folder}/plain.py:root", "--no-peak", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["sizes"] == {"n": 5} and told.err == "a file that prints\n"


def test_profile_is_a_table_with_lines(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    arguments = ["profile", f"{folder}/training.py:step", "--size", "batch=10", "--no-peak", "--json", str(file)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "with batch=10:" in text and "training.py:8" in text and "GFlop/s" in text
    found = json.loads(file.read_text())
    assert found["sizes"] == {"batch": 10} and found["seconds"] > 0 and len(found["steps"]) >= 3
    parts = {part["name"]: part["seconds"] for part in found["parts"]}
    assert sum(parts.values()) == pytest.approx(found["seconds"], rel=0.01)
    assert sum(step["seconds"] for step in found["steps"]) == pytest.approx(parts["kernels"] + parts.get("waiting", 0),
                                                                           rel=0.2)
    assert all(step["lines"] for step in found["steps"])


def test_profile_against_what_the_machine_can_do(folder: Path, capsys: pytest.CaptureFixture[str],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    from staticgraph.runtime.cpu import peak, profiled

    monkeypatch.setattr(profiled, "measured_peaks", lambda threads: peak.Peaks(threads, 10.0, 1e9, 1e9))
    assert main(["profile", f"{folder}/plain.py:root", "--json"]) == 0
    (step,) = json.loads(capsys.readouterr().out)["steps"]
    if step["gb_s"] <= 10:
        assert step["bound_by"] == "copy" and step["percent_of_peak"] == pytest.approx(10 * step["gb_s"])
    else:     # it fits into a cache, and is faster than memory is copied
        assert step["bound_by"] == "FMA" and step["percent_of_peak"] == pytest.approx(step["gflop_s"] / 1e7)


def test_profile_writes_a_page_a_trace_and_pictures(folder: Path, tmp_path: Path) -> None:
    names = {"html": "p.html", "trace": "p.trace.json", "roofline": "r.svg", "memory": "m.svg"}
    options = [part for name, file in names.items() for part in (f"--{name}", str(tmp_path / file))]
    assert main(["profile", f"{folder}/training.py:step", "--seconds", "0", *options]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(names.values())
    assert "training.py:step" in (tmp_path / "p.html").read_text()
    assert json.loads((tmp_path / "p.trace.json").read_text())["traceEvents"]
    assert all((tmp_path / name).read_text().startswith("<svg") for name in ("r.svg", "m.svg"))


@pytest.mark.parametrize(("options", "message"), [
    (["--html", "p.pdf"], "the suffix for --html is .html"),
    (["--trace", "p.trace"], "the suffix for --trace is .json"),
    (["--memory", "nowhere/m.svg"], "there is no folder 'nowhere'"),
    (["--seconds", "soon"], "is not a number of seconds"),
    (["--no-peak", "--roofline", "r.svg"], "the roofline needs what the machine can do"),
])
def test_profile_finds_mistakes_before_it_runs_anything(options: list[str], message: str,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["profile", "nofile.py:step", *options])
    except SystemExit as exit:
        status = int(exit.code or 0)
    assert status == 2 and message in capsys.readouterr().err


def test_dump_writes_all_levels_and_says_what_they_are(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "dump"
    arguments = ["dump", f"{folder}/training.py:loss", "-o", str(target), "--size", "batch=10", "--below", "t=4"]
    assert main(arguments) == 0
    readme = (target / "README.md").read_text()
    with np.load(target / "inputs.npz") as data:
        assert data["array0"].shape == (10, 3) and set(data["array1"]) == {0, 1, 2, 3}
    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert {"graph.txt", "graph.svg", "graph.json", "source.py", "explain.txt", "README.md", "passes/schedule.txt",
            "main.py", "passes/kernels.ir.txt", "passes/program.txt", "passes/00_stabilise.txt"} <= files
    kernels = [name for name in files if name.startswith("kernels/") and name.endswith(".py")]
    assert kernels and all(f"`{name}`" in readme and name.replace(".py", ".npz") in files for name in kernels)
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]     # nothing half done is left beside it


def test_dump_replaces_only_dumps_and_only_when_told(folder: Path, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    target, model = tmp_path / "dump", f"{folder}/plain.py:root"
    assert main(["dump", model, "-o", str(target)]) == 0
    (target / "stale.txt").write_text("")
    assert main(["dump", model, "-o", str(target)]) == 2 and "--force replaces it" in capsys.readouterr().err
    assert main(["dump", model, "-o", str(target), "--force"]) == 0 and not (target / "stale.txt").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    assert main(["dump", model, "-o", str(mine), "--force"]) == 2 and "is no dump" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(target)
    assert main(["dump", model, "-o", str(tmp_path / "link"), "--force"]) == 2
    assert main(["dump", f"{folder}/plain.py:nothing", "-o", str(tmp_path / "none")]) == 2
    assert main(["dump", f"{folder}/training.py:loss", "-o", str(tmp_path / "bad"), "--below", "t=9"]) == 1
    assert "out of range" in capsys.readouterr().err
    assert main(["dump", f"{folder}/training.py:loss", "-o", str(tmp_path / "bad"), "--size", "rows=9"]) == 2
    assert main(["dump", model, "-o", str(tmp_path / "no" / "dump")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump", "link", "mine"]


def test_dump_for_cuda_needs_no_gpu(folder: Path, tmp_path: Path) -> None:
    assert main(["dump", f"{folder}/plain.py:root", "-o", str(tmp_path / "dump"), "--device", "cuda"]) == 0
    assert "cuda" in (tmp_path / "dump" / "README.md").read_text() and not (tmp_path / "dump" / "explain.txt").exists()


def test_cache_explain_says_what_was_compiled_and_why(folder: Path, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("STATICGRAPH_VERIFY", raising=False)     # who verifies compiles always
    assert main(["cache", "explain", f"{folder}/plain.py:pair", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert "no entry" in first["program"] and first["folder"] == str(tmp_path / "cache")
    assert main(["cache", "explain", f"{folder}/plain.py:pair"]) == 0
    text = capsys.readouterr().out
    assert "program  from the cache" in text and first["kernels"][0]["kernel"] in text


@pytest.mark.parametrize(("arguments", "message"), [
    (["cache", "explain"], "cache explain needs a model"),
    (["cache", "info", "a.py:b"], "cache info takes no model"),
])
def test_cache_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2 and message in capsys.readouterr().err


def test_cache_info_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["cache", "info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == 0


def test_bench_of_a_model_checks_it_and_times_the_users_functions(folder: Path) -> None:
    contest, entries = contest_of_model(f"{folder}/plain.py:root", {}, {})
    assert (contest.name, contest.label, contest.inputs["x"].shape) == ("root", "n=5", (5, 3))
    assert contest.expected is not None and contest.expected[0][0, 0] == 2
    assert [name for name, _ in entries] == ["staticgraph", "numpy", "off", "broken"]
    exact, _ = contest_of_model(f"{folder}/plain.py:exact", {}, {})
    assert (exact.dtype, exact.tolerance) == ("float64", TOLERANCE * FLOAT64_GAIN)
    widened, _ = contest_of_model(f"{folder}/plain.py:widened", {}, {})
    assert (widened.dtype, widened.tolerance) == ("float64", TOLERANCE)
    with pytest.raises(CommandError, match="twice_peers has a label 'staticgraph'"):
        contest_of_model(f"{folder}/plain.py:twice", {}, {})
    training, _ = contest_of_model(f"{folder}/training.py:step", {"batch": 7}, {"t": 4})
    assert len(training.expected or ()) == 2 and len(training.state) == 1 and training.flops > 0


def test_bench_of_a_model_as_a_command(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "record.json"
    assert main(["bench", f"{folder}/plain.py:root", "--tiny", "--json", str(file)]) == 0
    (case,) = json.loads(file.read_text())["runs"][0]["cases"]
    assert set(case["contestants"]) == {"staticgraph", "numpy"} and case["suite"] == "model"
    assert "differ from the interpreter's" in case["wrong"]["off"]
    assert case["absent"] == {"broken": "ZeroDivisionError: division by zero"}
    assert main(["bench", f"{folder}/plain.py:pair", "--tiny"]) == 2     # the root of what is below zero
    assert "result 0 of pair is not finite for inputs that were made up" in capfd.readouterr().err
