"""``staticgraph doctor --math``: errors are counted as they should be, and a wrong function is found."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from staticgraph.cli import main
from staticgraph.doctor import accuracy

INF, NAN = math.inf, math.nan


def test_units_in_the_last_place() -> None:
    got = np.array([1.0, 1.0, 2.0**-149, INF, INF, 0.0], np.float32)
    want = np.array([1.0 + 2.0**-23, 1.0 - 2.0**-25, 2.0**-150, 3.5e38, 2.0**128 - 2.0**104, 2.0**-150])
    with np.errstate(all="ignore"):
        errors, wrong = accuracy.units(got, want)
    np.testing.assert_allclose(errors, [1, 0.25, 0.5, 0, 1, 0.5])
    assert wrong is not None and not wrong.any()


def test_results_of_the_wrong_kind() -> None:
    got = np.array([NAN, 1.0, 0.0, -0.0, NAN], np.float32)
    with np.errstate(all="ignore"):
        _, wrong = accuracy.units(got, np.array([1.0, NAN, -0.0, 0.0, NAN]))
    assert wrong is not None and wrong.tolist() == [True, True, True, True, False]
    assert accuracy.exact_error("sin", -0.0, [1e-300]) is None
    assert accuracy.exact_error("log", 1.0, [-1.0]) is None
    assert accuracy.exact_error("log", NAN, [-1.0]) == 0
    assert accuracy.exact_error("exp", math.nextafter(math.e, 3), [1.0]) == pytest.approx(1, abs=0.5)


def test_all_patterns_come_once() -> None:
    chunks = accuracy.patterns(accuracy.EVERY)
    first = next(chunks)[0]
    assert first.dtype == np.float32 and first.size == accuracy.CHUNK
    assert next(chunks)[0].view(np.uint32)[0] == accuracy.CHUNK
    some = np.concatenate([x.view(np.uint32) for (x,) in accuracy.patterns(1000)])
    assert 990 <= some.size <= 1001 and some[-1] > 0.99 * 2**32


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "math.json"
    assert main(["doctor", "--math", "exp,pow", "--samples", "3000", "--json", str(file)]) == 0
    assert "all within the limit" in capsys.readouterr().out
    rows = json.loads(file.read_text())["functions"]
    assert [(row["function"], row["dtype"]) for row in rows] == [
        (name, dtype) for name in ("exp", "pow") for dtype in ("float32", "float64")]
    assert all(0.3 < row["worst"] <= 2 and row["wrong"] == 0 for row in rows)


def test_a_wrong_function_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(accuracy, "compiled", lambda name, dtype: lambda x: np.tanh(x) * x.dtype.type(1.0000005))
    assert main(["doctor", "--math", "tanh", "--samples", "3000"]) == 1
    assert "SOMETHING IS WRONG" in capsys.readouterr().out


def test_unknown_functions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--math", "exponential"]) == 2
    assert "there is no function exponential" in capsys.readouterr().err
