"""Every case of every peer that is installed computes what the interpreter computes, at sizes that end in odd tails."""

import numpy as np
import pytest

from staticgraph.bench.cases import CASES, Case, declare, draw_arrays, reference
from staticgraph.bench.contest import WrongResult, worst_error
from staticgraph.bench.peers import NoForm, Peer, find_peers, missing_reason

QUICK = ("staticgraph", "numpy", "numexpr")     # the others import and compile for seconds


def pairs() -> list[object]:
    return [pytest.param(peer, case, id=f"{peer.name}-{case.name}",
                         marks=() if peer.name in QUICK else pytest.mark.slow)
            for peer in find_peers() for case in CASES]


@pytest.mark.parametrize(("peer", "case"), pairs())
def test_peer_computes_case(peer: Peer, case: Case) -> None:
    """Two steps agree with the interpreter, and so does the first one again after a reset."""
    reason = missing_reason(peer)
    if reason:
        pytest.skip(reason)
    peer.connect(1)
    inputs, state = draw_arrays(case, case.tiny)
    try:
        contestant = peer.prepare(case, case.tiny, inputs, state)
    except NoForm as none:
        assert peer.name == "numexpr"     # the others have all cases
        pytest.skip(str(none))
    first = reference(case, case.tiny, inputs, state)
    after = dict(zip(state, first[len(first) - len(state):]))
    second = reference(case, case.tiny, inputs, after)
    for start, expected in ((state, first), (after, second)):
        results = [*contestant.call(), *contestant.state()]
        assert worst_error(results, expected, list(start.values())) <= case.tolerance
    contestant.reset()
    results = [*contestant.call(), *contestant.state()]
    assert worst_error(results, first, list(state.values())) <= case.tolerance


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bytes_are_those_of_inputs_and_results(case: Case) -> None:
    inputs, state = draw_arrays(case, case.tiny)
    results = reference(case, case.tiny, inputs, state)
    moved = sum(array.nbytes for array in (*inputs.values(), *state.values(), *results))
    assert case.nbytes(case.tiny) == moved


def test_cases_are_named_once_and_data_is_the_same_everywhere() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    case = next(case for case in CASES if case.name == "mlp_step")
    first, again = draw_arrays(case, case.tiny), draw_arrays(case, case.tiny)
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(first, again) for name in a)
    assert first[0]["t"].dtype == np.int64 and first[0]["t"].max() < 10


def test_free_sizes_stay_symbolic() -> None:
    case = next(case for case in CASES if case.name == "softmax")
    (x,) = declare(case, case.tiny)
    assert str(x.type) == f"float32[n, {case.tiny['width']}]"


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
