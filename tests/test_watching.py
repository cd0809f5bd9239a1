"""What a graph watches over: nan and infinities, assertions, prints; on the CPU, on CUDA and in the interpreter.

In the expected texts L stands for a line of this file.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import staticgraph as sg
from staticgraph import blame, watching
from staticgraph.api import compile_only
from staticgraph.op import registry
from staticgraph.tensor import toposort
from tests.test_random_graphs import Grower, examples

ONES = np.ones((4, 3), "float32")


def text_of(error: BaseException) -> str:
    return re.sub(r"test_watching\.py:\d+", "L", str(error))


def spoilt(value: float, *places: tuple[int, ...]) -> np.ndarray[Any, Any]:
    array = ONES.copy()
    for place in places:
        array[place] = value
    return array


CASES: dict[str, Callable[[Any], tuple[Any, list[Any], str, str]]] = {
    "born in a fused kernel": lambda x: (sg.exp(sg.log(x) * 2), [spoilt(-3, (2, 1), (3, 0))], "nan", """\
log: makes nan at [2, 1]
  a:      float32[n, 3]   'x'   L
  result: float32[n, 3]         L
  where a = -3.0
  2 of 12 elements are nan
  found in output at [2, 1]"""),
    "an input": lambda x: (sg.sum(sg.tanh(x), 0), [spoilt(np.nan, (1, 2), (3, 1))], "nan", """\
input 'x': holds nan at [1, 2]
  here: float32[n, 3]   'x'   L
  2 of 12 elements are nan
  found in output at [1]"""),
    "a constant": lambda x: (x * sg.constant([1.0, np.nan, 2.0], "float32"), [ONES], "nan", """\
constant: holds nan at [1]
  here: float32[3]   L
  1 of 3 elements are nan
  found in output at [0, 1]"""),
    "two operands": lambda x: (x / (x - 1), [ONES], "inf", """\
divide: makes inf at [0, 0]
  a:      float32[n, 3]   'x'   L
  b:      float32[n, 3]         L
  result: float32[n, 3]         L
  where a = 1.0, b = 0.0
  12 of 12 elements are nan or inf"""),
    "overflow of a sum": lambda x: (sg.sum(x, 1), [spoilt(3e38, (2, 0), (2, 1))], "inf", """\
sum: makes inf at [2]
  a:      float32[n, 3]   'x'   L
  result: float32[n]            L
  a[2, :] is from 1.0 to 3e+38
  1 of 4 elements are nan or inf"""),
    "a row program": lambda x: (sg.nn.softmax(x), [spoilt(-np.inf, (3, 0), (3, 1), (3, 2))], "nan", """\
softmax: makes nan at [3, 0]
  a:      float32[n, 3]   'x'   L
  result: float32[n, 3]         L
  a is from 1.0 to 1.0, 3 -inf first at [3, 0]
  3 of 12 elements are nan"""),
    "rewritten": lambda x: (sg.log(sg.nn.softmax(x)), [spoilt(np.inf, (1, 1))], "nan", """\
log_softmax, rewritten from log(softmax): makes nan at [1, 0]
  a:      float32[n, 3]   'x'   L
  result: float32[n, 3]         L
  a is from 1.0 to 1.0, 1 inf first at [1, 1]
  3 of 12 elements are nan"""),
    "a product": lambda x: (sg.sum(x @ sg.constant(np.zeros((3, 2)), "float32")), [spoilt(np.inf, (2, 2))], "nan", """\
matmul: makes nan at [2, 0]
  a:      float32[n, 3]   'x'   L
  b:      float32[3, 2]         L
  result: float32[n, 2]         L
  a[2, :] is from 1.0 to 1.0, 1 inf first at [2]
  b[:, 0] is from 0.0 to 0.0
  2 of 8 elements are nan
  found in output"""),
    "through a gather and a slice": lambda x: (sg.take(sg.sqrt(x), np.array([3, 1]), axis=0)[:, 1:],
                                              [spoilt(-1, (0, 0), (1, 2))], "nan", """\
sqrt: makes nan at [1, 2]
  a:      float32[n, 3]   'x'   L
  result: float32[n, 3]         L
  where a = -1.0
  2 of 12 elements are nan
  found in output at [1, 1]"""),
    "the first, though it is turned around": (lambda x: (sg.exp(sg.log(x)[::-1, ::-1]), [spoilt(-3, (1, 2), (3, 0))],
                                                         "nan", """\
log: makes nan at [1, 2]
  a:      float32[n, 3]   'x'   L
  result: float32[n, 3]         L
  where a = -3.0
  2 of 12 elements are nan
  found in output at [0, 2]""")),
    "it would vanish in a comparison": lambda x: (sg.sum(sg.astype(sg.sqrt(x) > 0, "int32")), [spoilt(-1, (1, 1))],
                                                  "nan", """\
sqrt: makes nan at [1, 1]
  a:      float32[n, 3]   'x'   L
  result: float32[n, 3]         L
  where a = -1.0
  1 of 12 elements are nan"""),
    "it would vanish in a division": lambda x: (1 / sg.exp(x), [spoilt(100, (1, 1))], "inf", """\
exp: makes inf at [1, 1]
  a:      float32[n, 3]   'x'   L
  result: float32[n, 3]         L
  where a = 100.0
  1 of 12 elements are nan or inf"""),
    "backward": lambda x: (sg.grad(sg.sum(sg.sqrt(x) * 0), x), [spoilt(0, (0, 2))], "nan", """\
divide: makes nan at [0, 2]
  a:      float32[n, 3]   L
  b:      float32[n, 3]   L
  result: float32[n, 3]   L
  where a = 0.0, b = 0.0
  1 of 12 elements are nan"""),
}


@pytest.mark.parametrize("name", CASES)
def test_where_it_was_born(name: str) -> None:
    x = sg.placeholder("x", ("n", 3))
    y, feed, kind, expected = CASES[name](x)
    compiled = sg.compile([x], y, options={"check": kind})
    with pytest.raises(sg.NonFiniteError) as caught:
        compiled(*feed)
    assert text_of(caught.value) == expected
    assert isinstance(caught.value, FloatingPointError) and not getattr(caught.value, "__notes__", None)


def test_numbers_go_by_their_values() -> None:
    """All who write a number share its node: the line of somebody else's is none of this error's."""
    rate = sg.placeholder("rate", ())
    others = [rate + 0.0, rate * 0.0]
    held = sg.assert_that(rate, rate > 0.0)
    with pytest.raises(sg.AssertionFailed) as caught:
        sg.compile([rate], [held, *others])(-1)
    assert text_of(caught.value) == """\
assert_that: a condition does not hold
  a:         float32[]   'rate'   L
  b:         float32[]   0.0
  condition: bool[]               L
  greater is false, where a = -1.0, b = 0.0
  asserted at L"""


def test_images() -> None:
    images = sg.placeholder("images", ("n", 2, 6, 6))
    weights = sg.variable(np.ones((3, 2, 3, 3), "float32"), "weights")
    pooled = sg.nn.max_pool2d(sg.nn.conv2d(sg.log(images), weights), 2)
    given = np.ones((2, 2, 6, 6), "float32")
    given[1, 0, 2, 3] = -1
    gradient = sg.grad(sg.sum(pooled), weights)
    for outputs in (pooled, gradient):
        with pytest.raises(sg.NonFiniteError, match=r"log: makes nan at \[1, 0, 2, 3\]"):
            sg.compile([images], outputs, options={"check": "nan"})(given)


def test_what_is_left_out_or_asked_for_is_no_fault() -> None:
    x = sg.placeholder("x", ("n", 3))
    root = sg.sqrt(x)
    outputs = [sg.where(x > 0, root * 3 + 1, 0), sg.where(sg.isnan(root), 0, root), sg.where(root == root, root, 1),
               root[1:], sg.sum(root[1:])]
    compiled = sg.compile([x], outputs, options={"check": "nan"})
    for one, other in zip(compiled(spoilt(-1, (0, 1))), sg.evaluate(outputs, {x: spoilt(-1, (0, 1))})):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 0), ()])
def test_variables_are_as_they_were(shape: tuple[int, ...]) -> None:
    x = sg.placeholder("x", ("n",))
    w = sg.variable(np.full(shape, 2, "float32"), "w")
    count = sg.variable(0, "count")
    compiled = sg.compile([x], sg.sum(x), updates={w: w * sg.sum(x), count: count + 1}, options={"check": "inf"})
    compiled([1.0])
    if 0 in shape:     # nothing to find there, so the call fails for its output
        with pytest.raises(sg.NonFiniteError, match="input 'x': holds inf"):
            compiled([np.inf])
    else:
        w.value = np.full(shape, 3e38, "float32")
        with pytest.raises(sg.NonFiniteError, match="multiply: makes inf"):
            compiled([2.0])
        np.testing.assert_array_equal(w.value, np.full(shape, np.float32(3e38)))
    assert count.value == 1
    w.value = np.ones(shape, "float32")
    assert compiled([2.0]) == 2 and count.value == 2


def test_the_first_is_found_by_any_number_of_threads() -> None:
    x = sg.placeholder("x", ("n", 512))
    y = sg.exp(sg.log(x))
    given = np.ones((600, 512), "float32")
    given[499, 7] = given[300, 500] = given[301, 2] = -1
    texts = set()
    for threads in (1, 2, 3):
        with pytest.raises(sg.NonFiniteError) as caught:
            sg.compile([x], y, options={"check": "nan", "threads": threads})(given)
        texts.add(text_of(caught.value))
    text, = texts
    assert "makes nan at [300, 500]" in text and "3 of 307200" in text
    with pytest.raises(sg.NonFiniteError, match=r"at \[300, 500\]"):     # another size, the same program
        sg.compile([x], y, options={"check": "nan"})(given[:400])


def test_without_the_graph_the_program_says_what_it_can() -> None:
    from staticgraph.runtime.executable import load

    x = sg.placeholder("x", ("n", 3))
    program = compile_only([x], {"y": sg.sqrt(x)}, options={"check": "nan"}).program
    assert program is not None
    with pytest.raises(sg.NonFiniteError) as caught:
        load(program)(spoilt(-1, (2, 1)))
    assert text_of(caught.value) == "output 'y' holds nan\n  a: float32[n, 3]   L\n  first at [2, 1]"


def test_little_is_guarded() -> None:
    """A nan reaches the loss of an ordinary model: it is watched there, and in the new values."""
    x, t = sg.placeholder("x", ("n", 4)), sg.placeholder("t", ("n",), "int64")
    w, v = sg.variable(np.ones((4, 8), "float32")), sg.variable(np.ones((8, 3), "float32"))
    loss = sg.mean(sg.nn.cross_entropy(sg.relu(x @ w) @ v, t))
    gradients = sg.grad(loss, [w, v])
    updates = [(w, w - gradients[0]), (v, v - gradients[1])]
    compilation = compile_only([x, t], loss, updates=updates, options={"check": "nan"})
    assert [each.node.op.name for each in compilation.watched if each.what] == ["divide", "subtract", "subtract"]
    assert len(compilation.watched) <= 4     # and what cross entropy picks its rows from


def test_the_guard_itself() -> None:
    x = sg.placeholder("x", ("n",), "bool")
    guard = watching.guard(x, 0)
    assert guard.op is registry["guard"] and guard.shape == ()
    for given, position in (([False, True, True], 1), ([True], 0)):
        report = int(sg.evaluate(guard.inputs[0], {x: given}))
        assert watching.position_of(report) == position
        with pytest.raises(sg.AssertionFailed):
            sg.evaluate(guard, {x: given})
    assert sg.evaluate(guard, {x: [False, False]}) == 0


@examples(20)
@hypothesis.given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    """What has a nan among its results is reported, with its cause; what has none anywhere is not."""
    draw, kind = data.draw, data.draw(st.sampled_from(("nan", "inf")))
    g = Grower(draw, draw(st.sampled_from(("float64", "float32"))))
    for number in range(draw(st.integers(3, 12))):
        g.grow()
        if number == 2:
            g.pool.append(draw(st.sampled_from([sg.log, sg.sqrt, lambda x: x / (x - x), sg.acosh]))(g.pick()))
    outputs = g.pool[-2:]
    if draw(st.booleans()):
        loss = sum((sg.sum(sg.sin(each + 0.3)) for each in outputs), start=sg.constant(np.zeros((), g.dtype)))
        outputs = [*outputs, *sg.grad(loss, g.inputs, unconnected="zero")]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    feed = {x: rng.standard_normal([g.value(size) for size in x.shape]).astype(g.dtype) for x in g.inputs}
    repaired = sg.stabilise(outputs)
    compiled = sg.compile(g.inputs, outputs, options={"check": kind})
    if any(blame.is_bad(each, kind).any() for each in sg.evaluate(repaired, feed)):
        with pytest.raises(sg.NonFiniteError, match=r": (makes|holds) ") as caught:
            compiled(*feed.values())
        assert not getattr(caught.value, "__notes__", None)
    elif not any(blame.is_bad(each, kind).any() for each in sg.evaluate(toposort(repaired), feed)):
        compiled(*feed.values())


# Assertions.

def test_assertions() -> None:
    x, limit = sg.placeholder("x", ("n", 3)), sg.placeholder("limit", ())
    y = sg.sum(sg.assert_that(x, x < limit, "below the {limit}") * 2)
    compiled = sg.compile([x, limit], y)
    assert compiled(ONES, 2.0) == 24
    expected = """assert_that: below the {limit}
  a:         float32[n, 3]   'x'       L
  b:         float32[]       'limit'   L
  condition: bool[n, 3]                L
  less is false at [1, 2], where a = 7.0, b = 2.0
  asserted at L"""
    for run in (lambda: compiled(spoilt(7, (1, 2)), 2.0), lambda: sg.evaluate(y, {x: spoilt(7, (1, 2)), limit: 2.0})):
        with pytest.raises(sg.AssertionFailed) as caught:
            run()
        assert text_of(caught.value) == expected and isinstance(caught.value, AssertionError)


def test_an_assertion_leaves_everything_else_alone() -> None:
    """The formulas around it are rewritten, gradients go through it, a failing call writes nothing."""
    x = sg.placeholder("x", ("n", 3))
    w = sg.variable(np.ones(3, "float32"), "w")
    share = sg.nn.softmax(x * w)
    watched = sg.assert_that(share, sg.sum(x) > 0)
    step = sg.compile([x], sg.log(watched), updates={w: w - sg.grad(sg.sum(watched * x), w)})
    plain = sg.compile([x], sg.log(share), updates={w: w - sg.grad(sg.sum(share * x), w)})
    assert any(each.rule == "log-softmax" for each in step.program.rewrites)
    with pytest.raises(sg.AssertionFailed, match="a condition does not hold"):
        step(-ONES)
    np.testing.assert_array_equal(w.value, np.ones(3))
    given = np.random.default_rng(0).uniform(0, 1, (4, 3)).astype("float32")
    one = step(given), w.value
    w.value = [1, 1, 1]
    other = plain(given), w.value
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


def test_nothing_is_asserted_of_nothing() -> None:
    x = sg.placeholder("x", ("n",))
    y = sg.assert_that(x, x > 0)
    assert sg.compile([x], y)([]).shape == (0,) and sg.evaluate(y, {x: []}).shape == (0,)


def test_a_condition_that_is_a_scalar_constant() -> None:
    x = sg.placeholder("x", ("n",))
    with pytest.raises(sg.AssertionFailed, match="never"):
        sg.compile([x], sg.assert_that(x, sg.constant(False), "never"))([1.0])
    assert sg.compile([x], sg.assert_that(x, True))([1.0]) == 1
    with pytest.raises(sg.DTypeError, match="the condition is no bool tensor"):
        sg.assert_that(x, x)
    with pytest.raises(sg.ArgumentError, match="the message is a text"):
        sg.assert_that(x, x > 0, 3)     # type: ignore[arg-type]


# Prints.

def test_prints_are_made_in_order_and_change_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    x = sg.placeholder("x", ("n", 3))
    w = sg.variable(np.ones(3, "float32"), "w")
    share = sg.debug_print(sg.nn.softmax(sg.debug_print(x, every=2) * w), "share {x}", edgeitems=1)
    loss = sg.sum(sg.log(share))
    step = sg.compile([x], {"loss": loss}, updates={w: w + 1})
    bare = sg.compile([x], sg.sum(sg.log(sg.nn.softmax(x * w))))
    capsys.readouterr()
    result = step(ONES)
    shown = re.sub(r"test_watching\.py:\d+", "L", capsys.readouterr().out)
    first, second = shown.split("share {x}")
    assert first == f"x: float32[4, 3]   L\n{ONES}\n" and second.startswith(": float32[4, 3]   L\n[[0.333")
    assert set(result) == {"loss"}
    w.value = [1, 1, 1]
    assert result["loss"] == bare(ONES)
    step(ONES)
    assert "x: " not in capsys.readouterr().out     # every second call
    sg.evaluate(loss, {x: ONES})
    assert capsys.readouterr().out.count("float32[4, 3]") == 2


def test_prints_of_a_gradient_go_where_they_are_wanted() -> None:
    x = sg.placeholder("x", (3,))
    y = sg.debug_print(x * 2, "twice", grad=True)
    gradient = sg.grad(sg.sum(y * y), x)
    texts: list[str] = []
    sg.compile([x], [gradient], options={"print_to": texts.append})([1.0, 2.0, 3.0])
    assert [re.sub(r"   \S+\n", " ", text) for text in texts] == [
        "twice: float32[3] [2. 4. 6.]", "gradient of twice: float32[3] [ 4.  8. 12.]"]
    file = io.StringIO()
    sg.compile([x], gradient, options={"print_to": file})([1.0, 2.0, 3.0])
    assert file.getvalue() == "\n".join(texts) + "\n"
    with pytest.raises(sg.ArgumentError, match="option 'print_to' is a file or a function"):
        sg.compile([x], gradient, options={"print_to": 3})
    for name in ("every", "edgeitems"):
        with pytest.raises(sg.ArgumentError, match=f"{name} is a number from 1 on, got 0"):
            sg.debug_print(x, **{name: 0})     # type: ignore[arg-type]


def test_a_printed_cotangent_has_its_zeros_and_leaks_no_nan() -> None:
    x = sg.placeholder("x", (3,))
    y = sg.sum(sg.where(x > 0, sg.debug_print(sg.sqrt(x), "root", grad=True), 0))
    texts: list[str] = []
    gradient = sg.compile([x], sg.grad(y, x), options={"print_to": texts.append})([-1.0, 0.0, 4.0])
    np.testing.assert_array_equal(gradient, [0, 0, 0.25])
    assert [text.split("\n")[1] for text in texts] == ["[0. 0. 1.]"]


def test_a_function_with_a_gradient_of_its_own_prints_and_asserts_too(capsys: pytest.CaptureFixture[str]) -> None:
    def inner(v: sg.Tensor) -> sg.Tensor:
        return sg.debug_print(sg.assert_that(v, v > 0) * 2, "inside")

    x = sg.placeholder("x", (2,))
    y = sg.custom_gradient(inner, lambda ct, y, v: (ct,))(x) + 1
    compiled = sg.compile([x], y)
    np.testing.assert_array_equal(compiled([1.0, 2.0]), [3, 5])
    assert capsys.readouterr().out.startswith("inside: float32[2]")
    with pytest.raises(sg.AssertionFailed):
        compiled([1.0, -2.0])
    with pytest.raises(sg.AssertionFailed):
        sg.evaluate(y, {x: [1.0, -2.0]})


def test_a_known_program_still_knows(tmp_path: Any, monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STATICGRAPH_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("STATICGRAPH_VERIFY", raising=False)
    for turn in range(2):
        x = sg.placeholder("x", ("n", 3))
        y = sg.debug_print(sg.assert_that(sg.sqrt(x), x < 5), "y")
        compiled = sg.compile([x], y, options={"check": "nan"})
        assert ("from the cache" in compiled.account) == bool(turn)
        compiled(ONES)
        assert "y: float32[4, 3]" in capsys.readouterr().out
        with pytest.raises(sg.NonFiniteError, match="sqrt: makes nan"):
            compiled(-ONES)
        with pytest.raises(sg.AssertionFailed, match="less is false"):
            compiled(9 * ONES)


def test_explain_tells_what_is_watched() -> None:
    x = sg.placeholder("x", ("n", 3))
    y = sg.debug_print(sg.assert_that(sg.sqrt(x), x < 5, "small\nnumbers"), "root")
    told = re.sub(r"test_watching\.py:\d+", "L", sg.compile([x], {"y": y}, options={"check": "nan"}).explain())
    assert told.startswith("1 input, 1 output and 0 variables")
    part = next(each for each in told.split("\n\n") if each.startswith("watched"))
    assert [" ".join(line.split()) for line in part.splitlines()[2:]] == [
        "an assertion small asserted at L", "nan output 'y' holds nan a: float32[n, 3] L",
        "a print root L"]


@pytest.mark.parametrize("name", sorted(watching.KEEPING_NAN))
def test_what_keeps_a_nan_or_an_infinity(name: str) -> None:
    """The tables of ops that let none vanish, op by op: each element of each operand in turn."""
    op = registry[name]
    arguments = {"sum": {"axes": (0,)}, "reshape": {"shape": (3, 1)}, "broadcast_to": {"shape": (2, 3)}}
    examples = op.examples or (((np.array([0.5, 0.25, 0.75]),) * (2 if "{1}" in str(op.scalar) else 1),
                                arguments.get(name, {})),)
    for inputs, attrs in examples:
        floats = [np.asarray(each).dtype.kind == "f" for each in inputs]
        if attrs.get("dtype", np.dtype("f")).kind != "f" or 0 in [np.asarray(each).size for each in inputs]:
            continue
        bad = [np.nan, np.inf, -np.inf] if name in watching.KEEPING_INF else [np.nan]
        for number in (each for each, is_float in enumerate(floats) if is_float):
            for place in np.ndindex(np.asarray(inputs[number]).shape):
                for value in bad:
                    given = [np.array(each) for each in inputs]
                    given[number][place] = value
                    result = sg.evaluate(op(*map(sg.constant, given), **attrs))
                    assert not result.size or not np.isfinite(result).all(), (inputs, number, place, value)


def test_off_costs_nothing() -> None:
    x = sg.placeholder("x", ("n", 3))
    y = sg.sum(sg.log(x), 1)
    plain, named = (compile_only([x], y, options=options).program for options in (None, {"check": ""}))
    assert plain is not None and named is not None and plain.kernels == named.kernels and not plain.checks
