"""staticgraph itself: the contestant that all others are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

import staticgraph as sg

from .. import cases
from ..cases import Array, Case, Setting
from . import Arrays, Contestant, Peer


class StaticGraph:
    name = "staticgraph"
    package = "staticgraph"
    order = 0
    counts = False

    def environment(self, cache: Path, threads: int) -> Mapping[str, str]:
        return {"STATICGRAPH_CACHE_DIR": str(cache / "staticgraph"), "STATICGRAPH_NUM_THREADS": str(threads)}

    def connect(self, threads: int) -> None:
        """Nothing to do: the variables above have said it."""

    def prepare(self, case: Case, setting: Setting, inputs: Arrays, state: Arrays) -> Contestant:
        executable, variables = build(case, setting, state)
        return contestant(partial(executable, *inputs.values()), executable, dict(zip(variables, state.values())))


def contestant(call: Callable[[], tuple[Array, ...]], executable: sg.Executable,
               first_state: Mapping[sg.Tensor, Array]) -> Contestant:
    """An executable as a contestant; `call` calls it and gives a tuple."""
    def reset() -> None:
        for variable, value in first_state.items():
            variable.value = value

    def state() -> tuple[Array, ...]:
        return tuple(np.asarray(variable.value) for variable in first_state)

    return Contestant(call, state, reset, lambda: peak_bytes(executable))


def peak_bytes(executable: sg.Executable) -> tuple[int, int]:
    """Bytes of intermediate and final results: as planned for the sizes of the last call, and as allocated."""
    memory = executable.memory
    return memory.peak.last or 0, memory.allocated or 0


def build(case: Case, setting: Setting, state: Arrays) -> tuple[sg.Executable, list[sg.Tensor]]:
    """The case as an executable, and its variables."""
    placeholders = cases.declare(case, setting)
    variables = [sg.variable(value, name) for name, value in state.items()]
    results, new_state = cases.build(case, placeholders, variables)
    updates = dict(zip(variables, new_state))
    return sg.compile(placeholders, results, updates=updates, options=dict(case.options)), variables


PEERS: tuple[Peer, ...] = (StaticGraph(),)
