"""The convolutional network: importing it only builds the graph, running it learns the digits."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import staticgraph as sg
from tests.examples.scripts import environment, import_builds_a_loss_and_nothing_else, loaded

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "digits_cnn.py"
pytest.importorskip("sklearn")
pytest.importorskip("tqdm")


def test_import_builds_the_graph_and_nothing_else(tmp_path: Path) -> None:
    import_builds_a_loss_and_nothing_else(SCRIPT, tmp_path)


def test_the_compiled_step_is_the_graphs_meaning_and_little_training_is_an_error(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    demo = loaded(SCRIPT)
    (x, t), _ = demo.load_data(0)
    demo.start_again(0)
    feed = {demo.images: x[:37], demo.labels: t[:37]}
    updates = demo.optimizer.updates(demo.loss, demo.model.parameters())
    expected = sg.evaluate([demo.loss, *updates.values()], feed)
    step = demo.compile_step()
    np.testing.assert_allclose(step(x[:37], t[:37]), expected[0], rtol=1e-4)
    for variable, value in zip(updates, expected[1:], strict=True):
        # Adam's first step is the sign of a gradient, which rounding may turn where that is nothing
        off = np.abs(variable.value - value) > 2e-4 * np.abs(value) + 1e-5
        assert off.mean() < 0.01, variable.name
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "SEEDS", 1)
    monkeypatch.setattr(demo, "NEEDED", 0.995)
    monkeypatch.setattr(sys, "argv", ["digits_cnn"])
    assert demo.main() == 1
    told = capsys.readouterr().out
    accuracy = re.search(r"accuracy +(0\.\d+), the mean of 1 seeds; needed 0.995", told)
    assert accuracy is not None and float(accuracy[1]) > 0.8, told


@pytest.mark.slow
def test_it_learns_the_digits(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, str(SCRIPT)], cwd=tmp_path, env=environment(), capture_output=True, text=True,
                         check=False)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
    accuracy = re.search(r"accuracy +(0\.\d+), the mean of 3 seeds", run.stdout)
    assert accuracy is not None and float(accuracy[1]) >= 0.978, run.stdout
    assert "60/60" in run.stderr     # the progress bar
