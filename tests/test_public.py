"""What the package offers: every name is there and explained, and operators are functions."""

from __future__ import annotations

import pytest

import staticgraph as sg
from staticgraph.op import Op, registry
from staticgraph.ops import custom

STANDARD = """
abs acos acosh add all any arange argmax argmin argsort asarray asin asinh astype atan atan2 atanh bitwise_and
bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor broadcast_arrays broadcast_to ceil clip
concat copysign cos cosh count_nonzero cumulative_prod cumulative_sum diff divide e empty empty_like equal exp
expand_dims expm1 eye flip floor floor_divide full full_like greater greater_equal hypot inf isfinite isinf isnan less
less_equal linspace log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor matmul
matrix_transpose max maximum mean meshgrid min minimum moveaxis multiply nan negative newaxis not_equal ones ones_like
permute_dims pi positive pow prod reciprocal remainder repeat reshape roll round sign signbit sin sinh sort sqrt square
squeeze stack std subtract sum take take_along_axis tan tanh tensordot tile tril triu trunc unstack var vecdot where
zeros zeros_like
"""
NUMPYS = "transpose concatenate clip pad cumsum cumprod absolute power true_divide outer dot split swapaxes ravel"
OWN = """
Tensor Dim Executable placeholder variable constant name_scope evaluate compile grad vjp jvp jacobian hessian
stop_gradient stabilise verify_grad format_graph primitive custom_gradient erf erfc logsumexp one_hot scatter_add topk
linear_recurrence nn optim random StaticGraphError ShapeError DTypeError DeviceError GradientError
conv1d conv2d max_pool1d max_pool2d avg_pool1d avg_pool2d
"""


@pytest.mark.parametrize("name", f"{STANDARD} {NUMPYS} {OWN}".split())
def test_the_name_is_offered(name: str) -> None:
    assert name in sg.__all__
    assert hasattr(sg, name)


def test_everything_offered_exists_once_and_is_explained() -> None:
    assert len(sg.__all__) == len(set(sg.__all__))
    for name in sg.__all__:
        value = getattr(sg, name)
        if callable(value):
            assert value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sg.nonsense


def test_operators_call_the_functions() -> None:
    x, y = sg.placeholder("x", (2, 2)), sg.placeholder("y", (2, 2))
    assert x + y is sg.add(x, y) and 1 - x is sg.subtract(1, x) and x / 2 is sg.divide(x, 2)
    assert x @ y is sg.matmul(x, y) and x ** 2 is sg.pow(x, 2) and 2 ** x is sg.pow(2, x) and abs(x) is sg.abs(x)
    assert x // y is sg.floor_divide(x, y) and 7 % x is sg.remainder(7, x) and (x == y) is sg.equal(x, y)
    assert x.T is sg.transpose(x) and x.mT is sg.matrix_transpose(x) and (x < 1) is sg.less(x, 1)
    i = sg.placeholder("i", (2,), "int32")
    assert i << 1 is sg.bitwise_left_shift(i, 1) and 1 | i is sg.bitwise_or(1, i) and ~i is sg.bitwise_invert(i)


def library_ops() -> list[Op]:
    return [op for op in registry.values() if op.name not in custom._declared]


def test_every_op_is_explained_and_can_be_checked() -> None:
    for op in library_ops():
        assert op.doc.endswith("."), op.name
        assert op.ref is not None or op.expand is not None, op.name
        if op.kind == "elementwise" and op.name != "check_index":
            assert op.scalar is not None, op.name
        if op.vjp is not None:
            assert op.examples, f"{op.name} has a gradient, and no example to check it with"
