"""Kernels that are right run without complaint, give the right results in any order, and move what they must."""

import numpy as np
import pytest

from tests.cuda import skip_without_compiler

skip_without_compiler()

from .kernels import CAPABILITIES, CASES, ptx_of, run_case  # noqa: E402


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("name", CASES)
def test_right_kernels(name: str, capability: tuple[int, int]) -> None:
    case = CASES[name]
    ptx = ptx_of(case, capability)
    for seed in (None, 1, 2, 3, 4):
        results, _ = run_case(case, ptx, seed)
        for result, expected in zip(results, case.expected, strict=True):
            assert np.array_equal(result, expected), f"seed {seed}"


def test_one_report_of_a_failed_check_stays() -> None:
    case = CASES["checked"]
    reports = set()
    for seed in range(8):
        found = []

        def keep(memory, arguments, found=found):     # type: ignore[no-untyped-def]
            memory.write(arguments[3], np.zeros(4, np.int64))
            found.append((memory, arguments[3]))

        run_case(case, ptx_of(case), seed, keep)
        memory, status = found[0]
        reports.add(tuple(memory.read(status, np.int64, 4).tolist()))
    assert reports == {(7, 50, 50, 0), (7, -3, 50, 0)}


def test_a_transpose_moves_what_it_must() -> None:
    case = CASES["transpose"]
    _, counters = run_case(case, ptx_of(case))
    assert counters.load_efficiency == counters.store_efficiency == 1 and counters.barriers == 3 * 2
    straight = case.changed("tile[i * 9 + j] = x[i * columns + block() * 8 + j]",
                            "tile[j * 9 + i] = x[j * columns + block() * 8 + i]")
    results, counters = run_case(straight, ptx_of(straight))
    assert np.array_equal(results[0], case.expected[0]) and counters.load_efficiency == 0.5
