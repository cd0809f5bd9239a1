"""The table-driven suite of the compiler on CUDA: every op and row program, compiled for two GPUs, its PTX executed.

The tests are those of the CPU; only `sg.compile` is another. All kernels on the way keep to `resources`.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    monkeypatch.setattr(table, "ROUNDING_OF_SUMS", 2.0)     # threads add up in an order of their own
    yield


test_unary = table.test_unary
test_binary = table.test_binary
test_logaddexp = table.test_logaddexp
test_where = table.test_where
test_astype = table.test_astype
test_elementwise_shapes = table.test_elementwise_shapes
test_check_index = table.test_check_index
test_leaves = table.test_leaves
test_sizes_as_values = table.test_sizes_as_values
test_reductions = table.test_reductions
test_reductions_of_specials = table.test_reductions_of_specials
test_integer_sums_wrap_around = table.test_integer_sums_wrap_around
test_empty_extremes_are_an_error = table.test_empty_extremes_are_an_error
test_scans = table.test_scans
test_sorts = table.test_sorts
test_views = table.test_views
test_joins = table.test_joins
test_gathers_and_scatters = table.test_gathers_and_scatters
test_matmul = table.test_matmul
test_examples_and_their_gradients = table.test_examples_and_their_gradients
