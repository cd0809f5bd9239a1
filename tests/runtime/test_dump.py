"""Dumps: scripts that run without this package, and compute the same bits."""

from __future__ import annotations

import ast
import builtins
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import staticgraph as sg
from staticgraph.api import compile_only
from staticgraph.errors import ArgumentError, OutOfRangeError, ShapeError
from staticgraph.runtime.cpu.language import NAMES
from staticgraph.runtime.dump.formulas import comment, formula, literal, plain_name, symbol_names
from staticgraph.runtime.dump.gather import Gatherer
from staticgraph.runtime.dump.kernel_files import HARNESS
from staticgraph.runtime.dump.leaves import Leaves, split_text
from staticgraph.runtime.dump.sources import Target, _References
from staticgraph.runtime.dump.write import write_dump
from staticgraph.types import Dim, floor_divide, maximum_size, minimum_size, modulo
from tests.compiler.graphs import GRAPHS

ALONE = """
import runpy, sys, traceback
sys.modules["staticgraph"] = None     # importing it is an error
bad = 0
for path in sys.argv[1:]:
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        bad += bool(end.code)
    except BaseException:
        traceback.print_exc()
        bad += 1
sys.exit(bad)
"""


def run_alone(*scripts: Path, cwd: Path | None = None) -> str:
    """Run scripts in one isolated interpreter that has no staticgraph; all must succeed."""
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, *map(str, scripts)], capture_output=True, text=True,
                          cwd=cwd, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    return done.stdout


def scripts_of(folder: Path) -> list[Path]:
    return [*sorted((folder / "kernels").glob("*.py")), folder / "main.py"]


def bits(arrays: Sequence[np.ndarray[Any, Any]]) -> list[bytes]:
    return [np.ascontiguousarray(each).tobytes() for each in arrays]


class Model:
    """Products in a chain, a softmax with a check, sums over columns, random numbers, updates."""

    def __init__(self) -> None:
        random = np.random.default_rng(3)
        self.x = sg.placeholder("x", ("n", 20))
        self.t = sg.placeholder("t", ("n",), "int64")
        self.w = sg.variable(random.standard_normal((20, 16)).astype("float32"), name="w")
        self.v = sg.variable(random.standard_normal((16, 5)).astype("float32"), name="v")
        self.b = sg.variable(np.zeros(16, "float32"), name="b")
        hidden = sg.tanh(self.x @ self.w + self.b)
        loss = sg.mean(sg.nn.cross_entropy(hidden @ self.v, self.t))
        parameters = [self.w, self.v, self.b]
        updates = {each: each - 0.1 * slope for each, slope in zip(parameters, sg.grad(loss, parameters))}
        noise = sg.random.Generator(7).normal((self.x.shape[0],))
        self.step = sg.compile([self.x, self.t], {"loss": loss, "noise": noise, "x": self.x}, updates=updates)

    def inputs(self, rows: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        random = np.random.default_rng(seed)
        return random.standard_normal((rows, 20)).astype("float32"), random.integers(0, 5, rows)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dumps") / "step"
    before = bits([model.w.value, model.v.value, model.b.value])
    x, t = model.inputs(40)
    model.step.dump(folder, x, t=t)
    assert bits([model.w.value, model.v.value, model.b.value]) == before
    return folder


def test_scripts_of_a_training_step_compute_the_same_bits_without_the_package(folder: Path, model: Model) -> None:
    told = run_alone(*scripts_of(folder))
    steps = sum(line.startswith("  step ") for line in told.splitlines())
    written = sum(spec.written for spec in model.step.program.variables)
    assert steps >= len(model.step.program.kernels) and told.count("the same bits") == steps + 3 + written
    assert "GB/s" in told and "GFlop/s" in told and "compiled by Numba" not in told


def test_a_script_runs_by_itself_and_by_numba(folder: Path) -> None:
    (script,) = (folder / "kernels").glob("*tanh*.py")
    for arguments in ([], ["--numba"]):
        done = subprocess.run([sys.executable, "-I", script, *arguments], capture_output=True, text=True, cwd="/")
        assert done.returncode == 0 and "the same bits" in done.stdout, done.stdout + done.stderr


def test_a_script_holds_the_kernel_as_it_is_compiled_and_says_what_for(folder: Path, model: Model) -> None:
    for number, kernel in enumerate(model.step.program.kernels):
        text = next((folder / "kernels").glob(f"{number:02d}_*.py")).read_text()
        assert split_text(kernel.text)[1] in text and "import staticgraph" not in text
        assert "test_dump.py:" in text.partition("from __future__")[0]
        assert len(text.splitlines()) < 2200


def test_main_is_a_module_for_other_sizes_that_keeps_its_state(folder: Path, model: Model,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    sys.modules.pop("main", None)
    main = importlib.import_module("main")
    try:
        for rows, seed in ((40, 0), (7, 1), (1, 2), (0, 4), (300, 3)):
            x, t = model.inputs(rows, seed)
            got, wanted = main.run(x, t=t), model.step(x, t)
            assert list(got) == list(wanted) and bits(list(got.values())) == bits(list(wanted.values()))
        state = dict(main.state())
        assert bits([state["w"], state["v"], state["b"]]) == bits([model.w.value, model.v.value, model.b.value])
        x, t = model.inputs(4)
        before = bits([array for _, array in main.state()])
        with pytest.raises(IndexError, match="index 9 is out of range"):
            main.run(x, np.array([0, 1, 9, 2]))
        for wrong in ((x, t[:3]), (x[:, :3], t), (x[0], t)):
            with pytest.raises(ValueError, match="has the shape"):
                main.run(*wrong)
        for arguments, named in (((x,), {}), ((x, t, t), {}), ((x,), {"u": t}), ((x.astype("float64"), t), {})):
            with pytest.raises(TypeError, match="input"):
                main.run(*arguments, **named)
        assert bits([array for _, array in main.state()]) == before
    finally:
        for name in [name for name in sys.modules if name == "main" or name.startswith("main_kernel_")]:
            del sys.modules[name]


@pytest.mark.parametrize("script", ["main.py", "kernels"])
def test_a_wrong_result_is_an_exit_status_of_1_and_says_by_how_much(folder: Path, script: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    file, path = copy / "outputs.npz", copy / "main.py"
    if script == "kernels":
        file = next((copy / "kernels").glob("*tanh*.npz"))
        path = file.with_suffix(".py")
    with np.load(file) as data:
        arrays = dict(data)
    name = "array0" if script == "main.py" else next(name for name in arrays if "after" in name)
    arrays[name] = arrays[name] + np.float32(0.5)
    np.savez(file, **arrays)
    done = subprocess.run([sys.executable, "-I", path], capture_output=True, text=True)
    assert done.returncode == 1 and "WRONG" in done.stdout and "differ, by 0.5" in done.stdout, done.stderr


def test_results_that_are_views_have_their_own_shapes_and_lists_lose_nothing(tmp_path: Path) -> None:
    x, i = sg.placeholder("x", ("n", 3)), sg.placeholder("i", ("m",), "int32")
    w = sg.variable(np.arange(6, dtype="float32").reshape(2, 3), name="w")
    compiled = sg.compile([x, i], (sg.reshape(x, (-1,)), sg.reshape(w, (3, 2)), i, sg.reshape(i * 2, (1, -1))))
    dump = tmp_path / "dump"
    compiled.dump(dump, np.ones((4, 3), "float32"), [5, 6])
    code = (f"import sys; sys.modules['staticgraph'] = None; sys.path.insert(0, {str(dump)!r})\n"
            "import main\nprint([each.shape for each in main.run([[1, 2.5, True]], [])])\n"
            "for wrong in ([0.7], ['a'], [2**40]):\n    try:\n        print(main.run([[1, 2, 3]], wrong))\n"
            "    except (TypeError, OverflowError) as error:\n        print('refused', error)\n")
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("[(3,), (3, 2), (0,), (1, 0)]") and done.stdout.count("refused") == 3, done.stderr
    with np.load(dump / "outputs.npz") as data:
        arrays = dict(data)
    for kept in ({**arrays, "array0": arrays["array0"].reshape(4, 3)}, {"array0": arrays["array0"]}):
        np.savez(dump / "outputs.npz", **kept)
        done = subprocess.run([sys.executable, "-I", dump / "main.py"], capture_output=True, text=True)
        assert done.returncode == 1 and "WRONG" in done.stdout, done.stderr


def test_graphs_of_all_kinds(tmp_path: Path) -> None:
    """Sums that may be added up in any order, indices, sorts, convolutions, swaps, views, integers."""
    scripts = []
    for name in ("column_sums", "gather_and_scatter", "convolution_and_pooling", "sort", "swap", "views",
                 "mixed_dtypes", "long_row_sums"):
        inputs, outputs, updates = GRAPHS[name]()
        sg.compile(inputs, outputs, updates=updates).dump(tmp_path / name)
        scripts += scripts_of(tmp_path / name)
    told = run_alone(*scripts)
    assert "WRONG" not in told and told.count("the same bits") > len(scripts)


def test_sizes_that_are_formulas_or_have_no_name(tmp_path: Path) -> None:
    n = sg.Dim("n")
    x, y = sg.placeholder("x", (2 * n + 1, None)), sg.placeholder("y", (None, 3))
    compiled = sg.compile([x, y], [sg.sum(x, axis=1)[1:], sg.flip(y.T), sg.concat([x, x], axis=1)])
    compiled.dump(tmp_path / "dump", np.ones((5, 4), "float32"), np.ones((2, 3), "float32"))
    run_alone(*scripts_of(tmp_path / "dump"))
    arrays = [np.arange(21, dtype="float32").reshape(7, 3), np.arange(12, dtype="float32").reshape(4, 3)]
    np.savez(tmp_path / "given.npz", x=arrays[0], y=arrays[1])
    code = (f"import sys; sys.modules['staticgraph'] = None; sys.path.insert(0, {str(tmp_path / 'dump')!r})\n"
            f"import main, numpy as np\ngiven = dict(np.load({str(tmp_path / 'given.npz')!r}))\n"
            f"np.savez({str(tmp_path / 'got.npz')!r}, *main.run(**given))\nmain.run(given['x'][:6], given['y'])")
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert "no size makes a dimension 6" in done.stderr
    with np.load(tmp_path / "got.npz") as got:
        assert bits(list(got.values())) == bits(compiled(*arrays))


def test_checks_assertions_and_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = sg.placeholder("x", ("n", 3))
    y = sg.debug_print(sg.log(x), "logarithm")
    compiled = sg.compile([x], sg.sum(y), options={"check": "nan"})
    compiled.dump(tmp_path / "dump", np.ones((2, 3), "float32"))
    code = (f"import sys; sys.modules['staticgraph'] = None; sys.path.insert(0, {str(tmp_path / 'dump')!r}); "
            "import main; print(main.run([[1.0, 2, 3]])); main.run([[1.0, 2, 3], [4, -5, 6]])")
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "logarithm: float32[1, 3]" in done.stdout and "1.79" in done.stdout
    assert "FloatingPointError" in done.stderr and "nan" in done.stderr


# What users may call things.

HOSTILE = ('\'"""\\\n__import__("pathlib").Path("mark").touch()\n# coding: utf-7\r\u2028\x0c\u202e\x00{value}{0}%s'
           "</script>]]>\ud800")


class Key(str):
    """A key of results whose text as Python would leave a mark."""

    def __repr__(self) -> str:
        return '__import__("pathlib").Path("mark").touch()'


def test_no_name_of_a_user_is_run(tmp_path: Path) -> None:
    x, i = sg.placeholder(f"{HOSTILE}x", ("n", 4)), sg.placeholder(f"{HOSTILE}i", ("n",), "int64")
    w = sg.variable(np.ones((4, 4), "float32"), name=HOSTILE)
    file = "/tmp/we\"ird\n'''#\u2029name.py"
    space: dict[str, Any] = {"sg": sg, "x": x, "i": i, "w": w, "HOSTILE": HOSTILE}
    exec(compile("with sg.name_scope(HOSTILE):\n    y = sg.take(sg.tanh(x @ w), i, axis=0)", file, "exec"), space)
    outputs = {HOSTILE: space["y"], Key("key"): sg.sum(space["y"]), 3: x, (1, None): w}
    compiled = sg.compile([x, i], outputs, updates={w: w + 1})
    compiled.dump(tmp_path / "dump")
    run_alone(*scripts_of(tmp_path / "dump"), cwd=tmp_path)
    assert not list(tmp_path.rglob("mark"))
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'dump')!r}); import main; import numpy as np; " \
           "r = main.run(np.ones((2, 4), 'float32'), [0, 1]); print([ascii(each) for each in r])"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.strip() == str([ascii(HOSTILE), "'key'", "3", "(1, None)"]), done.stderr
    assert not list(tmp_path.rglob("mark"))


def test_literals_are_python_for_nothing_but_values() -> None:
    for value in (None, True, -3, 0.1, "a\n'\"\\", (1, ("x",)), ()):
        assert ast.literal_eval(literal(value)) == value
    assert literal(float("-inf")) == "float('-inf')" and literal(Key("key")) == "'key'"
    for text in (HOSTILE, "a\nb", "\x00", "\ud800"):
        shown = comment(text)
        assert shown.isprintable() and "\n" not in shown
        shown.encode()
    assert plain_name("../a b\n\u00e9") == "___a_b__" and plain_name("") == "kernel"


def test_formulas_are_those_of_the_sizes() -> None:
    n, m, taken = Dim("n"), Dim("m"), Dim("max")
    odd = Dim.symbol("__import__('os')")
    sizes = [n, n * 3 + 1, n * m - 2 * n, floor_divide(n + 3, 4) * 64, floor_divide(n, m), modulo(n, m), modulo(n, 7),
             maximum_size(n, m) - minimum_size(m, 4), taken * 2, odd + taken, -n]
    names = symbol_names(sizes)
    assert names["n"] == "n" and all(name.isidentifier() for name in names.values()) and "max" not in names.values()
    harness = {"divide": lambda a, b: a // b if b else 0, "remainder": lambda a, b: a % b if b else 0}
    for n_, m_ in ((0, 0), (5, 0), (7, 3), (64, 10)):
        values = {"n": n_, "m": m_, "max": 2, "__import__('os')": 9}
        for size in sizes:
            scope = {**harness, **{names[symbol]: value for symbol, value in values.items()}}
            assert eval(formula(size, names), scope) == size.evaluate(values)


# Sources.

def free_names(text: str) -> set[str]:
    """The names of a text that nothing in it binds."""
    tree = ast.parse(text)
    walker = _References()
    for statement in tree.body:
        walker.visit(statement)
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {alias.asname or alias.name.partition(".")[0] for node in ast.walk(tree)
              if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
    return {place.name for place in walker.found} - bound


def test_every_function_of_the_kernel_language_can_be_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    gatherer = Gatherer(NAMES)
    gatherer.add(Target(HARNESS, "main"))
    leaves = Leaves(gatherer, {name: name for name in NAMES})
    gathered = gatherer.text()
    body = "\n".join([*gathered.imports, *(section.text for section in gathered.sections), *leaves.lines(gathered)])
    text = "from __future__ import annotations\n" + body
    unknown = free_names(text) - set(dir(builtins))
    assert not unknown
    # a leaf that is called like a builtin must not stand in the way of text that means the builtin
    assert not {name for section in gathered.sections for name in free_names(section.text)} & set(NAMES) & set(
        dir(builtins))
    module = ModuleType("written_out")
    monkeypatch.setitem(sys.modules, module.__name__, module)     # dataclasses look it up
    exec(compile(text, "<leaves>", "exec"), vars(module))
    for name, value in NAMES.items():
        written = getattr(module, name)
        assert type(written) is type(value) and getattr(written, "__doc__", "") == getattr(value, "__doc__", "")


def test_two_definitions_of_one_name_get_two_names() -> None:
    gatherer = Gatherer({"exp"})
    leaves = Leaves(gatherer, {"exp": "exp", "power": "power"})
    gathered = gatherer.text()
    names = list(gathered.names.values())
    assert len(names) == len(set(names)) and "exp" not in names
    assert gathered.names[Target("staticgraph.runtime.mathematics.vector_math", "exp")] == "vector_math_exp"
    assert any(line.startswith("exp = function('exp', vector_math_exp, 1") for line in leaves.lines(gathered))


def test_what_is_not_there_cannot_be_gathered() -> None:
    with pytest.raises(LookupError, match="'nothing' is not defined"):
        Gatherer().add(Target("staticgraph.runtime.mathematics.emit", "nothing"))


# The folder.

def test_a_dump_appears_whole_or_not_at_all(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    x, t = model.inputs(4)
    before = bits([model.w.value, model.v.value, model.b.value])
    with pytest.raises(OutOfRangeError, match="out of range"):
        model.step.dump(tmp_path / "a", x, np.array([0, 1, 9, 2]))
    with pytest.raises(ShapeError):
        model.step.dump(tmp_path / "a", x, t[:2])
    with pytest.raises(ArgumentError, match="missing input 't'"):
        model.step.dump(tmp_path / "a", x)
    with pytest.raises(ArgumentError, match="there is no folder"):
        model.step.dump(tmp_path / "no" / "a", x, t)

    def broken(*_: Any) -> Any:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("staticgraph.runtime.dump.write.main_script", broken)
        with pytest.raises(OSError, match="full"):
            model.step.dump(tmp_path / "a", x, t)
    assert not list(tmp_path.iterdir()) and bits([model.w.value, model.v.value, model.b.value]) == before


def test_only_dumps_are_replaced_and_only_when_told(tmp_path: Path) -> None:
    x = sg.placeholder("x", (3,))
    compiled = sg.compile([x], x + 1)
    for name in ("empty", "mine", "quoting"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine\n")
    (tmp_path / "quoting" / "README.md").write_text("# about\n<!-- made by staticgraph dump -->\n")
    (tmp_path / "file").write_text("mine")
    compiled.dump(tmp_path / "dump")
    (tmp_path / "dump" / "stale").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "dump")
    for name in ("empty", "mine", "quoting", "file", "link"):
        with pytest.raises(ArgumentError, match="is no dump"):
            compiled.dump(tmp_path / name, overwrite=True)
    with pytest.raises(ArgumentError, match="overwrite=True"):
        compiled.dump(str(tmp_path / "dump"))
    compiled.dump(tmp_path / "dump", overwrite=True)
    assert not (tmp_path / "dump" / "stale").exists() and (tmp_path / "mine" / "README.md").read_text() == "mine\n"
    assert os.stat(tmp_path / "dump").st_mode & 0o444 and len(list(tmp_path.iterdir())) == 6


def test_without_inputs_they_are_made_up_and_the_levels_are_there(tmp_path: Path) -> None:
    x, t = sg.placeholder("x", ("n", 3)), sg.placeholder("t", ("n",), "bool")
    compiled = sg.compile([x, t], sg.where(t, sg.sum(x, axis=1), 0.0))
    compiled.dump(tmp_path / "dump")
    names = {str(path.relative_to(tmp_path / "dump")) for path in (tmp_path / "dump").rglob("*")}
    assert {"main.py", "README.md", "graph.txt", "graph.svg", "graph.html", "graph.json", "explain.txt", "source.py",
            "passes/schedule.txt", "passes/kernels.ir.txt", "passes/program.txt", "inputs.npz"} <= names
    with np.load(tmp_path / "dump" / "inputs.npz", allow_pickle=False) as data:
        assert data["array0"].shape == (64, 3) and data["array1"].dtype == np.bool_
    readme = (tmp_path / "dump" / "README.md").read_text()
    assert "n = 64" in readme and "python -I main.py" in readme and "kernels/00_" in readme


def test_programs_for_a_gpu_are_text(tmp_path: Path) -> None:
    x = sg.placeholder("x", ("n", 3))
    program = compile_only([x], sg.exp(x), device="cuda").program
    assert program is not None
    write_dump(program, tmp_path / "dump", None, None, False)
    (script,) = (tmp_path / "dump" / "kernels").glob("*.py")
    assert program.kernels[0].text in script.read_text() and not (tmp_path / "dump" / "main.py").exists()
    assert "need staticgraph and numba-cuda" in (tmp_path / "dump" / "README.md").read_text()
