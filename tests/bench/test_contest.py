"""Contests with contestants made up for the purpose: who is timed, in which order, and what becomes of the others."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from staticgraph.bench import contest
from staticgraph.bench.cases import Case, Setting
from staticgraph.bench.contest import Effort, contest_of, entries_of, hold
from staticgraph.bench.peers import Arrays, Contestant, NoForm, Peer
from staticgraph.bench.suites import case_named

CHAIN = case_named("chain")
BRIEF = Effort(rounds=4, sample=0.5, share=1e9, clock="wall")


class Actor:
    """A peer that answers with a function of the expected result, and takes a time that we choose."""

    package = "numpy"
    order = 0
    counts = True

    def __init__(self, name: str, answer: Callable[[np.ndarray], np.ndarray], clock: "Clock", seconds: float) -> None:
        self.name, self.answer, self.clock, self.seconds = name, answer, clock, seconds
        self.resets = 0

    def environment(self, cache: Path, threads: int) -> dict[str, str]:
        return {}

    def connect(self, threads: int) -> None:
        pass

    def prepare(self, case: Case, setting: Setting, inputs: Arrays, state: Arrays) -> Contestant:
        def call() -> tuple[np.ndarray, ...]:
            self.clock.now += self.seconds
            self.clock.log.append(self.name)
            assert case.numpy is not None
            return (self.answer(case.numpy(*inputs.values())[0]),)

        def reset() -> None:
            self.resets += 1

        return Contestant(call, reset=reset)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(contest, "CLOCKS", {"wall": lambda: clock.now})
    return clock


def run(*peers: Peer, effort: Effort = BRIEF) -> contest.Result:
    setting = CHAIN.tiny_setting()
    given = contest_of("elementwise", CHAIN, setting)
    return hold(given, entries_of(CHAIN, setting, given, peers), effort)


def test_medians_and_ratios(clock: Clock) -> None:
    result = run(Actor("staticgraph", np.copy, clock, 0.25), Actor("other", np.copy, clock, 1.0))
    assert result.timings["staticgraph"].median == pytest.approx(0.25)
    assert result.timings["other"].median == pytest.approx(1.0)
    assert result.ratio("other") == pytest.approx(4)
    assert result.ratio("nobody") is None
    assert (result.nbytes, result.contest.flops) == (20 * 37, 4 * 37)


def test_samples_take_turns_and_the_first_place_rotates(clock: Clock) -> None:
    actors = [Actor(name, np.copy, clock, 1.0) for name in "abc"]
    run(*actors)
    timed = "".join(clock.log[6:])     # one call each to be checked, one to find the length of a sample
    assert timed == "abc" "bca" "cab" "abc"
    assert all(actor.resets == 5 for actor in actors)


def test_calls_before_a_sample_are_not_timed(clock: Clock) -> None:
    actor = Actor("a", np.copy, clock, 1.0)
    result = run(actor, effort=Effort(rounds=4, sample=0.5, share=1e9, settle=2.5))
    assert clock.log[2:] == ["a"] * 4 * (3 + 1) and actor.resets == 1 + 4 * 2     # state is put back for the sample
    assert result.timings["a"].rounds == 4 and result.timings["a"].median == pytest.approx(1.0)


def test_short_calls_are_repeated_within_a_sample(clock: Clock) -> None:
    result = run(Actor("staticgraph", np.copy, clock, 0.001))
    assert result.timings["staticgraph"].calls == 500
    assert result.timings["staticgraph"].median == pytest.approx(0.001)


def test_who_is_wrong_is_not_timed(clock: Clock) -> None:
    result = run(Actor("staticgraph", np.copy, clock, 1.0), Actor("off", lambda y: y * np.float32(1.01), clock, 1.0),
                 Actor("wide", lambda y: y.astype(np.float64), clock, 1.0))
    assert list(result.timings) == ["staticgraph"]
    assert "differ from the interpreter's by 1.0e-02" in result.wrong["off"]
    assert "float64[37], expected float32[37]" in result.wrong["wide"]


def test_who_fails_or_has_no_form_is_reported(clock: Clock) -> None:
    def fail(y: np.ndarray) -> np.ndarray:
        raise MemoryError("no room\nat all")

    def refuse(y: np.ndarray) -> np.ndarray:
        raise NoForm("cannot")

    result = run(Actor("staticgraph", np.copy, clock, 1.0), Actor("a", fail, clock, 1.0),
                 Actor("b", refuse, clock, 1.0))
    assert result.absent == {"a": "MemoryError: no room", "b": "cannot"}
    assert list(result.timings) == ["staticgraph"] and not result.wrong


def test_who_is_slow_rests_and_does_not_hold_up_the_others(clock: Clock) -> None:
    slow, quick = Actor("slow", np.copy, clock, 1.0), Actor("staticgraph", np.copy, clock, 0.125)
    result = run(slow, quick, effort=Effort(rounds=20, sample=0.125, share=1.5, least_rounds=3))
    assert (slow.resets, quick.resets) == (1 + 3, 1 + 12)     # 1.5 seconds are 12 samples of 0.125
    assert (result.timings["slow"].rounds, result.timings["staticgraph"].rounds) == (3, 12)


def test_without_expected_results_nobody_is_wrong(clock: Clock) -> None:
    setting = CHAIN.tiny_setting()
    given = dataclasses.replace(contest_of("elementwise", CHAIN, setting), expected=None)
    off = Actor("staticgraph", lambda y: y + 1, clock, 1.0)
    assert list(hold(given, entries_of(CHAIN, setting, given, [off]), BRIEF).timings) == ["staticgraph"]
