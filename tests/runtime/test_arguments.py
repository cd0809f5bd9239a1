"""What a call accepts, and the exact words of what it refuses."""

import array as stdlib_array
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from staticgraph.compiler.program import Guard, InputSpec, Program
from staticgraph.errors import ArgumentError, DTypeError, ShapeError, StaticGraphError
from staticgraph.runtime.convert import as_input
from staticgraph.runtime.executable import Executable, load
from staticgraph.runtime.guards import Guards
from staticgraph.types import Dim

from .programs import BATCH, add_one_program, make

N = Dim.symbol("n")


def text(expected: str) -> str:
    return dedent(expected).strip("\n")


@pytest.fixture
def add_one() -> Executable:
    return load(add_one_program((BATCH, 64)))


def two_inputs(**parts: Any) -> Program:
    return make(**{"inputs": (InputSpec("x", "float32", (BATCH, 64), "model.py:3"),
                              InputSpec("t", "int64", (BATCH,), "model.py:14")), **parts})


def test_by_position_and_by_name(add_one: Executable) -> None:
    x = np.ones((2, 64), "float32")
    assert np.array_equal(add_one(x), x + 1)
    assert np.array_equal(add_one(x=x), x + 1)


@pytest.mark.parametrize(("args", "kwargs", "expected"), [
    ((), {}, """
        missing inputs 'x', 't'; inputs are (x, t)
          x: float32[batch, 64]   model.py:3
          t: int64[batch]         model.py:14"""),
    ((1,), {}, """
        missing input 't'; inputs are (x, t)
          t: int64[batch]   model.py:14"""),
    ((1, 2, 3), {}, "got 3 inputs by position; inputs are (x, t)"),
    ((1, 2), {"x": 1}, "input 'x' is given twice, by position and by name; inputs are (x, t)"),
    ((1,), {"y": 1}, "unknown input 'y'; inputs are (x, t)"),
])
def test_argument_errors(args: tuple[int, ...], kwargs: dict[str, int], expected: str) -> None:
    executable = load(two_inputs())
    with pytest.raises(ArgumentError) as caught:
        executable(*args, **kwargs)
    assert str(caught.value) == text(expected)
    assert isinstance(caught.value, TypeError)


def test_inputs_may_have_any_name() -> None:
    program = make(inputs=(InputSpec("self", "float32", ()), InputSpec("args", "float32", ())), structure=("list", 0))
    assert load(program)(**{"self": 1.0, "args": 2.0}) == []
    with pytest.raises(ArgumentError, match="there are no inputs"):
        load(make(structure=("list", 0)))(1)


@pytest.mark.parametrize(("x", "t", "expected"), [
    (np.zeros((10, 63), "float32"), np.zeros(10, "int64"), """
        input 'x': dimension 1 is 63, expected 64
          x: float32[batch, 64]   model.py:3
          got float32[10, 63]"""),
    (np.zeros((10, 64, 1), "float16"), np.zeros(10, "int64"), """
        input 'x': rank is 3, expected 2
          x: float32[batch, 64]   model.py:3
          got float16[10, 64, 1]"""),
    (np.zeros((10, 64), "float32"), [1, 2, 3], """
        dimension 'batch' is 10 in input 'x' and 3 in input 't'
          x: float32[batch, 64]   model.py:3
          t: int64[batch]         model.py:14
          got float32[10, 64] and int64[3]"""),
])
def test_shape_errors(x: Any, t: Any, expected: str) -> None:
    with pytest.raises(ShapeError) as caught:
        load(two_inputs(structure=("list", 0)))(x, t)
    assert str(caught.value) == text(expected)
    assert isinstance(caught.value, ValueError)


def test_one_dimension_twice_in_one_input() -> None:
    program = make(inputs=(InputSpec("a", "float64", (N, N), "model.py:5"),), structure=("list", 0))
    assert load(program)(np.zeros((3, 3))) == []
    with pytest.raises(ShapeError) as caught:
        load(program)(np.zeros((3, 4)))
    assert str(caught.value) == text("""
        dimension 'n' is 3 and 4 in input 'a'
          a: float64[n, n]   model.py:5
          got float64[3, 4]""")


def test_each_none_is_a_size_of_its_own() -> None:
    free = tuple(InputSpec(name, "float64", (Dim.anonymous(),)) for name in "ab")
    assert load(make(inputs=free, structure=("list", 0)))([1.0], [1.0, 2.0]) == []


@pytest.mark.parametrize(("message", "expected"), [
    ("add: dimensions differ\n  needed a {left} by {right}, not {it}",
     "add: dimensions differ\n  needed a 8 by 3, not {it}"),
    ("add: dimensions differ\n  a: float32[batch*4]   model.py:9", """
        add: dimensions differ
          a: float32[batch*4]   model.py:9
          got 8 and 3"""),
])
def test_guards(message: str, expected: str) -> None:
    inputs = (InputSpec("a", "float32", (BATCH,)), InputSpec("b", "float32", (N,)))
    program = make(inputs=inputs, guards=(Guard(BATCH * 4, N, message),), structure=("list", 0))
    executable = load(program)
    assert executable([1.0], [1.0] * 4) == []
    with pytest.raises(ShapeError) as caught:
        executable([1.0] * 2, [1.0] * 3)
    assert str(caught.value) == text(expected)


def test_output_that_would_have_a_negative_size() -> None:
    program = add_one_program((BATCH,))
    outputs = (program.outputs[0].__class__("float32", (BATCH - 3,), 1, "y"),)
    executable = load(make(inputs=program.inputs, outputs=outputs, buffers=program.buffers))
    assert executable([1.0] * 5).shape == (2,)
    with pytest.raises(ShapeError) as caught:
        executable([1.0])
    assert str(caught.value) == text("""
        output 'y': dimension 0 would be -2
          y: float32[batch - 3]
          got batch = 1""")


def spec(dtype: str) -> InputSpec:
    return InputSpec("x", dtype, (N,), "model.py:3")


STRONG_DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
                 "float64"]


@pytest.mark.parametrize("wanted", [name for name in STRONG_DTYPES if name != "float16"])
@pytest.mark.parametrize("given", STRONG_DTYPES)
def test_arrays_widen_and_never_lose(given: str, wanted: str) -> None:
    arrays = [np.array([0, 1, 1]).astype(np.dtype(given).newbyteorder(order)) for order in "><"]
    for value in (form for array in arrays for form in (array, list(array), array[:0], array[0])):
        if np.can_cast(given, wanted, "safe"):
            result = as_input(value, spec(wanted))
            assert result.dtype == np.dtype(wanted) and result.dtype.isnative and type(result) is np.ndarray
            assert np.array_equal(result, value)
        else:
            with pytest.raises(DTypeError, match=f"is {given}, which {wanted} cannot hold without loss"):
                as_input(value, spec(wanted))


@pytest.mark.parametrize(("value", "dtype"), [
    (True, "bool"), (True, "int8"), (True, "float32"), (3, "uint8"), (-3, "int8"), (2**63, "uint64"), (3, "float32"),
    (0.1, "float32"), (float("nan"), "float32"), (float("inf"), "float32"), (2**70, "float64"), ([0.1, 2], "float32"),
    ([[1, 2], [3, 4]], "int16"), ([], "int64"), ([[], []], "bool"), ((1, True), "int64"), ([2**63, 1], "uint64"),
    ([np.float32(1), 2.5], "float32"), ([np.arange(2, dtype="int32"), [3, 4]], "int64"), ([np.int8(3), 0.5], "float32"),
])
def test_python_numbers_are_weak(value: Any, dtype: str) -> None:
    result = as_input(value, spec(dtype))
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result, np.asarray(value, dtype=dtype))


@pytest.mark.parametrize(("value", "dtype", "expected"), [
    (np.zeros((10, 3)), "float32", """
        input 'x' is float64, which float32 cannot hold without loss
          x: float32[n]   model.py:3
          got float64[10, 3]
          where the loss is meant, convert it first: .astype('float32')"""),
    ([np.float64(1)], "float32", """
        input 'x' is float64, which float32 cannot hold without loss
          x: float32[n]   model.py:3
          got a list with float64 in it
          where the loss is meant, convert it first: .astype('float32')"""),
    ([1, 2.5], "int64", """
        input 'x' holds a Python float, which int64 cannot hold without loss
          x: int64[n]   model.py:3
          got [1, 2.5]"""),
    (2, "bool", """
        input 'x' holds a Python int, which bool cannot hold without loss
          x: bool[n]   model.py:3
          got 2"""),
    ([1, 300], "uint8", """
        input 'x' holds a number out of uint8's range
          x: uint8[n]   model.py:3
          got [1, 300]
          needed 0 to 255"""),
    ([1e300], "float32", """
        input 'x' holds a number out of float32's range
          x: float32[n]   model.py:3
          got [1e+300]
          needed -3.4028234663852886e+38 to 3.4028234663852886e+38"""),
    (np.zeros(3, "complex64"), "float64", """
        input 'x' is complex64, not real numbers
          x: float64[n]   model.py:3
          got complex64[3]"""),
    (None, "float64", """
        input 'x' cannot be made from None
          x: float64[n]   model.py:3
          got None
          needed a real number, a list of them, or an array"""),
    ("12", "float64", """
        input 'x' cannot be made from a str
          x: float64[n]   model.py:3
          got '12'
          needed a real number, a list of them, or an array"""),
    (N, "float64", """
        input 'x' is a symbolic Dim
          x: float64[n]   model.py:3
          needed numbers; those of a variable are its .value"""),
    (np.ma.masked_array([1.0, 2.0], [True, False]), "float64", """
        input 'x' is a masked array
          x: float64[n]   model.py:3
          needed plain numbers: use .filled()"""),
])
def test_refusals(value: Any, dtype: str, expected: str) -> None:
    with pytest.raises(DTypeError) as caught:
        as_input(value, spec(dtype))
    assert str(caught.value) == text(expected)


@pytest.mark.parametrize("value", [
    [[1.0], [1.0, 2.0]], ["a"], [None], {}, {1.0}, object(), 1j, [1.0, 1j], b"ab", np.array(["a"]),
    np.array([None]), np.array(["2020-01-01"], "datetime64[D]"), np.longdouble(1), [N], 10**400, len, np.float32,
], ids=lambda value: repr(value).split(" at 0x")[0])
def test_what_is_not_numbers_is_refused(value: Any) -> None:
    with pytest.raises(StaticGraphError, match=r"^input 'x' ") as caught:
        as_input(value, spec("float64"))
    assert isinstance(caught.value, TypeError)


def test_a_list_in_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(DTypeError, match="is not rectangular"):
        as_input(endless, spec("float64"))


def test_a_symbolic_tensor_is_refused() -> None:
    from staticgraph.tensor import Tensor

    tensor = object.__new__(Tensor)     # as good as any: it is refused by its class
    with pytest.raises(DTypeError, match="input 'x' is a symbolic Tensor"):
        as_input(tensor, spec("float64"))


def misaligned(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    buffer = np.zeros(array.nbytes + 1, "uint8")
    view = buffer[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array


FORMS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "reversed": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "read-only": read_only,
    "misaligned": misaligned,
    "big-endian": lambda a: a.astype(">f4"),
    "half": lambda a: a.astype("float16"),
    "list": lambda a: a.tolist(),
    "subclass": lambda a: a.view(np.recarray),
    "memoryview": lambda a: memoryview(a),
}


@pytest.mark.parametrize("form", FORMS)
def test_any_form_of_array_works(form: str) -> None:
    executable = load(add_one_program((BATCH, 3)))
    value = FORMS[form](np.arange(12, dtype="float32").reshape(4, 3))
    before = np.array(value)
    result = executable(value)
    assert np.array_equal(result, before + 1) and result.flags.c_contiguous and result.dtype == np.float32
    assert np.array_equal(np.array(value), before)


def test_a_contiguous_array_is_not_copied() -> None:
    array = read_only(np.zeros(5, "float32"))
    assert np.shares_memory(as_input(array, spec("float32")), array)


def test_foreign_arrays_work() -> None:
    class Foreign:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            return np.arange(3, dtype="float32")

    assert as_input(Foreign(), spec("float64")).tolist() == [0.0, 1.0, 2.0]
    assert as_input(stdlib_array.array("i", [1, 2]), spec("int64")).tolist() == [1, 2]
    assert as_input(range(3), spec("int64")).tolist() == [0, 1, 2]


def test_order_of_many_names() -> None:
    specs = tuple(InputSpec(name, "float32", ()) for name in "abcde")
    assert Guards(make(inputs=specs)).order((1, 2), {"e": 5, "d": 4, "c": 3}) == [1, 2, 3, 4, 5]
