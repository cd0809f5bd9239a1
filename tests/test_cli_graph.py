"""``staticgraph graph``: formats, stages, several files, and the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.cli import main
from staticgraph.cli.graph import BINARY, STAGES, SUFFIXES
from staticgraph.viz.export import FORMATS, THEMES
from tests.test_cli import MODEL, ROOT


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "drawn_model.py"
    path.write_text(MODEL)
    return f"{path}:step"


def test_several_files_at_once(model: str, tmp_path: Path) -> None:
    suffixes = [suffix for suffix in SUFFIXES if suffix != ".png" or find_spec("matplotlib")]
    places = [str(tmp_path / f"all{suffix}") for suffix in suffixes]
    assert main(["graph", model, *(word for place in places for word in ("-o", place))]) == 0
    assert all(Path(place).stat().st_size > 100 for place in places)


def test_the_terminal_gets_a_table_or_what_it_asks_for(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", model, "-o", "-"]) == 0
    assert "variable w becomes %" in capsys.readouterr().out
    assert main(["graph", model, "-o", "-", "--format", "json", "--stage", "program"]) == 0
    found = capsys.readouterr()
    assert json.loads(found.out)["stage"] == "program" and found.err == ""
    assert main(["graph", model, "-o", "-", "--format", "mmd"]) == 0
    assert "flowchart TB" in capsys.readouterr().out


def test_a_terminal_of_few_characters(tmp_path: Path) -> None:
    path = tmp_path / "named.py"
    path.write_text("import staticgraph as sg\ny = sg.exp(sg.placeholder('\\u03b1\\ud800', shape=(2,)))\n")
    done = subprocess.run([sys.executable, "-m", "staticgraph", "graph", f"{path}:y", "-o", "-"], cwd=ROOT, check=True,
                          capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)})
    assert b"'??'" in done.stdout and done.stderr == b""


def test_options_of_a_saved_graph_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = sg.placeholder("x", shape=("n",))
    v = sg.variable(np.zeros(2), name="v")
    step = sg.compile([x], sg.log(sg.nn.softmax(x)), updates={v: v + 1.0}, options={"stabilise": False})
    sg.save_graph(tmp_path / "saved.json", step)
    assert main(["graph", str(tmp_path / "saved.json"), "-o", "-"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == sg.viz.to_text(step).splitlines()[-2:]


@pytest.mark.parametrize("stage", STAGES)
def test_stages(stage: str, model: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    assert main(["graph", model, "-o", str(path), "--stage", stage]) == 0
    assert json.loads(path.read_text())["stage"] == stage


def test_themes(model: str, tmp_path: Path) -> None:
    path = tmp_path / "dark.svg"
    assert main(["graph", model, "-o", str(path), "--theme", "dark"]) == 0
    assert "prefers-color-scheme" not in path.read_text() and "#14181d" in path.read_text()


@pytest.mark.parametrize(("arguments", "message"), [
    (["-o", "x.svg", "--format", "dot"], "--format is the format of -o -"),
    (["-o", "-", "--format", "png"], "invalid choice"),
    (["-o", "x.svg", "--theme", "blue"], "invalid choice"),
    (["-o", "x.svg", "-o", "x.exe"], "its suffix is not one of"),
])
def test_mistakes(arguments: list[str], message: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                  capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["graph", model, *arguments])
    except SystemExit as stopped:     # argparse
        status = int(str(stopped.code))
    assert status == 2 and message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py"] == []     # nothing is half done


def test_a_missing_package_is_told_with_its_line(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert main(["graph", model, "-o", str(tmp_path / "x.png")]) == 1
    assert 'pip install "staticgraph[viz]"' in capsys.readouterr().err


def test_the_help_names_every_format_and_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["graph", "--help"])
    told = capsys.readouterr().out
    assert all(word in told for word in (*SUFFIXES, *STAGES, *THEMES, "MODEL", "updates"))
    assert set(BINARY) < set(SUFFIXES) == set(FORMATS) and issubclass(sg.MissingPackageError, ImportError)
