"""The curve of CS4787: importing builds the graph, training it gives losses that are known, and a picture."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from tests.examples.scripts import environment, loaded

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "curve_fit.py"
pytest.importorskip("tqdm")


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], cwd=cwd, env=environment(), capture_output=True,
                          text=True, check=False)


def test_import_builds_the_graph_and_nothing_else(tmp_path: Path) -> None:
    code = (f"import runpy, sys; names = runpy.run_path({str(SCRIPT)!r}); assert names['loss'].shape == ()\n"
            "assert not {'numba', 'tqdm', 'matplotlib'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_it_learns_the_curve_to_the_known_losses(tmp_path: Path) -> None:
    """Ten thousand steps, without a display; matplotlib may be missing."""
    done = run(cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "first losses 1877.1883 240.60315 115.66828 63.458554 10.816922" in done.stdout
    assert "train 0.03714" in done.stdout and "test 0.04149" in done.stdout and "10000/10000" in done.stderr
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "curve_fit.png").read_bytes().startswith(b"\x89PNG")
    else:
        assert "no picture: matplotlib is not installed (pip install" in done.stdout


def test_other_losses_than_the_known_ones_are_told_apart() -> None:
    script = loaded(SCRIPT)
    first, final = list(script.FIRST), dict(script.FINAL)
    assert script.as_expected(first, final)
    assert not script.as_expected([first[0] * (1 + 1e-8), *first[1:]], final)
    assert not script.as_expected(first, {**final, "test": final["test"] * 1.0001})


def test_a_step_is_the_graphs_meaning() -> None:
    script: Any = loaded(SCRIPT)
    state = np.random.RandomState(0)
    points, values = script.noisy_points(state)
    script.start(state)
    feed = {script.x: points[:, :8], script.y: values[:, :8]}
    expected = sg.evaluate([script.loss, *script.updates.values()], feed)
    step = sg.compile([script.x, script.y], script.loss, updates=script.updates)
    np.testing.assert_allclose(step(*feed.values()), expected[0], rtol=1e-12)
    for variable, value in zip(script.updates, expected[1:], strict=True):
        np.testing.assert_allclose(variable.value, value, rtol=1e-10, atol=1e-12)


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_pictures_in_other_formats(tmp_path: Path) -> None:
    done = run("--steps", "100", "--plot", "fit.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "<svg" in (tmp_path / "fit.svg").read_text()[:1000]
