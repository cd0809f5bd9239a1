"""How commands end: exit statuses, closed pipes, Ctrl-C, what is said of mistakes, and of work that takes long."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.cli import COMMANDS, exits, main, progress

ROOT = Path(__file__).resolve().parent.parent

MODEL = """
import staticgraph as sg
x = sg.placeholder("x", ("batch", 3))
loss = sg.mean(sg.square(x))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "evil.json").write_text('x = print("this was run")')
    return tmp_path


def start(*arguments: str, **options: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "staticgraph", *arguments], text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)}, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("arguments", [("bench", "--list"), ("cache", "info"), ("graph", "model.py:loss", "-o", "-")])
def test_a_reader_that_goes_away_is_no_traceback(arguments: tuple[str, ...], folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    child = start(*arguments, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, said = child.communicate(timeout=100)
    assert (child.returncode, said) == (exits.NO_READER, "")


def test_an_interrupted_command_says_so(folder: Path) -> None:
    (folder / "slow.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(100)\n")
    child = start("graph", "slow.py:x", "-o", "x.svg", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stderr is not None and child.stderr.readline() == "here\n"
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=100)
    assert (child.returncode, said) == (exits.INTERRUPTED, "staticgraph: interrupted\n")
    assert not (folder / "x.svg").exists()


WRONG = {
    ("grpah", "model.py:loss"): "no command 'grpah'; did you mean 'graph'?",
    ("graph", "model.py:los", "-o", "x.svg"): "model has no 'los'; did you mean 'loss'?",
    ("graph", "modle.py:loss", "-o", "x.svg"): "no file 'modle.py'; did you mean 'model.py'?",
    ("graph", "model.py", "-o", "x.svg"): "it has: model.py:loss, model.py:x",
    ("graph", ".:loss", "-o", "x.svg"): "'.' is a folder",
    ("graph", "graph.json", "-o", "x.svg"): "no file 'graph.json'",
    ("graph", "evil.json:x", "-o", "x.svg"): "it is named by its file alone: evil.json",
    ("bench", "elementwize"): "did you mean 'elementwise'?",
    ("cache", "explain"): "needs a model",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_mistakes_are_told_with_what_was_meant(arguments: tuple[str, ...], folder: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == exits.WRONG
    told = capsys.readouterr()
    assert told.out == "" and WRONG[arguments] in told.err and "Traceback" not in told.err


def test_a_terminal_that_lacks_characters_shows_question_marks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii", write_through=True))
    assert main(["profile", "model.py:loss", "--seconds", "0.01", "--no-peak"]) == 0     # \u00b5s
    assert b"?s a call in " in output.getvalue()


def test_what_is_not_installed_is_told_before_anything_is_written(
        folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("staticgraph.cli.graph.find_spec", lambda name: None)
    assert main(["graph", "model.py:loss", "-o", "a.svg", "-o", "a.png"]) == exits.FAILED
    assert 'pip install "staticgraph[viz]"' in capsys.readouterr().err and not Path("a.svg").exists()

    def lack(package: str) -> int:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)

    assert exits.reporting(lambda: lack("networkx.algorithms")) == exits.FAILED
    assert "networkx is missing: pip install networkx\n" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError):     # a bug of ours
        exits.reporting(lambda: lack("staticgraph.nothing"))


def test_a_saved_graph_is_a_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, w = sg.placeholder("x", ("batch", 3)), sg.variable(np.ones((3, 2), "float32"), "w")
    loss = sg.mean(sg.square(x @ w))
    step = sg.compile([x], {"loss": loss}, updates={w: w - 0.1 * sg.grad(loss, w)})
    sg.save_graph("a step.json", step)
    assert main(["graph", "a step.json", "-o", "-"]) == 0
    assert "matmul" in capsys.readouterr().out
    assert main(["profile", "a step.json", "--no-peak", "--size", "batch=5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sizes"] == {"batch": 5}
    (folder / "bad.json").write_text('{"format": "staticgraph.graph", "version": 99}')
    assert main(["graph", "bad.json", "-o", "x.svg"]) == exits.FAILED
    assert "a newer staticgraph is needed" in capsys.readouterr().err


def test_help_is_for_newcomers_and_light() -> None:
    code = ("import sys\nfrom staticgraph.cli import main\n"
            "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
            "print(sorted({'numba', 'llvmlite', 'networkx', 'matplotlib', 'tqdm'} & set(sys.modules)))")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.endswith("[]\n")
    assert all(f"    {command} " in run.stdout for command in COMMANDS) and "Exit status: 0 done" in run.stdout


def test_every_command_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0 and f"staticgraph {command}" in capsys.readouterr().out
    assert main([]) == exits.WRONG


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_long_work_is_told_to_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.working("compiling"):
            deadline = time.monotonic() + 20
            while stream.isatty() and not stream.getvalue() and time.monotonic() < deadline:
                time.sleep(0.005)
        said = stream.getvalue()
        assert said == ("compiling ...\r             \r" if stream.isatty() else "")
    monkeypatch.setattr(progress, "PATIENCE", 1000.0)
    monkeypatch.setattr(sys, "stderr", quick := Terminal())
    with progress.working("compiling"):
        pass
    assert quick.getvalue() == ""
