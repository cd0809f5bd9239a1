"""The scripts in examples/seeds print the numbers of their notebooks."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "seeds"

PRINTED = {
    "seed1_autograd.py": ["gradient of b = [2. 2. 2. 2. 2.]", "0.46906879", "0.16660243", "0.08153841", "0.15067618"],
    "seed2_xor.py": ["-0.24293472", "as three: 3.046500093160824 in 1 kernel", "epoch  100: loss 0.03582639883",
                     "epoch  200: loss 0.003317710128", "epoch  500: loss 0.25"],
    "seed3_toolbox.py": ["[[[-4.0, 0.0], [108.0, 512.0]]]", "accumulated in a: 4.0", "cross entropy 39.0"],
    "seed4_regression.py": ["step      1: loss of the batch 240.6031544", "after 10000 steps: train 0.0371410"],
    "seed5_dezero.py": ["= 1.648721270700128", "by hand: 3.297442541400256", "square <- exp <- square <- placeholder"],
}


@pytest.mark.parametrize("script", PRINTED)
def test_script(script: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [script])
    runpy.run_path(str(FOLDER / script), run_name="__main__")
    text = capsys.readouterr().out
    for number in PRINTED[script]:
        assert number in text


def test_every_script_is_tested() -> None:
    assert sorted(PRINTED) == sorted(path.name for path in FOLDER.glob("*.py"))


def test_predictions_are_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "curve.csv"
    monkeypatch.setattr(sys, "argv", ["seed4", "--steps", "3", "--predictions", str(file)])
    runpy.run_path(str(FOLDER / "seed4_regression.py"), run_name="__main__")
    lines = file.read_text().splitlines()
    assert lines[0] == "# x,prediction" and len(lines) == 202
    assert lines[1].startswith("0.0") and lines[-1].startswith("1.0")
