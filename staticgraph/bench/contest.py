"""A contest: one case at one setting, all its contestants checked against the interpreter, then timed in turns.

The order of events, for each contestant: prepare and first call (timed: what compiling costs), comparison of results
and new state with the interpreter. Only who is right is timed. Then, round after round, everybody runs one sample in
turn, the first place rotating, so that whatever else the machine does falls on all alike. A sample is as many calls as
take about `sample` seconds; state is put back before it, so that training always trains. Who has used up its share of
the seconds and has `least_rounds` samples rests, so that a slow contestant does not hold up the others. A time is the
median over rounds, its spread the quartiles.

With several threads a sample is preceded by calls that nobody times, for `settle` seconds: threads of whoever was
before may spin for some milliseconds after their work, on a core that is now somebody else's, and one's own are asleep.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .cases import Array, Case, Setting, Sizes, draw_arrays, reference
from .peers import Contestant, NoForm, Peer

Entry = tuple[str, Callable[[], Contestant]]
"""A contestant's name, and what makes it ready."""


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds, seconds of a sample, the seconds that one contestant may take for all its samples,
    by which clock ("wall", or "cpu" for the processor time of the process, which on a busy machine leaves out the
    others), and seconds of calls before each sample."""

    rounds: int = 25
    sample: float = 2e-3
    share: float = 1.0
    least_rounds: int = 5
    clock: str = "wall"
    settle: float = 0.0


CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Timing:
    """Seconds of one call (median and quartiles), of the first one, how far results were off, and bytes of memory,
    planned and allocated, where the contestant knows them."""

    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    first_call: float = 0.0
    error: float = 0.0
    calls: int = 0
    rounds: int = 0
    memory: tuple[int, int] | None = None


@dataclass(frozen=True)
class Contest:
    """What is computed, from which arrays, and what must come out (None where nobody knows). `flops` counts arithmetic;
    `least`, `within` and `copy` are the figures to reach (see `cases.Case` and `Setting`), 0 where there is none."""

    suite: str
    name: str
    title: str
    label: str
    sizes: Sizes
    dtype: str
    inputs: Mapping[str, Array]
    state: Mapping[str, Array]
    expected: Sequence[Array] | None
    flops: int
    tolerance: float
    least: float = 0.0
    within: float = 0.0
    copy: float = 0.0


@dataclass
class Result:
    """What a contest found; `absent` says why a peer has no timing, `wrong` who computed something else. `nbytes` are
    those of inputs and state read once and of results and new state written once."""

    contest: Contest
    nbytes: int = 0
    timings: dict[str, Timing] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    def ratio(self, peer: str, ours: str = "staticgraph") -> float | None:
        """How many times faster we are than a peer."""
        if peer not in self.timings or ours not in self.timings:
            return None
        return self.timings[peer].median / self.timings[ours].median


class WrongResult(Exception):
    """A contestant computed something else."""


def contest_of(suite: str, case: Case, setting: Setting) -> Contest:
    """A case at one setting, with the results that the interpreter has for it."""
    inputs, state = draw_arrays(case, setting)
    return Contest(suite, case.name, case.title, setting.label, setting.sizes, setting.dtype, inputs, state,
                   reference(case, setting, inputs, state), case.flops(setting.sizes), case.allowed(setting.dtype),
                   case.least, case.within, setting.copy)


def entries_of(case: Case, setting: Setting, contest: Contest, peers: Sequence[Peer]) -> list[Entry]:
    """The peers as contestants."""
    return [(peer.name, lambda peer=peer: peer.prepare(case, setting, contest.inputs, contest.state))  # type: ignore[misc]
            for peer in peers]


def hold(contest: Contest, entries: Sequence[Entry], effort: Effort,
         tell: Callable[[str], None] = lambda text: None) -> Result:
    """Check and time everybody; `tell` hears who is being made ready."""
    result = Result(contest)
    ready: dict[str, Contestant] = {}
    for name, prepare in entries:
        tell(f"prepares {name}")
        try:
            contestant, timing, moved = _introduce(prepare, contest)
        except NoForm as reason:
            result.absent[name] = str(reason)
        except WrongResult as reason:
            result.wrong[name] = str(reason)
        except Exception as error:  # a peer that fails must not end the run; its reason is reported
            result.absent[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        else:
            result.nbytes = result.nbytes or moved
            ready[name], result.timings[name] = contestant, timing
    tell("times")
    _time_in_turns(ready, result.timings, effort)
    return result


def _introduce(prepare: Callable[[], Contestant], contest: Contest) -> tuple[Contestant, Timing, int]:
    """The contestant, checked; its first call, and the bytes that the contest moves."""
    start = time.perf_counter()
    contestant = prepare()
    results = contestant.call()
    first_call = time.perf_counter() - start
    has_state = contestant.state is not None
    after = [np.asarray(each) for each in (*results, *(contestant.state() if contestant.state is not None else ()))]
    error = 0.0
    if contest.expected is not None:
        old = list(contest.state.values()) if has_state else []
        error = worst_error(after, contest.expected[:len(contest.expected) - len(contest.state) + len(old)], old)
        if not error <= contest.tolerance:
            raise WrongResult(f"results differ from the interpreter's by {error:.1e}, "
                              f"allowed are {contest.tolerance:.0e}")
    moved = sum(each.nbytes for each in (*contest.inputs.values(), *contest.state.values(), *after))
    return contestant, Timing(first_call=first_call, error=error), moved


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
    spent = dict.fromkeys(ready, 0.0)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(effort.rounds):
            names = [name for name in ready if number < effort.least_rounds or spent[name] < effort.share]
            for position in range(len(names)):
                name = names[(position + number) % len(names)]
                if effort.settle:
                    _settle(ready[name], effort.settle)
                taken = _sample(ready[name], timings[name].calls, clock)
                samples[name].append(taken)
                spent[name] += taken * timings[name].calls
    finally:
        if collecting:
            gc.enable()
    for name, taken_all in samples.items():
        timing = timings[name]
        timing.low, timing.median, timing.high = map(float, np.quantile(taken_all, (0.25, 0.5, 0.75)))
        timing.rounds = len(taken_all)
        memory = ready[name].memory
        timing.memory = memory() if memory is not None else None


def _calls_of_a_sample(contestant: Contestant, seconds: float, clock: Callable[[], float]) -> int:
    """Calls that take about so long, found by doubling, which also warms up."""
    calls = 1
    while True:
        taken = _sample(contestant, calls, clock) * calls
        if taken >= seconds / 2:
            return max(1, round(calls * seconds / taken))
        calls *= 2


def _settle(contestant: Contestant, seconds: float) -> None:
    """Calls that nobody times; see the module docstring."""
    contestant.reset()
    now = CLOCKS["wall"]
    end = now() + seconds
    while now() < end:
        contestant.call()


def _sample(contestant: Contestant, calls: int, clock: Callable[[], float]) -> float:
    """Seconds of one call, the mean of some; results are dropped as they come, as in a loop of a user."""
    contestant.reset()
    call = contestant.call
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls
