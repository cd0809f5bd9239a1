"""The table-driven suite of the compiler on CUDA: every op and row program, compiled for two GPUs, its PTX executed.

The tests are those of the CPU; only `sg.compile` is another. All kernels on the way keep to `resources`. Row programs
of integers differ in the name of their dtype only: a narrow, an unsigned and a wide one stand for the others, since
Numba takes a good part of a second for each kernel. `staticgraph doctor --gpu-check` runs all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import staticgraph as sg
from tests.compiler import test_ops as table
from tests.cuda import skip_without_compiler

skip_without_compiler()

from tests.cuda.simulate import compile_simulated  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sg, "compile", compile_simulated)
    yield


ROWS = frozenset(("bool", "int8", "uint16", "int64", "float32", "float64"))


def for_some(test: Callable[[str], None]) -> Callable[[str], None]:
    """The test for those of its dtypes that are among `ROWS`."""
    (mark,) = [mark for mark in test.pytestmark if mark.name == "parametrize"]     # type: ignore[attr-defined]
    dtypes = [dtype for dtype in mark.args[1] if str(dtype) in ROWS]

    @pytest.mark.parametrize("dtype", dtypes)
    def thinned(dtype: str) -> None:
        test(dtype)

    return thinned


test_unary = table.test_unary
test_binary = table.test_binary
test_logaddexp = table.test_logaddexp
test_where = table.test_where
test_astype = table.test_astype
test_elementwise_shapes = table.test_elementwise_shapes
test_check_index = table.test_check_index
test_leaves = table.test_leaves
test_sizes_as_values = table.test_sizes_as_values
test_reductions = for_some(table.test_reductions)
test_reductions_of_specials = table.test_reductions_of_specials
test_integer_sums_wrap_around = table.test_integer_sums_wrap_around
test_empty_extremes_are_an_error = table.test_empty_extremes_are_an_error
test_scans = for_some(table.test_scans)
test_sorts = for_some(table.test_sorts)
test_views = for_some(table.test_views)
test_joins = for_some(table.test_joins)
test_gathers_and_scatters = for_some(table.test_gathers_and_scatters)
test_matmul = for_some(table.test_matmul)
test_examples_and_their_gradients = table.test_examples_and_their_gradients
