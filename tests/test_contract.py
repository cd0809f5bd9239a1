"""The public contract, clause by clause: what a user would try, through `evaluate` and `compile` alike.

Each class is one clause. What is tested at length elsewhere (ops, gradients, kernels) is only touched here; these are
the promises that lie between the parts.
"""

from __future__ import annotations

import copy
import operator
import pickle
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import staticgraph as sg


def both(outputs: Any, feed: dict[sg.Tensor, Any]) -> Any:
    """The values of `evaluate`, after a look that `compile` gives the same."""
    expected = sg.evaluate(outputs, feed)
    actual = sg.compile(list(feed), outputs)(*feed.values())
    for one, other in zip(expected, actual, strict=True) if isinstance(outputs, list) else [(expected, actual)]:
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    return expected


class TestTensors:
    """placeholder, variable, constant; what a tensor is and is not."""

    def test_are_immutable(self) -> None:
        x = sg.placeholder("x", (2, 3))
        for name in ("op", "inputs", "attrs", "shape", "dtype", "name", "location"):
            with pytest.raises(AttributeError):
                setattr(x, name, None)
        with pytest.raises(sg.ArgumentError, match=r"cannot be assigned\n  float32\[2, 3\]   'x'    test_contract.py"):
            x[0] = 1

    def test_copies_and_pickles(self) -> None:
        x = sg.placeholder("x", (2, 3))
        assert copy.copy(x) is x and copy.deepcopy([x + 1])[0] is x + 1
        w = sg.variable(np.zeros(3), "w")
        with pytest.raises(sg.ArgumentError, match="a graph with variables cannot be copied"):
            copy.deepcopy({"w": w * 2})
        with pytest.raises(sg.ArgumentError, match="cannot be pickled"):
            pickle.dumps(x)
        step = sg.compile([x], x + 1)
        assert copy.copy(step) is step
        for keep in (pickle.dumps, copy.deepcopy):
            with pytest.raises(sg.ArgumentError, match=r"executable cannot be pickled or copied.*\n  sg.save_graph"):
                keep(step)

    @pytest.mark.parametrize("use", [float, int, complex, operator.index, range, np.asarray, np.sum, np.mean,
                                     lambda x: np.concatenate([x, x]), lambda x: np.where(x, 1, 0)])
    def test_are_no_numbers_and_no_arrays(self, use: Any) -> None:
        with pytest.raises(sg.ArgumentError, match=r"'x'    test_contract.py"):
            use(sg.placeholder("x", ()))

    def test_list_their_methods(self) -> None:
        x = sg.placeholder("x", (3, 3))
        assert {"sum", "reshape", "astype", "mT", "location"} <= set(dir(x))
        assert x.trace() is sg.trace(x) and x.diagonal() is sg.diagonal(x)
        assert divmod(x, 2) == (x // 2, x % 2)

    def test_variables_hold_what_fits(self) -> None:
        w, count = sg.variable(np.zeros(2, "float32"), "w"), sg.variable(np.zeros(2, "int32"), "count")
        byte = sg.variable(np.uint8(7), "byte")
        for variable, value in ((w, [1, 2]), (w, [0.5, True]), (w, np.ones(2, "int16")), (count, [3, 4]), (byte, 255)):
            variable.value = value
            assert variable.value.tolist() == np.asarray(value).tolist()
        refused: list[tuple[sg.Tensor, Any, str]] = [
            (w, np.ones(2), "got float64, which would lose"), (w, [1e60, 0], "does not fit into float32"),
            (w, [[1], [2, 3]], "ragged"), (w, None, "NoneType"), (w, "ab", "str"), (count, [0.5, 1], "got float64"),
            (count, [2**40, 0], "does not fit into int32"), (byte, -1, "does not fit into uint8")]
        for variable, value, text in refused:
            before = variable.value
            with pytest.raises(sg.DTypeError, match=text):
                variable.value = value
            assert np.array_equal(variable.value, before)
        for value in (1.0, [1.0], [[1.0, 2.0]], [1.0, 2.0, 3.0]):
            with pytest.raises(sg.ShapeError):
                w.value = value


class TestSymbolicSizes:
    """The same name is the same size; arithmetic; weak integers; guards."""

    def test_can_be_declared_and_printed(self) -> None:
        n = sg.Dim("n")
        assert n == sg.placeholder("x", ("n",)).shape[0] and str(n * 4) == "n*4" and hash(n) == hash(sg.Dim("n"))
        assert pickle.loads(pickle.dumps(n * 4 + 1)) == n * 4 + 1
        with pytest.raises(sg.ShapeError, match="must be an identifier"):
            sg.Dim("n m")

    def test_are_no_python_integers(self) -> None:
        n = sg.Dim("n")
        for use in (int, bool, float, range, lambda n: [0] * n, lambda n: np.zeros((n, 2))):
            with pytest.raises(sg.ArgumentError, match="'n' is not known until the call"):
                use(n)

    def test_in_formulas_are_weak(self) -> None:
        x = sg.placeholder("x", ("n", 4))
        n = x.shape[0]
        ramp = np.arange(1, 4)
        assert all(each.dtype == np.float32 for each in (
            x * n, x / n, n - x, n / x, x ** n, n ** x, x / x.size, x * (n * 0.5), sg.sqrt(n) * x,
            np.float32(3) * n, n / np.float32(2), np.ones(3, "float32") / n))
        assert (ramp * n).dtype == (n + ramp).dtype == (n // ramp).dtype == (n % ramp).dtype == np.int64
        feed = {x: np.arange(8, dtype="float32").reshape(2, 4)}
        for formula, value in ((ramp * n, ramp * 2), (n // ramp, 2 // ramp), (n - ramp, 2 - ramp), (n % ramp, 2 % ramp),
                               (2.0 // n, 1.0), (n % 1.5, 0.5), (2 ** n, 4), (abs(n - 5), 3), (1 / n, 0.5)):
            value_of = formula if isinstance(formula, sg.Tensor) else sg.asarray(formula)
            np.testing.assert_allclose(both(value_of, feed), value)

    def test_compare_as_tensors(self) -> None:
        x = sg.placeholder("x", ("n",))
        n = x.shape[0]
        y = sg.where(n > 3, x, -x)
        assert both(y, {x: np.ones(3, "float32")}).tolist() == [-1.0] * 3
        assert both(y, {x: np.ones(4, "float32")}).tolist() == [1.0] * 4
        assert both([n < 3, n <= 3, n >= np.arange(5)], {x: np.ones(3, "float32")})[2].tolist() == [1, 1, 1, 1, 0]
        with pytest.raises(sg.ArgumentError, match="no truth value"):
            min(n, 3)

    def test_formulas_of_placeholders_are_checked(self) -> None:
        """An input shorter than its formula must not be read beyond its end."""
        x = sg.placeholder("x", ("n", 4))
        z = sg.placeholder("z", (x.shape[0] * 2,))
        y = sg.sum(z) + sg.sum(x)
        feed = {x: np.ones((2, 4), "float32"), z: np.ones(4, "float32")}
        assert both(y, feed) == 12
        for inputs in ([x, z], [z, x]):
            with pytest.raises(sg.ShapeError, match=r"input 'z': dimension 0 is 3, expected n\*2 = 4"):
                sg.compile(inputs, y)(x=feed[x], z=np.ones(3, "float32"))
        with pytest.raises(sg.ShapeError, match=r"needed n\*2 = 4, got 3"):
            sg.evaluate(y, {**feed, z: np.ones(3, "float32")})

    def test_formulas_of_placeholders_tell_their_symbols(self) -> None:
        n, m = sg.Dim("n"), sg.Dim("m")
        pairs = sg.placeholder("pairs", (2 * n,))
        rows = sg.sum(sg.reshape(pairs, (n, 2)), axis=1)
        assert both(rows, {pairs: np.arange(6, dtype="float32")}).tolist() == [1, 5, 9]
        with pytest.raises(sg.ShapeError, match=r"dimension 0 is 5, expected n\*2"):
            sg.compile([pairs], rows)(np.ones(5, "float32"))
        with pytest.raises(sg.ShapeError, match=r"needed n\*2, got 5"):
            sg.evaluate(rows, {pairs: np.ones(5)[:0].tolist() + [1.0] * 5})
        joined, part = sg.placeholder("joined", (n + m,)), sg.placeholder("part", (m,))
        rest = sg.sum(joined[m:])
        assert both(rest, {joined: np.arange(5, dtype="float32"), part: np.ones(2, "float32")}) == 9
        with pytest.raises(sg.ShapeError, match=r"expected m \+ n"):
            sg.compile([joined, part], rest)([1.0], [1.0, 2.0])
        with pytest.raises(sg.ArgumentError, match="no input has the dimension 'm', 'n'"):
            sg.compile([joined], sg.sum(joined))
        assert sg.compile([joined, part], sg.sum(part))([1.0, 2.0, 3.0], [4.0]) == 4

    def test_that_no_input_tells(self) -> None:
        n = sg.Dim("n")
        for y in (sg.zeros((n,)), sg.constant(1.0) * n):
            with pytest.raises(sg.ArgumentError, match="no input has the dimension 'n'"):
                sg.compile([], y)
            with pytest.raises(sg.ArgumentError, match="the size 'n' is not known"):
                sg.evaluate(y)


class TestSlicesBySizes:
    """Bounds may be symbolic; a slice that comes out empty is empty, wherever it starts."""

    @pytest.mark.parametrize("sizes", [(1, 100), (100, 1), (3, 1000), (0, 500), (5, 2)])
    def test_beyond_the_end(self, sizes: tuple[int, int]) -> None:
        x, y = sg.placeholder("x", ("n",), "float64"), sg.placeholder("y", ("m",), "float64")
        n, m = x.shape[0], y.shape[0]
        feed = {x: np.arange(1.0, sizes[0] + 1), y: np.zeros(sizes[1])}
        value, cut = feed[x], sizes[1]
        results = [x[m:], x[m::2], sg.stack([x, x], axis=1)[m:], sg.flip(x[m:]), sg.pad(x[m:], 1), x[n + 1:m:2]]
        expected = [value[cut:], value[cut::2], np.stack([value, value], 1)[cut:], np.flip(value[cut:]),
                    np.pad(value[cut:], 1), value[:0]]
        for result, wanted in zip(both(results, feed), expected, strict=True):
            np.testing.assert_array_equal(result, wanted)
        slopes = both([sg.grad(sg.sum(each * each), x, unconnected="zero") for each in results], feed)
        np.testing.assert_array_equal(slopes[0], np.where(np.arange(len(value)) >= cut, 2 * value, 0))
        np.testing.assert_array_equal(slopes[2], 2 * slopes[0])

    def test_backwards_from_before_the_start(self) -> None:
        x, y = sg.placeholder("x", ("n",), "float64"), sg.placeholder("y", ("m",), "float64")
        n, m = x.shape[0], y.shape[0]
        for part in (x[-m::-2], x[n - m:3:-2], x[n * 2 - 5:0:-2], x[-n - 1::-1]):
            slope = sg.grad(sg.sum(part * part), x, unconnected="zero")
            for sizes in ((1, 4), (4, 1), (6, 3), (0, 0)):
                both([part, slope], {x: np.arange(1.0, sizes[0] + 1), y: np.zeros(sizes[1])})


class TestPythonScalars:
    """Python scalars are weak; where the standard and NumPy differ, NumPy 2 wins."""

    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64", "int64"])
    @pytest.mark.parametrize("compare", [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge])
    def test_integers_compare_with_any_python_integer(self, dtype: str, compare: Any) -> None:
        info = np.iinfo(dtype)
        x = sg.placeholder("x", (4,), dtype)
        value = np.array([info.min, info.max, 0, 1], dtype)
        for number in (-1, 0, 256, -129, info.max, info.max + 1, info.min, info.min - 1, 2**70, -2**70):
            assert np.array_equal(sg.evaluate(compare(x, number), {x: value}), compare(value, number))
            assert np.array_equal(sg.evaluate(compare(number, x), {x: value}), compare(number, value))

    def test_compiled_comparison_with_a_large_integer(self) -> None:
        x = sg.placeholder("x", (3,), "uint8")
        both([x < 300, x > -1, x == 256, 300 > x], {x: np.array([0, 1, 255], "uint8")})

    def test_arithmetic_does_not_wrap_a_python_integer(self) -> None:
        x = sg.placeholder("x", (3,), "uint8")
        for formula in (lambda: x + 300, lambda: x - -1, lambda: sg.maximum(x, -1)):
            with pytest.raises(sg.DTypeError, match="does not fit into uint8"):
                formula()


class TestCompile:
    """compile: what goes in, what comes out, updates."""

    def test_refuses_what_is_not_its_kind(self) -> None:
        x, w = sg.placeholder("x", (3,)), sg.variable(np.zeros(3, "float32"), "w")
        bad: list[tuple[dict[str, Any], str]] = [
            ({"inputs": None}, "inputs are a list of placeholders, got NoneType"),
            ({"updates": 3}, "updates are a mapping or a list of .* pairs, got int"),
            ({"updates": w}, "got Tensor"), ({"updates": [w, w]}, "updates are a mapping"),
            ({"options": ["stabilise"]}, "options are a mapping of names to values, got list"),
            ({"options": {"stabilise": "no"}}, "option 'stabilise' is a bool, got 'no'"),
            ({"options": {"fast": True}}, "there is no option 'fast'")]
        for arguments, text in bad:
            with pytest.raises(sg.ArgumentError, match=text):
                sg.compile(**{"inputs": [x], "outputs": x, **arguments})

    def test_a_range_is_a_list(self) -> None:
        x = sg.placeholder("x", ("n",), "float32")
        assert sg.compile([x], x * 2)(range(3)).tolist() == [0, 2, 4]
        assert sg.evaluate(x * 2, {x: range(3)}).tolist() == [0, 2, 4]

    def test_updates_are_any_pairs_and_outputs_any_mapping(self) -> None:
        w, u = sg.variable(np.zeros(2), "w"), sg.variable(np.zeros(2), "u")
        for updates in ({w: w + 1, u: u + 2}, [(w, w + 1), (u, u + 2)], zip([w, u], [w + 1, u + 2], strict=True),
                        {w: w + 1, u: u + 2}.items(), ((each, each + k) for each, k in ((w, 1), (u, 2)))):
            w.value, u.value = [0, 0], [0, 0]
            result = sg.compile([], MappingProxyType({"w": w, 3: u}), updates=updates)()
            assert list(result) == ["w", 3] and result["w"].tolist() == [0, 0]
            assert (w.value.tolist(), u.value.tolist()) == ([1, 1], [2, 2])

    def test_numbers_and_lists_as_updates_are_weak(self) -> None:
        w, count = sg.variable(np.zeros(2, "float32"), "w"), sg.variable(np.int32(0), "count")
        sg.compile([], updates={w: [1, 2.5], count: 3})()
        assert w.value.tolist() == [1.0, 2.5] and count.value == 3
        for variable, value in ((count, 0.5), (w, np.ones(2))):
            with pytest.raises(sg.DTypeError, match=r"has another dtype(.|\n)*use sg.astype\(update"):
                sg.compile([], updates={variable: value})
        with pytest.raises(sg.DTypeError, match="does not fit into int32"):
            sg.compile([], updates={count: 2**40})


class TestStabilise:
    """Stability rules see through the spellings of a difference."""

    @pytest.mark.parametrize(("written", "repaired"), [
        (lambda x: -1 + sg.exp(x), sg.expm1), (lambda x: sg.exp(x) + -1, sg.expm1), (lambda x: sg.exp(x) - 1, sg.expm1),
        (lambda x: -sg.exp(x) + 1, lambda x: -sg.expm1(x)), (lambda x: -sg.sigmoid(x) + 1, lambda x: sg.sigmoid(-x)),
        (lambda x: 1 + -sg.sigmoid(x), lambda x: sg.sigmoid(-x)), (lambda x: sg.log(-x + 1), lambda x: sg.log1p(-x)),
        (lambda x: -sg.erf(x) + 1, sg.erfc),
    ])
    def test_differences(self, written: Any, repaired: Any) -> None:
        x = sg.placeholder("x", (3,))
        assert sg.stabilise(written(x)) is repaired(x)


class TestBranchesNotTaken:
    """Gradients of where, maximum, minimum and clip do not leak nan from what was not chosen."""

    @pytest.mark.parametrize(("formula", "at", "expected"), [
        (lambda v: sg.maximum(sg.log(v), -10.0), [0.0, 0.5, 2.0], [0, 2, 0.5]),
        (lambda v: sg.maximum(0.5, sg.sqrt(v)), [0.0, 0.1, 1.0], [0, 0, 0.5]),
        (lambda v: sg.minimum(1 / v, 3.0), [0.0, 0.1, 1.0], [0, 0, -1]),
        (lambda v: sg.clip(sg.log(v), -2, 2), [0.0, 2.0, 100.0], [0, 0.5, 0]),
        (lambda v: sg.maximum(sg.minimum(1 / v, 4.0), sg.sqrt(v)), [0.0, 4.0, 0.5], [0, 0.25, -4]),
        (lambda v: sg.where(v > 1, sg.where(v < 50, sg.log(v - 1), 1.0), sg.where(v > 0, 1 / v, 0.0)),
         [0.0, 1.0, 2.0], [0, -1, 1]),
        (lambda v: sg.where(v > 0, sg.log(v), 0) + sg.where(v > 1, sg.log(v) * 2, 0), [0.0, 0.5, 2.0], [0, 2, 1.5]),
        (lambda v: sg.where(v > 0, sg.nn.gelu(sg.log(v)), 0), [0.0, 1.0, 1.0], [0, 0.5, 0.5]),
        (lambda v: sg.where(sg.sum(v) > 0, sg.sum(sg.log(v)), 0.0), [0.0, 0.0, -1.0], [0, 0, 0]),
        (lambda v: sg.where(sg.sum(v) > 0, sg.max(sg.sqrt(v)), 0.0), [0.0, 0.0, -1.0], [0, 0, 0]),
        (lambda v: sg.where(v[1:] > 0, sg.log(v)[1:], 0.0), [1.0, 0.0, 2.0], [0, 0, 0.5]),
        (lambda v: sg.where(sg.stack([v, v]) > 0, sg.stack([sg.log(v), sg.sqrt(v)]), 0), [0.0, 1.0, 4.0],
         [0, 1.5, 0.5]),
        (lambda v: sg.where(sg.repeat(v, 2) > 0, sg.repeat(sg.log(v), 2), 0), [0.0, 1.0, 4.0], [0, 2, 0.5]),
        (lambda v: sg.where(np.array([[False, False], [True, False], [True, True]]), sg.log(v)[:, None], 0),
         [0.0, 1.0, 2.0], [0, 1, 1]),
        (lambda v: v / sg.maximum(sg.sqrt(sg.sum(v * v)), 1.0), [0.0, 0.0, 0.0], [1, 1, 1]),
    ])
    def test_add_exactly_zero(self, formula: Any, at: list[float], expected: list[float]) -> None:
        v = sg.placeholder("v", (3,), "float64")
        y = sg.sum(formula(v))
        np.testing.assert_allclose(both(sg.grad(y, v), {v: np.array(at)}), expected, atol=1e-15)
        second = sg.grad(sg.sum(sg.grad(y, v)), v, unconnected="zero")
        assert np.isfinite(sg.evaluate(second, {v: np.array(at)})).all()
        inside = {v: np.array([0.3, 0.7, 1.9])}
        sg.verify_grad(y, v, inside)
        slope = np.array([1.0, -2.0, 0.5])
        np.testing.assert_allclose(both(sg.jvp(y, v, slope, unconnected="zero")[0], inside),
                                   sg.evaluate(sg.grad(y, v), inside) @ slope)


class TestStandardFunctions:
    """Signatures of the array API standard."""

    def test_arguments_that_mean_nothing_to_a_graph_are_accepted(self) -> None:
        x = sg.placeholder("x", (2, 3), "int32")
        assert sg.astype(x, "int32", copy=False) is x and sg.asarray(x, copy=True) is x
        assert sg.reshape(x, (3, 2), copy=True) is x.reshape(3, 2)
        for made in (sg.zeros(2, dtype=None), sg.ones((2,), None), sg.eye(2, dtype=None), sg.linspace(0, 1, 3, None)):
            assert made.dtype == np.float64

    def test_repeat_takes_a_count_for_each_position(self) -> None:
        x = sg.placeholder("x", (2, 3), "float64")
        value = np.arange(6.0).reshape(2, 3)
        for repeats, axis in (([2, 0, 1], 1), (np.array([1, 3]), 0), ((2,), 1), ([1, 2, 3, 0, 1, 2], None)):
            y = sg.repeat(x, repeats, axis=axis)
            np.testing.assert_array_equal(both(y, {x: value}), np.repeat(value, repeats, axis))
            sg.verify_grad(y * y, x, {x: value})
        for bad in ([1, 2], [[1, 2, 3]], [1, 2, sg.Dim("n")]):
            with pytest.raises((sg.ShapeError, sg.ArgumentError)):
                sg.repeat(x, bad, axis=1)

    @pytest.mark.parametrize("correction", [0, 1, 2, 1.5])
    @pytest.mark.parametrize("count", [0, 1, 2, 5])
    def test_var_has_no_negative_degrees_of_freedom(self, count: int, correction: float) -> None:
        x = sg.placeholder("x", ("n", 2), "float64")
        value = np.random.default_rng(0).normal(size=(count, 2))
        with np.errstate(all="ignore"), pytest.warns(RuntimeWarning) if count <= correction else np.errstate():
            expected = value.var(axis=0, ddof=correction)
        np.testing.assert_allclose(both(sg.var(x, axis=0, correction=correction), {x: value}), expected)

    def test_integers_have_no_negative_integer_powers(self) -> None:
        x = sg.placeholder("x", (3,), "int32")
        with pytest.raises(sg.DTypeError, match="pow: integers have no negative integer powers"):
            x ** -1
        assert both(sg.astype(x, "float64") ** -1, {x: np.array([1, 2, 4], "int32")}).tolist() == [1, 0.5, 0.25]


class TestWrongArguments:
    """Everything that a user can get wrong raises one of the library's errors."""

    @pytest.mark.parametrize("call", [
        lambda: sg.concat(None), lambda: sg.stack(3), lambda: sg.concatenate(np.sum), lambda: sg.concat("ab"),
        lambda: sg.stabilise(None), lambda: sg.stabilise(["x"]), lambda: sg.evaluate(None),
        lambda: sg.split(np.ones((2, 2)), True), lambda: sg.arange(np.nan), lambda: sg.arange(True, sg.Dim("n")),
        lambda: sg.constant(np.nan, "int32"), lambda: sg.full((2,), np.inf, "int8"),
        lambda: sg.var(np.ones(3), correction="one"), lambda: sg.std(np.ones(3), correction=None),
        lambda: sg.verify_grad(sg.constant(1.0), [], None), lambda: sg.nn.layer_norm(None),
        lambda: sg.nn.LayerNorm("a"), lambda: sg.nn.LayerNorm(-1), lambda: sg.optim.clip_by_global_norm(3, 1.0),
        lambda: sg.optim.clip_by_global_norm([[1.0]], 1.0), lambda: sg.primitive(3, ref=np.exp),
        lambda: sg.custom_gradient(3, np.exp), lambda: sg.custom_gradient(np.exp, None),
    ])
    def test_raise_errors_of_the_library(self, call: Any) -> None:
        with pytest.raises(sg.StaticGraphError):
            call()

    def test_a_listing_of_nothing(self) -> None:
        assert sg.format_graph([]) == sg.format_graph({}) == "outputs: "
