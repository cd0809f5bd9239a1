"""sg.save_graph and sg.load_graph: the same graph comes back, with its bits and its kernels; bad files are refused."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import staticgraph as sg
from staticgraph import api
from staticgraph.cli.models import find_model, load_model
from staticgraph.graph_file.forms import ELEMENTWISE, OPS
from staticgraph.graph_file.sizes import SizeReader, SizeWriter
from staticgraph.op import registry
from staticgraph.ops import custom
from staticgraph.tensor import Tensor, toposort
from tests.compiler.graphs import GRAPHS
from tests.test_random_graphs import GROWTH, Grower, examples

ROOT = Path(__file__).resolve().parent.parent


def there_and_back(path: Path, outputs: Any, inputs: Sequence[Tensor] | None = None, updates: Any = None) -> Any:
    """The graph that was loaded, whose listing (types, names, scopes) is that of the one saved; so is its file.

    Lines are compared where a node is the graph's own: constants of one process are one node, whoever made them.
    """
    sg.save_graph(path, outputs, inputs, updates)
    graph = sg.load_graph(path)
    before = [*sg.interpreter.flatten(outputs), *(updates or {}).values()]
    after = [*sg.interpreter.flatten(graph.outputs), *graph.updates.values()]
    assert listing(after) == listing(before)
    for old, new in zip(toposort(before), toposort(after), strict=True):
        if new is not old:
            assert list(map(str, new.locations)) == list(dict.fromkeys(map(str, old.locations)))
    first = without_lines(path)
    sg.save_graph(path, graph)
    assert without_lines(path) == first
    return graph


def listing(outputs: Any) -> str:
    return anonymous(re.sub(r" +\w+\.py:\d+.*$", "", sg.format_graph(outputs), flags=re.MULTILINE))


def without_lines(path: Path) -> Any:
    told = json.loads(path.read_text())
    return {**told, "nodes": [{**node, "lines": ()} for node in told["nodes"]]}


def anonymous(text: str) -> str:
    """The text with anonymous sizes as just that, in any width: they have other numbers at each load."""
    return re.sub(r"\?\d+", "?", re.sub(r" +", " ", text))


def test_every_op_has_a_form() -> None:
    """A new op needs a row in graph_file/forms.py, or its graphs cannot be saved."""
    code = "import staticgraph; print(*staticgraph.op.registry)"     # without what tests and the compiler declare
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    made_by_passes = {"guard"}     # never part of a graph that a user has
    assert set(run.stdout.split()) - made_by_passes == {*OPS, *ELEMENTWISE, "placeholder", "variable"}
    assert all(registry[name].kind == "elementwise" for name in ELEMENTWISE)


@pytest.mark.parametrize("name", sorted(set(registry) & set(OPS) | set(ELEMENTWISE)))
def test_examples_of_ops(name: str, tmp_path: Path) -> None:
    op = registry[name]
    for arrays, attrs in op.examples:
        feed = {sg.placeholder(f"x{number}", np.shape(array), np.asarray(array).dtype): array
                for number, array in enumerate(arrays)}
        indexed = op.kind in ("gather", "scatter")     # indices are constants: nothing else bounds them
        known = [sg.constant(array) if indexed and number == 1 else node
                 for number, (node, array) in enumerate(feed.items())]
        try:
            y = op(*known, **attrs)
            graph = there_and_back(tmp_path / "g.json", y, list(feed))
        except sg.ArgumentError as error:
            assert name == "max_pool_place" or name == "max_pool_pick", error     # positions come from their own op
            continue
        result = sg.evaluate(graph.outputs, dict(zip(graph.inputs, feed.values(), strict=True)))
        assert result.tobytes() == sg.evaluate(y, feed).tobytes()


@pytest.mark.parametrize("name", GRAPHS)
def test_golden_graphs_give_the_same_kernels(name: str, tmp_path: Path) -> None:
    inputs, outputs, updates = GRAPHS[name]()
    graph = there_and_back(tmp_path / "g.json", outputs, inputs, updates)
    before = api.compile_only(inputs, outputs, updates=updates).program
    after = api.compile_only(graph.inputs, graph.outputs, updates=graph.updates).program
    assert before is not None and after is not None
    assert [each.text for each in after.kernels] == [each.text for each in before.kernels]
    assert (after.steps, after.buffers, after.notes) == (before.steps, before.buffers, before.notes)
    assert {(each.left, each.right) for each in before.guards} <= {(each.left, each.right) for each in after.guards}


@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn", "logreg", "curve_fit"])
def test_graphs_of_the_examples(name: str, tmp_path: Path) -> None:
    script = load_model(ROOT / "examples" / f"{name}.py")
    graph = there_and_back(tmp_path / "g.json", script.loss, None, script.updates)
    programs = [api.compile_only(each.inputs, each.outputs, updates=each.updates).program for each in (
        graph, find_model(f"{ROOT / 'examples' / name}.py:loss"))]
    assert programs[0] is not None and programs[1] is not None
    assert programs[0].kernels == programs[1].kernels and programs[0].steps == programs[1].steps


@examples(60)
@given(st.data())
def test_random_graphs(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    grower = Grower(data.draw, data.draw(st.sampled_from(("float32", "float64"))))
    for _ in range(data.draw(st.integers(1, 12))):
        grower.grow()
    assert GROWTH
    path = tmp_path_factory.getbasetemp() / "random.json"
    outputs = grower.pool[-3:]
    chance = np.random.default_rng(0)
    feed = {x: chance.standard_normal([grower.value(size) for size in x.shape]).astype(x.dtype) for x in grower.inputs}
    graph = there_and_back(path, outputs, grower.inputs)
    results = sg.evaluate(graph.outputs, dict(zip(graph.inputs, feed.values(), strict=True)))
    for before, after in zip(sg.evaluate(outputs, feed), results, strict=True):
        assert after.tobytes() == before.tobytes()


def training_step() -> tuple[Any, Any, Any]:
    noise = sg.random.generator(5, name="noise")
    x = sg.placeholder("x", ("batch", 4))
    with sg.name_scope("net"):
        model = sg.nn.Sequential(sg.nn.Linear(4, 3, generator=0), sg.nn.Dropout(0.4, noise))
        loss = sg.mean(sg.square(model(x)))
    return x, loss, sg.optim.Adam(0.01).updates(loss, model.parameters())


def test_training_is_the_same_from_a_file(tmp_path: Path) -> None:
    """Variables with their values, one for one; counters go up; the cache knows the program."""
    x, loss, updates = training_step()
    step = sg.compile([x], {"loss": loss}, updates=updates, options={"stabilise": False})
    data = np.linspace(-1, 1, 20, dtype="float32").reshape(5, 4)
    step(data)
    sg.save_graph(tmp_path / "step.json", step)
    graph = sg.load_graph(tmp_path / "step.json")
    assert graph.options["stabilise"] is False and len(graph.updates) == len(updates) + 1
    again = sg.compile(graph.inputs, graph.outputs, updates=graph.updates, options=graph.options)
    assert again.program.kernels == step.program.kernels
    for _ in range(3):
        assert again(data)["loss"].tobytes() == step(data)["loss"].tobytes()
    assert {name: variable.value.tobytes() for name, variable in graph.variables.items()} == {
        node.name: node.value.tobytes() for node in toposort([loss, *updates.values()]) if node.op.name == "variable"}


def test_generators_go_on(tmp_path: Path) -> None:
    g = sg.random.generator(9, name="g")
    first, second = g.normal((3,)), g.uniform((3,))
    graph = there_and_back(tmp_path / "g.json", [first, second])
    [loaded] = graph.generators
    assert repr(loaded) == "<Generator 'g' seed=9 counter=0>"
    fresh, expected = loaded.bits((4,)), g.bits((4,))
    assert sg.evaluate(fresh).tobytes() == sg.evaluate(expected).tobytes()     # the next stream, on both sides
    loaded.seed = 10
    assert sg.evaluate(graph.outputs[0]).tobytes() != sg.evaluate(first).tobytes()


ATTRIBUTES: dict[str, Callable[[], Tensor]] = {
    "a margin of nan": lambda: sg.pad(sg.placeholder("x", (2,)), 1, np.nan),
    "a margin of -0.0": lambda: sg.pad(sg.placeholder("x", (2,)), 1, -0.0),
    "a margin of -inf": lambda: sg.pad(sg.placeholder("x", (2,)), 1, -np.inf),
    "a margin of true": lambda: sg.pad(sg.placeholder("x", (2,), "bool"), 1, True),
    "a margin of 2**64 - 1": lambda: sg.pad(sg.placeholder("x", (2,), "uint64"), 1, np.uint64(2**64 - 1)),
    "special constants": lambda: sg.constant(np.array([np.nan, -np.nan, np.inf, -0.0, 5e-324])),
    "-0.0": lambda: sg.constant(-0.0), "a float32": lambda: sg.constant(np.float32(0.1)),
    "nan": lambda: sg.constant(np.float32("nan")), "true": lambda: sg.constant(True),
    "empty": lambda: sg.constant(np.zeros((0, 3), "int8")), "big": lambda: sg.constant(np.uint64(2**64 - 1)),
    "a weak number": lambda: (sg.placeholder("x", ("n",)).shape[0] * 0.5) + sg.constant(np.float32(1)),
    "anonymous sizes": lambda: sg.concat([sg.placeholder("x", (None, 2)), sg.placeholder("y", (None, 2))]),
    "formulas": lambda: sg.placeholder("x", ("n", "m"))[1:, ::-2].reshape((-1,))[:sg.Dim("k") // 3],
    "names of all kinds": lambda: sg.placeholder("\"'{0.__class__}\n\0</script>\u202e%s \U0001f600", (2,)) + 1,
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_values_come_back_exactly(name: str, tmp_path: Path) -> None:
    with sg.name_scope("a {scope}\n"):
        y = ATTRIBUTES[name]()
    path = tmp_path / "g.json"
    sg.save_graph(path, y)
    graph = sg.load_graph(path)
    pairs = list(zip(toposort([y]), toposort([graph.outputs]), strict=True))
    for before, after in pairs:
        assert (after.op, after.name, after.scope, after.locations[0].line) == (
            before.op, before.name, before.scope, before.locations[0].line)
        assert anonymous(str(after.type)) == anonymous(str(before.type)) and after.type.weak == before.type.weak
        if before.op.name == "constant":
            assert after.attrs["value"].tobytes() == before.attrs["value"].tobytes()
        if before.op.name == "pad":
            assert repr(after.attrs["value"]) == repr(before.attrs["value"])
    assert not {"n", "m"} & set(SizeReader().fresh)


def test_sizes_round_trip() -> None:
    n, m = sg.Dim("n"), sg.Dim("m")
    unnamed = sg.Dim.anonymous()
    for size in (3, n, n * 2 + 1, n * m - m * m * 3, (n + 1) // 3, n % 4 + m, sg.types.minimum_size(n, m - 2) * 5,
                 sg.types.maximum_size((n // 2) % m, 7)):
        assert SizeReader()(json.loads(json.dumps(SizeWriter()(size)))) == size
    read = SizeReader()
    assert read(SizeWriter()(unnamed * 2)) == read("?1") * 2 != unnamed * 2


def test_a_graph_without_names_or_lines_still_names_a_line(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    nodes = [{"op": "placeholder", "dtype": "float32", "shape": ["n", 3], "name": "x", "lines": ["their model.py:12"]},
             {"op": "exp", "inputs": [0], "dtype": "float32", "shape": ["n", 3]}]
    path.write_text(json.dumps(file_of(nodes)))
    graph = sg.load_graph(path)
    assert str(graph.inputs[0].location) == "their model.py:12"
    assert graph.outputs[0].location.file == __file__
    with pytest.raises(sg.ShapeError, match=r"their model\.py:12"):
        sg.compile(graph.inputs, graph.outputs)(np.zeros((2, 4), "float32"))


def test_ops_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    x = sg.placeholder("x", ("n",))
    cube = sg.primitive("cube_of_a_file", ref=lambda x: x * x * x, scalar="{0} * {0} * {0}")
    sg.save_graph(path, cube(x) + 1)
    assert sg.load_graph(path).outputs.inputs[0].op is cube
    del registry["cube_of_a_file"], custom._declared["cube_of_a_file"]
    with pytest.raises(sg.FileFormatError, match=r"'cube_of_a_file' was an op of somebody's own: declare it"):
        sg.load_graph(path)
    with pytest.raises(sg.ArgumentError, match=r"(?s)cube_of_a_file.*Python code of your own.*test_graph_file\.py:"):
        sg.save_graph(path, cube(x))     # declared no longer
    clipped = sg.custom_gradient(lambda x: x * 1, lambda ct, y, x: (ct,))
    with pytest.raises(sg.ArgumentError, match=r"(?s)custom_gradient.*test_graph_file\.py:"):
        sg.save_graph(path, clipped(x))


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    x, w = sg.placeholder("x", (2,)), sg.variable(np.zeros(2, "float32"), "w")
    for arguments in ((x, [w]), (x, None, {x: x}), (x, None, {w: sg.exp(w)[:1]}), (x, None, [3]), (3,), ({3: x},),
                      (sg.placeholder("\ud800", (2,)),)):
        with pytest.raises(sg.ArgumentError):
            sg.save_graph(path, *arguments)
    step = sg.compile([x], x + 1)
    with pytest.raises(sg.ArgumentError, match="of its own"):
        sg.save_graph(path, step, [x])
    step.definition = None
    with pytest.raises(sg.ArgumentError, match="not known"):
        sg.save_graph(path, step)
    assert not path.exists()


def test_depth_is_no_matter(tmp_path: Path) -> None:
    y = x = sg.placeholder("x", ("n",))
    for _ in range(5000):
        y = sg.sin(y)
    graph = there_and_back(tmp_path / "g.json", y)
    assert len(toposort([graph.outputs])) == 5001 and graph.inputs[0].name == x.name


# Files that are not what they should be


def file_of(nodes: list[Any], **changes: Any) -> dict[str, Any]:
    return {"format": "staticgraph.graph", "version": 1, "inputs": [0], "updates": [], "options": {},
            "outputs": {"kind": "list", "nodes": [len(nodes) - 1]}, "nodes": nodes, **changes}


def leaf(shape: Any = ("n", 3), dtype: str = "float32", op: str = "placeholder", **more: Any) -> dict[str, Any]:
    return {"op": op, "dtype": dtype, "shape": list(shape), **more}


def on(op: str, *inputs: int, shape: Any = ("n", 3), dtype: str = "float32", **attrs: Any) -> dict[str, Any]:
    return {"op": op, "inputs": list(inputs), "attrs": attrs, "dtype": dtype, "shape": list(shape)}


def variable(shape: Any, base64: str) -> dict[str, Any]:
    return leaf(shape, op="variable", value={"dtype": "float32", "shape": list(shape), "base64": base64})


def nested(depth: int) -> Any:
    size: Any = "n"
    for _ in range(depth):
        size = [[1, [["max", size, "m"]]]]
    return size


BAD: dict[str, Any] = {
    "no object": [], "another format": {"format": "else"}, "no version": {"format": "staticgraph.graph"},
    "a newer version": file_of([leaf()], version=2), "a key too many": file_of([leaf()], more=1),
    "a key too few": {"format": "staticgraph.graph", "version": 1},
    "no nodes": {**file_of([leaf()]), "nodes": 3}, "a node that is none": file_of(["exp"]),
    "a cycle": file_of([leaf(), on("exp", 1)]), "a forward reference": file_of([leaf(), on("exp", 2), on("exp", 0)]),
    "a negative reference": file_of([leaf(), on("exp", -1)]),
    "a bool for a number": file_of([leaf(), on("exp", False)]),
    "an unknown op": file_of([leaf(), on("system", 0)]), "an op of passes": file_of([leaf(), on("direct_place", 0)]),
    "an op of no one's own": file_of([leaf(), {**on("exp", 0), "own": True}]),
    "an op that is no text": file_of([leaf(), {**on("exp", 0), "op": ["exp"]}]),
    "a dtype of objects": file_of([leaf(dtype="O")]), "a dtype with a field": file_of([leaf(dtype="f4,f4")]),
    "float16": file_of([leaf(dtype="float16")]),
    "another type than it has": file_of([leaf(), {**on("exp", 0, shape=["n", 4]), "attrs": {}}]),
    "too many operands": file_of([leaf(), {**on("exp", 0, 0)}]), "too few": file_of([leaf(), on("matmul", 0)]),
    "operands of two dtypes": file_of([leaf(), leaf(dtype="int64"), on("add", 0, 1)]),
    "operands of two shapes": file_of([leaf((3,)), leaf((1,)), on("add", 0, 1, shape=[3])]),
    "an axis beyond": file_of([leaf(), on("sum", 0, axes=[2], shape=["n", 3])]),
    "an axis twice": file_of([leaf(), on("sum", 0, axes=[1, 1], shape=["n"])]),
    "no axis": file_of([leaf(), on("sum", 0, axes=[], shape=["n", 3])]),
    "an attribute missing": file_of([leaf(), on("sum", 0)]), "too many": file_of([leaf(), on("exp", 0, axis=0)]),
    "a negative size": file_of([leaf((-1,))]), "a size beyond 64 bits": file_of([leaf((2**63,))]),
    "a float for a size": file_of([leaf((2.0,))]), "a name of a size that is code": file_of([leaf(("exit()",))]),
    "a formula that is none": file_of([leaf(([[2, ["n", 3]]],))]),
    "an unknown kind of formula": file_of([leaf(([[1, [["eval", "n", 2]]]],))]),
    "a formula 30 levels deep": file_of([leaf((nested(30),))]),
    "a shape whose product is enormous": file_of([leaf([[[1, [f"a{i}"]], [1, [f"b{i}"]]] for i in range(20)])]),
    "50 GB in a kilobyte": file_of([variable([12_500_000_000], "AAAA")]),
    "an empty array of absurd sizes": file_of([variable([0, 2**62, 2**62], "")]),
    "no base64": file_of([variable([1], "exit()")]),
    "a value that is another's": file_of([{**variable([1], "AAAAAA=="), "shape": [2]}]),
    "a value for a placeholder": file_of([{**leaf(), "value": {}}]),
    "bools of 2": file_of([leaf((1,), "bool", "variable", value={"dtype": "bool", "shape": [1], "base64": "Ag=="})]),
    "a name that is no text": file_of([leaf(name=3)]), "half a surrogate": file_of([leaf(name="\ud800")]),
    "a line without a number": file_of([leaf(lines=["model.py"])]),
    "a line with control characters": file_of([leaf(lines=["model\x1b[2J.py:3"])]),
    "lines without end": file_of([leaf(lines=["a.py:1"] * 17)]),
    "outputs without a kind": file_of([leaf()], outputs={"nodes": [0]}),
    "outputs that are two tensors": file_of([leaf()], outputs={"kind": "tensor", "nodes": [0, 0]}),
    "outputs of one name": file_of([leaf()], outputs={"kind": "dict", "names": ["a", "a"], "nodes": [0, 0]}),
    "inputs twice": file_of([leaf()], inputs=[0, 0]),
    "inputs that are none": file_of([leaf(), on("exp", 0)], inputs=[1]),
    "an update of a placeholder": file_of([leaf()], updates=[[0, 0]]),
    "options that are no plain values": file_of([leaf()], options={"sizes": [[]]}),
    "indices that nothing checks": file_of([leaf(), leaf(("k",), "int64"),
                                            on("gather", 0, 1, axis=1, shape=["n", "k"])]),
    "indices beyond the axis": file_of([leaf(), on("constant", dtype="int64", shape=[], value={
        "dtype": "int64", "shape": [], "number": 9}), on("gather", 0, 1, axis=1, shape=["n"])]),
    "indices checked for another size": file_of([leaf(), leaf((2,), "int64"), on(
        "check_index", 1, size=10**6, what="take", dtype="int64", shape=[2]),
        on("gather", 0, 2, axis=1, shape=["n", 2])]),
    "positions of no pooling": file_of([leaf((1, 1, 2, 2)), leaf((1, 1, 1, 1), "uint8"), on(
        "max_pool_pick", 1, 0, kernel=[2, 2], stride=[2, 2], shape=[1, 1, 1, 1])]),
    "a slice beyond its operand": file_of([leaf((3,)), on("slice", 0, starts=[2], steps=[1], shape=[5])]),
}
RAW = {"nothing": b"", "no text": b"\xff\xfe\x00", "cut": json.dumps(file_of([leaf()])).encode()[:-20],
       "nan": b'{"format": NaN}', "deep": b"[" * 200_000, "twice": b'{"format": 1, "format": "staticgraph.graph"}',
       "10,000 digits": b'{"version": ' + b"1" * 10_000 + b"}", "infinite": b'{"version": 1e999}',
       "a pickle": b"\x80\x04\x95\x1c\x00\x00\x00"}


@pytest.mark.parametrize("name", [*BAD, *RAW])
def test_bad_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(RAW[name] if name in RAW else json.dumps(BAD[name]).encode())
    with nothing_runs(), pytest.raises(sg.FileFormatError, match=r"bad\.json"):
        sg.load_graph(path)


def test_a_newer_version_says_so(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    path.write_text(json.dumps(file_of([leaf()], version=2)))
    with pytest.raises(sg.FileFormatError, match=r"its version is '2', needed 1: a newer staticgraph is needed"):
        sg.load_graph(path)


def test_what_depends_on_the_call_is_checked_at_the_call(tmp_path: Path) -> None:
    """A slice of so many elements as another input has, and indices below another size: no kernel reads beyond."""
    path = tmp_path / "g.json"
    nodes = [leaf((3,), name="x"), leaf(("k",), name="y"),
             on("slice", 0, starts=[0], steps=[1], shape=["k"]), leaf(("j",), "int64", name="i"),
             on("check_index", 3, size="k", what="take", dtype="int64", shape=["j"]),
             on("gather", 0, 4, axis=0, shape=["j"])]
    nodes[2]["shape"], nodes[2]["attrs"]["shape"] = ["k"], ["k"]
    path.write_text(json.dumps(file_of(nodes, inputs=[0, 1, 3], outputs={"kind": "list", "nodes": [2, 5]})))
    graph = sg.load_graph(path)
    step = sg.compile(graph.inputs, [sg.exp(each) for each in graph.outputs])
    x, index = np.arange(3, dtype="float32"), np.zeros(2, "int64")
    assert step(x, np.zeros(2, "float32"), index)[0].shape == (2,)
    with pytest.raises(sg.ShapeError, match="read from a file"):
        step(x, np.zeros(10**6, "float32"), index)
    slope = sg.grad(sg.sum(sg.square(graph.outputs[0])), graph.inputs[0])
    with pytest.raises(sg.ShapeError, match="read from a file"):
        sg.compile(graph.inputs, slope)(x, np.zeros(10**6, "float32"), index)


_watched: list[str] = []
_watching = False


def _watch(event: str, _: tuple[Any, ...]) -> None:
    if _watching and event in ("exec", "compile", "import", "pickle.find_class", "os.system", "subprocess.Popen"):
        _watched.append(event)


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Nothing is compiled, run, imported or unpickled inside."""
    global _watching
    if not hasattr(sys, "_staticgraph_watch"):
        sys.addaudithook(_watch)     # for good: hooks cannot be removed
        sys._staticgraph_watch = True  # type: ignore[attr-defined]
    _watched.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert not _watched


VALUES: list[Any] = [
    0, 1, -1, 3, 2**31, 2**63, 10**30, True, None, "n", "?1", "nan", [], {}, [[1, ["n"]]], [[2, ["n", "n"]], [1, []]],
    "float32", "int64", "bool", "O", 1e308, -0.0, "__import__('os')", "{0.__class__}", [0], [0, 1], [1, 1],
    [[1, [["floordiv", "n", 0]]]], [[1, [["max", 0, [[1, ["m"]], [-3, []]]]]]], *OPS]


def mutated(text: str, chance: random.Random) -> bytes:
    """The text with some damage: to its characters, or to its values."""
    if chance.random() < 0.3:
        content = bytearray(text.encode())
        for _ in range(chance.choice((1, 2, 5))):
            at = chance.randrange(len(content))
            content[at:at + chance.choice((0, 1, 1, 3, 30))] = chance.choice((b"", b"9", b"[", b"NaN", b'"a":1,', b"-"))
        return bytes(content)
    told = json.loads(text)
    for _ in range(chance.choice((1, 1, 2))):
        places = [(parent, key) for parent in containers(told)
                  for key in (parent if isinstance(parent, dict) else range(len(parent)))]
        parent, key = chance.choice(places)
        kind = chance.random()
        if kind < 0.6:
            parent[key] = chance.choice(VALUES)
        elif kind < 0.8:
            other, place = chance.choice(places)
            parent[key] = json.loads(json.dumps(other[place]))
        elif type(parent[key]) is int:
            parent[key] += chance.choice((-1, 1, 2))
        else:
            del parent[key]
    return json.dumps(told).encode()


def containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from containers(each)


def test_damaged_files_are_refused_or_graphs(tmp_path: Path) -> None:
    path, other = tmp_path / "g.json", tmp_path / "again.json"
    x = sg.placeholder("x", (None, "m", 4))
    w, g = sg.variable(np.ones((4, 4), "float32"), "w"), sg.random.generator(3)
    i = sg.placeholder("i", ("m",), "int64")
    outputs = [sg.take(x, i, axis=1) @ w + g.normal((x.shape[0], i.shape[0], 4)), x[:, 1:][:, ::-2], sg.sort(x, axis=1),
               sg.diagonal(x, 1), sg.pad(x, 1, np.float32("nan")),
               sg.max_pool2d(sg.placeholder("im", (None, 2, "h", "h")), 2, 2)]
    sg.save_graph(path, outputs, updates={w: w * 0.5})
    text, chance, refused = path.read_text(), random.Random(0), 0
    for _ in range(600):
        path.write_bytes(mutated(text, chance))
        with nothing_runs():
            try:
                graph = sg.load_graph(path)
            except sg.FileFormatError:
                refused += 1
                continue
        sg.save_graph(other, graph)
        assert listing(sg.load_graph(other).outputs) == listing(graph.outputs)
    assert 400 < refused < 600
