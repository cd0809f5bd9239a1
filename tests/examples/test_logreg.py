"""Logistic regression: importing it only builds the graph; its losses are known to ten digits."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from staticgraph.bench.own import contest_of_model
from tests.examples.scripts import environment, loaded

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "logreg.py"
pytest.importorskip("sklearn")
pytest.importorskip("tqdm")


def test_it_gives_the_known_losses_and_judges_itself(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, str(SCRIPT)], cwd=tmp_path, env=environment(), capture_output=True, text=True,
                         check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    assert "loss after 1000 steps: 0.0605776037\n" in run.stdout and "expected" not in run.stdout
    assert "accuracy on all data 0.9877" in run.stdout and "5/5" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_other_losses_are_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = loaded(SCRIPT)
    monkeypatch.setattr(script, "EXPECTED", {0: 0.7, 1: 0.5231602808})
    monkeypatch.setattr(script, "STEPS", 5)
    monkeypatch.setattr(script, "NEEDED", 0.0)
    assert script.main() == 1
    told = capsys.readouterr().out
    assert "loss after    0 steps: 0.6931471806, expected 0.7" in told and told.count("expected") == 1


def test_the_benchmark_takes_its_data() -> None:
    contest, _ = contest_of_model(f"{SCRIPT}:loss", {"n": 600}, {})
    assert contest.inputs["measurements"].shape == (600, 30) and set(contest.inputs["benign"]) == {0.0, 1.0}
    assert contest.expected is not None
    np.testing.assert_allclose(contest.expected[0], np.log(2))
