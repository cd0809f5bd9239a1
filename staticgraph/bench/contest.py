"""A contest: one case at one size, all its contestants checked against the interpreter, then timed in turns.

The order of events, for each contestant: prepare and first call (timed: what compiling costs), comparison of results
and new state with the interpreter. Only who is right is timed. Then, round after round, everybody runs one sample in
turn, the first place rotating, so that whatever else the machine does falls on all alike. A sample is as many calls as
take about `sample` seconds; state is put back before it, so that training always trains. A time is the median over
rounds, its spread the quartiles.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .cases import Array, Case, Sizes, draw_arrays, reference
from .peers import Contestant, NoForm, Peer


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, seconds of a sample, the most seconds for all samples of one contest, and by which
    clock: "wall", or "cpu" for the processor time of the process, which on a busy machine leaves out the others."""

    rounds: int = 25
    sample: float = 2e-3
    limit: float = 20.0
    least_rounds: int = 5
    clock: str = "wall"


CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Timing:
    """Seconds of one call (median and quartiles), of the first one, and how far results were off."""

    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    first_call: float = 0.0
    error: float = 0.0
    calls: int = 0


@dataclass
class Result:
    """What a contest found; `absent` says why a peer has no timing, `wrong` who computed something else."""

    case: Case
    label: str
    sizes: Sizes
    timings: dict[str, Timing] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return self.case.nbytes(self.sizes)

    @property
    def flops(self) -> int:
        return self.case.flops(self.sizes)

    def ratio(self, peer: str, ours: str = "staticgraph") -> float | None:
        """How many times faster we are than a peer."""
        if peer not in self.timings or ours not in self.timings:
            return None
        return self.timings[peer].median / self.timings[ours].median


class WrongResult(Exception):
    """A contestant computed something else."""


def hold(case: Case, label: str, sizes: Sizes, peers: Sequence[Peer], effort: Effort) -> Result:
    """Check and time one case at one size."""
    result = Result(case, label, sizes)
    inputs, state = draw_arrays(case, sizes)
    expected = reference(case, sizes, inputs, state)
    ready: dict[str, Contestant] = {}
    for peer in peers:
        try:
            contestant, timing = _introduce(peer, case, sizes, inputs, state, expected)
        except NoForm as reason:
            result.absent[peer.name] = str(reason)
        except WrongResult as reason:
            result.wrong[peer.name] = str(reason)
        except Exception as error:  # a peer that fails must not end the run; its reason is reported
            result.absent[peer.name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        else:
            ready[peer.name], result.timings[peer.name] = contestant, timing
    _time_in_turns(ready, result.timings, effort)
    return result


def _introduce(peer: Peer, case: Case, sizes: Sizes, inputs: Mapping[str, Array], state: Mapping[str, Array],
               expected: Sequence[Array]) -> tuple[Contestant, Timing]:
    start = time.perf_counter()
    contestant = peer.prepare(case, sizes, inputs, state)
    results = contestant.call()
    first_call = time.perf_counter() - start
    old = list(state.values())
    error = worst_error([*results, *contestant.state()], expected, old)
    if not error <= case.tolerance:
        raise WrongResult(f"results differ from the interpreter's by {error:.1e}, allowed are {case.tolerance:.0e}")
    return contestant, Timing(first_call=first_call, error=error)


def worst_error(actual: Sequence[Array], expected: Sequence[Array], old_state: Sequence[Array]) -> float:
    """The largest error of any array, as a fraction of the array's largest magnitude; state counts by its change."""
    if len(actual) != len(expected):
        raise WrongResult(f"{len(actual)} arrays, expected {len(expected)}")
    plain = len(expected) - len(old_state)
    worst = 0.0
    for position, (ours, theirs) in enumerate(zip(actual, expected)):
        ours = np.asarray(ours)
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise WrongResult(f"array {position} is {ours.dtype}{list(ours.shape)}, "
                              f"expected {theirs.dtype}{list(theirs.shape)}")
        start = old_state[position - plain].astype(np.float64) if position >= plain else np.float64(0)
        scale = np.abs(theirs - start).max(initial=0.0) or 1.0
        worst = max(worst, float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0) / scale))
        if not np.isfinite(ours).all():
            raise WrongResult(f"array {position} is not finite")
    return worst


def _time_in_turns(ready: Mapping[str, Contestant], timings: Mapping[str, Timing], effort: Effort) -> None:
    clock = CLOCKS[effort.clock]
    for name, contestant in ready.items():
        timings[name].calls = _calls_of_a_sample(contestant, effort.sample, clock)
    samples: dict[str, list[float]] = {name: [] for name in ready}
    names = list(ready)
    collecting = gc.isenabled()
    gc.disable()
    try:
        started = time.perf_counter()
        for number in range(effort.rounds):
            if number >= effort.least_rounds and time.perf_counter() - started > effort.limit:
                break
            for position in range(len(names)):
                name = names[(position + number) % len(names)]
                samples[name].append(_sample(ready[name], timings[name].calls, clock))
    finally:
        if collecting:
            gc.enable()
    for name, taken in samples.items():
        low, median, high = np.quantile(taken, (0.25, 0.5, 0.75))
        timings[name].low, timings[name].median, timings[name].high = float(low), float(median), float(high)


def _calls_of_a_sample(contestant: Contestant, seconds: float, clock: Callable[[], float]) -> int:
    """Calls that take about so long, found by doubling, which also warms up."""
    calls = 1
    while True:
        taken = _sample(contestant, calls, clock) * calls
        if taken >= seconds / 2:
            return max(1, round(calls * seconds / taken))
        calls *= 2


def _sample(contestant: Contestant, calls: int, clock: Callable[[], float]) -> float:
    """Seconds of one call, the mean of some; results are dropped as they come, as in a loop of a user."""
    contestant.reset()
    call = contestant.call
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls
