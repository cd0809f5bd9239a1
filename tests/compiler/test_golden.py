"""Golden texts: each small graph at every level - graph by pass, kernel IR, source, program - as a file.

They are what a STATICGRAPH_DUMP writes, for a fixed target. The lines of the graphs in their file are left out.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import staticgraph as sg
from staticgraph import api
from staticgraph.compiler.pipeline import Compilation, compile_graph
from staticgraph.compiler.program import Kernel
from staticgraph.compiler.target import Target
from staticgraph.tensor import Tensor
from tests.compiler.graphs import GRAPHS
from tests.compiler.models import perceptron
from tests.conftest import GOLDEN

_LINES = re.compile(r" +\w+\.py:\d+.*$", re.MULTILINE)     # of other files too: equal nodes are one, whoever made them


def compiled(name: str, target: Target = Target()) -> Compilation:  # noqa: B008
    inputs, outputs, updates = GRAPHS[name]()
    flat, structure = api.flatten_outputs(outputs)
    compilation = Compilation(api.check_inputs(inputs), flat, api.check_updates(updates), target,
                              api.check_options(None), structure)
    compile_graph(compilation)
    return compilation


def levels(folder: Path, compilation: Compilation) -> str:
    """The dump as one text; passes that changed nothing are named only."""
    parts, last = [], ""
    for path in sorted(folder.glob("[0-9]*.txt")):
        text = _LINES.sub("", path.read_text().split("outputs:")[0])
        parts.append((path.stem[3:], "unchanged\n" if text == last else text))
        last = text
    program = compilation.program
    assert program is not None
    parts.append(("kernel ir", (folder / "kernels.ir.txt").read_text()))
    parts += [("source", kernel.text) for kernel in program.kernels]
    parts.append(("program", (folder / "program.txt").read_text()))
    return "\n".join(f"== {title}\n{text.rstrip()}\n" for title, text in parts)


@pytest.mark.parametrize("name", GRAPHS)
def test_golden(name: str, golden: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_DUMP", str(tmp_path))
    compilation = compiled(name)
    golden(f"{name}.txt", levels(tmp_path, compilation))


def cuda_levels(folder: Path, compilation: Compilation) -> str:
    """From the kernels on; the graph is that of the CPU."""
    program = compilation.program
    assert program is not None
    parts = [("kernel ir", (folder / "kernels.ir.txt").read_text())]
    parts += [("source", f"{kernel.text.rstrip()}\n\n{kernel.launch}") for kernel in program.kernels]
    parts.append(("program", (folder / "program.txt").read_text()))
    return "\n".join(f"== {title}\n{text.rstrip()}\n" for title, text in parts)


@pytest.mark.parametrize("name", GRAPHS)
def test_golden_cuda(name: str, golden: Callable[[str, str], None], tmp_path: Path,
                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICGRAPH_DUMP", str(tmp_path))
    compilation = compiled(name, Target(device="cuda", name="sm_90"))
    golden(f"{name}.cuda.txt", cuda_levels(tmp_path, compilation))


def test_no_golden_file_is_left_over() -> None:
    expected = {f"{name}{suffix}" for name in GRAPHS for suffix in (".txt", ".cuda.txt")}
    assert {path.name for path in GOLDEN.glob("*.txt")} == expected


def all_texts() -> str:
    """Everything that is emitted for all graphs and a training step, keys included."""
    texts = [f"{kernel.key} {kernel.text}" for name in GRAPHS for kernel in program_of(name)]
    inputs, loss, parameters = perceptron()
    updates = sg.optim.Adam().updates(loss, parameters)
    program = api.compile_only(inputs, loss, updates=updates).program
    assert program is not None
    texts += [f"{kernel.key} {kernel.text}" for kernel in program.kernels]
    return "\n".join([*texts, repr(program.steps), repr(program.buffers), repr(program.arena_bytes)])


def program_of(name: str) -> tuple[Kernel, ...]:
    program = compiled(name).program
    assert program is not None
    return program.kernels


def test_two_processes_emit_the_same_bytes() -> None:
    code = "from tests.compiler.test_golden import all_texts; import sys; sys.stdout.write(all_texts())"
    texts = []
    for seed in ("1", "4321"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        texts.append(subprocess.run([sys.executable, "-c", code], env=environment, cwd=GOLDEN.parent.parent,
                                    capture_output=True, text=True, check=True).stdout)
    assert texts[0] == texts[1] and texts[0].count("def ") > 30
    assert texts[0] == all_texts()


def named(prefix: str) -> tuple[list[Tensor], list[Tensor], dict[Tensor, Tensor]]:
    with sg.name_scope(f"{prefix}_scope"):
        x = sg.placeholder(f"{prefix}_x", (f"{prefix}_n", 6))
        t = sg.placeholder(f"{prefix}_t", (f"{prefix}_n",), "int64")
        w = sg.variable(np.eye(6, dtype="float32"), f"{prefix}_w")
        loss = sg.mean(sg.nn.cross_entropy(sg.take(x, t, 0) @ w, t))
    return [x, t], [loss], {w: w - 0.1 * sg.grad(loss, w)}


def test_sources_hold_no_names_and_no_lines() -> None:
    programs = []
    for prefix in ("secret", "another"):
        inputs, outputs, updates = named(prefix)
        program = api.compile_only(inputs, outputs, updates=updates).program
        assert program is not None
        programs.append(program)
        for kernel in program.kernels:
            assert prefix not in kernel.text and prefix not in kernel.name and ".py" not in kernel.text
            assert kernel.key == hashlib.sha256(kernel.text.encode()).hexdigest()
    assert programs[0].kernels == programs[1].kernels
    step = sg.compile(inputs, outputs, updates=updates)
    assert "another_scope" in step.source() and "test_golden.py" in step.source()
