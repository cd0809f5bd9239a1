"""The command line: what it writes, and what it says when something is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import staticgraph as sg
from staticgraph.cli import main
from staticgraph.cli.graph import STAGES, SUFFIXES
from staticgraph.cli.models import load_model, split_model
from staticgraph.viz.export import FORMATS
from staticgraph.viz.model import STAGES as ALL_STAGES

ROOT = Path(__file__).resolve().parent.parent

MODEL = """
import numpy as np
import staticgraph as sg

x = sg.placeholder("x", shape=("batch", 3), dtype="float32")
w = sg.variable(np.zeros((3, 2), "float32"), name="w")
loss = sg.mean(sg.square(x @ w))
pair = [x @ w, loss]
updates = {w: w - 0.1 * sg.grad(loss, w)}
step = sg.compile([x], loss, updates=updates)
number = 3
if __name__ == "__main__":
    raise SystemExit("this must not run")
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "small_model.py"
    path.write_text(MODEL)
    return str(path)


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "staticgraph", *arguments], cwd=cwd, capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_graph_in_a_process_of_its_own(model: str, tmp_path: Path) -> None:
    done = run("graph", f"{model}:loss", "-o", "loss.svg", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "loss.svg").read_text().startswith("<svg")


def test_a_loss_beside_updates_is_the_training_step(model: str, tmp_path: Path) -> None:
    for name in ("loss", "step"):
        assert main(["graph", f"{model}:{name}", "-o", str(tmp_path / f"{name}.svg")]) == 0
    assert (tmp_path / "loss.svg").read_bytes() == (tmp_path / "step.svg").read_bytes()


def test_the_digits_example_is_drawn_as_it_draws_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = ROOT / "examples" / "digits_mlp.py"
    assert main(["graph", f"{example}:loss", "-o", str(tmp_path / "loss.svg")]) == 0
    monkeypatch.syspath_prepend(str(example.parent))
    import digits_mlp  # type: ignore[import-not-found]

    sg.viz.export(digits_mlp.compile_step(), tmp_path / "step.svg")
    assert (tmp_path / "loss.svg").read_bytes() == (tmp_path / "step.svg").read_bytes()


@pytest.mark.parametrize(("name", "stage", "expected"), [
    ("loss", "tensor", "variable w becomes"), ("pair", "fused", "output output 1 ="), ("step", "primitive", "matmul("),
    ("updates", "fused", "variable w becomes")])
def test_names_and_stages(model: str, tmp_path: Path, name: str, stage: str, expected: str) -> None:
    path = tmp_path / "graph.txt"
    assert main(["graph", f"{model}:{name}", "-o", str(path), "--stage", stage]) == 0
    assert expected in path.read_text()


def test_the_model_keeps_its_imports_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "helper_of_model.py").write_text("SIZE = 5\n")
    (tmp_path / "named.py").write_text(
        "import sys, staticgraph as sg\nfrom helper_of_model import SIZE\n"
        "assert __name__ == 'named' and sys.modules['named'].__dict__ is globals()\n"
        "y = sg.exp(sg.placeholder('x', shape=(SIZE,)))\n")
    done = run("graph", "named.py:y", "-o", "y.txt", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "float32[5]" in (tmp_path / "y.txt").read_text()


def test_loading_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "types.py"     # a name that is taken: the module of that name stays what it is
    path.write_text("import types, staticgraph as sg\nkind = types.ModuleType\ny = sg.zeros((2,))\n")
    before, modules = list(sys.path), set(sys.modules)
    assert load_model(path).kind is type(sys)
    assert sys.path == before and set(sys.modules) == modules


def test_what_differs_between_two_models(model: str, tmp_path: Path) -> None:
    path = tmp_path / "diff.html"
    assert main(["graph", f"{model}:loss", "--diff", f"{model}:step", "-o", str(path), "--theme", "dark"]) == 0
    assert f"{Path(model).name}:loss" in path.read_text(encoding="utf-8").split("<title>")[1].split("</title>")[0]


@pytest.mark.parametrize(("arguments", "message"), [
    (["{folder}/none.py:loss", "-o", "a.svg"], "there is no file '{folder}/none.py'"),
    (["{model}:zebra", "-o", "a.svg"], "small_model has no 'zebra'; what can be named: loss, pair, step, updates, w"),
    (["{model}:number", "-o", "a.svg"], "has a 'number', but it is neither tensors nor an executable: int"),
    (["{model}", "-o", "a.svg"], "does not name a model: needed path/to/model.py:name"),
    (["{model}:not a name", "-o", "a.svg"], "does not name a model"),
    (["{model}:loss", "-o", "a.pdf"], "cannot write 'a.pdf': its suffix is not one of .svg"),
    (["{model}:loss", "-o", "{folder}/none/a.svg"], "there is no folder"),
    (["{model}:loss", "-o", "a.svg", "--stage", "final"], "invalid choice: 'final'"),
    (["{model}:loss"], "required: -o"),
    (["{model}:loss", "--diff", "{model}:step", "-o", "a.svg"], "cannot write 'a.svg': --diff makes an .html"),
    (["{model}:loss", "--diff", "{model}:zebra", "-o", "a.html"], "small_model has no 'zebra'"),
])
def test_mistakes_in_the_command(arguments: list[str], message: str, model: str, tmp_path: Path,
                                 capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [each.format(model=model, folder=tmp_path) for each in arguments]
    try:
        status = main(["graph", *filled])
    except SystemExit as stopped:     # argparse
        status = int(str(stopped.code))
    told = capsys.readouterr().err
    assert status == 2 and message.format(model=model, folder=tmp_path) in told and "Traceback" not in told
    assert [path.name for path in tmp_path.iterdir() if path.suffix in FORMATS] == []


@pytest.mark.parametrize(("text", "status", "message"), [
    ("x = 1 / 0", 2, "failed: ZeroDivisionError: division by zero (broken.py:1)"),
    ("x = (", 2, "failed: SyntaxError"),
    ("import sys\nsys.exit('stop')", 2, "failed: SystemExit: stop (broken.py:2)"),
    ("import staticgraph as sg\nx = sg.zeros((2,)) + sg.zeros((3,))", 1, "ShapeError: add:"),
])
def test_models_that_fail(text: str, status: int, message: str, tmp_path: Path,
                          capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    assert main(["graph", f"{path}:x", "-o", str(tmp_path / "x.svg")]) == status
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told and told.startswith("staticgraph: ")


def test_a_file_that_cannot_be_written(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken.svg").mkdir()
    assert main(["graph", f"{model}:loss", "-o", str(tmp_path / "taken.svg")]) == 1
    assert "taken.svg" in capsys.readouterr().err


def test_a_colon_in_the_path(tmp_path: Path) -> None:
    path = tmp_path / "a:b.py"
    path.write_text("")
    assert split_model(f"{path}:name") == (path, "name")


def test_cache_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setenv("STATICGRAPH_CACHE_DIR", str(folder))
    monkeypatch.delenv("STATICGRAPH_CACHE", raising=False)
    assert main(["cache", "info"]) == 0
    assert re.search(r"folder +" + re.escape(str(folder)) + r"\nentries +0\nbytes +0\n", capsys.readouterr().out)
    (folder / "k_0123.obj").write_bytes(b"x" * 1500)
    assert main(["cache", "info"]) == 0
    assert re.search(r"entries +1\nbytes +1,500\n", capsys.readouterr().out)
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out == f"removed 1 entry from {folder}\n"
    assert list(folder.iterdir()) == []


def test_cache_that_is_off(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_CACHE", "0")
    assert main(["cache", "info"]) == 0
    assert "remark   the cache is off" in capsys.readouterr().out


def test_bench_is_handed_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    assert capsys.readouterr().out
    assert main(["bench", "--filter", "no case is called this"]) == 2


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert {"graph", "bench", "cache"} <= set(capsys.readouterr().out.split())
    for arguments, expected in ((["--version"], "staticgraph 0."), (["--help"], "COMMAND"),
                                (["graph", "--help"], "path/to/model.py:name"), (["cache", "--help"], "clear")):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 0 and expected in capsys.readouterr().out


def test_the_command_line_knows_all_formats_and_stages() -> None:
    assert set(SUFFIXES) == set(FORMATS) and STAGES == ALL_STAGES


def test_help_imports_little() -> None:
    code = ("import sys; from staticgraph.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
            "print([name for name in ('numba', 'networkx', 'llvmlite') if name in sys.modules], file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
