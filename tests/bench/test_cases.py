"""Every case of every peer that is installed computes what the interpreter computes, at sizes that end in odd tails."""

import numpy as np
import pytest

from staticgraph.bench.cases import Case, Setting, declare, draw_arrays, reference
from staticgraph.bench.contest import WrongResult, contest_of, entries_of, hold, worst_error
from staticgraph.bench.peers import NoForm, Peer, find_peers, missing_reason
from staticgraph.bench.suites import CASES, SUITES, case_named, chosen, suite_of
from staticgraph.bench.worker import Plan

QUICK = ("staticgraph", "numpy", "numexpr")     # the others import and compile for seconds


def dtypes(case: Case) -> list[str]:
    return sorted({setting.dtype for setting in case.settings})


def pairs() -> list[object]:
    return [pytest.param(peer, case, dtype, id=f"{peer.name}-{case.name}-{dtype}",
                         marks=() if peer.name in QUICK else pytest.mark.slow)
            for peer in find_peers() for case in CASES for dtype in dtypes(case)]


@pytest.mark.parametrize(("peer", "case", "dtype"), pairs())
def test_peer_computes_case(peer: Peer, case: Case, dtype: str) -> None:
    """Two steps agree with the interpreter, and so does the first one again after a reset."""
    reason = missing_reason(peer)
    if reason:
        pytest.skip(reason)
    peer.connect(1)
    setting = case.tiny_setting(dtype)
    inputs, state = draw_arrays(case, setting)
    try:
        contestant = peer.prepare(case, setting, inputs, state)
    except NoForm as none:
        assert peer.name in ("numexpr", "numpy", "pytensor")     # the others have all cases
        pytest.skip(str(none))
    first = reference(case, setting, inputs, state)
    after = dict(zip(state, first[len(first) - len(state):]))
    second = reference(case, setting, inputs, after)
    for start, expected in ((state, first), (after, second)):
        results = [*contestant.call(), *contestant.state()]
        assert worst_error(results, expected, list(start.values())) <= case.allowed(dtype)
    contestant.reset()
    results = [*contestant.call(), *contestant.state()]
    assert worst_error(results, first, list(state.values())) <= case.allowed(dtype)


def test_bytes_are_those_of_inputs_state_and_results() -> None:
    case = case_named("mlp_step")
    setting = case.tiny_setting()
    contest = contest_of("models", case, setting)
    inputs, state = draw_arrays(case, setting)
    moved = sum(array.nbytes for array in (*inputs.values(), *state.values(), *reference(case, setting, inputs, state)))
    numpy = [peer for peer in find_peers() if peer.name == "numpy"]
    assert hold(contest, entries_of(case, setting, contest, numpy), Plan((), (), tiny=True).effort).nbytes == moved


def test_cases_are_named_once_and_data_is_the_same_everywhere() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    case = case_named("mlp_step")
    first, again = draw_arrays(case, case.tiny_setting()), draw_arrays(case, case.tiny_setting())
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(first, again) for name in a)
    assert first[0]["t"].dtype == np.int64 and first[0]["t"].max() < 10


def test_free_sizes_stay_symbolic() -> None:
    case = case_named("softmax")
    (x,) = declare(case, case.tiny_setting("float64"))
    assert str(x.type) == f"float64[n, {case.tiny['width']}]"


def test_data_is_drawn_in_the_dtype_of_the_setting_and_labels_are_below_their_classes() -> None:
    case = case_named("cross_entropy")
    inputs, _ = draw_arrays(case, Setting("wide", {"n": 1000, "width": 3}, "float64"))
    assert inputs["x"].dtype == np.float64 and set(inputs["t"]) == {0, 1, 2}
    spot = draw_arrays(case_named("black_scholes"), Setting("some", {"n": 1000}))[0]["spot"]
    assert spot.dtype == np.float32 and 10 <= spot.min() and spot.max() <= 50


def test_suites_are_those_that_are_promised() -> None:
    """Sizes and dtypes of the published tables."""
    def labels(name: str) -> list[str]:
        return [setting.label for setting in case_named(name).settings]

    for name in ("chain", "gelu", "gelu_grad", "black_scholes"):
        assert labels(name) == ["1e5 f32", "1e7 f32", "1e5 f64", "1e7 f64"] and case_named(name).least == 2
    for name in ("sum_0", "sum_1", "sum_all", "max_all", "var_0"):
        assert labels(name) == ["4096x4096", "1e6x8"] and case_named(name).least == 1.2
    for name in ("softmax_grad", "log_softmax", "layer_norm_grad", "cross_entropy_grad"):
        assert labels(name) == ["4096x1024", "64x10"] and case_named(name).least == 1.3
    assert labels("matmul_relu") == ["64", "256", "512", "1024", "2048", "64x128x64"]
    assert labels("conv3x3_grad") == ["32x16x32x32*32x16x3x3", "8x64x56x56*64x64x3x3"]
    assert all(case.least == 1 for case in SUITES["conv"])
    assert case_named("transformer_step").least == 1.5 and case_named("call").within == 2.5e-6
    assert suite_of(case_named("call")) == "dispatch"


def test_cases_are_chosen_by_suite_and_by_part_of_the_name() -> None:
    assert [case.name for case in chosen(["rows"], ["layer"])] == ["layer_norm", "layer_norm_grad"]
    assert chosen([], []) == CASES and chosen(["matmul", "dispatch"], []) == (*SUITES["matmul"], *SUITES["dispatch"])
    assert chosen(["rows"], ["matmul"]) == () and chosen(["compile"], []) == ()


def test_errors_are_measured_against_the_largest_magnitude_and_the_change_of_state() -> None:
    old = np.array([1.0, 1.0], np.float32)
    new = np.array([1.0, 0.99], np.float32)
    assert worst_error([np.float32([4, 2])], [np.float32([4, 1])], []) == pytest.approx(0.25)
    assert worst_error([np.array([1.0, 0.98], np.float32)], [new], [old]) == pytest.approx(1.0, rel=1e-3)
    assert worst_error([np.float32([])], [np.float32([])], []) == 0
    for wrong in (np.float64([1, 1]), np.float32([[1, 1]]), np.float32([np.nan, 1]), np.float32([np.inf, 1])):
        with pytest.raises(WrongResult):
            worst_error([wrong], [np.float32([1, 1])], [])
    with pytest.raises(WrongResult):
        worst_error([old], [old, new], [])
