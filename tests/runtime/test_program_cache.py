"""The program cache: a known graph is not compiled again, and nothing that lies in the folder can hurt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph import api
from staticgraph.api import compile_only
from staticgraph.compiler import graph_key, program_text
from staticgraph.compiler.program import Program
from staticgraph.compiler.target import Target
from staticgraph.runtime import cache

ROOT = Path(__file__).resolve().parent.parent.parent

SCRIPT = '''
import sys
import numpy as np
import staticgraph as sg

def model():
    x, t = sg.placeholder("x", ("n", 4)), sg.placeholder("t", ("n",), "int64")
    w = sg.variable(np.full((4, 3), 0.5, "float32"), name="w")
    loss = sg.mean(sg.nn.cross_entropy(x @ w, t))
    return sg.compile([x, t], {"loss": loss}, updates={w: w - sg.grad(loss, w)}), w

step, w = model()
loss = step(np.ones((5, 4), "float32"), np.arange(5) % 3)["loss"]
try:
    step(np.ones((5, 4), "float32"), np.full(5, 7))
except sg.StaticGraphError as error:
    print(str(error).splitlines()[-1].split()[-1])
print(repr(float(loss)), float(w.value.sum()), len(step.program.passes))
print(sorted({line for note in step.program.notes for line in note.lines}))
print("numba" in sys.modules, "staticgraph.compiler.pipeline" in sys.modules)
print(step.explain().splitlines()[1])
'''


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[cache.Cache]:
    """An empty cache that is used: the passes are not verified."""
    monkeypatch.setenv("STATICGRAPH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("STATICGRAPH_VERIFY")
    yield cache.current()


def run(script: Path, folder: Path) -> list[str]:
    environment = {**os.environ, "STATICGRAPH_CACHE_DIR": str(folder), "STATICGRAPH_VERIFY": "0",
                   "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_second_process_runs_no_pass_and_knows_the_lines(tmp_path: Path) -> None:
    script = tmp_path / "model.py"
    script.write_text(SCRIPT)
    place, values, lines, modules, account = run(script, tmp_path / "cache")
    assert values.split()[-1] != "0" and modules.split()[-1] == "True"
    assert "compiled in" in account and account.endswith("because: no entry")
    script.write_text("\n\n\n" + SCRIPT)     # every line has moved by three
    moved, again, moved_lines, modules, account = run(script, tmp_path / "cache")
    assert modules == "False False" and account.startswith("program: from the cache in")
    assert again.split() == [*values.split()[:2], "0"]
    shifted = {f"model.py:{int(line.split(':')[1]) + 3}" for line in eval(lines)}
    assert set(eval(moved_lines)) == shifted and len(shifted) >= 2
    assert int(moved.split(":")[1]) == int(place.split(":")[1]) + 3


def models() -> dict[str, Callable[[], tuple[Any, ...]]]:
    """(inputs, outputs, updates) of graphs that use all that a program can hold."""
    def sizes() -> tuple[Any, ...]:
        x, y = sg.placeholder("x", ("n", None)), sg.placeholder("y", ("m", 3))
        return [x, y], [sg.reshape(x, (-1,))[1:], sg.concat([y, y]), x.shape[0] * sg.sum(x) / 7, sg.max(y, axis=0)], {}

    def state() -> tuple[Any, ...]:
        a, b = sg.variable(np.arange(3.0), name="a"), sg.variable(np.arange(3.0) + 5, name="b")
        noise = sg.random.generator(3).normal((4,))
        return [], {"sum": a + b, "noise": noise}, {b: a, a: b * 2}

    def arrays() -> tuple[Any, ...]:
        x, i = sg.placeholder("x", ("n", 8), "float64"), sg.placeholder("i", ("n",), "int32")
        table = sg.constant(np.arange(40, dtype="float64").reshape(5, 8))
        return [x, i], (x @ table.T, sg.take(table, i, axis=0), sg.sort(x), x, sg.nn.softmax(x)), {}

    return {"sizes": sizes, "state": state, "arrays": arrays}


@pytest.mark.parametrize("name", models())
def test_programs_survive_their_text(name: str) -> None:
    inputs, outputs, updates = models()[name]()
    compilation = compile_only(inputs, outputs, updates=updates)
    assert compilation.program is not None
    lines = sorted({line for note in compilation.program.notes for line in note.lines})
    text, content = program_text.write(compilation.program, lines, [1, 0])
    assert not any(line in text for line in lines)
    program, variables = program_text.read(text, content, lines, compilation.program.structure)
    assert variables == [1, 0] and program.passes == ()
    for field in Program.__dataclass_fields__:
        if field not in ("passes", "constants"):
            assert getattr(program, field) == getattr(compilation.program, field), field
    for one, other in zip(program.constants, compilation.program.constants, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    later = [line + "0" for line in lines]
    assert set(later) >= {line for note in program_text.read(text, content, later, ("tensor",))[0].notes
                          for line in note.lines}


def test_what_comes_from_the_cache_works_like_what_was_compiled(store: cache.Cache) -> None:
    for make in models().values():
        results = []
        for _ in range(2):
            inputs, outputs, updates = make()
            function = sg.compile(inputs, outputs, updates=updates)
            draw = np.random.default_rng(0)
            sizes = {"n": 4, "m": 5, "?": 6}
            arrays = [draw.integers(0, 5, [sizes[str(size)[0]] if not isinstance(size, int) else size
                                           for size in node.shape]).astype(node.dtype) for node in inputs]
            function(*arrays)
            results.append((function(*arrays), type(function(*arrays)), function.account))
        (first, kind, compiled), (second, same_kind, recalled) = results
        assert compiled.startswith("compiled") and kind is same_kind
        assert recalled.startswith("from the cache")
        for one, other in zip(*(each.values() if isinstance(each, dict) else each for each in (first, second))):
            np.testing.assert_array_equal(one, other, strict=True)
    assert store.info().programs >= len(models())


def key_of(build: Callable[[], Any], options: Any = None, target: Target | None = None) -> str:
    inputs, outputs, updates = build()
    return graph_key.graph_key(inputs, outputs, updates, target or Target(), options or {"stabilise": True},
                               [str(number) for number in range(len(outputs))], "list").digest


def simple(name: str = "x", size: Any = "n", dtype: str = "float32", constant: Any = 0.0, axis: int = 0,
           op: Any = sg.exp, label: str = "", scope: str = "s", twice: bool = False,
           update: bool = False) -> Callable[[], Any]:
    def build() -> Any:
        with sg.name_scope(scope):
            x = sg.placeholder(name, (size, 3), dtype)
            state = sg.variable(np.zeros(3), name=f"state{label}")
            y = sg.sum(op(x) * sg.constant(np.asarray([constant, 1, 2], dtype)), axis=axis)
        return [x], [y, y] if twice else [y], {state: state + 1} if update else {}
    return build


def test_the_key_tells_graphs_apart() -> None:
    variants = [simple(), simple(name="z"), simple(size="m"), simple(size=4), simple(dtype="float64"),
                simple(constant=-0.0), simple(constant=0.5), simple(axis=1), simple(op=sg.log), simple(scope="t"),
                simple(twice=True), simple(update=True), simple(update=True, label="2")]
    keys = [key_of(each) for each in variants]
    keys += [key_of(simple(), {"stabilise": False}), key_of(simple(), target=Target(vector_bytes=128)),
             key_of(simple(), target=Target(name="other"))]
    assert len(set(keys)) == len(keys)
    assert [key_of(each) for each in variants] == keys[:len(variants)]


def test_sizes_without_a_name_are_numbered_by_the_graph() -> None:
    """Not by the process: a graph that is built again is known."""
    def key(first: bool) -> str:
        a, b = sg.placeholder("a", (None, 3)), sg.placeholder("b", (None,))
        mean = sg.sum(a, axis=1) + sg.sum(b) / (a if first else b).shape[0]
        return key_of(lambda: ([a, b], [mean], {}))

    assert key(True) == key(True) != key(False) == key(False)


def test_the_key_holds_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    language = {path.relative_to(ROOT).as_posix().removeprefix("staticgraph/") for path
                in map(Path, graph_key._sources(ROOT / "staticgraph"))}
    assert {"op.py", "ops/elementwise.py", "rewrite/stability.py", "nn/layers.py", "optim/optimizers.py"} <= language
    assert not any(name.startswith(("viz/", "compiler/", "runtime/", "cli")) for name in language)
    compiler = {path.relative_to(ROOT / "compiler").as_posix() for path
                in map(Path, graph_key._sources(ROOT / "compiler"))}
    assert {"pipeline.py", "render/cpu.py"} <= compiler
    monkeypatch.setattr(graph_key.os, "listdir", lambda folder: (_ for _ in ()).throw(NotADirectoryError("a zip")))
    with pytest.raises(graph_key.Unkeyed, match="sources cannot be read: a zip"):
        graph_key.fingerprint.__wrapped__()


def test_who_has_no_key(store: cache.Cache) -> None:
    cube = sg.primitive("cube_of_mine", ref=lambda x: x * x * x, scalar="{0} * {0} * {0}")
    x = sg.placeholder("x", ("n",), "float64")
    function = sg.compile([x], cube(x))
    assert function(np.array([2.0])).tolist() == [8.0] and "an op of your own" in function.account
    named = sg.placeholder("x", ("n",), "float64")
    with sg.name_scope(str(named.location)):
        y = named + 1
    assert "holds a line" in sg.compile([named], y).account
    assert store.info().programs == 0


def test_who_looks_at_passes_sees_them(store: cache.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    build = simple()
    inputs, outputs, _ = build()
    sg.compile(inputs, outputs)
    monkeypatch.setenv("STATICGRAPH_VERIFY", "1")
    function = sg.compile(inputs, outputs)
    assert function.program.passes and "STATICGRAPH_VERIFY is set" in function.account


def test_bad_entries_are_misses(store: cache.Cache) -> None:
    inputs, outputs, _ = simple()()
    sg.compile(inputs, outputs)
    assert store.folder is not None
    (entry,) = store.folder.glob("p_*.program")
    key, whole = entry.stem[2:], entry.read_bytes()
    text, content = store.read_program(key)
    assert sg.compile(inputs, outputs).account.startswith("from the cache")
    for damaged in (b"", whole[:50], whole[:-1], whole[:100] + b"x" + whole[101:]):
        entry.write_bytes(damaged)
        assert sg.compile(inputs, outputs).account.startswith("compiled")
    told = json.loads(text)
    hostile: list[Any] = [[], {}, {**told, "format": 99}, {**told, "variables": [7]}, {**told, "sizes": []},
                          {**told, "program": {"is": "eval", "of": ["1"]}}, {**told, "program": 3},
                          {**told, "arrays": [["|O", [1], 0]]}, {**told, "arrays": [["<f8", [10**9], 0]]},
                          {**told, "sizes": [[[1, [["exec", "n", []]]]]]},
                          {**told, "program": {"is": "Program", "of": ["cpu"]}}]
    for each in hostile:     # with checksums that are right: somebody, or an older version, wrote them
        store.write_program(key, json.dumps(each), content)
        function = sg.compile(inputs, outputs)
        assert function.account.startswith("compiled"), each
        assert function(np.zeros((2, 3), "float32"))[0].tolist() == [0.0, 2.0, 4.0]


@pytest.mark.parametrize("numbers", [[], [-1], [0, 0], [7]])
def test_variables_that_are_not_the_programs_are_a_miss(numbers: list[int], store: cache.Cache) -> None:
    x, state = sg.placeholder("x", ("n",)), sg.variable(np.ones(3, "float32"), name="state")
    sg.compile([x], state * sg.sum(x))
    assert store.folder is not None
    (entry,) = store.folder.glob("p_*.program")
    text, content = store.read_program(entry.stem[2:])
    store.write_program(entry.stem[2:], json.dumps({**json.loads(text), "variables": numbers}), content)
    function = sg.compile([x], state * sg.sum(x))
    assert function.account.startswith("compiled")
    assert function(np.ones(2, "float32")).tolist() == [2, 2, 2]


def test_clear_and_info_know_programs(store: cache.Cache) -> None:
    inputs, outputs, _ = simple()()
    sg.compile(inputs, outputs)
    before = cache.info()
    assert before.programs == 1
    assert cache.clear() == before.programs + before.entries
    assert cache.info().programs == 0


def test_requests_are_checked_before_the_cache(store: cache.Cache) -> None:
    x, y = sg.placeholder("x", (3,)), sg.placeholder("y", (3,))
    for _ in range(2):
        with pytest.raises(sg.ArgumentError, match="is needed but is not among the inputs"):
            sg.compile([x], x + y)
    assert api._why_not_recalled() == ""
