"""The demo: importing it only builds the graph, running it learns the digits and says what the compiler did."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from tests.examples.scripts import environment, import_builds_a_loss_and_nothing_else, loaded

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "digits_mlp.py"
pytest.importorskip("sklearn")
pytest.importorskip("tqdm")


@pytest.fixture
def demo() -> ModuleType:
    return loaded(SCRIPT)


def test_import_builds_the_graph_and_nothing_else(tmp_path: Path) -> None:
    import_builds_a_loss_and_nothing_else(SCRIPT, tmp_path)


def test_compiled_step_is_the_graphs_meaning(demo: ModuleType) -> None:
    (x, t), _ = demo.load_data(0)
    demo.start_again(0)
    feed = {demo.images: x[:64], demo.labels: t[:64]}
    updates = demo.optimizer.updates(demo.loss, demo.model.parameters())
    expected = sg.evaluate([demo.loss, *updates.values()], feed)
    step = demo.compile_step()
    np.testing.assert_allclose(step(x[:64], t[:64]), expected[0], rtol=1e-5)
    for variable, value in zip(updates, expected[1:], strict=True):
        np.testing.assert_allclose(variable.value, value, rtol=2e-4, atol=1e-6)


def test_start_again_forgets_everything(demo: ModuleType) -> None:
    (x, t), _ = demo.load_data(1)
    step = demo.compile_step()
    demo.start_again(3)
    first = [float(step(x[:64], t[:64])) for _ in range(5)]
    demo.start_again(3)
    assert [float(step(x[:64], t[:64])) for _ in range(5)] == first
    assert first == sorted(first, reverse=True)


def test_too_little_training_is_an_error(demo: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                         capsys: Any) -> None:
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "SEEDS", 1)
    monkeypatch.setattr(demo, "first_step_seconds", lambda device: [{"first step": 2.0, "imports": 0.1}] * 2)
    monkeypatch.setattr(sys, "argv", ["digits_mlp", "--svg", str(tmp_path / "step.svg")])
    assert demo.main() == 1
    assert "needed 0.965" in capsys.readouterr().out


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, str(SCRIPT)], cwd=tmp_path, env=environment(), capture_output=True, text=True,
                         check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    text = run.stdout
    accuracy = re.search(r"accuracy +(0\.\d+), the mean of 5 seeds", text)
    assert accuracy is not None and float(accuracy[1]) >= 0.965, text
    for pattern in (r"saved +13 arrays, [\d,]+ bytes", r"accuracy 0\.\d+, as before",
                    r"nodes +\d+ before", r"\d+ after fuse", r"kernels +\d+,", r"peak bytes [\d,]+ for",
                    r"first step \d+ ms cold, \d+ ms warm", r"a step +[\d.]+ microseconds"):
        assert re.search(pattern, text), (pattern, text)
    assert (tmp_path / "digits_mlp.svg").read_text().lstrip().startswith("<")
    assert "200/200" in run.stderr     # the progress bar
